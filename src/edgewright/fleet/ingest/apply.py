"""Apply what is new of a batch, in the transaction that moves the queue's mark.

Summaries are folded into one row per device and bundle: counts add, latency
sketches merge. Feedback is kept row by row, problems are counted by their code.
An event that cannot be read is counted as a problem and not refused: a batch
that were refused for it would come again for ever.
"""

from collections import Counter
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from edgewright.core import digest
from edgewright.core.errors import BundleError, WireError
from edgewright.fleet import audit
from edgewright.fleet.ingest.batch import Fresh, fresh
from edgewright.fleet.store import tables
from edgewright.fleet.store.rows import Rows
from edgewright.monitor.sketch import Sketch
from edgewright.wire.checkin import ErrorBody
from edgewright.wire.feedback import Feedback
from edgewright.wire.telemetry import FEEDBACK, PROBLEM, SUMMARY, Ack, Batch, Event, Summary

MALFORMED = "malformed_event"
UNKNOWN = "unknown_event_kind"

_MAX_TEXT = 2_000
_MAX_PROBLEMS = 200
_QUEUES, _LOSSES = Rows(tables.queues), Rows(tables.losses)
_TALLIES, _PROBLEMS = Rows(tables.tallies), Rows(tables.problems)
_FEEDBACK, _OUTCOMES = Rows(tables.feedback), Rows(tables.outcomes)
# Of one summary; a sum of 2**23 of them still fits 64 bits.
_MAX_COUNT = 1 << 40


def apply(connection: Connection, device: str, batch: Batch, *, at_ms: int) -> Ack:
    """Apply ``batch`` once and return the mark that is durable with this transaction.

    Raises:
        WireError: The batch does not account for every number it covers.
        ConflictError: It leaves a gap; nothing was applied.
    """
    queue = {"device": device, "queue_id": batch.queue_id}
    known = _QUEUES.find(connection, queue)
    new = fresh(batch, known.high if known else None)
    if known is not None and new.high == known.high:
        return Ack(queue_id=batch.queue_id, high=known.high)

    _Taker(connection, device, at_ms).take(new)
    for low, high in new.lost:
        _LOSSES.add(connection, {**queue, "low": low}, {"high": high, "at_ms": at_ms})
    row = {
        "high": new.high,
        "applied": (known.applied if known else 0) + len(new.events),
        "lost": (known.lost if known else 0) + sum(b - a + 1 for a, b in new.lost),
        "updated_ms": at_ms,
    }
    _QUEUES.put(connection, queue, row)
    return Ack(queue_id=batch.queue_id, high=new.high)


class _Taker:
    """Takes the events of one device's batch into the tables."""

    def __init__(self, connection: Connection, device: str, at_ms: int) -> None:
        self._connection = connection
        self._device = device
        self._at_ms = at_ms
        self._summaries: dict[str, _Fold] = {}
        self._problems: Counter[str] = Counter()
        self._said: dict[str, ErrorBody] = {}

    def take(self, new: Fresh) -> None:
        """Take every event; what adds up is written once at the end."""
        for event in new.events:
            try:
                self._event(event)
            except (WireError, BundleError) as error:
                self._problem(ErrorBody(code=MALFORMED, message=f"event {event.seq}: {error}"))
        for key, fold in self._summaries.items():
            self._write_tally(key, fold)
        for code, count in self._problems.items():
            self._write_problem(self._said[code], count)

    def _event(self, event: Event) -> None:
        if event.kind == SUMMARY:
            summary = _body(Summary, event)
            latency = _checked_latency(summary)
            fold = self._summaries.setdefault(digest.check(summary.digest), _Fold())
            fold.add(summary, latency)
        elif event.kind == FEEDBACK:
            self._feedback(_body(Feedback, event))
        elif event.kind == PROBLEM:
            self._problem(_body(ErrorBody, event))
        else:
            self._problem(ErrorBody(code=UNKNOWN, message=f"event kind {event.kind:.40}"))

    def _feedback(self, told: Feedback) -> None:
        digest.check(told.digest)
        if not 0 <= told.transition <= _MAX_COUNT or _too_long(told):
            raise WireError(f"feedback {told.transition} has a number or text out of range")
        key = {
            "device": self._device,
            "transition": told.transition,
            "at": told.at,
            "what": told.what,
            "digest": told.digest,
        }
        if _FEEDBACK.find(self._connection, key):
            return
        rest = {
            "release": told.release,
            "rollout": told.rollout,
            "serving": told.serving,
            "reason": told.reason,
        }
        _FEEDBACK.add(self._connection, key, {**rest, "received_ms": self._at_ms})
        _OUTCOMES.put(
            self._connection,
            {"device": self._device, "digest": told.digest},
            {
                "what": told.what,
                "rollout": told.rollout,
                "reason": told.reason,
                "transition": told.transition,
                "at_ms": self._at_ms,
            },
        )
        entry = audit.Entry(
            actor=self._device,
            action=f"device.{told.what:.40}",
            object=told.release,
            detail={**rest, "digest": told.digest, "transition": told.transition},
        )
        audit.append(self._connection, entry, at_ms=self._at_ms)

    def _problem(self, told: ErrorBody) -> None:
        code = told.code[:100]
        self._problems[code] += 1
        self._said[code] = told

    def _write_problem(self, told: ErrorBody, count: int) -> None:
        key = {"device": self._device, "code": told.code[:100]}
        known = _PROBLEMS.find(self._connection, key)
        if known is None and self._kinds_of_problems() >= _MAX_PROBLEMS:
            return
        row = {
            "count": (known.count if known else 0) + count,
            "message": told.message[:_MAX_TEXT],
            "hint": told.hint[:_MAX_TEXT],
            "at_ms": self._at_ms,
        }
        _PROBLEMS.put(self._connection, key, row)

    def _kinds_of_problems(self) -> int:
        table = tables.problems
        mine = select(table.c.code).where(table.c.device == self._device)
        return len(self._connection.execute(mine).all())

    def _write_tally(self, key: str, fold: "_Fold") -> None:
        where = {"device": self._device, "digest": key}
        known = _TALLIES.find(self._connection, where)
        row = fold.row()
        if known is not None:
            for name in ("answered", "failed", "late", "refused"):
                row[name] += getattr(known, name)
            fold.latency.merge(Sketch.from_wire(msgspec.json.decode(known.latency_json)))
        row["latency_json"] = msgspec.json.encode(fold.latency.to_wire()).decode()
        row["since_ms"] = known.since_ms if known else self._at_ms
        row["until_ms"] = self._at_ms
        _TALLIES.put(self._connection, where, row)


class _Fold:
    """Summaries of one bundle within one batch, added up."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.latency = Sketch()
        self.last: Summary | None = None

    def add(self, summary: Summary, latency: Sketch) -> None:
        """Add one period."""
        self.latency.merge(latency)
        for name in ("answered", "failed", "late", "refused"):
            self.counts[name] += getattr(summary, name)
        self.last = summary

    def row(self) -> dict[str, Any]:
        """Return the columns that do not depend on what was there before."""
        last = self.last
        names = ("answered", "failed", "late", "refused")
        return {
            **{name: self.counts[name] for name in names},
            "release": last.release if last else "",
            "resident_bytes": last.resident_bytes if last else 0,
        }


def _body(kind: type[Any], event: Event) -> Any:
    try:
        return msgspec.convert(event.body, kind)
    except msgspec.ValidationError as error:
        raise WireError(f"not a {kind.__name__}: {error}") from error


def _checked_latency(summary: Summary) -> Sketch:
    """Return the sketch of a summary whose numbers can be added to others."""
    counts = (
        summary.answered, summary.failed, summary.late, summary.refused,
        summary.resident_bytes, *summary.latency.values(),
    )  # fmt: skip
    if not all(0 <= count <= _MAX_COUNT for count in counts):
        raise WireError(f"summary has a count outside 0..{_MAX_COUNT}")
    if len(summary.release) > _MAX_TEXT:
        raise WireError(f"release of {len(summary.release)} characters")
    return Sketch.from_wire(summary.latency)


def _too_long(told: Feedback) -> bool:
    texts = (told.at, told.what, told.release, told.rollout, told.serving, told.reason)
    return any(len(text) > _MAX_TEXT for text in texts)
