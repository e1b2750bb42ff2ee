"""Try the candidates of a plan one by one; the best so far is always whole.

Without a goal the search ends at the first candidate that holds the contract; with one
it goes on until all are tried or the budget is spent. A first Ctrl-C ends it like a
spent budget: what was tried is judged and written. Where only answers are limited the
cheapest goes first (``glance``).

Where every candidate that computes in 8 bits misses by its answers, one more is put together
layer by layer (``mixed``).

A candidate that surely misses the contract by its bytes or its answers is out, whatever
its speed: latency and memory are measured only if nothing holds and it is the nearest. One
that is too large is not even asked before that, apart from the baseline. Where whole forms of
weights are too large down to int8, layers get forms of their own (``sized``).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import TypeVar

from edgewright.core.contract import Outcome
from edgewright.core.errors import EngineError, ModelError, ParityError, QuantizeError
from edgewright.toolchain.measure.sizes import size_of
from edgewright.toolchain.planner import outcome
from edgewright.toolchain.planner.decide import Decision, Known, Rules, decide, verdict_on
from edgewright.toolchain.planner.gather import Bench, gather
from edgewright.toolchain.planner.glance import ANSWERS, Glance, Prices
from edgewright.toolchain.planner.ledger import Ledger
from edgewright.toolchain.planner.mixed import COMPUTES, Mixer
from edgewright.toolchain.planner.perform import Made, Workshop, check_float
from edgewright.toolchain.planner.sized import SIZED, Fitted, Sizer
from edgewright.toolchain.planner.values import CandidatePlan, LayerReport, Plan, Price

LEARNED, MIXED, COARSEST = "int8-learned", "int8-mixed", "int4-weights"

_T = TypeVar("_T")
_ATTEMPTS = 3
# About what the layers that are taken out of an 8-bit candidate cost.
_MIXED_COSTS = 1.25
_BP = 10_000

ALL, FIRST, INTERRUPTED = "all were tried", "the first that holds", "it was interrupted"
CHEAPEST = "the cheapest that holds"


@dataclass(slots=True)
class Search:
    """One search.

    Attributes:
        plan: What to try, in this order.
        workshop: Makes candidates.
        bench: Measures them.
        ledger: Keeps the measurements.
        rules: What they are judged by.
        source: The model as it was given.
        budget_s: Seconds after which nothing else is begun; 0 for no end.
        say: Is told the stage and what is done in it.
        made: What was made and measured, in order.
        now: What is known of each.
        before: The same by the measurements that were replaced.
        aside: What was made and surely misses; it is judged only if nothing holds.
        stopped: Why it ended; empty while it goes on.
        layers: What became of each layer, by candidate that was put together from them.
        folder: For files that are asked once.
        pinned: Layers, by name or pattern, that the recipe says the form of.
        glance: What is asked of a candidate first where the cheapest is looked for.
    """

    plan: Plan
    workshop: Workshop
    bench: Bench
    ledger: Ledger
    rules: Rules
    source: Path
    budget_s: int
    say: Callable[[str, str], None]
    folder: Path
    pinned: frozenset[str] = frozenset()
    glance: Glance | None = None
    made: list[Made] = field(default_factory=list)
    now: list[Known] = field(default_factory=list)
    before: list[Known] = field(default_factory=list)
    aside: list[Made] = field(default_factory=list)
    stopped: str = ""
    layers: dict[str, tuple[LayerReport, ...]] = field(default_factory=dict)
    _prices: Prices | None = None
    _ready: dict[str, Made] = field(default_factory=dict)
    _left: list[str] = field(default_factory=list)
    _started: float = 0.0

    @property
    def prices(self) -> Prices:
        """What candidates cost, as far as somebody looked."""
        if self._prices is None:
            self._prices = Prices(self.bench, self.ledger, self.rules, self.glance)
        return self._prices

    def changed(self, decision: Decision) -> tuple[str, ...]:
        """Return what measuring again changed, one sentence each."""
        before = decide(self.before, self.rules)
        return (*outcome.changed(before, decision), *self.prices.changed())

    def left_for_cost(self) -> dict[str, Price]:
        """Return what candidates cost that were not asked for it."""
        return {name: self.prices.of(name) for name in self._left}

    def run(self, better: Callable[[], None], tried: Callable[[str], None]) -> None:
        """Try candidates until there is a reason to stop.

        Args:
            better: Called whenever another candidate is the best so far.
            tried: Called with the name of each candidate once it is judged or left out.

        Raises:
            QuantizeError: Nothing that may be chosen could be made.
            ParityError: A written float model answers differently from the source.
        """
        self._started, best = monotonic(), ""
        try:
            for name in self._by_cost() if self.rules.by_cost else self._names():
                self._try(name)
                tried(name)
                found = self._best()
                if found and found != best:
                    best = found
                    better()
                self.stopped = self.stopped or self._enough(best)
                if self.stopped:
                    break
            for name in self._left:
                tried(name)
            self.workshop.check_any()
            if self._may_mix() and self._mix(tried):
                better()
            self._complete()
        except KeyboardInterrupt:
            if not best:
                raise
            self.stopped = INTERRUPTED
        self.stopped = self.stopped or ALL

    def decision(self) -> Decision:
        """Return what the evidence so far comes to."""
        return decide(self.now, self.rules)

    def so_far(self) -> Decision:
        """Return the decision, also before anything that may be chosen was made."""
        if any(known.choosable for known in self.now):
            return self.decision()
        verdicts = {known.name: verdict_on(known, self.rules) for known in self.now}
        reasons = dict.fromkeys(verdicts, "the measure of the others; it may not ship")
        return Decision(Outcome.INCONCLUSIVE, "", verdicts, reasons, None)

    def _names(self) -> Iterator[str]:
        """Yield what to try, with what is put together for a limit on bytes in its place."""
        for candidate in self.plan.candidates:
            left = self.plan.candidates[self.plan.candidates.index(candidate) :]
            self.bench.ahead.look(left)
            fitted = self._fitted(candidate) if candidate.name == COARSEST else None
            if fitted is not None:
                place = self.plan.candidates.index(candidate)
                before, after = self.plan.candidates[:place], self.plan.candidates[place:]
                self.plan = replace(self.plan, candidates=(*before, fitted.plan, *after))
                self.layers[SIZED] = fitted.layers
                yield SIZED
            yield candidate.name

    def _by_cost(self) -> Iterator[str]:
        """Yield what to try, the cheapest in front, until one holds; the float model first.

        Each is made and glanced at before the second is asked for all its answers, but for
        one that is long to make and costs what another does. Half of a budget may go into
        that; those not seen by then are looked at one by one, after what is cheap was asked.
        """
        baseline, *unseen = self.plan.candidates
        yield baseline.name
        prices, waiting = self.prices, []
        prices.known[baseline.name] = self.now[0]
        plans = {candidate.name: candidate for candidate in unseen}
        while unseen:
            while unseen:
                self.bench.ahead.look(unseen, ask=False)
                candidate = unseen.pop(0)
                if prices.like(candidate, plans) or self._look(candidate):
                    waiting.append(candidate.name)
                else:
                    yield candidate.name
                if self._is_spent(share=0.5):
                    break
            yield from self._ask_cheapest(waiting, plans)
            self.stopped = self._over_budget() if self._best() else ""
            if self.stopped:
                return
        if waiting:
            self._leave(waiting, self._best())

    def _ask_cheapest(
        self, waiting: list[str], plans: Mapping[str, CandidatePlan]
    ) -> Iterator[str]:
        """Yield those of ``waiting`` that may be better than the best so far."""
        prices = self.prices
        while name := prices.next(waiting, self._best()):
            if name not in self._ready and self._look(plans[name]):
                continue  # its own answers may put it further behind
            waiting.remove(name)
            if name in self._ready:
                self._doubt(name)
            yield name

    def _doubt(self, name: str) -> None:
        """Set a candidate aside that surely misses, else let workers ask it."""
        if why := self.prices.hopeless(name):
            self._set_aside(self._ready.pop(name), why)
        else:
            self.bench.ahead.bring(self._ready[name].plan)

    def _look(self, candidate: CandidatePlan) -> bool:
        """Make a candidate and glance at it; return whether it is there to be asked."""
        one = self._make(candidate, ask=False)
        if one is None:
            return False

        def look() -> Made:
            self.prices.look(one, self.made[0], lambda what: self.say("measure", what))
            return one

        seen = self._using(one, look)
        if seen is not None:
            self._ready[candidate.name] = seen
        return seen is not None

    def _leave(self, names: Sequence[str], best: str) -> None:
        """Say why nothing else is asked for its answers."""
        self.stopped = f"{CHEAPEST}; not tried: {', '.join(names)}"
        for name in names:
            self.workshop.left_out[name] = self.prices.behind(name, best)
            self._left.append(name)

    def _fitted(self, base: CandidatePlan) -> Fitted | None:
        """Return weights layer by layer within the limit, if nothing finer holds it."""
        limit = self.rules.contract.file_bytes
        if limit is None or self.pinned or any(map(self._may_hold, self.now)):
            return None
        self.say("mix", f"which layers need more than 4 bits, within {limit} bytes")
        mixer = Mixer(base, self.workshop, self.bench, self.ledger, self.made[0], self.folder)
        try:
            return Sizer(mixer, limit).find()
        except QuantizeError:
            return None

    def _try(self, name: str) -> None:
        if name in self.workshop.left_out:  # as soon as it was looked at
            return
        candidate = next(c for c in self.plan.candidates if c.name == name)
        one = self._ready.pop(name, None) or self._make(candidate)
        if one is None:
            return
        if self.made and (why := self._too_large(one)):
            self._set_aside(one, why)
            return
        # The first is the baseline, which the others are compared with.
        worth = self._may_hold if self.made else _always
        taken = self._using(one, lambda: self._gather(one, worth=worth))
        if taken is not None:
            self._keep(one, taken)

    def _make(self, candidate: CandidatePlan, *, ask: bool = True) -> Made | None:
        """Return a candidate that was made and checked, None where it was left out."""
        self.say("make", candidate.name)
        self.bench.ahead.bring(candidate, ask=ask)
        one = self.workshop.make(candidate)
        if one is None:
            return None
        self.say("check", f"{candidate.name} against the model")

        def check() -> Made:
            check_float(one, self.bench.engine, self.source, self.bench.data.evaluate)
            return one

        return self._using(one, check)

    def _using(self, one: Made, do: Callable[[], _T]) -> _T | None:
        """Return what ``do`` does; None where that shows that ``one`` is of no use."""
        try:
            return do()
        except ParityError:
            raise
        except (EngineError, ModelError) as error:
            if not self.made:
                raise
            # Written is not run: what cannot answer here is no candidate, and the others are.
            self.workshop.drop(one, f"what was written cannot be used: {error}")
            return None

    def _keep(self, one: Made, taken: tuple[Known, Known]) -> None:
        """Keep what was judged, in the order of the plan."""
        self.made.append(one)
        self.now.append(taken[0])
        self.before.append(taken[1])
        order = [candidate.name for candidate in self.plan.candidates]
        for known in (self.now, self.before):
            known.sort(key=lambda one: order.index(one.name))
        self.made.sort(key=lambda one: order.index(one.plan.name))
        if one.plan.name in self.prices.known:
            self.prices.correct(taken[0])

    def _set_aside(self, one: Made, why: str) -> None:
        self.workshop.left_out[one.plan.name] = why
        self.aside.append(one)

    def _ask_after_all(self, one: Made) -> None:
        """Judge what was set aside."""
        taken = self._using(one, lambda: self._gather(one, worth=self._may_hold))
        self.aside.remove(one)
        if taken is not None:
            del self.workshop.left_out[one.plan.name]
            self._keep(one, taken)

    def _too_large(self, one: Made) -> str:
        """Return why a candidate need not answer anything; empty if it is not too large."""
        limit, held = self.rules.contract.file_bytes, size_of(one.model.parent)
        if limit is None or held <= limit:
            return ""
        return f"its {held} bytes are more than the {limit} that are allowed"

    def _gather(self, one: Made, *, worth: Callable[[Known], bool]) -> tuple[Known, Known]:
        return gather(
            one,
            self.made[0] if self.made else one,
            self.bench,
            self.ledger,
            worth=worth,
            observe=lambda what: self.say("measure", what),
        )

    def _may_hold(self, known: Known) -> bool:
        findings = verdict_on(known, self.rules).findings
        return all(finding.outcome is not Outcome.FAIL for finding in findings)

    def _mix(self, tried: Callable[[str], None]) -> bool:
        """Put a candidate together layer by layer where 8-bit ones miss by answers alone."""
        if self._is_spent():
            return False
        self._take_least()
        base = self._to_mix()
        if base is None:
            return False
        mixer = Mixer(
            base.plan, self.workshop, self.bench, self.ledger, self.made[0], self.folder,
            pinned=self.pinned,
        )  # fmt: skip
        if (learned := self._learned(base)) is not None:
            base = learned
            if self._may_hold(self.now[-1]):
                return True
        self.say("mix", f"which layers {base.plan.name} loses its answers by")
        known = self.now[self.made.index(base)]
        target = mixer.prepare() * _room(known, self.rules)
        for attempt in range(_ATTEMPTS):
            found = mixer.find(target, MIXED if not attempt else f"{MIXED}-{attempt + 1}")
            if found is None:
                return bool(attempt)
            candidates = (*self.plan.candidates, found.plan)
            self.plan = replace(self.plan, candidates=candidates)
            self.layers[found.plan.name] = found.layers
            self._try(found.plan.name)
            tried(found.plan.name)
            if self.made[-1].plan.name == found.plan.name and self._may_hold(self.now[-1]):
                return True
            target = found.drift / 2
        return True

    def _learned(self, base: Made) -> Made | None:
        """Try the base with weights rounded by what answers lose, which costs no bytes."""
        *before, last = base.plan.steps
        step = replace(
            last,
            settings={**last.settings, "rounding": "learned"},
            reason=f"{last.reason}; each weight rounded to where answers lose least",
        )
        plan = replace(base.plan, name=LEARNED, steps=(*before, step))
        self.plan = replace(self.plan, candidates=(*self.plan.candidates, plan))
        self._try(plan.name)
        made = self.made[-1]
        return made if made.plan.name == LEARNED else None

    def _may_mix(self) -> bool:
        """Return whether it is worth it to look for layers: nothing as good holds yet."""
        if not self.stopped.startswith(CHEAPEST):
            return not self.stopped
        costs = [
            self.prices.cost(one.plan.name)
            for one in (*self.made, *self.aside)
            if _computes(one)
        ]
        # What is put together costs more than what it is made from.
        return bool(costs) and self.prices.cost(self._best()) > _MIXED_COSTS * min(costs)

    def _take_least(self) -> None:
        """Judge the 8-bit candidate that loses least at a glance, where all were set aside."""
        if any(map(_computes, self.made)):
            return
        losses = [
            (self.prices.known[one.plan.name].counts[0].loss().estimate, place)
            for place, one in enumerate(self.aside)
            if _computes(one) and self.prices.misses(one.plan.name)
        ]
        if losses:
            self._ask_after_all(self.aside[min(losses)[1]])

    def _to_mix(self) -> Made | None:
        """Return the 8-bit candidate with the least loss, if all of them miss by answers."""
        found: list[tuple[float, Made]] = []
        # What the floats miss too, more layers in floats cannot mend.
        floats = {f.limit for f in verdict_on(self.now[0], self.rules).missed}
        for one, known in zip(self.made, self.now, strict=True):
            if not _computes(one):
                continue
            missed = {f.limit for f in verdict_on(known, self.rules).missed}
            if not missed & ANSWERS:
                return None
            if not (missed & ANSWERS) - floats:
                continue
            found.append((known.counts[0].loss().estimate, one))
        return min(found, key=lambda pair: pair[0])[1] if found else None

    def _complete(self) -> None:
        """Time the nearest where nothing holds; it may be another one then."""
        if not any(k.choosable for k in self.now) or self.decision().nearest is not None:
            self._take_back()
            self.workshop.check_any()
        while (near := self.decision().nearest) is not None:
            names = [one.plan.name for one in self.made]
            place = names.index(near.candidate)
            if self.now[place].figure("p50_us") is not None:
                return
            one = self.made[place]
            self.now[place], self.before[place] = self._gather(one, worth=_always)

    def _take_back(self) -> None:
        """Judge what was set aside as well: nothing holds, and one of them may be nearest."""
        for one in list(self.aside):
            self._ask_after_all(one)

    def _best(self) -> str:
        """Return what would ship now; nearest where nothing holds; empty if nothing may."""
        if not any(known.choosable for known in self.now):
            return ""
        decision = self.decision()
        if decision.nearest is not None:
            return f"nearest {decision.nearest.candidate}"
        return decision.chosen

    def _enough(self, best: str) -> str:
        names = ", ".join(self._untried())
        if names and not self.rules.aim and best and not best.startswith("nearest "):
            return f"{FIRST}; not tried: {names}"
        return self._over_budget() if best else ""

    def _over_budget(self) -> str:
        names = ", ".join(self._untried())
        if not names or not self._is_spent():
            return ""
        return f"the budget of {self.budget_s} s is spent; not tried: {names}"

    def _is_spent(self, share: float = 1) -> bool:
        spent_s = monotonic() - self._started
        return bool(self.budget_s) and spent_s > share * self.budget_s

    def _untried(self) -> list[str]:
        return [c.name for c in self.plan.candidates if c.name not in self._tried()]

    def _tried(self) -> set[str]:
        return {one.plan.name for one in self.made} | set(self.workshop.left_out)


def _room(known: Known, rules: Rules) -> float:
    """Return to what share of its drift a candidate has to come, going by its losses."""
    overall, *classes = known.counts
    shares = [rules.contract.accuracy_drop_bp / _BP / max(overall.loss().high, 1e-9)]
    worst = max((one.loss().high for one in classes), default=0.0)
    shares.append(rules.contract.worst_class_drop_bp / _BP / max(worst, 1e-9))
    # A bound has to fit, not an estimate, and losses rise faster than drift.
    return min(0.7 * min(shares), 0.7)


def _computes(one: Made) -> bool:
    return bool(one.plan.steps) and one.plan.steps[-1].technique in COMPUTES


def _always(_known: Known) -> bool:
    return True
