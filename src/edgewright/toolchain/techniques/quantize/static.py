"""The call into onnxruntime.quantization, and what it has to be told to be exact."""

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
)
from onnxruntime.quantization import quantize_static as ort_quantize_static
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from edgewright.core.errors import QuantizeError
from edgewright.toolchain.ir import ort
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.tidy import tidy

# Samples a run; larger batches only cost memory, since ranges are over all of them.
_BATCH = 50

# Sorted: left to itself the quantizer walks a set, in an order that changes by the day.
_OPERATORS = sorted({*QLinearOpsRegistry, *QDQRegistry})

# Biases stay float in the file and become int32 when the engine loads it: the scale of
# a quantized bias is as large as the bias, 5 % of the digits example per channel.
_OPTIONS = {"QuantizeBias": False}


def quantize_static(
    graph: Graph, samples: npt.NDArray[Any], *, per_channel: bool, bits: int = 8
) -> Graph:
    """Return ``graph`` in QDQ form; it may hold no quantized weight at all.

    Raises:
        QuantizeError: ONNX Runtime refuses the graph.
    """
    with ort.quiet("quantize the graph", QuantizeError) as folder:
        source, result = folder / "float.onnx", folder / "int8.onnx"
        onnx.save(graph.proto, source)
        ort_quantize_static(
            source,
            result,
            _Reader(graph, samples),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_OPERATORS,
            per_channel=per_channel,
            reduce_range=bits == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            calibration_providers=["CPUExecutionProvider"],
            extra_options=_OPTIONS,
        )
        proto = onnx.load(result)
    return tidy(proto)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands out the samples batch by batch, as the quantizer wants them."""

    def __init__(self, graph: Graph, samples: npt.NDArray[Any]) -> None:
        self._batches = _batches(graph, samples)

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        """Return the next batch, None after the last."""
        return next(self._batches, None)


def _batches(graph: Graph, samples: npt.NDArray[Any]) -> Iterator[dict[str, npt.NDArray[Any]]]:
    spec = graph.inputs[0]
    size = _BATCH if spec.shape[0] == -1 else spec.shape[0]
    for start in range(0, len(samples), size):
        batch = samples[start : start + size]
        # A fixed batch cannot be fed half; the samples left over are not looked at.
        if spec.shape[0] in {-1, len(batch)}:
            yield {spec.name: batch}
