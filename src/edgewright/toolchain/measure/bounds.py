"""Bounds on what a candidate loses by scores, where samples are not right or wrong.

Two kinds, both one-sided, 95 %, and never surer than so many samples can make it:

- **paired**: every sample has a score from 0 to 1, and the loss is the mean of the
  differences. Its bounds are those of a gambler who bets, sample after sample, that the
  mean is elsewhere and may not win twenty times the stake: valid for any distribution,
  and narrow where the differences hardly vary.
  Source: I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by
  betting", Journal of the Royal Statistical Society B 86 (2024), theorem 3.
- **pooled**: a score of all samples together (an area, a mean over classes). Both models
  are scored on the same resamples, and the bounds are quantiles of the differences.
  Source: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap" (1993), ch. 13.
  What no sample shows no resample shows either, so that the bounds are at least as far
  from the estimate as the exact bound on an event that did not happen in ``n`` samples.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgewright.core.stats import Interval, binomial_upper

Scores = npt.NDArray[np.float64]

_ERROR = 0.05
# How much of the stake is risked at most: the rest survives the worst sample.
_RISK = 0.9
_GRID = 256
_CHUNK = 64
RESAMPLES = 999
_SEED = 20_240_229


def paired(reference: Scores, candidate: Scores) -> Interval:
    """Return the mean of ``reference - candidate`` with its bounds.

    Args:
        reference: The score of each sample, 0 to 1.
        candidate: The same of the candidate.
    """
    difference = np.asarray(reference - candidate, np.float64)
    # Samples often come class by class; a bet must not be able to rely on that.
    order = np.random.default_rng(_SEED).permutation(len(difference))
    share = (difference[order] + 1) / 2
    estimate = float(difference.mean())
    high = 2 * _upper(share) - 1
    low = 1 - 2 * _upper(1 - share)
    return Interval(min(low, estimate), estimate, max(high, estimate))


def pooled(
    reference: Callable[[Scores], float],
    candidate: Callable[[Scores], float],
    n: int,
    *,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return ``reference - candidate`` with its bounds.

    Args:
        reference: The score of samples that count so often, ``(n,)``, as many in all.
        candidate: The same of the candidate.
        n: How many samples there are.
        resamples: How many are drawn.
    """
    once = np.ones(n)
    estimate = reference(once) - candidate(once)
    rng = np.random.default_rng(_SEED)
    losses = []
    for _ in range(resamples):
        weights = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        loss = reference(weights) - candidate(weights)
        # A resample without any sample of a class has no score, and says nothing.
        if np.isfinite(loss):
            losses.append(loss)
    unseen = binomial_upper(0, n)
    if not losses:
        return Interval(estimate - 1, estimate, estimate + 1)
    low, high = np.quantile(losses, [_ERROR, 1 - _ERROR])
    return Interval(min(low, estimate - unseen), estimate, max(high, estimate + unseen))


def _upper(values: Scores) -> float:
    """Return the upper bound on the mean of values between 0 and 1."""
    stakes = _stakes(values)
    low, high = float(values.mean()), 1.0
    # Twice a grid: the second inside the step of the first where the bet stops paying.
    for _ in range(2):
        grid = np.linspace(low, high, _GRID)
        held = np.flatnonzero(_best(values, stakes, grid) < np.log(1 / _ERROR))
        last = int(held[-1]) if len(held) else 0
        low, high = grid[last], grid[min(last + 1, _GRID - 1)]
    return float(high)


def _best(values: Scores, stakes: Scores, grid: Scores) -> Scores:
    """Return the logarithm of the most a bet against each mean of ``grid`` ever had."""
    found = []
    for start in range(0, len(grid), _CHUNK):
        means = grid[start : start + _CHUNK, None]
        stake = np.minimum(stakes, _RISK / np.maximum(1 - means, 1e-9))
        gains = np.log1p(stake * (means - values))
        found.append(np.maximum.accumulate(np.cumsum(gains, axis=1), axis=1)[:, -1])
    return np.concatenate(found)


def _stakes(values: Scores) -> Scores:
    """Return what is bet on each value, by those before it alone."""
    n = len(values)
    counts = np.arange(1, n + 1)
    means = (0.5 + np.cumsum(values)) / (counts + 1)
    spread = (0.25 + np.cumsum(np.square(values - means))) / (counts + 1)
    before = np.concatenate([[0.25], spread[:-1]])
    stakes: Scores = np.sqrt(2 * np.log(1 / _ERROR) / (n * before))
    return stakes
