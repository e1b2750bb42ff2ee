"""What one answer of a graph costs in work, whatever machine does it.

Products are counted where there are many of them, by what they are computed in; what is
done once an element is counted in elements; weights are read, and every kernel is called.
Nodes that an engine folds or fuses when it loads the graph are not counted.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from onnx import NodeProto

from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.observe import observe
from edgewright.toolchain.ir.samples import Samples

Shapes = Mapping[str, tuple[int, ...]]

_GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv"})
_MATRICES = frozenset({"Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", *_GATES})
# They have no kernel of their own in a loaded graph, or move nothing.
_FREE = frozenset(
    {"DequantizeLinear", "QuantizeLinear", "Constant", "Identity", "Reshape", "Flatten",
     "Squeeze", "Unsqueeze", "Shape"}
)  # fmt: skip
_FUSED_AFTER = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid"})

KINDS = (
    "conv_float", "conv_int8", "depthwise", "matrix_float", "matrix_int8", "step_float",
    "elements", "bytes", "calls", "runs",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Work:
    """What one answer takes.

    Attributes:
        counts: For each of ``KINDS`` how much of it.
    """

    counts: Mapping[str, int]

    def __post_init__(self) -> None:
        """Refuse a kind nobody prices."""
        if unknown := set(self.counts) - set(KINDS):
            raise ValueError(f"unknown kinds of work: {sorted(unknown)}")


def work_of(graph: Graph, sample: Samples) -> Work:
    """Return the work of one answer to ``sample``, of which the first is taken.

    The graph is run once, not inferred: exporters compute shapes in ways inference gives up
    on.

    Raises:
        DataError: ``sample`` does not fit.
        QuantizeError: The graph cannot be run.
    """
    shapes = _shapes(graph, sample)
    constant = {tensor.name for tensor in graph.proto.graph.initializer}
    whole = _eight_bits(graph)
    counts: Counter[str] = Counter(runs=1, bytes=graph.weight_bytes)
    before = ""
    for node in graph.proto.graph.node:
        if node.op_type in _FREE or all(n in constant for n in node.input if n):
            constant.update(node.output if node.op_type not in _FREE else ())
            continue
        _count(node, shapes, counts, whole)
        fused = node.op_type in _FUSED_AFTER and before in _CONVOLUTIONS | _MATRICES
        counts["calls"] += not fused
        before = node.op_type
    return Work(dict(counts))


def _shapes(graph: Graph, sample: Samples) -> Shapes:
    found: dict[str, tuple[int, ...]] = {
        t.name: tuple(t.dims) for t in graph.proto.graph.initializer
    }
    tensors = [spec.name for spec in graph.inputs]
    tensors += [name for node in graph.proto.graph.node for name in node.output if name]
    feed = next(sample[:1].batches(1))
    observe(graph, [feed], tensors, lambda name, values: found.__setitem__(name, values.shape))
    return found


def _eight_bits(graph: Graph) -> set[str]:
    """Return the tensors that were 8 bits before they were made floats for one node."""
    return {
        name
        for node in graph.proto.graph.node
        if node.op_type == "DequantizeLinear"
        for name in node.output
    }


def _count(node: NodeProto, shapes: Shapes, counts: Counter[str], whole: set[str]) -> None:
    made = math.prod(shapes.get(node.output[0], (1,)))
    if node.op_type not in _CONVOLUTIONS | _MATRICES:
        counts["elements"] += made
        return
    integer = node.op_type.endswith("Integer") or node.op_type.startswith("QLinear")
    integer = integer or (node.input[0] in whole and node.input[1] in whole)
    weight = shapes.get(node.input[1], (1, 1))
    kind = "int8" if integer else "float"
    if node.op_type in _CONVOLUTIONS:
        fan_in = math.prod(weight[1:]) or 1
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        depthwise = groups > 1 and weight[1] == 1
        counts["depthwise" if depthwise else f"conv_{kind}"] += made * fan_in
        return
    if node.op_type in _GATES:
        steps = shapes[node.input[0]][0]
        hidden, inputs = weight[-2] // _GATES[node.op_type], weight[-1]
        counts["matrix_float"] += steps * _GATES[node.op_type] * hidden * (inputs + hidden)
        counts["step_float"] += steps
        return
    counts[f"matrix_{kind}"] += made * shapes.get(node.input[0], (1,))[-1]
