"""Keep the spread of every activation, never a sample's own values.

What is kept is of a size that the number of samples does not change.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.observe import BUDGET_BYTES, Feed, check_finite, observe
from edgewright.toolchain.techniques.quantize.fills import Spread

# Looked at together, so that what is computed from values is small beside them.
_CHUNK = 1 << 18


def calibrate(
    graph: Graph,
    feeds: Iterable[Feed],
    tensors: Sequence[str],
    *,
    bins: int,
    budget_bytes: int = BUDGET_BYTES,
) -> dict[str, Spread]:
    """Return what each of ``tensors`` held while ``graph`` was run on all ``feeds``.

    Args:
        graph: A float graph.
        feeds: Batches, each with an array for every input; walked as often as there are
            groups of activations, so not an iterator.
        tensors: Float tensors of ``graph``, in its order.
        bins: Of a histogram; 0 keeps only the extremes.
        budget_bytes: How much of a batch's activations is held at once, going by the
            first batch.

    Raises:
        DataError: There are no feeds, or one that does not fit the inputs.
        QuantizeError: An activation is not finite, or ONNX Runtime refuses the graph.
    """
    nothing = Spread.of(np.zeros(0, np.float32), bins=bins)
    spreads = dict.fromkeys(tensors, nothing)

    def take(name: str, values: npt.NDArray[Any]) -> None:
        spreads[name] = _seen(spreads[name], name, values)

    observe(graph, feeds, tensors, take, budget_bytes=budget_bytes)
    return spreads


def _seen(spread: Spread, name: str, values: npt.NDArray[Any]) -> Spread:
    flat, bins = values.reshape(-1), len(spread.rest.counts)
    for start in range(0, flat.size, _CHUNK):
        chunk = flat[start : start + _CHUNK].astype(np.float32, copy=False)
        check_finite(name, chunk)
        spread = spread.merge(Spread.of(chunk, bins=bins))
    return spread
