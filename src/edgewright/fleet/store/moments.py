"""Moments as the tables hold them (milliseconds of Unix time) and as people read them."""

from datetime import UTC, datetime

from edgewright.core import clock


def to_ms(moment: datetime) -> int:
    """Return ``moment`` in milliseconds of Unix time."""
    return round(moment.timestamp() * 1000)


def show_ms(at_ms: int | None) -> str | None:
    """Return ``2026-01-31T12:00:00Z``; None for a moment that never was."""
    if at_ms is None:
        return None
    return clock.show(datetime.fromtimestamp(at_ms / 1000, UTC))
