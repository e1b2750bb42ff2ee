"""Content addresses: ``sha256:`` and 64 hexadecimal digits.

A digest names bytes, never a place; two files with one digest are one thing.
"""

import re
from pathlib import Path

from edgewright.core.errors import BundleError

PREFIX = "sha256:"
_FORM = re.compile(r"sha256:[0-9a-f]{64}")
_BLOCK_BYTES = 1 << 20


def of_bytes(data: bytes | bytearray | memoryview) -> str:
    """Return the digest of ``data``."""
    import hashlib  # noqa: PLC0415  it opens libcrypto: 3.4 MiB the supervisor need not have

    return PREFIX + hashlib.sha256(data).hexdigest()


def of_file(path: Path) -> str:
    """Return the digest of a file, read in blocks of 1 MiB."""
    import hashlib  # noqa: PLC0415  as above

    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            hasher.update(block)
    return PREFIX + hasher.hexdigest()


def check(text: str) -> str:
    """Return ``text`` if it has the form of a digest.

    Raises:
        BundleError: It has not.
    """
    if not _FORM.fullmatch(text):
        raise BundleError(
            f"{text[:80]!r} is not a digest",
            hint="A digest is 'sha256:' and 64 hexadecimal digits.",
        )
    return text


def hex_of(text: str) -> str:
    """Return the 64 hexadecimal digits, which is how folders and blobs are named."""
    return check(text)[len(PREFIX) :]


def short(text: str) -> str:
    """Return the first 12 hexadecimal digits, which is how people see a digest."""
    return hex_of(text)[:12]
