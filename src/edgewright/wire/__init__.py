"""What comes back and what is answered: messages between device and fleet.

Unknown fields are ignored, so that either side may be newer; a missing or
misshapen one is a ``WireError``.
"""
