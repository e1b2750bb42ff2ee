"""What to try, what came of it, and which candidate ships.

``values`` are the documents, ``plan`` says what to try and why, ``perform`` does it,
``ledger`` keeps what was measured, ``decide`` judges and chooses. ``plan`` and
``decide`` are pure: the same inputs and evidence give the same documents.
"""
