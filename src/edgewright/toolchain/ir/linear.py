"""Layers that are a product of weights and inputs: matrices, and convolutions unrolled.

Whatever the operator, the weights are seen as ``(groups, inputs, outputs)`` and what they
meet as ``(groups, rows, inputs)``: a row is a place that a matrix is applied to, or the
patch under a convolution's kernel.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto

from edgewright.toolchain.ir.graph import STANDARD_DOMAINS, Graph, options_of

Floats = npt.NDArray[np.floating]

# Of a convolution's places in a sample, as many are looked at as tell their moments.
_PLACES = 256


@dataclass(frozen=True, slots=True)
class Linear:
    """A MatMul, a Gemm or a Conv with a constant weight.

    Attributes:
        node: What computes it.
        shape: Of its weight, as stored.
    """

    node: NodeProto
    shape: tuple[int, ...]

    @classmethod
    def of(cls, node: NodeProto, shape: tuple[int, ...]) -> "Linear | None":
        """Return ``node``, whose weight is its second input, if its rows can be told."""
        if node.domain not in STANDARD_DOMAINS:
            return None
        options = options_of(node)
        if node.op_type == "Conv":
            plain = options.get("auto_pad", b"NOTSET") == b"NOTSET"
            return cls(node, shape) if plain and 3 <= len(shape) <= 4 else None
        if node.op_type not in {"MatMul", "Gemm"} or len(shape) != 2:
            return None
        return None if options.get("transA", 0) else cls(node, shape)

    @property
    def is_conv(self) -> bool:
        """Whether it is a convolution."""
        return self.node.op_type == "Conv"

    @property
    def groups(self) -> int:
        """Of a convolution; 1 for a matrix."""
        return int(self._option("group", 1)) if self.is_conv else 1

    @property
    def inputs(self) -> int:
        """How many numbers a row has."""
        if self.is_conv:
            return int(np.prod(self.shape[1:]))
        return self.shape[1] if self.transposed else self.shape[0]

    @property
    def transposed(self) -> bool:
        """Whether a row of the weight is an output of a matrix."""
        return not self.is_conv and bool(self._option("transB", 0))

    @property
    def channel(self) -> int:
        """The axis of the weight that is an output."""
        return 0 if self.is_conv or self.transposed else 1

    def unrolled(self, weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return ``weight``, or what has its shape, as (groups, inputs, outputs)."""
        if self.is_conv:
            rows = weight.reshape(self.groups, -1, self.inputs)
            return rows.transpose(0, 2, 1)
        return (weight.T if self.transposed else weight)[None]

    def rolled(self, columns: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return what ``unrolled`` gave in the weight's own shape again."""
        if self.is_conv:
            return np.ascontiguousarray(columns.transpose(0, 2, 1)).reshape(self.shape)
        upright = columns[0]
        return np.ascontiguousarray(upright.T if self.transposed else upright)

    def rows(self, values: Floats) -> Floats:
        """Return the rows of an input of the layer, float64 (groups, rows, inputs).

        Of a convolution of more than 256 places they are those of 256, evenly spread.
        """
        if not self.is_conv:
            return values.reshape(1, -1, values.shape[-1]).astype(np.float64)
        places = self.shape[2:]
        if len(places) == 1:
            values = values[:, :, None]
        kernel = (1, *places)[-2:]
        pads = self._pairs("pads", 0, ends=True)
        strides, dilations = self._pairs("strides", 1), self._pairs("dilations", 1)
        around = ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3]))
        wide = np.pad(values, around)
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        seen = np.lib.stride_tricks.sliding_window_view(wide, reach, axis=(2, 3))
        seen = seen[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
        count, channels, height, width = seen.shape[:4]
        at = np.unique(np.linspace(0, height * width - 1, _PLACES).astype(np.int64))
        picked = seen[:, :, at // width, at % width]
        split = picked.reshape(count, self.groups, channels // self.groups, len(at), -1)
        rows = split.transpose(1, 0, 3, 2, 4).reshape(self.groups, count * len(at), -1)
        return rows.astype(np.float64)

    def _option(self, name: str, default: int) -> int:
        return next((int(a.i) for a in self.node.attribute if a.name == name), default)

    def _pairs(self, name: str, default: int, *, ends: bool = False) -> list[int]:
        """Return an attribute of a two-dimensional convolution, also of one of one."""
        found = next((list(a.ints) for a in self.node.attribute if a.name == name), [])
        one = len(self.shape) == 3
        if not found:
            return [default] * (4 if ends else 2)
        if one and ends:
            return [0, found[0], 0, found[1]]
        return [1, *found] if one else found


def layers_of(graph: Graph) -> dict[str, Linear]:
    """Return the layers of ``graph`` by the weight that they alone read."""
    readers = Counter(name for node in graph.proto.graph.node for name in node.input)
    readers.update(value.name for value in graph.proto.graph.output)
    held = {
        tensor.name: tuple(tensor.dims)
        for tensor in graph.proto.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and readers[tensor.name] == 1
    }
    found = {}
    for node in graph.proto.graph.node:
        if len(node.input) > 1 and node.input[1] in held and node.input[0] not in held:
            layer = Linear.of(node, held[node.input[1]])
            if layer is not None:
                found[node.input[1]] = layer
    return found
