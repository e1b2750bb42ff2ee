"""The loop that must never break: it keeps a verified slot answering, whatever happens.

What it does follows from two things it looks at anew in every tick: the pointer
(what is active, what is on trial) and what the fleet was last trusted to want. So
a crash at any moment is made good by starting again, and a step that fails because
the disk is full is simply due again at the next tick.
"""

import fcntl
import os
import select
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgewright.agent import DeviceConfig, Home
from edgewright.agent.control import Errands
from edgewright.agent.gate import Observation, TrialDecision, judge
from edgewright.agent.health import START_S, Death, Doors, Service, Worker
from edgewright.agent.slots import MAX_ATTEMPTS, Slots, Trial
from edgewright.agent.telemetry import Telemetry
from edgewright.agent.update import Update
from edgewright.bundle.manifest import Policy
from edgewright.core import clock as clocks
from edgewright.core import digest, durable, log, process
from edgewright.core.clock import Clock
from edgewright.core.errors import (
    BundleError,
    EdgewrightError,
    EngineError,
    StorageError,
    UpdateError,
)
from edgewright.wire.feedback import REVERTED

TICK_S = 0.2
STATUS_S = 5.0

# A good slot whose worker ends so often in a row gives way to the one before.
_MAX_DEATHS = 5
# Fewer answers say nothing about a 95th percentile.
_MIN_ANSWERS = 20
_MAX_FAULTS = 10
# A disk that could not take a trial's count is asked again after this.
_PAUSE_S = 60.0


@dataclass
class Trying:
    """What the workers of the slot on trial have done so far.

    Attributes:
        digest: The slot.
        since_s: When it first served, monotonic.
        answered: By workers that have ended, as are ``failed`` and ``p95_us``.
        last_words: Why the last of them ended.
        policy: What it is judged by, once it was read.
    """

    digest: str
    since_s: float
    answered: int = 0
    failed: int = 0
    p95_us: int = 0
    last_words: str = ""
    policy: Policy | None = None

    def carry(self, death: Death) -> None:
        """Add what a worker had done before it ended."""
        self.last_words = death.reason
        if death.stats is not None:
            self.answered += death.stats.answered
            self.failed += death.stats.failed + death.stats.late
            self.p95_us = max(self.p95_us, death.stats.p95_us)


class Supervisor:
    """One device.

    Args:
        home: Where it keeps its state; nobody else may run on it.
        config: Its settings.
        config_path: The file they were read from, for the courier.
        clock: Time.

    Raises:
        UpdateError: Another agent runs here, or the port is taken.
        StorageError: The disk refused.
    """

    def __init__(
        self, home: Home, config: DeviceConfig, config_path: Path, clock: Clock
    ) -> None:
        self._home, self._config, self._clock = home, config, clock
        _make_folders(home)
        with ExitStack() as undo:
            undo.callback(os.close, _locked(home.root))
            staging = os.open(home.staging, os.O_RDONLY | os.O_DIRECTORY)
            undo.callback(os.close, staging)
            self._telemetry = Telemetry(home, config, clock)
            undo.callback(self._telemetry.close)
            self._slots = Slots(
                home, clock, self._telemetry.feedback, told=self._telemetry.last_told
            )
            undo.callback(self._slots.close)
            self._doors = Doors(home, config.port, last_port=_last_port(home))
            undo.callback(self._doors.close)
            self._undo = undo.pop_all()
        self._service = Service(
            home, config, clock, self._doors, self._permit, self._not_started
        )
        errands = Errands(home, config, config_path, clock, staging)
        self._update = Update(
            errands, self._slots, self._telemetry, previous_p95_us=self._previous_p95_us
        )
        self._trying: Trying | None = None
        self._ending_s = 0.0
        self._status: tuple[float, Any] = (0.0, None)
        self._no_trial_until_s = 0.0
        for problem in filter(None, (*self._slots.problems, self._doors.problem)):
            self._failed(StorageError(problem))

    def run(self, stopping: Callable[[], bool]) -> None:
        """Tick until ``stopping`` says so.

        Raises:
            Exception: A fault of ours that comes again at every tick; the process
                ends, and whoever started it starts it again.
        """
        self._say_hello()
        faults = 0
        while not stopping():
            try:
                self.tick()
                faults = 0
            except Exception:
                faults += 1
                log.event("supervisor", "fault", error=traceback.format_exc())
                if faults >= _MAX_FAULTS:
                    raise
                time.sleep(min(faults, 5))
            self._wait()

    def tick(self) -> None:
        """Do whatever is due; nothing in here waits for anything."""
        steps = (
            self._serve,
            self._settle_trial,
            lambda: self._update.tick(self._service),
            lambda: self._telemetry.summarise(self._service),
            self._say_status,
        )
        for step in steps:
            try:
                step()
            except EdgewrightError as error:
                self._failed(error)

    def close(self) -> None:
        """Stop everything in order; answers under way are finished."""
        self._update.close()
        self._service.close()
        try:
            self._telemetry.summarise(self._service, now=True)
            self._say_status(stopped=True)
        except EdgewrightError as error:
            self._failed(error)
        self._undo.close()

    def _serve(self) -> None:
        """Keep the right slot answering."""
        self._service.wanted = self._target()
        deaths = self._service.tick()
        serving = self._service.serving
        self._slots.serving = serving.digest if serving else ""
        for death in deaths:
            self._mourn(death)
        back = self._update.returning
        if back is not None and self._slots.serving == back:
            self._update.returning = None
            release = self._slots.installed.get(back, "")
            self._slots.returned(
                back, rollout=self._update.rollout, reason=f"the fleet assigns {release}"
            )

    def _target(self) -> str | None:
        """Return the digest that should answer now."""
        pointer = self._slots.pointer
        paused = self._clock.monotonic_s() < self._no_trial_until_s
        if pointer.trial is not None and not pointer.trial.ending and not paused:
            return pointer.trial.digest
        return self._update.returning or pointer.active

    def _permit(self, of: str) -> bool:
        """Count a start of the slot on trial; refuse one too many."""
        trial = self._slots.pointer.trial
        if trial is None or trial.ending or trial.digest != of:
            return True
        try:
            if self._slots.attempt():
                return True
        except StorageError as error:
            # A start that cannot be counted is not made: the slot before serves.
            self._no_trial_until_s = self._clock.monotonic_s() + _PAUSE_S
            self._failed(error)
            return False
        words = self._trying.last_words if self._trying else ""
        reason = f"its worker ended after each of {MAX_ATTEMPTS} starts"
        self._slots.end_trial(REVERTED, f"{reason}: {words}" if words else reason)
        return False

    def _not_started(self, of: str, why: UpdateError) -> None:
        """Take back the count of a start that never came about."""
        self._failed(why)
        trial = self._slots.pointer.trial
        if trial is not None and not trial.ending and trial.digest == of:
            try:
                self._slots.attempt(-1)
            except StorageError as error:
                self._failed(error)

    def _mourn(self, death: Death) -> None:
        """Take note of a worker that ended unasked, and act when the slot is to blame."""
        pointer = self._slots.pointer
        name = f"{self._slots.installed.get(death.digest, '')} {digest.short(death.digest)}"
        lost = death.code == StorageError("").code
        kind = StorageError if lost else BundleError if death.damaged else EngineError
        self._failed(kind(f"the worker of {name} {death.reason}"))
        trial = pointer.trial
        if trial is not None and trial.digest == death.digest and not death.damaged:
            self._tried(trial).carry(death)
            return
        heirs = {pointer.active, pointer.previous, pointer.golden} - {death.digest, None}
        worn_out = death.times >= _MAX_DEATHS and bool(heirs)
        if death.damaged or worn_out:
            self._slots.step_back(death.digest, damaged=death.damaged)

    def _settle_trial(self) -> None:
        """Observe the slot on trial, decide, and finish what was decided."""
        trial = self._slots.pointer.trial
        if trial is None or not trial.ending:
            self._ending_s = 0.0
        if trial is None:
            self._trying = None
        elif trial.ending:
            self._finish(trial)
        elif self._slots.serving == trial.digest:
            try:
                self._slots.activated()
            except StorageError as error:
                self._failed(error)
            self._judge(trial)

    def _judge(self, trial: Trial) -> None:
        trying, worker = self._tried(trial), self._service.current
        stats = worker.stats if worker else None
        seen = Observation(
            since_activation_s=self._clock.monotonic_s() - trying.since_s,
            answered=trying.answered + (stats.answered if stats else 0),
            failed=trying.failed + (stats.failed + stats.late if stats else 0),
            p95_us=max(trying.p95_us, stats.p95_us if stats else 0),
            previous_p95_us=trial.previous_p95_us,
        )
        trying.policy = trying.policy or self._slots.policy(trial.digest)
        decision, reason = judge(seen, trying.policy)
        if decision is TrialDecision.CONFIRM:
            self._slots.confirm(reason)
        elif decision is TrialDecision.REVERT:
            self._slots.end_trial(REVERTED, reason)

    def _tried(self, trial: Trial) -> Trying:
        """Return what is known of the trial under way."""
        if self._trying is None or self._trying.digest != trial.digest:
            self._trying = Trying(trial.digest, self._clock.monotonic_s())
        return self._trying

    def _finish(self, trial: Trial) -> None:
        """Tell the end of a trial once the slot that takes over serves."""
        now = self._clock.monotonic_s()
        self._ending_s = self._ending_s or now
        active, serving = self._slots.pointer.active, self._slots.serving
        done = serving == (active or "")
        # What should take over cannot: the fleet must hear the truth all the same.
        if done or now - self._ending_s > START_S:
            self._slots.ended()
            log.event("supervisor", trial.ending, digest=trial.digest, reason=trial.reason)

    def _previous_p95_us(self) -> int | None:
        """Return the 95th percentile of what serves now; None when it answered too little."""
        worker = self._service.current
        stats = worker.stats if worker else None
        return stats.p95_us if stats and stats.answered >= _MIN_ANSWERS else None

    def _failed(self, error: EdgewrightError) -> None:
        """Report a step that will be tried again, as far as that is possible."""
        try:
            self._telemetry.problem(error.code, str(error), error.hint)
        except EdgewrightError as worse:
            log.event("supervisor", "cannot even tell", problem=str(error), why=str(worse))

    def _wait(self) -> None:
        """Sleep until a child says something or the next tick is due."""
        poll = select.poll()
        for worker in self._service.workers:
            if worker.output is not None:
                poll.register(worker.output, select.POLLIN)
        for output in self._update.outputs:
            poll.register(output, select.POLLIN)
        poll.poll(TICK_S * 1000)

    def _say_hello(self) -> None:
        """Tell whoever started this which device it is, and where it will answer."""
        log.event(
            "supervisor",
            "started",
            name=self._config.name,
            device=self._update.device or "not enrolled yet",
            home=self._home.root,
            server=self._config.server,
            channel=self._config.channel,
            answers_at=f"http://127.0.0.1:{self._doors.port}",
        )

    def _say_status(self, *, stopped: bool = False) -> None:
        """Write what this agent is doing, when it changed or every few seconds."""
        now, said = self._clock.monotonic_s(), self._state(stopped=stopped)
        last_s, last = self._status
        if said == last and now - last_s < STATUS_S:
            return
        self._status = (now, said)
        document = {**said, **self._figures()}
        durable.replace_file(self._home.status, msgspec.json.encode(document))

    def _state(self, *, stopped: bool) -> dict[str, Any]:
        """Return what is worth writing at once when it changes."""
        pointer, update = self._slots.pointer, self._update
        worker = self._service.current
        return {
            "running": not stopped,
            "pid": os.getpid(),
            "device": update.device,
            "name": self._config.name,
            "server": self._config.server,
            "channel": self._config.channel,
            "port": self._doors.port,
            "serving": None if stopped else msgspec.to_builtins(self._service.serving),
            "worker_pid": worker.pid if worker and not stopped else None,
            "active": pointer.active,
            "previous": pointer.previous,
            "golden": pointer.golden,
            "trial": msgspec.to_builtins(pointer.trial),
            "bad": pointer.bad,
            "slots": msgspec.to_builtins(self._slots.states()),
            "wanted": msgspec.to_builtins(update.wanted),
            "rollout": update.rollout,
            "doing": update.doing,
            "last_contact": update.contact,
            "problems": self._telemetry.problems,
        }

    def _figures(self) -> dict[str, Any]:
        """Return what changes all the time."""
        workers: list[Worker] = [one for one in self._service.workers if one.stats]
        return {
            "at": clocks.show(self._clock.now()),
            "resident_bytes": process.resident_bytes(),
            "peaks": self._update.peaks,
            "spool": self._telemetry.figures(),
            "answered": sum(one.stats.answered for one in workers if one.stats),
        }


def _make_folders(home: Home) -> None:
    try:
        for folder in (home.root, home.slots, home.staging, home.run, home.identity):
            durable.make_folder(folder)
    except OSError as error:
        raise StorageError(f"cannot make {home.root}: {error.strerror}") from error


def _locked(folder: Path) -> int:
    """Return a descriptor that holds the one lock on a home folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UpdateError(
            f"another agent runs on {folder}",
            hint="One device, one agent: stop the other, or give this one another home.",
        ) from error
    return descriptor


def _last_port(home: Home) -> int:
    """Return the port of the last run, which callers may still know; 0 if there was none."""
    try:
        return int(msgspec.json.decode(home.status.read_bytes())["port"])
    except (OSError, ValueError, KeyError, TypeError, msgspec.DecodeError):
        return 0
