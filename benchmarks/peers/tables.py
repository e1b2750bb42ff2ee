"""The figures as text: a table a model, then one of who does best."""

from collections.abc import Sequence

from benchmarks.peers import OURS
from benchmarks.peers.results import Measured, Result, Row
from benchmarks.peers.timing import Ratio

from edgewright.cli.output import table

_WIDE = 60
_FORMS = ("int8", "int8-weights", "int4-weights", "fp16")
_HEAD = ("", "smaller", "lost", "at most", "own float", "bounds", "ORT float", "took")


def of_model(measured: Measured) -> str:
    """Return the table of one model, the fastest of each form first."""
    said = f"{measured.float_bytes / 1000:,.0f} kB, {measured.family}"
    if measured.mflop:
        said += f", {measured.mflop:.2f} MFLOP"
    lines = [f"{measured.name}: {said}; points are {measured.metric.replace('_', ' ')}"]
    ordered = sorted(measured.results, key=_place)
    lines.append(table(_HEAD, [_cells(r) for r in ordered if r.bytes]))
    lines += [f"  {r.variant.title}: {r.reason[: 2 * _WIDE]}" for r in ordered if r.reason]
    return "\n".join([*lines, *(f"  {note}" for note in measured.notes)])


def of_goals(rows: Sequence[Row]) -> str:
    """Return the table of goals, with the best of the others beside ours."""
    shown = [
        (r["name"], r["value"], r["unit"], r["goal"], _MET[r["met"]], _best(r), r["spread"])
        for r in rows
    ]
    head = ("goal", "ours", "unit", "wanted", "met", "best of the others", "")
    return table(head, shown)


_MET = {True: "yes", False: "NO", None: ""}


def _best(row: Row) -> str:
    others = {k: v for k, v in row["peers"].items() if not k.startswith(OURS)}
    if not others:
        return ""
    choose = min if row["goal"].startswith("<") else max
    name = choose(others, key=lambda key: others[key])
    return f"{others[name]:g} {name}"


def _place(result: Result) -> tuple[int, float]:
    speed = result.absolute.value if result.absolute else 0.0
    return _FORMS.index(result.variant.form), -speed


def _cells(result: Result) -> tuple[str, ...]:
    drop, own = result.drop, result.speedup
    return (
        f"  {result.variant.title}",
        f"{result.saved:6.1f} %",
        f"{drop.points:+7.2f}" if drop else "",
        f"{drop.high:+7.2f}" if drop else "",
        _times(own),
        f"{own.low:.2f} to {own.high:.2f}" if own else "",
        _times(result.absolute),
        f"{result.seconds:6.1f} s",
    )


def _times(ratio: Ratio | None) -> str:
    return f"{ratio.value:6.2f} x" if ratio else ""
