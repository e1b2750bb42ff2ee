"""Which layers still hold float weights after quantizing, and why.

A recurrent cell, a table with other readers or a weight of another type is passed over by
the quantizer without a word. Whoever asked for int8 is told by name, with the bytes.
"""

from collections.abc import Collection

from onnx import GraphProto, NodeProto, TensorProto

from edgewright.toolchain.ir.graph import Graph

_FLOATS = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.DOUBLE: "float64",
    TensorProto.BFLOAT16: "bfloat16",
}
_NAMED = 5


def left_as_floats(
    graph: Graph, result: Graph, *, operators: Collection[str], skip: Collection[str]
) -> str:
    """Return the nodes whose weights are floats as before, and why; empty if none are.

    Args:
        graph: Before quantizing.
        result: After it; nodes have the same names.
        operators: Kinds of node that the quantizer takes.
        skip: Nodes that were left as asked, which somebody else tells.
    """
    before, after = _matrices(graph.proto.graph), _matrices(result.proto.graph)
    computed = {node.name: node for node in result.proto.graph.node}
    found = []
    for node in graph.proto.graph.node:
        made = computed.get(node.name)
        if made is None or node.name in skip:
            continue
        held = [name for name in dict.fromkeys(made.input) if name in after & before]
        if held:
            found.append(_told(node, held, graph, operators))
    more = len(found) - _NAMED
    shown = "; ".join(found[:_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


def _told(
    node: NodeProto, held: Collection[str], graph: Graph, operators: Collection[str]
) -> str:
    tensors = [t for t in graph.proto.graph.initializer if t.name in held]
    size = sum(len(tensor.raw_data) for tensor in tensors)
    kinds = sorted({_FLOATS[tensor.data_type] for tensor in tensors})
    why = f"the quantizer does not take {' and '.join(kinds)} weights in this place"
    if node.op_type not in operators:
        why = f"{node.op_type} has no 8-bit form"
    return f"{node.op_type} {node.name!r} with {size} bytes, {why}"


def _matrices(graph: GraphProto) -> set[str]:
    """Return the float initializers that are no vectors and no single numbers."""
    return {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type in _FLOATS and sum(size > 1 for size in tensor.dims) > 1
    }
