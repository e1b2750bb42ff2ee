"""Act on what the gate says, and keep the signed documents as the database wants them.

One tick: look at every active rollout, judge it, store where that takes it
together with its audit row, then bring the signed documents in line. Everything
is read anew each time; a tick that was cut short at any point is finished by the
next.
"""

from sqlalchemy import Connection, insert, select, update

from edgewright.core.clock import Clock
from edgewright.core.errors import ConflictError
from edgewright.fleet import audit
from edgewright.fleet.rollout import ledger
from edgewright.fleet.rollout.assignments import Assignments, documents
from edgewright.fleet.rollout.gate import GateDecision, Observation, judge
from edgewright.fleet.rollout.ledger import Rollout
from edgewright.fleet.rollout.observe import observe, parts
from edgewright.fleet.rollout.progress import ACTIVE, step
from edgewright.fleet.store import Database
from edgewright.fleet.store.moments import to_ms
from edgewright.fleet.store.tables import counters

ACTOR = "controller"

_COUNTER = "assignments"


class Controller:
    """Moves rollouts on; one thread at a time calls it."""

    def __init__(self, database: Database, assignments: Assignments, clock: Clock) -> None:
        self._database = database
        self._assignments = assignments
        self._clock = clock

    def tick(self) -> None:
        """Judge every active rollout once and sign what changed.

        Raises:
            StorageError: The disk refused; the next tick tries again.
            TrustError: The assignments key may not sign.
        """
        with self._database.read() as connection:
            newest = ledger.latest_of_all(connection)
        for rollout in newest:
            if rollout.progress.state in ACTIVE:
                self._advance(rollout)
        self._sign()

    def _advance(self, rollout: Rollout) -> None:
        now_ms = to_ms(self._clock.now())
        with self._database.read() as connection:
            seen = observe(rollout, parts(connection, rollout), now_ms=now_ms)
        verdict = judge(seen, rollout.gate)
        new = step(rollout.progress, *verdict)
        if new == rollout.progress:
            return

        def change(connection: Connection) -> None:
            ledger.move(connection, rollout, new, at_ms=now_ms)
            ledger.note_decision(connection, rollout, verdict, seen, at_ms=now_ms)
            entry = _entry(rollout, verdict, seen, new.state)
            audit.append(connection, entry, at_ms=now_ms)

        try:
            self._database.write(change).result()
        except ConflictError:
            # An operator was faster; the next tick judges what they left.
            return

    def _sign(self) -> None:
        now = self._clock.now()
        with self._database.read() as connection:
            wanted = documents(ledger.latest_of_all(connection))
        why = self._assignments.due(wanted, now=now)
        if not why:
            return
        have = self._assignments.signed().version

        def reserve(connection: Connection) -> int:
            version = _next_version(connection, have)
            entry = audit.Entry(
                ACTOR,
                "assignments.sign",
                f"assignments@{version}",
                {"why": why, "documents": sorted(wanted)},
            )
            audit.append(connection, entry, at_ms=to_ms(now))
            return version

        version = self._database.write(reserve).result()
        self._assignments.write(wanted, version=version, now=now)


def _next_version(connection: Connection, have: int) -> int:
    """Return a version above every one ever signed or reserved, and reserve it."""
    row = counters.c.name == _COUNTER
    last = connection.scalar(select(counters.c.value).where(row))
    version = max(last or 0, have) + 1
    if last is None:
        connection.execute(insert(counters).values(name=_COUNTER, value=version))
    else:
        connection.execute(update(counters).where(row).values(value=version))
    return version


def _entry(
    rollout: Rollout, verdict: tuple[GateDecision, str], seen: Observation, state: str
) -> audit.Entry:
    decision, reason = verdict
    if decision is GateDecision.ROLL_BACK:
        action = "rollout.halt"
    elif state in ACTIVE:
        action = "rollout.open_wave"
    else:
        action = "rollout.done"
    detail = {
        **rollout.asked(),
        "wave": rollout.progress.open_waves,
        "reason": reason,
        "devices": seen.devices,
        "confirmed": seen.confirmed,
        "failed": seen.failed,
    }
    return audit.Entry(ACTOR, action, rollout.id, detail)
