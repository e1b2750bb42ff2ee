"""Behind the last layers arithmetic is done in floats, and a Gemm answers them itself."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tests.sim.models import model

from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques.quantize import quantize
from edgewright.toolchain.techniques.quantize.tail import behind_the_layers

node = helper.make_node
X = np.random.default_rng(0).normal(0.0, 1.0, (80, 16)).astype(np.float32)


def _draw(*shape):
    return np.random.default_rng(sum(shape)).normal(0.0, 0.3, shape).astype(np.float32)


def _graph(*tail, bias=True, last="Gemm"):
    """Return two layers and ``tail``: nodes from ``l`` to ``y``, or none."""
    weights = {"v": _draw(16, 16), "w": _draw(16, 12), "k": np.float32(3.0)}
    weights |= {"b": _draw(12)} if bias else {}
    answer = "l" if tail else "y"
    nodes = [
        node("Gemm", ["x", "v"], ["h"], name="first"),
        node("Relu", ["h"], ["r"]),
        node(last, ["r", "w", *(["b"] if bias else [])], [answer], name="last"),
        *tail,
    ]
    return check(
        model(
            nodes, weights, inputs={"x": (TensorProto.FLOAT, ["n", 16])},
            outputs={"y": (TensorProto.FLOAT, ["n", 12])},
        ),
        "m",
    )  # fmt: skip


def _run(graph):
    return onnxruntime.InferenceSession(graph.to_bytes()).run(None, {"x": X})[0]


def _kinds(graph, tmp_path):
    """Return what the engine runs for ``graph``."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "run.onnx")
    onnxruntime.InferenceSession(graph.to_bytes(), options)
    return [n.op_type for n in onnx.load(tmp_path / "run.onnx").graph.node]


@pytest.mark.parametrize("bias", [True, False])
def test_the_last_layer_answers_floats(bias, tmp_path):
    """The engine's own 8-bit kernel does, whose answer is not rounded to 255 steps."""
    graph = _graph(bias=bias)

    made = quantize(graph, Samples({"x": X})).graph

    assert _kinds(made, tmp_path) == ["QuantizeLinear", "QGemm", "QGemm"]
    answers = _run(made)
    assert len(np.unique(answers[:, 0])) > 60
    assert np.abs(answers - _run(graph)).mean() < 0.02 * np.abs(answers).mean()


def test_a_product_without_a_bias_answers_floats_too(tmp_path):
    """A MatMul like a Gemm."""
    made = quantize(_graph(bias=False, last="MatMul"), Samples({"x": X})).graph

    assert _kinds(made, tmp_path)[-1] == "MatMulIntegerToFloat"


def test_arithmetic_behind_the_layers_is_not_rounded():
    """What a model does with its last answers, it does with what they are."""
    graph = _graph(
        node("Sigmoid", ["l"], ["s"], name="gate"),
        node("Mul", ["s", "k"], ["y"], name="scale"),
    )

    applied = quantize(graph, Samples({"x": X}))

    assert behind_the_layers(graph) == {"gate", "scale"}
    folded = {n.input[0] for n in applied.graph.proto.graph.node if n.op_type[:2] == "Qu"}
    assert not {"s", "l", "y"} & folded
    assert "behind the last layers, in floats: gate, scale" in applied.notes


def test_what_only_moves_codes_stays_in_codes():
    """Until arithmetic comes, and what is behind that is in floats as a whole."""
    moved = _graph(node("Relu", ["l"], ["y"], name="relu"))
    mixed = _graph(
        node("Relu", ["l"], ["a"], name="relu"),
        node("Sigmoid", ["a"], ["s"], name="gate"),
        node("Relu", ["s"], ["y"], name="again"),
    )

    assert behind_the_layers(moved) == frozenset()
    assert behind_the_layers(mixed) == {"gate", "again"}


def test_arithmetic_between_layers_is_quantized():
    """Only what no layer comes after is left."""
    weights = {"v": _draw(16, 16), "w": _draw(16, 12), "k": np.float32(3.0)}
    nodes = [
        node("Gemm", ["x", "v"], ["h"], name="first"),
        node("Sigmoid", ["h"], ["s"], name="gate"),
        node("Gemm", ["s", "w"], ["y"], name="last"),
    ]
    graph = check(
        model(
            nodes, weights, inputs={"x": (TensorProto.FLOAT, ["n", 16])},
            outputs={"y": (TensorProto.FLOAT, ["n", 12])},
        ),
        "m",
    )  # fmt: skip

    assert behind_the_layers(graph) == frozenset()


def test_an_answer_that_two_nodes_read_is_shared():
    """Both read the floats the layer answers."""
    graph = _graph(
        node("Sigmoid", ["l"], ["s"], name="gate"),
        node("Mul", ["s", "l"], ["y"], name="swish"),
    )

    made = quantize(graph, Samples({"x": X})).graph

    assert np.abs(_run(made) - _run(graph)).mean() < 0.02 * np.abs(_run(graph)).mean()
