"""The statistics behind every verdict, in pure Python.

Paired loss: ``lost`` samples only the reference answers rightly, ``gained``
only the candidate, out of ``n``; the loss is ``(lost - gained) / n``. Its
one-sided bounds are Tango's score bounds. Towards the side the estimate is on they
are never tighter than the exact binomial bound on the net loss, which takes over
when hardly any sample differs (Tango alone says 2.9 % for 0 of 90 where the exact
answer is 3.3 %); towards the other side one differing sample is not counted.
Summed over every outcome, a 95 % bound holds at least 94.5 % of the time from 20
samples on where up to a fifth of them differ, and about 94 % of the time elsewhere
(tests/core/test_stats.py).

Retention: candidate over reference accuracy, ``1 + (gained - lost) / right`` where
``right`` samples are answered rightly by the reference; what neither answers rightly
says nothing of it. Its bound is the floor ``f`` that the score statistic

    (right - lost + gained - f right) / sqrt(f (L + G))

just rejects, with ``L + G = (1 - f) N + (1 + f) G`` of the ``N = right + gained``, and
``G`` their most likely number under ``f``: the positive root of

    f (1 + f) G^2 + ((1 - f^2) both - f^2 lost + (1 - 2 f^2) gained) G = gained f (1 - f) N

where ``both = right - lost``. It is tamed as the loss is, by the exact bound on the net
loss among ``right`` and by one differing sample given to both; as a score bound is not
exact it is asked for a fifth less error, and then a 95 % bound holds at least 95 % of
the time (same place).

Sources: C. J. Clopper and E. S. Pearson, Biometrika 26 (1934); T. Tango,
Statistics in Medicine 17 (1998), equation 8; J. Nam and W. C. Blackwelder,
Statistics in Medicine 21 (2002), for the score of a ratio, its nuisance solved here for
``G``; S. Holm, Scand. J. Statist. 6 (1979); the continued fraction of the incomplete
beta function as in DLMF 8.17.22.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, exp, floor, inf, lgamma, log, log1p, sqrt
from statistics import NormalDist

_TINY = 1e-300
_SCORE_ERROR = 0.8  # of the error allowed, for the score bound on retention
_STEPS = 60  # bisection: 2**-60 is below the spacing of doubles in [0, 1]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its one-sided bounds."""

    low: float
    estimate: float
    high: float


def binomial_upper(hits: int, n: int, *, confidence: float = 0.95) -> float:
    """Return the exact one-sided upper bound on a probability (Clopper-Pearson)."""
    _check_counts(hits, n)
    if hits == n:
        return 1.0
    return _bisect(lambda p: _incomplete_beta(hits + 1, n - hits, p) >= confidence)


def binomial_lower(hits: int, n: int, *, confidence: float = 0.95) -> float:
    """Return the exact one-sided lower bound on a probability (Clopper-Pearson)."""
    return 1.0 - binomial_upper(n - hits, n, confidence=confidence)


def paired_loss(lost: int, gained: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Return the loss of a candidate against a reference with one-sided bounds.

    Args:
        lost: Samples only the reference answers rightly.
        gained: Samples only the candidate answers rightly.
        n: All samples, >= lost + gained and >= 1.
        confidence: Of each bound alone.
    """
    _check_counts(lost + gained, n)
    return Interval(
        low=-_loss_upper(gained, lost, n, confidence),
        estimate=(lost - gained) / n,
        high=_loss_upper(lost, gained, n, confidence),
    )


def samples_needed(lost: int, gained: int, n: int, limit: float) -> int | None:
    """Return how many samples would decide ``loss <= limit`` if the rates stay.

    None when no number would: the estimate is not below the limit, or the limit
    is 0, which a bound on what was not seen never reaches. Grown by doubling,
    then halved back.
    """
    if limit <= 0 or (lost - gained) / n >= limit:
        return None

    def passes(total: int) -> bool:
        scale = total / n
        return _loss_upper(ceil(lost * scale), floor(gained * scale), total, 0.95) <= limit

    return _fewest(n, passes)


def retention(right: int, lost: int, gained: int, *, confidence: float = 0.95) -> Interval:
    """Return candidate over reference accuracy with one-sided bounds.

    Args:
        right: Samples the reference answers rightly, >= 1.
        lost: Of those, what the candidate does not.
        gained: Samples only the candidate answers rightly.
        confidence: Of each bound alone.
    """
    _check_counts(lost, right)
    kept = right - lost + gained
    # Turned round it is the reference over the candidate.
    return Interval(
        low=_retention_lower(right, lost, gained, confidence),
        estimate=kept / right,
        high=1 / _retention_lower(kept, gained, lost, confidence),
    )


def retention_samples_needed(
    right: int, lost: int, gained: int, n: int, at_least: float
) -> int | None:
    """Return how many samples would decide ``retention >= at_least`` if the rates stay.

    None when no number would: the estimate is not above it.
    """
    if (right - lost + gained) / right <= at_least:
        return None

    def passes(total: int) -> bool:
        scale = total / n
        gone = ceil(lost * scale)
        held = max(floor(right * scale), gone, 1)
        return _retention_lower(held, gone, floor(gained * scale), 0.95) >= at_least

    return _fewest(n, passes)


def paired_p_value(lost: int, gained: int, n: int, limit: float) -> float:
    """Return the p-value against ``loss <= limit``: small when the loss is surely larger."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        confidence = (low + high) / 2
        over = -_loss_upper(gained, lost, n, confidence) > limit
        low, high = (confidence, high) if over else (low, confidence)
    return 1.0 - (low + high) / 2


def holm(p_values: Sequence[float], *, level: float = 0.05) -> list[bool]:
    """Return which hypotheses fall when many are tested at a joint ``level``."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected = [False] * len(p_values)
    for rank, index in enumerate(order):
        if p_values[index] > level / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


def quantile(values: Sequence[float], q: float) -> float:
    """Return the ``q`` quantile, linear between order statistics (Hyndman-Fan type 7).

    Raises:
        ValueError: No values, or ``q`` outside [0, 1].
    """
    if not values or not 0 <= q <= 1:
        raise ValueError(f"need values and 0 <= q <= 1, got {len(values)} values, q={q}")
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def quantile_interval(
    values: Sequence[float], q: float, *, confidence: float = 0.95
) -> Interval:
    """Return a quantile with distribution-free one-sided bounds from order statistics.

    The rank of a quantile is binomial; its normal approximation is used, and a
    bound beyond the data is the extreme value seen.

    Raises:
        ValueError: No values, or ``q`` outside [0, 1].
    """
    estimate = quantile(values, q)
    ordered = sorted(values)
    spread = NormalDist().inv_cdf(confidence) * sqrt(len(ordered) * q * (1 - q))
    low = max(0, floor(len(ordered) * q - spread) - 1)
    high = min(len(ordered) - 1, ceil(len(ordered) * q + spread))
    return Interval(ordered[low], estimate, ordered[high])


def _loss_upper(lost: int, gained: int, n: int, confidence: float) -> float:
    if lost < gained:
        # The exact bound says nothing here, and Tango's alone would hold in as few
        # as 92 % of samples; with one gained sample not counted it holds in 95 %.
        return _tango_upper(lost, gained - 1, n, confidence)
    exact = binomial_upper(lost - gained, n, confidence=confidence)
    return max(exact, _tango_upper(lost, gained, n, confidence))


def _retention_lower(right: int, lost: int, gained: int, confidence: float) -> float:
    exact = inf
    if lost < gained:
        # As with the loss; both models are given the sample.
        right, gained = right + 1, gained - 1
    else:
        exact = 1.0 - binomial_upper(lost - gained, right, confidence=confidence)
    z = NormalDist().inv_cdf(1 - _SCORE_ERROR * (1 - confidence))
    low, high = 0.0, (right - lost + gained) / right
    for _ in range(_STEPS):
        middle = (low + high) / 2
        score = _ratio_score(right, lost, gained, middle)
        low, high = (middle, high) if score >= z else (low, middle)
    return min(exact, low)


def _ratio_score(right: int, lost: int, gained: int, ratio: float) -> float:
    """Return how far above ``ratio`` what was retained lies, in standard deviations."""
    if ratio > 1:
        return -_ratio_score(right - lost + gained, gained, lost, 1 / ratio)
    square, seen = ratio * ratio, right + gained
    linear = (1 - square) * (right - lost) - square * lost + (1 - 2 * square) * gained
    constant = gained * ratio * (1 - ratio) * seen
    root = sqrt(linear * linear + 4 * ratio * (1 + ratio) * constant)
    nuisance = (root - linear) / max(2 * ratio * (1 + ratio), _TINY)
    variance = ratio * ((1 - ratio) * seen + (1 + ratio) * nuisance)
    return (right - lost + gained - ratio * right) / sqrt(max(variance, _TINY))


def _fewest(n: int, passes: Callable[[int], bool]) -> int | None:
    """Return about the smallest number from ``n`` on that passes; None beyond 10^9."""
    high = n
    while not passes(high):
        high *= 2
        if high > 10**9:
            return None
    low = high // 2
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def _tango_upper(lost: int, gained: int, n: int, confidence: float) -> float:
    z = NormalDist().inv_cdf(min(max(confidence, 1e-12), 1 - 1e-12))

    def score(loss: float) -> float:
        linear = -lost - gained + (2 * n - lost + gained) * loss
        constant = -gained * loss * (1 - loss)
        root = sqrt(max(linear * linear - 8 * n * constant, 0.0))
        nuisance = (root - linear) / (4 * n)
        variance = n * (2 * nuisance + loss * (1 - loss))
        return (lost - gained - n * loss) / sqrt(max(variance, _TINY))

    low, high = (lost - gained) / n, 1.0
    if z < 0:
        low, high = -1.0, low
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if score(middle) > -z else (low, middle)
    return high


def _bisect(reached: "Callable[[float], bool]") -> float:
    """Return the smallest point of [0, 1] where a rising condition holds."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b) for a, b >= 1."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(b, a, 1.0 - x)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x))
    c, d = 1.0, 1.0 / _nonzero(1.0 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = fraction
        for term in (even, odd):
            d = 1.0 / _nonzero(1.0 + term * d)
            c = _nonzero(1.0 + term / c)
            fraction *= c * d
        if abs(fraction - before) < 1e-15 * abs(fraction):
            break
    return front * fraction / a


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _check_counts(hits: int, n: int) -> None:
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"need 0 <= hits <= n and n >= 1, got {hits} of {n}")
