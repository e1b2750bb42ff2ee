"""Means and second moments of what layers are given, from a stream of samples."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.linear import Linear
from edgewright.toolchain.ir.observe import Feed, check_finite, observe

Doubles = npt.NDArray[np.float64]
Rounded = Callable[[str, npt.NDArray[Any]], npt.NDArray[Any]]

# Of moments that are held at once; layers of more inputs than fit are left out.
BUDGET_BYTES = 256 << 20
_DOUBLE_BYTES = 8


@dataclass(slots=True, eq=False)
class Moments:
    """What the inputs of a layer were like; sums until ``observe_moments`` is done.

    Attributes:
        second: Mean of x x', shape (groups, inputs, inputs); empty where not asked for.
        mean: Mean of x, shape (groups, inputs).
        rounded: Mean of x as it is after rounding, of the same shape.
        count: Rows a group.
    """

    second: Doubles
    mean: Doubles
    rounded: Doubles
    count: int = 0


def fits(layer: Linear) -> bool:
    """Return whether the second moments of ``layer`` may be held."""
    return layer.groups * layer.inputs**2 * _DOUBLE_BYTES <= BUDGET_BYTES


def portions(layers: Sequence[Linear]) -> list[list[Linear]]:
    """Return ``layers`` that fit, in their order, in portions within the budget."""
    found: list[list[Linear]] = []
    held = 0
    for layer in filter(fits, layers):
        size = layer.groups * layer.inputs**2 * _DOUBLE_BYTES
        if not found or held + size > BUDGET_BYTES:
            found.append([])
            held = 0
        found[-1].append(layer)
        held += size
    return found


def observe_moments(
    graph: Graph,
    feeds: Iterable[Feed],
    layers: Sequence[Linear],
    *,
    second: bool = True,
    rounded: Rounded | None = None,
) -> dict[str, Moments]:
    """Return the moments of the first input of each of ``layers``, by the node's name.

    Args:
        graph: A float graph that has the layers.
        feeds: As ``observe`` takes them.
        layers: Whose weights are constant.
        second: Whether second moments are wanted.
        rounded: What becomes of a tensor, by its name, before the layer sees it.

    Raises:
        DataError: ``feeds`` do not fit the inputs.
        QuantizeError: ONNX Runtime refuses the graph, or an activation is not finite.
    """
    found: dict[str, Moments] = {}
    readers: dict[str, list[Linear]] = {}
    for layer in layers:
        readers.setdefault(layer.node.input[0], []).append(layer)
        shape = (layer.groups, layer.inputs)
        size = (*shape, layer.inputs if second else 0)
        found[layer.node.name] = Moments(np.zeros(size), np.zeros(shape), np.zeros(shape))

    def take(name: str, values: npt.NDArray[Any]) -> None:
        check_finite(name, values)
        after = rounded(name, values) if rounded else values
        for layer in readers[name]:
            _add(found[layer.node.name], layer, values, after, second=second)

    if readers:
        observe(graph, feeds, list(readers), take)
    for moments in found.values():
        count = max(moments.count, 1)
        moments.second /= count
        moments.mean /= count
        moments.rounded /= count
    return found


def _add(
    moments: Moments,
    layer: Linear,
    values: npt.NDArray[Any],
    after: npt.NDArray[Any],
    *,
    second: bool,
) -> None:
    # One sample after the other: the patches of a convolution are many times its input.
    step = 1 if layer.is_conv else max(len(values), 1)
    for start in range(0, len(values), step):
        rows = layer.rows(values[start : start + step])
        moments.count += rows.shape[1]
        moments.mean += rows.sum(axis=1)
        if second:
            moments.second += rows.transpose(0, 2, 1) @ rows
        if after is values:
            moments.rounded += rows.sum(axis=1)
        else:
            moments.rounded += layer.rows(after[start : start + step]).sum(axis=1)
