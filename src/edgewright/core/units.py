"""Quantities as people write them: ``350 KB``, ``20ms``, ``1.0``.

Bytes are counted in powers of 1000 for KB, MB, GB and of 1024 for KiB, MiB,
GiB; durations become whole microseconds, power whole milliwatts.
"""

import re
from decimal import Decimal

from edgewright.core.errors import UsageError

_BYTES = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9,
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
}  # fmt: skip
_MICROSECONDS = {"us": 1, "ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6}
_MILLIWATTS = {"mw": 1, "w": 10**3}
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def parse_bytes(text: str) -> int:
    """Return bytes for ``350000``, ``350KB`` or ``1.5 MiB``.

    Raises:
        UsageError: No such unit, or a fraction of a byte.
    """
    return _parse(text, _BYTES, "bytes", "350KB or 1.5MiB")


def parse_duration_us(text: str) -> int:
    """Return microseconds for ``20ms``, ``1.5s`` or ``10m``.

    Raises:
        UsageError: No unit, no such unit, or a fraction of a microsecond.
    """
    return _parse(text, _MICROSECONDS, "a duration", "20ms or 1.5s")


def parse_power_mw(text: str) -> int:
    """Return milliwatts for ``500mW`` or ``2.5W``.

    Raises:
        UsageError: No unit, no such unit, or a fraction of a milliwatt.
    """
    return _parse(text, _MILLIWATTS, "a power", "500mW or 2.5W")


def show_bytes(count: int) -> str:
    """Return bytes as people read them: ``999 B``, ``12.3 kB``, ``1.30 MB``."""
    for factor, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= factor:
            value = count / factor
            return f"{value:.2f} {unit}" if value < 10 else f"{value:.1f} {unit}"
    return f"{count} B"


def show_us(count: float) -> str:
    """Return microseconds as people read them: ``850 us``, ``1.24 ms``, ``2.0 s``."""
    if count < 1000:
        return f"{count:.0f} us"
    if count < 10**6:
        return f"{count / 1000:.2f} ms"
    return f"{count / 10**6:.1f} s"


def _parse(text: str, units: dict[str, int], kind: str, example: str) -> int:
    match = _FORM.fullmatch(text)
    if match is None or match[2].lower() not in units:
        raise UsageError(f"{text!r} is not {kind}", hint=f"Write it like {example}.")
    value = Decimal(match[1]) * units[match[2].lower()]
    if value != int(value):
        raise UsageError(f"{text!r} is a fraction of the smallest unit")
    return int(value)
