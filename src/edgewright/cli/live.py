"""What ``optimize`` shows while it works: a live table on a terminal, plain lines elsewhere.

The display rests while latency is measured: drawing would take the time of the very thing
that is timed.
"""

import argparse
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

from edgewright.core.units import show_bytes, show_us

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from edgewright.toolchain.recipe import Event, Observer

_MARKS = {"pass": "green", "fail": "red", "inconclusive": "yellow", "left out": "dim"}
_FIGURES, _ALWAYS = ("size", "speed", "p99", "lost"), ("size",)
_NARROW = 68  # columns below which there is only room for sizes
_ROOMY = 110  # columns from which reasons are shown too
_AROUND = 9  # lines of the display that are not candidates
_TICK_S = 1.0
_BP = 10_000


@contextmanager
def watcher(args: argparse.Namespace) -> Iterator["Observer"]:
    """Yield what shows progress: JSON lines, nothing, a live table, or plain lines."""
    if args.events:
        yield _print_event
    elif args.json:
        yield _ignore
    elif sys.stderr.isatty():
        with _live() as observe:
            yield observe
    else:
        yield _print_line


@dataclass(slots=True)
class Board:
    """What is known of a run by its events.

    Attributes:
        clock: Seconds that only grow.
        stage: The last one that began.
        rows: Candidates as they were told last, by name.
        left_out: Why candidates were left out, by name.
        best: Name of the best so far.
        workers: What was said of them last.
        quiet: Whether drawing would disturb what goes on.
    """

    clock: Callable[[], float] = monotonic
    stage: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    best: str = ""
    workers: str = ""
    quiet: bool = False
    _told: float = 0.0

    def see(self, event: "Event") -> None:
        """Take note of an event."""
        fields = event.fields
        if event.kind == "stage":
            self.stage, self._told = dict(fields), self.clock()
            self.quiet = str(fields["what"]).startswith(("latency of ", "price of "))
        elif event.kind == "candidate":
            self.rows[fields["name"]] = fields
            self.left_out.pop(fields["name"], None)  # what was set aside may be judged later
            self._lead(fields["best"])
        elif event.kind == "workers":
            self.workers = fields["what"]
        elif event.kind == "left_out":
            self.left_out[fields["name"]] = fields["reason"]

    def _lead(self, best: str) -> None:
        """Note who leads; what was said of the one before would be stale."""
        before = self.rows.get(self.best)
        if before is not None and best not in {"", self.best} and before["chosen"]:
            told = {"chosen": False, "reason": f"passes too, behind {best}"}
            self.rows[self.best] = {**before, **told}
        self.best = best

    def lines(self) -> list[str]:
        """Return what goes on, how long it took and what Ctrl-C does."""
        if not self.stage:
            return ["starting"]
        since = self.clock() - self._told
        said = [f"{self.stage['stage']}: {self.stage['what']}"]
        elapsed = _clock(self.stage["elapsed_ms"] / 1000 + since)
        parts = [f"{elapsed} elapsed"]
        if "count" in self.stage:
            parts.insert(0, f"candidate {self.stage['index']} of {self.stage['count']}")
        if "eta_ms" in self.stage:
            left = max(self.stage["eta_ms"] / 1000 - since, 0)
            parts.append(f"about {_clock(left)} to go")
        said.append(", ".join(parts))
        kept = "keeps the best so far" if self.best else "stops; there is nothing to keep yet"
        said += [self.workers] if self.workers else []
        return [*said, f"Ctrl-C {kept}"]

    def shown(self, room: int) -> list[Mapping[str, Any]]:
        """Return the candidates to show where there is room for ``room``: best and latest."""
        rows = list(self.rows.values())
        if len(rows) <= room:
            return rows
        latest = rows[-max(room, 1) :]
        best = self.rows.get(self.best)
        if best is not None and best not in latest:
            latest = [best, *latest[1:]]
        return latest


@contextmanager
def _live() -> Iterator["Observer"]:
    from rich.console import Console
    from rich.live import Live

    console, board = Console(stderr=True, highlight=False), Board()
    ended = threading.Event()
    # What stays is printed when all is done, unless that goes elsewhere.
    with Live(
        get_renderable=lambda: draw(board, console.width, console.height),
        console=console,
        auto_refresh=False,
        transient=sys.stdout.isatty(),
        vertical_overflow="crop",
    ) as live:

        def tick() -> None:
            while not ended.wait(_TICK_S):
                if not board.quiet:
                    live.refresh()

        def show(event: "Event") -> None:
            board.see(event)
            live.refresh()

        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        try:
            yield show
        finally:
            ended.set()
            ticker.join()


def draw(board: Board, width: int, height: int) -> "RenderableType":
    """Return the display for a terminal of ``width`` columns and ``height`` lines."""
    from rich.console import Group
    from rich.text import Text

    first, *rest = board.lines()
    parts: list[RenderableType] = []
    rows = board.shown(max(height - _AROUND - len(board.left_out), 3))
    if rows:
        parts += [_table(board, rows, width), Text()]
    hidden = len(board.rows) - len(rows)
    if hidden:
        parts.append(Text(f"and {hidden} more before", style="dim"))
    for name, why in board.left_out.items():
        parts.append(Text(f"  {name} was left out: {why}", style="dim", no_wrap=True,
                          overflow="ellipsis"))  # fmt: skip
    parts.append(Text(first, style="bold", no_wrap=True, overflow="ellipsis"))
    parts += [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in rest]
    return Group(*parts)


def _table(board: Board, rows: list[Mapping[str, Any]], width: int) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    wide = width >= _ROOMY
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2 if wide else 1, 0, 0),
                  header_style="dim", show_edge=False)  # fmt: skip
    table.add_column("", width=4, no_wrap=True)
    table.add_column("candidate", no_wrap=True, overflow="ellipsis", min_width=12)
    shown = [n for n, name in enumerate(_FIGURES) if width >= _NARROW or name in _ALWAYS]
    for place in shown:
        table.add_column(_FIGURES[place], justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    if wide:
        table.add_column("why", no_wrap=True, overflow="ellipsis", ratio=1)
    for fields in rows:
        best = fields["name"] == board.best
        style = "bold" if best else ""
        verdict = Text(fields["outcome"], style=_MARKS.get(fields["outcome"], ""))
        cells = [
            Text("best" if best else "", style="bold cyan"),
            Text(fields["name"], style=style),
            *(Text(figures(fields)[place], style=style) for place in shown),
            verdict,
        ]
        if wide:
            cells.append(Text(fields["reason"], style="dim"))
        table.add_row(*cells)
    return table


def figures(fields: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return size, speed beside the float, p99 and points lost of a candidate event."""
    ratio, p99 = fields["latency_ratio_bp"], fields["p99_us"]
    return (
        show_bytes(fields["file_bytes"]),
        f"{_BP / max(ratio, 1):.2f}x" if ratio else "-",
        show_us(p99) if p99 is not None else "-",
        f"{round(fields['loss'] * 100, 2) + 0.0:.2f}",
    )


def line(event: "Event") -> str:
    """Return one line for people on what happened; empty where it was told before."""
    fields = event.fields
    if event.kind == "stage":
        place = f"[{fields['index']}/{fields['count']}] " if "count" in fields else ""
        left = (
            f" (about {_clock(fields['eta_ms'] / 1000)} to go)" if "eta_ms" in fields else ""
        )
        return f"{place}{fields['stage']}: {fields['what']}{left}"
    if event.kind == "left_out":
        return f"  {fields['name']} was left out: {fields['reason']}"
    if event.kind == "workers":
        return f"workers: {fields['what']}"
    if event.kind != "candidate" or not fields["provisional"]:
        return ""
    size, speed, p99, lost = figures(fields)
    best = ", the best so far" if fields["best"] == fields["name"] else ""
    times = f", speed {speed}, p99 {p99}" if fields["latency_ratio_bp"] else ""
    return (
        f"  {fields['name']}: {size}{times}, {lost} points lost, {fields['outcome']}{best}: "
        f"{fields['reason']}"
    )


def _print_event(event: "Event") -> None:
    print(json.dumps({"event": event.kind, **event.fields}, sort_keys=True), flush=True)


def _ignore(_event: "Event") -> None:
    """Show nothing."""


def _print_line(event: "Event") -> None:
    if said := line(event):
        sys.stderr.write(f"{said}\n")
        sys.stderr.flush()


def _clock(seconds: float) -> str:
    """Return seconds as ``0:07``, ``12:30`` or ``1:02:03``."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
