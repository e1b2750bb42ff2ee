"""What one answer of a graph costs: multiplications and additions, two of them a product.

Convolutions, matrix products and recurrent units are counted; what is done once an
element, like an activation, is not.
"""

import math
from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort
from onnx import NodeProto

from edgewright.toolchain.ir.graph import Graph

Shapes = Mapping[str, tuple[int, ...]]

_GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}


def parameters(graph: Graph) -> int:
    """Return how many weights there are, constants of four elements and fewer left out."""
    sizes = (math.prod(tensor.dims) for tensor in graph.proto.graph.initializer)
    return sum(size for size in sizes if size > 4)


def mflop(graph: Graph) -> float:
    """Return millions of floating-point operations for one sample."""
    shapes = _shapes_of_one(graph)
    return 2 * sum(_products(node, shapes) for node in graph.proto.graph.node) / 1e6


def _shapes_of_one(graph: Graph) -> Shapes:
    """Return the shape of every tensor when one sample of zeros is fed.

    It is run, not inferred: exporters compute shapes in ways inference gives up on.
    """
    proto = graph.copy()
    answers = {value.name for value in proto.graph.output}
    inner = (name for node in proto.graph.node for name in node.output if name)
    proto.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in inner if name not in answers
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    fed = {
        spec.name: np.zeros([max(size, 1) for size in spec.shape], spec.dtype)
        for spec in graph.inputs
    }
    names = [output.name for output in session.get_outputs()]
    held = fed | dict(zip(names, session.run(names, fed), strict=True))
    shapes = {name: array.shape for name, array in held.items()}
    return shapes | {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}


def _products(node: NodeProto, shapes: Shapes) -> int:
    """Return how many products ``node`` adds up.

    Raises:
        ValueError: It holds a graph of its own.
    """
    if node.op_type in {"If", "Loop", "Scan"}:
        raise ValueError(f"{node.op_type} cannot be counted")
    if node.op_type not in {"Conv", "ConvTranspose", "Gemm", "MatMul", *_GATES}:
        return 0
    first, second = (shapes[name] for name in node.input[:2])
    if node.op_type in _GATES:
        steps, batch, inputs = first
        directions, gates, _ = second
        hidden = gates // _GATES[node.op_type]
        return steps * batch * directions * gates * (inputs + hidden)
    if node.op_type == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    answer = shapes[node.output[0]]
    if node.op_type == "Conv":
        return math.prod(answer) * math.prod(second[1:])
    turned = any(a.name == "transA" and a.i for a in node.attribute)
    return math.prod(answer) * first[-2 if turned else -1]
