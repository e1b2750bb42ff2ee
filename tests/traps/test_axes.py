"""One scale a channel: along the outputs of whatever operator, and never lost on the way.

Every weight here has outputs of sizes four orders of magnitude apart. Along any other axis,
or with one scale for all, the small ones would come out as zeros.
"""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from tests.sim.models import model

from edgewright.core.errors import QuantizeError
from edgewright.toolchain.ir.graph import Graph, array_of
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques import load_technique

# Operator, its attributes, the weight's shape, the axis of its outputs, an input, an output.
LAYERS = {
    "Conv": ("Conv", {}, (8, 4, 3, 3), 0, (4, 8, 8), (8, 6, 6)),
    "Conv in one dimension": ("Conv", {}, (8, 4, 3), 0, (4, 8), (8, 6)),
    "Conv by depth": ("Conv", {"group": 8}, (8, 1, 3, 3), 0, (8, 8, 8), (8, 6, 6)),
    "ConvTranspose": ("ConvTranspose", {}, (4, 8, 3, 3), 1, (4, 6, 6), (8, 8, 8)),
    "ConvTranspose in groups": (
        "ConvTranspose", {"group": 2}, (4, 8, 3, 3), 1, (4, 6, 6), (16, 8, 8),
    ),
    "Gemm": ("Gemm", {}, (16, 8), 1, (16,), (8,)),
    "Gemm transB": ("Gemm", {"transB": 1}, (8, 16), 0, (16,), (8,)),
    "MatMul": ("MatMul", {}, (16, 8), 1, (16,), (8,)),
    "MatMul of a batch": ("MatMul", {}, (3, 16, 8), 2, (3, 5, 16), (3, 5, 8)),
    "MatMul on the left": ("MatMul", {"left": 1}, (8, 16), 0, (16, 5), (8, 5)),
    "MatMul of two on the left": ("MatMul", {"left": 1}, (2, 8, 16), 1, (2, 16, 5), (2, 8, 5)),
}  # fmt: skip

# So few weights an output that no scale of its own is spent on them where they are stored.
FEW = ("Conv in one dimension", "Conv by depth")


def _layer(name, *, opset=21):
    """Return a model of one layer, its weight, the axis of its outputs, and an input."""
    kind, options, shape, axis, given, answered = LAYERS[name]
    draw = np.random.default_rng(5)
    sizes = np.logspace(-3, 1, shape[axis]).reshape(
        [-1 if a == axis else 1 for a in range(len(shape))]
    )
    weight = (draw.normal(size=shape) * sizes).astype(np.float32)
    names = ["w", "x"] if options.get("left") else ["x", "w"]
    more = {key: value for key, value in options.items() if key != "left"}
    proto = model(
        [helper.make_node(kind, names, ["y"], name="layer", **more)],
        {"w": weight},
        inputs={"x": (TensorProto.FLOAT, ["n", *given])},
        outputs={"y": (TensorProto.FLOAT, ["n", *answered])},
        opset=opset,
    )
    return proto, weight, axis, draw.normal(size=(40, *given)).astype(np.float32)


def _unfolded(graph):
    """Return the weight that the node ``layer`` computes with, and what unfolds it."""
    writers = {name: node for node in graph.proto.graph.node for name in node.output}
    layer = next(node for node in graph.proto.graph.node if node.name == "layer")
    held = {tensor.name for tensor in graph.proto.graph.initializer}
    for name in layer.input:
        node = writers.get(name)
        if node is not None and node.input[0] in held:
            return name, node
    raise AssertionError("the layer has no weight that is unfolded")


def _largest(weight, axis):
    """Return the largest magnitude of each slice, to be broadcast over the weight."""
    others = tuple(a for a in range(weight.ndim) if a != axis)
    return np.abs(weight).max(axis=others, keepdims=True)


@pytest.mark.parametrize("bits", ["8", "7"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_axis_is_written_and_is_that_of_the_outputs(name, bits):
    """Every output has a scale of its own, and no weight moves by more than half its step."""
    proto, weight, axis, x = _layer(name)

    applied = load_technique("quantize").apply(
        check(proto, "m"), {"bits": bits}, Samples({"x": x})
    )

    _, node = _unfolded(applied.graph)
    codes, scale = (
        np.asarray(array_of(t), np.float32)
        for wanted in node.input[:2]
        for t in applied.graph.proto.graph.initializer
        if t.name == wanted
    )
    assert [a.i for a in node.attribute if a.name == "axis"] == [axis]
    assert scale.shape == (weight.shape[axis],)
    wide = scale.reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
    steps = 127 if bits == "8" else 63
    assert (np.abs(codes * wide - weight) <= 0.51 * _largest(weight, axis) / steps).all()


@pytest.mark.parametrize("name", [n for n in LAYERS if n not in FEW])
def test_stored_weights_come_back_within_half_a_step_of_their_output(name):
    """Also where weights are only stored as int8 and computed with as floats."""
    proto, weight, axis, x = _layer(name)

    applied = load_technique("weights").apply(
        check(proto, "m"), {"form": "int8"}, Samples({"x": x})
    )

    unfolded = _evaluated(applied.graph, x)
    assert (np.abs(unfolded - weight) <= 0.51 * _largest(weight, axis) / 127).all()


@pytest.mark.parametrize("opset", [11, 12])
@pytest.mark.parametrize("name", ["Conv", "Gemm transB", "MatMul"])
def test_an_opset_without_channels_is_raised_before_anything(name, opset):
    """What was exported in opset 11 has a scale a channel all the same, in a valid model."""
    proto, weight, axis, x = _layer(name, opset=opset)

    graph = load_technique("quantize").apply(check(proto, "m"), {}, Samples({"x": x})).graph

    onnx.checker.check_model(graph.proto, full_check=True)
    _, node = _unfolded(graph)
    (scale,) = (t for t in graph.proto.graph.initializer if t.name == node.input[1])
    assert graph.opset >= 13
    assert list(scale.dims) == [weight.shape[axis]]


def test_a_graph_that_was_not_raised_is_refused():
    """One scale for all would be another thing than was asked; the remedy works."""
    proto, _, _, x = _layer("Conv", opset=12)
    graph, samples = Graph(proto), Samples({"x": x})

    with pytest.raises(
        QuantizeError, match="needs opset 13, the graph is written in 12"
    ) as told:
        load_technique("quantize").apply(graph, {}, samples)

    assert "one scale per tensor" in told.value.hint
    assert load_technique("quantize").apply(graph, {"granularity": "tensor"}, samples).changed


def _evaluated(graph, x):
    """Return the weight of ``layer`` as ONNX's reference computes it."""
    writers = {name: node for node in graph.proto.graph.node for name in node.output}
    layer = next(node for node in graph.proto.graph.node if node.name == "layer")
    name = next(n for n in layer.input if n in writers)
    proto = graph.copy()
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    last = next(i for i, node in enumerate(proto.graph.node) if node.name == "layer")
    del proto.graph.node[last:]
    (found,) = ReferenceEvaluator(proto).run([name], {"x": x[:1]})
    return found
