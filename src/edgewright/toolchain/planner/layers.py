"""The layers of a graph that hold weights, and what rounding one alone would do, estimated.

The estimate costs one run of the float graph: the error that rounded weights and a rounded
input make in a layer's own answer, over the size of that answer. It knows nothing of what
later layers make of it, so it draws up a short list and decides nothing.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import gcd, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from edgewright.toolchain.ir import codes
from edgewright.toolchain.ir.graph import Graph, array_of
from edgewright.toolchain.ir.observe import batches, observe
from edgewright.toolchain.ir.samples import Samples

# Operators with a float weight, and which input it is.
_WEIGHTS = {
    "Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "Gather": 0, "LSTM": 1, "GRU": 1,
    "RNN": 1,
}  # fmt: skip
_RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
_STEPS = 255
_BITS = 8


@dataclass(frozen=True, slots=True)
class Layer:
    """A node with a weight.

    Attributes:
        name: The node's.
        operator: Its kind.
        weight: The weight's tensor.
        source: The tensor it is computed with; empty for a table.
        answer: What it answers.
        weight_bytes: Of the float weight, with that of the state where there is one.
        unit: Weights that a block has to go into evenly: what all its tensors' sizes share.
        turned: Whether each row of the weight is an output, as in a Gemm with ``transB``.
    """

    name: str
    operator: str
    weight: str
    source: str
    answer: str
    weight_bytes: int
    unit: int = 1
    turned: bool = False


@dataclass(frozen=True, slots=True)
class Local:
    """What is estimated of a layer.

    Attributes:
        error: Of its own answer when it alone is rounded, over the answer's size.
        work: Its share of all multiplications, 0 to 1.
    """

    error: float
    work: float


@dataclass(slots=True)
class _Seen:
    """What a tensor held, summed up."""

    count: int = 0
    squares: float = 0.0
    low: float = 0.0
    high: float = 0.0
    last: int = 1

    def add(self, values: npt.NDArray[Any]) -> None:
        """Add one batch."""
        flat = values.astype(np.float64, copy=False)
        self.count += flat.size
        self.squares += float(np.square(flat).sum())
        self.low = min(self.low, float(flat.min(initial=0)))
        self.high = max(self.high, float(flat.max(initial=0)))

    @property
    def size(self) -> float:
        """The mean square's root."""
        return sqrt(self.squares / self.count) if self.count else 0.0


def layers_of(graph: Graph) -> list[Layer]:
    """Return the layers of ``graph`` in its order."""
    held = {t.name: t for t in graph.proto.graph.initializer}
    return list(_layers(graph, held))


def _layers(graph: Graph, held: dict[str, Any]) -> Iterator[Layer]:
    for node in graph.proto.graph.node:
        place = _WEIGHTS.get(node.op_type)
        if place is None or len(node.input) <= place or node.input[place] not in held:
            continue
        weight = held[node.input[place]]
        values = array_of(weight)
        if values.ndim < 2 or values.dtype.kind != "f":
            continue
        sizes = [values.size]
        if node.op_type in _RECURRENT and len(node.input) > 2 and node.input[2] in held:
            sizes.append(array_of(held[node.input[2]]).size)
        source = "" if node.op_type == "Gather" else node.input[1 - place]
        yield Layer(
            node.name, node.op_type, weight.name, source, node.output[0],
            sum(sizes) * values.itemsize, gcd(*sizes),
            any(one.name == "transB" and one.i for one in node.attribute),
        )  # fmt: skip


def followers(graph: Graph, layers: Sequence[Layer], out: Collection[str]) -> set[str]:
    """Return the nodes between layers that go by what the layers ``out`` answer.

    What comes after a layer that computes in floats is computed in floats too, up to the
    next layer, which rounds its own input.
    """
    starts = {layer.answer for layer in layers if layer.name in out}
    return followers_of(graph, {layer.name for layer in layers}, starts)


def followers_of(graph: Graph, layers: Collection[str], starts: set[str]) -> set[str]:
    """Return the nodes that go by the tensors ``starts``, up to the next of ``layers``."""
    floats, found = set(starts), set()
    for node in graph.proto.graph.node:
        if node.name in layers or not floats & set(node.input):
            continue
        found.add(node.name)
        floats.update(node.output)
    return found


def ends_of(graph: Graph, layers: Sequence[Layer]) -> set[str]:
    """Return the first and the last layers: no other is on the way to or from the outside."""
    nodes = list(graph.proto.graph.node)
    known = {layer.name for layer in layers}
    behind = _reached(nodes, known, {spec.name for spec in graph.inputs})
    before = _reached(
        [_turned(node) for node in reversed(nodes)], known, {o.name for o in graph.outputs}
    )
    return behind | before


def _turned(node: NodeProto) -> NodeProto:
    """Return ``node`` with what it reads and what it answers changed over."""
    return NodeProto(name=node.name, input=node.output, output=node.input)


def _reached(
    nodes: Sequence[NodeProto], layers: Collection[str], starts: set[str]
) -> set[str]:
    """Return the first of ``layers`` on every way from the tensors ``starts``."""
    open_, found = set(starts), set()
    for node in nodes:
        if not open_ & set(filter(None, node.input)):
            continue
        if node.name in layers:
            found.add(node.name)
        else:
            open_.update(node.output)
    return found


def estimate(graph: Graph, layers: Sequence[Layer], samples: Samples) -> dict[str, Local]:
    """Return what rounding each layer alone would do, by one run of the float graph.

    Raises:
        DataError: ``samples`` do not fit.
        QuantizeError: The graph cannot be run.
    """
    held = {t.name: t for t in graph.proto.graph.initializer}
    wanted = {name for layer in layers for name in (layer.source, layer.answer)}
    order = [spec.name for spec in graph.inputs]
    order += [name for node in graph.proto.graph.node for name in node.output]
    tensors = [name for name in dict.fromkeys(order) if name in wanted and name]
    seen = {name: _Seen() for name in tensors}
    observe(
        graph,
        batches(graph, samples, tensors),
        tensors,
        lambda name, values: seen[name].add(values),
    )
    work = {layer.name: _work(layer, held, seen) for layer in layers}
    total = sum(work.values()) or 1.0
    return {
        layer.name: Local(_error(layer, held, seen), work[layer.name] / total)
        for layer in layers
    }


def _error(layer: Layer, held: dict[str, Any], seen: dict[str, _Seen]) -> float:
    weight = array_of(held[layer.weight]).astype(np.float32)
    coded = codes.by_channel(weight, _BITS)
    apart = float(np.square(weight - coded.real()).sum())
    whole = float(np.square(weight).sum())
    if not layer.source or layer.source not in seen:
        return sqrt(apart / whole) if whole else 0.0
    source, answer = seen[layer.source], seen[layer.answer]
    step = (source.high - source.low) / _STEPS
    # Each output adds up fan-in products: what is summed is over outputs, so it is shared.
    made = (source.size**2 * apart + step**2 / 12 * whole) / _outputs(layer, weight)
    return sqrt(made) / answer.size if answer.size else 0.0


def _outputs(layer: Layer, weight: npt.NDArray[np.float32]) -> int:
    if layer.operator == "Conv" or (layer.operator == "Gemm" and layer.turned):
        return int(weight.shape[0])
    if layer.operator in {"MatMul", "Gemm"}:
        return int(weight.shape[-1])
    return max(int(size) for size in weight.shape)


def _work(layer: Layer, held: dict[str, Any], seen: dict[str, _Seen]) -> float:
    """Return multiplications for all samples: what is answered times the fan-in."""
    weight = array_of(held[layer.weight])
    if not layer.source:
        return 0.0
    fan_in = weight.size / _outputs(layer, weight.astype(np.float32))
    return seen[layer.answer].count * fan_in
