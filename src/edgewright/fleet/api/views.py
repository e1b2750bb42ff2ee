"""Rows as the documents operators read: moments as text, JSON columns as data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, and_, select

from edgewright.core.errors import NotFoundError
from edgewright.fleet.rollout import ledger
from edgewright.fleet.rollout.gate import judge, unjudged
from edgewright.fleet.rollout.ledger import Rollout
from edgewright.fleet.rollout.observe import Part, observe
from edgewright.fleet.rollout.progress import ACTIVE, DONE
from edgewright.fleet.store import tables
from edgewright.fleet.store.moments import show_ms
from edgewright.monitor.sketch import Sketch
from edgewright.wire import assignment

_COUNTED = ("answered", "failed", "late", "refused")


def release(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a published release."""
    names = ("release", "digest", "length", "path", "published_by")
    return {
        **{name: row[name] for name in names},
        "published_at": show_ms(row["published_ms"]),
    }


def audit_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return one row of the audit."""
    names = ("seq", "actor", "action", "object", "sha256")
    return {
        **{name: row[name] for name in names},
        "at": show_ms(row["at_ms"]),
        "detail": msgspec.json.decode(row["detail_json"]),
    }


def token(row: Any) -> dict[str, Any]:
    """Return what may be known of a token, which is not its hash."""
    return {
        "token": row.id,
        "scope": row.scope,
        "created_at": show_ms(row.created_ms),
        "revoked_at": show_ms(row.revoked_ms),
    }


def devices(connection: Connection, *, after: str, limit: int) -> list[dict[str, Any]]:
    """Return devices by id, each with the counts of what it serves."""
    table, tally = tables.devices, tables.tallies
    serving = and_(tally.c.device == table.c.id, tally.c.digest == table.c.serving_digest)
    wanted = (
        select(table, *(tally.c[name] for name in (*_COUNTED, "latency_json")))
        .select_from(table.outerjoin(tally, serving))
        .where(table.c.id > after)
        .order_by(table.c.id)
        .limit(limit)
    )
    return [
        {**_device(row), **_counts(row, row.latency_json)}
        for row in connection.execute(wanted)
    ]


def device(connection: Connection, name: str) -> dict[str, Any]:
    """Return everything known of one device.

    Raises:
        NotFoundError: There is no such device.
    """
    table = tables.devices
    row = connection.execute(select(table).where(table.c.id == name)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no device {name:.80}")
    bundles = [_bundle(found) for found in _of(connection, tables.tallies, name, "since_ms")]
    return {
        **_device(row),
        "profile": msgspec.json.decode(row.profile_json),
        "slots": msgspec.json.decode(row.slots_json),
        "conditions": msgspec.json.decode(row.conditions_json),
        "trust": msgspec.json.decode(row.trust_json),
        "assigned": _assigned(connection, row),
        **{key: sum(bundle[key] for bundle in bundles) for key in _COUNTED},
        "bundles": bundles,
        "queues": [
            _timed(found, "updated")
            for found in _of(connection, tables.queues, name, "updated_ms")
        ],
        "losses": [
            _timed(found, "at") for found in _of(connection, tables.losses, name, "low")
        ],
        "feedback": _feedback(connection, name),
        "problems": [
            _timed(found, "at") for found in _of(connection, tables.problems, name, "at_ms")
        ],
    }


def rollout(found: Rollout) -> dict[str, Any]:
    """Return a rollout as it stands, without its devices."""
    return {
        "rollout": found.id,
        "seq": found.seq,
        "channel": found.channel,
        "release": found.next.release,
        "digest": found.next.digest,
        "base": found.base.release if found.base else None,
        "state": found.progress.state,
        "reason": found.progress.reason,
        "open_waves": found.progress.open_waves,
        "waves": [
            {"labels": wave.labels, "bp": wave.bp, "state": _wave_state(found, index)}
            for index, wave in enumerate(found.waves)
        ],
        "gate": asdict(found.gate),
        "created_by": found.created_by,
        "created_at": show_ms(found.created_ms),
        "opened_at": show_ms(found.opened_ms),
        "finished_at": show_ms(found.finished_ms),
    }


def rollout_in_full(
    connection: Connection, found: Rollout, parts: Sequence[Part], *, now_ms: int
) -> dict[str, Any]:
    """Return a rollout with its waves' and devices' progress, and what the gate says now."""
    document = rollout(found)
    for index, wave in enumerate(document["waves"]):
        mine = [part for part in parts if part.wave == index]
        wave["devices"] = len(mine)
        wave["confirmed"] = sum(part.confirmed for part in mine)
        wave["failed"] = sum(part.failed for part in mine)
    document["now"] = None
    if found.progress.state in ACTIVE:
        seen = observe(found, parts, now_ms=now_ms)
        decision, reason = judge(seen, found.gate)
        document["now"] = {
            "decision": decision.value,
            "reason": reason,
            "unjudged": unjudged(seen),
            "observation": asdict(seen),
        }
    document["decisions"] = [
        {
            "at": show_ms(row["at_ms"]),
            "wave": row["wave"],
            "decision": row["decision"],
            "reason": row["reason"],
            "observation": msgspec.json.decode(row["observation_json"]),
        }
        for row in ledger.all_decisions(connection, found.id)
    ]
    document["devices"] = [_part(part) for part in parts]
    return document


def _part(part: Part) -> dict[str, Any]:
    return {
        "device": part.device,
        "name": part.name,
        "wave": None if part.wave is None else part.wave + 1,
        "assigned": part.assigned,
        "serving": part.serving,
        "phase": part.phase,
        "reason": part.reason,
        "confirmed": part.confirmed,
        "failed": part.failed,
        "attempted": part.attempted,
        "errors": part.errors,
        "seen_at": show_ms(part.seen_ms),
    }


def _wave_state(found: Rollout, index: int) -> str:
    if found.progress.state == DONE or index < found.progress.open_waves - 1:
        return "passed"
    return "open" if index == found.progress.open_waves - 1 else "closed"


def _device(row: Any) -> dict[str, Any]:
    serving = {
        "digest": row.serving_digest,
        "release": row.serving_release,
        "variant": row.serving_variant,
        "since": show_ms(row.serving_since_ms),
    }
    return {
        "device": row.id,
        "name": row.name,
        "channel": row.channel,
        "labels": msgspec.json.decode(row.labels_json),
        "agent_version": row.agent_version,
        "boot_id": row.boot_id,
        "sequence": row.sequence,
        "enrolled_at": show_ms(row.enrolled_ms),
        "seen_at": show_ms(row.seen_ms),
        "serving": serving if row.serving_digest else None,
    }


def _counts(row: Any, latency_json: str | None) -> dict[str, Any]:
    sketch = Sketch.from_wire(msgspec.json.decode(latency_json) if latency_json else {})
    counted = bool(sketch.count)
    return {
        **{name: getattr(row, name) or 0 for name in _COUNTED},
        "p50_us": round(sketch.quantile(0.5)) if counted else None,
        "p99_us": round(sketch.quantile(0.99)) if counted else None,
    }


def _bundle(row: Any) -> dict[str, Any]:
    return {
        "digest": row.digest,
        "release": row.release,
        **_counts(row, row.latency_json),
        "resident_bytes": row.resident_bytes,
        "since": show_ms(row.since_ms),
        "until": show_ms(row.until_ms),
    }


def _of(connection: Connection, table: Table, name: str, order: str) -> list[Any]:
    wanted = select(table).where(table.c.device == name).order_by(table.c[order])
    return list(connection.execute(wanted))


def _feedback(connection: Connection, name: str) -> list[dict[str, Any]]:
    table = tables.feedback
    wanted = select(table).where(table.c.device == name)
    ordered = wanted.order_by(table.c.received_ms, table.c.transition)
    return [_timed(row, "received") for row in connection.execute(ordered)]


def _timed(row: Any, moment: str) -> dict[str, Any]:
    """Return a row without its device, its one moment as text."""
    found = dict(row._mapping)  # noqa: SLF001  SQLAlchemy's documented name
    at_ms = found.pop(f"{moment}_ms")
    del found["device"]
    return {**found, moment if moment == "at" else f"{moment}_at": show_ms(at_ms)}


def _assigned(connection: Connection, row: Any) -> str | None:
    """Return which release the documents name for a device."""
    newest = ledger.latest(connection, row.channel)
    if newest is None:
        return None
    labels = msgspec.json.decode(row.labels_json)
    target = assignment.assigned(newest.document(), row.id, labels)
    return target.release if target else None
