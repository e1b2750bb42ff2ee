"""equalise: the same answers, equal ranges on both sides, and int8 per tensor that holds."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.sim.models import model

from edgewright.core.errors import UsageError
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques.equalise import equalise
from edgewright.toolchain.techniques.quantize import quantize

FLOAT = TensorProto.FLOAT
X = np.random.default_rng(7).normal(size=(60, 3, 8, 8)).astype(np.float32)
CHANNELS = 16


def network(*, seed=0, activation="Relu", spread=1.5, batch_norm=False, residual=False):
    """Return a convolution, a depthwise, a pointwise and a matrix, of planted imbalance.

    ``spread`` is the standard deviation of the logarithm of a channel's size.
    """
    draw = np.random.default_rng(seed)
    first, second = np.exp(draw.normal(size=(2, CHANNELS)) * spread)

    def weight(*shape):
        return draw.normal(size=shape) / np.sqrt(np.prod(shape[1:]))

    held = {
        "w0": weight(CHANNELS, 3, 3, 3) * first[:, None, None, None],
        "b0": draw.normal(size=CHANNELS) * first / 4,
        "w1": weight(CHANNELS, 1, 3, 3) * (second / first)[:, None, None, None],
        "b1": draw.normal(size=CHANNELS) * second / 4,
        "w2": weight(8, CHANNELS, 1, 1) / second[:, None, None],
        "b2": draw.normal(size=8) / 4,
        "w3": weight(8 * 9, 5),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], name="wide", strides=[2, 2]),
        _activation(activation, "c0", "a0", held),
        helper.make_node(
            "Conv", ["a0", "w1", "b1"], ["c1"], name="deep", group=CHANNELS, pads=[1] * 4
        ),
        _activation(activation, "c1", "a1", held),
        helper.make_node("Conv", ["a1", "w2", "b2"], ["c2"], name="point"),
        _activation(activation, "c2", "a2", held),
        helper.make_node("Flatten", ["a2"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w3"], ["y"], name="last"),
    ]
    if batch_norm:
        names = [f"n{part}" for part in range(4)]
        held |= dict.fromkeys(names, np.ones(CHANNELS))
        nodes[1].input[0] = "n"
        nodes.insert(1, helper.make_node("BatchNormalization", ["c0", *names], ["n"]))
    if residual:
        nodes[4].input[0] = "sum"
        nodes.insert(4, helper.make_node("Add", ["a0", "a1"], ["sum"]))
    proto = model(
        nodes,
        {name: np.asarray(array, np.float32) for name, array in held.items()},
        inputs={"x": (FLOAT, ["n", 3, 8, 8])},
        outputs={"y": (FLOAT, ["n", 5])},
    )
    return check(proto, "m")


def _activation(kind, source, output, held):
    if kind == "PRelu":
        held[f"slope_{output}"] = np.full((1, 1, 1), 0.25)
        return helper.make_node(kind, [source, f"slope_{output}"], [output])
    more = {"alpha": 0.2} if kind == "LeakyRelu" else {}
    return helper.make_node(kind, [source], [output], **more)


def _run(graph):
    return onnxruntime.InferenceSession(graph.to_bytes()).run(None, {"x": X})[0]


def _weights(graph):
    held = {t.name: np.frombuffer(t.raw_data, np.float32) for t in
            graph.proto.graph.initializer if t.data_type == FLOAT}  # fmt: skip
    shape = {t.name: tuple(t.dims) for t in graph.proto.graph.initializer}
    return {
        node.name: held[node.input[1]].reshape(shape[node.input[1]])
        for node in graph.proto.graph.node
        if node.op_type in {"Conv", "MatMul"}
    }


@given(seed=st.integers(0, 50), activation=st.sampled_from(["Relu", "LeakyRelu", "Identity"]))
def test_answers_stay(seed, activation):
    """To rounding, whatever is between the layers, as long as it minds no scale."""
    graph = network(seed=seed, activation=activation)

    applied = equalise(graph)

    before = _run(graph)
    assert applied.changed
    assert np.abs(_run(applied.graph) - before).max() <= 1e-5 * np.abs(before).max()


def test_both_sides_have_the_same_ranges():
    """Of each channel: what writes it and what reads it, through the whole chain."""
    weights = _weights(equalise(network()).graph)

    wide, deep = (np.abs(weights[name]).max(axis=(1, 2, 3)) for name in ("wide", "deep"))
    point = np.abs(weights["point"])
    last = np.abs(weights["last"]).reshape(8, 9, 5).max(axis=(1, 2))
    np.testing.assert_allclose(wide, deep, rtol=1e-3)
    np.testing.assert_allclose(deep, point.max(axis=(0, 2, 3)), rtol=1e-3)
    np.testing.assert_allclose(point.max(axis=(1, 2, 3)), last, rtol=1e-3)


def test_int8_per_tensor_holds_afterwards():
    """The error of static int8 with one scale a weight falls to less than a third."""
    graph = network(spread=2.0)
    samples = Samples({"x": X})
    before = _run(graph)

    lost = [
        np.square(_run(quantize(g, samples, per_channel=False, bits=7).graph) - before).mean()
        for g in (graph, equalise(graph).graph)
    ]

    assert lost[1] < lost[0] / 3


@pytest.mark.parametrize(
    ("change", "pairs", "said"),
    [
        ({"activation": "Sigmoid"}, 0, "'wide', Sigmoid follows"),
        ({"activation": "HardSwish"}, 0, "'deep', HardSwish follows"),
        ({"activation": "PRelu"}, 3, ""),
        ({"batch_norm": True}, 2, "'wide', BatchNormalization follows"),
        ({"residual": True}, 1, "'deep', Add follows"),
    ],
    ids=["sigmoid", "hard swish", "prelu", "batch norm", "residual"],
)
def test_what_minds_a_scale_ends_a_chain(change, pairs, said):
    """It is named, and answers stay for the pairs that are left."""
    graph = network(**change)

    applied = equalise(graph)

    before = _run(graph)
    assert applied.changed is (pairs > 0)
    assert f"{pairs} pairs" in applied.notes[0]
    assert said in " ".join(applied.notes[1:])
    assert np.abs(_run(applied.graph) - before).max() <= 1e-5 * np.abs(before).max()


def test_what_is_equal_stays():
    """A second time changes nothing and says so."""
    again = equalise(equalise(network()).graph)

    assert not again.changed
    assert "none of 3 pairs" in again.notes[0]


def test_depthwise_may_be_left():
    """Only the pair of the pointwise and the matrix is left to look at."""
    graph = network()

    applied = equalise(graph, depthwise=False)

    assert "1 pairs" in applied.notes[0]
    np.testing.assert_array_equal(_weights(applied.graph)["wide"], _weights(graph)["wide"])


def test_a_skipped_node_is_left_alone():
    """Its pairs are named; a node that is not there is refused."""
    graph = network()

    applied = equalise(graph, skip=frozenset({"deep"}))

    assert "'wide' and 'deep', as asked" in applied.notes[1]
    np.testing.assert_array_equal(_weights(applied.graph)["deep"], _weights(graph)["deep"])
    with pytest.raises(UsageError, match="no node 'steep'"):
        equalise(graph, skip=frozenset({"steep"}))


def test_a_silent_channel_stays_finite():
    """A pruned channel has no range on either side and is not scaled."""
    graph = network()
    proto = graph.copy()
    held = next(t for t in proto.graph.initializer if t.name == "w1")
    array = np.frombuffer(held.raw_data, np.float32).copy()
    array[:9] = 0
    held.raw_data = array.tobytes()
    pruned = check(proto, "m")

    after = equalise(pruned).graph

    before = _run(pruned)
    assert np.abs(_run(after) - before).max() <= 1e-5 * np.abs(before).max()
