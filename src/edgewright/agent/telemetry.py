"""What the supervisor tells the fleet: events into the spool, check-ins out of it.

A problem that stays is told once an hour, not once a check-in: a device that is
alone for a month must not fill its share of the disk with saying so.
"""

from edgewright import __version__
from edgewright.agent import DeviceConfig, Home
from edgewright.agent.health import Service
from edgewright.agent.slots import Slots
from edgewright.core import clock as clocks
from edgewright.core import log, probe, process, records
from edgewright.core.clock import Clock
from edgewright.core.errors import ConflictError, TransportError
from edgewright.wire.checkin import CheckIn, ErrorBody
from edgewright.wire.feedback import Feedback
from edgewright.wire.spool import Spool
from edgewright.wire.telemetry import PROBLEM, SUMMARY, Ack

BATCH_EVENTS = 500

_QUIET_S = 3600.0
_AGAIN_S = 60.0
_REMEMBERED = 64


class Telemetry:
    """The device's side of the conversation.

    Attributes:
        problems: The last few, newest last, for ``status``.
    """

    def __init__(self, home: Home, config: DeviceConfig, clock: Clock) -> None:
        self._home, self._config, self._clock = home, config, clock
        self.spool = Spool(home.spool, limit_bytes=config.spool_bytes)
        self.problems: list[dict[str, str]] = []
        self._told: dict[tuple[str, str], float] = {}
        self._summarised_s = clock.monotonic_s()
        self._boot_id = clocks.boot_id()
        self._left = 0
        if self.spool.damage:
            self.problem("storage_error", f"the queue was damaged: {self.spool.damage}")

    def feedback(self, what: Feedback) -> None:
        """Queue feedback; the same transition again changes nothing."""
        self.spool.append_transition(what.transition, what)

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
        self.spool.append(PROBLEM, body)
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
        if told:
            self.spool.append_all([(SUMMARY, body) for _, body in told])
        for worker, _ in told:
            worker.summarised()
        service.finished.clear()

    def check_in(
        self, device: str, service: Service, slots: Slots, trust: dict[str, int]
    ) -> CheckIn:
        """Return the next check-in, with the oldest events that are queued."""
        conditions = records.encode(probe.conditions(self._home.root))
        batch = self.spool.peek(BATCH_EVENTS)
        self._left = self.spool.last - batch.high
        return CheckIn(
            device=device,
            sequence=self.spool.next_sequence(),
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
            batch=batch if batch.high >= batch.low else None,
        )

    def acknowledge(self, ack: Ack) -> bool:
        """Drop what is durable at the fleet; return whether the batch did not hold all."""
        self.spool.acknowledge(ack)
        return self._left > 0

    def noted(self, problems: tuple[ErrorBody, ...]) -> None:
        """Queue what the courier met with."""
        for one in problems:
            if one.code == ConflictError("").code:
                self.spool.skip_sequence()
            self.problem(one.code, one.message, one.hint)

    def close(self) -> None:
        """Close the queue."""
        self.spool.close()
