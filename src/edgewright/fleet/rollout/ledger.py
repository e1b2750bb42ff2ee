"""Rollouts as the database keeps them: start, find, move on."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from edgewright.core import names
from edgewright.core.errors import ConflictError, NotFoundError, UsageError
from edgewright.fleet import registry
from edgewright.fleet.rollout.gate import GateDecision, GatePolicy, Observation
from edgewright.fleet.rollout.progress import ACTIVE, DONE, HALTED, PAUSED, RUNNING, Progress
from edgewright.fleet.store.tables import decisions, marks, rollouts, tallies
from edgewright.wire.assignment import RolloutDocument, Target, Wave

_MAX_WAVES = 100
_FULL_BP = 10_000


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout, as it stands.

    Attributes:
        seq: 1, 2, 3 ... in the order of creation.
        next: The release being rolled out.
        base: What devices outside the open waves run; None before the first.
        opened_ms: When the newest open wave opened, moved on by every pause.
        paused_ms: Since when it is paused; None while it is not.
    """

    id: str
    seq: int
    channel: str
    salt: str
    next: Target
    base: Target | None
    waves: tuple[Wave, ...]
    gate: GatePolicy
    progress: Progress
    created_by: str
    created_ms: int
    opened_ms: int
    paused_ms: int | None
    finished_ms: int | None

    def open_s(self, now_ms: int) -> float:
        """Return seconds since the newest wave opened, pauses left out."""
        return ((self.paused_ms or now_ms) - self.opened_ms) / 1000

    def document(self) -> RolloutDocument:
        """Return what is signed for the devices of the channel."""
        return RolloutDocument(
            rollout=self.id,
            channel=self.channel,
            salt=self.salt,
            next=self.next,
            base=self.base,
            waves=self.waves,
            open_waves=self.progress.open_waves,
            state=self.progress.state,
        )

    def asked(self) -> dict[str, Any]:
        """Return what was asked for, as every audit row on the rollout tells it."""
        return {
            "channel": self.channel,
            "release": self.next.release,
            "base": self.base.release if self.base else "",
            "waves": msgspec.to_builtins(self.waves),
        }


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator asks for.

    The last wave takes every device that is left: what is done is what the whole
    channel runs, so that it can be the base of the next rollout.

    Raises:
        UsageError: The channel is not a name; no waves, too many, a share out of
            range, or a last one that is not whole.
    """

    channel: str
    release: str
    waves: tuple[Wave, ...]
    gate: GatePolicy

    def __post_init__(self) -> None:
        """Refuse what could never be carried to its end."""
        names.check_name(self.channel, "channel")
        names.parse_release(self.release)
        if not 1 <= len(self.waves) <= _MAX_WAVES:
            raise UsageError(f"a rollout has 1 to {_MAX_WAVES} waves, got {len(self.waves)}")
        for number, wave in enumerate(self.waves, start=1):
            if not 1 <= wave.bp <= _FULL_BP:
                raise UsageError(f"wave {number} takes {wave.bp} bp; 1 to {_FULL_BP} it can")
        if self.waves[-1].labels or self.waves[-1].bp != _FULL_BP:
            raise UsageError(
                "the last wave must take every device of the channel",
                hint="Add a wave of 100%; pause the rollout to stay before it.",
            )


def start(connection: Connection, order: Order, *, actor: str, at_ms: int) -> Rollout:
    """Begin a rollout with its first wave open.

    Its base is what the channel's last rollout delivered, or that one's own base if
    it was halted. What the release did on a device before is noted, so that only
    what it does from now on counts as evidence.

    Raises:
        NotFoundError: There is no such release.
        ConflictError: The channel has an active rollout, or runs the release already.
    """
    row = registry.signed_release(connection, order.release)
    target = Target(
        release=order.release, digest=row["digest"], path=row["path"], length=row["length"]
    )
    base = _base_after(latest(connection, order.channel), target)
    rollout = names.new_id("rol")
    connection.execute(
        insert(rollouts).values(
            id=rollout,
            seq=(connection.scalar(select(func.max(rollouts.c.seq))) or 0) + 1,
            channel=order.channel,
            salt=rollout,
            next_json=_json(target),
            base_json=_json(base) if base else None,
            waves_json=_json(order.waves),
            gate_json=json.dumps(asdict(order.gate)),
            state=RUNNING,
            open_waves=1,
            reason="",
            created_by=actor,
            created_ms=at_ms,
            opened_ms=at_ms,
        )
    )
    _mark(connection, rollout, target)
    return get(connection, rollout)


def get(connection: Connection, rollout: str) -> Rollout:
    """Return one rollout.

    Raises:
        NotFoundError: There is no such rollout.
    """
    row = connection.execute(select(rollouts).where(rollouts.c.id == rollout)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no rollout {rollout:.80}")
    return _read(row)


def latest(connection: Connection, channel: str) -> Rollout | None:
    """Return the newest rollout of a channel, which says what its devices run."""
    wanted = select(rollouts).where(rollouts.c.channel == channel)
    newest = wanted.order_by(rollouts.c.seq.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return _read(row) if row is not None else None


def latest_of_all(connection: Connection) -> list[Rollout]:
    """Return the newest rollout of every channel."""
    newest = select(func.max(rollouts.c.seq)).group_by(rollouts.c.channel)
    wanted = select(rollouts).where(rollouts.c.seq.in_(newest)).order_by(rollouts.c.channel)
    return [_read(row) for row in connection.execute(wanted)]


def page(connection: Connection, *, after: int = 0, limit: int = 500) -> list[Rollout]:
    """Return up to ``limit`` rollouts with numbers above ``after``, oldest first."""
    wanted = select(rollouts).where(rollouts.c.seq > after)
    wanted = wanted.order_by(rollouts.c.seq).limit(limit)
    return [_read(row) for row in connection.execute(wanted)]


def move(connection: Connection, old: Rollout, new: Progress, *, at_ms: int) -> Rollout:
    """Store where a rollout has come to.

    A newly opened wave has its whole deadline before it; a pause does not count
    against one.

    Raises:
        ConflictError: It is no longer where ``old`` says.
    """
    opened_ms, paused_ms = old.opened_ms, None
    if new.state == PAUSED:
        paused_ms = old.paused_ms or at_ms
    elif old.paused_ms is not None:
        opened_ms += at_ms - old.paused_ms
    if new.open_waves > old.progress.open_waves:
        opened_ms = at_ms
    where = (
        (rollouts.c.id == old.id)
        & (rollouts.c.state == old.progress.state)
        & (rollouts.c.open_waves == old.progress.open_waves)
    )
    changed = connection.execute(
        update(rollouts)
        .where(where)
        .values(
            state=new.state,
            open_waves=new.open_waves,
            reason=new.reason,
            opened_ms=opened_ms,
            paused_ms=paused_ms,
            finished_ms=at_ms if new.state in {DONE, HALTED} else None,
        )
    ).rowcount
    if not changed:
        raise ConflictError(f"rollout {old.id} has moved on in the meantime")
    return get(connection, old.id)


def note_decision(
    connection: Connection,
    rollout: Rollout,
    verdict: tuple[GateDecision, str],
    seen: Observation,
    *,
    at_ms: int,
) -> None:
    """Keep a decision that changed something, with all it was based on."""
    taken = len(all_decisions(connection, rollout.id))
    connection.execute(
        insert(decisions).values(
            rollout=rollout.id,
            seq=taken + 1,
            at_ms=at_ms,
            wave=rollout.progress.open_waves,
            decision=verdict[0].value,
            reason=verdict[1],
            observation_json=json.dumps(asdict(seen)),
        )
    )


def all_decisions(connection: Connection, rollout: str) -> list[dict[str, Any]]:
    """Return the decisions of a rollout, oldest first."""
    wanted = select(decisions).where(decisions.c.rollout == rollout)
    return [
        dict(row._mapping)  # noqa: SLF001  SQLAlchemy's documented name
        for row in connection.execute(wanted.order_by(decisions.c.seq))
    ]


def _mark(connection: Connection, rollout: str, target: Target) -> None:
    """Note what the release has done before, on every device that ever ran it."""
    columns = ("device", "answered", "failed", "late", "latency_json")
    before = select(*(tallies.c[name] for name in columns))
    found = connection.execute(before.where(tallies.c.digest == target.digest))
    rows = [{"rollout": rollout, **row._mapping} for row in found]  # noqa: SLF001  SQLAlchemy's documented name
    if rows:
        connection.execute(insert(marks), rows)


def _base_after(last: Rollout | None, target: Target) -> Target | None:
    if last is None:
        return None
    if last.progress.state in ACTIVE:
        raise ConflictError(
            f"{last.channel} has the rollout {last.id} of {last.next.release}, which is "
            f"{last.progress.state}",
            hint="Wait for it to end, or abort it.",
        )
    base = last.next if last.progress.state == DONE else last.base
    if base is not None and base.digest == target.digest:
        raise ConflictError(f"{last.channel} runs {target.release} already")
    return base


def _read(row: Any) -> Rollout:
    waves = msgspec.json.decode(row.waves_json, type=tuple[Wave, ...])
    base = msgspec.json.decode(row.base_json, type=Target) if row.base_json else None
    return Rollout(
        id=row.id,
        seq=row.seq,
        channel=row.channel,
        salt=row.salt,
        next=msgspec.json.decode(row.next_json, type=Target),
        base=base,
        waves=waves,
        gate=GatePolicy(**json.loads(row.gate_json)),
        progress=Progress(row.state, len(waves), row.open_waves, row.reason),
        created_by=row.created_by,
        created_ms=row.created_ms,
        opened_ms=row.opened_ms,
        paused_ms=row.paused_ms,
        finished_ms=row.finished_ms,
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
