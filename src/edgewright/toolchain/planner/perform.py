"""Make the candidates of a plan: apply, lower, write, and check what was written.

A step that was done before, for another candidate or in a run that was ended, is taken
from the cache: it is named by all that decides its bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from edgewright.core import digest, durable
from edgewright.core.errors import ModelError, QuantizeError
from edgewright.core.tensors import TensorSpec
from edgewright.runtime.engines import Engine
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure import accuracy, parity
from edgewright.toolchain.planner.cache import StepCache
from edgewright.toolchain.planner.steps import Meaning, applied, resolved, tokens_of
from edgewright.toolchain.planner.values import CandidatePlan, DoneStep, Plan, Step
from edgewright.toolchain.targets import TARGETS, load_target
from edgewright.toolchain.techniques import TECHNIQUES, Applied

# Real inputs on which a float candidate is compared with its source.
_PARITY_SAMPLES = 64

# Of weights in graphs that are kept for the next candidate that shares their steps.
_HELD_BYTES = 128 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A candidate on disk.

    Attributes:
        plan: What was decided.
        steps: What was done.
        inputs: What it takes.
        precision: What the bulk of its weights is.
        model: The file the engine is given.
        files: Digest of each file by name.
    """

    plan: CandidatePlan
    steps: tuple[DoneStep, ...]
    inputs: tuple[TensorSpec, ...]
    precision: str
    model: Path
    files: dict[str, str]

    @property
    def sha256(self) -> str:
        """One digest for all its files."""
        return whole(self.files)


@dataclass(slots=True)
class Workshop:
    """Makes candidates into ``folder``, each step once however many share it.

    Attributes:
        plan: What to make.
        source: The user's graph.
        samples: Calibration inputs.
        folder: Gets a folder for each candidate.
        cache: Keeps steps over runs; None to do each anew.
        meanings: Of tokens among the nodes to skip; one there is no meaning for stands
            for nothing.
        helped: Whether somebody works ahead, whose steps come into the cache.
        made: What was made, in order.
        left_out: What was not made, or will not be judged, and why.
    """

    plan: Plan
    source: Graph
    samples: Samples
    folder: Path
    cache: StepCache | None = None
    meanings: Mapping[str, Meaning] = field(default_factory=dict)
    helped: bool = False
    made: list[Made] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    _done: dict[tuple[str, ...], tuple[Graph, DoneStep]] = field(default_factory=dict)
    _given: str = ""

    def make(self, candidate: CandidatePlan) -> Made | None:
        """Return a candidate, or None where ``left_out`` says why there is none."""
        try:
            one = self._one(candidate)
        except QuantizeError as error:
            self.left_out[candidate.name] = str(error)
            return None
        if one is not None:
            self.made.append(one)
        return one

    def drop(self, one: Made, why: str) -> None:
        """Take ``one`` back, which turned out to be of no use."""
        self.made.remove(one)
        self.left_out[one.plan.name] = why

    def check_any(self) -> None:
        """Refuse to go on when nothing that may be chosen could be made.

        Raises:
            QuantizeError: With the reason of each.
        """
        if any(one.plan.choosable for one in self.made):
            return
        reasons = "; ".join(f"{name}: {why}" for name, why in self.left_out.items())
        raise QuantizeError(
            f"no candidate could be made: {reasons}",
            hint="Ask for --quantization auto, or look at what the model consists of.",
        )

    def build(
        self, steps: Sequence[Step], *, keep: int | None = None
    ) -> tuple[Graph, list[DoneStep]]:
        """Return the graph after ``steps``, and what they did.

        Args:
            steps: What to do, in order.
            keep: How many of them others share; what comes after is kept nowhere, and its
                bytes are not looked at. All when None.

        Raises:
            QuantizeError: One of them cannot be done.
        """
        graph, done = self.source, []
        path: tuple[str, ...] = ()
        for place, asked in enumerate(steps):
            step, why = resolved(graph, asked, self.samples, self._told)
            if keep is not None and place >= keep:
                result = self._apply(graph, step, store=False)
                graph = result.graph
                done.append(_did(step, result, 0))
                continue
            path = (*path, _named(step))
            graph, what = self._step(path, graph, step)
            done.append(replace(what, notes=(*what.notes, *why)) if what.applied else what)
        return graph, done

    def sendable(self, graph: Graph | None, step: Step) -> Step | None:
        """Return ``step`` as it may be done elsewhere, None where that cannot be told yet.

        Args:
            graph: What it is done to, where that is here.
            step: As it was planned.
        """
        if not tokens_of(step) & set(self.meanings):
            return step
        if graph is None:
            return None
        return resolved(graph, step, self.samples, self._foretold)[0]

    def _told(self, graph: Graph, step: Step, token: str) -> Mapping[str, str]:
        return self.meanings[token].nodes(graph, step) if token in self.meanings else {}

    def _foretold(self, graph: Graph, step: Step, token: str) -> Mapping[str, str]:
        return self.meanings[token].foretold(graph, step) if token in self.meanings else {}

    def reached(self, steps: Sequence[Step]) -> tuple[Graph, int]:
        """Return the graph after as many of ``steps`` as were done before, and how many.

        Raises:
            UsageError: One of them names a layer that there is not.
        """
        graph, path = self.source, cast("tuple[str, ...]", ())
        for count, asked in enumerate(steps):
            step, _ = resolved(graph, asked, self.samples, self._foretold)
            path = (*path, _named(step))
            if path not in self._done:
                known = self.cache and self.cache.get(self._key(graph, step))
                if not known:
                    return graph, count
                self._note(path, step, known)
            graph = self._done[path][0]
        return graph, len(steps)

    def files(self, graph: Graph) -> str:
        """Return one digest for the files of a graph, as ``Made.sha256`` is."""
        files = load_target(self.plan.target).lower(graph)
        return whole({name: digest.of_bytes(data) for name, data in files.items()})

    def _one(self, candidate: CandidatePlan) -> Made | None:
        graph, done = self.build(candidate.steps)
        if done and not any(step.applied for step in done):
            self.left_out[candidate.name] = done[-1].notes[0]
            return None
        files = load_target(self.plan.target).lower(graph)
        digests = {name: digest.of_bytes(data) for name, data in files.items()}
        twin = next((other for other in self.made if other.files == digests), None)
        if twin is not None:
            self.left_out[candidate.name] = f"came out as the same files as {twin.plan.name}"
            return None
        folder = self.folder / candidate.name
        for name, data in files.items():
            durable.replace_file(folder / name, data)
        entry = folder / TARGETS[self.plan.target].entry
        return Made(candidate, tuple(done), graph.inputs, graph.precision, entry, digests)

    def _size(self, graph: Graph) -> int:
        """Return the bytes of the files of a graph; 0 where it has to be worked on first."""
        target = load_target(self.plan.target)
        if target.unsupported(graph):
            return 0
        return sum(map(len, target.lower(graph).values()))

    def _step(self, path: tuple[str, ...], graph: Graph, step: Step) -> tuple[Graph, DoneStep]:
        """Apply one step, or take what came of it for another candidate."""
        if path in self._done:
            # Put last, so that what nobody asks for goes first.
            self._done[path] = self._done.pop(path)
        else:
            self._note(path, step, self._apply(graph, step))
        return self._done[path]

    def _note(self, path: tuple[str, ...], step: Step, result: Applied) -> None:
        size = self._size(result.graph) if result.changed else 0
        self._done[path] = (result.graph, _did(step, result, size))
        self._forget()

    def _forget(self) -> None:
        """Keep no more graphs in memory than the budget; the cache has them all."""
        held = {path: graph.weight_bytes for path, (graph, _) in self._done.items()}
        total = sum(held.values())
        for path in list(held)[:-1]:
            if total <= _HELD_BYTES:
                return
            del self._done[path]
            total -= held[path]

    def _apply(self, graph: Graph, step: Step, *, store: bool = True) -> Applied:
        key = ""
        # What is kept nowhere may still have been done elsewhere.
        if self.cache is not None and (store or self.helped):
            key = self._key(graph, step)
            if (known := self.cache.get(key)) is not None:
                return known
        try:
            result = applied(graph, step, self.samples)
        except QuantizeError:
            raise
        except ModelError as error:
            # A float step that a graph does not allow is left out by name; the steps
            # after it are still worth trying.
            return Applied(graph, changed=False, notes=(str(error),))
        if self.cache is not None and store:
            self.cache.put(key, result)
        return result

    def _key(self, graph: Graph, step: Step) -> str:
        calibrates = TECHNIQUES[step.technique].needs_samples(step.settings)
        samples = self._samples_digest() if calibrates else ""
        return self.cache.key(graph, step, samples) if self.cache else ""

    def _samples_digest(self) -> str:
        if not self._given:
            self._given = self.samples.digest
        return self._given


def whole(files: Mapping[str, str]) -> str:
    """Return one digest for files, given the digest of each by name."""
    listed = "\n".join(f"{name} {files[name]}" for name in sorted(files))
    return digest.of_bytes(listed.encode())


def _did(step: Step, result: Applied, size: int) -> DoneStep:
    return DoneStep(
        step.technique, step.settings, step.reason, result.changed, result.notes, size
    )


def check_float(one: Made, engine: Engine, source: Path, samples: Samples) -> None:
    """Compare a candidate that should answer exactly like the source with it.

    Args:
        one: The candidate; where its weights are rounded, accuracy judges it instead.
        engine: What runs both.
        source: The file as the user gave it.
        samples: Real inputs.

    Raises:
        ParityError: The written model answers differently.
    """
    if any(not TECHNIQUES[step.technique].exact for step in one.steps):
        return
    some = samples[:_PARITY_SAMPLES]
    expected = accuracy.answers(engine, source, some)
    answered = accuracy.answers(engine, one.model, some)
    parity.check_parity(expected, answered, one.plan.name)


def _named(step: Step) -> str:
    return f"{step.technique} {sorted(step.settings.items())}"
