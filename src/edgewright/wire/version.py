"""The version of the protocol, and how its messages become bytes and back."""

from typing import Any, TypeVar

import msgspec

from edgewright.core.errors import WireError

API = "v1"
FORMAT = 1

T = TypeVar("T")


def encode(message: Any) -> bytes:
    """Return a message as JSON."""
    return msgspec.json.encode(message)


def decode(kind: type[T], data: bytes | str) -> T:
    """Return JSON as a ``kind``; fields this version does not know are ignored.

    Raises:
        WireError: Not JSON, or a field is missing or has the wrong type.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a {kind.__name__}: {error}") from error
