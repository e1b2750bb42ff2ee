"""A short look at a candidate: what it costs, and whether it may hold the answers asked for.

Where only answers are limited the cheapest candidate that holds is looked for. What one
costs is told without its answers, by its bytes and a short run in turns with the float model;
so candidates are asked all evaluation samples in the order of what they cost, until one
holds. One that surely misses already on a few of those samples is not asked the others, and
one that will hardly hold only if it costs less than half of what does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, sqrt

import numpy as np

from edgewright.core.contract import Outcome
from edgewright.core.errors import DataError, ModelError
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure import accuracy, latency, metrics, sizes
from edgewright.toolchain.measure.accuracy import Answers
from edgewright.toolchain.measure.data import Dataset
from edgewright.toolchain.measure.metrics import Metric
from edgewright.toolchain.planner.decide import (
    Known,
    Rules,
    objective,
    slower,
    verdict_on,
)
from edgewright.toolchain.planner.gather import Bench, about, against, in_turns
from edgewright.toolchain.planner.ledger import Ledger, Measurement
from edgewright.toolchain.planner.perform import Made
from edgewright.toolchain.planner.values import CandidatePlan, Price, Step

# Limits on answers.
ANSWERS = frozenset({"accuracy_drop", "worst_class_drop", "retention"})

_FEW, _SHARE, _SEED = 256, 8, 0
_BP = 10_000
# What will hardly hold is asked only if it costs less than half of what does.
_DOUBTED = 2
# Costs that are closer than this are alike: two short runs of one file are up to 2 % apart.
_ALIKE = 1.02
# Of the width of a one-sided 95 % bound: the estimate is further off in one of three draws.
_ONE_OF_THREE = 0.26
_BUDGET = latency.Budget(seconds=0.3, max_calls=306, min_calls=54)


@dataclass(frozen=True, slots=True, eq=False)
class Glance:
    """Some of the evaluation samples, and what compares answers to them.

    Attributes:
        samples: An eighth of them, or 256, drawn.
        metric: Knows the reference's answers to these.
    """

    samples: Samples
    metric: Metric


def few(
    name: str, data: Dataset, outputs: tuple[TensorSpec, ...], reference: Answers
) -> Glance | None:
    """Return what a glance is taken with; None where that were no less than all samples.

    Args:
        name: The metric, as it was asked for.
        data: What candidates are judged by.
        outputs: What the model answers.
        reference: The reference's answers to all evaluation samples.
    """
    size = len(data.evaluate)
    count = max(_FEW, size // _SHARE)
    # A function of one's own may not be fit for some of the samples, and says so in its way.
    if 2 * count > size or metrics.parse(name)[0].name == metrics.OWN:
        return None
    # Drawn, not every eighth: samples may stand in the order of their classes.
    draw = np.random.default_rng(_SEED).choice(size, count, replace=False)
    draw = np.sort(draw).astype(np.int64)
    some = replace(
        data,
        evaluate=data.evaluate[draw],
        labels=None if data.labels is None else data.labels[draw],
        targets=None if data.targets is None else data.targets[draw],
        boxes=None if data.boxes is None else data.boxes[draw],
    )
    try:
        metric = metrics.make(name, some, outputs, tuple(array[draw] for array in reference))
    except (DataError, ModelError):  # a class of which none were drawn
        return None
    return Glance(some.evaluate, metric)


@dataclass(slots=True)
class Prices:
    """What candidates cost, and what a glance says of their answers.

    Attributes:
        bench: What they are measured with.
        ledger: Keeps what was measured.
        rules: What they are judged by.
        glance: Where answers are looked at; None where all of them are at once.
        known: By candidate: bytes, the short run, and counts of the glance, if any.
        twins: What a candidate that nobody made yet is priced as.
        before: What others were measured again, and cost by the measurements before.
    """

    bench: Bench
    ledger: Ledger
    rules: Rules
    glance: Glance | None
    known: dict[str, Known] = field(default_factory=dict)
    twins: dict[str, str] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)

    def look(self, one: Made, baseline: Made, observe: Callable[[str], None]) -> None:
        """Take a short look at ``one``.

        Raises:
            EngineError: It cannot be run.
            ModelError: It answers with NaN.
        """
        name, bench = one.plan.name, self.bench
        taken = self.ledger.obtain(
            "price",
            {**about(name, one.sha256, bench), **against(bench), "baseline": baseline.sha256},
            lambda: self._look(one, baseline),
            of=name,
            observe=observe,
        )
        exact = sizes.file_bytes(one.model.parent, bench.machine)
        figures, counts = taken.figures[name], taken.counts.get(name, ())
        self.known[name] = Known(name, one.plan.choosable, (exact, *figures), counts)
        self.twins.pop(name, None)
        if taken.previous:
            earlier = replace(self.known[name], evidence=(exact, *taken.previous[name]))
            self.before[name] = objective(earlier, self.rules.aim)[0]

    def correct(self, known: Known) -> None:
        """Put what was measured at length in the place of the short run."""
        if known.figure(latency.RATIO) is not None:
            self.known[known.name] = known

    def changed(self) -> tuple[str, ...]:
        """Return what measuring again changed about the order, one sentence."""
        if not self.before:
            return ()
        now = min(self.before, key=self.cost)
        was = min(self.before, key=lambda name: self.before[name])
        if now == was:
            return ()
        return (f"{now} costs least, was {was} by the measurements before",)

    def like(self, candidate: CandidatePlan, plans: Mapping[str, CandidatePlan]) -> bool:
        """Price a candidate that is long to make as one that comes to the same bytes.

        Args:
            candidate: How its weights are rounded, nobody pays for on the device.
            plans: All of the plan, by name.

        Return whether there is such a one, and it was looked at.
        """
        if not _is_learned(candidate.steps):
            return False
        plain = _plainly(candidate)
        alike = (n for n, plan in plans.items() if n in self.known and _plainly(plan) == plain)
        if not (twin := next(alike, "")):
            return False
        self.known[candidate.name] = replace(
            self.known[twin], name=candidate.name, choosable=candidate.choosable, counts=()
        )
        self.twins[candidate.name] = twin
        return True

    def cost(self, name: str) -> int:
        """Return what ``name`` costs: bytes times the share of the float model's time."""
        return objective(self.known[name], self.rules.aim)[0]

    def next(self, waiting: Sequence[str], best: str) -> str:
        """Return which of ``waiting`` to ask all samples; empty if none could be chosen then.

        Args:
            waiting: Names of candidates, in the order of the plan.
            best: What would ship now; no candidate's name where nothing holds yet.
        """
        # What a short run does not tell apart is no reason to ask.
        limit = self.cost(best) / _ALIKE if best in self.known else inf
        worth = [
            (unlikely, self.cost(name), place, name)
            for place, name in enumerate(waiting)
            for unlikely in [self._is_unlikely(name)]
            if self.cost(name) * (_DOUBTED if unlikely else 1) < limit
        ]
        return min(worth)[-1] if worth else ""

    def _is_unlikely(self, name: str) -> bool:
        """Return whether a candidate will hardly pass when it is asked all samples."""
        if not self.known[name].counts:
            return False
        overall = self.known[name].counts[0]
        loss = overall.loss()
        # Bounds are as wide as the root of the samples is small.
        narrower = sqrt(overall.n / len(self.bench.data.evaluate))
        least = loss.estimate + (loss.high - loss.estimate) * (narrower - _ONE_OF_THREE)
        return least * _BP > self.rules.contract.accuracy_drop_bp

    def of(self, name: str) -> Price:
        """Return what makes the cost of ``name``."""
        known = self.known[name]
        size, ratio = known.figure("file_bytes"), known.figure(latency.RATIO)
        return Price(size or 0, ratio or 0)

    def behind(self, name: str, best: str) -> str:
        """Return why ``name`` is not asked where ``best`` holds."""
        known, price = self.known[name], self.of(name)
        ratio = price.latency_ratio_bp / _BP
        takes = f"{price.file_bytes} bytes at {ratio:.2f} times the baseline's latency"
        if name in self.twins:
            takes += f", as {self.twins[name]} does"
        if self.cost(name) * _ALIKE >= self.cost(best):
            what = "bytes" if self.rules.aim == "size" else "bytes times latency"
            return f"{best} holds, and its {what} are no less by a short run: {takes}"
        lost = known.counts[0].loss().estimate
        return (
            f"{best} holds, and it hardly would: {100 * lost:.2f} points lost on "
            f"{known.counts[0].n} of the samples; it takes {takes}"
        )

    def hopeless(self, name: str) -> str:
        """Return why a candidate need not be asked everything; empty if it may hold."""
        known, rules = self.known[name], self.rules
        if rules.machine == rules.host and not rules.allow_slower and (why := slower(known)):
            return f"{why}, by a short run"
        return self.misses(name)

    def misses(self, name: str) -> str:
        """Return which answers it surely misses by, as a glance shows; empty if by none."""
        known = self.known.get(name)
        if known is None or not known.counts:
            return ""
        for finding in verdict_on(known, self.rules).findings:
            if finding.limit in ANSWERS and finding.outcome is Outcome.FAIL:
                return (
                    f"surely misses {finding.limit} by some of its answers: {finding.reason}"
                )
        return ""

    def _look(self, one: Made, baseline: Made) -> Measurement:
        name, bench, counts = one.plan.name, self.bench, {}
        if self.glance is not None:
            answered = accuracy.answers(bench.engine, one.model, self.glance.samples)
            counts[name] = self.glance.metric.compare(answered)
        figures = in_turns(one, baseline, bench, _BUDGET)
        ratio = tuple(figure for figure in figures if figure.name == latency.RATIO)
        return Measurement("", "", figures={name: ratio}, counts=counts)


def _is_learned(steps: tuple[Step, ...]) -> bool:
    return any(step.settings.get("rounding") == "learned" for step in steps)


def _plainly(plan: CandidatePlan) -> list[tuple[str, dict[str, str]]]:
    """Return what decides the bytes and the time of a candidate."""
    return [
        (step.technique, {k: v for k, v in step.settings.items() if k != "rounding"})
        for step in plan.steps
    ]
