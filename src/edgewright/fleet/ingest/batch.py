"""Which part of a batch is new; pure.

A queue's mark is the highest sequence number that is durable here. A batch that
begins right after it, or before, is taken from the first number above the mark;
one that leaves a gap is refused. So any order of redeliveries counts each event
once, and the only way to lose one is to say so in ``lost``.
"""

from dataclasses import dataclass

from edgewright.core.errors import ConflictError, WireError
from edgewright.wire.telemetry import Batch, Event

_MAX_EVENTS = 10_000
_MAX_QUEUE_ID = 100
_MAX_NUMBER = (1 << 53) - 1


@dataclass(frozen=True, slots=True)
class Fresh:
    """What of a batch was not known yet.

    Attributes:
        events: In order, all above the mark.
        lost: Inclusive ranges, all above the mark.
        high: The new mark.
    """

    events: tuple[Event, ...]
    lost: tuple[tuple[int, int], ...]
    high: int


def fresh(batch: Batch, mark: int | None) -> Fresh:
    """Return what of ``batch`` lies above ``mark``.

    Args:
        batch: As it arrived.
        mark: Of its queue; None for a queue never seen, which begins at ``low``.

    Raises:
        WireError: Its events and lost ranges do not cover ``low..high`` exactly once.
        ConflictError: It leaves a gap after the mark; the message names the number
            that is expected.
    """
    _check(batch)
    known = batch.low - 1 if mark is None else mark
    if batch.low > known + 1:
        raise ConflictError(
            f"queue {batch.queue_id}: batch begins at {batch.low}, expected {known + 1}",
            hint=f"Send it from {known + 1} on, or name what is lost.",
        )
    return Fresh(
        events=tuple(event for event in batch.events if event.seq > known),
        lost=tuple((max(low, known + 1), high) for low, high in batch.lost if high > known),
        high=max(known, batch.high),
    )


def _check(batch: Batch) -> None:
    """Refuse a batch that does not account for every number it covers."""
    if not 0 < len(batch.queue_id) <= _MAX_QUEUE_ID or len(batch.events) > _MAX_EVENTS:
        raise WireError(
            f"batch of {len(batch.events)} events in a queue named with "
            f"{len(batch.queue_id)} characters; {_MAX_EVENTS} and {_MAX_QUEUE_ID} at most"
        )
    if not 1 <= batch.low <= batch.high + 1 <= _MAX_NUMBER:
        raise WireError(f"a batch cannot cover {batch.low}..{batch.high}")
    ranges = sorted([*((e.seq, e.seq) for e in batch.events), *batch.lost])
    place = batch.low
    for low, high in ranges:
        if low != place or high < low:
            raise WireError(
                f"batch {batch.low}..{batch.high}: expected {place}, found {low}..{high}"
            )
        place = high + 1
    if place != batch.high + 1:
        raise WireError(
            f"batch {batch.low}..{batch.high} accounts for numbers up to {place - 1}"
        )
    if any(a.seq >= b.seq for a, b in zip(batch.events, batch.events[1:], strict=False)):
        raise WireError(f"the events of batch {batch.low}..{batch.high} are not in order")
