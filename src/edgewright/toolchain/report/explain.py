"""Why a candidate ships and why the others do not, in plain sentences.

Everything is worked out of the report: the figures are those that were measured, the rules
those of ``planner.decide``. Nothing is run or measured.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgewright.core.contract import Outcome
from edgewright.core.errors import UsageError
from edgewright.core.records import nearest as nearest_name
from edgewright.core.units import show_bytes
from edgewright.toolchain.planner import decide
from edgewright.toolchain.planner.decide import Known, Rules
from edgewright.toolchain.planner.values import (
    GOALS,
    CandidateReport,
    FindingLine,
    Recipe,
    Report,
    written,
)
from edgewright.toolchain.report import words
from edgewright.toolchain.report.layers import FORMS, drift, unlike_the_rest
from edgewright.toolchain.report.next import Advice, advice
from edgewright.toolchain.report.waterfall import falls

_GOALS = {
    "": "the first candidate that holds the contract ships, and nothing after it is tried",
    "size": "the smallest that holds the contract ships",
    "speed": "the fastest that holds the contract ships",
    "battery": "the one with the least energy an answer that holds the contract ships",
    "balanced": "the one with the least bytes times latency that holds the contract ships",
}
_CHEAPEST = {
    "balanced": "nothing limits bytes or speed, so candidates are asked in the order of bytes "
    "times latency, and the cheapest that holds the contract ships",
    "size": "only bundles are limited, which are judged when they are packed, so candidates "
    "are asked in the order of their bytes, and the smallest that holds the contract ships",
}


@dataclass(frozen=True, slots=True)
class StepStory:
    """What one technique did.

    Attributes:
        technique: Its name.
        applied: Whether it found anything to do.
        why: Why it was tried.
        did: What it did, one sentence each.
        bytes_before: Of the files, 0 where nobody looked.
        bytes_after: Likewise.
    """

    technique: str
    applied: bool
    why: str
    did: tuple[str, ...]
    bytes_before: int = 0
    bytes_after: int = 0


@dataclass(frozen=True, slots=True)
class Other:
    """A candidate that is not the one explained.

    Attributes:
        name: Its name; of a technique, where no candidate came of it.
        outcome: Of the contract; ``left out`` where it was not judged.
        why: Why it does not ship, or why it does.
    """

    name: str
    outcome: str
    why: str


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """What would have to change for another candidate to ship.

    Attributes:
        name: Which one; empty where there is none.
        needs: One sentence each; all have to come true.
        goals: Goals under which it would ship as it is.
    """

    name: str
    needs: tuple[str, ...]
    goals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A report in sentences.

    Attributes:
        candidate: Whom it is about.
        headline: What ships and what it gained.
        verdict: Why this candidate ships, or why not.
        limits: What each limit came to.
        steps: What each technique did.
        layers: What did not become int8, and why.
        others: The other candidates, and what was left out.
        runner_up: What would have to change; about ``candidate`` where it does not ship.
        assumed: What the figures rest on, doubts among it.
        advice: What to do next.
    """

    candidate: str
    headline: str
    verdict: tuple[str, ...]
    limits: tuple[FindingLine, ...]
    steps: tuple[StepStory, ...]
    layers: tuple[str, ...]
    others: tuple[Other, ...]
    runner_up: RunnerUp
    assumed: tuple[str, ...]
    advice: tuple[Advice, ...]


def explain(report: Report, folder: str, candidate: str = "") -> Explanation:
    """Return the explanation of a candidate, by default of what ships or comes nearest.

    Raises:
        UsageError: There is no such candidate.
    """
    about = report.shipped if not candidate else _find(report, candidate)
    rival = about if not about.chosen and candidate else _runner_up(report)
    runner_up = RunnerUp("", (), ())
    if rival is not None and not rival.chosen:
        needs, goals = tuple(_needs(report, rival)), _goals_for(report, rival)
        runner_up = RunnerUp(rival.name, needs, goals)
    return Explanation(
        candidate=about.name,
        headline=words.headline(report),
        verdict=tuple(_verdict(report, about)),
        limits=about.findings,
        steps=_steps(report, about),
        layers=tuple(_layers(about)),
        others=tuple(_others(report, about)),
        runner_up=runner_up,
        assumed=tuple(_assumed(report)),
        advice=tuple(advice(report, folder)),
    )


def known_of(report: Report, one: CandidateReport) -> Known:
    """Return what the rules are told of a candidate."""
    choosable = one.name != report.baseline or report.recipe.quantization in {"auto", "none"}
    return Known(one.name, choosable, one.evidence, one.counts)


def rules_of(report: Report) -> Rules:
    """Return the rules the report was decided by."""
    recipe = report.recipe
    return Rules(
        contract=recipe.contract,
        machine=report.device.fingerprint,
        host=report.host.fingerprint,
        allow_slower=recipe.allow_slower,
        accept_estimates=recipe.accept_estimates,
        goal=recipe.goal,
    )


def _find(report: Report, name: str) -> CandidateReport:
    known = [one.name for one in report.candidates]
    if name in report.left_out:
        raise UsageError(
            f"{name} was left out: {report.left_out[name]}",
            hint=f"Judged: {', '.join(known)}.",
        )
    if name not in known:
        raise UsageError(f"no candidate {name!r}", hint=nearest_name(name, known))
    return report.candidate(name)


def _verdict(report: Report, one: CandidateReport) -> Iterator[str]:
    goal = report.recipe.goal
    if one.chosen:
        asked = f"the goal is {goal}" if goal else "there is no goal"
        yield (
            f"{one.name} ships because it is {one.reason}; {asked}: "
            f"{what_ships(report.recipe)}."
        )
    elif report.chosen:
        yield f"{one.name} does not ship: it {_sentence(one.reason)}."
    else:
        yield f"{one.name} comes nearest, and does not ship: it {_sentence(one.reason)}."
    baseline = report.candidate(report.baseline)
    if one.name != baseline.name:
        gained = ", ".join(words.gained(report, one))
        yield f"Beside {baseline.name} it is {gained}."
    ratio = words.ratio_of(one)
    if ratio is None:
        yield "Its latency was not measured: by its bytes or answers it had missed before."
    elif (bounds := words.speed_bounds(ratio)) and one.name != baseline.name:
        yield f"Its speed is {bounds} times {baseline.name}'s with 95 % bounds, in turns."


def _sentence(reason: str) -> str:
    """Return a reason so that it can follow ``it``."""
    starts = ("misses", "passes", "does not decide")
    return reason if reason.startswith(starts) else f"is {reason}"


def _steps(report: Report, one: CandidateReport) -> tuple[StepStory, ...]:
    known = {fall.label: fall for fall in falls(report, one)}
    found = []
    places = list(known.values())
    for step in one.steps:
        fall = places.pop(0) if step.applied and places and step.bytes_after else None
        if fall is None and step.applied and len(places) == 1:
            fall = places.pop(0)
        before, after = (fall.before, fall.after) if fall else (0, 0)
        found.append(
            StepStory(step.technique, step.applied, step.reason, step.notes, before, after)
        )
    return tuple(found)


def _layers(one: CandidateReport) -> Iterator[str]:
    for layer in unlike_the_rest(one.layers):
        yield (
            f"{layer.name} ({layer.operator}, {show_bytes(layer.weight_bytes)}): "
            f"{FORMS.get(layer.form, layer.form)}; {layer.reason}; rounded alone it moves "
            f"the answers by {drift(layer.drift_micro)}"
        )


def _others(report: Report, about: CandidateReport) -> Iterator[Other]:
    for one in report.candidates:
        if one is not about:
            yield Other(one.name, one.outcome, one.reason)
    for name, why in sorted(report.left_out.items()):
        yield Other(name, "left out", why)


def _runner_up(report: Report) -> CandidateReport | None:
    """Return the one that ships if the chosen one did not; the nearest where none would."""
    rest = [one for one in report.candidates if not one.chosen]
    fit = _fit(report, rest, _aim(report))
    if fit:
        return report.candidate(fit[0].name)
    allowed = [known for one in rest if (known := known_of(report, one)).choosable]
    if not allowed:
        return None
    rules = rules_of(report)
    verdicts = {known.name: decide.verdict_on(known, rules) for known in allowed}
    return report.candidate(decide.nearest(allowed, verdicts, rules).candidate)


def _fit(report: Report, candidates: Sequence[CandidateReport], goal: str) -> list[Known]:
    """Return what may ship, the best for ``goal`` in front; verdicts are the report's."""
    rules = rules_of(report)
    free = rules.allow_slower or rules.machine != rules.host
    passing = [known_of(report, one) for one in candidates if one.outcome == "pass"]
    fit = [one for one in passing if one.choosable and (free or not decide.slower(one))]
    if goal:
        fit.sort(key=lambda known: decide.objective(known, goal))
    return fit


def _needs(report: Report, one: CandidateReport) -> Iterator[str]:
    """Yield what would have to be otherwise for ``one`` to ship."""
    known, rules = known_of(report, one), rules_of(report)
    if not known.choosable:
        yield f"the recipe would have to allow it: it asks for {report.recipe.quantization}"
        return
    verdict = decide.verdict_on(known, rules)
    if verdict.outcome is not Outcome.PASS:
        yield from _moves(report, known, rules)
    slower = decide.slower(known)
    if slower and not rules.allow_slower:
        yield f"--allow-slower would have to be given: it is {slower}"
    elif verdict.outcome is Outcome.PASS and report.chosen:
        yield _better(report, one)


def _moves(report: Report, known: Known, rules: Rules) -> Iterator[str]:
    verdict = decide.verdict_on(known, rules)
    near = decide.nearest([known], {known.name: verdict}, rules)
    for field in near.moved:
        value = getattr(near.contract, field)
        yield (
            f"{words.asked_title(report, field)} would have to be "
            f"{words.asked_value(field, value)}: {written(field, value)}"
        )
    held = {field.removeprefix("min_").removesuffix("_bp") for field in near.moved}
    for finding in verdict.missed:
        if finding.limit not in held:
            title = words.limit_title(report, finding.limit)
            yield f"{title} would have to be decided: {finding.reason}"


def _better(report: Report, one: CandidateReport) -> str:
    """Return by how much it is behind what ships."""
    chosen, goal = report.shipped, _aim(report)
    mine, theirs = one.file_bytes, chosen.file_bytes
    slow, fast = (_ratio(each) for each in (one, chosen))
    if not goal:
        return f"{chosen.name}, which the plan has in front, would have to miss a limit"
    if goal == "size" and mine > theirs:
        return f"its files would have to be {show_bytes(mine - theirs)} smaller"
    if goal == "speed" and slow > fast:
        return f"an answer would have to take {1 - fast / slow:.0%} less time"
    if goal == "battery":
        return f"an answer would have to take less energy than one of {chosen.name}"
    share = theirs * fast / max(mine * slow, 1)
    if goal == "balanced" and share < 1:
        return (
            f"its bytes times latency would have to be {1 - share:.0%} less: "
            f"{show_bytes(round(mine * share))} at this speed, or {slow * share:.2f} times "
            f"{report.baseline}'s latency at this size"
        )
    return f"it is level with {chosen.name} but for what decides among equals"


def what_ships(recipe: Recipe) -> str:
    """Return by which rule one of several candidates ships."""
    aim = decide.aim_of(recipe.goal, recipe.contract)
    return _CHEAPEST[aim] if aim and not recipe.goal else _GOALS[recipe.goal]


def _aim(report: Report) -> str:
    return decide.aim_of(report.recipe.goal, report.recipe.contract)


def _ratio(one: CandidateReport) -> float:
    ratio = words.ratio_of(one)
    return (ratio.value if ratio else words.BP) / words.BP


def _goals_for(report: Report, one: CandidateReport) -> tuple[str, ...]:
    """Return the goals under which it would ship with everything else as it is."""
    return tuple(
        goal
        for goal in GOALS
        if goal != _aim(report)
        and (fit := _fit(report, report.candidates, goal))
        and fit[0].name == one.name
    )


def _assumed(report: Report) -> Iterator[str]:
    recipe = report.recipe
    if recipe.synthetic:
        yield words.made_up(report)
    elif words.likeness(report):
        yield (
            "There are no labels: what is lost is likeness to the reference's answers, and "
            "nothing is known of how many are right."
        )
    for doubt in sorted(report.doubts, key=lambda one: not one.accepted):
        said = "Accepted on request" if doubt.accepted else "Noted"
        yield f"{said}: {doubt.name}: {doubt.detail}"
    if report.device.fingerprint != report.host.fingerprint:
        yield (
            f"Latency and memory are those of {report.host.title}, not of "
            f"{report.device.title}."
        )
    else:
        yield f"Figures belong to {report.host.title} ({report.host.fingerprint})."
    if recipe.accept_estimates:
        yield "Figures that were not measured were allowed to decide (--accept-estimates)."
    if recipe.allow_slower:
        yield f"What is slower than {report.baseline} was allowed to ship (--allow-slower)."
    for name in decide.PACKED:
        if (limit := getattr(recipe.contract, name)) is not None:
            title = words.limit_title(report, name)
            yield f"{title}: at most {show_bytes(limit)} is asked; pack judges it."
    yield from (f"Brought in: {line}" for line in report.brought)
    yield from (f"Changed by measuring again: {line}." for line in report.changed)
    yield f"The search stopped: {report.stopped or 'not yet; this is the best so far'}."
