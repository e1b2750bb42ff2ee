"""How many of the first layers this processor is faster at in floats.

A picture has three channels or one, and the window of a convolution gathers its codes from
each point by itself: 8 bits then take longer than floats, whatever they save later on. How
much longer depends on the processor, the engine and the shape, so it is measured: a model
with its first layers in floats, in turns with one that has none of them.

Ranges decide nothing about time, so a few samples are enough to make them with.
"""

import fnmatch
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import accumulate, takewhile
from pathlib import Path

from edgewright.core import durable
from edgewright.core.errors import QuantizeError
from edgewright.core.evidence import Evidence
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.measure import latency
from edgewright.toolchain.planner.cache import code_of
from edgewright.toolchain.planner.gather import Bench
from edgewright.toolchain.planner.layers import Layer, followers, layers_of
from edgewright.toolchain.planner.ledger import Ledger, Measurement
from edgewright.toolchain.planner.values import Step
from edgewright.toolchain.targets import TARGETS, load_target
from edgewright.toolchain.techniques import load_technique

# More than these have never paid.
_MOST = 3
# A larger share of the weights in floats costs more bytes than time is worth.
_LIGHT = 0.05
_SAMPLES = 8
_BUDGET = latency.Budget(seconds=0.5, max_calls=540, min_calls=108)
_BP = 10_000
# Of two that are as fast as the measurement can tell, the one with fewer floats.
_SAME = 1.02


@dataclass(slots=True)
class Stem:
    """Measures once for every graph.

    Attributes:
        bench: What candidates are measured with.
        ledger: Keeps what was measured.
        target: What to lower to.
        folder: For files that are timed once.
        say: Is told the stage and what is done in it.
        pinned: Layers, by name or pattern, whose form is not ours to choose.
        rest: Called before anything is timed.
    """

    bench: Bench
    ledger: Ledger
    target: str
    folder: Path
    say: Callable[[str, str], None]
    pinned: frozenset[str] = frozenset()
    rest: Callable[[], None] = lambda: None
    _known: dict[str, Mapping[str, str]] = field(default_factory=dict)
    _taken: dict[str, Measurement] = field(default_factory=dict)
    _recorded: set[str] = field(default_factory=set)

    def nodes(self, graph: Graph, step: Step) -> Mapping[str, str]:
        """Return the nodes of ``graph`` to leave in floats by ``step``, with the reason.

        None for a device that is not at hand, whose time nobody can take.
        """
        return self._found(graph, step, record=True)

    def foretold(self, graph: Graph, step: Step) -> Mapping[str, str]:
        """Return the same; what was measured is evidence once ``nodes`` is asked."""
        return self._found(graph, step, record=False)

    def rest_by(self, rest: Callable[[], None]) -> None:
        """Call ``rest`` from now on before anything is timed."""
        self.rest = rest

    def _found(self, graph: Graph, step: Step, *, record: bool) -> Mapping[str, str]:
        layers = layers_of(graph)
        if self.bench.elsewhere is not None or len(layers) < 2:
            return {}
        if not layers[0].operator.startswith("Conv"):
            return {}
        free = takewhile(self._is_free, layers[:-1][:_MOST])
        stems = [_stem(graph, layers, count) for count in range(len(list(free)) + 1)]
        held = list(accumulate(layer.weight_bytes for layer in layers))
        while len(stems) > 1 and held[len(stems) - 2] > _LIGHT * held[-1]:
            stems.pop()
        if len(stems) == 1:
            return {}
        rest = {k: v for k, v in step.settings.items() if k != "skip"}
        about = {
            "graph": graph.digest, "step": {"technique": step.technique, **rest},
            "samples": self.bench.data.sha256, "machine": self.bench.machine,
            "tools": dict(self.bench.tools), "code": code_of(step.technique),
        }  # fmt: skip
        key = repr(sorted(about.items(), key=str))
        step = replace(step, settings=rest)
        if record and key not in self._recorded:
            self._recorded.add(key)
            measured = self.ledger.obtain(
                "stem",
                about,
                lambda: self._taken.pop(key, None) or self._measure(graph, stems, step),
                of=f"{step.technique} {graph.digest[-8:]}",
                observe=lambda what: self.say("measure", what),
            )
            self._known[key] = _chosen(measured, stems)
        elif key not in self._known:
            known = self.ledger.peek("stem", about)
            self._taken[key] = known or self._measure(graph, stems, step)
            self._known[key] = _chosen(self._taken[key], stems)
        return self._known[key]

    def _is_free(self, layer: Layer) -> bool:
        pinned = any(fnmatch.fnmatchcase(layer.name, pin) for pin in self.pinned)
        return layer.operator.startswith("Conv") and not pinned

    def _measure(self, graph: Graph, stems: list[set[str]], step: Step) -> Measurement:
        with ExitStack() as stack:
            sessions = {}
            for count, stem in enumerate(stems):
                entry = self._made(graph, stem, step, self.folder / f"stem-{count}")
                if entry is not None:
                    sessions[str(count)] = self.bench.engine.load(entry)
                    stack.callback(sessions[str(count)].close)
            if "0" not in sessions:
                return Measurement("", "")
            self.rest()
            taken = latency.measure(
                sessions,
                self.bench.data.evaluate,
                baseline="0",
                machine=self.bench.machine,
                budget=_BUDGET,
            )
        ratios = {name: _ratio(found) for name, found in taken.items()}
        return Measurement("", "", figures=ratios)

    def _made(self, graph: Graph, stem: set[str], step: Step, folder: Path) -> Path | None:
        """Write the model with ``stem`` in floats; None where there is none."""
        settings = {**step.settings, **({"skip": ",".join(sorted(stem))} if stem else {})}
        some = self.bench.data.calibrate[:_SAMPLES]
        try:
            made = load_technique(step.technique).apply(graph, settings, some)
        except QuantizeError:
            return None
        for name, data in load_target(self.target).lower(made.graph).items():
            durable.replace_file(folder / name, data)
        return folder / TARGETS[self.target].entry


def _stem(graph: Graph, layers: list[Layer], count: int) -> set[str]:
    """Return the first ``count`` layers with all that is before and right behind them."""
    out = [layer.name for layer in layers[:count]]
    if not out:
        return set()
    found = {*out, *followers(graph, layers, out)}
    wanted: set[str] = set()
    for node in reversed(graph.proto.graph.node):
        if node.name in out or wanted & set(node.output):
            wanted.update(node.input)
            found.add(node.name)
    return found


def _ratio(figures: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    found = next(figure for figure in figures if figure.name == latency.RATIO)
    return (replace(found, how="medians of blocks, over the model with no float layers"),)


def _chosen(measured: Measurement, stems: list[set[str]]) -> Mapping[str, str]:
    best = _best(measured)
    if not best:
        return {}
    (ratio,) = measured.figures[str(best)]
    share = round(ratio.value / (_BP / 100))
    why = f"with the first {best} in floats an answer takes {share} % of the time"
    return dict.fromkeys(sorted(stems[best]), why)


def _best(measured: Measurement) -> int:
    """Return how many first layers make the fastest model; 0 where none surely pays."""
    ratios = {int(count): found[0] for count, found in measured.figures.items()}
    sure = {count: one for count, one in ratios.items() if count and (one.upper or _BP) < _BP}
    if not sure:
        return 0
    least = min(one.value for one in sure.values())
    return min(count for count, one in sure.items() if one.value <= least * _SAME)
