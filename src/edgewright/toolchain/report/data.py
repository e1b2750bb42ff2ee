"""What stands behind the figures: doubts about the data, and how its classes are covered."""

from collections.abc import Sequence
from html import escape

from edgewright.toolchain.planner.values import CoverageLine, Report
from edgewright.toolchain.report import markup, words

_SHOWN = 30


def banner(report: Report) -> str:
    """Return what nobody may overlook; empty where there is nothing of the kind."""
    said = words.made_up(report)
    if not said:
        return ""
    first, _, rest = said.partition(". ")
    return f'<div class="banner" role="alert"><b>{escape(first)}.</b> {escape(rest)}</div>'


def doubts(report: Report) -> str:
    """Return what is doubtful about the data, what was accepted in front."""
    lines = [
        f"{markup.badge('accepted' if one.accepted else 'note', 'doubt')} "
        f"<b>{escape(one.name)}</b>: {escape(one.detail)}"
        for one in sorted(report.doubts, key=lambda one: not one.accepted)
    ]
    if not lines:
        return ""
    return markup.section("Doubts about the data", markup.listed(lines, "doubts"))


def coverage(report: Report) -> str:
    """Return how many samples of each class there are, with what calibration lacks."""
    lines = report.coverage
    if not lines:
        return ""
    most = max(max(line.calibrate, line.evaluate) for line in lines) or 1
    shown = sorted(lines, key=lambda line: line.calibrate)[:_SHOWN]
    shown = [line for line in lines if line in shown]
    rows = [_row(line, most) for line in shown]
    rest = len(lines) - len(shown)
    after = f'<p class="quiet">And {rest} classes with more samples.</p>' if rest > 0 else ""
    caption = (
        "<b>Samples of each class</b>: "
        '<span class="key calibrate">to calibrate on</span> '
        '<span class="key evaluate">to judge by</span>'
    )
    drawn = markup.bars("Samples of each class to calibrate on and to judge by", rows)
    return markup.figure(caption, drawn, after, _lacking(lines))


def lacking(lines: Sequence[CoverageLine]) -> list[str]:
    """Return the classes that are judged by and were not calibrated on."""
    if not any(line.calibrate for line in lines):
        return []
    return [line.label for line in lines if not line.calibrate and line.evaluate]


def _lacking(lines: Sequence[CoverageLine]) -> str:
    if not any(line.calibrate for line in lines):
        return '<p class="quiet">Nothing was calibrated.</p>'
    missing = lacking(lines)
    if not missing:
        return '<p class="quiet">Every class was calibrated on.</p>'
    named = ", ".join(f"<b>{escape(label)}</b>" for label in missing)
    word = "class" if len(missing) == 1 else "classes"
    return f'<p class="lacks">Not calibrated on: {word} {named}.</p>'


def _row(line: CoverageLine, most: int) -> str:
    parts = (
        markup.span(0, line.calibrate / most, "calibrate"),
        markup.span(0, line.evaluate / most, "evaluate"),
    )
    kind = "pair lacking" if not line.calibrate and line.evaluate else "pair"
    value = f"{line.calibrate} / {line.evaluate}"
    return markup.row(line.label, parts, value, kind=kind)
