"""Time that moves when told."""

from datetime import UTC, datetime, timedelta


class ManualClock:
    """A ``core.clock.Clock`` that stands still until ``advance`` is called."""

    def __init__(self, now: datetime | None = None) -> None:
        self._now = now or datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
        self._monotonic_s = 1000.0

    def now(self) -> datetime:
        """Return wall time."""
        return self._now

    def monotonic_s(self) -> float:
        """Return seconds since some moment."""
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as a network time server does."""
        self._now += timedelta(seconds=seconds)
