"""Errands: what the supervisor has others do, one process each, and how it went.

The courier goes to the fleet, the installer makes a slot of an archive, the
self-test asks a slot for its golden answers. Each ends with one line of JSON; one
that takes too long is killed, one that dies says so by its silence.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from edgewright.agent import DeviceConfig, Home
from edgewright.agent.child import Child, fate
from edgewright.core.clock import Clock
from edgewright.core.errors import WireError
from edgewright.wire import version
from edgewright.wire.local import CourierJob, CourierReport, InstallReport, SelfTest

T = TypeVar("T")

# Signals a program earns by its own fault; anything else was done to it, or, where it
# left without a report, by a machine with too little of something.
_OWN_FAULT = {-4, -6, -7, -8, -11}


@dataclass(frozen=True, slots=True)
class Result(Generic[T]):
    """How an errand came out.

    Attributes:
        report: What it said; None when it ended without a word.
        reason: Why there is no report, in one sentence.
        own_fault: Whether the program crashed by itself, rather than being killed.
    """

    report: T | None
    reason: str = ""
    own_fault: bool = False


class Errand(Generic[T]):
    """One process that is given something to do and asked how it went.

    Args:
        name: For messages.
        argv: What to run.
        kind: What its last line is.
        limit_s: After which it is killed.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        kind: type[T],
        *,
        clock: Clock,
        limit_s: float,
        stdin: bytes = b"",
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name, self._kind, self._clock, self._limit_s = name, kind, clock, limit_s
        self._due = clock.monotonic_s() + limit_s
        self._last = b""
        self._overran = False
        self._child = Child(argv, stdin=stdin, pass_fds=pass_fds)

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._child.pid

    @property
    def output(self) -> int | None:
        """Descriptor that becomes readable when there is something to poll for."""
        return self._child.output

    def poll(self) -> Result[T] | None:
        """Return how it came out; None while it is under way."""
        for line in self._child.lines():
            self._last = line or self._last
        if self._clock.monotonic_s() > self._due and not self._overran:
            self._overran = True
            self._child.kill()
        status = self._child.ended
        if status is None:
            return None
        self._child.close()
        if self._overran:
            return Result(None, f"the {self.name} was stopped after {self._limit_s:.0f} s")
        try:
            return Result(version.decode(self._kind, self._last))
        except WireError:
            reason = f"the {self.name} ended without a report, {fate(status)}"
            return Result(None, reason, own_fault=status in _OWN_FAULT)

    def cancel(self) -> None:
        """End it; there will be no report."""
        self._child.close()


@dataclass(frozen=True, slots=True)
class Errands:
    """The errands of one device.

    Attributes:
        config_path: Passed to the courier, which reads what only it needs.
        lock: Descriptor of the lock on ``staging/``; an errand holds it as long as
            it lives, so that the next supervisor does not work beside an orphan.
    """

    home: Home
    config: DeviceConfig
    config_path: Path
    clock: Clock
    lock: int

    def courier(self, job: CourierJob) -> Errand[CourierReport]:
        """Go to the fleet and come back."""
        argv = (*self._courier("run"), "--window-s", str(self.config.window_s))
        return Errand(
            "courier",
            argv,
            CourierReport,
            clock=self.clock,
            limit_s=self.config.window_s,
            stdin=version.encode(job) + b"\n",
            pass_fds=(self.lock,),
        )

    def enrol(self) -> Errand[CourierReport]:
        """Make the device's key if there is none, and try to enrol."""
        return Errand(
            "courier",
            self._courier("enrol"),
            CourierReport,
            clock=self.clock,
            limit_s=self.config.window_s,
            pass_fds=(self.lock,),
        )

    def install(self, digest: str, archive: str) -> Errand[InstallReport]:
        """Make a slot of a complete download."""
        home = self.home
        argv = (
            *_module("edgewright.bundle.install"),
            archive,
            *("--digest", digest),
            *("--slots", str(home.slots)),
            *("--staging", str(home.staging)),
        )
        return Errand(
            "installer",
            argv,
            InstallReport,
            clock=self.clock,
            limit_s=self.config.install_s,
            pass_fds=(self.lock,),
        )

    def selftest(self, digest: str) -> Errand[SelfTest]:
        """Ask the slot of ``digest`` for its golden answers."""
        argv = (
            *_module("edgewright.runtime.worker"),
            *("selftest", str(self.home.slot(digest))),
            *("--digest", digest),
            *("--timings", str(self.home.variants)),
        )
        return Errand(
            "self-test",
            argv,
            SelfTest,
            clock=self.clock,
            limit_s=self.config.selftest_s,
            pass_fds=(self.lock,),
        )

    def _courier(self, verb: str) -> tuple[str, ...]:
        return (
            *_module("edgewright.agent.courier"),
            *(verb, "--config", str(self.config_path), "--home", str(self.home.root)),
            "--lifeline",
        )


def _module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name)
