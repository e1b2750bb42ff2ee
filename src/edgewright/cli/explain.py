"""``edgewright explain``: why a candidate ships and the others do not, in sentences."""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.cli import output
from edgewright.core.units import show_bytes

if TYPE_CHECKING:
    from edgewright.toolchain.planner.values import Report
    from edgewright.toolchain.report.explain import Explanation, Other, StepStory

NAME = "explain"
HELP = "say in sentences why a candidate ships and why the others do not"

_WIDTH = 100
_GLUE = "\0"
_MARKS = {"pass": "\u2713", "fail": "\u2717", "inconclusive": "?", "left out": "-"}


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="made by optimize")
    parser.add_argument(
        "candidate", nargs="?", default="", metavar="CANDIDATE",
        help="which one to explain; default what ships, or comes nearest",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print the explanation."""
    from edgewright.core import records
    from edgewright.toolchain.planner.workspace import read_report
    from edgewright.toolchain.report.explain import explain

    report = read_report(args.folder)
    found = explain(report, str(args.folder), args.candidate)
    document = {"outcome": report.outcome, "chosen": report.chosen, **records.encode(found)}
    output.emit(args, document, text(report, found))
    return 0


def text(report: "Report", found: "Explanation") -> str:
    """Return the explanation for a terminal."""
    on = report.device.title
    parts = [
        _wrap(f"{report.recipe.model} on {on}: {report.outcome}. {found.headline}"),
        _part("why", found.verdict),
        _limits(report, found),
        _part("what each step did", map(_step, found.steps)),
        _part("layers that are not int8", found.layers),
        _part("the others", map(_other, found.others)),
        _runner_up(found),
        _part("what this rests on", found.assumed),
        _next(found),
    ]
    return "\n\n".join(part for part in parts if part)


def _limits(report: "Report", found: "Explanation") -> str:
    from edgewright.toolchain.report import words

    lines = [
        f"{_mark(f.outcome)} {words.limit_title(report, f.limit)}: {f.reason}"
        + (f". {f.remedy}" if f.remedy else "")
        for f in found.limits
    ]
    return _part(f"the contract, and {found.candidate}", lines)


def _step(step: "StepStory") -> str:
    if not step.applied:
        return f"{step.technique}: nothing to do"
    size = ""
    if step.bytes_after:
        size = f" {show_bytes(step.bytes_before)} became {show_bytes(step.bytes_after)}:"
    did = "; ".join(step.did) or "applied"
    return f"{step.technique}:{size} {did}. Tried because: {step.why}"


def _other(other: "Other") -> str:
    return f"{_mark(other.outcome)} {other.name} ({other.outcome}): {other.why}"


def _runner_up(found: "Explanation") -> str:
    rival = found.runner_up
    if not rival.name:
        return ""
    goals = [f"or --goal {goal} alone would ship it" for goal in rival.goals]
    return _part(f"for {rival.name} to ship", (*rival.needs, *goals))


def _next(found: "Explanation") -> str:
    lines = ["what to try next"]
    for one in found.advice:
        lines.append(_bullet(one.why))
        if one.command:
            # A command is not wrapped: it is there to be copied.
            lines.append(f"      {one.command}")
    return "\n".join(lines)


def _part(title: str, lines: Iterable[str]) -> str:
    items = [_bullet(line) for line in lines]
    return "\n".join([title, *items]) if items else ""


def _bullet(line: str) -> str:
    return _wrap(line, first="  ", then="    ")


def _wrap(line: str, *, first: str = "", then: str = "") -> str:
    """Return a line as several; a figure and its unit stay together."""
    filled = textwrap.fill(
        line.replace(" %", f"{_GLUE}%"), width=_width(), initial_indent=first,
        subsequent_indent=then, break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return filled.replace(_GLUE, " ")


def _width() -> int:
    return min(shutil.get_terminal_size((_WIDTH, 24)).columns, _WIDTH)


def _mark(outcome: str) -> str:
    """Return a mark for an outcome; its word where the output cannot hold one."""
    mark = _MARKS.get(outcome, "-")
    try:
        mark.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return f"[{outcome}]"
    return mark
