"""Replace nodes by integer ones, and quantize each activation once, whoever reads it.

A matrix product becomes, with the scales of the activation and of the weight::

    q, s, z = DynamicQuantizeLinear(x)
    y = Cast(MatMulInteger(q, W, z)) * (s * scale) + bias

in the shape that ONNX Runtime fuses into one kernel.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgewright.toolchain.ir.codes import Codes, along
from edgewright.toolchain.ir.graph import array_of, options_of

if TYPE_CHECKING:
    from collections.abc import Callable

# Nodes and names of a converted product cost about this, at the most.
_OVERHEAD_BYTES = 320
_BITS = 8
_MIDDLE = 128
_NAMED = 5

# What holds weights but has no integer form here.
_RECURRENT = frozenset({"LSTM", "GRU", "RNN", "ConvTranspose"})

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Method:
    """How nodes are converted.

    Attributes:
        per_channel: One scale per output channel instead of one per tensor.
        signed: int8 weights instead of uint8 ones.
        convolutions: Convert these too.
        skip: Nodes, by name, that are left.
    """

    per_channel: bool = True
    signed: bool = True
    convolutions: bool = False
    skip: frozenset[str] = frozenset()


class Rewrite:
    """Rewrites one model and remembers what it did."""

    def __init__(
        self, proto: ModelProto, method: Method, learned: Mapping[str, npt.NDArray[np.int8]]
    ) -> None:
        """Take over ``proto``, which is changed.

        ``learned`` are codes by the node's name, a row for each input of a matrix.
        """
        self._learned = learned
        self._proto = proto
        self._method = method
        graph = proto.graph
        self._held = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT}
        # Tables read by anything else stay: a second copy would make the file larger.
        self._readers = Counter(name for node in graph.node for name in node.input)
        self._readers.update(value.name for value in graph.output)
        self._tables = Counter(n.input[0] for n in graph.node if n.op_type == "Gather")
        self._nodes: list[NodeProto] = []
        self._new: dict[str, TensorProto] = {}
        self._activations: set[str] = set()
        self._left: list[str] = []
        self._before = self._after = 0
        self.converted: Counter[str] = Counter()

    def perform(self) -> ModelProto:
        """Return the model with every node converted that can be."""
        forms: dict[str, Callable[[NodeProto], str]] = {
            "MatMul": self._matmul,
            "Gemm": self._gemm,
            "Gather": self._gather,
            "Conv": self._conv,
            **dict.fromkeys(_RECURRENT, _no_form),
        }
        graph = self._proto.graph
        for node in list(graph.node):
            form = None if node.domain else forms.get(node.op_type)
            if form is None or not any(name in self._held for name in node.input):
                self._nodes.append(node)
                continue
            why = "as asked" if node.name in self._method.skip else form(node)
            if why:
                self._left.append(f"{node.op_type} {node.name!r}, {why}")
                self._nodes.append(node)
            else:
                self.converted[node.op_type] += 1
        del graph.node[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(self._new.values())
        return self._proto

    def notes(self) -> tuple[str, ...]:
        """Return what was done, with the numbers."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.converted.items()))
        how = "channel" if self._method.per_channel else "tensor"
        kind = "int8" if self._method.signed else "uint8"
        said = (
            f"{kinds} have {kind} weights with one scale per {how}: "
            f"{self._after} bytes instead of {self._before}; "
            f"{len(self._activations)} activations are quantized in each run"
        )
        left = self.left()
        return (said, f"left as floats: {left}") if left else (said,)

    def left(self) -> str:
        """Return which nodes were left as they are, and why; empty if none was."""
        more = len(self._left) - _NAMED
        shown = "; ".join(self._left[:_NAMED])
        return f"{shown} and {more} more" if more > 0 else shown

    def _matmul(self, node: NodeProto) -> str:
        left, right = node.input
        if right not in self._held:
            return "its weight is on the left"
        weight = self._weight(right)
        if weight.ndim != 2:
            return f"its weight has {weight.ndim} dimensions"
        if why := self._unfit(weight):
            return why
        self._product(node, "MatMulInteger", left, (right, weight, 1), node.output[0])
        return ""

    def _gemm(self, node: NodeProto) -> str:
        options = options_of(node)
        if node.input[1] not in self._held:
            return "its weight is not constant"
        if options.get("transA", 0):
            return "its activation is transposed"
        bias = node.input[2] if len(node.input) > 2 else ""
        if bias and bias not in self._held:
            return "its bias is not constant"
        weight = self._weight(node.input[1])
        if options.get("transB", 0):
            weight = weight.T
        weight = np.ascontiguousarray(weight * np.float32(options.get("alpha", 1.0)))
        if why := self._unfit(weight):
            return why
        form = (f"{node.input[1]}/{node.name}", weight, 1)
        if not bias:
            self._product(node, "MatMulInteger", node.input[0], form, node.output[0])
            return ""
        factor = np.float32(options.get("beta", 1.0))
        summed = f"{node.output[0]}/scaled"
        self._product(node, "MatMulInteger", node.input[0], form, summed)
        added = self._keep(f"{bias}/{node.name}", self._weight(bias) * factor)
        self._emit("Add", [summed, added], node.output[0])
        return ""

    def _conv(self, node: NodeProto) -> str:
        if not self._method.convolutions:
            return "convolutions are faster as floats"
        if node.input[1] not in self._held:
            return "its weight is not constant"
        bias = node.input[2] if len(node.input) > 2 else ""
        if bias and bias not in self._held:
            return "its bias is not constant"
        weight = self._weight(node.input[1])
        if why := self._unfit(weight):
            return why
        out = f"{node.output[0]}/scaled" if bias else node.output[0]
        self._product(node, "ConvInteger", node.input[0], (node.input[1], weight, 0), out)
        if bias:
            wide = self._weight(bias).reshape(-1, *[1] * (weight.ndim - 2))
            added = self._keep(f"{bias}/{node.name}", wide)
            self._emit("Add", [out, added], node.output[0])
        return ""

    def _gather(self, node: NodeProto) -> str:
        name = node.input[0]
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        table = self._weight(name)
        if axis != 0 or table.ndim != 2:
            return f"it looks up along axis {axis} of {table.ndim} dimensions"
        if self._readers[name] > self._tables[name]:
            return "its table is read by other nodes too"
        if why := self._unfit(table.T):
            return why
        axes = (0, 1) if self._method.per_channel else (None,)
        codes = min(
            (along(table, axis, _BITS) for axis in axes), key=lambda c: _lost(c, table)
        )
        stored = self._keep(f"{name}/codes", codes.values)
        scale = self._keep(f"{name}/scale", codes.scale)
        self._count(table, stored, scale)
        row, wide = f"{node.output[0]}/row", f"{node.output[0]}/wide"
        looked = self._emit("Gather", [stored, node.input[1]], row)
        looked.name = node.name
        self._emit("Cast", [row], wide)
        if codes.scale.shape[0] > 1:
            step = f"{node.output[0]}/step"
            self._emit("Gather", [scale, node.input[1]], step)
            scale = step
        self._emit("Mul", [wide, scale], node.output[0])
        return ""

    def _product(
        self, node: NodeProto, kind: str, x: str, form: tuple[str, Floats, int], out: str
    ) -> None:
        """Emit the product of the activation ``x`` and a weight, by name and channel axis."""
        name, weight, axis = form
        stored, scale, zero = self._coded(node, name, weight, axis)
        q, step, point = self._activation(x)
        sums, wide = f"{out}/sums", f"{out}/wide"
        made = self._emit(kind, [q, stored, point, *([zero] if zero else [])], sums)
        made.name = node.name
        if kind == "ConvInteger":
            made.attribute.extend(node.attribute)
        self._emit("Cast", [sums], wide)
        both = self._emit("Mul", [step, scale], f"{out}/scales").output[0]
        self._emit("Mul", [wide, both], out)

    def _coded(
        self, node: NodeProto, name: str, weight: Floats, axis: int
    ) -> tuple[str, str, str]:
        """Return the names of the codes, of the scale and of the zero point."""
        per_channel = self._method.per_channel
        codes = along(weight, axis if per_channel else None, _BITS)
        learned = self._learned.get(node.name, codes.values)
        values: npt.NDArray[np.generic] = learned
        zero = ""
        if not self._method.signed:
            values = (learned.astype(np.int16) + _MIDDLE).astype(np.uint8)
            zero = self._keep("middle", np.array(_MIDDLE, np.uint8))
        stored = self._keep(f"{name}/codes", values)
        # A convolution's channel is followed by its places, a matrix's is the last.
        shape = (-1, *[1] * (weight.ndim - 2)) if axis == 0 else (-1,)
        scale = codes.scale.reshape(shape if per_channel else ())
        scaled = self._keep(f"{name}/scale", scale)
        self._count(weight, stored, scaled)
        return stored, scaled, zero

    def _activation(self, x: str) -> tuple[str, str, str]:
        """Return the names of ``x`` quantized, of its scale and of its zero point."""
        names = (f"{x}/quantized", f"{x}/scale", f"{x}/zero")
        if x not in self._activations:
            self._activations.add(x)
            made = helper.make_node("DynamicQuantizeLinear", [x], list(names))
            made.name = f"{x}:DynamicQuantizeLinear"
            self._nodes.append(made)
        return names

    def _unfit(self, weight: Floats) -> str:
        if not np.isfinite(weight).all():
            return "its weight is not finite"
        channels = weight.shape[-1] if self._method.per_channel else 1
        after = weight.size + channels * weight.itemsize + _OVERHEAD_BYTES
        return f"{weight.nbytes} bytes are too few to pay" if after >= weight.nbytes else ""

    def _weight(self, name: str) -> Floats:
        return cast("Floats", array_of(self._held[name]))

    def _keep(self, name: str, array: npt.NDArray[np.generic]) -> str:
        self._new[name] = numpy_helper.from_array(np.asarray(array), name)
        return name

    def _count(self, weight: Floats, *stored: str) -> None:
        self._before += weight.nbytes
        self._after += sum(len(self._new[name].raw_data) for name in stored)

    def _emit(self, kind: str, inputs: list[str], output: str) -> NodeProto:
        made = helper.make_node(kind, inputs, [output], name=f"{output}:{kind}")
        if kind == "Cast":
            made.attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
        self._nodes.append(made)
        return made


def _lost(codes: Codes, table: Floats) -> float:
    """Return the sum of squares that rounding ``table`` to ``codes`` takes away."""
    return float(np.square(codes.real() - table, dtype=np.float64).sum())


def _no_form(node: NodeProto) -> str:
    return f"{node.op_type} has no integer form in standard operators"
