"""Judge candidates and choose one; pure, so every rule is tested without a model.

A candidate is chosen when the contract passes on evidence and it is not slower than
the float baseline beyond noise. Among those the goal decides: ``size`` takes the
smallest, ``speed`` the fastest, ``balanced`` the one whose bytes times latency are
least, each against the baseline's, ``battery`` the one with the least energy an answer, which
goes by latency where no meter tells it. Without a goal it is the first of the plan, or the
cheapest, which is the balanced one, where only answers and bundles are limited.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, log

from edgewright.core.contract import Contract, Finding, Outcome, Verdict, judge
from edgewright.core.evidence import Evidence, Paired
from edgewright.toolchain.measure.energy import ENERGY
from edgewright.toolchain.measure.latency import RATIO
from edgewright.toolchain.planner.values import Nearest

_BP = 10_000

# Two sessions of one file came out up to 1.3 % apart, by where their buffers happen to
# lie, and the lower bound up to 0.6 % above equal; less than this is not called slower.
SLOWER_BP = 10_100

# Known only when the bundle is written; ``pack`` measures and judges them.
PACKED = ("transport_bytes", "storage_bytes")

# What is cheap on a device: few bytes and little time, as far as either may replace the other.
CHEAP = "balanced"

_EXACT = frozenset({"parsed"})

_RATIO_STEP = 100
_BEST = {
    "size": "the smallest",
    "speed": "the fastest",
    "balanced": "the least bytes times latency",
    "battery": "the least energy an answer",
}


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a candidate.

    Attributes:
        name: The candidate's.
        choosable: Whether the recipe lets it ship.
        evidence: Every figure, of whatever machine.
        counts: ``overall`` first, then one per class.
    """

    name: str
    choosable: bool
    evidence: tuple[Evidence, ...]
    counts: tuple[Paired, ...]

    def figure(self, name: str) -> int | None:
        """Return the estimate of a figure, None where there is none."""
        return next((e.value for e in self.evidence if e.name == name), None)


@dataclass(frozen=True, slots=True)
class Rules:
    """What candidates are judged by.

    Attributes:
        contract: The limits.
        machine: Fingerprint of the device the contract is about.
        host: Fingerprint of the machine that was measured on.
        allow_slower: Whether slower than the baseline is allowed.
        accept_estimates: Whether figures that were not measured may decide.
        goal: One of ``planner.values.GOALS``, or empty.
    """

    contract: Contract
    machine: str
    host: str
    allow_slower: bool = False
    accept_estimates: bool = False
    goal: str = ""

    @property
    def aim(self) -> str:
        """What decides among candidates that hold, see ``aim_of``."""
        return aim_of(self.goal, self.contract)

    @property
    def by_cost(self) -> bool:
        """Whether the cheapest that holds is looked for, and nothing beyond it."""
        return not self.goal and bool(self.aim)


def aim_of(goal: str, contract: Contract) -> str:
    """Return what decides among candidates that hold: a goal, or empty for the plan's order.

    Where no quantity of a candidate is limited the float model would be the first that
    holds, so what is cheap goes first; and what is small where bundles are limited, which
    only ``pack`` can judge.
    """
    limits = set(contract.limits())
    if goal or limits - set(PACKED):
        return goal
    return "size" if limits else CHEAP


@dataclass(frozen=True, slots=True)
class Decision:
    """Which candidate ships, and why the others do not.

    Attributes:
        outcome: Of the whole: pass when one is chosen.
        chosen: Its name; empty when there is none.
        verdicts: By candidate.
        reasons: By candidate, one sentence each.
        nearest: Set when none is chosen.
    """

    outcome: Outcome
    chosen: str
    verdicts: dict[str, Verdict]
    reasons: dict[str, str]
    nearest: Nearest | None


def decide(candidates: Sequence[Known], rules: Rules) -> Decision:
    """Return the decision; ``candidates`` is not empty and one of them is choosable."""
    verdicts = {c.name: verdict_on(c, rules) for c in candidates}
    reasons: dict[str, str] = {}
    fit = []
    for known in candidates:
        reasons[known.name] = _against(known, verdicts[known.name], rules)
        if not reasons[known.name]:
            fit.append(known)
    if rules.aim:
        fit.sort(key=lambda known: objective(known, rules.aim))
    for known in fit[1:]:
        reasons[known.name] = _behind(known, fit[0], rules.aim)
    if fit:
        reasons[fit[0].name] = _ahead(len(fit), rules.aim)
        return Decision(Outcome.PASS, fit[0].name, verdicts, reasons, None)
    allowed = [c for c in candidates if c.choosable]
    undecided = any(verdicts[c.name].outcome is Outcome.INCONCLUSIVE for c in allowed)
    outcome = Outcome.INCONCLUSIVE if undecided else Outcome.FAIL
    return Decision(outcome, "", verdicts, reasons, nearest(allowed, verdicts, rules))


def verdict_on(known: Known, rules: Rules) -> Verdict:
    """Return the verdict on one candidate.

    Only figures of the device itself count, and those that are the same everywhere;
    the limits of ``PACKED`` are left to ``pack``.
    """
    contract = replace(rules.contract, transport_bytes=None, storage_bytes=None)
    figures = _valid(known, rules)
    verdict = judge(contract, figures, known.counts, accept_estimates=rules.accept_estimates)
    if rules.machine == rules.host:
        return verdict
    findings = tuple(_elsewhere(f, {e.name for e in figures}) for f in verdict.findings)
    return Verdict(verdict.outcome, findings)


def slower(known: Known) -> str:
    """Return how much slower than the baseline it is, beyond noise; empty if it is not."""
    ratio = next((e for e in known.evidence if e.name == RATIO), None)
    if ratio is None or ratio.lower is None or ratio.lower <= SLOWER_BP:
        return ""
    return (
        f"slower than the float baseline: {ratio.value / _BP:.2f} times its median "
        f"(at least {ratio.lower / _BP:.2f}, 95 %)"
    )


def nearest(
    candidates: Sequence[Known], verdicts: dict[str, Verdict], rules: Rules
) -> Nearest:
    """Return the contract closest to the one asked that one of the candidates meets.

    Close is the sum of the logarithms by which the limits have to move. A limit on what
    was not measured on the device, or without a bound, stays where it is: nothing sure is
    known of it.
    """
    contract = rules.contract
    best: tuple[float, int, Nearest] | None = None
    for known in candidates:
        moved = {}
        for finding in verdicts[known.name].missed:
            moved.update(_needed(finding.limit, known, rules))
        distance = sum(
            abs(log(max(value, 1) / max(getattr(contract, name) or 1, 1)))
            for name, value in moved.items()
        )
        found = Nearest(known.name, replace(contract, **moved), tuple(sorted(moved)))
        entry = (distance, known.figure("file_bytes") or 0, found)
        if best is None or entry[:2] < best[:2]:
            best = entry
    if best is None:
        raise ValueError("no candidate may be chosen")
    return best[2]


def _against(known: Known, verdict: Verdict, rules: Rules) -> str:
    """Return why a candidate cannot be chosen, empty if it can."""
    if not known.choosable:
        return "the recipe asks for less; this one is the measure of the others"
    if verdict.outcome is not Outcome.PASS:
        worst = next(f for f in verdict.missed if f.outcome is verdict.outcome)
        word = "misses" if verdict.outcome is Outcome.FAIL else "does not decide"
        return f"{word} {worst.limit}: {worst.reason}"
    if rules.machine == rules.host and not rules.allow_slower:
        return slower(known)
    return ""


def objective(known: Known, goal: str) -> tuple[int, int, str]:
    """Return what ``goal`` wants least of, then what decides among equals.

    Latency is the ratio to the baseline of the same minutes, in steps of one percent:
    finer differences are noise, and then the smaller file wins.
    """
    size = known.figure("file_bytes") or 0
    ratio = round((known.figure(RATIO) or _BP) / _RATIO_STEP)
    # Without a meter energy goes by time: one core at full load draws what it draws.
    energy = known.figure(ENERGY)
    first = {
        "size": (size, ratio),
        "speed": (ratio, size),
        "balanced": (size * ratio, size),
        "battery": (ratio if energy is None else energy, size),
    }
    return (*first[goal], known.name)


def _ahead(fit: int, goal: str) -> str:
    if fit == 1:
        return "the only one that passes"
    if not goal:
        return "the first of the plan that passes"
    return f"{_BEST[goal]} of {fit} that pass"


def _behind(known: Known, chosen: Known, goal: str) -> str:
    if not goal:
        return f"passes too, after {chosen.name} of the plan"
    mine, theirs = known.figure("file_bytes") or 0, chosen.figure("file_bytes") or 0
    if goal == "size" and mine != theirs:
        return f"passes too, but is {mine - theirs} bytes larger than {chosen.name}"
    slow, fast = ((one.figure(RATIO) or _BP) / _BP for one in (known, chosen))
    return (
        f"passes too, with {mine} bytes at {slow:.2f} times the baseline's latency; "
        f"{chosen.name} has {theirs} at {fast:.2f}"
    )


def _elsewhere(finding: Finding, known: set[str]) -> Finding:
    """Say of a figure that is missing that it belongs to another machine."""
    if finding.outcome is not Outcome.INCONCLUSIVE or finding.limit in known:
        return finding
    if not finding.reason.endswith("was not measured"):
        return finding
    return replace(
        finding,
        reason=f"{finding.limit} was not measured on this device",
        remedy="Run edgewright optimize --device host on the device itself.",
    )


def _valid(known: Known, rules: Rules) -> list[Evidence]:
    """Return the figures that say something about the device."""
    return [e for e in known.evidence if e.machine == rules.machine or e.method in _EXACT]


def _needed(limit: str, known: Known, rules: Rules) -> dict[str, int]:
    """Return where a missed limit would have to be for this candidate to pass surely."""
    overall, *classes = known.counts
    if limit == "accuracy_drop":
        return {"accuracy_drop_bp": _loss_bp(overall)}
    if limit == "worst_class_drop":
        return {"worst_class_drop_bp": max(map(_loss_bp, classes))}
    if limit == "retention":
        return {"min_retention_bp": min(_kept_bp(overall), rules.contract.min_retention_bp)}
    figure = next((e for e in _valid(known, rules) if e.name == limit), None)
    if figure is None:
        return {}
    bound = figure.lower if limit.endswith("_hz") else figure.upper
    return {} if bound is None else {limit: max(bound, 1)}


def _kept_bp(counts: Paired) -> int:
    kept = counts.kept()
    return 0 if kept is None else max(floor(kept.low * _BP), 0)


def _loss_bp(counts: Paired) -> int:
    return min(max(ceil(counts.loss().high * _BP), 0), _BP)
