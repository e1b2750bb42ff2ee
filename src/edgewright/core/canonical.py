"""Canonical JSON: one text for one value, so that it can be hashed and signed.

Keys sorted, no spaces, UTF-8, strings escaped as little as JSON allows. There
are no floats: a number that would be signed is an integer in a stated unit
(micro-units, basis points), because two languages print one float two ways.

Source: the OLPC canonical JSON that The Update Framework signs, without its
exotic string escaping (our strings hold no control characters).
"""

import json
from typing import Any

from edgewright.core.errors import BundleError

# 2**53 - 1: beyond it a reader that keeps numbers as doubles would change them.
_MAX_INTEGER = (1 << 53) - 1


def encode(value: Any) -> bytes:
    """Return the one encoding of ``value``.

    Args:
        value: dict with str keys, list or tuple, str, int, bool or None, nested.

    Raises:
        TypeError: It holds a float, or a type JSON does not have (a caller's mistake).
        ValueError: It holds an integer beyond 2**53 - 1 or a control character.
    """
    _check(value, "$")
    text = json.dumps(
        value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return text.encode()


def decode(data: bytes) -> Any:
    """Return the value ``data`` encodes, and refuse any other spelling of it.

    Raises:
        BundleError: Not JSON, or not in canonical form.
    """
    try:
        value = json.loads(data.decode(), parse_float=_refuse_float)
        same = encode(value) == data
    except (ValueError, TypeError, RecursionError) as error:
        raise BundleError(f"not canonical JSON: {error}") from error
    if not same:
        raise BundleError(
            f"JSON of {len(data)} bytes is not in canonical form",
            hint="Keys sorted, no spaces, no duplicate keys; write it with edgewright.",
        )
    return value


def _refuse_float(text: str) -> float:
    raise ValueError(f"float {text} where only integers may stand")


def _check(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where}: key {key!r} is not a string")
            _check_scalar(key, where)
            _check(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]")
    else:
        _check_scalar(value, where)


def _check_scalar(value: Any, where: str) -> None:
    if isinstance(value, str):
        if any(ord(c) < 0x20 for c in value):
            raise ValueError(f"{where}: control character in {value[:40]!r}")
    elif isinstance(value, int):
        if abs(value) > _MAX_INTEGER:
            raise ValueError(f"{where}: integer {value} is beyond 2**53 - 1")
    elif value is not None:
        raise TypeError(f"{where}: {type(value).__name__} has no canonical form")
