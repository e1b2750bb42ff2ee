"""Two runs side by side: what was asked otherwise, and which differences are more than noise.

A difference is beyond noise where the bounds of the two figures do not overlap. Figures of
two machines are never compared, nor losses on other samples or by another metric: then
it says so instead. Each run was measured in its own minutes; only ``bench`` takes turns.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from edgewright.core import digest
from edgewright.core.evidence import Evidence, Paired
from edgewright.toolchain.planner.values import CandidateReport, Report
from edgewright.toolchain.report import words

EQUAL, DIFFERENT = "equal", "different"
BEYOND, WITHIN = "beyond noise", "within noise"
MACHINES = "another machine: not comparable"
UNKNOWN = "without bounds: not decided"
JUDGED = "judged otherwise: not comparable"

_TITLES = {
    "file_bytes": "size",
    "latency_ratio_bp": "speed beside its float",
    "p50_us": "median latency",
    "p95_us": "p95 latency",
    "p99_us": "p99 latency",
    "peak_memory_bytes": "peak memory",
    "first_answer_ms": "first answer",
    "energy_uj": "energy of an answer",
}
_ASKED = (
    "model_sha256", "reference_sha256", "data_sha256", "device", "metric", "quantization",
    "goal", "budget_s", "allow_slower", "accept_estimates", "synthetic", "trusted",
    "precision",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """Something the two runs were asked differently, as text."""

    what: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure of both; a side that was not measured is None.

    Attributes:
        name: Of the evidence, or of the class that lost.
        title: For people.
        first: The estimate, in the unit the name carries; losses in basis points.
        second: Likewise.
        first_bounds: Lower and upper, empty where there are none.
        second_bounds: Likewise.
        ratio: Second over first, None where it means nothing.
        verdict: equal, different, beyond noise, within noise, or why it cannot be said.
    """

    name: str
    title: str
    first: int | None
    second: int | None
    first_bounds: tuple[int, ...]
    second_bounds: tuple[int, ...]
    ratio: float | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs: what ships of it, or comes nearest, and its steps."""

    model: str
    candidate: str
    outcome: str
    machine: str
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        first: The one.
        second: The other.
        asked: What was asked differently.
        figures: Of what ships.
        losses: Overall and of each class that both have.
        remarks: What to mind, one sentence each.
    """

    first: Side
    second: Side
    asked: tuple[Asked, ...]
    figures: tuple[Compared, ...]
    losses: tuple[Compared, ...]
    remarks: tuple[str, ...]


def compare(first: Report, second: Report) -> Comparison:
    """Return the comparison of two reports."""
    alike = _judged_alike(first, second)
    return Comparison(
        first=_side(first),
        second=_side(second),
        asked=tuple(_asked(first, second)),
        figures=tuple(_figures(first.shipped, second.shipped)),
        losses=tuple(_losses(first, second, alike=alike)),
        remarks=tuple(_remarks(first, second, alike=alike)),
    )


def _side(report: Report) -> Side:
    one = report.shipped
    steps = tuple(
        " ".join((step.technique, *(f"{k}={v}" for k, v in sorted(step.settings.items()))))
        for step in one.steps
        if step.applied
    )
    return Side(report.recipe.model, one.name, report.outcome, report.host.title, steps)


def _asked(first: Report, second: Report) -> Iterator[Asked]:
    for name in _ASKED:
        one, two = getattr(first.recipe, name), getattr(second.recipe, name)
        if one != two:
            title = name.removesuffix("_sha256").replace("_", " ")
            yield Asked(title, _told(name, one), _told(name, two))
    one, two = (words.asked(report.recipe.contract) for report in (first, second))
    for field in dict.fromkeys((*one, *two)):
        if one.get(field) != two.get(field):
            sides = (
                words.asked_value(field, side[field]) if field in side else "not limited"
                for side in (one, two)
            )
            yield Asked(words.asked_title(first, field), *sides)
    if first.host.fingerprint != second.host.fingerprint:
        yield Asked("measured on", _machine(first), _machine(second))
    tools, others = first.recipe.tools, second.recipe.tools
    for tool in sorted({*tools, *others}):
        if tools.get(tool) != others.get(tool):
            yield Asked(tool, tools.get(tool, "none"), others.get(tool, "none"))


def _told(name: str, value: object) -> str:
    if name.endswith("_sha256"):
        return digest.short(str(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in sorted(value.items())) or "none"
    return str(value) if value else "none"


def _machine(report: Report) -> str:
    return f"{report.host.title} ({report.host.fingerprint})"


def _figures(first: CandidateReport, second: CandidateReport) -> Iterator[Compared]:
    """Yield what was measured of either, the known ones in front."""
    there = [e.name for e in (*first.evidence, *second.evidence)]
    for name in dict.fromkeys((*(n for n in _TITLES if n in there), *there)):
        one, two = first.figure(name), second.figure(name)
        title = _TITLES.get(name, name)
        sides = (_value(one), _value(two))
        bounds = (_bounds(one), _bounds(two))
        ratio = None
        verdict = "measured of one only"
        if one is not None and two is not None:
            verdict = _verdict(one, two)
            if verdict != MACHINES and one.value:
                ratio = round(two.value / one.value, 4)
        yield Compared(name, title, *sides, *bounds, ratio, verdict)


def _value(figure: Evidence | None) -> int | None:
    return None if figure is None else figure.value


def _bounds(figure: Evidence | None) -> tuple[int, ...]:
    if figure is None or figure.lower is None or figure.upper is None:
        return ()
    return (figure.lower, figure.upper)


def _verdict(one: Evidence, two: Evidence) -> str:
    if one.exact and two.exact:
        return EQUAL if one.value == two.value else DIFFERENT
    if one.machine != two.machine:
        return MACHINES
    return _apart(_bounds(one), _bounds(two))


def _apart(one: tuple[int, ...], two: tuple[int, ...]) -> str:
    """Return whether two intervals overlap."""
    if not one or not two:
        return UNKNOWN
    return BEYOND if one[1] < two[0] or two[1] < one[0] else WITHIN


def _judged_alike(first: Report, second: Report) -> bool:
    one, two = first.recipe, second.recipe
    return (one.metric, one.data_sha256, one.reference_sha256) == (
        two.metric, two.data_sha256, two.reference_sha256,
    )  # fmt: skip


def _losses(first: Report, second: Report, *, alike: bool) -> Iterator[Compared]:
    others = {counts.label: counts for counts in second.shipped.counts}
    for counts in first.shipped.counts:
        other = others.get(counts.label)
        if other is None:
            continue
        one, two = _loss(counts), _loss(other)
        verdict = _apart((one[0], one[2]), (two[0], two[2])) if alike else JUDGED
        if alike and counts == other:
            verdict = EQUAL
        yield Compared(
            counts.label, counts.label, one[1], two[1], (one[0], one[2]), (two[0], two[2]),
            None, verdict,
        )  # fmt: skip


def _loss(counts: Paired) -> tuple[int, int, int]:
    """Return lower bound, estimate and upper bound of a loss in basis points."""
    loss = counts.loss()
    low, value, high = (round(x * words.BP) for x in (loss.low, loss.estimate, loss.high))
    return low, value, high


def _remarks(first: Report, second: Report, *, alike: bool) -> Iterator[str]:
    if first.host.fingerprint != second.host.fingerprint:
        yield (
            "The two were measured on different machines: nothing is said of their speed and "
            "memory."
        )
    else:
        yield (
            "Each was measured in its own minutes; edgewright bench A --against B lets them "
            "take turns."
        )
    if not alike:
        yield "They were judged by other samples, another reference or another metric."
    for report in (first, second):
        if report.recipe.synthetic:
            yield f"{report.recipe.model}: {words.made_up(report)}"
