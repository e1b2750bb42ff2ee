"""Whether a model that was written answers like the one it was made from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import ParityError
from edgewright.toolchain.ir.answers import TOLERANCE as BY_TYPE

# Of the largest answer: rounding of float32 sums in another order stays well below,
# a wrong axis, a lost bias or a wrong layout is far above.
TOLERANCE = 1e-4
_HINT = "A step changed what the model computes; report this with the model."


def check_parity(
    source: Sequence[npt.NDArray[Any]], written: Sequence[npt.NDArray[Any]], name: str
) -> float:
    """Return the largest difference over the largest answer, of the output worst off.

    Args:
        source: What was answered before, an array for each output.
        written: What is answered now.
        name: Of what was written, for messages.

    Raises:
        ParityError: It is over ``TOLERANCE``, or over what half precision can hold where
            that is answered; the answers have another shape, or are infinite elsewhere.
    """
    return max(_apart(*pair, name) for pair in zip(source, written, strict=True))


def _apart(source: npt.NDArray[Any], written: npt.NDArray[Any], name: str) -> float:
    if source.shape != written.shape:
        raise ParityError(
            f"{name} answers shape {list(written.shape)}, its source {list(source.shape)}",
            hint=_HINT,
        )
    limit = BY_TYPE.get(str(written.dtype), TOLERANCE)
    one, other = (array.astype(np.float64) for array in (source, written))
    # A difference of infinities is no number, and no number is over a limit.
    finite = np.isfinite(one)
    if not np.array_equal(one[~finite], other[~np.isfinite(other)], equal_nan=True) or (
        not np.array_equal(finite, np.isfinite(other))
    ):
        raise ParityError(
            f"{name} answers {int((~np.isfinite(other)).sum())} values that are not finite, "
            f"its source {int((~finite).sum())}, or in other places",
            hint=_HINT,
        )
    one, other = one[finite], other[finite]
    largest = float(np.abs(one).max(initial=0))
    apart = float(np.abs(one - other).max(initial=0)) / (largest or 1.0)
    if apart > limit:
        raise ParityError(
            f"{name} is {apart:.2e} of the largest answer away from its source on "
            f"{len(source)} real inputs, at most {limit:.0e} may be",
            hint=_HINT,
        )
    return apart
