"""Workers that are this process: they do what real ones do, or misbehave as told."""

from dataclasses import dataclass, field

from edgewright.core.errors import TransportError
from edgewright.toolchain.planner import worker
from edgewright.toolchain.planner.parcels import opened, parcel


@dataclass
class SimCrew:
    """Workers as ``ahead.Workers``; a task is done when its result is asked for.

    Attributes:
        like: What the machines say they are like, beside what this one is like.
        elsewhere: Whether they say that they are another machine.
        spoil: Is given the head of each order and its result; returns what arrives, or
            raises what befalls the worker.
        gone_after: Results after which nobody can be reached; never when negative.
        late: Whether results are there only once they are waited for.
        asked: The head of each order.
        put_bytes: Of all that was brought to them.
        dropped: How many tokens were let go.
        taken: How many results arrived.
    """

    like: dict = field(default_factory=dict)
    elsewhere: bool = False
    spoil: object = None
    gone_after: int = -1
    late: bool = False
    asked: list = field(default_factory=list)
    put_bytes: int = 0
    dropped: int = 0
    taken: int = 0
    workers: int = 2
    _held: list = field(default_factory=list)

    address = "ray://sim:10001"

    @property
    def count(self):
        """How many there are."""
        return 0 if self.taken == self.gone_after else self.workers

    def greet(self, order):
        """Return one answer, of the one machine."""
        head, _ = opened(worker.answer(order))
        place = "another" if self.elsewhere else head["machine"]
        return [parcel({**head, "like": head["like"] | self.like, "machine": place})]

    def put(self, data):
        """Keep bytes."""
        self._there()
        self.put_bytes += len(data)
        self._held.append(data)
        return len(self._held) - 1

    def ask(self, order, *given):
        """Note a task."""
        self._there()
        self.asked.append(opened(order)[0])
        self._held.append((order, given))
        return len(self._held) - 1

    def ready(self, _token):
        """Return whether a result is there."""
        self._there()
        return not self.late

    def take(self, token, within_s):
        """Do a task, and those it builds on, unless it was done."""
        assert within_s > 0
        self._there()
        self.taken += 1
        return self._done(token)

    def drop(self, _token):
        """Count what is let go."""
        self.dropped += 1

    def _there(self):
        if not self.count:
            raise TransportError("nobody answers")

    def _done(self, token):
        held = self._held[token]
        if isinstance(held, tuple):
            order, given = held
            head, _ = opened(order)
            here = worker.likeness() | self.like
            data = worker.answer(order, *map(self._done, given))
            if here != head["like"]:
                data = parcel({"kind": worker.UNLIKE, "like": here})
            held = self._held[token] = self.spoil(head, data) if self.spoil else data
        return held
