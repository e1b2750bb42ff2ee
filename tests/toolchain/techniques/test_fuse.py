"""fuse: fewer nodes, the same answers, standard operators only."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tests.sim.models import model, quarters, samples

from edgewright.core.errors import ModelError
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.techniques.fuse import fuse
from edgewright.toolchain.techniques.fuse.scalars import fold_scalars

X = {"x": (TensorProto.FLOAT, ["n", 3])}
Y = {"y": (TensorProto.FLOAT, ["n", 3])}
SCALARS = st.floats(-4, 4, width=32).filter(lambda value: abs(value) > 0.05)
STEPS = st.lists(
    st.tuples(st.sampled_from(["Add", "Sub", "Mul", "Div"]), SCALARS, st.booleans()),
    min_size=1,
    max_size=6,
)


def test_batch_norm_and_normalisation_disappear():
    """The batch norm goes into the convolution, and so does the factor of (x/16 - mean)."""
    applied = fuse(check(quarters(), "m"))

    left = applied.graph.operators
    assert applied.changed
    assert not {"BatchNormalization", "Div", "Sub"} & set(left)
    assert left["Add"] == 1
    balanced, aggressive = applied.notes
    assert balanced == (
        "balanced: 10 nodes became 9, gone 1 BatchNormalization; by ONNX Runtime's optimiser 1"
    )
    assert aggressive == (
        "aggressive: 9 nodes became 8, gone 1 Div, 1 Sub, new 1 Add; "
        "by constants into the layer after 1"
    )


def test_the_answers_are_the_same_up_to_rounding():
    """On real images, within a millionth of the largest answer."""
    images, _ = samples(50)
    source = check(quarters(), "m")

    before, after = (_run(g, {"image": images}) for g in (source, fuse(source).graph))

    np.testing.assert_allclose(after, before, atol=2e-6 * np.abs(before).max())


def test_only_portable_operators_are_left():
    """Nothing in the result names a vendor."""
    fused = fuse(check(quarters(), "m")).graph.proto

    assert {node.domain for node in fused.graph.node} <= {"", "ai.onnx"}
    assert [opset.domain for opset in fused.opset_import] == [""]


def test_nothing_to_fuse_says_so():
    """The graph comes back as it is."""
    graph = check(
        model([helper.make_node("Relu", ["x"], ["y"])], {}, inputs=X, outputs=Y), "m"
    )

    applied = fuse(graph)

    assert not applied.changed
    assert applied.graph is graph
    assert applied.notes == ("nothing was left to fuse",)


def test_a_graph_the_optimiser_refuses_is_an_error_of_ours():
    """An operator it has no kernel for: the message says what was attempted."""
    proto = model([helper.make_node("Relu", ["x"], ["y"])], {}, inputs=X, outputs=Y)
    graph = check(proto, "m")
    graph.proto.graph.node[0].domain = "org.example"

    with pytest.raises(ModelError, match="cannot optimise the graph"):
        fuse(graph)


def test_a_hand_worked_chain():
    """(x / 4 - 1) * 8 + 2 is 2 x - 6: two nodes instead of four."""
    graph = _chain(
        [("Div", 4.0, False), ("Sub", 1.0, False), ("Mul", 8.0, False), ("Add", 2.0, False)]
    )

    folded = fold_scalars(graph)

    constants = [float(numpy_helper.to_array(t)) for t in folded.proto.graph.initializer]
    assert folded.operators == {"Mul": 1, "Add": 1, "Identity": 1}
    assert constants == [2.0, -6.0]


def test_a_chain_that_does_nothing_disappears():
    """Adding one and taking it away before a node that is needed leaves that node alone."""
    graph = _chain([("Add", 1.0, False), ("Sub", 1.0, False)], end="Relu")

    assert fold_scalars(graph).operators == {"Relu": 1}


def test_a_result_somebody_asked_for_stays():
    """A chain ends where its tensor is an output of the graph."""
    proto = model(
        [
            helper.make_node("Mul", ["x", "a"], ["y"]),
            helper.make_node("Mul", ["y", "a"], ["z"]),
        ],
        {"a": np.array(2.0, np.float32)},
        inputs=X,
        outputs={**Y, "z": (TensorProto.FLOAT, ["n", 3])},
    )

    assert fold_scalars(check(proto, "m")).operators == {"Mul": 2}


def test_a_tensor_read_twice_stays():
    """Folding over it would compute it twice."""
    proto = model(
        [
            helper.make_node("Mul", ["x", "a"], ["half"]),
            helper.make_node("Mul", ["half", "a"], ["left"]),
            helper.make_node("Sub", ["left", "half"], ["y"]),
        ],
        {"a": np.array(0.5, np.float32)},
        inputs=X,
        outputs=Y,
    )

    assert fold_scalars(check(proto, "m")).operators == {"Mul": 2, "Sub": 1}


def test_a_weight_two_convolutions_share_is_not_scaled_for_both():
    """The factor before one of them must not reach the other, nor the weight be kept twice."""
    weight = np.ones((3, 3, 1, 1), np.float32)
    proto = model(
        [
            helper.make_node("Mul", ["x", "a"], ["double"]),
            helper.make_node("Add", ["double", "b"], ["moved"]),
            helper.make_node("Conv", ["moved", "w"], ["left"]),
            helper.make_node("Conv", ["x", "w"], ["right"]),
            helper.make_node("Sub", ["left", "right"], ["y"]),
        ],
        {"a": np.array(2.0, np.float32), "b": np.array(3.0, np.float32), "w": weight},
        inputs={"x": (TensorProto.FLOAT, ["n", 3, 2, 2])},
        outputs={"y": (TensorProto.FLOAT, ["n", 3, 2, 2])},
    )
    graph = check(proto, "m")
    x = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)

    folded = fuse(graph).graph

    assert folded.operators == {"Mul": 1, "Add": 1, "Conv": 2, "Sub": 1}
    np.testing.assert_allclose(_run(folded, {"x": x}), _run(graph, {"x": x}), rtol=1e-6)


@given(steps=STEPS)
@pytest.mark.slow
def test_a_folded_chain_computes_the_same(steps):
    """Whatever the chain: never more nodes, and the same numbers up to rounding."""
    graph = _chain(steps)
    x = np.array([[-2.0, 0.3, 5.0]], np.float32)

    folded = fold_scalars(graph)

    expected = _exactly(steps, x)
    scale = max(np.abs(expected).max(), _largest(steps, x))
    assert folded.operators.total() <= graph.operators.total()
    np.testing.assert_allclose(_run(folded, {"x": x}), expected, atol=1e-5 * scale)


def _chain(steps, end="Identity"):
    """Return a graph of ``steps``: operator, constant, constant on the left or not."""
    nodes, weights, last = [], {}, "x"
    for number, (operator, value, left) in enumerate(steps):
        name, result = f"c{number}", f"t{number}"
        weights[name] = np.array(value, np.float32)
        operands = [name, last] if left and operator != "Div" else [last, name]
        nodes.append(helper.make_node(operator, operands, [result]))
        last = result
    nodes.append(helper.make_node(end, [last], ["y"]))
    return check(model(nodes, weights, inputs=X, outputs=Y), "m")


def _exactly(steps, x):
    value = x.astype(np.float64)
    for operator, constant, left in steps:
        value = {
            "Add": lambda v, c: v + c,
            "Mul": lambda v, c: v * c,
            "Sub": lambda v, c, left=left: c - v if left else v - c,
            "Div": lambda v, c: v / c,
        }[operator](value, constant)
    return value


def _largest(steps, x):
    """Return the largest number on the way, which rounding is relative to."""
    return max(np.abs(_exactly(steps[:n], x)).max() for n in range(len(steps) + 1))


def _run(graph, feeds):
    return onnxruntime.InferenceSession(graph.to_bytes()).run(None, feeds)[0]


def _layered():
    """Return a graph with something to do for every level."""
    draw = np.random.default_rng(1)
    kernel = draw.normal(size=(4, 1, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Div", ["same", "two"], ["half"]),
        helper.make_node("Sub", ["half", "one"], ["centred"]),
        helper.make_node("Conv", ["centred", "kernel"], ["map"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["map", "g", "b", "m", "v"], ["normal"]),
        helper.make_node("Relu", ["normal"], ["y"]),
    ]
    weights = {
        "two": np.array(2, np.float32), "one": np.array(1, np.float32), "kernel": kernel,
        **{name: np.linspace(0.5, 1.5, 4).astype(np.float32) for name in "gbmv"},
    }  # fmt: skip
    return check(
        model(
            nodes,
            weights,
            inputs={"x": (TensorProto.FLOAT, ["n", 1, 5, 5])},
            outputs={"y": (TensorProto.FLOAT, ["n", 4, 5, 5])},
        ),
        "m",
    )


def test_each_level_does_what_the_one_before_does_and_more():
    """Identities go, then the batch norm, then the preprocessing; the answers stay."""
    graph = _layered()
    x = np.random.default_rng(0).normal(size=(3, 1, 5, 5)).astype(np.float32)
    before = _run(graph, {"x": x})

    found = {level: fuse(graph, level=level) for level in ("fast", "balanced", "aggressive")}

    kinds = {level: set(one.graph.operators) for level, one in found.items()}
    assert kinds["fast"] == {"Div", "Sub", "Conv", "BatchNormalization", "Relu"}
    assert kinds["balanced"] == {"Div", "Sub", "Conv", "Relu"}
    assert kinds["aggressive"] == {"Add", "Conv", "Relu"}
    for one in found.values():
        np.testing.assert_allclose(_run(one.graph, {"x": x}), before, rtol=1e-4, atol=1e-5)
    assert [note.partition(":")[0] for note in found["aggressive"].notes] == [
        "fast", "balanced", "aggressive",
    ]  # fmt: skip


def test_an_operator_is_never_taken_apart():
    """The optimiser would write two nodes for one hard swish; that is no gain."""
    proto = model(
        [helper.make_node("HardSwish", ["x"], ["y"])],
        {},
        inputs={"x": (TensorProto.FLOAT, ["n", 4])},
        outputs={"y": (TensorProto.FLOAT, ["n", 4])},
    )

    assert not fuse(check(proto, "m")).changed
