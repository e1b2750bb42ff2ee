"""What a device tells of its work: events in a gap-free sequence.

A batch is ``low..high`` of one queue. The server applies it in one transaction
with its high-water mark and answers the mark; the device deletes up to it. So
an event is counted once, however often it is sent. ``lost`` names ranges the
device had to drop because its disk share was full: loss is data.
"""

from typing import Any

import msgspec

FEEDBACK, SUMMARY, PROBLEM = "feedback", "summary", "problem"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened.

    Attributes:
        seq: Place in the queue, 1, 2, 3 ...
        kind: ``feedback``, ``summary`` or ``problem``.
        body: A ``Feedback``, a ``Summary`` or an error as data.
    """

    seq: int
    kind: str
    body: dict[str, Any]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Events ``low..high`` of the queue ``queue_id``, in order.

    Attributes:
        queue_id: Random at the birth of the queue's database, so that a wiped
            device does not look like a replay.
        low: First sequence number covered, lost ones included.
        high: Last one covered; ``low - 1`` when there is nothing to tell.
        lost: Inclusive ranges within ``low..high`` that were dropped.
    """

    queue_id: str
    low: int
    high: int
    events: tuple[Event, ...] = ()
    lost: tuple[tuple[int, int], ...] = ()


class Ack(msgspec.Struct, frozen=True, kw_only=True):
    """Everything up to ``high`` of ``queue_id`` is durable on the server."""

    queue_id: str
    high: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What one slot answered during one period.

    Attributes:
        at: End of the period, wall time of the device.
        boot_id: Of the device; with ``monotonic_s`` the order of periods.
        digest: The bundle that answered.
        answered: Right in form and in time.
        failed: The engine raised.
        late: Refused because the answer would have come after the device's deadline.
        impatient: Refused at a nearer deadline, which the caller had set itself; no
            fault of the model.
        refused: Inputs that did not fit.
        latency: Counts of a latency sketch, bucket index -> answers.
        resident_bytes: Of the worker, at the end of the period.
    """

    at: str
    boot_id: str
    monotonic_s: float
    period_s: float
    digest: str
    release: str
    answered: int
    failed: int
    late: int
    refused: int
    latency: dict[str, int] = {}
    resident_bytes: int = 0
    impatient: int = 0
