"""Rounding and biases of a quantized graph: closer answers, every layer accounted for."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from tests.sim.models import model, quarters, samples

from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques.quantize import quantize

FLOAT = TensorProto.FLOAT
IMAGES = Samples({"image": samples(120)[0]})
X = np.random.default_rng(3).normal(size=(150, 3, 8, 8)).astype(np.float32).cumsum(axis=3)


def network(*, auto_pad=False, bias=True):
    """Return a convolution, a depthwise one, and a matrix, on inputs that go together."""
    draw = np.random.default_rng(0)
    shapes = {"w0": (8, 3, 3, 3), "w1": (8, 1, 3, 3), "w2": (5, 8 * 16)}
    held = {n: (draw.normal(size=s) / 4).astype(np.float32) for n, s in shapes.items()}
    held |= {f"b{n}": draw.normal(size=(8, 8, 5)[n]).astype(np.float32) for n in range(3)}
    more = {"auto_pad": "VALID"} if auto_pad else {}
    names = ["x", "w0", "b0"] if bias else ["x", "w0"]
    nodes = [
        helper.make_node("Conv", names, ["c0"], name="first", **more),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], name="deep", group=8),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Flatten", ["r1"], ["f"]),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["y"], name="last", transB=1),
    ]
    proto = model(
        nodes,
        held if bias else {name: array for name, array in held.items() if name != "b0"},
        inputs={"x": (FLOAT, ["n", 3, 8, 8])},
        outputs={"y": (FLOAT, ["n", 5])},
        opset=21,
    )
    return check(proto, "m")


def _answers(graph, feed):
    return ReferenceEvaluator(graph.proto).run(None, feed)[0]


def _errors(graph, feed, *hows):
    """Return the errors, by definition, of ``graph`` quantized in each way."""
    before = _answers(graph, feed)
    return [
        _answers(quantize(graph, Samples(feed), **how).graph, feed) - before for how in hows
    ]


@pytest.mark.parametrize("per_channel", [True, False])
def test_learned_weights_answer_closer(per_channel):
    """By definition and on the samples: the mean squared error falls."""
    plain, learned = _errors(
        network(),
        {"x": X},
        {"per_channel": per_channel, "bits": 7},
        {"per_channel": per_channel, "bits": 7, "rounding": "learned"},
    )

    assert np.square(learned).mean() < np.square(plain).mean()


def test_corrected_biases_take_the_mean_out():
    """Ranges that clip move every answer to one side; corrected, less of that is left."""
    plain, corrected = _errors(
        network(),
        {"x": X},
        {"ranges": "percentile"},
        {"ranges": "percentile", "correct_bias": True},
    )

    assert np.abs(corrected.mean(axis=0)).mean() < np.abs(plain.mean(axis=0)).mean()


def test_a_layer_without_a_bias_gets_one():
    """A convolution takes one, a MatMul cannot and is named."""
    made = quantize(network(bias=False), Samples({"x": X}), correct_bias=True)
    named = quantize(check(quarters(opset=21), "m"), IMAGES, correct_bias=True)

    first = next(n for n in made.graph.proto.graph.node if n.name == "first")
    assert len(first.input) == 3
    assert "3 biases are corrected" in made.notes[1]
    assert "without a bias to correct: 'MatMul_9'" in named.notes[2]


def test_every_weight_is_accounted_for():
    """Those that were learned are counted, others named."""
    made = quantize(network(auto_pad=True), Samples({"x": X}), rounding="learned")

    assert "2 weights are rounded by what answers lose" in made.notes[1]


def test_codes_stay_within_their_bits():
    """Learned codes of seven bits overflow no more than the nearest ones."""
    made = quantize(network(), Samples({"x": X}), bits=7, rounding="learned")

    codes = [
        numpy_helper.to_array(t)
        for t in made.graph.proto.graph.initializer
        if t.data_type == TensorProto.INT8 and len(t.raw_data) > 50
    ]
    assert len(codes) == 3
    assert max(np.abs(c.astype(int)).max() for c in codes) <= 64


def test_an_unknown_rounding_is_a_value_error():
    """The calling programmer's mistake; a recipe is refused by the table."""
    with pytest.raises(ValueError, match="rounding must be nearest or learned"):
        quantize(network(), Samples({"x": X}), rounding="up")
