"""Plots as inline SVG: text in, text out, no library, no script.

Colours and type come from the page through CSS classes (``axis``, ``grid``, ``limit``,
``over``, ``frontier``, ``range`` and the kinds of ``Mark``), so that a plot is as dark or
light as the page.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import product
from math import floor, log10

WIDTH, HEIGHT = 360, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 30, 46
_TICKS = 5
_ROOM = 1.12  # a little air beyond the outermost point
_LETTER, _LINE = 6.6, 15  # of 12 px system fonts, rather too much than too little
_LONGEST = 24
_MARKER = 6

# Where a name may stand, as steps from its point: beside it, then above and below, then
# farther away with a line that leads there.
_NEAR = ((1, 0), (-1, 0), (1, -1), (-1, -1), (1, 1), (-1, 1), (0, -1), (0, 1))
_FAR = tuple(
    (side, step * sign) for step, side, sign in product((2, 3, 4, 5), (1, -1), (-1, 1))
)


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a plot; less is better.

    Attributes:
        label: What it shows.
        show: A tick's text from its value.
        limit: A value that may not be exceeded, drawn as a line; None for none.
        limit_label: What stands at that line.
        cap: What lies beyond is drawn at the edge with an arrow; None shows everything.
    """

    label: str
    show: Callable[[float], str]
    limit: float | None = None
    limit_label: str = ""
    cap: float | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A value with its bounds."""

    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of ``scatter``.

    Attributes:
        label: Its name.
        short: What stands for the name where there is no room for it; empty for nothing.
        x: Where it is, and its whisker.
        y: Where it is, and its whisker.
        kind: chosen is filled, pass a circle, inconclusive a diamond, fail a cross, priced
            a small square.
        muted: Whether another one is at least as good in everything.
    """

    label: str
    short: str
    x: Span
    y: Span
    kind: str
    muted: bool = False


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "_Box") -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values of one axis as pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return self.start + (self.end - self.start) * (inside - self.low) / (
            self.high - self.low
        )


def scatter(
    marks: Sequence[Mark],
    x: Axis,
    y: Axis,
    *,
    title: str,
    frontier: Sequence[tuple[float, float]] = (),
) -> str:
    """Return a plot of points with whiskers, the limits of both axes and a frontier.

    A limit far beyond every point is told at the edge instead of drawn: it would
    squeeze what there is to see into a corner. Names never touch: what finds no room for
    its name has the short one, and what finds none for that has it in its title only.

    Args:
        marks: The points, the one to name first in front.
        x: From left to right.
        y: From below to above.
        title: For who cannot see it.
        frontier: The points no other is better than, by rising ``x``.
    """
    across = _scale([mark.x for mark in marks], x, _LEFT, WIDTH - _RIGHT)
    upward = _scale([mark.y for mark in marks], y, HEIGHT - _BOTTOM, _TOP)
    parts = [*_grid(x, y, across, upward)]
    lines, taken = _limits(x, y, across, upward)
    # What is written lies over what is drawn.
    parts += [line for line in lines if not line.startswith("<text")]
    parts += _frontier(frontier, across, upward)
    for mark in reversed(marks):
        parts += _drawn(mark, x, y, across, upward)
    parts += [line for line in lines if line.startswith("<text")]
    taken += [_around(mark, across, upward) for mark in marks]
    parts += _names(marks, across, upward, taken)
    inside = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">\n'
        f"{inside}\n</svg>"
    )


def ticks(high: float, low: float = 0.0) -> list[float]:
    """Return round values from ``low`` to ``high``: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / _TICKS
    scale = 10.0 ** floor(log10(rough)) if rough > 0 else 1.0
    step = next((scale * f for f in (1, 2, 5) if scale * f >= rough), scale * 10)
    first = -floor(-low / step)
    return [step * n for n in range(int(first), floor(high / step + 1e-9) + 1)]


def _scale(spans: Sequence[Span], axis: Axis, start: float, end: float) -> _Scale:
    """Return a scale that shows zero, every value, and a limit where that costs little."""
    largest = max([span.high for span in spans] + [0.0])
    low = min([span.low for span in spans] + [0.0])
    if axis.cap is not None:
        largest, low = min(largest, axis.cap), max(low, -axis.cap)
    if axis.limit is not None and axis.limit <= 2 * max(largest, 0.0):
        largest = max(largest, axis.limit)
    if largest <= low:
        largest = low + 1.0
    return _Scale(low * _ROOM, largest * _ROOM if largest > 0 else 0.1 * -low, start, end)


def _grid(x: Axis, y: Axis, across: _Scale, upward: _Scale) -> Iterator[str]:
    floor_y, roof = upward.start, upward.end
    for tick in ticks(across.high, across.low):
        at = across.at(tick)
        yield _line(at, roof, at, floor_y, "grid" if tick else "grid zero")
        yield _text(at, floor_y + 18, x.show(tick), "axis", "middle")
    for tick in ticks(upward.high, upward.low):
        at = upward.at(tick)
        yield _line(across.start, at, across.end, at, "grid" if tick else "grid zero")
        yield _text(across.start - 8, at + 4, y.show(tick), "axis", "end")
    yield _text((across.start + across.end) / 2, HEIGHT - 8, x.label, "axis", "middle")
    yield _text(4, 14, y.label, "axis", "start")


def _limits(x: Axis, y: Axis, across: _Scale, upward: _Scale) -> tuple[list[str], list[_Box]]:
    """Return the lines of the limits and what is beyond, and where no names may be."""
    parts, taken = [], []
    left, right, roof, ground = across.start, across.end, upward.end, upward.start
    if x.limit is not None:
        shown = x.limit <= across.high
        at = across.at(x.limit)
        if shown:
            parts.append(_rect(at, roof, right, ground))
            parts.append(_line(at, roof, at, ground, "limit"))
        label = x.limit_label if shown else f"{x.limit_label} \u2192"
        side = "end" if at > (left + right) / 2 else "start"
        where = at + (-5 if side == "end" else 5)
        parts.append(_text(where, ground - 7, label, "limit-label", side))
        taken.append(_box(where, ground - 7, label, side))
    if y.limit is not None:
        shown = y.limit <= upward.high
        at = upward.at(y.limit)
        if shown:
            parts.append(_rect(left, roof, right, at))
            parts.append(_line(left, at, right, at, "limit"))
        label = y.limit_label if shown else f"{y.limit_label} \u2191"
        height = at - 6 if at - 6 > roof + 8 or not shown else at + 14
        # The other limit's name stands at the ground: above it there is room.
        for other in taken:
            if _box(right - 2, height, label, "end").meets(other):
                height = other.top - 5
        parts.append(_text(right - 2, height, label, "limit-label", "end"))
        taken.append(_box(right - 2, height, label, "end"))
    return parts, taken


def _frontier(
    points: Sequence[tuple[float, float]], across: _Scale, upward: _Scale
) -> Iterator[str]:
    """Yield the steps between what is reached and what is not."""
    if not points:
        return
    path = f"M{across.at(points[0][0]):.1f} {upward.end:.1f}"
    for one, two in points:
        path += f"H{across.at(one):.1f}V{upward.at(two):.1f}"
    yield f'<path d="{path}H{across.end:.1f}" class="frontier"/>'


def _drawn(mark: Mark, x: Axis, y: Axis, across: _Scale, upward: _Scale) -> Iterator[str]:
    at_x, at_y = across.at(mark.x.value), upward.at(mark.y.value)
    kind = f"{mark.kind} muted" if mark.muted else mark.kind
    figures = f"{x.label}: {_told(mark.x, x)}; {y.label}: {_told(mark.y, y)}"
    yield f'<g class="{kind}"><title>{escape(mark.label)}. {escape(figures)}</title>'
    if mark.x.low != mark.x.high:
        yield _line(across.at(mark.x.low), at_y, across.at(mark.x.high), at_y, "range")
    if mark.y.low != mark.y.high:
        yield _line(at_x, upward.at(mark.y.low), at_x, upward.at(mark.y.high), "range")
    beyond = mark.x.value > across.high or mark.y.value > upward.high
    yield _marker(at_x, at_y, "beyond" if beyond else mark.kind)
    yield "</g>"


def _told(span: Span, axis: Axis) -> str:
    if span.low == span.high:
        return axis.show(span.value)
    return f"{axis.show(span.value)} ({axis.show(span.low)} to {axis.show(span.high)})"


def _marker(x: float, y: float, kind: str) -> str:
    """Return a shape that can be told from the others without its colour."""
    size = _MARKER - 1
    if kind == "chosen":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_MARKER}" class="dot"/>'
    if kind == "pass":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" class="dot"/>'
    if kind == "priced":
        return f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6" class="dot"/>'
    if kind == "beyond":
        path = f"M{x - size:.1f} {y + 7:.1f}L{x:.1f} {y:.1f}L{x + size:.1f} {y + 7:.1f}Z"
    elif kind == "fail":
        path = (
            f"M{x - size:.1f} {y - size:.1f}L{x + size:.1f} {y + size:.1f}"
            f"M{x - size:.1f} {y + size:.1f}L{x + size:.1f} {y - size:.1f}"
        )
    else:
        path = (
            f"M{x:.1f} {y - _MARKER:.1f}L{x + _MARKER:.1f} {y:.1f}"
            f"L{x:.1f} {y + _MARKER:.1f}L{x - _MARKER:.1f} {y:.1f}Z"
        )
    return f'<path d="{path}" class="dot"/>'


def _names(
    marks: Sequence[Mark], across: _Scale, upward: _Scale, taken: list[_Box]
) -> Iterator[str]:
    """Write the names, each where it touches nothing."""
    frame = _Box(across.start + 2, upward.end - 14, across.end + _RIGHT, upward.start)
    free = list(taken)
    for mark in marks:
        at = (across.at(mark.x.value), upward.at(mark.y.value))
        own = _around(mark, across, upward)
        others = [box for box in free if box != own]
        beyond = " \u2191" if mark.y.value > upward.high else ""
        for text in filter(None, (_cut(mark.label) + beyond, mark.short)):
            found = _place(at, text, others, frame)
            if found is None:
                continue
            (where, height, side), box, far = found
            kind = "note strong" if mark.kind == "chosen" else "note"
            if far:
                yield _line(*at, where - (4 if side == "start" else -4), height - 4, "lead")
            yield _text(where, height, text, kind + (" muted" if mark.muted else ""), side)
            free.append(box)
            break


def _place(
    at: tuple[float, float], text: str, taken: Sequence[_Box], frame: _Box
) -> tuple[tuple[float, float, str], _Box, bool] | None:
    for far, steps in ((False, _NEAR), (True, _FAR)):
        for side, step in steps:
            anchor = {1: "start", -1: "end", 0: "middle"}[side]
            gap = 22 if far else 10 if not step else 7
            where, height = at[0] + side * gap, at[1] + 4 + step * (_LINE if side else 17)
            box = _box(where, height, text, anchor)
            inside = (
                box.left >= frame.left
                and box.right <= frame.right
                and box.top >= frame.top
                and box.bottom <= frame.bottom
            )
            if inside and not any(box.meets(other) for other in taken):
                return (where, height, anchor), box, far
    return None


def _around(mark: Mark, across: _Scale, upward: _Scale) -> _Box:
    x, y = across.at(mark.x.value), upward.at(mark.y.value)
    return _Box(x - _MARKER, y - _MARKER, x + _MARKER, y + _MARKER)


def _box(x: float, y: float, text: str, anchor: str) -> _Box:
    """Return where a text is; ``y`` is its base line."""
    width = len(text) * _LETTER
    left = {"start": x, "end": x - width, "middle": x - width / 2}[anchor]
    return _Box(left, y - 11, left + width, y + 4)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _rect(left: float, top: float, right: float, bottom: float) -> str:
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
        f'height="{bottom - top:.1f}" class="over"/>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )
