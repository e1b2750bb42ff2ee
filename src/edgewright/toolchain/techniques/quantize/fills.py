"""Tell the fill of a mask from an activation, and end ranges short of it.

Attention adds -1e4, -1e9 or the least float there is to what must not be looked at. That
is no activation: as the end of a range it leaves one or two of 255 steps for all the
rest (a sentence encoder's cosine fell from .83 to .37). So values at or below -1e4 that
lie two orders of magnitude away from all others are a fill, and ranges are chosen from
the others.

Clipped, the fill still has to do what it is for. Below the smallest score that is looked
at there is room for e**8: what was masked is then less than half a step of the softmax
behind it. A mask on its own way there keeps as much as adding it to the largest score
needs; it has next to nothing but two values, which are exact over any range.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from edgewright.toolchain.ir.graph import Graph, array_of
from edgewright.toolchain.techniques.quantize.choose import Chooser, Range
from edgewright.toolchain.techniques.quantize.histogram import Histogram

_FILL = -1e4
_APART = 100

# -1e4 with a score added is a fill too; what is between is kept apart until all was seen.
_DEEP = -8192.0

_ROOM = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """What a tensor held, with what may be a fill kept apart.

    Attributes:
        rest: The values above -8192.
        deep: The others.
    """

    rest: Histogram
    deep: Histogram

    @classmethod
    def of(cls, values: npt.NDArray[np.float32], *, bins: int) -> "Spread":
        """Return the spread of finite ``values``, any shape."""
        rest, deep = values, values[:0]
        if values.size and values.min() <= _DEEP:
            is_deep = values <= _DEEP
            rest, deep = values[~is_deep], values[is_deep]
        return cls(Histogram.of(rest, bins=bins), Histogram.of(deep, bins=bins))

    def merge(self, other: "Spread") -> "Spread":
        """Return the spread of the values of both."""
        return Spread(self.rest.merge(other.rest), self.deep.merge(other.deep))

    @property
    def filled(self) -> bool:
        """Whether ``deep`` is the fill of a mask, far from all the rest."""
        if not self.rest.count or not self.deep.low <= _FILL:
            return False
        return -self.deep.high >= _APART * max(-self.rest.low, self.rest.high)

    @property
    def values(self) -> Histogram:
        """What the range has to be chosen from."""
        return self.rest if self.filled else self.rest.merge(self.deep)


def choose_ranges(
    graph: Graph, spreads: Mapping[str, Spread], chooser: Chooser
) -> tuple[dict[str, Range], tuple[str, ...]]:
    """Return the range of each tensor, and a note on each that held a fill.

    Args:
        graph: Whose activations they are, to know where a masked tensor goes.
        spreads: What each tensor held, by name.
        chooser: Of ``choose.CHOOSERS``.
    """
    ranges = {name: chooser(spread.values) for name, spread in spreads.items()}
    lows = _lows(graph, spreads, ranges)
    notes = []
    for name, low in lows.items():
        deep, rest = spreads[name].deep, spreads[name].rest
        ranges[name] = Range(max(low, deep.low), ranges[name].high)
        share = 100 * deep.count / (deep.count + rest.count)
        notes.append(
            f"the range of {name!r} ends at {ranges[name].low:.4g}: "
            f"{share:.1f} % of its values are the fill {deep.high:.4g} of a mask"
        )
    return ranges, tuple(notes)


def _lows(
    graph: Graph, spreads: Mapping[str, Spread], ranges: Mapping[str, Range]
) -> dict[str, float]:
    """Return where the range of each filled tensor begins, in the order of ``spreads``."""
    lows = {name: ranges[name].low for name, spread in spreads.items() if spread.filled}
    # From the end: what becomes of a tensor is known before the tensor is met.
    for node in reversed(graph.proto.graph.node):
        for name in (name for name in node.input if name in lows):
            if node.op_type == "Softmax":
                lows[name] = min(lows[name], ranges[name].low - _ROOM)
            for output in (output for output in node.output if output in lows):
                # As deep as the output, on the scale of the input.
                ratio = spreads[name].deep.high / spreads[output].deep.high
                needed = lows[output] * ratio - _added(graph, node, name, ranges)
                lows[name] = min(lows[name], needed)
    return lows


def _added(graph: Graph, node: NodeProto, name: str, ranges: Mapping[str, Range]) -> float:
    """Return the most that ``node`` adds to its input ``name``, at least 0."""
    if node.op_type != "Add":
        return 0.0
    other = node.input[1] if node.input[0] == name else node.input[0]
    if other in ranges:
        return ranges[other].high
    held = [array_of(t) for t in graph.proto.graph.initializer if t.name == other]
    return max([0.0, *(float(array.max()) for array in held if array.size)])
