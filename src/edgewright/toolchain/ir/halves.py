"""What half precision cannot hold: whole numbers above 2048, anything above 65504.

A model exported in float16 may answer a class, a place or a count in the same tensor as
its scores. Of whole numbers float16 holds every one up to 2048, then every second, so a
class 2049 is answered as 2048 and no error says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto

from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.shapes import Shape, shapes_of

WHOLE_UP_TO, LARGEST = 2048, 65504

# What hands numbers on as they are; the first input unless all of them.
_ALL = frozenset({"Concat", "Where", "Max", "Min"})
_FIRST = frozenset(
    {
        "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad",
        "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
_WIDE = frozenset({"int16", "uint16", "int32", "uint32", "int64", "uint64"})


@dataclass(frozen=True, slots=True)
class Rounded:
    """An output in half precision that carries whole numbers it may not hold.

    Attributes:
        output: Its name.
        node: The Cast, by name, that makes halves of them.
        most: The largest there can be; None where that is not known.
    """

    output: str
    node: str
    most: int | None


def rounded_outputs(graph: Graph) -> list[Rounded]:
    """Return the float16 outputs with whole numbers that may be above 2048."""
    writers = {name: node for node in graph.proto.graph.node for name in node.output}
    kinds, shapes = _kinds(graph), shapes_of(graph)
    found = []
    for spec in graph.outputs:
        if spec.dtype != "float16":
            continue
        for node in _casts(spec.name, writers):
            source = node.input[0]
            if kinds.get(source) not in _WIDE:
                continue
            most = _most(source, writers, shapes)
            if most is None or most > WHOLE_UP_TO:
                found.append(Rounded(spec.name, node.name, most))
    return found


def loses_whole_numbers(values: npt.NDArray[np.float32]) -> bool:
    """Return whether all of ``values`` are whole numbers and halves would change some."""
    whole = np.array_equal(values, np.rint(values))
    return whole and not np.array_equal(values, values.astype(np.float16).astype(np.float32))


def _kinds(graph: Graph) -> dict[str, str]:
    """Return numpy's name of the element type of each tensor, where it is known."""
    try:
        told = onnx.shape_inference.infer_shapes(graph.proto).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        told = graph.proto.graph
    values = (*told.input, *told.value_info, *told.output)
    kinds = {v.name: v.type.tensor_type.elem_type for v in values}
    kinds |= {tensor.name: tensor.data_type for tensor in told.initializer}
    return {
        name: str(onnx.helper.tensor_dtype_to_np_dtype(kind))
        for name, kind in kinds.items()
        if kind
    }


def _casts(output: str, writers: dict[str, NodeProto]) -> Iterator[NodeProto]:
    """Yield the Casts to float16 whose results get into ``output`` as they are."""
    left, seen = [output], set()
    while left:
        name = left.pop()
        node = writers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type == "Cast":
            if any(a.name == "to" and a.i == TensorProto.FLOAT16 for a in node.attribute):
                yield node
        elif node.op_type in _ALL:
            left += node.input
        elif node.op_type in _FIRST:
            left.append(node.input[0])


def _most(source: str, writers: dict[str, NodeProto], shapes: dict[str, Shape]) -> int | None:
    """Return the largest index that ``source`` can hold; None where it is no index."""
    node = writers.get(source)
    while node is not None and node.op_type in _FIRST | {"Cast"}:
        source = node.input[0]
        node = writers.get(source)
    if node is None:
        return None
    index = node.op_type in {"ArgMax", "ArgMin"} or (
        node.op_type == "TopK" and list(node.output).index(source) == 1
    )
    shape = shapes.get(node.input[0])
    if not index or shape is None:
        return None
    axis = next(
        (a.i for a in node.attribute if a.name == "axis"), -int(node.op_type == "TopK")
    )
    size = shape[axis]
    return size - 1 if isinstance(size, int) else None
