"""The way of a release onto the device: ask, fetch, install, self-test, put on trial.

Each step is an errand; the heavy ones run one at a time. What the bundle is to
blame for ends in ``bad``, never to be tried again. What something else is to blame
for, a full disk or a killed process, is tried again, ever later.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgewright.agent.control import Errand, Errands, Result
from edgewright.agent.gate import judge_selftest
from edgewright.agent.health import Service
from edgewright.agent.slots import Slots, Step, next_step
from edgewright.agent.telemetry import Telemetry
from edgewright.core import clock as clocks
from edgewright.core import durable
from edgewright.core.errors import (
    BundleError,
    ExpiredError,
    RollbackError,
    StorageError,
    TrustError,
    UpdateError,
)
from edgewright.wire.assignment import Target
from edgewright.wire.checkin import LEAST_S
from edgewright.wire.feedback import RETURNED
from edgewright.wire.local import CourierJob, CourierReport, InstallReport, SelfTest

# Attempts at what something outside keeps ending, before the bundle is given up.
_MAX_TRIES = 5
_MAX_HOLD_S = 3600.0
_SOON_S = 1.0
_MAX_DOUBLINGS = 3
_JITTER = 0.1
_UNTRUSTED = {kind("").code for kind in (TrustError, ExpiredError, RollbackError)}


@dataclass(frozen=True, slots=True)
class Subject:
    """A release that is being installed or tested, and which rollout asked for it."""

    target: Target
    rollout: str


@dataclass(frozen=True, slots=True)
class Hold:
    """A bundle that is left alone for a while.

    Attributes:
        until_s: When it is tried again, monotonic.
        times: How often that happened in a row.
        tries: How often of these the bundle itself may have been to blame.
    """

    until_s: float
    times: int
    tries: int


def interval_s(check_in_s: float, report: CourierReport) -> float:
    """Return seconds between contacts, by the device's settings and what the fleet said.

    The longer of the two holds, so that either can ask for peace. While a rollout is
    running the shorter does, because each of its waves waits to be told of; a fleet
    that is busy, or that knows nothing of this, does not allow it.
    """
    if report.running and report.least_s > 0:
        sooner = min(check_in_s, report.interval_s)
        return max(sooner, report.least_s, LEAST_S)
    return max(check_in_s, report.interval_s)


class Update:
    """What the fleet wants of this device, and how far it has come.

    Args:
        errands: What does the work.
        slots: What is installed, and its state.
        telemetry: What the fleet is told.
        previous_p95_us: Asked when a trial begins, about the slot it may replace.

    Attributes:
        wanted: What to run, as last trusted; None for nothing known.
        returning: Digest of a good slot to go back to, until it serves.
        contact: Wall time of the fleet's last answer; empty before the first.
        peaks: Largest resident memory each errand has had, in bytes, by its name.
    """

    def __init__(
        self,
        errands: Errands,
        slots: Slots,
        telemetry: Telemetry,
        *,
        previous_p95_us: Callable[[], int | None],
    ) -> None:
        self._errands, self._slots, self._telemetry = errands, slots, telemetry
        self._previous_p95_us = previous_p95_us
        self.wanted: Target | None = None
        self.rollout = ""
        self.returning: str | None = None
        self.contact = ""
        self.peaks: dict[str, int] = {}
        self._trust: dict[str, int] = {}
        self._courier: Errand[CourierReport] | None = None
        self._install: Errand[InstallReport] | None = None
        self._selftest: Errand[SelfTest] | None = None
        self._subject: Subject | None = None
        self._archive = ("", "")
        self._passed: set[str] = set()
        self._trusted = False
        self._holds: dict[str, Hold] = {}
        self._due_s = errands.clock.monotonic_s()
        self._silences = 0
        self._transition = self._last_transition()
        self._locked = False
        self._device = ""
        self._enrolling = False

    @property
    def device(self) -> str:
        """This device's id; empty until the courier has made its key."""
        if not self._device:
            try:
                found = json.loads((self._errands.home.identity / "device.json").read_bytes())
            except (OSError, ValueError):
                return ""
            self._device = str(found.get("device", ""))
        return self._device

    @property
    def doing(self) -> str:
        """The heavy errand under way, for people; empty for none."""
        for errand in (self._install, self._selftest):
            if errand is not None:
                return errand.name
        return ""

    @property
    def outputs(self) -> Iterator[int]:
        """Descriptors that become readable when there is something to do."""
        for errand in (self._courier, self._install, self._selftest):
            if errand is not None and errand.output is not None:
                yield errand.output

    def tick(self, service: Service) -> None:
        """Hear the errands, and send the next one if it is due.

        Raises:
            StorageError: The disk refused; what could not be done is due again.
        """
        self._tick_courier(service)
        # A slot that was dropped as damaged is tested again when it is back.
        self._passed.intersection_update(self._slots.installed)
        if self._install is not None and (installed := self._install.poll()):
            self._install = None
            self._installed(installed)
        if self._selftest is not None and (tested := self._selftest.poll()):
            self._selftest = None
            self._tested(tested)
        if not self.doing:
            self._advance()
            self._collect(service)

    def close(self) -> None:
        """End every errand; what they had begun goes on at the next start."""
        for errand in (self._courier, self._install, self._selftest):
            if errand is not None:
                errand.cancel()
        self._courier = self._install = self._selftest = None

    def _tick_courier(self, service: Service) -> None:
        now = self._errands.clock.monotonic_s()
        if self._last_transition() != self._transition and not self._silences:
            self._hurry()
        self._transition = self._last_transition()
        if self._courier is not None:
            result = self._courier.poll()
            if result is not None:
                self._courier = None
                self._came_back(result)
        elif now >= self._due_s and self._lock():
            self._due_s = now + self._errands.config.check_in_s
            self._courier = self._sent(service)

    def _sent(self, service: Service) -> Errand[CourierReport]:
        """Send the courier; before there is a key, only to enrol."""
        self._enrolling = not self.device
        if self._enrolling:
            return self._errands.enrol()
        checkin = self._telemetry.check_in(self.device, service, self._slots, self._trust)
        have = [*self._slots.installed]
        if self.doing and self._subject is not None:
            have.append(self._subject.target.digest)
        job = CourierJob(
            home=str(self._errands.home.root),
            server=self._errands.config.server,
            checkin=checkin,
            have=tuple(have),
            bad=tuple(self._slots.pointer.bad),
            update=self.wanted is None or not self._held(self.wanted.digest),
        )
        return self._errands.courier(job)

    def _came_back(self, result: Result[CourierReport]) -> None:
        """Take what the courier brought, and decide when it goes again."""
        report = result.report or CourierReport()
        self._weigh("courier", report.peak_bytes)
        self._trust = report.trust or self._trust
        # What was trusted stays so while the server is away, not when trust is gone.
        doubted = any(one.code in _UNTRUSTED for one in report.problems)
        clean = not (report.problems or result.reason)
        if report.wanted is not None or doubted or clean:
            self.wanted, self.rollout = report.wanted, report.rollout
        self._take_archive(report)
        answered = report.interval_s > 0
        self._trusted |= report.wanted is not None or (answered and clean)
        if answered:
            self.contact = clocks.show(self._errands.clock.now())
        self._silences = 0 if answered else self._silences + 1
        self._due_s = self._errands.clock.monotonic_s() + self._pause(report)
        if report.ack and self._telemetry.acknowledge(report.ack):
            self._hurry()
        if self._enrolling and self.device:
            self._hurry()
        if result.report is None:
            self._telemetry.problem(UpdateError("").code, result.reason)
        self._telemetry.noted(report.problems)

    def _take_archive(self, report: CourierReport) -> None:
        """Remember the download; forget one that, by what the courier found, is gone."""
        if report.wanted is None:
            return
        of = report.wanted.digest
        if report.archive:
            self._archive = (of, report.archive)
        elif of not in self._slots.installed:
            self._archive = ("", "")

    def _hurry(self) -> None:
        """Let the next contact be soon."""
        self._due_s = min(self._due_s, self._errands.clock.monotonic_s() + _SOON_S)

    def _pause(self, report: CourierReport) -> float:
        """Return seconds until the next contact, longer after silences, never quite even."""
        asked = interval_s(self._errands.config.check_in_s, report)
        doublings = min(max(self._silences - 1, 0), _MAX_DOUBLINGS)
        random = int.from_bytes(os.urandom(2), "big") / 65535 * 2 - 1
        return asked * float(2**doublings) * (1 + _JITTER * random)

    def _advance(self) -> None:
        """Take the next step towards what is wanted."""
        wanted = self.wanted
        of = wanted.digest if wanted else None
        step = next_step(self._slots.pointer, of, self._slots.installed)
        if step is not Step.RETURN:
            self.returning = None
        if wanted is None or self._held(wanted.digest):
            return
        self._subject = Subject(wanted, self.rollout)
        if step is Step.FETCH and self._archive[0] == wanted.digest and self._lock():
            self._install = self._errands.install(wanted.digest, self._archive[1])
        elif step is Step.TRY:
            self._try(wanted.digest)
        elif step is Step.RETURN and self._slots.pointer.trial is not None:
            self._slots.end_trial(RETURNED, f"the fleet assigns {wanted.release}")
        elif step is Step.RETURN:
            self.returning = wanted.digest

    def _try(self, of: str) -> None:
        """Put a tested slot on trial; test it first."""
        if of in self._passed:
            self._slots.begin(
                of, rollout=self.rollout, previous_p95_us=self._previous_p95_us()
            )
        elif self._lock():
            self._selftest = self._errands.selftest(of)

    def _installed(self, result: Result[InstallReport]) -> None:
        subject, report = self._current(), result.report
        of = subject.target.digest
        self._weigh("installer", report.peak_bytes if report else 0)
        if report is None:
            self._again(subject, result.reason, own_fault=result.own_fault)
        elif report.error is None:
            self._slots.stage(of, subject.rollout)
            self._holds.pop(of, None)
            self._forget_archive(of)
        elif report.error.code == StorageError("").code:
            self._disk_refused(of, report.error.message)
            if report.unreadable:
                self._forget_archive(of)
        elif report.error.code == BundleError("").code:
            # It was whole when it was downloaded: it may be the disk. Fetched anew.
            self._forget_archive(of)
            self._again(subject, report.error.message, own_fault=False)
        else:
            self._refuse(subject, report.error.message)

    def _tested(self, result: Result[SelfTest]) -> None:
        subject, report = self._current(), result.report
        of = subject.target.digest
        self._weigh("selftest", report.peak_bytes if report else 0)
        if report is None:
            self._again(subject, result.reason, own_fault=result.own_fault)
            return
        passed, reason = judge_selftest(report)
        if passed:
            self._passed.add(of)
            self._holds.pop(of, None)
        elif report.error is not None and report.error.code == StorageError("").code:
            # Written anew it lies elsewhere on the disk; how often that takes is no
            # fault of the bundle.
            self._disk_refused(of, reason)
            self._slots.step_back(of, damaged=True)
        elif report.error is not None and report.error.code == BundleError("").code:
            # The slot was whole when it was installed: the disk, not the bundle.
            self._slots.step_back(of, damaged=True)
            self._again(subject, reason, own_fault=False)
        else:
            self._refuse(subject, reason)

    def _weigh(self, errand: str, peak_bytes: int) -> None:
        self.peaks[errand] = max(self.peaks.get(errand, 0), peak_bytes)

    def _again(self, subject: Subject, reason: str, *, own_fault: bool) -> None:
        """Try later what something else may be to blame for; give up in the end."""
        of = subject.target.digest
        if own_fault or self._hold(of, tries=1).tries >= _MAX_TRIES:
            self._refuse(subject, reason)
        else:
            self._telemetry.problem(
                UpdateError("").code, f"{subject.target.release}: {reason}"
            )

    def _disk_refused(self, of: str, reason: str) -> None:
        """Say that the disk is full or failing, no verdict on the bundle; try again later."""
        self._hold(of, tries=0)
        self._telemetry.problem(StorageError("").code, reason)

    def _refuse(self, subject: Subject, reason: str) -> None:
        """Give a bundle up for good."""
        target = subject.target
        self._slots.refuse(
            target.digest, target.release, rollout=subject.rollout, reason=reason, bad=True
        )
        self._holds.pop(target.digest, None)
        self._forget_archive(target.digest)

    def _forget_archive(self, of: str) -> None:
        if self._archive[0] == of:
            self._archive = ("", "")
        durable.remove(self._errands.home.download(of))

    def _hold(self, of: str, *, tries: int) -> Hold:
        """Leave a bundle alone for a while, the longer the more often that happens."""
        last = self._holds.get(of, Hold(0.0, 0, 0))
        # A disk may stay full for longer than a float can count in powers of two.
        pause = self._errands.config.check_in_s * 2.0 ** min(last.times + 1, 32)
        until_s = self._errands.clock.monotonic_s() + min(pause, _MAX_HOLD_S)
        self._holds[of] = Hold(until_s, last.times + 1, last.tries + tries)
        return self._holds[of]

    def _held(self, of: str) -> bool:
        hold = self._holds.get(of)
        return hold is not None and self._errands.clock.monotonic_s() < hold.until_s

    def _current(self) -> Subject:
        if self._subject is None:
            raise ValueError("nothing is being installed or tested")
        return self._subject

    def _collect(self, service: Service) -> None:
        """Remove the slots nothing needs any more.

        Before anything was trusted nobody knows what is needed; while no slot is
        known to be good, only what is known to be bad is of no use.
        """
        if self.doing or not self._trusted:
            return
        keep = {worker.digest for worker in service.workers}
        if self.wanted is not None and self.wanted.digest not in self._slots.pointer.bad:
            keep.add(self.wanted.digest)
        pointer = self._slots.pointer
        if not (pointer.active or pointer.previous or pointer.golden):
            keep |= {*self._slots.installed} - {*pointer.bad}
        for gone in self._slots.collect(keep):
            self._passed.discard(gone)

    def _lock(self) -> bool:
        """Take ``staging/`` for our errands; False while a predecessor's still run."""
        if not self._locked:
            try:
                fcntl.flock(self._errands.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self._locked = True
            for path in self._errands.home.staging.iterdir():
                if path.suffix != ".part":
                    durable.remove(path)
        return True

    def _last_transition(self) -> int:
        last = self._slots.pointer.transition
        return last.transition if last else 0
