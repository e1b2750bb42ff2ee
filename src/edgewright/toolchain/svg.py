"""Plots as inline SVG: text in, text out, no library, no script.

Colours and type come from the page through CSS classes (``axis``, ``grid``, ``limit``,
``mark``, ``chosen``, ``range``, ``note``), so that a plot is as dark or light as the page.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

_TICKS = 5
_LABEL_GAP = 16


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a plot.

    Attributes:
        label: What it shows.
        show: A tick's text from its value.
        limit: A value that may not be exceeded, drawn as a line; None for none.
        limit_label: What stands at that line.
    """

    label: str
    show: Callable[[float], str]
    limit: float | None = None
    limit_label: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of ``scatter``; ``y_high`` is the end of a line that rises from it."""

    label: str
    x: float
    y: float
    y_high: float
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row of ``intervals``: an estimate, its bounds and its own limit."""

    label: str
    low: float
    value: float
    high: float
    limit: float
    failed: bool = False


def scatter(marks: Sequence[Mark], x: Axis, y: Axis, *, title: str) -> str:
    """Return a plot of points from zero, each with a line up to its ``y_high``.

    A limit far beyond every point is told at the edge instead of drawn: it would
    squeeze what there is to see into a corner.
    """
    width, height = 520, 320
    left, right, top, bottom = 64, 20, 28, 48
    x_max = _span([mark.x for mark in marks], x.limit)
    y_max = _span([mark.y_high for mark in marks], y.limit)

    def place_x(value: float) -> float:
        return left + (width - left - right) * value / x_max

    def place_y(value: float) -> float:
        return height - bottom - (height - top - bottom) * value / y_max

    parts = []
    for tick in ticks(x_max):
        at = place_x(tick)
        parts.append(_line(at, top, at, height - bottom, "grid"))
        parts.append(_text(at, height - bottom + 18, x.show(tick), "axis", "middle"))
    for tick in ticks(y_max):
        at = place_y(tick)
        parts.append(_line(left, at, width - right, at, "grid"))
        parts.append(_text(left - 8, at + 4, y.show(tick), "axis", "end"))
    parts += _limits(x, y, (x_max, y_max), (place_x, place_y), (left, right, top, bottom))
    for mark in marks:
        kind = "chosen" if mark.chosen else "mark"
        at = place_x(mark.x)
        parts.append(_line(at, place_y(mark.y), at, place_y(mark.y_high), f"range {kind}"))
        parts.append(_dot(at, place_y(mark.y), 6 if mark.chosen else 4.5, kind))
    parts += _labels(marks, place_x, place_y, width)
    parts.append(_text((left + width - right) / 2, height - 8, x.label, "axis", "middle"))
    parts.append(_text(left - 56, 14, y.label, "axis", "start"))
    return _frame(width, height, title, parts)


def intervals(rows: Sequence[Row], axis: Axis, *, title: str) -> str:
    """Return a plot of one interval a row, with the limit of each row as a mark."""
    width, row_height = 520, 24
    left, right, top, bottom = 96, 20, 28, 48
    height = top + bottom + row_height * len(rows)
    low = min(0.0, *(row.low for row in rows))
    high = max(max(row.high, row.limit) for row in rows) * 1.08
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return left + (width - left - right) * (value - low) / span

    parts = []
    for tick in ticks(high, low):
        at = place(tick)
        parts.append(_line(at, top, at, height - bottom, "grid zero" if not tick else "grid"))
        parts.append(_text(at, height - bottom + 18, axis.show(tick), "axis", "middle"))
    for number, row in enumerate(rows):
        middle = top + row_height * (number + 0.5)
        kind = "failed" if row.failed else "chosen"
        parts.append(_text(left - 12, middle + 4, row.label, "note", "end"))
        parts.append(_line(place(row.low), middle, place(row.high), middle, f"range {kind}"))
        parts.append(_dot(place(row.value), middle, 4.5, kind))
        at = place(row.limit)
        parts.append(_line(at, middle - 10, at, middle + 10, "limit"))
    parts.append(_text((left + width - right) / 2, height - 8, axis.label, "axis", "middle"))
    last = place(rows[-1].limit)
    parts.append(_text(last, top - 8, axis.limit_label, "limit-label", "middle"))
    return _frame(width, height, title, parts)


def ticks(high: float, low: float = 0.0) -> list[float]:
    """Return round values from ``low`` to ``high``: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / _TICKS
    scale = 10.0 ** floor(log10(rough)) if rough > 0 else 1.0
    step = next((scale * f for f in (1, 2, 5) if scale * f >= rough), scale * 10)
    first = -floor(-low / step)
    return [step * n for n in range(int(first), floor(high / step + 1e-9) + 1)]


def _span(values: Sequence[float], limit: float | None) -> float:
    """Return the end of an axis from zero; a limit is on it when that costs little."""
    largest = max([*values, 0.0]) or 1.0
    if limit is not None and largest < limit <= 2 * largest:
        return limit * 1.12
    return largest * 1.18


def _limits(
    x: Axis,
    y: Axis,
    ends: tuple[float, float],
    places: tuple[Callable[[float], float], Callable[[float], float]],
    margins: tuple[int, int, int, int],
) -> list[str]:
    left, right, top, bottom = margins
    width, height = 520, 320
    parts = []
    if x.limit is not None and x.limit <= ends[0]:
        at = places[0](x.limit)
        parts.append(_line(at, top, at, height - bottom, "limit"))
        side = "start" if at < width * 0.7 else "end"
        parts.append(
            _text(
                at + (6 if side == "start" else -6),
                top + 12,
                x.limit_label,
                "limit-label",
                side,
            )
        )
    elif x.limit is not None:
        parts.append(
            _text(
                width - right, height - bottom - 8, f"{x.limit_label} →", "limit-label", "end"
            )
        )
    if y.limit is not None and y.limit <= ends[1]:
        at = places[1](y.limit)
        parts.append(_line(left, at, width - right, at, "limit"))
        parts.append(_text(width - right, at - 6, y.limit_label, "limit-label", "end"))
    elif y.limit is not None:
        parts.append(
            _text(width - right, top - 10, f"{y.limit_label} ↑", "limit-label", "end")
        )
    return parts


def _labels(
    marks: Sequence[Mark],
    place_x: Callable[[float], float],
    place_y: Callable[[float], float],
    width: int,
) -> list[str]:
    """Write each mark's name beside it, moved up where two would touch."""
    parts = []
    for leftwards in (False, True):
        mine = [m for m in marks if (place_x(m.x) > width * 0.62) is leftwards]
        highest = float("inf")
        for mark in sorted(mine, key=lambda m: (-place_y(m.y), m.label)):
            at_x, at_y = place_x(mark.x), place_y(mark.y)
            text_y = min(at_y + 4, highest - _LABEL_GAP)
            highest = text_y
            offset = -14 if leftwards else 14
            anchor = "end" if leftwards else "start"
            kind = "note strong" if mark.chosen else "note"
            if at_y - text_y > _LABEL_GAP / 2:
                parts.append(_line(at_x, at_y, at_x + offset * 0.8, text_y - 4, "lead"))
            parts.append(_text(at_x + offset, text_y, mark.label, kind, anchor))
    return parts


def _frame(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    inside = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">\n'
        f"{inside}\n</svg>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _dot(x: float, y: float, radius: float, kind: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{kind}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )
