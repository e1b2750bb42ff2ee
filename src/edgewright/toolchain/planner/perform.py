"""Make the candidates of a plan: apply, lower, write, and check what was written.

A step that was done before, for another candidate or in a run that was ended, is taken
from the cache: it is named by all that decides its bytes.
"""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgewright.core import digest, durable
from edgewright.core.errors import ModelError, QuantizeError, UsageError
from edgewright.core.records import nearest
from edgewright.core.tensors import TensorSpec
from edgewright.runtime.engines import Engine
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure import accuracy, parity
from edgewright.toolchain.planner.cache import StepCache
from edgewright.toolchain.planner.layers import layers_of
from edgewright.toolchain.planner.patterns import known_bad
from edgewright.toolchain.planner.plan import KNOWN_BAD
from edgewright.toolchain.planner.values import CandidatePlan, DoneStep, Plan, Step
from edgewright.toolchain.targets import TARGETS, load_target
from edgewright.toolchain.techniques import TECHNIQUES, Applied, load_technique

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
        listed = "\n".join(f"{name} {self.files[name]}" for name in sorted(self.files))
        return digest.of_bytes(listed.encode())


@dataclass(slots=True)
class Workshop:
    """Makes candidates into ``folder``, each step once however many share it.

    Attributes:
        plan: What to make.
        source: The user's graph.
        samples: Calibration inputs.
        folder: Gets a folder for each candidate.
        cache: Keeps steps over runs; None to do each anew.
        made: What was made, in order.
        left_out: What was not made, and why.
    """

    plan: Plan
    source: Graph
    samples: Samples
    folder: Path
    cache: StepCache | None = None
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
            step = self._resolved(graph, asked)
            if keep is not None and place >= keep:
                result = self._apply(graph, step, None)
                graph = result.graph
                done.append(_did(step, result, 0))
                continue
            path = (*path, f"{step.technique} {sorted(step.settings.items())}")
            graph, what = self._step(path, graph, step)
            done.append(what)
        return graph, done

    def _resolved(self, graph: Graph, step: Step) -> Step:
        """Return ``step`` with the nodes that tokens and patterns stand for."""
        settings = dict(step.settings)
        for key in ("skip", "only"):
            tokens = [token for token in settings.get(key, "").split(",") if token]
            if not tokens:
                continue
            found: set[str] = set()
            for token in tokens:
                found |= self._meant(graph, token)
            settings[key] = ",".join(sorted(found))
        if not settings.get("skip", "yes"):
            del settings["skip"]
        return replace(step, settings=settings)

    def _meant(self, graph: Graph, token: str) -> set[str]:
        if token == KNOWN_BAD:
            return set(known_bad(graph, self.samples))
        if not set(token) & set("*?["):
            return {token}
        names = {node.name for node in graph.proto.graph.node}
        found = set(fnmatch.filter(names, token))
        if not found:
            layers = [layer.name for layer in layers_of(graph)]
            raise UsageError(f"no layer is called like {token!r}", hint=nearest(token, layers))
        return found

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
            result = self._apply(graph, step, self.cache)
            size = self._size(result.graph) if result.changed else 0
            self._done[path] = (result.graph, _did(step, result, size))
            self._forget()
        return self._done[path]

    def _forget(self) -> None:
        """Keep no more graphs in memory than the budget; the cache has them all."""
        held = {path: graph.weight_bytes for path, (graph, _) in self._done.items()}
        total = sum(held.values())
        for path in list(held)[:-1]:
            if total <= _HELD_BYTES:
                return
            del self._done[path]
            total -= held[path]

    def _apply(self, graph: Graph, step: Step, cache: StepCache | None) -> Applied:
        calibrates = TECHNIQUES[step.technique].needs_samples(step.settings)
        key = ""
        if cache is not None:
            samples = self._samples_digest() if calibrates else ""
            key = cache.key(graph, step, samples)
            if (known := cache.get(key)) is not None:
                return known
        technique = load_technique(step.technique)
        try:
            result = technique.apply(
                graph, step.settings, self.samples if calibrates else None
            )
        except QuantizeError:
            raise
        except ModelError as error:
            # A float step that a graph does not allow is left out by name; the steps
            # after it are still worth trying.
            return Applied(graph, changed=False, notes=(str(error),))
        if cache is not None:
            cache.put(key, result)
        return result

    def _samples_digest(self) -> str:
        if not self._given:
            self._given = self.samples.digest
        return self._given


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
