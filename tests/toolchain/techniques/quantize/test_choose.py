"""choose: what holds for every chooser, then each against its definition."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgewright.toolchain.techniques import TECHNIQUES
from edgewright.toolchain.techniques.quantize import choose
from edgewright.toolchain.techniques.quantize.choose import CHOOSERS, Range
from edgewright.toolchain.techniques.quantize.histogram import Histogram

VALUES = hnp.arrays(
    np.float32,
    st.integers(1, 60),
    elements=st.one_of(
        st.floats(-100, 100, width=32),
        st.floats(-1, 1, width=32),
        st.sampled_from([0.0, 1.0, -1.0]),
    ),
)
COUNTS = hnp.arrays(np.int64, st.integers(6, 24), elements=st.integers(0, 9))


@pytest.mark.parametrize("name", CHOOSERS)
@settings(max_examples=40)
@given(values=VALUES)
def test_a_range_holds_zero_and_ends_within_the_extremes(name, values):
    """Zero is exact, and no step is spent where nothing was seen."""
    found = CHOOSERS[name](Histogram.of(values, bins=1024))

    assert min(0.0, values.min()) <= found.low <= 0 <= found.high <= max(0.0, values.max())
    assert found.low < found.high or not values.any()


@pytest.mark.parametrize("name", CHOOSERS)
@settings(max_examples=40)
@given(values=VALUES, power=st.integers(-6, 6))
def test_a_range_scales_with_the_values(name, values, power):
    """Other units, the same choice."""
    values = values[(np.abs(values) > 1e-20) | (values == 0)]

    plain = CHOOSERS[name](Histogram.of(values, bins=1024))
    scaled = CHOOSERS[name](Histogram.of(np.ldexp(values, power), bins=1024))

    assert scaled == Range(math.ldexp(plain.low, power), math.ldexp(plain.high, power))


@pytest.mark.parametrize("name", CHOOSERS)
@settings(max_examples=40)
@given(values=VALUES)
def test_the_same_values_in_batches_give_the_same_range(name, values):
    """To the last bit."""
    whole = Histogram.of(values, bins=1024)
    parts = Histogram.of(values[1::2], bins=1024).merge(Histogram.of(values[::2], bins=1024))

    assert CHOOSERS[name](parts) == CHOOSERS[name](whole)


@pytest.mark.parametrize("name", CHOOSERS)
@pytest.mark.parametrize(
    "values", [[], [0, 0, 0], [3], [-3] * 9, [7, 7], [1e-30], [3e38, -3e38]], ids=str
)
def test_next_to_nothing_is_the_whole_range(name, values):
    """A constant, a single value, none: nothing to clip and nothing that fails."""
    found = CHOOSERS[name](Histogram.of(np.array(values, np.float32)))

    low, high = np.float32([min([0, *values]), max([0, *values])])
    # The least squared error of a single value is within the last of the bins.
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-2, abs=0)


@given(values=VALUES, kept_ppm=st.integers(1, 1_000_000))
def test_percentile_keeps_at_least_its_share(values, kept_ppm):
    """Not more is clipped than was allowed, on neither side."""
    found = choose.percentile(Histogram.of(values, bins=64), kept_ppm=kept_ppm)

    allowed = (1_000_000 - kept_ppm) / 2_000_000 * len(values)
    assert (values < found.low).sum() <= allowed
    assert (values > found.high).sum() <= allowed


def test_percentile_of_known_values():
    """Of 20000 even values and two outliers, 99.99 % leave one out on either side."""
    values = np.append(np.linspace(-1, 1, 20000), [-50, 50]).astype(np.float32)

    found = choose.percentile(Histogram.of(values))

    bin_width = 128 / 8192
    assert -1 - bin_width <= found.low <= -1
    assert 1 <= found.high <= 1 + bin_width


@pytest.mark.parametrize("kept_ppm", [0, 1_000_001])
def test_percentile_of_no_share_is_a_value_error(kept_ppm):
    """The caller's mistake."""
    with pytest.raises(ValueError, match="kept_ppm must be 1 to 1000000"):
        choose.percentile(Histogram.of(np.ones(3, np.float32)), kept_ppm=kept_ppm)


@given(counts=COUNTS, data=st.data(), levels=st.integers(2, 5))
def test_divergence_is_its_definition(counts, data, levels):
    """Loops over bins and levels, as the slides tell it, give the same number."""
    kept = data.draw(st.integers(levels, len(counts)))
    counts[0] += 1

    found = choose.divergence(counts, kept, levels=levels)

    assert found == pytest.approx(told_in_loops(counts.tolist(), kept, levels), abs=1e-12)


def test_divergence_of_known_counts():
    """Hand-worked: (1 3 | 2 2) in two levels loses log of 1/2 and 3/2 against even halves."""
    found = choose.divergence(np.array([1, 3, 2, 2]), 4, levels=2)

    assert found == pytest.approx(1 / 8 * math.log(1 / 2) + 3 / 8 * math.log(3 / 2))


def test_entropy_takes_the_least_divergence():
    """Of all thresholds, and of equal ones the widest."""
    draw = np.random.default_rng(2)
    values = np.append(draw.normal(size=20000), draw.normal(size=40) * 8).astype(np.float32)
    seen = Histogram.of(values, bins=1024)

    found = choose.entropy(seen)

    magnitudes = np.histogram(np.abs(values), np.arange(513) * seen.width)[0].tolist()
    used = max(i for i, n in enumerate(magnitudes) if n) + 1
    lost = {kept: told_in_loops(magnitudes, kept, 128) for kept in range(128, used + 1)}
    best = max(kept for kept in lost if lost[kept] <= min(lost.values()) + 1e-12)
    assert found.high == min(best * seen.width, float(values.max()))
    assert found.high < 0.7 * values.max()


def test_entropy_clips_an_outlier_that_ruins_the_quantizers_own():
    """A bulk and one value far away, where numpy's histogram has too many bins."""
    values = np.append(np.random.default_rng(1).normal(size=5000) * 1e-3, 1e4)

    found = choose.entropy(Histogram.of(values.astype(np.float32)))

    assert 0 < found.high <= 1e4


@given(values=VALUES)
def test_mse_is_the_least_of_all_pairs(values):
    """Loops over every pair of ends and every bin find nothing better."""
    seen = Histogram.of(values, bins=32)

    found = choose.mse(seen)

    edges = [(k - 16) * seen.width for k in range(33)]
    lows = [min(seen.low, 0.0), *(e for e in edges if seen.low < e <= 0)]
    highs = [max(seen.high, 0.0), *(e for e in edges if 0 <= e < seen.high)]
    least = min(expected_error(seen, *pair) for pair in product(lows, highs))
    assert expected_error(seen, found.low, found.high) == pytest.approx(least, abs=1e-9)


def test_mse_trades_an_outlier_for_finer_steps():
    """Its range has less true error than the whole one, measured by quantizing."""
    draw = np.random.default_rng(0)
    values = np.append(draw.normal(size=10**6), [300.0]).astype(np.float32)
    seen = Histogram.of(values)

    found, whole = choose.mse(seen), choose.minmax(seen)

    assert found.high < 150
    assert quantized_error(values, found) < 0.7 * quantized_error(values, whole)


def test_the_table_lists_the_choosers():
    """What a recipe may ask for is what there is, in the same order."""
    assert TECHNIQUES["quantize"].settings["ranges"] == tuple(CHOOSERS)


def test_a_range_without_zero_is_a_value_error():
    """There would be no zero point for it."""
    with pytest.raises(ValueError, match="must hold 0"):
        Range(1.0, 2.0)


def told_in_loops(counts, kept, levels):
    """Clip after ``kept`` bins, merge into levels, spread again, and compare."""
    p = [*counts[: kept - 1], counts[kept - 1] + sum(counts[kept:])]
    q = [0.0] * kept
    for level in range(levels):
        members = [i for i in range(kept) if i * levels // kept == level]
        filled = [i for i in members if p[i] > 0]
        for i in filled:
            q[i] = sum(counts[j] for j in members) / len(filled)
    if any(a > 0 and b == 0 for a, b in zip(p, q, strict=True)):
        return math.inf
    return sum(
        a / sum(p) * math.log((a / sum(p)) / (b / sum(q)))
        for a, b in zip(p, q, strict=True)
        if a > 0
    )


def expected_error(seen, low, high):
    """Sum over bins: the spread within a clipped one counts, zeros never do."""
    half, total = len(seen.counts) // 2, 0.0
    counts = seen.counts.tolist()
    counts[half] -= seen.zeros
    for index, count in enumerate(counts):
        middle = (index - half + 0.5) * seen.width
        if middle > high and high < seen.high:
            total += count * ((middle - high) ** 2 + seen.width**2 / 12)
        elif middle < low and low > seen.low:
            total += count * ((middle - low) ** 2 + seen.width**2 / 12)
        else:
            total += count * ((high - low) / 255) ** 2 / 12
    return total / seen.width**2


def quantized_error(values, found):
    """Quantize to 8 bits and back."""
    scale = (found.high - found.low) / 255
    zero = round(-found.low / scale)
    back = (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale
    return float(((back - values) ** 2).mean())
