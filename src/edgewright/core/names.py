"""Names and ids: what may be called what.

Names are ``[a-z0-9][a-z0-9-]{0,62}``, a release is ``name@N``, a server's id is
a prefix and a ULID, a device's id is made from its public key and so cannot be
claimed without the private one.
"""

import base64
import os
import re
import time
from dataclasses import dataclass

from edgewright.core.errors import UsageError

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_RELEASE = re.compile(r"([a-z0-9][a-z0-9-]{0,62})@([1-9][0-9]{0,8})")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True, slots=True)
class Release:
    """A bundle published under a name and a number that only grows."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def check_name(text: str, what: str) -> str:
    """Return ``text`` if it is a name.

    Raises:
        UsageError: It is not; ``what`` says which thing was to be called so.
    """
    if not _NAME.fullmatch(text):
        raise UsageError(
            f"{text[:80]!r} cannot name a {what}",
            hint="Use 1 to 63 of a-z, 0-9 and '-', beginning with a letter or digit.",
        )
    return text


def parse_release(text: str) -> Release:
    """Return ``name@N`` as a ``Release``.

    Raises:
        UsageError: It has another form.
    """
    match = _RELEASE.fullmatch(text)
    if match is None:
        raise UsageError(f"{text[:80]!r} is not a release", hint="Write it like digits@2.")
    return Release(match[1], int(match[2]))


def new_id(prefix: str) -> str:
    """Return ``prefix`` + ``_`` + a ULID: 48 bits of milliseconds, 80 random bits."""
    number = int.from_bytes(
        (time.time_ns() // 10**6).to_bytes(6, "big") + os.urandom(10), "big"
    )
    digits = [_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(digits)}"


def device_id(public_key: bytes) -> str:
    """Return the id that belongs to a raw 32-byte ed25519 public key."""
    import hashlib  # noqa: PLC0415  it opens libcrypto: 3.4 MiB the supervisor need not have

    text = base64.b32encode(hashlib.sha256(public_key).digest()).decode().lower()
    return f"dev-{text[:26]}"


def cohort(salt: str, device: str) -> int:
    """Return where ``device`` stands among 10,000 basis points, 0 to 9,999.

    ``int.from_bytes(sha256(salt || 0x00 || device_id)[:8], "big") * 10000 >> 64``:
    a device stays at its place for one salt, so waves nest.
    """
    import hashlib  # noqa: PLC0415  as above

    hashed = hashlib.sha256(salt.encode() + b"\x00" + device.encode()).digest()
    return int.from_bytes(hashed[:8], "big") * 10000 >> 64
