"""An error names the node or the tensor, gives the reason in numbers, and says what to do."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.sim.models import model, quarters, samples

from edgewright.core.errors import EdgewrightError, ModelError
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure.parity import check_parity
from edgewright.toolchain.techniques import TECHNIQUES, load_technique

IMAGES = Samples({"image": samples(60)[0]})
FLOAT = TensorProto.FLOAT


def _branching():
    """Return a model with a branch, each side of which has a weight."""
    sides = {}
    for name in ("then_branch", "else_branch"):
        weight = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), f"{name}_w")
        sides[name] = helper.make_graph(
            [helper.make_node("MatMul", ["x", f"{name}_w"], [f"{name}_y"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_y", FLOAT, ["n", 64])],
            [weight],
        )
    return model(
        [
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["yes"], to=TensorProto.BOOL),
            helper.make_node("If", ["yes"], ["y"], name="choice", **sides),
        ],
        {},
        inputs={"x": (FLOAT, ["n", 64])},
        outputs={"y": (FLOAT, ["n", 64])},
    )


def _unlike(source):
    return lambda: check_parity([source], [source + 1], "int8")


def _spoiled(change):
    proto = quarters()
    change(proto)
    return proto


def _nan(proto):
    weight = next(t for t in proto.graph.initializer if t.name == "last")
    values = onnx.numpy_helper.to_array(weight).copy()
    values[2, 1] = np.nan
    weight.CopyFrom(onnx.numpy_helper.from_array(values, "last"))


def _apply(name, proto, given=IMAGES, **settings):
    return lambda: load_technique(name).apply(check(proto, "m"), settings, given)


SAID = {
    "a weight that is no number": (
        lambda: check(_spoiled(_nan), "m"), ("'last'", "1 of 256"),
    ),
    "samples of another shape": (
        _apply("quantize", quarters(), Samples({"image": samples(60)[0][:, :, :4]})),
        ("'image'", "60x1x4x8"),
    ),
    "samples under another name": (
        _apply("quantize", quarters(), Samples({"picture": samples(60)[0]})), ("'image'",),
    ),
    "an activation that is no number": (
        _apply("quantize", _spoiled(lambda p: p.graph.initializer[0].CopyFrom(
            onnx.numpy_helper.from_array(np.array(0, np.float32), "scale")))),
        ("'centred'", "of 2048 values"),
    ),
    "a second time": (
        lambda: load_technique("quantize").apply(
            load_technique("quantize").apply(check(quarters(), "m"), {}, IMAGES).graph,
            {}, IMAGES,
        ),
        ("DequantizeLinear '",),
    ),
    "weights a second time": (
        lambda: load_technique("weights").apply(
            load_technique("weights").apply(check(quarters(), "m"), {}).graph, {}
        ),
        ("/half'",),
    ),
    "answers that moved": (_unlike(np.full((5, 2), 4.0)), ("int8", "2.50e-01", "1e-04")),
}  # fmt: skip


@pytest.mark.parametrize("case", SAID)
def test_it_names_what_is_wrong_with_numbers_and_a_remedy(case):
    """By the name it has in the model, with the sizes or shares, and a hint."""
    cause, words = SAID[case]

    with pytest.raises(EdgewrightError) as told:
        cause()

    assert [word for word in words if word not in str(told.value)] == []
    assert told.value.hint.endswith((".", "?"))


@pytest.mark.parametrize("name", ["weights", "dynamic", "smooth", "equalise"])
def test_a_branch_that_is_not_looked_into_is_named(name):
    """Its weights would stay as they are without a word."""
    x = Samples({"x": np.ones((40, 64), np.float32)})

    with pytest.raises(ModelError, match="If 'choice' holds a graph of its own") as told:
        _apply(name, _branching(), x)()

    assert "without control flow" in told.value.hint


@pytest.mark.parametrize("name", TECHNIQUES)
def test_no_technique_changes_a_branch_into_another(name):
    """What it cannot do it refuses, and what it does answers the same within its bounds."""
    x = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    graph = check(_branching(), "m")

    try:
        applied = load_technique(name).apply(graph, {}, Samples({"x": x}))
    except ModelError:
        return

    before, after = (_answers(g, x) for g in (graph, applied.graph))
    assert np.abs(before - after).max() <= TECHNIQUES[name].moves * np.abs(before).max()


def _answers(graph: Graph, x):
    session = onnx.reference.ReferenceEvaluator(graph.proto)
    return session.run(None, {"x": x})[0]
