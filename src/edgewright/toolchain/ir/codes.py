"""Weights as small symmetric integers, one scale a row or a block.

For each group of weights that share a scale::

    scale = max |w| / qmax        q = round_half_even(w / scale)        real = q * scale

with the narrow range [-qmax, qmax], qmax = 2**(bits - 1) - 1, so that no weight moves by
more than half a step.

Source: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, section 2.1.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Fewer weights than this sharing a scale would spend too much on scales.
_LEAST_SHARED = 16


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """A weight tensor as integers.

    Attributes:
        values: int8, each within the narrow range; the weight's shape, or (blocks, size).
        scale: float32, broadcasts over ``values``; always > 0.
        shape: The weight's shape.
    """

    values: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]
    shape: tuple[int, ...]

    def real(self) -> npt.NDArray[np.float32]:
        """Return the float32 weight the device computes with."""
        wide = self.values.astype(np.float32) * self.scale
        return wide.reshape(self.shape)


def by_channel(
    weight: npt.NDArray[np.float32], bits: int, channel: int | None = None
) -> Codes:
    """Return ``weight`` with one scale per slice along the axis of its channels.

    Where that is not known, or a slice would have too few weights, it is the axis with
    the finest steps. The smallest geometric mean finds it, also where several operators
    read one weight, and a channel counts the same whether its weights are large or small.
    Without an axis that has enough weights a slice, one scale serves all.

    Args:
        weight: float32, finite, any rank.
        bits: 2 to 8.
        channel: The axis of what a layer puts out.
    """
    axes = [a for a, size in enumerate(weight.shape) if weight.size >= _LEAST_SHARED * size]
    if channel in axes:
        return along(weight, channel, bits)
    tried = [along(weight, axis, bits) for axis in axes] or [along(weight, None, bits)]
    return min(tried, key=_coarseness)


def by_block(weight: npt.NDArray[np.float32], bits: int, size: int) -> Codes:
    """Return ``weight`` with one scale per ``size`` weights that follow each other.

    Args:
        weight: float32, finite; its number of weights is a multiple of ``size``.
        bits: 2 to 8.
        size: Weights a block.

    Raises:
        ValueError: The weights do not fill the blocks (a caller's mistake).
    """
    if weight.size % size:
        raise ValueError(f"{weight.size} weights do not fill blocks of {size}")
    codes = along(weight.reshape(-1, size), 0, bits)
    return Codes(codes.values, codes.scale, weight.shape)


def along(weight: npt.NDArray[np.float32], axis: int | None, bits: int) -> Codes:
    """Return ``weight`` with one scale per slice along ``axis``, or one for all.

    Args:
        weight: float32, finite, any rank.
        axis: 0 or above, None for one scale.
        bits: 2 to 8.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be 2 to 8, got {bits}")
    qmax = 2 ** (bits - 1) - 1
    others = tuple(a for a in range(weight.ndim) if a != axis)
    largest = np.abs(weight).max(axis=others, initial=0.0, keepdims=True)
    scale = np.asarray(largest / qmax, np.float32)
    # A slice of zeros, or one whose scale would be subnormal, quantizes to zeros.
    scale = np.where(scale < np.finfo(np.float32).tiny, np.float32(1), scale)
    steps = np.clip(np.rint(weight / scale), -qmax, qmax)
    return Codes(steps.astype(np.int8), scale, weight.shape)


def _coarseness(codes: Codes) -> float:
    """Return the mean logarithm of the steps; a slice of zeros counts as the widest."""
    used = np.where(codes.scale == 1, codes.scale.max(), codes.scale)
    return float(np.log2(used.astype(np.float64)).mean())
