"""Time, handed in rather than taken, so that tests can move it.

Order on a device is (boot id, monotonic, sequence); wall time is for people
and for the expiry of signed metadata, because it jumps.
"""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from edgewright.core.errors import WireError

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_FORM = "%Y-%m-%dT%H:%M:%SZ"


class Clock(Protocol):
    """What a program may ask about time."""

    def now(self) -> datetime:
        """Return wall time in UTC."""

    def monotonic_s(self) -> float:
        """Return seconds that only grow within one boot."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """Return wall time in UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return seconds since some moment of this boot."""
        return time.monotonic()


def show(moment: datetime) -> str:
    """Return RFC 3339 in UTC with whole seconds: ``2026-01-31T12:00:00Z``."""
    return moment.astimezone(UTC).strftime(_FORM)


def parse(text: str) -> datetime:
    """Return the moment ``text`` names.

    Raises:
        WireError: It is not in the form ``show`` writes.
    """
    wrong = f"{text[:40]!r} is not a time like 2026-01-31T12:00:00Z"
    try:
        moment = datetime.strptime(text, _FORM).replace(tzinfo=UTC)
    except ValueError as error:
        raise WireError(wrong) from error
    if show(moment) != text:  # strptime also takes 2026-1-31, and one moment has one text
        raise WireError(wrong)
    return moment


def boot_id() -> str:
    """Return the kernel's id of this boot; ``unknown`` where there is no /proc."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return "unknown"
