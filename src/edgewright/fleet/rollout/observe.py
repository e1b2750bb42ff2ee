"""What the database says of a rollout: each device's place in it, and the gate's view.

A device has confirmed the release when its newest feedback on it says so and its
worker serves it. It has failed when its newest feedback is a refusal or a
reversion: a device never tries such a digest again, so a refusal told to an
earlier rollout of the same release counts too.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, select

from edgewright.fleet.rollout.gate import Observation
from edgewright.fleet.rollout.ledger import Rollout
from edgewright.fleet.store.tables import devices, marks, outcomes, tallies
from edgewright.monitor.sketch import Sketch
from edgewright.wire import assignment, feedback
from edgewright.wire.assignment import RolloutDocument

_FAILED = (feedback.REFUSED, feedback.REVERTED)
_P99 = 0.99
# The 99th percentile of fewer answers is their worst: nothing to compare by.
_ENOUGH = 300


@dataclass(frozen=True, slots=True)
class Part:
    """One device's part in a rollout.

    Attributes:
        wave: The first wave it belongs to, from 0; None if it is in none.
        assigned: The release the documents name for it; empty if none.
        serving: The release its worker serves, as last reported; empty if none.
        phase: ``closed`` while its wave is not open, ``waiting`` until it says
            something, then the word of its newest feedback on the release.
        attempted: Answers with the release since the rollout began.
        errors: Of them, failed or late.
        sketches: Latency of the release now and before the rollout, and of the base,
            as the tables hold them.
    """

    device: str
    name: str
    wave: int | None
    assigned: str
    serving: str
    phase: str
    reason: str
    confirmed: bool
    failed: bool
    confirmed_ms: int
    seen_ms: int | None
    attempted: int
    errors: int
    sketches: tuple[str | None, str | None, str | None] = field(repr=False)

    @property
    def latency(self) -> Sketch:
        """Latency of the release since the rollout began."""
        now, before, _ = self.sketches
        return _since(now, before)

    @property
    def base_latency(self) -> Sketch:
        """Latency of the base, ever."""
        return _since(self.sketches[2], None)


def parts(connection: Connection, rollout: Rollout) -> list[Part]:
    """Return the part of every device enrolled in the rollout's channel, by id."""
    next_tally, base_tally = tallies.alias("next_tally"), tallies.alias("base_tally")
    base_digest = rollout.base.digest if rollout.base else ""
    digest = rollout.next.digest
    joined = (
        devices.outerjoin(
            outcomes, and_(outcomes.c.device == devices.c.id, outcomes.c.digest == digest)
        )
        .outerjoin(
            next_tally,
            and_(next_tally.c.device == devices.c.id, next_tally.c.digest == digest),
        )
        .outerjoin(
            base_tally,
            and_(base_tally.c.device == devices.c.id, base_tally.c.digest == base_digest),
        )
        .outerjoin(marks, and_(marks.c.device == devices.c.id, marks.c.rollout == rollout.id))
    )
    counted = ("answered", "failed", "late", "latency_json")
    wanted = select(
        *(devices.c[name] for name in _DEVICE),
        *(outcomes.c[name].label(f"outcome_{name}") for name in ("what", "reason", "at_ms")),
        *(next_tally.c[name].label(f"next_{name}") for name in counted),
        *(marks.c[name].label(f"mark_{name}") for name in counted),
        base_tally.c.latency_json.label("base_latency_json"),
    ).select_from(joined)
    mine = wanted.where(devices.c.channel == rollout.channel).order_by(devices.c.id)
    document = rollout.document()
    return [_part(row, rollout, document) for row in connection.execute(mine)]


_DEVICE = ("id", "name", "labels_json", "seen_ms", "serving_digest", "serving_release")


def observe(rollout: Rollout, found: Sequence[Part], *, now_ms: int) -> Observation:
    """Return what the newest open wave has shown, which is what the gate judges."""
    newest = rollout.progress.open_waves - 1
    wave = [part for part in found if part.wave == newest]
    reached = [part for part in found if part.wave is not None and part.wave <= newest]
    confirmations = [part.confirmed_ms for part in wave if part.confirmed]
    failed = [part for part in reached if part.failed]
    enough = max(_ENOUGH, rollout.gate.min_inferences)
    (p99_us, base_p99_us), compared = _paired(wave, enough)
    return Observation(
        devices=len(wave),
        confirmed=len(confirmations),
        failed=len(failed),
        attempted=sum(part.attempted for part in wave),
        errors=sum(part.errors for part in wave),
        p99_us=p99_us,
        base_p99_us=base_p99_us,
        open_s=rollout.open_s(now_ms),
        settled_s=max(0.0, (now_ms - max(confirmations)) / 1000) if confirmations else 0.0,
        waiting=sum(part.wave is not None and part.wave > newest for part in found),
        before=sum(part.confirmed for part in reached) - len(confirmations),
        compared=compared,
        compare_from=enough if rollout.base else 0,
        complaint=f"{failed[0].name or failed[0].device} {_words(failed[0])}"
        if failed
        else "",
    )


def _words(part: Part) -> str:
    return f"{part.phase} it: {part.reason}" if part.reason else f"{part.phase} it"


def _paired(
    wave: Iterable[Part], enough: int
) -> tuple[tuple[int, int] | tuple[None, None], int]:
    """Return p99 of release and base on the devices that have a record of both.

    And how many answers there are to compare; with fewer than ``enough`` there is no p99.
    """
    new, base = Sketch(), Sketch()
    for part in wave:
        if not part.attempted:
            continue
        of_new, of_base = part.latency, part.base_latency
        if of_new.count and of_base.count:
            new.merge(of_new)
            base.merge(of_base)
    compared = min(new.count, base.count)
    if compared < enough:
        return (None, None), compared
    return (round(new.quantile(_P99)), round(base.quantile(_P99))), compared


def _part(row: Any, rollout: Rollout, document: RolloutDocument) -> Part:
    wave = assignment.wave_of(document, row.id, json.loads(row.labels_json))
    is_open = wave is not None and wave < rollout.progress.open_waves
    meant = document.next if is_open else document.base
    answered, failed, late = (
        (getattr(row, f"next_{name}") or 0) - (getattr(row, f"mark_{name}") or 0)
        for name in ("answered", "failed", "late")
    )
    said = row.outcome_what
    confirmed = said == feedback.CONFIRMED and row.serving_digest == rollout.next.digest
    return Part(
        device=row.id,
        name=row.name,
        wave=wave,
        assigned=meant.release if meant else "",
        serving=row.serving_release,
        phase=said or ("waiting" if is_open else "closed"),
        reason=row.outcome_reason or "",
        confirmed=confirmed,
        failed=said in _FAILED,
        confirmed_ms=row.outcome_at_ms if confirmed else 0,
        seen_ms=row.seen_ms,
        attempted=answered + failed + late,
        errors=failed + late,
        sketches=(row.next_latency_json, row.mark_latency_json, row.base_latency_json),
    )


def _since(now: str | None, before: str | None) -> Sketch:
    """Return the sketch of what came after ``before``, both JSON as the tables hold it."""
    counts: dict[str, int] = msgspec.json.decode(now) if now else {}
    if before:
        for index, count in msgspec.json.decode(before).items():
            counts[index] -= count
    return Sketch.from_wire({index: count for index, count in counts.items() if count})
