"""The call into onnxruntime.quantization, and what it has to be told to be exact.

It puts the nodes in and makes the weights; the ranges of activations are ours.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import onnx
from onnx import ModelProto, TensorProto
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.operators.direct_q8 import QDQDirect8BitOp
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from edgewright.core.errors import QuantizeError
from edgewright.toolchain.ir import ort
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.observe import Feed
from edgewright.toolchain.ir.tidy import tidy
from edgewright.toolchain.techniques.quantize.calibrate import calibrate
from edgewright.toolchain.techniques.quantize.choose import CHOOSERS, Range
from edgewright.toolchain.techniques.quantize.fills import choose_ranges
from edgewright.toolchain.techniques.quantize.given import Given, read_as_given
from edgewright.toolchain.techniques.quantize.histogram import BINS
from edgewright.toolchain.techniques.quantize.refine import Refinery
from edgewright.toolchain.techniques.quantize.tail import answer_floats, behind_the_layers

# The engine moves codes about in these too; the quantizer's own table lacks them.
QDQRegistry.setdefault("DepthToSpace", QDQDirect8BitOp)
QDQRegistry.setdefault("Expand", QDQDirect8BitOp)
# Sorted: left to itself the quantizer walks a set, in an order that changes by the day.
OPERATORS = sorted({*QLinearOpsRegistry, *QDQRegistry})

# Biases stay float in the file and become int32 when the engine loads it: the scale of
# a quantized bias is as large as the bias, 5 % of the digits example per channel.
_OPTIONS = {"QuantizeBias": False}

_NAMED = 5
# Since this opset DequantizeLinear knows an axis; written in an older one it is no model.
_CHANNELS_OPSET = 13
# The largest code the quantizer gives a weight, which its counterpart below zero mirrors.
_LARGEST = {8: 127, 7: 64}
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True, slots=True)
class Method:
    """How a graph is quantized.

    Attributes:
        per_channel: One scale per output channel instead of one per tensor.
        bits: Of a weight, 8 or 7.
        ranges: A name in ``CHOOSERS``.
        skip: Nodes, by name, that are not quantized.
        learned: Round weights by what answers lose instead of to the nearest.
        correct: Correct biases by the mean error of their layer.
    """

    per_channel: bool = True
    bits: int = 8
    ranges: str = "minmax"
    skip: frozenset[str] = frozenset()
    learned: bool = False
    correct: bool = False

    def __post_init__(self) -> None:
        """Refuse what there is no way to do."""
        if self.bits not in _LARGEST:
            raise ValueError(f"bits must be 7 or 8, got {self.bits}")
        if self.ranges not in CHOOSERS:
            known = ", ".join(CHOOSERS)
            raise ValueError(f"ranges must be one of {known}, got {self.ranges!r}")


def quantize_static(
    given: Given, feeds: Iterable[Feed], method: Method
) -> tuple[Graph, tuple[str, ...]]:
    """Return a graph in QDQ form and notes; it may hold no quantized weight at all.

    Args:
        given: A float graph.
        feeds: As ``calibrate`` takes them.
        method: How.

    Raises:
        QuantizeError: ONNX Runtime refuses the graph, an activation is not finite, or the
            graph is older than channels are.
        DataError: ``feeds`` do not fit the inputs.
    """
    graph = given.graph
    options = _options(graph, method)
    with ort.quiet("quantize the graph", QuantizeError) as folder:
        onnx.save(graph.proto, folder / "float.onnx")
        # With the shapes and types of what is inside, which the quantizer goes by.
        model = load_model_with_shape_infer(folder / "float.onnx")
    kinds = _activations(model)
    bins = 0 if method.ranges == "minmax" else BINS
    spreads = calibrate(graph, feeds, list(kinds), bins=bins)
    chosen, notes = choose_ranges(graph, spreads, CHOOSERS[method.ranges])
    chosen |= {name: reach for name, reach in given.ranges.items() if name in chosen}
    behind = behind_the_layers(graph) - method.skip
    floats = method.skip | behind
    proto = _quantized(model, method, _tensors_data(chosen, kinds), floats, options)
    read_as_given(proto, given)
    refinery = Refinery(graph, proto)
    if method.learned:
        notes += refinery.round(feeds, _LARGEST[method.bits])
    if method.correct:
        notes += refinery.correct(feeds)
    answer_floats(proto, floats)
    names = [node.name for node in graph.proto.graph.node]
    notes += _said("left as floats, as asked", [n for n in names if n in method.skip])
    notes += _said("behind the last layers, in floats", [n for n in names if n in behind])
    return tidy(proto), notes


def _quantized(
    model: ModelProto,
    method: Method,
    ranges: TensorsData,
    floats: frozenset[str],
    options: dict[str, object],
) -> ModelProto:
    """Return what the quantizer makes of ``model``, which it changes."""
    with ort.quiet("quantize the graph", QuantizeError) as folder:
        quantizer = QDQQuantizer(
            model,
            method.per_channel,
            method.bits == 7,
            QuantType.QInt8,
            QuantType.QUInt8,
            ranges,
            [],
            sorted(floats),
            OPERATORS,
            options,
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(
            folder / "int8.onnx", use_external_data_format=False
        )
        return onnx.load(folder / "int8.onnx")


def _options(graph: Graph, method: Method) -> dict[str, object]:
    """Return what the quantizer is told beside its arguments."""
    if not method.per_channel:
        return dict(_OPTIONS)
    if graph.opset < _CHANNELS_OPSET:
        raise QuantizeError(
            f"one scale per channel needs opset {_CHANNELS_OPSET}, the graph is written in "
            f"{graph.opset}",
            hint="Load it with ir.load, which raises it, or take one scale per tensor.",
        )
    return {**_OPTIONS, "TensorQuantOverrides": _axes(graph)}


def _axes(graph: Graph) -> dict[str, list[dict[str, int]]]:
    """Return the output axis of each weight of a MatMul that is not its axis 1.

    The quantizer takes axis 1 whatever the rank and the side: of a batch of matrices, or of
    one on the left, that is what is summed over, and a small output would be lost in the
    scale of a large one.
    """
    held = {tensor.name: len(tensor.dims) for tensor in graph.proto.graph.initializer}
    found: dict[str, set[int]] = {}
    for node in graph.proto.graph.node:
        for place, name in enumerate(node.input):
            rank = held.get(name, 0)
            axis = rank - 1 if place else rank - 2
            product = node.op_type == "MatMul" and rank > 1
            found.setdefault(name, set()).add(axis if product else -1)
    return {
        name: [{"axis": axis}]
        for name, (axis, *others) in found.items()
        if name in held and not others and axis not in {-1, 1}
    }


def _said(what: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the note on nodes that are not quantized."""
    if not names:
        return ()
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (f"{what}: {', '.join(names[:_NAMED])}{more}",)


def activations(graph: Graph) -> list[str]:
    """Return the tensors of ``graph`` that need a range, in the order they are met."""
    with ort.quiet("quantize the graph", QuantizeError) as folder:
        onnx.save(graph.proto, folder / "float.onnx")
        return list(_activations(load_model_with_shape_infer(folder / "float.onnx")))


def _activations(model: ModelProto) -> dict[str, int]:
    """Return the element types of float tensors beside nodes that can be quantized."""
    graph = model.graph
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in chain(graph.value_info, graph.output, graph.input)
        if value.type.HasField("tensor_type")
    }
    constant = {tensor.name for tensor in graph.initializer}
    names: Sequence[str] = [
        name
        for node in graph.node
        if node.op_type in OPERATORS
        for name in chain(node.input, node.output)
    ]
    return {n: kinds[n] for n in names if kinds.get(n) in _FLOATS and n not in constant}


def _tensors_data(chosen: dict[str, Range], kinds: dict[str, int]) -> TensorsData:
    data = {}
    for name, found in chosen.items():
        kind = onnx.helper.tensor_dtype_to_np_dtype(kinds[name])
        low, high = np.array([found.low, found.high], kind)
        data[name] = TensorData(lowest=low, highest=high)
    return TensorsData(CalibrationMethod.MinMax, data)
