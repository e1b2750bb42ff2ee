"""Whether a model that was written answers like the one it was made from."""

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import ParityError

# Of the largest answer: rounding of float32 sums in another order stays well below,
# a wrong axis, a lost bias or a wrong layout is far above.
TOLERANCE = 1e-4


def check_parity(
    source: npt.NDArray[np.floating], written: npt.NDArray[np.floating], name: str
) -> float:
    """Return the largest difference over the largest answer of ``source``.

    Raises:
        ParityError: It is over ``TOLERANCE``, or the answers have another shape.
    """
    if source.shape != written.shape:
        raise ParityError(
            f"{name} answers shape {list(written.shape)}, its source {list(source.shape)}"
        )
    largest = float(np.abs(source).max())
    apart = float(np.abs(source - written).max()) / (largest or 1.0)
    if apart > TOLERANCE:
        raise ParityError(
            f"{name} is {apart:.2e} of the largest answer away from its source on "
            f"{len(source)} real inputs, at most {TOLERANCE:.0e} may be",
            hint="A step changed what the model computes; report this with the model.",
        )
    return apart
