"""``edgewright report``: what an optimised folder came to, in text and as a page."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.cli import output
from edgewright.core.units import show_bytes, show_us

if TYPE_CHECKING:
    from edgewright.toolchain.planner.values import CandidateReport, Report

NAME = "report"
HELP = "show what an optimised folder came to, and write its page anew"


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="made by optimize")


def run(args: argparse.Namespace) -> int:
    """Print the summary and write ``report.html`` from ``report.json``."""
    from edgewright.core import durable, records
    from edgewright.toolchain.planner.workspace import PAGE, read_report
    from edgewright.toolchain.report import page

    report = read_report(args.folder)
    durable.replace_file(args.folder / PAGE, page(report).encode())
    output.emit(args, records.encode(report), text(report, args.folder))
    return 0


def text(report: "Report", folder: Path) -> str:
    """Return the summary for a terminal."""
    from edgewright.toolchain.report import headline, metric_title

    baseline = report.candidate(report.baseline).file_bytes
    rows = [_row(one, baseline) for one in report.candidates]
    judged = metric_title(report)
    head = ("", "candidate", "size", "smaller", "speed", "p99", "memory", judged, "verdict")
    findings = [
        f"  {f.outcome:12} {f.limit}: {f.reason}" + (f". {f.remedy}" if f.remedy else "")
        for f in report.shipped.findings
    ]
    reasons = [f"  {one.name}: {one.reason}" for one in report.candidates]
    reasons += [f"  {name}: left out: {why}" for name, why in report.left_out.items()]
    parts = [
        f"{report.recipe.model} on {report.device.title}: {report.outcome}",
        headline(report),
        "",
        output.table(head, rows),
        f"speed is {report.baseline}'s time over the candidate's, measured in turns",
        *_belongs(report),
        *(f"brought in: {line}" for line in report.brought),
        *_fidelity(report),
        *_doubts(report),
        "",
        f"the contract, and {report.shipped.name}:",
        *findings,
        "candidates:",
        *reasons,
    ]
    parts.append(f"the search stopped: {report.stopped or 'not yet'}")
    if report.changed:
        parts += ["changed by measuring again:", *(f"  {line}" for line in report.changed)]
    return "\n".join([*parts, f"everything is in {folder}, to read in {folder}/report.html"])


def _belongs(report: "Report") -> list[str]:
    """Say whose latency and memory these are, where it is not the device's."""
    if report.device.fingerprint == report.host.fingerprint:
        return []
    return [f"speed, p99 and memory are those of {report.host.title}, not of this device"]


def _fidelity(report: "Report") -> list[str]:
    """Say what a loss means where there are no labels."""
    if report.recipe.synthetic:
        return ["INPUTS WERE MADE UP: nothing is known of accuracy on real ones"]
    if report.recipe.metric not in {"fidelity", "cosine"}:
        return []
    metric = report.recipe.metric
    said = f"there are no labels: a loss is an answer unlike the reference's ({metric})"
    return [f"{said}, and nothing is known of how many are right"]


def _doubts(report: "Report") -> list[str]:
    """Say what is doubtful about the data."""
    return [
        f"{'accepted' if doubt.accepted else 'note'}: {doubt.name}: {doubt.detail}"
        for doubt in report.doubts
    ]


def _row(one: "CandidateReport", baseline: int) -> tuple[str, ...]:
    memory = one.figure("peak_memory_bytes")
    return (
        "*" if one.chosen else "",
        one.name,
        show_bytes(one.file_bytes),
        f"{baseline / max(one.file_bytes, 1):.2f}x",
        _speed(one),
        _us(one, "p99_us"),
        show_bytes(memory.value) if memory else "",
        f"{one.overall.candidate:.2%}",
        one.outcome,
    )


def _speed(one: "CandidateReport") -> str:
    from edgewright.toolchain.report import words

    ratio = words.ratio_of(one)
    return f"{words.times(ratio.value)}x" if ratio else ""


def _us(one: "CandidateReport", name: str) -> str:
    figure = one.figure(name)
    return show_us(figure.value) if figure else ""
