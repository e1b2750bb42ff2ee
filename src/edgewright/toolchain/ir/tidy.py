"""Bring a model into one form: no traces of its exporter, no dead or double weights.

Exporters leave stack traces, the paths of the machine they ran on and stale notes on
shapes; optimisers leave initializers nobody reads. What is left here is what decides
the answer, in an order that depends on nothing else.
"""

from collections.abc import Iterator

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from edgewright.core import digest
from edgewright.toolchain.ir.graph import Graph, array_of, has_subgraphs

_PLAIN = frozenset({"data_type", "dims", "name", "raw_data"})


def tidy(proto: ModelProto) -> Graph:
    """Return ``proto`` as a graph in the one form; ``proto`` is left without weights.

    A message keeps the memory of all that was ever in it, so the graph is a new one.
    """
    _strip(proto)
    if has_subgraphs(proto):
        kept = list(proto.graph.initializer)
    else:
        kept = _in_order(proto, _merged(proto))
    del proto.graph.initializer[:]
    _name_nodes(proto)
    made = ModelProto()
    made.CopyFrom(proto)
    made.graph.initializer.extend(kept)
    return Graph(made)


def drop_unread(proto: ModelProto) -> None:
    """Remove the nodes of ``proto`` that nothing reads, which has no graphs in nodes."""
    read = {value.name for value in proto.graph.output}
    kept = []
    for node in reversed(proto.graph.node):
        if read & set(node.output):
            kept.append(NodeProto.FromString(node.SerializeToString()))
            read.update(node.input)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(kept))


def _strip(proto: ModelProto) -> None:
    """Remove everything that is said about the model rather than computed by it."""
    graph = proto.graph
    # onnxruntime's quantizer stops at a value_info that is stale.
    for holder, names in (
        (proto, ("producer_name", "producer_version", "domain", "model_version")),
        (proto, ("doc_string", "metadata_props", "training_info")),
    ):
        for name in names:
            holder.ClearField(name)
    graph.name = "main"
    for held in graphs_of(graph):
        _strip_graph(held)
    # Fields of a newer ONNX, or of anybody else, that this one would carry along unread.
    proto.DiscardUnknownFields()
    used = {node.domain for node in graph.node}
    if not has_subgraphs(proto):
        kept = [o for o in proto.opset_import if o.domain in used | {"", "ai.onnx"}]
        del proto.opset_import[:]
        proto.opset_import.extend(sorted(kept, key=lambda o: o.domain))


def graphs_of(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield ``graph`` and every graph inside its nodes (If, Loop, Scan)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from graphs_of(inner)


def _strip_graph(graph: GraphProto) -> None:
    for name in ("doc_string", "metadata_props", "value_info", "quantization_annotation"):
        graph.ClearField(name)
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for node in graph.node:
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
            for tensor in (attribute.t, *attribute.tensors):
                # Only where there is one: reading is not setting, clearing is.
                if tensor.ByteSize():
                    tensor.ClearField("doc_string")
                    tensor.ClearField("metadata_props")


def _merged(proto: ModelProto) -> list[TensorProto]:
    """Return the weights of ``proto``, equal ones once, which is what nodes read then.

    Per-channel zero points are mostly the same zeros.
    """
    graph = proto.graph
    outputs = {value.name for value in graph.output}
    first: dict[tuple[int, tuple[int, ...], str], str] = {}
    other: dict[str, str] = {}
    kept: list[TensorProto] = []
    for tensor in graph.initializer:
        raw = _raw(tensor)
        key = (raw.data_type, tuple(raw.dims), digest.of_bytes(raw.raw_data))
        if key in first and tensor.name not in outputs:
            other[tensor.name] = first[key]
        else:
            first.setdefault(key, tensor.name)
            kept.append(raw)
    for node in graph.node:
        node.input[:] = [other.get(name, name) for name in node.input]
    # Since IR version 4 an initializer need not be an input too.
    constant = {tensor.name for tensor in kept} | set(other)
    fed = [value for value in graph.input if value.name not in constant]
    del graph.input[:]
    graph.input.extend(fed)
    return kept


def _raw(tensor: TensorProto) -> TensorProto:
    """Return ``tensor`` with its values as bytes, whole."""
    values = array_of(tensor)
    fields = {field.name for field, _ in tensor.ListFields()}
    plain = fields <= _PLAIN and "raw_data" in fields
    return tensor if plain else numpy_helper.from_array(values, tensor.name)


def _in_order(proto: ModelProto, weights: list[TensorProto]) -> list[TensorProto]:
    """Return those of ``weights`` that are read, in the order they first are."""
    read = dict.fromkeys(name for node in proto.graph.node for name in node.input)
    read.update(dict.fromkeys(value.name for value in proto.graph.output))
    held = {tensor.name: tensor for tensor in weights}
    return [held[name] for name in read if name in held]


def _name_nodes(proto: ModelProto) -> None:
    """Give every node a name of its own: tools address nodes by name."""
    seen: set[str] = set()
    for index, node in enumerate(proto.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)
