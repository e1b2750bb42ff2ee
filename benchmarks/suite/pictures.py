"""Pictures computed from formulas: figures, handwriting and textures, in numpy alone.

A figure is a function that is positive inside it, of coordinates in which its largest
circle has radius 1; a pixel's cover is ``clip(1/2 + f * radius, 0, 1)``, which smooths
the edge over one pixel.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

# Digits as strokes through points of a square from -1 to 1, y downwards.
_STROKES: tuple[tuple[tuple[float, float], ...], ...] = (
    ((0, -0.9), (0.55, -0.4), (0.55, 0.4), (0, 0.9), (-0.55, 0.4), (-0.55, -0.4), (0, -0.9)),
    ((-0.3, -0.5), (0.1, -0.9), (0.1, 0), (0.1, 0.9)),
    ((-0.5, -0.5), (0, -0.9), (0.5, -0.5), (0.1, 0.1), (-0.5, 0.9), (0.6, 0.9)),
    ((-0.5, -0.8), (0.2, -0.9), (0.5, -0.4), (-0.1, 0), (0.5, 0.4), (0.2, 0.9), (-0.5, 0.8)),
    ((0.3, 0.9), (0.3, -0.9), (-0.6, 0.3), (0.6, 0.3)),
    ((0.5, -0.9), (-0.4, -0.9), (-0.4, -0.1), (0.3, -0.1), (0.5, 0.4), (0.1, 0.9),
     (-0.5, 0.8)),
    ((0.4, -0.9), (-0.3, -0.3), (-0.5, 0.4), (0, 0.9), (0.5, 0.5), (0.1, 0), (-0.4, 0.3)),
    ((-0.5, -0.9), (0.5, -0.9), (0.2, -0.1), (-0.1, 0.9)),
    ((0, 0), (-0.45, -0.45), (0, -0.9), (0.45, -0.45), (-0.5, 0.5), (0, 0.9), (0.5, 0.5),
     (0, 0)),
    ((0.45, -0.3), (0, 0), (-0.45, -0.4), (0, -0.9), (0.45, -0.6), (0.4, 0.3), (0.1, 0.9)),
)  # fmt: skip


def _disc(u: Floats, v: Floats) -> Floats:
    return 1 - np.hypot(u, v)


def _square(u: Floats, v: Floats) -> Floats:
    return 0.8 - np.maximum(np.abs(u), np.abs(v))


def _triangle(u: Floats, v: Floats) -> Floats:
    return 0.5 - np.maximum(-v, v / 2 + np.abs(u) * np.float32(np.sqrt(0.75)))


def _ring(u: Floats, v: Floats) -> Floats:
    return 0.28 - np.abs(np.hypot(u, v) - 0.72)


def _cross(u: Floats, v: Floats) -> Floats:
    wide, high = np.abs(u), np.abs(v)
    return np.minimum(0.95 - np.maximum(wide, high), 0.27 - np.minimum(wide, high))


def _frame(u: Floats, v: Floats) -> Floats:
    return 0.22 - np.abs(np.maximum(np.abs(u), np.abs(v)) - 0.62)


def _half(u: Floats, v: Floats) -> Floats:
    return np.minimum(1 - np.hypot(u, v), v + 0.15)


def _corner(u: Floats, v: Floats) -> Floats:
    return np.minimum(0.85 - np.maximum(np.abs(u), np.abs(v)), -0.1 - np.minimum(u, v))


FIGURES: tuple[Callable[[Floats, Floats], Floats], ...] = (
    _disc, _square, _triangle, _ring, _cross, _frame, _half, _corner,
)  # fmt: skip


def _stripes(u: Floats, _v: Floats) -> Floats:
    return np.sign(np.sin(u))


def _waves(u: Floats, _v: Floats) -> Floats:
    return np.sin(u)


def _checks(u: Floats, v: Floats) -> Floats:
    return np.sign(np.sin(u) * np.sin(v))


def _dots(u: Floats, v: Floats) -> Floats:
    return np.sign(np.cos(u) + np.cos(v) - 1)


def _rings(u: Floats, v: Floats) -> Floats:
    return np.sin(np.hypot(u, v) * 1.2)


def _zigzag(u: Floats, v: Floats) -> Floats:
    return np.sin(u + 1.5 * np.abs(np.mod(v, 4) - 2))


def _bricks(u: Floats, v: Floats) -> Floats:
    row = np.floor(v / 2)
    across = np.mod(u / 4 + row / 2, 1)
    return np.where((np.mod(v, 2) < 0.35) | (across < 0.1), -1, 1).astype(np.float32)


def _net(u: Floats, v: Floats) -> Floats:
    return np.sign(np.maximum(np.abs(np.sin(u / 2)), np.abs(np.sin(v / 2))) - 0.93)


TEXTURES: tuple[Callable[[Floats, Floats], Floats], ...] = (
    _stripes, _waves, _checks, _dots, _rings, _zigzag, _bricks, _net,
)  # fmt: skip


def column(values: npt.ArrayLike) -> Floats:
    """Return one number a picture, shaped to broadcast over its pixels."""
    return np.asarray(values, np.float32)[:, None, None]


def turned(side: int, x: Floats, y: Floats, angle: Floats) -> tuple[Floats, Floats]:
    """Return each pixel's place seen from ``(x, y)`` and turned, two ``(n, side, side)``."""
    down, right = np.mgrid[0:side, 0:side].astype(np.float32)
    dx, dy = right - column(x), down - column(y)
    cos, sin = np.cos(column(angle)), np.sin(column(angle))
    return dx * cos + dy * sin, dy * cos - dx * sin


def figures(
    kind: npt.NDArray[np.int64],
    *,
    side: int,
    x: Floats,
    y: Floats,
    radius: Floats,
    angle: Floats,
) -> Floats:
    """Return how much of each pixel figure ``kind`` covers, ``(n, side, side)``, 0 to 1."""
    u, v = turned(side, x, y, angle)
    size = column(radius)
    cover = np.empty_like(u)
    for index, inside in enumerate(FIGURES):
        mine = kind == index
        cover[mine] = inside(u[mine] / size[mine], v[mine] / size[mine]) * size[mine] + 0.5
    return cover.clip(0, 1)


def textures(
    kind: npt.NDArray[np.int64],
    *,
    side: int,
    x: Floats,
    y: Floats,
    period: Floats,
    angle: Floats,
) -> Floats:
    """Return texture ``kind`` with stripes ``period`` pixels apart, -1 to 1."""
    u, v = turned(side, x, y, angle)
    rate = column(2 * np.pi / period)
    level = np.empty_like(u)
    for index, of in enumerate(TEXTURES):
        mine = kind == index
        level[mine] = of(u[mine] * rate[mine], v[mine] * rate[mine])
    return level


def handwriting(
    rng: np.random.Generator, digit: npt.NDArray[np.int64], *, side: int
) -> Floats:
    """Return digits drawn with an unsteady pen, ``(n, side, side)``, 0 to 1."""
    ink = np.empty((len(digit), side, side), np.float32)
    down, right = (np.mgrid[0:side, 0:side] - (side - 1) / 2).astype(np.float32)
    for index, stroke in enumerate(_STROKES):
        mine = np.flatnonzero(digit == index)
        points = _unsteady(rng, np.asarray(stroke, np.float32), len(mine)) * (side * 0.38)
        nearest = np.full((len(mine), side, side), np.inf, np.float32)
        for first, last in pairwise(points.swapaxes(0, 1)):
            nearest = np.minimum(nearest, _distance(right, down, first, last))
        thick = column(rng.uniform(0.7, 1.7, len(mine)))
        ink[mine] = (thick + 0.5 - nearest).clip(0, 1)
    return ink


def _unsteady(rng: np.random.Generator, stroke: Floats, count: int) -> Floats:
    """Return ``count`` copies of ``stroke`` with each point, then all of it, moved."""
    points = stroke + rng.normal(0, 0.09, (count, *stroke.shape))
    angle, slant = rng.normal(0, 0.16, count), rng.normal(0, 0.2, count)
    scale = rng.uniform(0.75, 1.1, (count, 2))
    x, y = (points * scale[:, None]).transpose(2, 0, 1)
    x = x + slant[:, None] * y
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    moved = np.stack([x * cos + y * sin, y * cos - x * sin], axis=2)
    return (moved + rng.uniform(-0.15, 0.15, (count, 1, 2))).astype(np.float32)


def _distance(right: Floats, down: Floats, first: Floats, last: Floats) -> Floats:
    """Return each pixel's distance from the segment ``first`` to ``last`` of each picture."""
    along = last - first
    x, y = right - column(first[:, 0]), down - column(first[:, 1])
    dx, dy = column(along[:, 0]), column(along[:, 1])
    share = ((x * dx + y * dy) / (dx * dx + dy * dy)).clip(0, 1)
    return np.hypot(x - share * dx, y - share * dy)
