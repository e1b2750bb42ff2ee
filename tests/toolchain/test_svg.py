"""Plots: well-formed, everything inside the frame, every name written."""

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.toolchain.svg import Axis, Mark, Row, intervals, scatter, ticks

SPACE = {"svg": ""}
SIZE = Axis("bytes", lambda value: f"{value:g}", 400.0, "limit 400")
TIME = Axis("time", lambda value: f"{value:g}", 500.0, "limit 500")
MARKS = st.lists(
    st.builds(
        lambda x, y, rise, chosen: Mark("<a & b>", x, y, y + rise, chosen),
        st.floats(1, 1e7),
        st.floats(1, 1e6),
        st.floats(0, 1e6),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)
LOSSES = st.floats(-30, 100)
ROWS = st.lists(
    st.builds(
        lambda three, limit: Row("0", *sorted(three), limit),
        st.tuples(LOSSES, LOSSES, LOSSES),
        st.floats(0, 100),
    ),
    min_size=1,
    max_size=12,
)


def _inside(text):
    """Parse a plot; return its elements after checking that none leaves the frame."""
    root = ET.fromstring(text)  # noqa: S314  text of our own
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for element in root:
        for name, value in element.attrib.items():
            if name in {"x", "x1", "x2", "cx"}:
                assert 0 <= float(value) <= width + 0.1, (element.tag, element.attrib)
            if name in {"y", "y1", "y2", "cy"}:
                assert 0 <= float(value) <= height + 0.1, (element.tag, element.attrib)
    return list(root)


def _texts(elements):
    return [element.text for element in elements if element.tag == "text"]


@given(marks=MARKS)
def test_a_scatter_holds_every_mark(marks):
    """A point and a name for each, whatever the numbers, and markup is escaped."""
    elements = _inside(scatter(marks, SIZE, TIME, title="a < b"))

    assert sum(element.tag == "circle" for element in elements) == len(marks)
    assert _texts(elements).count("<a & b>") == len(marks)


@given(rows=ROWS)
def test_intervals_hold_every_row(rows):
    """A point, a range and a limit for each, whatever the numbers."""
    elements = _inside(intervals(rows, SIZE, title="losses"))

    kinds = [element.attrib["class"].split()[0] for element in elements]
    assert sum(element.tag == "circle" for element in elements) == len(rows)
    assert kinds.count("range") == len(rows)
    assert kinds.count("limit") == len(rows)


@given(marks=MARKS)
def test_names_never_touch(marks):
    """Two names on one side are a line apart."""
    elements = _inside(scatter(marks, SIZE, TIME, title="t"))

    for anchor in ("start", "end"):
        heights = sorted(
            float(e.attrib["y"])
            for e in elements
            if e.text == "<a & b>" and e.attrib["text-anchor"] == anchor
        )
        assert all(b - a >= 15 for a, b in pairwise(heights))


def test_a_near_limit_is_drawn_and_a_far_one_told():
    """A limit twice as far as any point would squeeze the plot; it is named at the edge."""
    near = scatter([Mark("a", 300, 400, 450)], SIZE, TIME, title="t")
    far = scatter([Mark("a", 10, 4, 4.5)], SIZE, TIME, title="t")

    assert [e.text for e in _inside(near) if e.attrib["class"] == "limit-label"] == [
        "limit 400",
        "limit 500",
    ]
    assert sum(e.attrib["class"] == "limit" for e in _inside(near)) == 2
    assert {"limit 400 →", "limit 500 ↑"} <= set(_texts(_inside(far)))
    assert not any(e.attrib["class"] == "limit" for e in _inside(far))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-6, 7, [-5, 0, 5]),
        (0, 1.5e6, [0, 5e5, 1e6, 1.5e6]),
    ],
)
def test_ticks_are_round(low, high, expected):
    """Steps of 1, 2 or 5 times a power of ten."""
    assert ticks(high, low) == pytest.approx(expected)


@given(low=st.floats(-1e6, 0), span=st.floats(1e-3, 1e9))
def test_ticks_lie_inside_and_are_few(low, span):
    """Between two and seven of them, none outside."""
    found = ticks(low + span, low)

    assert 1 <= len(found) <= 7
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in found)
