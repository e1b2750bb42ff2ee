"""Round the weights of a graph's layers by what their answers lose on samples."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.linear import Linear
from edgewright.toolchain.ir.moments import fits, observe_moments, portions
from edgewright.toolchain.ir.observe import Feed
from edgewright.toolchain.ir.rounding import learned, lost


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """A weight to round.

    Attributes:
        layer: What reads it, alone.
        weight: As stored.
        scale: Broadcasts over it.
        codes: int8, its shape: rounded to the nearest.
        qmax: The largest code, which its counterpart below zero mirrors; 0 where there
            are two codes, -1 and 1.
    """

    layer: Linear
    weight: npt.NDArray[np.float32]
    scale: npt.NDArray[np.floating]
    codes: npt.NDArray[np.int8]
    qmax: int

    @property
    def name(self) -> str:
        """The node's."""
        return self.layer.node.name


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """Codes that lose less.

    Attributes:
        wanted: What was asked.
        codes: int8, the weight's shape.
        share: Of the error of the codes that were there, what is left; at most 1.
    """

    wanted: Wanted
    codes: npt.NDArray[np.int8]
    share: float


def learn(graph: Graph, feeds: Iterable[Feed], wanted: Sequence[Wanted]) -> Iterator[Learned]:
    """Yield codes for each of ``wanted`` whose moments fit, in their order.

    Args:
        graph: The float graph that has the layers.
        feeds: As ``observe`` takes them.
        wanted: What to round.

    Raises:
        DataError: ``feeds`` do not fit the inputs.
        QuantizeError: ONNX Runtime refuses the graph, or an activation is not finite.
    """
    by_name = {one.name: one for one in wanted if fits(one.layer)}
    for portion in portions([one.layer for one in by_name.values()]):
        found = observe_moments(graph, feeds, portion)
        for layer in portion:
            yield _learned(by_name[layer.node.name], found.pop(layer.node.name).second)


def said(found: Sequence[Learned]) -> str:
    """Return what came of it, as a note."""
    shares = [one.share for one in found]
    note = f"{len(found)} weights are rounded by what answers lose"
    if not shares:
        return note
    return f"{note}, {100 * float(np.median(shares)):.0f} % of the nearest in the median"


def _learned(one: Wanted, moment: npt.NDArray[np.float64]) -> Learned:
    layer = one.layer
    wide = np.broadcast_to(one.scale, one.weight.shape)
    weight, scale, before = map(layer.unrolled, (one.weight, wide, one.codes))
    after = learned(weight, scale, moment, one.qmax)
    errors = [float(lost(weight, codes, scale, moment).sum()) for codes in (after, before)]
    if errors[0] >= errors[1]:
        return Learned(one, one.codes, 1.0)
    return Learned(one, layer.rolled(after), errors[0] / errors[1])
