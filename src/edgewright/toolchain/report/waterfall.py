"""Where the bytes went: from the file as it was given to what ships, step by step."""

from dataclasses import dataclass
from html import escape

from edgewright.core.units import show_bytes
from edgewright.toolchain.planner.values import CandidateReport, DoneStep, Report
from edgewright.toolchain.report import markup


@dataclass(frozen=True, slots=True)
class Fall:
    """What one step took away; ``before`` less than ``after`` where it added bytes.

    Attributes:
        label: The technique, with what tells it from another.
        before: Bytes of the files before it.
        after: Bytes of the files after it.
    """

    label: str
    before: int
    after: int


def falls(report: Report, candidate: CandidateReport) -> tuple[Fall, ...]:
    """Return what each applied step did to the bytes; they add up to what ships.

    Steps whose bytes nobody looked at are told as one with the next that is known.
    """
    found: list[Fall] = []
    waiting: list[str] = []
    before = report.candidate(report.baseline).file_bytes
    applied = [step for step in candidate.steps if step.applied]
    for step in applied:
        waiting.append(_label(step))
        last = step is applied[-1]
        after = candidate.file_bytes if last else step.bytes_after
        if after:
            found.append(Fall(", ".join(waiting), before, after))
            waiting, before = [], after
    return tuple(found)


def waterfall(report: Report) -> str:
    """Return the figure for the candidate that ships, or comes nearest."""
    shipped, baseline = report.shipped, report.candidate(report.baseline)
    steps = falls(report, shipped)
    if not steps:
        return ""
    top = max([baseline.file_bytes, *(fall.after for fall in steps)])
    rows = [_total(report.baseline, baseline.file_bytes, top, "given")]
    rows += [_fallen(fall, top) for fall in steps]
    rows.append(_total(shipped.name, shipped.file_bytes, top, "ships"))
    share = shipped.file_bytes / max(baseline.file_bytes, 1)
    caption = (
        f"<b>Bytes, step by step</b> from {escape(report.baseline)} to "
        f"{escape(shipped.name)}: {share:.0%} are left."
    )
    return markup.figure(caption, markup.bars("Bytes after each step", rows))


def _total(label: str, size: int, top: int, kind: str) -> str:
    parts = [markup.span(0, size / top, f"whole {kind}")]
    return markup.row(label, parts, f"<b>{show_bytes(size)}</b>", kind=kind)


def _fallen(fall: Fall, top: int) -> str:
    less = fall.before - fall.after
    low, high = sorted((fall.before, fall.after))
    sign = "\u2212" if less > 0 else "+" if less else ""
    parts = [
        markup.span(0, low / top, "rest"),
        markup.span(low / top, high / top, "less" if less >= 0 else "more"),
    ]
    return markup.row(fall.label, parts, f"{sign}{show_bytes(abs(less))}")


def _label(step: DoneStep) -> str:
    """Return a technique with the form it gave the weights, which tells it from another."""
    form = step.settings.get("form") or step.settings.get("granularity", "")
    return f"{step.technique} {form}".rstrip()
