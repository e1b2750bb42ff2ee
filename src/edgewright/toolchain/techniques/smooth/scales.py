"""How far each channel of an activation is scaled down, and its weights up.

With m the largest magnitude of a channel of the activation, w that of the weights it
meets, and a strength a between 0 and 1::

    s = m**a / w**(1 - a)        x' = x / s        W' = s * W

scaled so that the mean logarithm of s is 0. The strength is the one that leaves the least
expected squared error of the product, when the activation has one scale and the weights
one for each output, of steps d that round by d**2 / 12 in the mean::

    error = dx**2 / 12 * sum(W'**2) + sum(mean x'**2) * sum(dw**2) / 12

All s of a family differ by a power of m * w, so smoothing what is smooth finds s = 1.

Source: G. Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization
for Large Language Models", ICML 2023, equation 4; there the strength is found by trying.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

STRENGTHS = tuple(np.round(np.arange(0.3, 1.01, 0.05), 2).tolist())

_STEPS = 127
# Weights that are scaled at a time: only memory.
_SLICE = 1 << 20
_Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the channels of an activation held, all of shape (C,).

    Attributes:
        largest: The largest magnitudes.
        squares: Sums of squares.
        count: Values a channel.
    """

    largest: _Doubles
    squares: _Doubles
    count: int

    @classmethod
    def of(cls, values: npt.NDArray[np.float32]) -> "Seen":
        """Return what the channels of ``values`` hold, which are its last dimension."""
        rows = values.reshape(-1, values.shape[-1])
        largest = np.abs(rows).max(axis=0, initial=0.0).astype(np.float64)
        return cls(largest, np.square(rows, dtype=np.float64).sum(axis=0), len(rows))

    def merge(self, other: "Seen") -> "Seen":
        """Return what both held together."""
        return Seen(
            np.maximum(self.largest, other.largest),
            self.squares + other.squares,
            self.count + other.count,
        )


def scales(seen: Seen, weight: npt.NDArray[np.float32], strength: float) -> _Doubles:
    """Return s, shape (C,), for ``weight`` of shape (C, outputs).

    A channel that was always zero, or whose weights are, stays as it is.
    """
    ends = weight.max(axis=1, initial=0.0), -weight.min(axis=1, initial=0.0)
    widest = np.maximum(*ends).astype(np.float64)
    live = (seen.largest > 0) & (widest > 0)
    found = np.ones(len(widest))
    if live.any():
        logs = strength * np.log(seen.largest[live])
        logs -= (1 - strength) * np.log(widest[live])
        found[live] = np.exp(logs - logs.mean())
    return found


def error(seen: Seen, weight: npt.NDArray[np.float32], scale: _Doubles) -> float:
    """Return the expected squared error of the product, all its outputs together."""
    step = (seen.largest / scale).max(initial=0.0) / _STEPS
    power = (seen.squares / scale**2).sum() / max(seen.count, 1)
    wide = max(1, _SLICE // max(1, len(weight)))
    squares = widest = 0.0
    for start in range(0, weight.shape[1], wide):
        scaled = weight[:, start : start + wide] * scale[:, None]
        squares += np.square(scaled).sum()
        widest += np.square(np.abs(scaled).max(axis=0, initial=0.0) / _STEPS).sum()
    return float(step**2 * squares + power * widest) / 12


def choose(
    seen: Seen, weight: npt.NDArray[np.float32], strength: float | None
) -> tuple[_Doubles, float]:
    """Return s, and by what factor it makes the error smaller.

    Args:
        seen: What the activation held.
        weight: Shape (C, outputs): of all products that read it, side by side.
        strength: Of ``scales``; None for the best of ``STRENGTHS``.
    """
    before = error(seen, weight, np.ones(len(weight)))
    tried = [scales(seen, weight, a) for a in (STRENGTHS if strength is None else [strength])]
    errors = [error(seen, weight, scale) for scale in tried]
    best = int(np.argmin(errors))
    return tried[best], before / errors[best] if errors[best] else 1.0
