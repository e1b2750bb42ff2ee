"""Where to end the range of an activation: four answers, each a function of its histogram.

Every range holds zero, which padding and ReLU need to be exact, and lies between the
extremes otherwise. What is outside is clipped, what is inside rounded to 255 steps:

- ``minmax`` clips nothing.
- ``percentile`` clips a fixed share, half of it on either side.
- ``entropy`` clips the magnitude so that the distribution of what is left, once in as few
  bins as there are steps, has the least Kullback-Leibler divergence from the whole.
  Source: S. Migacz, "8-bit Inference with TensorRT", GTC 2017. There every layer has 128
  steps; a tensor with one sign has 256 here. Zeros do not count: they are exact anyway.
- ``mse`` has the least expected squared error: the distance of what is clipped, and the
  twelfth of a squared step for the rest except zeros.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgewright.toolchain.techniques.quantize.histogram import Histogram

_STEPS = 255
_MILLION = 10**6

# Where the thresholds that are tried lie: finer than this decides nothing but time.
_THRESHOLDS = 256


@dataclass(frozen=True, slots=True)
class Range:
    """What 8 bits have to reach.

    Attributes:
        low: At most 0.
        high: At least 0.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse a range no zero point could be found for."""
        if not self.low <= 0 <= self.high:
            raise ValueError(f"a range must hold 0, got {self.low} to {self.high}")


def minmax(values: Histogram) -> Range:
    """Return the range from the smallest to the largest of ``values``."""
    return Range(min(values.low, 0.0), max(values.high, 0.0))


def percentile(values: Histogram, *, kept_ppm: int = 999_900) -> Range:
    """Return the range that holds ``kept_ppm`` millionths of ``values`` or more.

    Raises:
        ValueError: ``kept_ppm`` is not above 0 and at most a million.
    """
    if not 0 < kept_ppm <= _MILLION:
        raise ValueError(f"kept_ppm must be 1 to {_MILLION}, got {kept_ppm}")
    full, half = minmax(values), len(values.counts) // 2
    if not values.count:
        return full
    cut = values.count * (_MILLION - kept_ppm) // (2 * _MILLION)
    # The first bin from either side that may not be cut as a whole.
    first = int(np.searchsorted(np.cumsum(values.counts), cut, side="right"))
    last = int(np.searchsorted(np.cumsum(values.counts[::-1]), cut, side="right"))
    low, high = (first - half) * values.width, (half - last) * values.width
    return Range(min(max(low, full.low), 0.0), max(min(high, full.high), 0.0))


def entropy(values: Histogram) -> Range:
    """Return the range whose clipped magnitudes say most about those of ``values``."""
    full = minmax(values)
    negative, positive = _sides(values)
    magnitudes = negative + positive
    levels = _STEPS + 1 if full.low == 0 or full.high == 0 else (_STEPS + 1) // 2
    used = int(np.flatnonzero(magnitudes)[-1]) + 1 if magnitudes.any() else 0
    if used <= levels:
        return full
    stride = -(-(used - levels) // _THRESHOLDS)
    # From the widest: where two are equal, less is clipped.
    tried = range(used, levels - 1, -stride)
    lost = [divergence(magnitudes, kept, levels=levels) for kept in tried]
    end = tried[int(np.argmin(lost))] * values.width
    return Range(max(full.low, -end), min(full.high, end))


def divergence(counts: npt.NDArray[np.int64], kept: int, *, levels: int) -> float:
    """Return what clipping ``counts`` after ``kept`` bins and merging these loses, in nats.

    Args:
        counts: Of magnitudes, from zero; its last bin may be empty.
        kept: Bins that are not clipped, ``levels`` or more.
        levels: Into which they are merged; each is spread over its bins again, over
            those that hold something.
    """
    inside = counts[:kept].astype(np.float64)
    whole = inside.copy()
    whole[-1] += counts[kept:].sum()
    held = whole > 0
    level = np.arange(kept) * levels // kept
    sums = np.bincount(level, weights=inside, minlength=levels)
    shares = np.bincount(level, weights=held, minlength=levels)
    spread = (sums / np.maximum(shares, 1))[level][held]
    if not spread.all():
        return float("inf")  # something was clipped to where nothing is
    p, q = whole[held] / whole.sum(), spread / spread.sum()
    return float(np.sum(p * np.log(p / q)))


def mse(values: Histogram) -> Range:
    """Return the range of the least expected squared error, of all pairs that are tried."""
    full = minmax(values)
    if not values.count or full.low == full.high:
        return full
    width, (negative, positive) = values.width, _sides(values)
    # In bins rather than values: whole numbers, whatever the scale.
    below = _Tail.of(negative, -full.low / width)
    above = _Tail.of(positive, full.high / width)
    step = (below.ends[:, None] + above.ends[None, :]) / _STEPS
    rounded = values.count - values.zeros - below.clipped[:, None] - above.clipped[None, :]
    error = rounded * step**2 / 12 + below.error[:, None] + above.error[None, :]
    i, j = np.unravel_index(int(np.argmin(error)), error.shape)
    low = full.low if i == 0 else -float(below.ends[i]) * width
    high = full.high if j == 0 else float(above.ends[j]) * width
    return Range(low, high)


def _sides(values: Histogram) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the counts below and above zero, each from zero outwards, without zeros."""
    half = len(values.counts) // 2
    positive = values.counts[half:].copy()
    positive[0] -= values.zeros
    return values.counts[half - 1 :: -1], positive


@dataclass(frozen=True, slots=True, eq=False)
class _Tail:
    """One side of zero, by where the range might end there.

    Attributes:
        ends: Distances from zero in bins, the whole side first, then downwards to 0.
        clipped: How many values lie beyond each.
        error: Sum of their squared distances from it, in bins, even within a bin.
    """

    ends: npt.NDArray[np.float64]
    clipped: npt.NDArray[np.int64]
    error: npt.NDArray[np.float64]

    @classmethod
    def of(cls, counts: npt.NDArray[np.int64], end: float) -> "_Tail":
        """Return the side whose bins, from zero outwards, are ``counts``."""
        used = int(np.ceil(end))
        stride = max(1, -(-used // _THRESHOLDS))
        ends = np.arange(0, used, stride)[::-1]
        middle = np.arange(len(counts)) + 0.5
        moments = [
            np.concatenate((np.cumsum((counts * middle**power)[::-1])[::-1], [0.0]))[ends]
            for power in range(3)
        ]
        error = moments[2] - 2 * ends * moments[1] + moments[0] * (ends**2 + 1 / 12)
        return cls(
            np.concatenate(([end], ends)),
            np.concatenate(([0], moments[0])).astype(np.int64),
            np.concatenate(([0.0], error)),
        )


Chooser = Callable[[Histogram], Range]

# As the row of the table lists them.
CHOOSERS: Mapping[str, Chooser] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}
