"""Plots: well-formed, everything inside the frame, every name written."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgewright.toolchain.svg import HEIGHT, WIDTH, Axis, Mark, Span, scatter, ticks

SIZE = Axis("bytes", lambda value: f"{value:g}", 400.0, "limit 400")
TIME = Axis("time", lambda value: f"{value:g}", 500.0, "limit 500")
KINDS = ("chosen", "pass", "inconclusive", "fail")


def _span(draw, smallest, largest):
    low, value, high = sorted(draw(st.floats(smallest, largest)) for _ in range(3))
    return Span(low, value, high)


@st.composite
def _marks(draw):
    kinds = st.tuples(st.sampled_from(KINDS), st.booleans())
    return [
        Mark("<a & b>", str(n), _span(draw, 0, 1e7), _span(draw, -50, 1e6), *draw(kinds))
        for n in range(draw(st.integers(1, 9)))
    ]


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
    return [element for element in elements if element.tag == "text"]


def _at(x, y, kind="pass", label="a"):
    return Mark(label, "1", Span(x, x, x), Span(y, y, y), kind)


@given(marks=_marks())
def test_a_scatter_holds_every_mark(marks):
    """A shape with its figures for each, whatever the numbers, and markup is escaped."""
    elements = _inside(scatter(marks, SIZE, TIME, title="a < b"))

    groups = [element for element in elements if element.tag == "g"]
    assert len(groups) == len(marks)
    assert all(group[0].text.startswith("<a & b>. bytes: ") for group in groups)


@given(marks=_marks(), cap=st.none() | st.floats(0.1, 100))
def test_what_is_drawn_stays_inside_the_axes(marks, cap):
    """Whiskers and shapes end at the edge, also where a value lies beyond it."""
    axis = Axis("time", lambda value: f"{value:g}", 500.0, "limit 500", cap)

    for group in _inside(scatter(marks, SIZE, axis, title="t")):
        for line in group:
            for name in ("x1", "x2", "y1", "y2"):
                assert -0.1 <= float(line.attrib.get(name, 0)) <= max(WIDTH, HEIGHT)


@given(marks=_marks())
@example(marks=[Mark("a", "0", Span(0, 0, 0), Span(0, 0, 6066.0), "chosen")])
def test_names_never_touch(marks):
    """No two texts inside the axes overlap, and the first mark has its whole name."""
    texts = _texts(_inside(scatter(marks, SIZE, TIME, title="t")))
    boxes = [_box(e) for e in texts if e.attrib["class"].startswith(("note", "limit"))]

    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            apart = (
                one[0] >= other[2] or other[0] >= one[2]
                or one[1] >= other[3] or other[1] >= one[3]
            )  # fmt: skip
            assert apart


def _box(element):
    width = 6.6 * len(element.text)
    shift = {"start": 0, "middle": width / 2, "end": width}[element.attrib["text-anchor"]]
    left, base = float(element.attrib["x"]) - shift, float(element.attrib["y"])
    return left + 0.1, base - 10.9, left + width - 0.1, base + 3.9


def test_a_name_without_room_becomes_its_number():
    """Nine points at one place: the first is named, others have a number or a title only."""
    marks = [
        Mark("a-rather-long-name", str(n), *[Span(9, 9, 9)] * 2, "pass") for n in range(30)
    ]

    said = [text.text for text in _texts(_inside(scatter(marks, SIZE, TIME, title="t")))]

    assert "a-rather-long-name" in said
    assert said.count("a-rather-long-name") < len(marks)


def test_every_kind_has_a_shape_of_its_own():
    """What a point means can be told without its colour."""
    shapes = set()
    for kind in KINDS:
        groups = _inside(scatter([_at(3, 4, kind)], SIZE, TIME, title="t"))
        (group,) = (element for element in groups if element.tag == "g")
        shape = group[-1]
        letters = re.sub(r"[^A-Z]", "", shape.attrib.get("d", ""))
        shapes.add((shape.tag, letters, shape.attrib.get("r")))

    assert len(shapes) == len(KINDS)


def test_a_near_limit_is_drawn_and_a_far_one_told():
    """A limit twice as far as any point would squeeze the plot; it is named at the edge."""
    near = _inside(scatter([_at(300, 400)], SIZE, TIME, title="t"))
    far = _inside(scatter([_at(10, 4)], SIZE, TIME, title="t"))

    assert [e.text for e in near if e.attrib["class"] == "limit-label"] == [
        "limit 400",
        "limit 500",
    ]
    assert sum(e.attrib["class"] == "limit" for e in near) == 2
    assert sum(e.attrib["class"] == "over" for e in near) == 2
    assert {"limit 400 \u2192", "limit 500 \u2191"} <= {e.text for e in _texts(far)}
    assert not any(e.attrib["class"] in {"limit", "over"} for e in far)


def test_a_value_beyond_the_cap_is_drawn_at_the_edge():
    """One bad candidate does not squeeze the others; an arrow says that it is there."""
    axis = Axis("time", lambda value: f"{value:g}", None, "", 10.0)
    elements = _inside(scatter([_at(1, 5), _at(2, 900, "fail", "b")], SIZE, axis, title="t"))

    assert "b \u2191" in {text.text for text in _texts(elements)}
    assert any(
        e.tag == "g" and "time: 900" in e[0].text and e[-1].attrib["d"].endswith("Z")
        for e in elements
    )


def test_the_frontier_is_drawn_as_steps():
    """Down at each point, then right to the next."""
    drawn = scatter(
        [_at(1, 5), _at(2, 3)], SIZE, TIME, title="t", frontier=[(1, 5), (2, 3)]
    )  # fmt: skip

    (path,) = (e.attrib["d"] for e in _inside(drawn) if e.attrib.get("class") == "frontier")
    assert re.sub(r"[^A-Z]", "", path) == "MHVHVH"


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
