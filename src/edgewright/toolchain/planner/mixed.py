"""Mixed precision: which layers an 8-bit candidate loses its answers by, and what helps.

Where a candidate that computes in 8 bits misses the contract by its answers only, a few
layers are mostly to blame. They are found on calibration inputs, by how far the answers
drift from the float model's, which tells more of a layer than a count of wrong answers:

1. ``layers.estimate`` ranks all layers by one run of the float graph;
2. the first ten of them, by error for what they cost in time, are taken out one by one;
3. in the order of what that gained, the shortest head of the list is found by halving that
   brings the drift to what the contract leaves room for.

A layer that is taken out keeps int8 weights and computes with floats; only where that does
not help enough its weights stay floats too. The candidate is then judged like any other.
"""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core import canonical, digest
from edgewright.core.errors import EngineError, ModelError
from edgewright.core.evidence import Evidence
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.measure import accuracy
from edgewright.toolchain.measure.accuracy import Answers
from edgewright.toolchain.planner.gather import Bench
from edgewright.toolchain.planner.layers import (
    Layer,
    Local,
    ends_of,
    estimate,
    followers,
    layers_of,
)
from edgewright.toolchain.planner.ledger import Ledger, Measurement
from edgewright.toolchain.planner.perform import Made, Workshop, whole
from edgewright.toolchain.planner.values import CandidatePlan, LayerReport, Step
from edgewright.toolchain.targets import TARGETS, load_target

# Graphs that may be asked before a candidate is tried.
PROBES = 20
COMPUTES = frozenset({"quantize", "dynamic"})
FLOAT, STORED, WHOLE = "float", "int8-weights", "int8"

_PROBED = 128
_MICRO = 1_000_000
# Smaller weights are not worth the nodes that unfold them.
_STORED_FROM = 1024


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate that was put together layer by layer.

    Attributes:
        plan: What to make.
        layers: What became of each layer, and why.
        drift: How far its answers are from the float model's, 0 and up.
    """

    plan: CandidatePlan
    layers: tuple[LayerReport, ...]
    drift: float


@dataclass(slots=True)
class Mixer:
    """Looks for the layers to take out of one candidate.

    Attributes:
        base: A candidate whose last step computes in 8 bits.
        workshop: Makes graphs.
        bench: Has the engine and calibration inputs.
        ledger: Keeps what was measured.
        source: The float candidate.
        folder: For files that are asked once.
        pinned: Layers that stay as they are.
        evaluations: How many graphs were asked.
    """

    base: CandidatePlan
    workshop: Workshop
    bench: Bench
    ledger: Ledger
    source: Made
    folder: Path
    pinned: frozenset[str] = frozenset()
    evaluations: int = 0
    _layers: list[Layer] = field(default_factory=list)
    _local: dict[str, Local] = field(default_factory=dict)
    _order: list[str] = field(default_factory=list)
    _alone: dict[str, float] = field(default_factory=dict)
    _seen: dict[tuple[frozenset[str], str], float] = field(default_factory=dict)
    _reference: Answers | None = None
    _whole: float = 0.0

    def prepare(self) -> float:
        """Rank the layers; return how far the base drifts.

        Raises:
            QuantizeError: The base cannot be made any more.
        """
        graph = self._begin()
        ends = ends_of(graph, self._layers)
        ranked = [layer.name for layer in self._layers]
        ranked.sort(key=lambda name: (name not in ends, -self._local[name].error))
        names = {layer.name for layer in self._layers}
        probed = ranked[: max(PROBES - self.evaluations - self._reserve(), 1)]
        self._ask_ahead([self._plan(tuple(names - {name}), FLOAT) for name in probed])
        for name in probed:
            apart = self._drift(tuple(names - {name}), FLOAT)
            if apart == inf:  # a table that only others' rounding has a place for
                apart = self._whole - self._drift((name,), STORED)
            self._alone[name] = max(apart, 0.0)
        self._order = sorted(ranked, key=self._worst_first)
        return self._whole

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What can be taken out, in the order of the graph; known once it is prepared."""
        return tuple(self._layers)

    def alone(self) -> dict[str, float]:
        """Return how far each layer alone moves the answers, or is expected to."""
        return {layer.name: self._expected(layer.name) for layer in self._layers}

    def find(self, target: float, name: str) -> Found | None:
        """Return the candidate with the fewest layers out whose drift is within ``target``.

        None where even all layers out do not bring it there.
        """
        for kept in (STORED, FLOAT):
            count = self._shortest(target, kept)
            if count is not None:
                out = tuple(self._order[:count])
                plan = replace(self._plan(out, kept), name=name)
                return Found(plan, self._reports(out, kept), self._drift(out, kept))
        return None

    def _begin(self) -> Graph:
        """Look at the layers and the base; return the graph it is made from."""
        graph = self._before()
        # Convolutions are floats in what is quantized anew in every run.
        dynamic = self.base.steps[-1].technique == "dynamic"
        self._layers = [
            layer
            for layer in layers_of(graph)
            if not any(fnmatch.fnmatchcase(layer.name, pin) for pin in self.pinned)
            and not (dynamic and layer.operator.startswith("Conv"))
        ]
        self._local = estimate(graph, self._layers, self._probed())
        self._whole = self._drift((), STORED)
        return graph

    def _reserve(self) -> int:
        """Return how many probes finding the shortest head may take, in both forms."""
        return 2 + max(len(self._layers) - 2, 0).bit_length()

    def _worst_first(self, name: str) -> float:
        """Return what to sort by: what a layer does alone, or is expected to, for its cost.

        The cost in time is one and the share of the multiplications: a layer that is all of
        the work is taken out as early as one that does half as much to the answers.
        """
        return -self._expected(name) / (1 + self._local[name].work)

    def _expected(self, name: str) -> float:
        """Return how far a layer alone moves the answers, measured or told by the others."""
        if name in self._alone:
            return self._alone[name]
        known = [(one, self._local[other].error) for other, one in self._alone.items()]
        times = [one / error for one, error in known if error]
        return self._local[name].error * (median(times) if times else 1.0)

    def _shortest(self, target: float, kept: str) -> int | None:
        # All layers out is no 8-bit candidate any more.
        low, high = 1, len(self._order) - 1
        least = inf
        while high >= low and least == inf:
            least = self._drift(self._order[:high], kept)
            high -= least == inf
        if high < low or least > target:
            return None
        while low < high:
            middle = (low + high) // 2
            if self._drift(self._order[:middle], kept) <= target:
                high = middle
            else:
                low = middle + 1
        return high

    def _plan(self, out: Sequence[str], kept: str) -> CandidatePlan:
        *before, last = self.base.steps
        if not out:
            return self.base
        already = filter(None, last.settings.get("skip", "").split(","))
        around = followers(self._before(), self._layers, out)
        held = ",".join(sorted({*already, *out, *around}))
        names = ", ".join(out)
        steps = [
            *before,
            replace(
                last,
                settings={**last.settings, "skip": held},
                reason=f"{last.reason}; not in {names}, which lose most answers",
            ),
        ]
        large = {one.name for one in self._layers if one.weight_bytes >= _STORED_FROM}
        stored = sorted(large & set(out))
        if kept == STORED and stored:
            steps.append(
                Step(
                    "weights",
                    {"form": "int8", "block": "channel", "only": ",".join(stored)},
                    "layers that compute with floats need not be stored as floats",
                )
            )
        return replace(self.base, name=f"{self.base.name} without {names}", steps=tuple(steps))

    def _before(self) -> Graph:
        """Return the graph that the 8-bit step is given."""
        return self.workshop.build(self.base.steps[:-1])[0]

    def _drift(self, out: Sequence[str], kept: str) -> float:
        """Return how far answers are without ``out``; infinite if there are none."""
        known = (frozenset(out), kept)
        if known not in self._seen:
            self._seen[known] = self._asked(self._plan(out, kept))
        return self._seen[known]

    def _asked(self, plan: CandidatePlan) -> float:
        """Return how far answers are from the float model's; infinite if there are none."""
        self.evaluations += 1
        about = self._about(plan)
        try:
            measured = self.ledger.obtain(
                "drift",
                about,
                lambda: self._measure(plan),
                of=f"{self.base.name} {digest.of_bytes(canonical.encode(about))[-8:]}",
                observe=lambda _: None,
            )
        except (EngineError, ModelError):  # it cannot be made, or not be run
            self.evaluations -= 1
            return inf
        (figure,) = measured.figures["probe"]
        return figure.value / _MICRO

    def _about(self, plan: CandidatePlan) -> dict[str, object]:
        steps = [[one.technique, dict(one.settings)] for one in plan.steps]
        return {
            "models": {"probe": digest.of_bytes(canonical.encode({"steps": steps}))},
            "baseline": self.source.sha256,
            "samples": self.bench.data.calibrate.digest, "machine": self.bench.machine,
            "tools": dict(self.bench.tools),
        }  # fmt: skip

    def _ask_ahead(self, plans: Sequence[CandidatePlan]) -> None:
        fresh = [plan for plan in plans if not self.ledger.known("drift", self._about(plan))]
        self.bench.ahead.probe(fresh, _PROBED)

    def _measure(self, plan: CandidatePlan) -> Measurement:
        self.bench.ahead.bring(plan)
        graph, _ = self.workshop.build(plan.steps, keep=len(self.base.steps) - 1)
        self.folder.mkdir(parents=True, exist_ok=True)
        files = load_target(self.workshop.plan.target).lower(graph)
        sha256 = whole({name: digest.of_bytes(data) for name, data in files.items()})
        for name, data in files.items():
            # Asked once and replaced by the next: it need not outlast a loss of power.
            (self.folder / name).write_bytes(data)
        del graph, files
        entry = self.folder / TARGETS[self.workshop.plan.target].entry
        some = self._probed()
        if self._reference is None:
            self._reference = accuracy.answers(self.bench.engine, self.source.model, some)
        answered = self.bench.ahead.answers(sha256, some)
        if answered is None:
            answered = accuracy.answers(self.bench.engine, entry, some)
        apart = drift(self._reference, answered)
        figure = Evidence(
            "drift_micro", round(apart * _MICRO), len(some), self.bench.machine,
            "measured on host", how="mean distance over mean size, calibration inputs",
        )  # fmt: skip
        return Measurement("", "", figures={"probe": (figure,)})

    def _probed(self) -> Any:
        return self.bench.data.calibrate[:_PROBED]

    def _reports(self, out: Sequence[str], kept: str) -> tuple[LayerReport, ...]:
        return tuple(self._report(layer, out, kept) for layer in self._layers)

    def _report(self, layer: Layer, out: Sequence[str], kept: str) -> LayerReport:
        alone = self._alone.get(layer.name)
        share = 0.0 if alone is None or not self._whole else alone / self._whole
        form, why = WHOLE, f"alone it makes {share:.0%} of the drift"
        if layer.name in out:
            form = kept if layer.weight_bytes >= _STORED_FROM else FLOAT
        if alone is None:
            why = "it was not measured; the estimate puts it here"
        moved = self._local[layer.name].error if alone is None else alone
        return LayerReport(
            layer.name, layer.operator, layer.weight_bytes, round(moved * _MICRO), form, why
        )


def drift(reference: Answers, answered: Answers) -> float:
    """Return the mean distance over the mean size, of the output worst off.

    What is infinite in one of the two only is as far away as answers are large.
    """
    return max(_drift(*pair) for pair in zip(reference, answered, strict=True))


def _drift(reference: npt.NDArray[Any], answered: npt.NDArray[Any]) -> float:
    one, other = (array.astype(np.float64) for array in (reference, answered))
    both = np.isfinite(one) & np.isfinite(other)
    alike = both | ((one == other) | (np.isnan(one) & np.isnan(other)))
    size = float(np.abs(one[both]).mean()) if both.any() else 0.0
    apart = float(np.abs(one[both] - other[both]).mean()) if both.any() else 0.0
    return (apart / size if size else apart) + float((~alike).mean())
