"""dynamic: int8 weights without samples, each activation rounded once, floats by name."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from tests.sim.models import model, quarters, samples

from edgewright.core.errors import QuantizeError
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.ir.store import files_of
from edgewright.toolchain.techniques.dynamic import quantize_dynamic

IMAGES, _ = samples(100)
FLOAT = TensorProto.FLOAT


@pytest.fixture(scope="module")
def graph():
    """Return a float graph, of an opset whose quantization ONNX's reference knows."""
    return check(quarters(opset=21), "m")


def _net(nodes, weights, shape, rank=2):
    proto = model(
        nodes,
        weights,
        inputs={"x": (FLOAT, list(shape))},
        outputs={"y": (FLOAT, [f"d{n}" for n in range(rank)])},
    )
    return check(proto, "m")


def _run(graph, **feeds):
    return onnxruntime.InferenceSession(graph.to_bytes()).run(None, feeds)[0]


def _draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_become_a_quarter(graph, per_channel):
    """Nearly all weight bytes are int8 afterwards; the note counts them."""
    applied = quantize_dynamic(graph, per_channel=per_channel)

    assert applied.graph.precision == "int8"
    assert graph.weight_bytes / applied.graph.weight_bytes > 3.7
    assert "1 Gemm, 1 MatMul have int8 weights" in applied.notes[0]


def test_signs_change_the_type_and_not_the_values(graph):
    """By definition uint8 and int8 weights answer exactly the same."""
    signed, unsigned = (quantize_dynamic(graph, signed=flag).graph for flag in (True, False))

    one, other = (
        ReferenceEvaluator(g.proto).run(None, {"image": IMAGES})[0] for g in (signed, unsigned)
    )
    assert unsigned.precision == "uint8"
    np.testing.assert_array_equal(one, other)


def test_unsigned_weights_are_exact_on_every_processor(graph):
    """Where pairs of products overflow, the engine still answers by definition."""
    after = quantize_dynamic(graph, signed=False).graph

    expected = ReferenceEvaluator(after.proto).run(None, {"image": IMAGES})[0]

    assert np.abs(_run(after, image=IMAGES) - expected).max() < 0.02 * np.abs(expected).max()


def test_convolutions_stay_floats_by_name(graph):
    """Unless asked for; then they are converted and answer nearly the same."""
    (name,) = (n.name for n in graph.proto.graph.node if n.op_type == "Conv")
    left = quantize_dynamic(graph)
    # 288 bytes are too few: a kernel that pays.
    weights = {"w": _draw(16, 8, 3, 3), "b": _draw(16, seed=1)}
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2])
    net = _net([node], weights, ("n", 8, 6, 6), rank=4)
    x = _draw(5, 8, 6, 6, seed=2) + 3

    applied = quantize_dynamic(net, convolutions=True, signed=False)

    assert f"Conv '{name}', convolutions are faster as floats" in left.notes[1]
    assert applied.graph.operators["ConvInteger"] == 1
    before = _run(net, x=x)
    assert np.abs(_run(applied.graph, x=x) - before).max() < 0.03 * np.abs(before).max()


def test_an_activation_is_quantized_once():
    """Three products of one activation share its quantization, and the note says so."""
    nodes = [helper.make_node("MatMul", ["x", f"w{n}"], [f"p{n}"]) for n in range(3)]
    nodes.append(helper.make_node("Sum", ["p0", "p1", "p2"], ["y"]))
    net = _net(nodes, {f"w{n}": _draw(32, 32, seed=n) for n in range(3)}, ("n", 32))

    applied = quantize_dynamic(net)

    assert applied.graph.operators["DynamicQuantizeLinear"] == 1
    assert applied.graph.operators["MatMulInteger"] == 3
    assert "1 activations are quantized" in applied.notes[0]


@given(
    transposed=st.booleans(),
    alpha=st.sampled_from([1.0, -0.5, 2.0]),
    beta=st.sampled_from([1.0, 0.0, 3.0]),
    bias=st.booleans(),
)
@settings(max_examples=12, deadline=None)
def test_a_gemm_keeps_its_attributes(transposed, alpha, beta, bias):
    """However it is written, it answers what it did to a few percent of the largest."""
    weight = _draw(48, 24)
    names = ["x", "w", "b"] if bias else ["x", "w"]
    node = helper.make_node("Gemm", names, ["y"], transB=int(transposed), alpha=alpha)
    node.attribute.append(helper.make_attribute("beta", beta))
    held = {"w": weight.T.copy() if transposed else weight, "b": _draw(24, seed=1)}
    net = _net([node], held if bias else {"w": held["w"]}, ("n", 48))
    x = _draw(20, 48, seed=2)

    after = quantize_dynamic(net).graph

    before = _run(net, x=x)
    assert np.abs(_run(after, x=x) - before).max() < 0.03 * np.abs(before).max()


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_table_is_read_as_int8(per_channel):
    """Only the rows looked up become floats, within half a step of what they were."""
    table = _draw(200, 16) * np.logspace(-2, 0, 200, dtype=np.float32)[:, None]
    proto = model(
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        {"table": table},
        inputs={"ids": (TensorProto.INT64, ["n", 3])},
        outputs={"y": (FLOAT, ["n", 3, 16])},
    )
    ids = np.array([[0, 7, 199], [3, 3, -1]])

    after = quantize_dynamic(check(proto, "m"), per_channel=per_channel).graph

    largest = np.abs(table[ids]).max(axis=-1, keepdims=True) if per_channel else table.max()
    wide = [t for t in after.proto.graph.initializer if t.data_type == FLOAT]
    assert (np.abs(_run(after, ids=ids) - table[ids]) <= largest / 127 / 2 * 1.01).all()
    assert sum(int(np.prod(t.dims)) for t in wide) == (200 if per_channel else 1)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_table_has_scales_along_the_axis_that_loses_least(axis):
    """Rows of many sizes have one each; columns of many sizes too."""
    sizes = np.logspace(-3, 0, 64, dtype=np.float32)
    table = _draw(64, 64) * (sizes[:, None] if axis == 0 else sizes)
    proto = model(
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        {"table": table},
        inputs={"ids": (TensorProto.INT64, ["n"])},
        outputs={"y": (FLOAT, ["n", 64])},
    )

    after = quantize_dynamic(check(proto, "m")).graph

    found = _run(after, ids=np.arange(64))
    step = np.abs(table).max(axis=1 - axis, keepdims=True) / 127
    assert (np.abs(found - table) <= step / 2 * 1.01).all()
    assert after.operators["Gather"] == (2 if axis == 0 else 1)


@pytest.mark.parametrize(
    ("nodes", "weights", "why"),
    [
        ([("MatMul", ["w", "x"], "y")], {"w": (64, 64)}, "its weight is on the left"),
        ([("MatMul", ["x", "w"], "y")], {"w": (2, 64, 64)}, "its weight has 3 dimensions"),
        ([("MatMul", ["x", "w"], "y")], {"w": (64, 1)}, "256 bytes are too few to pay"),
        (
            [("Gather", ["w", "ids"], "z"), ("MatMul", ["z", "w"], "y")],
            {"w": (64, 64)},
            "its table is read by other nodes too",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_named(nodes, weights, why):
    """Beside a product that can be; alone it would be an error."""
    made = [helper.make_node(kind, names, [out]) for kind, names, out in nodes]
    made.append(helper.make_node("MatMul", ["x", "other"], ["more"]))
    held = {name: _draw(*shape) for name, shape in weights.items()}
    held |= {"other": _draw(64, 64, seed=4), "ids": np.arange(3)}
    proto = model(
        made,
        held,
        inputs={"x": (FLOAT, [64, 64])},
        outputs={
            "y": (FLOAT, [f"d{n}" for n in range(held["w"].ndim)]),
            "more": (FLOAT, [64, 64]),
        },
    )

    notes = quantize_dynamic(check(proto, "m")).notes

    assert why in notes[1]


def test_a_recurrent_cell_stays_and_is_named():
    """No standard operator computes one in integers."""
    proto = model(
        [
            helper.make_node("LSTM", ["x", "w", "r"], ["h"], hidden_size=8),
            helper.make_node("Reshape", ["h", "flat"], ["f"]),
            helper.make_node("MatMul", ["f", "m"], ["y"]),
        ],
        {
            "w": _draw(1, 32, 16),
            "r": _draw(1, 32, 8),
            "m": _draw(24, 60),
            "flat": np.array([1, -1]),
        },
        inputs={"x": (FLOAT, [3, 1, 16])},
        outputs={"y": (FLOAT, [1, 60])},
    )

    applied = quantize_dynamic(check(proto, "m"))

    assert "LSTM has no integer form in standard operators" in applied.notes[1]
    assert applied.graph.operators["LSTM"] == 1


@pytest.mark.parametrize("signed", [True, False])
def test_the_engine_fuses_every_product(graph, signed, tmp_path):
    """After loading there is one kernel a product: no integer sums are written out."""
    path = tmp_path / "loaded.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4

    after = quantize_dynamic(graph, signed=signed).graph
    onnxruntime.InferenceSession(after.to_bytes(), options)

    kinds = Counter(node.op_type for node in onnx.load(path).graph.node)
    fused = kinds["DynamicQuantizeMatMul"] + kinds["MatMulIntegerToFloat"]
    assert (fused, kinds["MatMulInteger"]) == (2, 0)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("signed", [True, False])
def test_learned_weights_answer_closer(transposed, signed):
    """With samples of correlated inputs the answers of weights alone lose less than half."""
    weight = _draw(48, 24)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=int(transposed))
    net = _net([node], {"w": weight.T.copy() if transposed else weight}, ("n", 48))
    x = _draw(200, 6, seed=2) @ _draw(6, 48, seed=3)

    plain, learned = (
        quantize_dynamic(net, signed=signed, samples=given)
        for given in (None, Samples({"x": x}))
    )

    lost = [np.square(x @ (_weight(made.graph) - weight)).mean() for made in (plain, learned)]
    assert lost[1] < lost[0] / 2
    assert "1 weights are rounded by what answers lose" in learned.notes[-1]


def _weight(graph):
    """Return the floats that the one product's weights stand for."""
    held = {t.name: numpy_helper.to_array(t) for t in graph.proto.graph.initializer}
    codes, scale = held["w/Gemm_0/codes"].astype(int), held["w/Gemm_0/scale"]
    return (codes - held.get("middle", 0)) * scale


def test_the_file_shrinks(graph):
    """All files together: more than seven tenths of a model of 132 kB are gone."""
    before = sum(map(len, files_of(graph).values()))

    after = sum(map(len, files_of(quantize_dynamic(graph).graph).values()))

    assert 1 - after / before > 0.7


def test_a_quantized_graph_is_refused(graph):
    """Rounding twice would lose twice."""
    with pytest.raises(QuantizeError, match="quantized already"):
        quantize_dynamic(quantize_dynamic(graph).graph)


def test_nothing_to_convert_is_an_error():
    """A graph without weights comes back as an error, never as float."""
    net = _net([helper.make_node("Relu", ["x"], ["y"])], {}, ("n", 4))

    with pytest.raises(QuantizeError, match="none of the 1 nodes could be converted"):
        quantize_dynamic(net)
