"""Weights as small symmetric integers, one scale a row or a block.

For each group of weights that share a scale::

    scale = max |w| / qmax        q = round_half_even(w / scale)        real = q * scale

with the narrow range [-qmax, qmax], qmax = 2**(bits - 1) - 1, so that no weight moves by
more than half a step. With three values or two, steps are that large that the least
squared error is wanted instead: of all k the k largest magnitudes are kept, with their
mean as scale, that leave least; or all of them, with their signs.

Sources: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, section 2.1; F. Li et al., "Ternary Weight
Networks", 2016, whose optimum is found exactly here; M. Rastegari et al., "XNOR-Net",
ECCV 2016, equation 6.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

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


Coder = Callable[[npt.NDArray[np.float32], int | None], Codes]


def integers(bits: int) -> Coder:
    """Return what makes codes of 2 to 8 ``bits``."""
    return partial(along, bits=bits)


def by_channel(
    weight: npt.NDArray[np.float32], how: int | Coder, channel: int | None = None
) -> Codes:
    """Return ``weight`` with one scale per slice along the axis of its channels.

    Where that is not known, or a slice would have too few weights, it is the axis with
    the finest steps. The smallest geometric mean finds it, also where several operators
    read one weight, and a channel counts the same whether its weights are large or small.
    Without an axis that has enough weights a slice, one scale serves all.

    Args:
        weight: float32, finite, any rank.
        how: Bits, 2 to 8, or what makes codes along an axis, or with one scale for None.
        channel: The axis of what a layer puts out.
    """
    coder = integers(how) if isinstance(how, int) else how
    axes = [a for a, size in enumerate(weight.shape) if weight.size >= _LEAST_SHARED * size]
    if channel in axes:
        return coder(weight, channel)
    tried = [coder(weight, axis) for axis in axes] or [coder(weight, None)]
    return min(tried, key=_coarseness)


def by_block(weight: npt.NDArray[np.float32], coder: Coder, size: int) -> Codes:
    """Return ``weight`` with one scale per ``size`` weights that follow each other.

    Args:
        weight: float32, finite; its number of weights is a multiple of ``size``.
        coder: What makes codes along an axis.
        size: Weights a block.

    Raises:
        ValueError: The weights do not fill the blocks (a caller's mistake).
    """
    if weight.size % size:
        raise ValueError(f"{weight.size} weights do not fill blocks of {size}")
    codes = coder(weight.reshape(-1, size), 0)
    return Codes(codes.values, codes.scale, weight.shape)


def by_input_block(
    weight: npt.NDArray[np.float32], coder: Coder, size: int, *, transposed: bool
) -> Codes:
    """Return a matrix with one scale per ``size`` inputs of each output.

    The codes have the shape (blocks, size, outputs), transposed (outputs, blocks, size).

    Args:
        weight: float32, finite, (inputs, outputs), transposed the other way round.
        coder: What makes codes along an axis.
        size: Inputs a block; divides their number.
        transposed: Whether a row is an output.
    """
    if transposed:
        codes = by_block(weight, coder, size)
        rows = (weight.shape[0], -1)
        wide = codes.values.reshape(*rows, size)
        return Codes(wide, codes.scale.reshape(*rows, 1), weight.shape)
    turned = by_input_block(np.ascontiguousarray(weight.T), coder, size, transposed=True)
    values = np.ascontiguousarray(turned.values.transpose(1, 2, 0))
    scale = np.ascontiguousarray(turned.scale.transpose(1, 2, 0))
    return Codes(values, scale, weight.shape)


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


def ternary(weight: npt.NDArray[np.float32], axis: int | None) -> Codes:
    """Return ``weight`` as -1, 0 and 1, each slice with the scale that loses least."""
    rows, restore = _rows(weight, axis)
    sizes = np.sort(np.abs(rows), axis=1)[:, ::-1].astype(np.float64)
    sums = np.cumsum(sizes, axis=1)
    # With the k largest kept, what is lost is the sum of squares less (their sum)**2 / k.
    kept = np.argmax(sums**2 / np.arange(1, rows.shape[1] + 1), axis=1)
    scale = np.take_along_axis(sums, kept[:, None], axis=1) / (kept[:, None] + 1)
    return _of_least_error(rows, scale, restore, zero=True)


def binary(weight: npt.NDArray[np.float32], axis: int | None) -> Codes:
    """Return ``weight`` as -1 and 1, each slice with its mean magnitude."""
    rows, restore = _rows(weight, axis)
    scale = np.abs(rows).mean(axis=1, keepdims=True, dtype=np.float64)
    return _of_least_error(rows, scale, restore, zero=False)


CODERS: dict[str, Coder] = {
    "int8": integers(8),
    "int4": integers(4),
    "ternary": ternary,
    "binary": binary,
}

_Restore = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


def _rows(
    weight: npt.NDArray[np.float32], axis: int | None
) -> tuple[npt.NDArray[np.float32], _Restore]:
    """Return the slices as rows, and what puts rows, or a value for each, back."""
    first = weight[None] if axis is None else np.moveaxis(weight, axis, 0)
    shape, back = first.shape, 0 if axis is None else axis

    def restore(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        wide = values.reshape(shape[0], *(shape[1:] if values.shape[1] > 1 else ()))
        if values.shape[1] == 1:
            wide = wide.reshape(-1, *[1] * (len(shape) - 1))
        return wide[0] if axis is None else np.moveaxis(wide, 0, back)

    return first.reshape(shape[0], -1), restore


def _of_least_error(
    rows: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float64],
    restore: _Restore,
    *,
    zero: bool,
) -> Codes:
    scale = np.where(scale < np.finfo(np.float32).tiny, 1.0, scale)
    signs = np.where(rows < 0, -1, 1)
    values = np.where(np.abs(rows) < scale / 2, 0, signs) if zero else signs
    whole = np.ascontiguousarray(restore(values.astype(np.int8)))
    return Codes(whole, np.asarray(restore(scale), np.float32), whole.shape)


def _coarseness(codes: Codes) -> float:
    """Return the mean logarithm of the steps; a slice of zeros counts as the widest."""
    used = np.where(codes.scale == 1, codes.scale.max(), codes.scale)
    return float(np.log2(used.astype(np.float64)).mean())
