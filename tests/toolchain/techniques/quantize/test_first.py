"""A first convolution that reads points together answers what it did one by one."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.sim.models import model

from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques.quantize import quantize
from edgewright.toolchain.techniques.quantize.first import Worth, in_rows

node = helper.make_node
NONE: frozenset[str] = frozenset()
ALWAYS = Worth(share=1000.0, gathers=0)


def _draw(*shape):
    return np.random.default_rng(sum(shape)).normal(0.0, 1.0, shape).astype(np.float32)


def _graph(nodes, weights, *, x=(3, 8, 8), kind=TensorProto.FLOAT):
    return check(
        model(
            nodes, weights, inputs={"x": (kind, ["n", *x])},
            outputs={"y": (TensorProto.FLOAT, ["n", "c", "h", "w"])},
        ),
        "m",
    )  # fmt: skip


def _conv(channels=3, kernel=3, *, bias=True, made=5, x=(8, 8), **more):
    """Return a graph of one convolution that is called ``first``."""
    side = (kernel, kernel) if isinstance(kernel, int) else kernel
    grouped = channels // more.get("group", 1)
    weights = {"w": _draw(made, grouped, *side)} | ({"b": _draw(made)} if bias else {})
    conv = node("Conv", ["x", *weights], ["y"], name="first", **more)
    return _graph([conv], weights, x=(channels, *x))


def _run(graph, x):
    return onnxruntime.InferenceSession(graph.to_bytes()).run(None, {"x": x})[0]


def _same(graph, made, x):
    before, after = _run(graph, x), _run(made, x)
    assert before.shape == after.shape
    assert np.abs(before - after).max(initial=0) <= 1e-5 * np.abs(before).max()


@st.composite
def _convolutions(draw):
    """Draw a convolution of few channels, with its picture's size, that can be rewritten."""
    channels, made = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    kernel = draw(st.integers(1, 5)), draw(st.integers(2, 7))
    strides = draw(st.sampled_from([[1, 1], [2, 2], [1, 2], [3, 1]]))
    # As many answers as there are points in a row for each stride.
    room = max(kernel[1] - strides[1], 0)
    left = draw(st.integers(0, room))
    size = draw(st.integers(5, 9)), draw(st.sampled_from([8, 12]))
    pads = [kernel[0] // 2, left, kernel[0] // 2, room - left]
    bias = draw(st.booleans())
    return _conv(
        channels, kernel, made=made, bias=bias, strides=strides, pads=pads, x=size
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(graph=_convolutions())
def test_it_answers_the_same(graph):
    """Whatever its window, its steps and its borders."""
    made = in_rows(graph, NONE, ALWAYS)

    for count in (1, 3):
        _same(graph, made, _draw(count, *graph.inputs[0].shape[1:]))
    assert made.operators == {"Conv": 1, "Transpose": 4, "Reshape": 2}
    assert next(n.name for n in made.proto.graph.node if n.op_type == "Conv") == "first"


@pytest.mark.parametrize(
    "graph",
    [
        _conv(4, pads=[1] * 4), _conv(3, pads=[1] * 4, x=(8, 10)), _conv(3, 3), _conv(3, 1),
        _conv(3, 9, pads=[4] * 4), _conv(3, pads=[2] * 4, dilations=[2, 2]),
        _conv(3, pads=[1] * 4, group=3, made=6), _conv(3, auto_pad="SAME_UPPER"),
        _conv(3, pads=[1, 0, 1, 1], strides=[3, 3], x=(9, 12)),
    ],
)  # fmt: skip
def test_another_convolution_stays(graph):
    """Of more channels, of single points, with gaps, in groups, or that ends elsewhere."""
    assert in_rows(graph, NONE, ALWAYS) is graph


def test_a_later_convolution_stays():
    """Only what reads the picture itself has windows of so few channels to gather."""
    weights = {"w": _draw(2, 3, 3, 3), "v": _draw(5, 2, 3, 3)}
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="first", pads=[1] * 4),
        node("Conv", ["a", "v"], ["y"], name="second", pads=[1] * 4),
    ]
    graph = _graph(nodes, weights)

    made = in_rows(graph, NONE, ALWAYS)

    _same(graph, made, _draw(2, 3, 8, 8))
    kernels = [tuple(t.dims) for t in made.proto.graph.initializer if len(t.dims) == 4]
    assert sorted(kernels) == [(5, 2, 3, 3), (8, 12, 3, 3)]


def test_what_is_left_out_is_not_rewritten():
    """A first layer in floats gains nothing by it."""
    graph = _conv(3, pads=[1] * 4)

    assert in_rows(graph, frozenset({"first"}), ALWAYS) is graph


@pytest.mark.parametrize(("wide", "fits"), [(300, True), (200, False)])
def test_zeros_are_a_few_of_all_weights(wide, fits):
    """144 weights become 768 in a model of 14,544 or 9,744: 4.3 or 6.4 % more."""
    weights = {"w": _draw(16, 1, 3, 3), "v": _draw(wide, 16, 3, 1)}
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="first", pads=[1] * 4, strides=[2, 2]),
        node("Conv", ["a", "v"], ["y"], name="second"),
    ]
    graph = _graph(nodes, weights, x=(1, 8, 8))

    assert (in_rows(graph, NONE, Worth(gathers=0)) is not graph) == fits


@pytest.mark.parametrize(("high", "pays"), [(57, True), (56, False)])
def test_there_are_many_points_to_gather(high, pays):
    """Nine for each of 456 windows are 4,104, of 448 windows they are 4,032."""
    graph = _conv(1, pads=[1] * 4, x=(high, 8))

    assert (in_rows(graph, NONE, Worth(share=1000.0)) is not graph) == pays


def _picture(*, offset=-127.5, again=False):
    """Return a graph of a picture of bytes, made floats, convolved and cut off at 6."""
    nodes = [
        node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        node("Add", ["f", "o"], ["m"], name="move"),
        node("Mul", ["m", "s"], ["p"], name="scale"),
        node("Conv", ["p", "w", "b"], ["c"], name="first", pads=[1] * 4, strides=[2, 2]),
        node("Clip", ["c", "low", "high"], ["r"], name="clip"),
        node("Conv", ["r", "v"], ["z"], name="second"),
        node("ReduceMean", ["p" if again else "z", "axes"], ["q"], name="mean", keepdims=1),
        node("Add", ["z", "q"], ["y"], name="end"),
    ]
    weights = {
        "o": np.float32(offset), "s": np.float32(1 / 127.5), "w": _draw(6, 1, 3, 3),
        "b": _draw(6), "low": np.float32(0), "high": np.float32(6), "v": _draw(60, 6, 4, 4),
        "axes": np.array([2, 3], np.int64),
    }  # fmt: skip
    return _graph(nodes, weights, x=(1, 36, 64), kind=TensorProto.UINT8)


def _bytes(count):
    return np.random.default_rng(3).integers(0, 256, (count, 1, 36, 64)).astype(np.uint8)


def test_bytes_are_put_together_before_they_are_floats():
    """And points are taken apart behind the activation, which an engine makes one layer of."""
    made = in_rows(_picture(), NONE, ALWAYS)

    kinds = [n.op_type for n in made.proto.graph.node]
    assert kinds[:3] == ["Transpose", "Reshape", "Transpose"]
    assert kinds.index("Clip") < kinds.index("Transpose", 3)
    _same(_picture(), made, _bytes(2))


def test_a_picture_that_is_read_twice_stays():
    """Who else reads the floats gets them as they were."""
    graph = _picture(again=True)

    assert in_rows(graph, NONE, ALWAYS) is graph


@pytest.mark.parametrize("offset", [-127.0, -127.5])
def test_the_layer_reads_the_bytes_themselves(offset):
    """Moved, but never unfolded to floats and folded again."""
    graph, x = _picture(offset=offset), _bytes(64)

    made = quantize(graph, Samples({"x": x})).graph

    assert not {"Cast", "Clip"} & set(made.operators)
    first = next(n for n in made.proto.graph.node if n.name == "first")
    writers = {name: n for n in made.proto.graph.node for name in n.output}
    held = {t.name: t for t in made.proto.graph.initializer}
    assert list(held[writers[first.input[1]].input[0]].dims[:2]) == [12, 4]
    assert [n.op_type for n in made.proto.graph.node if "x" in n.input] == ["Transpose"]
    before, after = _run(graph, x), _run(made, x)
    assert np.abs(before - after).mean() < 0.02 * np.abs(before).mean()
