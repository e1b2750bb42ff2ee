"""Round weights so that the layer's answers move least, not each weight.

What the answers on real inputs lose is a quadratic form of what the weights lose, with
the second moment of the inputs H, the mean of ``x x'``::

    error = sum over outputs of d' H d        d = weights - rounded weights

Inputs are rounded one after the other, those of the largest moment first, and what one
loses is made up by those still to come, as far as H allows. An output that came out worse
than rounded to the nearest keeps that, so the error is never larger.

Source: E. Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers", ICLR 2023, after B. Hassibi, D. Stork, "Optimal Brain Surgeon",
1993.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating]
Codes = npt.NDArray[np.int8]

# Of the mean moment, added to all: inputs that never vary have no inverse.
_DAMPING = 0.01
# Inputs rounded before what they lost reaches those beyond the block: only time.
_BLOCK = 64
# Of an array of doubles; outputs know nothing of each other and are done in slices.
_SLICE_BYTES = 16 << 20
_DOUBLE_BYTES = 8


def nearest(weight: Floats, scale: Floats, qmax: int) -> Doubles:
    """Return codes within [-qmax, qmax], each the nearest to its weight.

    With a ``qmax`` of 0 there are two codes, -1 and 1.
    """
    if not qmax:
        return np.where(weight < 0, -1.0, 1.0)
    return np.clip(np.rint(weight / scale), -qmax, qmax)


def lost(weight: Floats, codes: Doubles | Codes, scale: Floats, moment: Doubles) -> Doubles:
    """Return the error of each output, shape (groups, outputs).

    Args:
        weight: Shape (groups, inputs, outputs).
        codes: Of the same shape.
        scale: Broadcasts over them.
        moment: H, shape (groups, inputs, inputs).
    """
    scale = np.broadcast_to(scale, weight.shape)
    groups, _, outputs = weight.shape
    found = np.empty((groups, outputs))
    for part in _slices(weight.shape):
        found[:, part] = _lost(
            weight[:, :, part].astype(np.float64), codes[:, :, part], scale[:, :, part], moment
        )
    return found


def learned(weight: Floats, scale: Floats, moment: Doubles, qmax: int) -> Codes:
    """Return codes within [-qmax, qmax] that lose less than ``nearest`` does, or as much.

    Args: as those of ``lost``.
    """
    scale = np.broadcast_to(scale, weight.shape)
    power = np.diagonal(moment, axis1=1, axis2=2)
    order = np.argsort(-power, axis=1, kind="stable")
    group = np.arange(len(moment))[:, None]
    upper = _upper(moment, order)
    found = np.empty(weight.shape, np.int8)
    for part in _slices(weight.shape):
        some = weight[:, :, part].astype(np.float64)
        steps = scale[:, :, part].astype(np.float64)
        plain = nearest(some, steps, qmax)
        codes = np.empty_like(plain)
        codes[group, order] = _compensated(
            some[group, order], steps[group, order], upper, qmax
        )
        worse = _lost(some, codes, steps, moment) > _lost(some, plain, steps, moment)
        found[:, :, part] = np.where(worse[:, None, :], plain, codes)
    return found


def _slices(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield parts of the last axis of ``shape`` that are bounded in bytes."""
    *rest, outputs = shape
    wide = max(1, _SLICE_BYTES // (_DOUBLE_BYTES * max(1, int(np.prod(rest)))))
    return (slice(start, start + wide) for start in range(0, outputs, wide))


def _lost(weight: Doubles, codes: Doubles | Codes, scale: Floats, moment: Doubles) -> Doubles:
    gone: Doubles = weight - codes * scale.astype(np.float64)
    found: Doubles = np.einsum("gio,gio->go", gone, moment @ gone)
    return found


def _upper(moment: Doubles, order: npt.NDArray[np.intp]) -> Doubles:
    """Return U, upper triangular: U' U is the inverse of H, damped, its inputs in ``order``.

    Of H from behind, L L', it is the inverse of L from behind: no inverse of all of H is
    held, and the one that is takes the place of L.
    """
    group = np.arange(len(moment))[:, None]
    behind = order[:, ::-1]
    damped = moment[group[:, :, None], behind[:, :, None], behind[:, None, :]]
    inputs = np.arange(moment.shape[1])
    power = damped[:, inputs, inputs].mean(axis=1, keepdims=True)
    damped[:, inputs, inputs] += _DAMPING * power + np.finfo(np.float64).tiny
    lower = np.asarray(np.linalg.cholesky(damped), np.float64)
    del damped
    _invert(lower)
    return lower[:, ::-1, ::-1]


def _invert(lower: Doubles) -> None:
    """Put the inverses of lower triangular matrices in their places."""
    inputs = lower.shape[1]
    if inputs <= _BLOCK:
        lower[:] = np.tril(np.linalg.inv(lower))
        return
    half = inputs // 2
    first, last = lower[:, :half, :half], lower[:, half:, half:]
    _invert(first)
    _invert(last)
    corner = lower[:, half:, :half]
    corner[:] = -(last @ (corner @ first))


def _compensated(weight: Doubles, scale: Doubles, upper: Doubles, qmax: int) -> Doubles:
    """Round input after input; ``upper`` is what ``_upper`` returns."""
    left, codes = weight.copy(), np.empty_like(weight)
    inputs = weight.shape[1]
    for start in range(0, inputs, _BLOCK):
        end = min(start + _BLOCK, inputs)
        owed = np.empty_like(weight[:, start:end])
        for at in range(start, end):
            codes[:, at] = nearest(left[:, at], scale[:, at], qmax)
            gone = left[:, at] - codes[:, at] * scale[:, at]
            owed[:, at - start] = gone / upper[:, at, at, None]
            row = upper[:, at, at + 1 : end, None]
            left[:, at + 1 : end] -= row * owed[:, None, at - start]
        # In order: the factor is read from behind, which some products are slow at.
        rows = np.ascontiguousarray(upper[:, start:end, end:])
        left[:, end:] -= rows.transpose(0, 2, 1) @ owed
    return codes
