"""The worker: started, watched, replaced, and its answers counted.

``Service`` keeps one slot answering. Told to answer from another, it starts a
second worker on the same sockets and stops the first only when the second is
ready, so that no request is refused. A worker that dies is started again, ever
more slowly; one that says nothing for too long is killed and counts as dead.
"""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edgewright.agent import DeviceConfig, Home
from edgewright.agent.child import Child, fate
from edgewright.core import clock as clocks
from edgewright.core import log
from edgewright.core.clock import Clock
from edgewright.core.errors import BundleError, StorageError, UpdateError, WireError
from edgewright.wire import version
from edgewright.wire.checkin import ErrorBody, Serving
from edgewright.wire.local import Ask, WorkerMessage, WorkerStats
from edgewright.wire.telemetry import Summary

# A slot is hashed as a whole before it serves; flash reads 20 MB a second.
START_S = 120.0
STATS_S = 1.0
# While it finishes what it is answering, so that hardly an answer goes uncounted.
_PARTING_S = 0.05
STOP_S = 10.0
BACKOFF_S = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
# A worker that ran this long was healthy; the next death begins a new series.
_SETTLED_S = 60.0
_BACKLOG = 128

_NOTHING = WorkerStats(
    answered=0,
    failed=0,
    late=0,
    refused=0,
    latency={},
    p50_us=0,
    p95_us=0,
    p99_us=0,
    resident_bytes=0,
)

Permit = Callable[[str], bool]
Unused = Callable[[str, UpdateError], object]


class Said(WorkerMessage, frozen=True, kw_only=True):
    """A line of a worker: also why it could not start."""

    error: ErrorBody | None = None


@dataclass(frozen=True, slots=True)
class Death:
    """A worker that ended unasked.

    Attributes:
        times: Deaths of workers of this slot in a row.
        damaged: The slot itself is not what its digest says, or cannot be read.
        code: Of the error it told; empty where it told none.
        reason: In one sentence.
        stats: What it had done.
    """

    digest: str
    times: int
    damaged: bool
    reason: str
    stats: WorkerStats | None
    code: str = ""


class Doors:
    """The sockets applications knock at, kept while workers come and go.

    Bound from the start, so that the port is known and nobody else's; open only
    while some worker is there to answer, so that callers are refused at once
    rather than kept waiting.

    Args:
        home: Its ``run`` folder holds the local socket.
        port: On the loopback; 0 for any free one.
        last_port: What to try first where any would do: the one known from before.

    Attributes:
        problem: Why there is no local socket; empty when there is one.

    Raises:
        UpdateError: The port is taken by someone else.
    """

    def __init__(self, home: Home, port: int, *, last_port: int = 0) -> None:
        self._run, self.port = home.run, port or last_port
        self._tcp: socket.socket | None = None
        self._unix: socket.socket | None = None
        self.problem = ""
        try:
            self._bind()
        except UpdateError:
            if port:
                raise
            self.port = 0
            self._bind()

    def open(self) -> tuple[socket.socket, ...]:
        """Let callers in; return the sockets a worker is given, TCP first."""
        if self._tcp is None:
            self._bind()
        doors = tuple(door for door in (self._tcp, self._unix) if door is not None)
        for door in doors:
            door.listen(_BACKLOG)
        return doors

    def shut(self) -> None:
        """Refuse callers: there is nothing that could answer."""
        self.close()
        self._bind()

    def close(self) -> None:
        """Give the sockets back; twice is fine."""
        for door in (self._tcp, self._unix):
            if door is not None:
                door.close()
        self._tcp = self._unix = None

    def _bind(self) -> None:
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            # A worker that outlives a killed supervisor for a moment still has the
            # port; its successor must not have to wait for it.
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            tcp.bind(("127.0.0.1", self.port))
        except OSError as error:
            tcp.close()
            raise UpdateError(
                f"cannot listen on port {self.port}: {error.strerror}",
                hint="Choose another port in device.toml; 0 takes any free one.",
            ) from error
        self._tcp, self.port = tcp, tcp.getsockname()[1]
        self._unix = self._bind_unix()

    def _bind_unix(self) -> socket.socket | None:
        """Bind ``run/worker.sock``; a disk that refuses leaves the port alone."""
        path = self._run / "worker.sock"
        unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.unlink(missing_ok=True)  # not state: a socket
            folder = os.open(self._run, os.O_RDONLY | os.O_DIRECTORY)
            try:
                # A socket's address holds 107 bytes; a path may be longer.
                unix.bind(f"/proc/self/fd/{folder}/{path.name}")
            finally:
                os.close(folder)
        except OSError as error:
            unix.close()
            self.problem = f"no {path.name}: {error.strerror}"
            return None
        return unix


class Worker:
    """One worker process, from its start to its end."""

    def __init__(self, digest: str, child: Child, *, clock: Clock, hang_s: float) -> None:
        self.digest, self._child, self._clock, self._hang_s = digest, child, clock, hang_s
        self.ready: Serving | None = None
        self.stats: WorkerStats | None = None
        self.error: ErrorBody | None = None
        self.ended: int | None = None
        self.stopping = False
        self.reason = ""
        self.started_s = clock.monotonic_s()
        self._heard_s = self._asked_s = self._stopped_s = self.started_s
        self._told = _NOTHING
        self._told_s = self.started_s

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._child.pid

    @property
    def output(self) -> int | None:
        """Descriptor that becomes readable when it says something."""
        return self._child.output

    def tick(self) -> None:
        """Hear what it says, ask how it is, and kill it when it does not answer."""
        if self.ended is not None:
            return
        now = self._clock.monotonic_s()
        for line in self._child.lines():
            self._hear(line, now)
        self.ended = self._child.ended
        if self.ended is not None:
            self.reason = self.reason or self._fate(self.ended)
            self._child.close()
        elif self.stopping:
            if now - self._stopped_s > STOP_S:
                self._kill(f"did not stop within {STOP_S:.0f} s")
            else:
                self._ask(now, every_s=_PARTING_S)
        elif self.ready is None:
            if now - self.started_s > START_S:
                self._kill(f"was not ready within {START_S:.0f} s")
        elif now - self._heard_s > self._hang_s:
            self._kill(f"said nothing for {self._hang_s:.0f} s")
        else:
            self._ask(now, every_s=STATS_S)

    def stop(self) -> None:
        """Let it finish what it is answering, then end."""
        if not self.stopping:
            self.stopping = True
            self._stopped_s = self._clock.monotonic_s()
            self._child.say(version.encode(Ask(op="stop")))

    def close(self) -> None:
        """End it now."""
        self._child.close()
        self.ended = self.ended if self.ended is not None else -9

    def summary(self) -> Summary | None:
        """Return what it answered since ``summarised`` was last called; None for nothing."""
        stats, told = self.stats, self._told
        if stats is None or self.ready is None or _counts(stats) == _counts(told):
            return None
        now = self._clock.monotonic_s()
        answered, failed, late, refused, impatient = (
            new - old for new, old in zip(_counts(stats), _counts(told), strict=True)
        )
        return Summary(
            at=clocks.show(self._clock.now()),
            boot_id=clocks.boot_id(),
            monotonic_s=now,
            period_s=now - self._told_s,
            digest=self.ready.digest,
            release=self.ready.release,
            answered=answered,
            failed=failed,
            late=late,
            impatient=impatient,
            refused=refused,
            latency={
                bucket: count - told.latency.get(bucket, 0)
                for bucket, count in stats.latency.items()
                if count != told.latency.get(bucket, 0)
            },
            resident_bytes=stats.resident_bytes,
        )

    def summarised(self) -> None:
        """Begin a new period: the last summary is durable."""
        self._told = self.stats or self._told
        self._told_s = self._clock.monotonic_s()

    def _ask(self, now: float, *, every_s: float) -> None:
        if now - self._asked_s >= every_s:
            self._asked_s = now
            self._child.say(version.encode(Ask(op="stats")))

    def _hear(self, line: bytes, now: float) -> None:
        try:
            said = version.decode(Said, line)
        except WireError as error:
            log.event("supervisor", "worker said nonsense", pid=self.pid, why=str(error))
            return
        self._heard_s = now
        self.ready = said.ready or self.ready
        self.stats = said.stats or self.stats
        self.error = said.error or self.error

    def _kill(self, why: str) -> None:
        self.reason = why
        self._child.kill()

    def _fate(self, status: int) -> str:
        return self.error.message if self.error else f"ended, {fate(status)}"


@dataclass
class Service:
    """Keeps the wanted slot answering.

    Attributes:
        permit: Asked before each start of a worker; False postpones it.
        unused: Told why a start that was permitted did not come about.
        wanted: Digest to answer from; None for nothing.
        current: The worker that answers, or answered last.
        coming: The one that will take over when it is ready.
        leaving: Told to stop, finishing what they answer.
        finished: Have ended with answers that were not summarised yet.
    """

    home: Home
    config: DeviceConfig
    clock: Clock
    doors: Doors
    permit: Permit
    unused: Unused
    wanted: str | None = None
    current: Worker | None = None
    coming: Worker | None = None
    leaving: list[Worker] = field(default_factory=list)
    finished: list[Worker] = field(default_factory=list)
    _deaths: dict[str, tuple[int, float]] = field(default_factory=dict)
    # Not a death of the slot's: a machine without memory is nothing it is to blame for.
    _failures: tuple[int, float] = (0, 0.0)

    @property
    def serving(self) -> Serving | None:
        """What answers now, as its worker said; None if nothing does."""
        worker = self.current
        return worker.ready if worker and worker.ended is None else None

    @property
    def workers(self) -> Iterator[Worker]:
        """Every worker that has not been let go."""
        yield from (one for one in (self.current, self.coming) if one is not None)
        yield from self.leaving

    def tick(self) -> list[Death]:
        """Hear the workers, take over when one is ready, start what is missing."""
        for worker in tuple(self.workers):
            worker.tick()
        deaths = [death for death in map(self._buried, tuple(self.workers)) if death]
        self._drop_unwanted()
        self._take_over()
        if self.wanted is None:
            self._stop_all()
        elif not self._has(self.wanted):
            self._start(self.wanted)
        return deaths

    def close(self) -> None:
        """Stop every worker, giving each a moment to finish what it is answering."""
        self.wanted = None
        self._stop_all()
        end = self.clock.monotonic_s() + STOP_S
        while any(worker.ended is None for worker in self.workers):
            for worker in self.workers:
                worker.tick()
            if self.clock.monotonic_s() > end:
                break
            time.sleep(0.02)
        for worker in self.workers:
            worker.close()

    def _has(self, digest: str) -> bool:
        """Whether a worker of this slot is answering or on its way."""
        return any(
            one is not None and one.digest == digest and one.ended is None
            for one in (self.current, self.coming)
        )

    def _drop_unwanted(self) -> None:
        """Stop a worker on its way that is not wanted any more."""
        if self.coming is not None and self.coming.digest != self.wanted:
            self._leave(self.coming)
            self.coming = None

    def _leave(self, worker: Worker) -> None:
        worker.stop()
        self.leaving.append(worker)

    def _take_over(self) -> None:
        """Let the coming worker answer, once it is ready."""
        coming = self.coming
        if coming is None or coming.ready is None or coming.ended is not None:
            return
        if self.current is not None:
            self._leave(self.current)
        self.current, self.coming = coming, None

    def _start(self, digest: str) -> None:
        """Start a worker of ``digest`` if it is time and allowed."""
        now = self.clock.monotonic_s()
        for times, last in (self._deaths.get(digest, (0, 0.0)), self._failures):
            if now < last + BACKOFF_S[min(times, len(BACKOFF_S) - 1)]:
                return
        if not self.permit(digest):
            return
        try:
            self.coming = self._started(digest)
        except (UpdateError, OSError) as error:
            self._failures = (self._failures[0] + 1, now)
            self.unused(digest, UpdateError(f"cannot start a worker: {error}"))
        else:
            self._failures = (0, 0.0)

    def _started(self, digest: str) -> Worker:
        numbers = [door.fileno() for door in self.doors.open()]
        argv = [
            *(sys.executable, "-m", "edgewright.runtime.worker"),
            *("serve", str(self.home.slot(digest)), "--digest", digest),
            *("--deadline-ms", str(self.config.deadline_ms)),
            *("--threads", str(self.config.threads)),
            *("--timings", str(self.home.variants)),
        ]
        for option, number in zip(("--listen-fd", "--unix-fd"), numbers, strict=False):
            argv += [option, str(number)]
        child = Child(argv, pass_fds=numbers)
        log.event("supervisor", "worker started", digest=digest, pid=child.pid)
        return Worker(digest, child, clock=self.clock, hang_s=self.config.hang_s)

    def _stop_all(self) -> None:
        for worker in (self.current, self.coming):
            if worker is not None:
                self._leave(worker)
        if self.current or self.coming:
            self.doors.shut()
        self.current = self.coming = None

    def _buried(self, worker: Worker) -> Death | None:
        """Let go of a worker that has ended; return its death if nobody asked for it."""
        if worker.ended is None:
            return None
        if worker in self.leaving:
            self.leaving.remove(worker)
        if worker.summary() is not None:
            self.finished.append(worker)
        if self.coming is worker:
            self.coming = None
        if self.current is worker:
            self.current = None
        if worker.stopping:
            return None
        now = self.clock.monotonic_s()
        settled = worker.ready is not None and now - worker.started_s > _SETTLED_S
        times = 0 if settled else self._deaths.get(worker.digest, (0, 0.0))[0]
        self._deaths[worker.digest] = (times + 1, now)
        code = worker.error.code if worker.error else ""
        # Either way only a copy of the bundle is to blame: it is fetched anew.
        damaged = code in {BundleError("").code, StorageError("").code}
        log.event("supervisor", "worker ended", digest=worker.digest, reason=worker.reason)
        return Death(worker.digest, times + 1, damaged, worker.reason, worker.stats, code)


def _counts(stats: WorkerStats) -> tuple[int, int, int, int, int]:
    return stats.answered, stats.failed, stats.late, stats.refused, stats.impatient
