"""Whether a model that was written answers like the one it was made from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import ParityError

# Of the largest answer: rounding of float32 sums in another order stays well below,
# a wrong axis, a lost bias or a wrong layout is far above.
TOLERANCE = 1e-4


def check_parity(
    source: Sequence[npt.NDArray[Any]], written: Sequence[npt.NDArray[Any]], name: str
) -> float:
    """Return the largest difference over the largest answer, of the output worst off.

    Args:
        source: What was answered before, an array for each output.
        written: What is answered now.
        name: Of what was written, for messages.

    Raises:
        ParityError: It is over ``TOLERANCE``, or the answers have another shape.
    """
    return max(_apart(*pair, name) for pair in zip(source, written, strict=True))


def _apart(source: npt.NDArray[Any], written: npt.NDArray[Any], name: str) -> float:
    if source.shape != written.shape:
        raise ParityError(
            f"{name} answers shape {list(written.shape)}, its source {list(source.shape)}"
        )
    one, other = (array.astype(np.float64) for array in (source, written))
    largest = float(np.abs(one).max(initial=0))
    apart = float(np.abs(one - other).max(initial=0)) / (largest or 1.0)
    if apart > TOLERANCE:
        raise ParityError(
            f"{name} is {apart:.2e} of the largest answer away from its source on "
            f"{len(source)} real inputs, at most {TOLERANCE:.0e} may be",
            hint="A step changed what the model computes; report this with the model.",
        )
    return apart
