"""What was lost against the reference, overall and class by class, with its bounds."""

from collections.abc import Sequence
from html import escape

from edgewright.core.evidence import Paired, PairedScores
from edgewright.toolchain import svg
from edgewright.toolchain.planner.values import Report
from edgewright.toolchain.report import markup, words

_SHOWN = 20  # classes; the rest is in the table
_FOLDED = 40  # rows of a table that is opened by hand
_ROOM = 1.06


def losses(report: Report) -> str:
    """Return the bounds of every loss as bars, with the limit of each."""
    shipped, contract = report.shipped, report.recipe.contract
    overall, *classes = shipped.counts
    shown = classes
    if len(classes) > _SHOWN:
        worst = sorted(classes, key=lambda counts: -counts.loss().high)[:_SHOWN]
        shown = [counts for counts in classes if counts in worst]
    limits = [contract.accuracy_drop_bp] + [contract.worst_class_drop_bp] * len(shown)
    pairs = list(zip((overall, *shown), limits, strict=True))
    low, high = _ends(pairs)
    rows = [_row(counts, limit, low, high) for counts, limit in pairs]
    marks = [((tick - low) / (high - low), f"{tick:g}") for tick in svg.ticks(high, low)]
    quality = words.quality(report)
    caption = (
        f"<b>Points of {escape(quality)} {escape(shipped.name)} lost</b> against the "
        f"reference, with {words.SURE} and the limit of each as a dashed line."
    )
    rest = len(classes) - len(shown)
    after = f'<p class="quiet">And {rest} classes that lost less.</p>' if rest else ""
    axis = markup.scale(marks, f"points of {quality} lost")
    label = f"Points of {quality} lost, overall and by class"
    return markup.figure(caption, markup.bars(label, rows, axis=axis), after)


def classes(report: Report) -> str:
    """Return the table of every class."""
    shipped = report.shipped
    counted = not any(isinstance(counts, PairedScores) for counts in shipped.counts)
    rows = [_line(counts) for counts in shipped.counts]
    differs = "lost, gained" if counted else "difference"
    head = (
        "class", "samples", "reference", "candidate", differs, "points lost", "95 % bounds",
    )  # fmt: skip
    written = markup.table(head, rows)
    if len(rows) > _FOLDED:
        written = markup.folded(f"All {len(rows) - 1} classes", written)
    return written


def _ends(pairs: Sequence[tuple[Paired, int]]) -> tuple[float, float]:
    low = min(0.0, *(counts.loss().low for counts, _ in pairs)) * 100
    high = max(max(counts.loss().high * 100, limit / 100) for counts, limit in pairs)
    return low * _ROOM, max(high, 0.01) * _ROOM


def _row(counts: Paired, limit_bp: int, low: float, high: float) -> str:
    loss, limit = counts.loss(), limit_bp / 100

    def at(points: float) -> float:
        return (points - low) / (high - low)

    over = loss.high * 100 > limit
    kind = "failed" if over else "held"
    parts = (
        markup.pin(at(0), "zero"),
        markup.span(at(loss.low * 100), at(loss.high * 100), f"range {kind}"),
        markup.pin(at(loss.estimate * 100), f"dot {kind}"),
        markup.pin(at(limit), "limit"),
    )
    value = words.points(loss.estimate) + (" \u26a0" if over else "")
    return markup.row(counts.label, parts, value, kind="overall" if limit_bp < 0 else "")


def _line(counts: Paired) -> tuple[str, ...]:
    loss = counts.loss()
    low, high = words.points(loss.low), words.points(loss.high)
    return (
        escape(counts.label),
        str(counts.n),
        f"{counts.reference:.2%}",
        f"{counts.candidate:.2%}",
        escape(counts.unlike),
        words.points(loss.estimate),
        f"{low} to {high}",
    )
