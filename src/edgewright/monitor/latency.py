"""What a model has answered so far: counts, and how long the answers took.

In line it costs one append: durations are kept raw and folded into the sketch many
at a time, so that a run of a few microseconds is not measured by something slower.
"""

import threading
from collections import deque
from dataclasses import dataclass

from edgewright.monitor.sketch import Sketch

_FOLD_EVERY = 256


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counts since the monitor was made, which only grow.

    Attributes:
        answered: Right in form and in time.
        failed: The engine raised.
        late: Refused because the answer would have come after the deadline of the model.
        impatient: Refused at a nearer deadline, which the caller had set itself.
        refused: Inputs that did not fit.
        latency: Durations of what was answered.
        completed_monotonic_s: When the last answer was given; 0 before the first.
    """

    answered: int
    failed: int
    late: int
    impatient: int
    refused: int
    latency: Sketch
    completed_monotonic_s: float

    def quantile_us(self, q: float) -> int:
        """Return a quantile of the answers' durations in whole microseconds."""
        return round(self.latency.quantile(q))


class Monitor:
    """Counts requests from any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sketch = Sketch()
        # A deque hands over single items between threads without a lock.
        self._raw: deque[float] = deque()
        self._completed_s = 0.0
        self._failed = 0
        self._late = 0
        self._impatient = 0
        self._refused = 0

    def answered(self, start_s: float, end_s: float) -> None:
        """Count an answer given between two moments of the monotonic clock."""
        self._raw.append(end_s - start_s)
        self._completed_s = end_s
        if len(self._raw) >= _FOLD_EVERY:
            self._fold()

    def failed(self) -> None:
        """Count a request the engine could not answer."""
        with self._lock:
            self._failed += 1

    def late(self) -> None:
        """Count a request refused at its deadline."""
        with self._lock:
            self._late += 1

    def impatient(self) -> None:
        """Count a request whose caller would not wait as long as the model may take."""
        with self._lock:
            self._impatient += 1

    def refused(self) -> None:
        """Count a request whose inputs did not fit."""
        with self._lock:
            self._refused += 1

    def snapshot(self) -> Snapshot:
        """Return the counts of this moment."""
        self._fold()
        with self._lock:
            latency = Sketch(self._sketch.counts)
            return Snapshot(
                answered=latency.count,
                failed=self._failed,
                late=self._late,
                impatient=self._impatient,
                refused=self._refused,
                latency=latency,
                completed_monotonic_s=self._completed_s,
            )

    def _fold(self) -> None:
        with self._lock:
            raw = self._raw
            # Only as many as there are now: others may go on appending for ever.
            taken = [raw.popleft() * 1e6 for _ in range(len(raw))]
            self._sketch.extend(taken)
