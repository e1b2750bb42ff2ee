"""Write a graph as files: ``model.onnx``, and ``weights.bin`` when there is much to map.

Weights beside the graph are mapped by the engine instead of read (13 MiB less on a
23 MB model). Names inside the graph cost bytes and decide nothing, so tensors get
short ones and nodes none; inputs and outputs keep theirs.
"""

import string
from collections.abc import Iterator
from itertools import count

from onnx import ModelProto, TensorProto

from edgewright.toolchain.ir.graph import Graph, has_subgraphs

MODEL, WEIGHTS = "model.onnx", "weights.bin"

# Below this a second file costs more than it saves.
EXTERNAL_FROM_BYTES = 64 * 1024
# A tensor that an engine may need to infer shapes is far smaller than this.
_INLINE_BELOW_BYTES = 1024
_ALIGN_BYTES = 64
_DIGITS = string.digits + string.ascii_letters


def files_of(graph: Graph) -> dict[str, bytes]:
    """Return the files of ``graph`` by name; equal graphs give equal bytes."""
    proto = graph.copy()
    if not has_subgraphs(proto):
        _shorten_names(proto)
    if graph.weight_bytes <= EXTERNAL_FROM_BYTES:
        return {MODEL: proto.SerializeToString(deterministic=True)}
    weights = _move_out(proto)
    return {MODEL: proto.SerializeToString(deterministic=True), WEIGHTS: weights}


def _move_out(proto: ModelProto) -> bytes:
    """Move the large initializers of ``proto`` into the bytes that are returned."""
    weights = bytearray()
    for tensor in proto.graph.initializer:
        data = tensor.raw_data
        if len(data) < _INLINE_BELOW_BYTES:
            continue
        weights.extend(b"\0" * (-len(weights) % _ALIGN_BYTES))
        place = {"location": WEIGHTS, "offset": str(len(weights)), "length": str(len(data))}
        weights.extend(data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in place.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    return bytes(weights)


def _shorten_names(proto: ModelProto) -> None:
    graph = proto.graph
    fixed = {value.name for value in (*graph.input, *graph.output)}
    fresh = (name for name in _names() if name not in fixed)
    short: dict[str, str] = {"": "", **{name: name for name in fixed}}
    for node in graph.node:
        node.ClearField("name")
        for names in (node.input, node.output):
            for name in names:
                if name not in short:
                    short[name] = next(fresh)
            names[:] = [short[name] for name in names]
    for tensor in graph.initializer:
        tensor.name = short[tensor.name]


def _names() -> Iterator[str]:
    """Yield 0, 1, ... 9, a, ... Z, 10, 11, ...: every number in base 62."""
    for number in count():
        text, rest = _DIGITS[number % 62], number // 62
        while rest:
            text, rest = _DIGITS[rest % 62] + text, rest // 62
        yield text
