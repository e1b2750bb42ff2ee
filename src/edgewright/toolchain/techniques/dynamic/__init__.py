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

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import QuantizeError
from edgewright.toolchain.ir.codes import along
from edgewright.toolchain.ir.graph import Graph, array_of, check_flat
from edgewright.toolchain.ir.learn import Learned, Wanted, learn, said
from edgewright.toolchain.ir.linear import layers_of
from edgewright.toolchain.ir.observe import batches, check_samples
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
    samples: Samples | None = None,
    skip: frozenset[str] = frozenset(),
) -> Applied:
    """Return ``graph`` with int8 weights and activations quantized at run time.

    Args:
        graph: A float graph.
        per_channel: One scale per output channel, and per row of a table, instead of one
            per tensor.
        signed: int8 weights instead of uint8 ones of the same values.
        convolutions: Convert these too.
        samples: Real inputs, to round weights by what answers lose; None to round them to
            the nearest.
        skip: Nodes of ``graph``, by name, that go on computing in floats.

    Raises:
        UsageError: ``skip`` names a node there is not.
        QuantizeError: Nothing could be converted, it is quantized already, or the graph
            has parts that are not looked into.
    """
    check_nodes(graph, skip)
    check_flat(graph, QuantizeError)
    if found := [node for node in graph.proto.graph.node if node.op_type in _INTEGER]:
        raise QuantizeError(
            f"the graph is quantized already: it has {found[0].op_type} {found[0].name!r}",
            hint="Give the float model it was made from.",
        )
    method = Method(per_channel, signed, convolutions, skip)
    learned = [] if samples is None else _learned(graph, samples, method)
    rewrite = Rewrite(graph.copy(), method, _upright(learned))
    proto = rewrite.perform()
    if not rewrite.converted:
        raise QuantizeError(
            f"none of the {graph.operators.total()} nodes could be converted: "
            f"{rewrite.left() or 'none has a constant float weight'}",
            hint="Leave dynamic out of the recipe for this model.",
        )
    notes = (*rewrite.notes(), *([said(learned)] if learned else []))
    return Applied(tidy(proto), changed=True, notes=notes)


def _upright(learned: Sequence[Learned]) -> dict[str, npt.NDArray[np.int8]]:
    """Return the codes by their node, a row for each input of a matrix."""
    return {
        one.wanted.name: np.ascontiguousarray(one.codes.T)
        if one.wanted.layer.transposed
        else one.codes
        for one in learned
    }


def _learned(graph: Graph, samples: Samples, method: Method) -> list[Learned]:
    """Return the codes of every weight that a layer alone reads."""
    held = {tensor.name: tensor for tensor in graph.proto.graph.initializer}
    wanted = []
    for name, layer in layers_of(graph).items():
        if layer.node.name in method.skip or (layer.is_conv and not method.convolutions):
            continue
        if any(a.name == "alpha" and a.f != 1 for a in layer.node.attribute):
            continue
        weight = np.asarray(array_of(held[name]), np.float32)
        if np.isfinite(weight).all():
            codes = along(weight, layer.channel if method.per_channel else None, 8)
            wanted.append(Wanted(layer, weight, codes.scale, codes.values, 127))
    feeds = batches(graph, samples, [one.layer.node.input[0] for one in wanted])
    return list(learn(graph, feeds, wanted))


class _Dynamic:
    """The row ``dynamic`` of the table."""

    def apply(
        self,
        graph: Graph,
        settings: Mapping[str, str],
        samples: Samples | None = None,
    ) -> Applied:
        """Return the graph after ``quantize_dynamic``."""
        settled = settle("dynamic", settings)
        learns = settled["rounding"] == "learned"
        return quantize_dynamic(
            graph,
            per_channel=settled["granularity"] == "channel",
            signed=settled["signs"] == "signed",
            convolutions=settled["convolutions"] == "convert",
            samples=check_samples(graph, samples, "dynamic") if learns else None,
            skip=skipped(settled, graph),
        )


TECHNIQUE = _Dynamic()
