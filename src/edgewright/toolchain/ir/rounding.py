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

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

# Of the mean moment, added to all: inputs that never vary have no inverse.
_DAMPING = 0.01
# Inputs rounded before what they lost reaches those beyond the block: only time.
_BLOCK = 64


def nearest(weight: Doubles, scale: Doubles, qmax: int) -> Doubles:
    """Return codes within [-qmax, qmax], each the nearest to its weight.

    With a ``qmax`` of 0 there are two codes, -1 and 1.
    """
    if not qmax:
        return np.where(weight < 0, -1.0, 1.0)
    return np.clip(np.rint(weight / scale), -qmax, qmax)


def lost(weight: Doubles, codes: Doubles, scale: Doubles, moment: Doubles) -> Doubles:
    """Return the error of each output, shape (groups, outputs).

    Args:
        weight: Shape (groups, inputs, outputs).
        codes: Of the same shape.
        scale: Broadcasts over them.
        moment: H, shape (groups, inputs, inputs).
    """
    gone = weight - codes * scale
    found: Doubles = np.einsum("gio,gio->go", gone, moment @ gone)
    return found


def learned(weight: Doubles, scale: Doubles, moment: Doubles, qmax: int) -> Doubles:
    """Return codes within [-qmax, qmax] that lose less than ``nearest`` does, or as much.

    Args: as those of ``lost``.
    """
    scale = np.broadcast_to(scale, weight.shape)
    plain = nearest(weight, scale, qmax)
    groups, inputs, _ = weight.shape
    power = np.diagonal(moment, axis1=1, axis2=2)
    order = np.argsort(-power, axis=1, kind="stable")
    group = np.arange(groups)[:, None]
    sorted_moment = moment[group[:, :, None], order[:, :, None], order[:, None, :]]
    damping = _DAMPING * power.mean(axis=1) + np.finfo(np.float64).tiny
    damped = sorted_moment + damping[:, None, None] * np.eye(inputs)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
    codes = np.empty_like(plain)
    codes[group, order] = _compensated(weight[group, order], scale[group, order], upper, qmax)
    worse = lost(weight, codes, scale, moment) > lost(weight, plain, scale, moment)
    found: Doubles = np.where(worse[:, None, :], plain, codes)
    return found


def _compensated(weight: Doubles, scale: Doubles, upper: Doubles, qmax: int) -> Doubles:
    """Round input after input; ``upper`` is the Cholesky factor of the inverse of H."""
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
        left[:, end:] -= upper[:, start:end, end:].transpose(0, 2, 1) @ owed
    return codes
