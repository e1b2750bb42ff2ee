"""Places that 8-bit arithmetic is known to break, which are left in floats from the start.

- Softmax, normalisations, and the smooth activations around an error function: next to all
  of their range is where nothing is, and what counts is in a corner of it.
- A tensor in which parts of very different size lie side by side, like boxes in pixels and
  scores up to 1: one scale for both leaves the small one a handful of values.

What comes after such a node is left in floats too, up to the next layer with weights.

Source: the defects that users of eight tools reported; see docs/traps.md.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import DataError, QuantizeError
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.observe import batches, observe
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.planner.layers import followers_of, layers_of

_BROKEN = {
    "Softmax": "softmax",
    "LogSoftmax": "softmax",
    "LayerNormalization": "a normalisation",
    "InstanceNormalization": "a normalisation",
    "GroupNormalization": "a normalisation",
    "RMSNormalization": "a normalisation",
    "Gelu": "a smooth activation",
    "Erf": "a smooth activation",
    "HardSwish": "a smooth activation",
}

# A part that is so much smaller than its neighbour keeps fewer than 32 of 255 steps.
_UNLIKE = 8.0
_PROBED = 32


def known_bad(graph: Graph, samples: Samples) -> Mapping[str, str]:
    """Return the nodes of ``graph`` to leave in floats, each with the reason.

    Args:
        graph: A float graph.
        samples: Real inputs, which tell how large the parts of a tensor are.
    """
    found: dict[str, str] = {}
    for node in graph.proto.graph.node:
        if node.op_type in _BROKEN:
            found[node.name] = f"{_BROKEN[node.op_type]} loses its small values in 8 bits"
    found |= _unlike(graph, samples)
    layers = layers_of(graph)
    starts = {
        tensor
        for node in graph.proto.graph.node
        if node.name in found
        for tensor in node.output
    }
    known = {layer.name for layer in layers}
    for name in followers_of(graph, known, starts):
        found.setdefault(name, "what it is computed with is left in floats")
    return found


def _unlike(graph: Graph, samples: Samples) -> dict[str, str]:
    """Return the joints of parts whose ranges are of very different size."""
    joints = [n for n in graph.proto.graph.node if n.op_type == "Concat"]
    constant = {tensor.name for tensor in graph.proto.graph.initializer}
    parts = [[name for name in node.input if name not in constant] for node in joints]
    order = [spec.name for spec in graph.inputs]
    order += [name for node in graph.proto.graph.node for name in node.output]
    wanted = {name for part in parts if len(part) > 1 for name in part}
    if not wanted or not len(samples):
        return {}
    tensors = [name for name in order if name in wanted]
    largest: dict[str, float] = dict.fromkeys(tensors, 0.0)

    def take(name: str, values: npt.NDArray[np.generic]) -> None:
        if values.dtype.kind == "f":
            here = float(np.abs(values.astype(np.float64)).max(initial=0))
            largest[name] = max(largest[name], here)

    some = samples[:_PROBED]
    try:
        observe(graph, batches(graph, some, tensors), tensors, take)
    except (DataError, QuantizeError):
        # The quantizing step meets the same and says so by the candidate's name.
        return {}
    found = {}
    for node, names in zip(joints, parts, strict=True):
        sizes = [largest[name] for name in names if largest.get(name)]
        if len(sizes) > 1 and max(sizes) > _UNLIKE * min(sizes):
            found[node.name] = (
                f"it joins parts up to {max(sizes):.3g} with parts up to {min(sizes):.3g}"
            )
    return found
