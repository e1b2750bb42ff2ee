"""What the supervisor tells the fleet: events into the spool, check-ins out of it.

A problem that stays is told once an hour, not once a check-in: a device that is
alone for a month must not fill its share of the disk with saying so.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from edgewright import __version__
from edgewright.agent import DeviceConfig, Home
from edgewright.agent.health import Service
from edgewright.agent.slots import Slots
from edgewright.core import clock as clocks
from edgewright.core import log, probe, process, records
from edgewright.core.clock import Clock
from edgewright.core.errors import ConflictError, StorageError, TransportError
from edgewright.wire.checkin import CheckIn, ErrorBody
from edgewright.wire.feedback import Feedback
from edgewright.wire.spool import Spool
from edgewright.wire.telemetry import PROBLEM, SUMMARY, Ack, Batch

BATCH_EVENTS = 500

_QUIET_S = 3600.0
_AGAIN_S = 60.0
_RETRY_S = 5.0
_REMEMBERED = 64


class Telemetry:
    """The device's side of the conversation.

    Attributes:
        problems: The last few, newest last, for ``status``.
    """

    def __init__(self, home: Home, config: DeviceConfig, clock: Clock) -> None:
        self._home, self._config, self._clock = home, config, clock
        self.problems: list[dict[str, str]] = []
        self._spool: Spool | None = None
        self._refusal: tuple[float, str] = (-_RETRY_S, "")
        self._told: dict[tuple[str, str], float] = {}
        self._summarised_s = clock.monotonic_s()
        self._boot_id = clocks.boot_id()
        self._left = 0
        self._sequence = 0
        self._conflicts = 0

    @property
    def spool(self) -> Spool:
        """The queue, opened when it is first needed: a device serves without one too.

        Raises:
            StorageError: The disk refuses to have it.
        """
        if self._spool is None:
            last_s, why = self._refusal
            now = self._clock.monotonic_s()
            if now - last_s < _RETRY_S:
                raise StorageError(why)
            try:
                self._spool = Spool(self._home.spool, limit_bytes=self._config.spool_bytes)
            except StorageError as error:
                self._refusal = (now, str(error))
                raise
            if damage := self._spool.damage:
                self.problem(StorageError("").code, f"the queue was damaged: {damage}")
        return self._spool

    @contextmanager
    def _queue(self) -> Iterator[Spool]:
        """Hand out the queue; after a refusal it is opened anew at the next use.

        SQLite stays read-only on a disk that was so when it was opened.
        """
        spool = self.spool
        try:
            yield spool
        except StorageError as error:
            spool.close()
            self._spool = None
            self._refusal = (self._clock.monotonic_s(), str(error))
            raise

    def last_told(self) -> int:
        """Return the number of the last transition that was queued."""
        return self.spool.transition

    def feedback(self, what: Feedback) -> None:
        """Queue feedback; the same transition again changes nothing."""
        with self._queue() as spool:
            spool.append_transition(what.transition, what)

    def problem(self, code: str, message: str, hint: str = "") -> None:
        """Queue something that went wrong, unless it was told within the hour.

        Raises:
            StorageError: The queue cannot take it; it will be told when it recurs.
        """
        # What the network did differs every time in its numbers, not in its meaning.
        key = (code, "" if code == TransportError("").code else message)
        now = self._clock.monotonic_s()
        if key in self._told and now - self._told[key] < _QUIET_S:
            return
        # Should the queue refuse it, it is due again in a minute, not at every tick.
        self._told[key] = now - _QUIET_S + _AGAIN_S
        log.event("supervisor", "problem", code=code, message=message)
        at = clocks.show(self._clock.now())
        body = {"at": at, "code": code, "message": message, "hint": hint}
        self.problems = [*self.problems[-9:], body]
        with self._queue() as spool:
            spool.append(PROBLEM, body)
        self._told[key] = now
        for old in sorted(self._told, key=self._told.__getitem__)[:-_REMEMBERED]:
            del self._told[old]

    def summarise(self, service: Service, *, now: bool = False) -> None:
        """Queue what was answered: of ended workers at once, of the others every period."""
        workers = list(service.finished)
        due = self._clock.monotonic_s() - self._summarised_s >= self._config.report_s
        if due or now:
            workers += service.workers
            self._summarised_s = self._clock.monotonic_s()
        told = [(worker, body) for worker in workers if (body := worker.summary())]
        while told:
            with self._queue() as spool:
                taken = spool.append_all([(SUMMARY, body) for _, body in told])
            # At once: should the disk refuse the rest, these must not be told again.
            for worker, _ in told[:taken]:
                worker.summarised()
            told = told[taken:]
        service.finished.clear()

    def check_in(
        self, device: str, service: Service, slots: Slots, trust: dict[str, int]
    ) -> CheckIn:
        """Return the next check-in, with the oldest events that are queued.

        On a disk that refuses it goes without them: that the device is there, and
        what serves, is worth telling.
        """
        conditions = records.encode(probe.conditions(self._home.root))
        batch = self._next_batch()
        return CheckIn(
            device=device,
            sequence=self._sequence,
            at=clocks.show(self._clock.now()),
            boot_id=self._boot_id,
            monotonic_s=self._clock.monotonic_s(),
            agent_version=__version__,
            channel=self._config.channel,
            labels=self._config.labels,
            serving=service.serving,
            slots=slots.states(),
            conditions={
                **{name: float(value) for name, value in conditions.items()},
                "agent_resident_bytes": float(process.resident_bytes()),
            },
            trust=trust,
            batch=batch if batch and batch.high >= batch.low else None,
        )

    def _next_batch(self) -> Batch | None:
        """Return what to send, and number the check-in that carries it."""
        try:
            with self._queue() as spool:
                batch = spool.peek(BATCH_EVENTS)
                self._left = spool.last - batch.high
                self._sequence = max(self._sequence + 1, spool.next_sequence())
        except StorageError as error:
            log.event("supervisor", "no telemetry", why=str(error))
            self._left = 0
            self._sequence = max(self._sequence + 1, time.time_ns() // 10**6)
            return None
        return batch

    def acknowledge(self, ack: Ack) -> bool:
        """Drop what is durable at the fleet; return whether the batch did not hold all."""
        with self._queue() as spool:
            spool.acknowledge(ack)
        return self._left > 0

    def noted(self, problems: tuple[ErrorBody, ...]) -> None:
        """Queue what the courier met with, and make up with a fleet that is confused.

        A conflict means that the fleet knows another past than ours: each time the
        number of the check-in is suspected, for the clock it is made of may have
        been set since; every second time in a row those of the events are, too.
        """
        conflict = any(one.code == ConflictError("").code for one in problems)
        self._conflicts = self._conflicts + 1 if conflict else 0
        if conflict:
            with self._queue() as spool:
                spool.skip_sequence()
                if self._conflicts % 2 == 0:
                    spool.renew()
        for one in problems:
            self.problem(one.code, one.message, one.hint)

    def figures(self) -> dict[str, int]:
        """Return the ledger and the size of the queue, for people; empty without one."""
        try:
            ledger, size = self.spool.ledger(), self.spool.size_bytes()
        except StorageError:
            return {}
        return {
            "offered": ledger.offered,
            "delivered": ledger.delivered,
            "queued": ledger.queued,
            "lost": ledger.lost,
            "bytes": size,
        }

    def close(self) -> None:
        """Close the queue."""
        if self._spool is not None:
            self._spool.close()
