"""Linear: a layer is the product of its rows and its unrolled weights, whatever it is."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tests.sim.models import model

from edgewright.toolchain.ir.linear import Linear, layers_of
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.moments import observe_moments

FLOAT = TensorProto.FLOAT


def _draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


CASES = {
    "matmul": ("MatMul", (6, 5), (4, 3, 6), {}),
    "gemm": ("Gemm", (6, 5), (4, 6), {}),
    "transposed": ("Gemm", (5, 6), (4, 6), {"transB": 1}),
    "conv": ("Conv", (4, 3, 3, 2), (2, 3, 9, 8), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    "dilated": ("Conv", (4, 3, 3, 3), (2, 3, 9, 9), {"dilations": [2, 3]}),
    "grouped": ("Conv", (6, 2, 3, 3), (2, 4, 7, 7), {"group": 2}),
    "depthwise": ("Conv", (4, 1, 3, 3), (2, 4, 7, 7), {"group": 4, "pads": [1, 1, 1, 1]}),
    "sequence": ("Conv", (4, 3, 5), (2, 3, 20), {"pads": [2, 1], "strides": [3]}),
}


def _graph(kind, shape, given, options):
    proto = model(
        [helper.make_node(kind, ["x", "w"], ["y"], name="layer", **options)],
        {"w": _draw(*shape)},
        inputs={"x": (FLOAT, ["n", *given[1:]])},
        outputs={"y": (FLOAT, [f"d{n}" for n in range(len(given))])},
    )
    return check(proto, "m")


@pytest.mark.parametrize("case", CASES)
def test_rows_times_columns_are_the_answer(case):
    """Added up over groups and places, they are what the engine computes."""
    kind, shape, given, options = CASES[case]
    graph, x = _graph(kind, shape, given, options), _draw(*given, seed=1)

    layer = Linear.of(graph.proto.graph.node[0], shape)

    y = onnxruntime.InferenceSession(graph.to_bytes()).run(None, {"x": x})[0]
    product = layer.rows(x) @ layer.unrolled(_draw(*shape))
    last = y.reshape(*y.shape[:2], -1).transpose(0, 2, 1) if kind == "Conv" else y
    outputs = last.reshape(-1, last.shape[-1])
    found = product.transpose(1, 0, 2).reshape(outputs.shape)
    np.testing.assert_allclose(found, outputs, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(layer.rolled(layer.unrolled(_draw(*shape))), _draw(*shape))


@pytest.mark.parametrize("case", CASES)
def test_moments_are_those_of_all_rows(case):
    """In batches, by samples and with the input rounded on its way."""
    kind, shape, given, options = CASES[case]
    graph, x = _graph(kind, shape, given, options), _draw(*given, seed=1)
    layer = Linear.of(graph.proto.graph.node[0], shape)

    found = observe_moments(
        graph, [{"x": x[:1]}, {"x": x[1:]}], [layer], rounded=lambda _, v: np.rint(v)
    )["layer"]

    rows = layer.rows(x)
    np.testing.assert_allclose(found.mean, rows.mean(axis=1))
    np.testing.assert_allclose(found.rounded, np.rint(rows).mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(
        found.second, rows.transpose(0, 2, 1) @ rows / rows.shape[1], atol=1e-12
    )


def test_many_places_are_sampled():
    """Of a convolution over 40 x 40 places 256 are looked at, first and last among them."""
    layer = Linear.of(helper.make_node("Conv", ["x", "w"], ["y"]), (1, 1, 1, 1))
    x = np.arange(1600, dtype=np.float32).reshape(1, 1, 40, 40)

    rows = layer.rows(x)

    assert rows.shape == (1, 256, 1)
    assert rows.ravel()[[0, -1]].tolist() == [0, 1599]


@pytest.mark.parametrize(
    ("kind", "shape", "options"),
    [
        ("Conv", (4, 3, 3, 3), {"auto_pad": "SAME_UPPER"}),
        ("Conv", (4, 3, 3, 3, 3), {}),
        ("MatMul", (2, 6, 5), {}),
        ("Gemm", (6, 5), {"transA": 1}),
        ("ConvTranspose", (4, 3, 3, 3), {}),
    ],
)
def test_what_has_no_rows_is_no_layer(kind, shape, options):
    """None is returned, and whoever asks says which was left."""
    assert Linear.of(helper.make_node(kind, ["x", "w"], ["y"], **options), shape) is None


def test_a_weight_read_twice_is_no_layers_own():
    """Rounding it for one would round it for the other."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["z"]),
        helper.make_node("MatMul", ["z", "v"], ["y"]),
    ]
    proto = model(
        nodes,
        {"w": _draw(6, 6), "v": _draw(6, 6, seed=1)},
        inputs={"x": (FLOAT, ["n", 6])},
        outputs={"y": (FLOAT, ["n", 6])},
    )

    assert set(layers_of(check(proto, "m"))) == {"v"}
