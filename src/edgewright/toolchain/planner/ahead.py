"""Work ahead: others do the steps of candidates, and ask them, before their turn comes.

The search stays alone and decides here. What workers deliver is put where the search
would look first, a step into the step cache and answers by the digest of what was asked,
so that a run with workers comes to what it comes to without them: what does not arrive, or
is not asked for in the end, changes nothing but the time it takes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from edgewright.core.errors import ModelError, TargetError, UsageError, WireError
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure.accuracy import Answers
from edgewright.toolchain.planner import worker
from edgewright.toolchain.planner.parcels import (
    REMEDY,
    arrays_of,
    opened,
    parcel,
    samples_parcel,
)
from edgewright.toolchain.planner.perform import Workshop
from edgewright.toolchain.planner.values import CandidatePlan, Step

# Longer than any step of any model so far; then it is done here.
PATIENCE_S = 600.0

_Path = tuple[str, ...]


class Workers(Protocol):
    """Who does tasks ahead. Tokens stand for bytes that need not be on this machine.

    Every method raises TransportError where the other side does not do its part.
    """

    @property
    def address(self) -> str:
        """What people call them by."""

    @property
    def count(self) -> int:
        """How many tasks they do at once; 0 once they cannot be reached any more."""

    def greet(self, order: bytes) -> list[bytes]:
        """Return what each of their machines answers to ``order``."""

    def put(self, data: bytes) -> Any:
        """Bring ``data`` to them, once; return its token."""

    def ask(self, order: bytes, *given: Any) -> Any:
        """Begin ``worker.answer`` for an order and tokens; return the token of its result."""

    def ready(self, token: Any) -> bool:
        """Return whether a result, or its failure, is there."""

    def take(self, token: Any, within_s: float) -> bytes:
        """Return the bytes a token stands for, as soon as they are there."""

    def drop(self, token: Any) -> None:
        """Let go of a token; what is not done for it yet need not be. Raises nothing."""


class Ahead:
    """Nobody works ahead; and what whoever does is asked for."""

    def look(self, candidates: Sequence[CandidatePlan], *, ask: bool = True) -> None:
        """Begin work for the next of ``candidates``, the first of which is next in turn.

        Args:
            candidates: What may come next.
            ask: Whether they will be asked all evaluation samples, as far as is known.
        """

    def bring(self, candidate: CandidatePlan, *, ask: bool = True) -> None:
        """Put what was done of ``candidate`` where it is found; ``ask`` as in ``look``."""

    def probe(self, plans: Sequence[CandidatePlan], first: int) -> None:
        """Begin to ask ``plans`` the ``first`` calibration samples."""

    def answers(self, files: str, samples: Samples) -> Answers | None:
        """Return what the candidate brought last answers; None if nobody asked it.

        Args:
            files: One digest of its files, as they were made here.
            samples: What it is asked.
        """

    def rest(self) -> None:
        """Let nothing run on this machine while something is timed."""


@dataclass(slots=True)
class _Job:
    """Something a worker was asked for: ``answers`` so many, a step where that is 0."""

    token: Any
    name: str
    what: str
    path: _Path
    answers: int = 0


@dataclass(slots=True)
class Crew(Ahead):
    """Workers who work ahead.

    Attributes:
        workers: Who they are.
        workshop: Makes candidates here; its cache gets the steps that were done there.
        samples: What candidates are asked.
        tools: Versions, as the keys of steps have them.
        measured: Whether a candidate's answers, by its name and the digest of its files,
            are known from earlier.
        tell: Is told one sentence about what people should know.
        near: Whether any of them may be on this machine.
        patience_s: How long a result is waited for.
        steps: How many steps were delivered.
        answered: How many candidates' answers were.
        lost: What was asked for and did not come.
    """

    workers: Workers
    workshop: Workshop
    samples: Samples
    tools: dict[str, str]
    measured: Callable[[str, str], bool]
    tell: Callable[[str], None]
    near: bool = True
    patience_s: float = PATIENCE_S
    steps: int = 0
    answered: int = 0
    lost: list[str] = field(default_factory=list)
    _like: dict[str, str] = field(default_factory=worker.likeness)
    _given: dict[str, Any] = field(default_factory=dict)
    _turn: _Path = ()
    _sent: dict[_Path, Any] = field(default_factory=dict)
    _jobs: list[_Job] = field(default_factory=list)
    _asked: set[str] = field(default_factory=set)
    _barred: set[_Path] = field(default_factory=set)
    _answers: dict[tuple[str, str], Answers] = field(default_factory=dict)

    def begin(self) -> None:
        """Say who works."""
        count = self.workers.count
        noun = "worker" if count == 1 else "workers"
        self.tell(f"{count} {noun} on {self.workers.address}")

    def look(self, candidates: Sequence[CandidatePlan], *, ask: bool = True) -> None:
        """Begin work for as many candidates as there are workers, and one more."""
        self._collect()
        if not self.workers.count:
            return
        for candidate in candidates[: self.workers.count + 1]:
            if candidate.name not in self._asked:
                known = partial(self.measured, candidate.name)
                self._begin(candidate, known, len(self.samples) if ask else 0)

    def probe(self, plans: Sequence[CandidatePlan], first: int) -> None:
        """Begin to ask what candidates might be put together from."""
        count = min(first, len(self.workshop.samples))
        for plan in plans if self.workers.count else ():
            self._begin(plan, lambda _files: False, count, first=count)

    def bring(self, candidate: CandidatePlan, *, ask: bool = True) -> None:
        """Wait for the steps of ``candidate`` that are under way."""
        self._turn = _path(candidate.steps)
        self._await_steps()
        if candidate.name not in self._asked:
            # What could not be told before may be told of what came now.
            self.look([candidate], ask=ask)
            self._await_steps()

    def _await_steps(self) -> None:
        for job in [j for j in self._jobs if not j.answers]:
            if job.path == self._turn[: len(job.path)] and job in self._jobs:
                self._receive(job)

    def answers(self, files: str, samples: Samples) -> Answers | None:
        """Return what the candidate that was brought last answered, waiting if need be."""
        about = (files, samples.digest)
        self._collect()
        for job in [j for j in self._jobs if j.answers and j.path[:-1] == self._turn]:
            if about not in self._answers and job in self._jobs:
                self._receive(job)
        return self._answers.pop(about, None)

    def rest(self) -> None:
        """Wait for all that is under way if some of it may run on this machine."""
        for job in list(self._jobs) if self.near else ():
            if job in self._jobs:
                self._receive(job)

    def close(self) -> None:
        """Let go of what nobody waits for any more; say what was delivered."""
        for job in self._jobs:
            self.workers.drop(job.token)
        self._jobs.clear()
        here = f"; {len(self.lost)} done here instead" if self.lost else ""
        self.tell(f"workers delivered {self.steps} steps and {self.answered} answers{here}")

    def _begin(
        self, one: CandidatePlan, known: Callable[[str], bool], count: int, *, first: int = 0
    ) -> None:
        """Ask for the steps of a candidate that are not done yet, and for its answers.

        Args:
            one: The candidate.
            known: Whether the answers are known, by the digest of the files.
            count: How many samples it is asked; its steps are all that is wanted where 0.
            first: The same where it is calibration samples.
        """
        try:
            graph, done = self.workshop.reached(one.steps)
            path = (*_path(one.steps), f"answers {first}")
            if any(path[:n] in self._barred for n in range(done + 1, len(path) + 1)):
                return
            self._asked.add(one.name)
            under_way = self._steps(one, graph, done)
            if under_way < len(one.steps) or not count:
                # The rest waits for what is under way: it is looked at again.
                self._asked.discard(one.name)
                return
            if done == under_way and known(self.workshop.files(graph)):
                return
            about = {"target": self.workshop.plan.target, "first": first}
            whole = self.workshop.samples if first else self.samples
            samples = self._samples("calibrate" if first else "evaluate", whole)
            last = self._after(path[:-1], graph)
            token = self._ask(worker.ANSWERS, about, last, samples)
            self._jobs.append(_Job(token, one.name, f"answers of {one.name}", path, count))
        except (UsageError, ModelError, TargetError):
            # It is met again, and told, when the candidate's turn comes.
            return
        except WireError as error:
            self._lose(one.name, str(error))

    def _steps(self, one: CandidatePlan, graph: Graph, done: int) -> int:
        """Ask for the steps after the first ``done``, which led to ``graph``.

        Return how many are done or under way: those before the first that only this
        machine can tell all of, once what comes before it is here.
        """
        path = _path(one.steps)
        for count, step in enumerate(one.steps[done:], done + 1):
            if path[:count] in self._sent:
                continue
            ready = self.workshop.sendable(graph if count == done + 1 else None, step)
            if ready is None:
                return count - 1
            before = self._after(path[: count - 1], graph)
            samples = self._samples("calibrate", self.workshop.samples)
            about = {
                "technique": ready.technique, "settings": dict(ready.settings),
                "tools": self.tools,
            }  # fmt: skip
            token = self._ask(worker.STEP, about, before, samples)
            self._sent[path[:count]] = token
            what = f"{step.technique} of {one.name}"
            self._jobs.append(_Job(token, one.name, what, path[:count]))
        return len(path)

    def _after(self, path: _Path, graph: Graph) -> Any:
        """Return the token of what ``path`` comes to: ``graph``, where it was not sent."""
        found = self._sent.get(path)
        return self._graph(graph) if found is None else found

    def _ask(self, do: str, about: dict[str, Any], *given: Any) -> Any:
        return self.workers.ask(parcel({"do": do, "like": self._like, **about}), *given)

    def _graph(self, graph: Graph) -> Any:
        sha256 = graph.digest
        if sha256 not in self._given:
            self._given[sha256] = self.workers.put(worker.graph_parcel(graph))
        return self._given[sha256]

    def _samples(self, name: str, samples: Samples) -> Any:
        if name not in self._given:
            self._given[name] = self.workers.put(samples_parcel(samples))
        return self._given[name]

    def _collect(self) -> None:
        """Take whatever is there."""
        for job in list(self._jobs):
            if job in self._jobs and self._arrived(job):
                self._receive(job)

    def _arrived(self, job: _Job) -> bool:
        try:
            return self.workers.ready(job.token)
        except WireError as error:
            self._give_up(job, str(error))
            return False

    def _receive(self, job: _Job) -> None:
        """Wait for a job and keep what came of it; or say why nothing did."""
        try:
            self._keep(self.workers.take(job.token, self.patience_s), job)
        except WireError as error:
            self._give_up(job, str(error))
        else:
            self._jobs.remove(job)

    def _keep(self, data: bytes, job: _Job) -> None:
        head, body = opened(data)
        kind = head.get("kind")
        if kind == worker.STEP:
            cache = self.workshop.cache
            if cache is None or not cache.take(str(head.get("key")), body):
                raise WireError("it came damaged", hint=REMEDY)
            self.steps += 1
        elif kind == worker.ANSWERS:
            found = tuple(arrays_of(head, body).values())
            about = (str(head.get("files")), str(head.get("samples")))
            self._answers[about] = _checked(found, job.answers)
            self.answered += 1
        elif kind == worker.UNLIKE:
            raise WireError(_unlike(_like_of(head), self._like), hint=REMEDY)
        elif kind not in {worker.GRAPH, worker.REFUSED}:
            raise WireError(f"a parcel of kind {kind!r} came", hint=REMEDY)

    def _give_up(self, job: _Job, why: str) -> None:
        """Go on without a job and without those that were to be given its result."""
        self._barred.add(job.path)
        size = len(job.path)
        rest = [j for j in self._jobs if j is job or j.path[:size] == job.path]
        if not self.workers.count:
            rest = list(self._jobs)
            others = f" with {len(rest) - 1} more" if len(rest) > 1 else ""
            why = f"{why}; {self.workers.address} is gone{others}"
        for one in rest:
            self._jobs.remove(one)
            self._sent.pop(one.path, None)
            # What was to be given the result is asked for again once that is done here.
            self._asked.discard(one.name)
            self.workers.drop(one.token)
        self._lose(job.what, why)

    def _lose(self, what: str, why: str) -> None:
        self.lost.append(what)
        self.tell(f"{what} did not come from a worker ({why}); it is done here")


def meet(workers: Workers) -> bool:
    """Make sure that workers come to the same bytes; return whether one may be here.

    Raises:
        UsageError: They have other versions, or another processor.
        TransportError: They do not answer.
    """
    near = False
    here = worker.likeness()
    for data in workers.greet(parcel({"do": worker.HELLO})):
        head, _ = opened(data)
        _check_like(workers.address, _like_of(head), here)
        near = near or head.get("machine") in {"", None, worker.machine()}
    return near


def _like_of(head: dict[str, Any]) -> dict[str, str]:
    like = head.get("like")
    if not isinstance(like, dict):
        raise WireError("a worker does not say what its machine is like", hint=REMEDY)
    return {str(name): str(value) for name, value in like.items()}


def _check_like(address: str, there: dict[str, str], here: dict[str, str]) -> None:
    if there == here:
        return
    hint = "Install the same versions there: what others come to is never mixed in."
    if there.get("processor") != here["processor"]:
        hint = "Start optimize on a machine like the workers: processors round differently."
    raise UsageError(f"the workers of {address} are not like this machine: "
                     f"{_unlike(there, here)}", hint=hint)  # fmt: skip


def _unlike(there: dict[str, str], here: dict[str, str]) -> str:
    return ", ".join(
        f"{name} {there.get(name, 'unknown')} there, {here[name]} here"
        for name in here
        if there.get(name) != here[name]
    )


def _checked(found: Answers, count: int) -> Answers:
    """Return answers that are as many as samples, and numbers, as ours would be."""
    for array in found:
        if array.shape[:1] != (count,):
            raise WireError(
                f"answers of shape {list(array.shape)} to {count} samples", hint=REMEDY
            )
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise WireError("answers that are no numbers", hint=REMEDY)
    if not found:
        raise WireError("no answers", hint=REMEDY)
    return found


def _path(steps: Sequence[Step]) -> _Path:
    return tuple(f"{step.technique} {sorted(step.settings.items())}" for step in steps)
