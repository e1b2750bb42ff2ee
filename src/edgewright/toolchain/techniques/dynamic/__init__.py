"""Dynamic: weights stored as int8, activations quantized anew in every run.

No samples and no ranges: each run looks at what it has before it rounds. That is what
transformers want, whose activations differ by sentence, and what convolutions do not
want: there it took 2 to 10 times as long as floats, so they stay floats unless asked
for. Tables are read as int8 and only the rows that were looked up become floats. All in
standard operators; ONNX Runtime fuses them to its own kernels when it loads the model.

Weights are signed and symmetric. x86 without VNNI adds two products in 16 bits, where an
unsigned activation times a signed weight overflows; unsigned weights of the same values
do not, and are slower elsewhere.

What cannot be converted stays as it is and is named; where nothing could it raises.

Source: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018; ONNX DynamicQuantizeLinear, MatMulInteger.
"""

from collections.abc import Mapping

from edgewright.core.errors import QuantizeError
from edgewright.toolchain.ir.graph import Graph, has_subgraphs
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.ir.tidy import tidy
from edgewright.toolchain.techniques import Applied, check_nodes, settle, skipped
from edgewright.toolchain.techniques.dynamic.rewrite import Method, Rewrite

_INTEGER = frozenset(
    {
        "DynamicQuantizeLinear",
        "QuantizeLinear",
        "MatMulInteger",
        "ConvInteger",
        "QLinearConv",
        "QLinearMatMul",
    }
)


def quantize_dynamic(
    graph: Graph,
    *,
    per_channel: bool = True,
    signed: bool = True,
    convolutions: bool = False,
    skip: frozenset[str] = frozenset(),
) -> Applied:
    """Return ``graph`` with int8 weights and activations quantized at run time.

    Args:
        graph: A float graph.
        per_channel: One scale per output channel, and per row of a table, instead of one
            per tensor.
        signed: int8 weights instead of uint8 ones of the same values.
        convolutions: Convert these too.
        skip: Nodes of ``graph``, by name, that go on computing in floats.

    Raises:
        UsageError: ``skip`` names a node there is not.
        QuantizeError: Nothing could be converted, it is quantized already, or the graph
            has parts that are not looked into.
    """
    check_nodes(graph, skip)
    if has_subgraphs(graph.proto):
        raise QuantizeError(
            "the graph holds graphs of its own (If, Loop, Scan)",
            hint="Export the model without control flow.",
        )
    if found := sorted(_INTEGER & set(graph.operators)):
        raise QuantizeError(
            f"the graph is quantized already: it has {found[0]}",
            hint="Give the float model it was made from.",
        )
    rewrite = Rewrite(graph.copy(), Method(per_channel, signed, convolutions, skip))
    proto = rewrite.perform()
    if not rewrite.converted:
        raise QuantizeError(
            f"none of the {graph.operators.total()} nodes could be converted: "
            f"{rewrite.left() or 'none has a constant float weight'}",
            hint="Leave dynamic out of the recipe for this model.",
        )
    return Applied(tidy(proto), changed=True, notes=rewrite.notes())


class _Dynamic:
    """The row ``dynamic`` of the table."""

    def apply(
        self,
        graph: Graph,
        settings: Mapping[str, str],
        samples: Samples | None = None,  # noqa: ARG002  it looks at no samples
    ) -> Applied:
        """Return the graph after ``quantize_dynamic``."""
        settled = settle("dynamic", settings)
        return quantize_dynamic(
            graph,
            per_channel=settled["granularity"] == "channel",
            signed=settled["signs"] == "signed",
            convolutions=settled["convolutions"] == "convert",
            skip=skipped(settled, graph),
        )


TECHNIQUE = _Dynamic()
