"""What is written in other operators before quantizing answers the same."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tests.sim.models import model

from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques.quantize import quantize
from edgewright.toolchain.techniques.quantize.native import in_kernels_of_codes

node = helper.make_node
MAP = ["n", 4, 6, 6]
NONE: frozenset[str] = frozenset()


def _draw(*shape):
    return np.random.default_rng(sum(shape)).normal(0.0, 1.0, shape).astype(np.float32)


def _graph(nodes, weights, *, y, x=MAP):
    return check(
        model(
            nodes, weights, inputs={"x": (TensorProto.FLOAT, x)},
            outputs={"y": (TensorProto.FLOAT, y)},
        ),
        "m",
    )  # fmt: skip


def _run(graph, x):
    return onnxruntime.InferenceSession(graph.to_bytes()).run(None, {"x": x})[0]


def _rewritten(graph, *gone):
    """Return what ``graph`` becomes, which answers the same for one sample and for three."""
    made = in_kernels_of_codes(graph, NONE)
    for count in (1, 3):
        x = _draw(count, *graph.inputs[0].shape[1:])
        before, after = _run(graph, x), _run(made, x)
        assert before.shape == after.shape
        assert np.abs(before - after).max() <= 1e-5 * np.abs(before).max()
    assert not set(gone) & set(made.operators)
    return made


def _mean(axes, *, kept, x=MAP):
    y = [*x[:2], *([1] * (len(x) - 2) if kept else [])]
    mean = node("ReduceMean", ["x", "axes"], ["y"], name="mean", keepdims=int(kept))
    return _graph([mean], {"axes": np.array(axes, np.int64)}, x=x, y=y)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(("axes", "x"), [([2, 3], MAP), ([-1, -2], MAP), ([2], ["n", 4, 9])])
def test_a_mean_over_the_picture_is_a_pool(axes, x, kept):
    """However its axes are told; a list without them stays one."""
    made = _rewritten(_mean(axes, kept=kept, x=x), "ReduceMean")

    assert made.operators["GlobalAveragePool"] == 1
    assert made.proto.graph.node[0].name == "mean"


@pytest.mark.parametrize("axes", [[1], [3], [1, 2, 3], [0, 2, 3]])
def test_another_mean_is_left_alone(axes):
    """Over channels, or over one side of the picture."""
    shape = [1 if axis in axes else size for axis, size in enumerate(MAP)]
    mean = node("ReduceMean", ["x", "axes"], ["y"], keepdims=1)
    graph = _graph([mean], {"axes": np.array(axes, np.int64)}, y=shape)

    assert in_kernels_of_codes(graph, NONE) is graph


def _transposed(side=2, stride=2, *, bias=True, x=MAP, **more):
    weights = {"w": _draw(4, 3, side, side)} | ({"b": _draw(3)} if bias else {})
    wide = node(
        "ConvTranspose", ["x", *weights], ["y"], name="up", strides=[stride, stride], **more
    )
    return _graph([wide], weights, x=x, y=["n", 3, "h", "w"])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("side", [2, 3])
def test_windows_that_touch_are_points_with_more_channels(side, bias):
    """A ConvTranspose without overlap is a Conv of points, under the same name."""
    made = _rewritten(_transposed(side, side, bias=bias), "ConvTranspose")

    assert made.operators == {"Conv": 1, "Transpose": 3, "Reshape": 2}
    assert made.proto.graph.node[0].name == "up"


def test_windows_of_a_picture_of_any_size_are_moved_by_one_operator():
    """Sizes that are not known cannot be said in a Reshape."""
    graph = _transposed(x=["n", 4, "high", "wide"])

    made = in_kernels_of_codes(graph, NONE)

    assert made.operators == {"Conv": 1, "DepthToSpace": 1}
    x = _draw(2, 4, 5, 7)
    assert np.abs(_run(made, x) - _run(graph, x)).max() <= 1e-5


def _resized(scales=(1, 1, 2, 2), sizes=None, x=MAP, **how):
    named = {"scales": np.array(scales, np.float32)}
    inputs = ["x", "", "scales"]
    if sizes is not None:
        named, inputs = {"sizes": np.array(sizes, np.int64)}, ["x", "", "", "sizes"]
    resize = node("Resize", inputs, ["y"], name="resize", **how)
    return _graph([resize], named, x=x, y=["b", 4, "h", "w"])


@pytest.mark.parametrize("times", [2, 3, 4])
@pytest.mark.parametrize(
    ("where", "how"),
    [
        ("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"),
        ("half_pixel", "round_prefer_ceil"), ("pytorch_half_pixel", "round_prefer_floor"),
    ],
)  # fmt: skip
def test_a_point_that_is_repeated_is_copied(where, how, times):
    """By whatever rule an exporter says that each point comes as often."""
    graph = _resized(
        (1, 1, times, times), mode="nearest", coordinate_transformation_mode=where,
        nearest_mode=how,
    )  # fmt: skip

    made = _rewritten(graph, "Resize")

    assert made.operators == {"Expand": 1, "Transpose": 2, "Reshape": 2}
    x = _draw(2, 4, 6, 6)
    assert np.array_equal(_run(made, x), x.repeat(times, 2).repeat(times, 3))


def test_by_default_points_are_repeated_too():
    """An attribute that is not there has the value of the standard."""
    _rewritten(_resized(), "Resize")


@pytest.mark.parametrize(
    "graph",
    [
        _resized(mode="linear"), _resized((1, 1, 1.5, 1.5)), _resized((1, 1, 2, 3)),
        _resized((1, 1, 1, 1)), _resized((1, 1, 0.5, 0.5)),
        _resized(coordinate_transformation_mode="align_corners"),
        _resized(coordinate_transformation_mode="asymmetric", nearest_mode="ceil"),
        _resized(nearest_mode="floor"), _resized((2, 1, 2, 2)),
        _resized((2, 1, 2, 2), x=[1, 4, 6, 6]), _resized(sizes=(1, 4, 12, 12)),
        _resized(sizes=(2, 4, 12, 12), x=[1, 4, 6, 6]),
        _resized(sizes=(1, 4, 13, 12), x=[1, 4, 6, 6]),
    ],
)  # fmt: skip
def test_a_picture_that_is_resized_in_another_way_stays(graph):
    """Points that are mixed, left out, or do not come as often; samples that are repeated."""
    assert in_kernels_of_codes(graph, NONE) is graph


@pytest.mark.parametrize("side", [3, 9])
@pytest.mark.parametrize(
    ("where", "how"), [("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")]
)
def test_twice_the_points_are_not_each_point_twice(where, how, side):
    """At a scale of 2.1 three points are six and nine are eighteen, some of them thrice."""
    graph = _resized(
        (1, 1, 2.1, 2.1), x=["n", 4, side, side], mode="nearest",
        coordinate_transformation_mode=where, nearest_mode=how,
    )  # fmt: skip

    assert _run(graph, _draw(1, 4, side, side)).shape == (1, 4, 2 * side, 2 * side)
    assert in_kernels_of_codes(graph, NONE) is graph


def test_sizes_say_it_too():
    """Where an exporter writes how large it will be instead of how often."""
    graph = _resized(
        sizes=(1, 4, 12, 12), x=[1, 4, 6, 6], mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip

    made = in_kernels_of_codes(graph, NONE)

    x = _draw(1, 4, 6, 6)
    assert "Resize" not in made.operators
    assert np.array_equal(_run(made, x), x.repeat(2, 2).repeat(2, 3))


def test_behind_arithmetic_in_floats_a_picture_is_resized_as_it_was():
    """There are no codes any more that moving rows would be faster with."""
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="conv"),
        node("Sigmoid", ["a"], ["b"], name="sigmoid"),
        node("Resize", ["b", "", "scales"], ["y"], name="resize"),
    ]
    weights = {"w": _draw(3, 4, 1, 1), "scales": np.array([1, 1, 2, 2], np.float32)}
    graph = _graph(nodes, weights, y=["n", 3, 12, 12])

    assert in_kernels_of_codes(graph, NONE) is graph


def test_an_enlarged_last_answer_is_moved_in_codes():
    """Copies of rows are no arithmetic, which would be done in floats there."""
    nodes = [
        node("Conv", ["x", "w"], ["a"], name="conv"),
        node("Resize", ["a", "", "scales"], ["y"], name="resize"),
    ]
    weights = {"w": _draw(3, 4, 3, 3), "scales": np.array([1, 1, 2, 2], np.float32)}
    graph = _graph(nodes, weights, y=["n", 3, 8, 8])

    made = quantize(graph, Samples({"x": _draw(40, 4, 6, 6)}))

    assert not any("behind the last layers" in note for note in made.notes)
    assert made.graph.proto.graph.node[-1].op_type == "DequantizeLinear"


@pytest.mark.parametrize(
    "graph",
    [
        _transposed(3, 2), _transposed(1, 1), _transposed(2, 2, pads=[1, 1, 1, 1]),
        _transposed(2, 2, output_padding=[1, 1]), _transposed(2, 2, auto_pad="SAME_UPPER"),
        _transposed(2, 2, dilations=[2, 2]),
    ],
)  # fmt: skip
def test_windows_that_overlap_or_are_cut_stay(graph):
    """Also those with gaps, borders, or nothing to gain."""
    assert in_kernels_of_codes(graph, NONE) is graph


def _listed(perm=(0, 2, 1), shape=(0, 4, 36), y=("n", 36, 4)):
    nodes = [
        node("Reshape", ["x", "s"], ["list"], name="list"),
        node("Transpose", ["list"], ["y"], name="turn", perm=perm),
    ]
    return _graph(nodes, {"s": np.array(shape, np.int64)}, y=list(y))


@pytest.mark.parametrize("shape", [(0, 4, 36), (-1, 4, 36), (0, 4, -1)])
def test_channels_go_last_while_it_is_a_picture(shape):
    """Not in the list after it."""
    made = _rewritten(_listed(shape=shape))

    assert [n.op_type for n in made.proto.graph.node] == ["Transpose", "Reshape"]


@pytest.mark.parametrize(
    "graph", [_listed(shape=(0, 9, 16), y=("n", 16, 9)), _listed((1, 0, 2), y=(4, "n", 36))]
)
def test_a_list_that_is_cut_elsewhere_stays(graph):
    """Its rows are not the channels, or another axis moves."""
    assert in_kernels_of_codes(graph, NONE) is graph


def test_what_is_left_out_is_not_rewritten():
    """Nodes that compute with floats gain nothing by it."""
    for graph in (_transposed(), _mean([2, 3], kept=True)):
        assert in_kernels_of_codes(graph, frozenset({"up", "mean"})) is graph


def test_the_wide_layer_computes_in_codes_all_the_way():
    """No float runs between two layers of an 8-bit model with a ConvTranspose."""
    weights = {"w": _draw(4, 3, 2, 2), "v": _draw(5, 3, 3, 3)}
    nodes = [
        node("ConvTranspose", ["x", "w"], ["wide"], name="up", strides=[2, 2]),
        node("Conv", ["wide", "v"], ["y"], name="conv"),
    ]
    graph = _graph(nodes, weights, y=["n", 5, 10, 10])
    x = _draw(40, 4, 6, 6)

    made = quantize(graph, Samples({"x": x})).graph

    before, after = _run(graph, x), _run(made, x)
    assert np.abs(before - after).mean() < 0.02 * np.abs(before).mean()
    folds = [n for n in made.proto.graph.node if n.op_type == "QuantizeLinear"]
    moved = {n.output[0] for n in made.proto.graph.node if n.op_type == "Transpose"}
    assert moved
    assert moved <= {n.input[0] for n in folds}
