"""``edgewright compare``: two optimised folders side by side, noise told from difference."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.cli import output

if TYPE_CHECKING:
    from edgewright.toolchain.report.compare import Compared, Comparison

NAME = "compare"
HELP = "show two optimised folders side by side, and which differences are more than noise"


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("first", type=Path, metavar="A", help="a folder made by optimize")
    parser.add_argument("second", type=Path, metavar="B", help="another one")


def run(args: argparse.Namespace) -> int:
    """Print the comparison."""
    from edgewright.core import records
    from edgewright.toolchain.planner.workspace import read_report
    from edgewright.toolchain.report.compare import compare

    found = compare(read_report(args.first), read_report(args.second))
    output.emit(args, records.encode(found), text(found, str(args.first), str(args.second)))
    return 0


def text(found: "Comparison", first: str, second: str) -> str:
    """Return the comparison for a terminal."""
    head = ("", first, second)
    ships = [
        ("model", found.first.model, found.second.model),
        ("ships", _ships(found.first.candidate, found.first.outcome),
         _ships(found.second.candidate, found.second.outcome)),
    ]  # fmt: skip
    ships += _steps(found)
    parts = [output.table(head, ships)]
    if found.asked:
        asked = [(one.what, one.first, one.second) for one in found.asked]
        parts.append(f"asked differently\n{output.table(head, asked)}")
    else:
        parts.append("both were asked the same")
    wide = (*head, "B over A", "difference")
    figures = output.table(wide, [_figure(one) for one in found.figures])
    parts.append(f"figures, with 95 % bounds\n{figures}")
    losses = [_loss(one) for one in found.losses]
    if losses:
        parts.append(
            f"points lost, with 95 % bounds\n{output.table((*head, 'difference'), losses)}"
        )
    return "\n\n".join([*parts, "\n".join(found.remarks)])


def _ships(candidate: str, outcome: str) -> str:
    return candidate if outcome == "pass" else f"none ({outcome}); nearest {candidate}"


def _steps(found: "Comparison") -> list[tuple[str, str, str]]:
    one, two = found.first.steps, found.second.steps
    length = max(len(one), len(two))
    return [
        (f"step {n + 1}", one[n] if n < len(one) else "", two[n] if n < len(two) else "")
        for n in range(length)
    ]


def _figure(one: "Compared") -> tuple[str, ...]:
    ratio = "" if one.ratio is None else f"{one.ratio:.2f}x"
    if one.name == "latency_ratio_bp" and one.ratio:
        ratio = f"{1 / one.ratio:.2f}x"
    sides = (
        _bounded(one.name, one.first, one.first_bounds),
        _bounded(one.name, one.second, one.second_bounds),
    )
    return (one.title, *sides, ratio, one.verdict)


def _bounded(name: str, value: int | None, bounds: tuple[int, ...]) -> str:
    from edgewright.toolchain.report import words

    if value is None:
        return ""
    if name == "latency_ratio_bp":
        shown = [f"{words.times(one)}x" for one in (value, *reversed(bounds))]
    else:
        shown = [words.show_value(name, one) for one in (value, *bounds)]
    if len(set(bounds)) < 2:
        return shown[0]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def _loss(one: "Compared") -> tuple[str, ...]:
    sides = [
        f"{(value or 0) / 100:.2f} ({bounds[0] / 100:.2f} to {bounds[1] / 100:.2f})"
        for value, bounds in (
            (one.first, one.first_bounds), (one.second, one.second_bounds),
        )
    ]  # fmt: skip
    return (one.title, *sides, one.verdict)
