"""Smooth: move what is large in an activation into the weights that read it.

In transformers a few channels are ten times as large as the others in every sample. One
scale for all then leaves the others a few of its 255 steps; a scale for each would have
to stay inside the sum. So each channel is divided by a scale and the weights that it
meets are multiplied by it: the answer is the same, and both sides round well (a sentence
encoder's cosine rose from .9934 to .9983 as dynamic int8).

The division costs nothing where what writes the activation takes it: the scale and shift
of a layer norm that nobody else reads, or the weights and bias of a product, also behind
a ReLU. Elsewhere one multiplication is put in, where it gains enough.

Source: G. Xiao et al., "SmoothQuant", ICML 2023; the choice of scales is in ``scales``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import ModelError
from edgewright.toolchain.ir.edit import Editor
from edgewright.toolchain.ir.graph import Graph, check_flat
from edgewright.toolchain.ir.observe import batches, check_finite, check_samples, observe
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques import Applied, settle
from edgewright.toolchain.techniques.smooth.place import Group, absorb, groups, multiply
from edgewright.toolchain.techniques.smooth.scales import Seen, choose

# Less than this gained is not worth a change; a node of its own has to gain more.
_GAIN, _NODE_GAIN = 1.05, 1.25
_UNCHANGED = 1e-3


def smooth(
    graph: Graph, samples: Samples, *, strength: float | None = None, insert: bool = True
) -> Applied:
    """Return ``graph`` with activations that one scale fits better.

    Args:
        graph: A float graph.
        samples: Real inputs, padded as they will be.
        strength: How much goes into the weights, 0 to 1; None finds the best for each
            activation.
        insert: Put a multiplication in where nothing can take the scale.

    Raises:
        ModelError: The graph has parts that are not looked into.
        DataError: No samples, or samples that do not fit the inputs.
    """
    if strength is not None and not 0 <= strength <= 1:
        raise ValueError(f"strength must be 0 to 1, got {strength}")
    _check(graph, samples)
    editor = Editor(graph)
    found = groups(editor)
    seen = _seen(graph, samples, [group.tensor for group in found])
    taken = put = 0
    gains = []
    # From the end: what a product takes from the next one changes its own weights.
    for group in reversed(found):
        scale, gain = choose(seen[group.tensor], group.weight(editor), strength)
        if np.abs(np.log(scale)).max() < _UNCHANGED or (strength is None and gain < _GAIN):
            continue
        if absorb(editor, group, scale):
            taken += 1
        elif insert and (strength is not None or gain >= _NODE_GAIN):
            multiply(editor, group, scale)
            put += 1
        else:
            continue
        group.scale_up(editor, scale)
        gains.append(gain)
    if not gains:
        return Applied(graph, changed=False, notes=(_unchanged(found),))
    said = (
        f"{len(gains)} of {len(found)} activations were smoothed: {taken} by what writes "
        f"them, {put} by a multiplication; their products' expected rounding error falls to "
        f"{100 / float(np.median(gains)):.0f} % in the median"
    )
    return Applied(editor.graph(), changed=True, notes=(said,))


def _check(graph: Graph, samples: Samples) -> None:
    check_samples(graph, samples, "smooth")
    check_flat(graph, ModelError)


def _seen(graph: Graph, samples: Samples, tensors: list[str]) -> dict[str, Seen]:
    found: dict[str, Seen] = {}

    def take(name: str, values: npt.NDArray[Any]) -> None:
        check_finite(name, values)
        now = Seen.of(values)
        found[name] = found[name].merge(now) if name in found else now

    if tensors:
        observe(graph, batches(graph, samples, tensors), tensors, take)
    return found


def _unchanged(found: list[Group]) -> str:
    if not found:
        return "no MatMul or Gemm has a constant weight of its own"
    return f"none of {len(found)} activations would round better"


class _Smooth:
    """The row ``smooth`` of the table."""

    def apply(
        self,
        graph: Graph,
        settings: Mapping[str, str],
        samples: Samples | None = None,
    ) -> Applied:
        """Return the graph after ``smooth``."""
        settled = settle("smooth", settings)
        strength = settled["strength"]
        return smooth(
            graph,
            check_samples(graph, samples, "smooth"),
            strength=None if strength == "auto" else float(strength),
            insert=settled["insert"] == "multiply",
        )


TECHNIQUE = _Smooth()
