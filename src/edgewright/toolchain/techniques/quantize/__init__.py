"""Quantize: weights stored as int8, activations computed in uint8.

Static, in the QDQ form that every engine of ours reads: unsigned activations and
signed weights, because signed activations cost ONNX Runtime 1.8 to 10 times the
latency on x86; symmetric weights; ranges are chosen from all values seen on real
samples, in memory that does not grow with these, and never from the fill of a mask.
One scale per output channel keeps more of the answer, one per tensor is smaller.
Weights of 7 bits are for x86 without VNNI, whose kernels add two products of 8 bits
in 16: a full weight overflows there, one of half the range cannot. Where nothing
could be quantized it raises: asked for int8, float is never the answer.

Codes are kept codes: operators without 8-bit kernels are said in ones that have them
(``native``), pictures of bytes are read as they are (``given``), and behind the last layers
arithmetic is done in floats, which cost the same there and round nothing (``tail``).

Source: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018; carried out by onnxruntime.quantization.
"""

from collections.abc import Mapping

from onnx import TensorProto

from edgewright.core.errors import QuantizeError
from edgewright.toolchain.ir.graph import Graph, check_flat
from edgewright.toolchain.ir.observe import batches, check_samples
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques import Applied, check_nodes, settle, skipped
from edgewright.toolchain.techniques.quantize.first import in_rows
from edgewright.toolchain.techniques.quantize.floats import left_as_floats
from edgewright.toolchain.techniques.quantize.given import codes_given
from edgewright.toolchain.techniques.quantize.native import in_kernels_of_codes
from edgewright.toolchain.techniques.quantize.static import (
    OPERATORS,
    Method,
    activations,
    quantize_static,
)

_SHARE = 1000  # permille
_INT8 = TensorProto.INT8
_ROUNDINGS = ("nearest", "learned")


def quantize(
    graph: Graph,
    samples: Samples,
    *,
    per_channel: bool = True,
    bits: int = 8,
    ranges: str = "minmax",
    rounding: str = "nearest",
    correct_bias: bool = False,
    skip: frozenset[str] = frozenset(),
) -> Applied:
    """Return ``graph`` with int8 weights and 8-bit activations.

    Args:
        graph: A float graph.
        samples: Real inputs to take the ranges from.
        per_channel: One scale per output channel instead of one per tensor.
        bits: Of a weight, 8 or 7; either takes a byte.
        ranges: How those of activations are chosen: ``minmax``, ``percentile``,
            ``entropy`` or ``mse``, as ``choose`` defines them.
        rounding: Of weights, ``nearest`` or ``learned``: by what answers lose.
        correct_bias: Take the mean error of each layer out of its bias.
        skip: Nodes of ``graph``, by name, that go on computing in floats.

    Raises:
        UsageError: ``skip`` names a node there is not.
        QuantizeError: There is nothing to quantize, it is quantized already, it has
            branches, an activation is not finite, or the quantizer refuses the graph.
        DataError: No samples, or samples that do not fit the inputs.
    """
    if rounding not in _ROUNDINGS:
        raise ValueError(f"rounding must be nearest or learned, got {rounding!r}")
    learned = rounding == "learned"
    method = Method(per_channel, bits, ranges, skip, learned=learned, correct=correct_bias)
    check_nodes(graph, skip)
    _check(graph)
    check_samples(graph, samples, "quantize")
    native = in_rows(in_kernels_of_codes(graph, skip), skip)
    given = codes_given(native, skip)
    feeds = batches(given.graph, samples, activations(given.graph))
    result, notes = quantize_static(given, feeds, method)
    left = left_as_floats(given.graph, result, operators=OPERATORS, skip=skip)
    notes = (_said(result, samples, method, left), *notes)
    if left:
        notes = (*notes, f"left as floats: {left}")
    return Applied(result, changed=True, notes=notes)


def _said(result: Graph, samples: Samples, method: Method, left: str) -> str:
    """Return what was done.

    Raises:
        QuantizeError: That was nothing.
    """
    initializers = result.proto.graph.initializer
    stored = sum(len(tensor.raw_data) for tensor in initializers if tensor.data_type == _INT8)
    if not stored:
        raise QuantizeError(
            f"none of the {result.operators.total()} nodes could be quantized: "
            f"{left or 'no Conv, Gemm or MatMul has constant float weights'}",
            hint="Leave quantize out of the recipe for this model.",
        )
    how = "channel" if method.per_channel else "tensor"
    share = stored * _SHARE // max(result.weight_bytes, 1) / 10
    kind = "int8" if method.bits == 8 else "int8 within 7 bits"
    return (
        f"{stored} bytes of weights are {kind} with one scale per {how} ({share} % of all), "
        f"{method.ranges} ranges from {len(samples)} samples"
    )


class _Quantize:
    """The row ``quantize`` of the table."""

    def apply(
        self,
        graph: Graph,
        settings: Mapping[str, str],
        samples: Samples | None = None,
    ) -> Applied:
        """Return the graph after ``quantize``."""
        settled = settle("quantize", settings)
        channel = settled["granularity"] == "channel"
        return quantize(
            graph,
            check_samples(graph, samples, "quantize"),
            per_channel=channel,
            bits=int(settled["bits"]),
            ranges=settled["ranges"],
            rounding=settled["rounding"],
            correct_bias=settled["bias"] == "correct",
            skip=skipped(settled, graph),
        )


def _check(graph: Graph) -> None:
    check_flat(graph, QuantizeError)
    for node in graph.proto.graph.node:
        if node.op_type == "DequantizeLinear":
            raise QuantizeError(
                f"the graph is quantized already: it has {node.op_type} {node.name!r}",
                hint="Give the float model it was made from.",
            )


TECHNIQUE = _Quantize()
