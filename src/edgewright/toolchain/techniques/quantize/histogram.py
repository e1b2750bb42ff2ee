"""What is kept of a stream of values: how many fell in each bin, in memory that never grows.

The bins cover [-2**exponent, 2**exponent). A value outside doubles that range, and each
pair of bins becomes one. Their width is a power of two, so no bin is ever split and no
value moves: what is kept depends on the values alone, not on how they were cut into
batches nor on the order of these. Counts are whole numbers, the extremes exact.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# A tensor that is positive throughout still has 2048 bins or more between 0 and its largest.
BINS = 8192

# Of values that are all smaller than 2**-100 nobody needs to know more.
_LEAST = -100


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """The distribution of some float32 values.

    Attributes:
        count: How many there were.
        zeros: How many of them were exactly zero, which every scale of ours can hold.
        low: The smallest, +inf before the first.
        high: The largest, -inf before the first.
        exponent: The bins cover [-2**exponent, 2**exponent).
        counts: int64, one a bin, from the lowest; none at all where only the extremes
            are wanted, else a power of two.
    """

    count: int
    zeros: int
    low: float
    high: float
    exponent: int
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, values: npt.NDArray[np.float32], *, bins: int = BINS) -> "Histogram":
        """Return the histogram of ``values``, any shape.

        Raises:
            ValueError: A value is not finite, or ``bins`` is not 0 or a power of two.
        """
        if bins and (bins < 4 or bins & (bins - 1)):
            raise ValueError(f"bins must be 0 or a power of two from 4, got {bins}")
        if not values.size:
            return cls(0, 0, math.inf, -math.inf, _LEAST, np.zeros(bins, np.int64))
        low, high = float(values.min()), float(values.max())
        if not math.isfinite(low) or not math.isfinite(high):
            raise ValueError(f"values must be finite, got {low} to {high}")
        zeros = values.size - int(np.count_nonzero(values))
        largest = max(-low, high)
        exponent = max(math.frexp(largest)[1], _LEAST) if largest else _LEAST
        if not bins:
            return cls(values.size, zeros, low, high, exponent, np.zeros(0, np.int64))
        per_unit = math.ldexp(bins // 2, -exponent)
        # A power of two, so exact; in float32 only where nothing can become too small.
        kind = np.float32 if per_unit >= 1 else np.float64
        place = np.floor(values.ravel() * kind(per_unit)).astype(np.int64) + bins // 2
        counts = np.bincount(place, minlength=bins).astype(np.int64)
        return cls(values.size, zeros, low, high, exponent, counts)

    def merge(self, other: "Histogram") -> "Histogram":
        """Return the histogram of the values of both.

        Raises:
            ValueError: They have different numbers of bins.
        """
        if len(self.counts) != len(other.counts):
            raise ValueError(f"{len(self.counts)} bins cannot meet {len(other.counts)}")
        exponent = max(self.exponent, other.exponent)
        return Histogram(
            self.count + other.count,
            self.zeros + other.zeros,
            min(self.low, other.low),
            max(self.high, other.high),
            exponent,
            self.counts_over(exponent) + other.counts_over(exponent),
        )

    @property
    def width(self) -> float:
        """Of one bin."""
        return math.ldexp(1.0, self.exponent + 1) / len(self.counts)

    def counts_over(self, exponent: int) -> npt.NDArray[np.int64]:
        """Return the counts as if the bins covered ``2**exponent``, which is not less."""
        counts, quarter = self.counts, len(self.counts) // 4
        # After that many halvings all is in the two bins beside zero, and stays there.
        for _ in range(min(exponent - self.exponent, len(counts).bit_length())):
            counts = np.pad(counts.reshape(-1, 2).sum(axis=1), quarter)
        return counts
