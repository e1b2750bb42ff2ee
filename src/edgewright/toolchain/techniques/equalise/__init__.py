"""Equalise: let neighbouring layers share what makes one of their channels large.

One scale for a whole weight leaves small channels a few of its 255 steps; folding batch
norms into depthwise convolutions makes channels that differ a hundredfold. Between two
layers with nothing but ReLU there a channel may be divided on one side and multiplied on
the other, and the answer is the same: ``f(x / s) = f(x) / s`` for every s above 0. With
s so that both sides have the same range, quantization per tensor loses least.

Pairs with anything else between them are left and named: fuse first, so that batch norms
are gone.

Source: M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019, section 4.1. Its absorption of high biases is left out: it needs
the batch norms that fusing removes, and calibrated ranges do what it is for.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from edgewright.core.errors import ModelError
from edgewright.toolchain.ir.edit import Editor
from edgewright.toolchain.ir.graph import Graph, check_flat
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques import Applied, check_nodes, settle, skipped
from edgewright.toolchain.techniques.equalise.pairs import Pair, pairs

# Chains settle in about ten sweeps; what moves less than a thousandth is equal.
_SWEEPS, _SETTLED, _UNCHANGED = 200, 1e-5, 1e-3
_NAMED = 5


def equalise(
    graph: Graph, *, depthwise: bool = True, skip: frozenset[str] = frozenset()
) -> Applied:
    """Return ``graph`` with the ranges of neighbouring layers made equal by channel.

    Args:
        graph: A float graph, fused.
        depthwise: Look at pairs with a depthwise convolution too.
        skip: Nodes of ``graph``, by name, whose weights stay as they are.

    Raises:
        UsageError: ``skip`` names a node there is not.
        ModelError: The graph has parts that are not looked into.
    """
    check_nodes(graph, skip)
    check_flat(graph, ModelError)
    editor = Editor(graph)
    found, left = pairs(editor)
    for pair in [pair for pair in found if not skip.isdisjoint(pair.names)]:
        found.remove(pair)
        left.append(f"{pair.said}, as asked")
    if not depthwise:
        found = [pair for pair in found if not pair.depthwise]
    before = _unequal(found)
    moved = _settle(found)
    if moved < _UNCHANGED:
        said = f"none of {len(found)} pairs of layers had channels to equalise"
        return Applied(graph, changed=False, notes=(said, *_listed(left)))
    for layer in dict.fromkeys(layer for pair in found for layer in (pair.first, pair.second)):
        layer.store(editor)
    said = (
        f"{len(found)} pairs of layers share their ranges: the largest channel of a weight "
        f"was {before:.1f} times its median one, and is {_unequal(found):.1f} times that now"
    )
    return Applied(editor.graph(), changed=True, notes=(said, *_listed(left)))


def _settle(found: Sequence[Pair]) -> float:
    """Equalise until nothing moves; return the largest logarithm of a scale applied."""
    moved = {id(pair): np.zeros(pair.channels) for pair in found}
    for _ in range(_SWEEPS):
        largest = 0.0
        for pair in found:
            scale = pair.equalise()
            moved[id(pair)] += np.log(scale)
            largest = max(largest, float(np.abs(np.log(scale)).max(initial=0.0)))
        if largest < _SETTLED:
            break
    return max((float(np.abs(log).max(initial=0.0)) for log in moved.values()), default=0.0)


def _unequal(found: Sequence[Pair]) -> float:
    """Return the largest over the median range of a channel, of the worst weight."""
    return max((pair.unequal() for pair in found), default=1.0)


def _listed(left: Sequence[str]) -> tuple[str, ...]:
    if not left:
        return ()
    more = len(left) - _NAMED
    shown = "; ".join(left[:_NAMED])
    return (f"left as they are: {shown} and {more} more" if more > 0 else
            f"left as they are: {shown}",)  # fmt: skip


class _Equalise:
    """The row ``equalise`` of the table."""

    def apply(
        self,
        graph: Graph,
        settings: Mapping[str, str],
        samples: Samples | None = None,  # noqa: ARG002  it looks at no samples
    ) -> Applied:
        """Return the graph after ``equalise``."""
        settled = settle("equalise", settings)
        return equalise(
            graph,
            depthwise=settled["depthwise"] == "scale",
            skip=skipped(settled, graph),
        )


TECHNIQUE = _Equalise()
