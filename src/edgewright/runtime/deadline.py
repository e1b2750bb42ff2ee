"""Deadlines that stop the work: one watchdog thread for the whole process.

A caller that merely stops waiting leaves the run burning a core; the watchdog
calls the engine's own stop when the moment comes, and the run really ends. The
lateness is that of the longest single operator, since engines look between two.
"""

import heapq
import itertools
import threading
from collections.abc import Callable
from time import monotonic

from edgewright.core.errors import DeadlineError


class Deadline:
    """A moment on the monotonic clock after which an answer is worth nothing."""

    __slots__ = ("after_s", "at_s")

    def __init__(self, after_s: float, *, since_s: float | None = None) -> None:
        """Let the deadline be ``after_s`` seconds, more than 0, after now or ``since_s``."""
        if not 0 < after_s < float("inf"):
            raise ValueError(f"a deadline lies in the future, got {after_s} s")
        self.after_s = after_s
        self.at_s = (monotonic() if since_s is None else since_s) + after_s

    @property
    def expired(self) -> bool:
        """Whether the moment has come."""
        return monotonic() >= self.at_s

    def missed(self) -> DeadlineError:
        """Return the error that says so."""
        return DeadlineError(
            f"no answer within {self.after_s * 1000:g} ms",
            hint="Allow more time, or use a smaller variant.",
        )


class Alarm:
    """One armed call; ``disarm`` once what it would stop has ended by itself."""

    __slots__ = ("stop",)

    def __init__(self, stop: Callable[[], None]) -> None:
        self.stop: Callable[[], None] | None = stop

    def disarm(self) -> None:
        """Forget the call; harmless when it was made already."""
        self.stop = None


class Watchdog:
    """Calls what was armed when its moment comes, from one thread of its own.

    Arming costs about a microsecond: the thread is woken only when the new moment
    is the earliest, and alarms disarmed meanwhile are dropped many at a time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None

    def arm(self, deadline: Deadline, stop: Callable[[], None]) -> Alarm:
        """Have ``stop`` called at the deadline; it must be quick and never raise."""
        alarm = Alarm(stop)
        with self._changed:
            first = not self._alarms or deadline.at_s < self._alarms[0][0]
            heapq.heappush(self._alarms, (deadline.at_s, next(self._order), alarm))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="deadlines", daemon=True
                )
                self._thread.start()
            elif first:
                self._changed.notify()
        return alarm

    def _watch(self) -> None:
        while True:
            for stop in self._due():
                stop()

    def _due(self) -> list[Callable[[], None]]:
        """Wait for the next moment; return what is to be called at it."""
        with self._changed:
            while self._alarms and self._alarms[0][2].stop is None:
                heapq.heappop(self._alarms)
            left = self._alarms[0][0] - monotonic() if self._alarms else None
            if left is None or left > 0:
                self._changed.wait(left)
            due = []
            while self._alarms and self._alarms[0][0] <= monotonic():
                stop = heapq.heappop(self._alarms)[2].stop
                if stop is not None:
                    due.append(stop)
            return due


WATCHDOG = Watchdog()
