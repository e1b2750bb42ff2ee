"""A checked graph: the value every technique takes and gives back."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgewright.core import digest
from edgewright.core.errors import ModelError
from edgewright.core.tensors import ITEM_BYTES, TensorSpec

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A model that passed ``ir.load``, or came from one by a technique.

    Attributes:
        proto: The ONNX model. Nobody changes it in place; ``copy`` is for that.
        inputs: What has to be fed, in graph order; initializers are not inputs.
        outputs: What it answers, in graph order.
    """

    proto: ModelProto
    inputs: tuple[TensorSpec, ...] = field(init=False)
    outputs: tuple[TensorSpec, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Read the interface off the graph.

        Raises:
            ModelError: An input or output is no tensor of a type we can name.
        """
        graph = self.proto.graph
        constant = {tensor.name for tensor in graph.initializer}
        fed = [value for value in graph.input if value.name not in constant]
        object.__setattr__(self, "inputs", tuple(_spec(value) for value in fed))
        object.__setattr__(self, "outputs", tuple(_spec(value) for value in graph.output))

    @property
    def opset(self) -> int:
        """The version of the standard operators it is written in."""
        found = [o.version for o in self.proto.opset_import if o.domain in STANDARD_DOMAINS]
        return max(found, default=0)

    @property
    def operators(self) -> Counter[str]:
        """How many nodes of each kind there are."""
        return Counter(node.op_type for node in self.proto.graph.node)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all initializers, unpacked as they are stored."""
        return sum(len(tensor.raw_data) for tensor in self.proto.graph.initializer)

    @property
    def precision(self) -> str:
        """The element type most weight bytes have, like ``float32`` or ``int8``."""
        held: Counter[str] = Counter()
        for tensor in self.proto.graph.initializer:
            held[dtype_name(tensor.data_type)] += len(tensor.raw_data)
        return held.most_common(1)[0][0] if held else "none"

    @property
    def digest(self) -> str:
        """Digest of the whole model."""
        return digest.of_bytes(self.to_bytes())

    def copy(self) -> ModelProto:
        """Return a model that may be changed."""
        proto = ModelProto()
        proto.CopyFrom(self.proto)
        return proto

    def to_bytes(self) -> bytes:
        """Return the model as one file, weights inside, the same bytes every time."""
        return bytes(self.proto.SerializeToString(deterministic=True))


def dtype_name(elem_type: int) -> str:
    """Return numpy's name of an ONNX element type, ``other`` where it has none.

    int4 has no name there; here it is ``int4``, which no input or output can be.
    """
    if elem_type == TensorProto.INT4:
        return "int4"
    try:
        name = str(onnx.helper.tensor_dtype_to_np_dtype(elem_type))
    except (KeyError, ValueError):
        return "other"
    return name if name in ITEM_BYTES else "other"


def array_of(tensor: TensorProto) -> npt.NDArray[np.generic]:
    """Return the values of an initializer.

    Raises:
        ModelError: It holds more or fewer bytes than its shape needs.
    """
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"initializer {tensor.name!r} of shape {list(tensor.dims)} is damaged: {error}",
            hint="The file is damaged or incomplete; export it again.",
        ) from error


def options_of(node: NodeProto) -> dict[str, Any]:
    """Return the attributes of a node that are there, by name."""
    return {told.name: helper.get_attribute_value(told) for told in node.attribute}


def has_subgraphs(proto: ModelProto) -> bool:
    """Return whether a node holds a graph of its own (If, Loop, Scan)."""
    return any(True for node in proto.graph.node for _ in _held_graphs(node))


def check_flat(graph: Graph, error: type[ModelError]) -> None:
    """Refuse ``graph`` where a node holds a graph of its own, which nobody looks into.

    Raises:
        ModelError: Of the kind ``error``; the first such node is named.
    """
    for node in graph.proto.graph.node:
        if any(True for _ in _held_graphs(node)):
            raise error(
                f"{node.op_type} {node.name!r} holds a graph of its own, whose weights are "
                "not looked into",
                hint="Export the model without control flow (If, Loop, Scan).",
            )


def _held_graphs(node: NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    if not value.type.HasField("tensor_type"):
        raise ModelError(
            f"{value.name!r} is not a tensor",
            hint="Export the model with tensors only: no sequences, maps or optionals.",
        )
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise ModelError(
            f"tensor {value.name!r} has no shape",
            hint="Export the model with the shapes of its inputs and outputs.",
        )
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim
    )
    try:
        return TensorSpec(value.name, dtype_name(tensor.elem_type), shape)
    except ValueError as error:
        raise ModelError(
            str(error),
            hint="Export the model with known types and shapes of its inputs and outputs.",
        ) from error
