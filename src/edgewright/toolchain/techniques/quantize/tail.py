"""Behind the last layers arithmetic is done in floats: no layer needs it in codes again.

An engine unfolds the last answers to floats anyway. Unfolded before the arithmetic instead
of after it, they cost the same and are not rounded once more on the way: boxes in pixels
keep their fractions. A Gemm or MatMul can answer floats itself, which saves the rounding
of its answer too.
"""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from edgewright.toolchain.ir.graph import Graph, array_of, has_subgraphs

_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_ANSWER_FLOATS = frozenset({"Gemm", "MatMul"})
# What moves or picks codes, or is part of the layer before it.
_IN_CODES = frozenset({
    "AveragePool", "Clip", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather",
    "GatherElements", "GlobalAveragePool", "MaxPool", "Pad", "Relu", "Reshape", "Resize",
    "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
})  # fmt: skip


def behind_the_layers(graph: Graph) -> frozenset[str]:
    """Return the nodes that no layer comes after, from the first arithmetic on."""
    if has_subgraphs(graph.proto):
        return frozenset()
    nodes = graph.proto.graph.node
    before: set[str] = set()
    for node in reversed(nodes):
        if node.op_type in _LAYERS or before & set(node.output):
            before.update(node.input)
    floats: set[str] = set()
    found = set()
    for node in nodes:
        if node.op_type in _LAYERS or before & set(node.output):
            continue
        if node.op_type not in _IN_CODES or floats & set(node.input):
            found.add(node.name)
            floats.update(node.output)
    return frozenset(found)


def answer_floats(proto: ModelProto, floats: frozenset[str]) -> None:
    """Let layers of ``proto`` answer floats where nothing computes with their codes.

    Args:
        proto: A quantized model; changed in place.
        floats: Nodes that compute with floats.
    """
    readers: dict[str, list[str]] = {}
    writers = {name: node for node in proto.graph.node for name in node.output}
    asked = {value.name for value in proto.graph.output}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.name)
    for unfold in list(proto.graph.node):
        fold = writers.get(unfold.input[0]) if unfold.op_type == "DequantizeLinear" else None
        layer = writers.get(fold.input[0]) if fold is not None else None
        if fold is None or layer is None or layer.op_type not in _ANSWER_FLOATS:
            continue
        if len(readers[layer.output[0]]) > 1 or len(readers[fold.output[0]]) > 1:
            continue
        answer = unfold.output[0]
        if set(readers.get(answer, [])) - floats or (answer in asked and answer in readers):
            continue
        if len(layer.input) > 2 and not _whole_bias(proto, layer, writers):
            continue
        layer.output[0] = answer
        for node in (fold, unfold):
            proto.graph.node.remove(node)


def _whole_bias(proto: ModelProto, layer: NodeProto, writers: Mapping[str, NodeProto]) -> bool:
    """Store the bias of ``layer`` in steps of its sums; return whether that can be.

    Without a scale of the answer the engine makes no codes of a bias by itself.
    """
    held = {tensor.name: tensor for tensor in proto.graph.initializer}
    unfolds = [writers.get(name) for name in layer.input[:2]]
    if layer.input[2] not in held or any(node is None for node in unfolds):
        return False
    scales = [held.get(node.input[1]) for node in unfolds if node is not None]
    if any(scale is None for scale in scales):
        return False
    source, weight = (np.asarray(array_of(s), np.float64) for s in scales if s is not None)
    steps = np.atleast_1d(source * weight)
    bias = np.asarray(array_of(held[layer.input[2]]), np.float64)
    codes = np.rint(bias / steps)
    if bias.ndim != 1 or np.abs(codes).max(initial=0) > np.iinfo(np.int32).max:
        return False
    name = f"{layer.input[2]}:{layer.name}"
    kept = steps.astype(np.float32) if steps.size > 1 else np.float32(steps[0])
    for part, values in (("codes", codes.astype(np.int32)), ("scale", np.asarray(kept))):
        proto.graph.initializer.append(numpy_helper.from_array(values, f"{name}_{part}"))
    unfold = helper.make_node(
        "DequantizeLinear", [f"{name}_codes", f"{name}_scale"], [f"{name}_unfolded"],
        axis=0, name=f"{layer.name}_bias",
    )  # fmt: skip
    proto.graph.node.insert(list(proto.graph.node).index(layer), unfold)
    layer.input[2] = unfold.output[0]
    return True
