"""The search: what it asks, and how good what it finds is beside looking at everything.

Mixed precision is compared with leaving out every layer one by one: both have the same
8-bit candidate to start from, the same drift to reach, and the same ladder, weights stored
in 8 bits first and floats after it. What both find costs bytes and time; time is measured in
turns. What counts as an evaluation is one graph that samples are run through: probes of
calibration inputs, and the one candidate that comes out on all evaluation samples.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from benchmarks.peers import mobilenet_v2
from benchmarks.peers.results import Row, row
from benchmarks.suite import ROWS

from edgewright.core import durable
from edgewright.core.errors import QuantizeError
from edgewright.runtime.engines import load_engine
from edgewright.toolchain.measure import accuracy, latency, metrics
from edgewright.toolchain.measure.latency import RATIO
from edgewright.toolchain.planner import inputs
from edgewright.toolchain.planner.gather import Bench
from edgewright.toolchain.planner.inputs import Inputs, Order
from edgewright.toolchain.planner.ledger import Ledger
from edgewright.toolchain.planner.mixed import COMPUTES, STORED, WHOLE, Found, Mixer
from edgewright.toolchain.planner.perform import Workshop
from edgewright.toolchain.planner.values import CandidatePlan
from edgewright.toolchain.targets import load_target

EVALUATIONS, WORSE = 21, 1.10
# Shares of the base's drift that are to be reached.
ROOMS = (0.7, 0.35, 0.15)
_BP = 10_000
_QUICK = frozenset({"mobilenet", "transformer", "unet"})
_SAMPLES, _LARGE_SAMPLES = 128, 32

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model with samples: the first half to look on, the rest to time with."""

    name: str
    model: Path
    samples: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one search came to for one drift.

    Attributes:
        evaluations: Graphs that were asked, the candidate that came out included.
        found: None where no number of layers in floats reaches the drift.
        folder: The files of what was found.
        bytes: Of them.
        floats: The share of multiplications that is computed in floats.
    """

    evaluations: int
    found: Found | None
    folder: Path
    bytes: int = 0
    floats: float = 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    """Both searches for one drift.

    Attributes:
        name: The model, what was started from, and the share of its drift to reach.
        layers: How many there are.
        ours: What the product found.
        all_of_them: What leaving out every layer found.
        slower: How many times as long an answer of ours takes; None where one found nothing.
    """

    name: str
    layers: int
    ours: Outcome
    all_of_them: Outcome
    slower: float | None


class Mine(Mixer):
    """The product's search, with what its answer costs."""

    def outcome(self, target: float, before: int) -> Outcome:
        """Return what is found for ``target``; ``prepare`` asked ``before``."""
        asked = self.evaluations
        found = self.find(target, "found")
        spent = before + self.evaluations - asked
        if found is None:
            return Outcome(spent, None, self.folder)
        graph, _ = self.workshop.build(found.plan.steps)
        place = self.workshop.folder / f"{target:.6f}"
        for name, data in load_target(self.workshop.plan.target).lower(graph).items():
            durable.replace_file(place / name, data)
        return Outcome(spent + 1, found, place, _bytes(place), self._floats(found))

    def _floats(self, found: Found) -> float:
        return sum(self._local[one.name].work for one in found.layers if one.form != WHOLE)


class LeaveOneOut(Mine):
    """Every layer is taken out by itself, and they are ordered by what that gains."""

    def prepare(self) -> float:
        """Measure every layer; return how far the base drifts."""
        self._begin()
        without = {layer.name: self._drift((layer.name,), STORED) for layer in self._layers}
        self._order = sorted(without, key=without.__getitem__)
        return self._whole


def measure(*, quick: bool) -> list[Row]:
    """Return every row of this area."""
    pairs = []
    for subject in subjects(quick=quick):
        for pair in compare(subject):
            print(_line(pair), file=sys.stderr, flush=True)
            pairs.append(pair)
    return [*summary(pairs), *(_row(pair) for pair in pairs)]


def subjects(*, quick: bool) -> Iterator[Subject]:
    """Yield the suite, then a deep model: 53 layers to leave out, one by one."""
    for held in ROWS:
        if quick and held.name not in _QUICK:
            continue
        some = {k: v[: 2 * _SAMPLES] for k, v in held.samples("calibrate").inputs.items()}
        yield Subject(held.name, held.model, some)
    if quick:
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mobilenet-v2.onnx"
        mobilenet_v2.build(path)
        shape = (2 * _LARGE_SAMPLES, 3, mobilenet_v2.SIDE, mobilenet_v2.SIDE)
        pictures = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
        yield Subject("mobilenet-v2", path, {"image": pictures})


def compare(subject: Subject) -> Iterator[Pair]:
    """Yield both searches from every 8-bit candidate of ``subject``, for every drift."""
    with TemporaryDirectory(prefix="search-") as folder:
        work = Path(folder)
        given = _given(subject, work)
        for base in given.plan.candidates:
            if base.steps and base.steps[-1].technique in COMPUTES:
                yield from _of_base(subject, given, base, work / base.name)


def _of_base(
    subject: Subject, given: Inputs, base: CandidatePlan, work: Path
) -> Iterator[Pair]:
    mine, all_of_them = (
        kind(base, *_bench(given, work / kind.__name__), work / kind.__name__ / "probe")
        for kind in (Mine, LeaveOneOut)
    )
    try:
        whole = mine.prepare()
        all_of_them.prepare()
    except QuantizeError as error:
        print(f"{subject.name}, {base.name}: {error}", file=sys.stderr)
        return
    before, theirs = mine.evaluations, all_of_them.evaluations
    for room in ROOMS:
        one = mine.outcome(whole * room, before)
        other = all_of_them.outcome(whole * room, theirs)
        name = f"{subject.name}, {base.name} to {room:.0%} of its drift"
        yield Pair(name, len(mine.layers), one, other, _slower(one, other, given))


def _given(subject: Subject, work: Path) -> Inputs:
    arrays = {}
    for name, array in subject.samples.items():
        half = len(array) // 2
        arrays |= {f"calibrate_{name}": array[:half], f"evaluate_{name}": array[half:]}
    np.savez(work / "data.npz", **arrays)
    order = Order(subject.model, work / "data.npz", quantization="int8", out=work / "out")
    return inputs.read(order)


def _bench(given: Inputs, work: Path) -> tuple[Workshop, Bench, Ledger, Any]:
    """Return what a search works with, and the float model."""
    workshop = Workshop(given.plan, given.graph, given.data.calibrate, work / "made")
    source = workshop.make(given.plan.candidates[0])
    engine = load_engine(given.plan.engine)
    asked = accuracy.answers(engine, given.reference, given.data.evaluate)
    bench = Bench(
        engine=engine,
        data=given.data,
        metric=metrics.make(given.recipe.metric, given.data, given.graph.outputs, asked),
        metric_name=given.recipe.metric,
        reference_sha256=given.recipe.reference_sha256,
        machine=given.host.fingerprint,
        tools=given.recipe.tools,
        budget=latency.Budget(),
    )
    return workshop, bench, Ledger(folder=work / "evidence"), source


def _slower(one: Outcome, other: Outcome, given: Inputs) -> float | None:
    if one.found is None or other.found is None:
        return None
    if _digests(one.folder) == _digests(other.folder):
        return 1.0
    engine = load_engine(given.plan.engine)
    with ExitStack() as stack:
        sessions = {}
        for name, outcome in (("all", other), ("ours", one)):
            sessions[name] = engine.load(outcome.folder / "model.onnx")
            stack.callback(sessions[name].close)
        figures = latency.measure(
            sessions, given.data.evaluate, baseline="all", machine="here",
            budget=latency.Budget(2.0),
        )  # fmt: skip
    return next(e.value for e in figures["ours"] if e.name == RATIO) / _BP


def _digests(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def summary(pairs: list[Pair]) -> list[Row]:
    """Return what the goals come to over all pairs in which both found something."""
    both = [pair for pair in pairs if pair.slower is not None]
    asked = [pair.ours.evaluations for pair in pairs]
    theirs = [pair.all_of_them.evaluations for pair in pairs]
    sizes = [pair.ours.bytes / pair.all_of_them.bytes for pair in both]
    slower = [pair.slower for pair in both if pair.slower is not None]
    only = [
        sum(one.found is not None and other.found is None for one, other in found)
        for found in (
            [(p.ours, p.all_of_them) for p in pairs],
            [(p.all_of_them, p.ours) for p in pairs],
        )
    ]
    within = (
        sum(max(size, slow) <= WORSE for size, slow in zip(sizes, slower, strict=True))
        + only[0]
    )
    return [
        _over("mixed precision: evaluations", asked, "graphs", max(asked) <= EVALUATIONS,
              goal=f"<= {EVALUATIONS}", peers={"leave-one-out of all layers": max(theirs)}),
        _over("mixed precision: bytes beside leave-one-out", sizes, "x",
              max(sizes) <= WORSE, goal=f"<= {WORSE}"),
        _over("mixed precision: latency beside leave-one-out", slower, "x",
              max(slower) <= WORSE, goal=f"<= {WORSE}"),
        row("mixed precision: reached within a tenth of leave-one-out's bytes and time",
            within, "searches", goal=f"{len(both) + sum(only)}",
            met=within == len(both) + sum(only), n=len(pairs),
            spread=f"{only[0]} reached by ours alone, {only[1]} by leave-one-out alone, "
            f"{len(pairs) - len(both) - sum(only)} by neither"),
    ]  # fmt: skip


def _over(
    name: str,
    values: list[float] | list[int],
    unit: str,
    met: bool,  # noqa: FBT001  what the goal came to
    *,
    goal: str,
    peers: dict[str, float] | None = None,
) -> Row:
    """Return a row with the worst of ``values``, which the goal is about."""
    spread = f"{min(values):.3g} to {max(values):.3g}, median {median(values):.3g}"
    return row(
        f"{name}, worst", max(values), unit, goal=goal, met=met, peers=peers, spread=spread,
        n=len(values),
    )  # fmt: skip


def _row(pair: Pair) -> Row:
    """Return the row of one pair, with everything known of it."""
    figures = {
        name: {
            "evaluations": one.evaluations,
            "found": one.found is not None,
            "bytes": one.bytes,
            "floats": round(one.floats, 4),
            "out": 0 if one.found is None else _out(one.found),
        }
        for name, one in (("ours", pair.ours), ("all", pair.all_of_them))
    }
    return row(
        pair.name, pair.ours.evaluations, "graphs", goal=f"<= {EVALUATIONS}",
        met=pair.ours.evaluations <= EVALUATIONS,
        peers={"leave-one-out of all layers": pair.all_of_them.evaluations},
        spread=_said(pair), layers=pair.layers, latency=pair.slower, **figures,
    )  # fmt: skip


def _out(found: Found) -> int:
    return sum(one.form != WHOLE for one in found.layers)


def _said(pair: Pair) -> str:
    if pair.slower is None:
        who = [n for n, o in (("ours", pair.ours), ("all", pair.all_of_them)) if o.found]
        return f"reached by {who[0] if who else 'neither'}"
    more = pair.ours.bytes / pair.all_of_them.bytes
    return f"{more:.3f} x the bytes, {pair.slower:.3f} x the time of leave-one-out"


def _line(pair: Pair) -> str:
    outs = [o.found and _out(o.found) for o in (pair.ours, pair.all_of_them)]
    return (
        f"{pair.name}: {pair.ours.evaluations} / {pair.all_of_them.evaluations} graphs, "
        f"{outs[0]} / {outs[1]} of {pair.layers} layers, {pair.ours.floats:.1%} / "
        f"{pair.all_of_them.floats:.1%} of the work in floats, {_said(pair)}"
    )
