"""Who did what, when: rows that are only added, each sealed with the one before.

A row is written in the transaction of the change it tells of, so neither exists
without the other. ``sha256`` of a row covers the row and the ``sha256`` before
it: a changed, missing or moved row shows, and who noted the newest seal can
prove what stood before it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from edgewright.fleet.store.tables import audit

GENESIS = "0" * 64

_ADD = insert(audit)
_NEWEST = select(audit.c.seq, audit.c.sha256).order_by(audit.c.seq.desc()).limit(1)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done.

    Attributes:
        actor: ``operate:tok_...``, a device id, ``controller`` or ``server``.
        action: What was done, ``rollout.start``.
        object: To what: a release, a rollout, a device.
        detail: The numbers, as JSON data.
    """

    actor: str
    action: str
    object: str
    detail: Mapping[str, Any]


def append(connection: Connection, entry: Entry, *, at_ms: int) -> int:
    """Add a row within the caller's transaction; return its number."""
    newest = connection.execute(_NEWEST).one_or_none()
    seq, before = (newest.seq + 1, newest.sha256) if newest else (1, GENESIS)
    row = {
        "seq": seq,
        "at_ms": at_ms,
        "actor": entry.actor,
        "action": entry.action,
        "object": entry.object,
        "detail_json": json.dumps(entry.detail, sort_keys=True, separators=(",", ":")),
    }
    connection.execute(_ADD, {**row, "sha256": _seal(row, before)})
    return int(seq)


def rows(connection: Connection, *, after: int = 0, limit: int = 500) -> list[dict[str, Any]]:
    """Return up to ``limit`` rows with numbers above ``after``, oldest first."""
    wanted = select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(limit)
    return [dict(row._mapping) for row in connection.execute(wanted)]  # noqa: SLF001  SQLAlchemy's documented name


def damaged(connection: Connection) -> int | None:
    """Return the number of the first row whose seal does not hold; None when all do."""
    before, expected = GENESIS, 1
    for found in connection.execute(select(audit).order_by(audit.c.seq)):
        row = dict(found._mapping)  # noqa: SLF001  SQLAlchemy's documented name
        seal = row.pop("sha256")
        if row["seq"] != expected or seal != _seal(row, before):
            return expected
        before, expected = seal, expected + 1
    return None


def _seal(row: Mapping[str, Any], before: str) -> str:
    text = json.dumps([before, *(row[name] for name in sorted(row))])
    return hashlib.sha256(text.encode()).hexdigest()
