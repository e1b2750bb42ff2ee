"""Candidates against each other: what is paid in one thing for what is gained in another.

Every pair of measures has a plot of its own, in which less is better on both sides, so
that good is down and left. Latency is what the contract limits, p99, where that can be
seen; else it is the ratio to the float's, taken in turns: two medians of different minutes
do not stand side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations

from edgewright.core.evidence import Evidence
from edgewright.core.units import show_bytes, show_us
from edgewright.toolchain import svg
from edgewright.toolchain.planner.values import CandidateReport, Report
from edgewright.toolchain.report import markup, words
from edgewright.toolchain.svg import Axis, Mark, Span

ENERGY = "energy_uj"

# A limit more than this many times beyond every figure is told, not drawn.
_FAR = 4
# Where others lie within the limit, what is farther out than this is drawn at the edge.
_CAP = 3

_UNASKED = (
    "Small squares were left out for their cost, and not asked for their answers; a short run "
    "of them, or of their like, says how fast they are. "
)
_ORDER = {"size": 0, "latency": 1, "energy": 3}


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing of which less is better.

    Attributes:
        name: For headings: size, latency, energy, or what the metric judges.
        axis: How it is drawn.
        of: Its value with bounds by candidate; candidates without it are not there.
    """

    name: str
    axis: Axis
    of: dict[str, Span]


def pareto(report: Report) -> str:
    """Return the plots of every pair of measures."""
    shown = measures(report)
    plots = [_plot(report, one, two) for one, two in combinations(shown, 2)]
    squares = report.prices and any(one.name == "latency" for one in shown)
    energy = "" if any(one.name == "energy" for one in shown) else "Energy: not measured. "
    latency = "" if any(one.name == "latency" for one in shown) else "Latency: not measured. "
    legend = (
        '<p class="legend"><span class="key chosen">chosen</span>'
        '<span class="key pass">holds the contract</span>'
        '<span class="key inconclusive">not decided</span>'
        '<span class="key fail">does not hold it</span>'
        '<span class="key frontier">nothing found is better on both sides</span>'
        '<span class="key limit">limit of the contract, shaded beyond</span></p>'
    )
    said = (
        f'<p class="quiet">Down and left is better. Lines through the points are '
        f"{words.SURE}. Pale ones are no better than another candidate in anything. "
        f"{latency}{energy}{_UNASKED if squares else ''}</p>"
    )
    return markup.section(
        "Candidates against each other",
        f'<div class="panels">{"".join(plots)}</div>',
        legend,
        said,
    )


def measures(report: Report) -> tuple[Measure, ...]:
    """Return what is known of at least two candidates: size, latency, loss and energy."""
    always = (_size(report), _loss(report))
    perhaps = [one for one in (_latency(report), _energy(report)) if len(one.of) > 1]
    return tuple(sorted((*always, *perhaps), key=lambda one: _ORDER.get(one.name, 2)))


def dominated(report: Report, shown: Sequence[Measure]) -> set[str]:
    """Return the candidates that another is as good as in everything, and better in one."""
    known = {
        one.name: tuple(m.of[one.name].value for m in shown)
        for one in report.candidates
        if all(one.name in m.of for m in shown)
    }
    # What was not measured in everything was given up early; it is no match for anybody.
    beaten = {one.name for one in report.candidates} - set(known)
    for name, mine in known.items():
        if any(
            theirs != mine and all(a <= b for a, b in zip(theirs, mine, strict=True))
            for theirs in known.values()
        ):
            beaten.add(name)
    return beaten


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points no other is below on both sides, by rising first coordinate."""
    best: list[tuple[float, float]] = []
    for one, two in sorted(points):
        if not best or two < best[-1][1]:
            best.append((one, two))
    return best


def _plot(report: Report, one: Measure, two: Measure) -> str:
    beaten = dominated(report, measures(report))
    marks = []
    for number, candidate in enumerate(report.candidates, start=1):
        name = candidate.name
        if name in one.of and name in two.of:
            kind = "chosen" if candidate.chosen else candidate.outcome
            muted = name in beaten and not candidate.chosen
            marks.append(Mark(name, str(number), one.of[name], two.of[name], kind, muted))
    if (one.name, two.name) == ("size", "latency"):
        marks += _priced(report)
    first = {report.shipped.name: 0, report.baseline: 1}
    marks.sort(key=lambda mark: (first.get(mark.label, 2), mark.muted))
    title = f"{_capital(one.name)} against {two.name}"
    drawn = svg.scatter(
        marks,
        one.axis,
        two.axis,
        title=f"{title} of each candidate",
        frontier=frontier([(m.x.value, m.y.value) for m in marks if m.kind != "priced"]),
    )
    return f"<figure><figcaption><b>{escape(title)}</b></figcaption>{drawn}</figure>"


def _priced(report: Report) -> list[Mark]:
    """Return what was left out for its cost; latency is a ratio there, nothing limits p99."""
    found = []
    for name, price in report.prices.items():
        x, y = float(price.file_bytes), price.latency_ratio_bp / words.BP
        found.append(Mark(name, "", Span(x, x, x), Span(y, y, y), "priced"))
    return found


def _size(report: Report) -> Measure:
    limit = report.recipe.contract.file_bytes
    axis = Axis(
        "bytes of the files",
        lambda value: _round(show_bytes(round(value))) if value else "0",
        limit,
        f"limit {_round(show_bytes(limit or 0))}",
    )
    return Measure("size", axis, _figures(report, "file_bytes"))


def _latency(report: Report) -> Measure:
    p99 = _figures(report, "p99_us")
    limit = report.recipe.contract.p99_us
    if report.device.fingerprint != report.host.fingerprint:
        limit = None
    highest = max((span.high for span in p99.values()), default=0.0)
    said = f"p99 limit {_round(show_us(limit or 0))}"
    if limit is not None and limit <= _FAR * highest:
        return Measure("latency", _us_axis("p99 latency", limit, said), p99)
    ratio = {name: _over(span) for name, span in _figures(report, "latency_ratio_bp").items()}
    far = None if limit is None else float("inf")
    label = f"latency, times {report.baseline}'s"
    axis = Axis(label, lambda value: f"{value:g}\u00d7", far, said)
    return Measure("latency", axis, ratio)


def _energy(report: Report) -> Measure:
    figures = [figure for one in report.candidates if (figure := one.figure(ENERGY))]
    told = "" if all(figure.firm for figure in figures) else ", estimated"
    axis = Axis(f"energy of an answer{told}", lambda value: f"{value / 1000:g} mJ")
    return Measure("energy", axis, _figures(report, ENERGY))


def _loss(report: Report) -> Measure:
    limit = report.recipe.contract.accuracy_drop_bp / 100
    spans = {}
    for one in report.candidates:
        loss = one.overall.loss()
        spans[one.name] = Span(loss.low * 100, loss.estimate * 100, loss.high * 100)
    near = [
        span.high
        for one in report.candidates
        if (span := spans[one.name]).value <= max(2 * limit, 1)
    ]
    cap = max(_CAP * limit, 1.5 * max(near, default=0.0), 1.0)
    farthest = max(span.high for span in spans.values())
    axis = Axis(
        f"points of {words.quality(report)} lost",
        lambda value: f"{value:g}",
        limit,
        f"limit {limit:g}",
        cap if near and farthest > cap else None,
    )
    return Measure(words.quality(report), axis, spans)


def _capital(name: str) -> str:
    return name.capitalize() if name.islower() else name


def _round(text: str) -> str:
    """Return ``500.0 kB`` as ``500 kB``: ticks are round."""
    number, _, unit = text.partition(" ")
    return f"{float(number):g} {unit}"


def _us_axis(label: str, limit: float, said: str) -> Axis:
    return Axis(label, lambda value: _round(show_us(value)) if value else "0", limit, said)


def _figures(report: Report, name: str) -> dict[str, Span]:
    found = {}
    for one in report.candidates:
        figure = one.figure(name)
        if figure is not None:
            found[one.name] = _span(figure)
    return found


def _span(figure: Evidence) -> Span:
    low = figure.value if figure.lower is None else figure.lower
    high = figure.value if figure.upper is None else figure.upper
    return Span(low, figure.value, high)


def _over(span: Span) -> Span:
    return Span(span.low / words.BP, span.value / words.BP, span.high / words.BP)


def number(report: Report, candidate: CandidateReport) -> int:
    """Return what stands for a candidate in a plot without room for its name."""
    return 1 + [one.name for one in report.candidates].index(candidate.name)
