"""How far a search is: which candidate it is at, how long it took and about how long to go."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

_MS = 1000


@dataclass(slots=True)
class Progress:
    """The clock of one run.

    What is left is reckoned from the candidates before, so it is no promise: the next may
    take longer, and a search may end before its plan does.

    Attributes:
        clock: Seconds that only grow.
        count: Candidates of the plan; 0 before the search begins and after it ended.
        tried: How many of them were.
        budget_s: Seconds after which nothing else is begun; 0 for no end.
    """

    clock: Callable[[], float] = monotonic
    count: int = 0
    tried: int = 0
    budget_s: int = 0
    _started: float = field(init=False)
    _search: float = 0.0
    _last: float = 0.0

    def __post_init__(self) -> None:
        """Start the clock."""
        self._started = self.clock()

    def begin(self, count: int, budget_s: int = 0) -> None:
        """Say that a search of ``count`` candidates begins."""
        self.count, self.tried, self.budget_s = count, 0, budget_s
        self._search = self._last = self.clock()

    def step(self) -> None:
        """Say that a candidate was tried, whatever came of it."""
        self.tried, self._last = self.tried + 1, self.clock()
        # A search may add candidates to its plan.
        self.count = max(self.count, self.tried)

    def end(self) -> None:
        """Say that the search is over."""
        self.count = 0

    def fields(self) -> dict[str, int]:
        """Return what is known: ``elapsed_ms``, and in a search where it is and what is left.

        ``index`` is 1 for the first candidate; ``eta_ms`` is there between the first that was
        tried and the last of the plan.
        """
        now = self.clock()
        found = {"elapsed_ms": round((now - self._started) * _MS)}
        if not self.count:
            return found
        found |= {"index": min(self.tried + 1, self.count), "count": self.count}
        if 0 < self.tried < self.count:
            each = (self._last - self._search) / self.tried
            left = each * (self.count - self.tried) - (now - self._last)
            if self.budget_s:
                left = min(left, self.budget_s + each - (now - self._search))
            found["eta_ms"] = max(round(left * _MS), 0)
        return found
