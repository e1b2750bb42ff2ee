"""Histogram: a function of the values alone, exact in what it keeps."""

from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgewright.toolchain.techniques.quantize.histogram import Histogram

BINS = 16

VALUES = hnp.arrays(
    np.float32,
    st.integers(0, 40),
    elements=st.one_of(
        st.floats(width=32, allow_nan=False, allow_infinity=False),
        st.floats(-4, 4, width=32),
        st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 65504.0]),
    ),
)


def same(one, other):
    """Return whether two histograms hold the same."""
    fields = ("count", "zeros", "low", "high", "exponent")
    return all(getattr(one, f) == getattr(other, f) for f in fields) and np.array_equal(
        one.counts, other.counts
    )


def of(values):
    """Return the histogram of ``values`` in few bins."""
    return Histogram.of(np.asarray(values, np.float32), bins=BINS)


@given(values=VALUES, data=st.data())
def test_batches_and_their_order_decide_nothing(values, data):
    """Cut anywhere, in any order: what is kept is that of all values at once."""
    order = data.draw(st.permutations(range(len(values))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))

    parts = np.split(values[list(order)], cuts)

    assert same(reduce(Histogram.merge, map(of, parts)), of(values))


@given(a=VALUES, b=VALUES, c=VALUES)
def test_merging_is_associative_and_commutes(a, b, c):
    """Whoever is merged first, and with whom."""
    a, b, c = of(a), of(b), of(c)

    assert same(a.merge(b).merge(c), a.merge(b.merge(c)))
    assert same(a.merge(b), b.merge(a))


@given(values=VALUES)
def test_every_value_is_in_the_bin_that_holds_it(values):
    """The counts are those of the edges, by exact arithmetic."""
    found = of(values)

    assert found.counts.sum() == found.count == len(values)
    edges = (np.arange(BINS + 1) - BINS // 2) * found.width
    wide = values.astype(np.float64)
    expected = [int(((wide >= low) & (wide < high)).sum()) for low, high in pairwise(edges)]
    assert found.counts.tolist() == expected
    assert found.zeros == int((values == 0).sum())


@given(values=VALUES, power=st.integers(-8, 8))
def test_a_scale_moves_only_the_exponent(values, power):
    """Twice the values are the same counts over twice the range."""
    values = values[(np.abs(values) < 1e30) & ((np.abs(values) > 1e-20) | (values == 0))]

    plain, scaled = of(values), of(np.ldexp(values, power))

    np.testing.assert_array_equal(scaled.counts, plain.counts)
    if values.any():
        assert scaled.exponent == plain.exponent + power


def test_zeros_take_no_range():
    """A batch of zeros alone leaves the bins of all others as fine as they were."""
    found = of([0.25]).merge(of([0.0, -0.0]))

    assert same(found, of([0.25, 0.0, 0.0]))
    assert found.exponent == -1


def test_known_counts():
    """Hand-worked: [-2, 2) in 16 bins of 0.25, then doubled by a 3."""
    first = of([-1.0, -0.01, 0.0, 0.2, 1.75])

    assert (first.exponent, first.width, first.zeros) == (1, 0.25, 1)
    assert first.counts.tolist() == [0, 0, 0, 0, 1, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 1]

    second = first.merge(of([3.0]))

    assert (second.exponent, second.low, second.high) == (2, -1.0, 3.0)
    assert second.counts.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 1, 0, 0, 1, 0]


def test_no_bins_keep_the_extremes():
    """Where the extremes are enough, nothing else is kept."""
    found = Histogram.of(np.array([-1.5, 2.5], np.float32), bins=0)

    assert (found.low, found.high, found.count, len(found.counts)) == (-1.5, 2.5, 2, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_a_value_error(bad):
    """It would have no bin."""
    with pytest.raises(ValueError, match="must be finite"):
        of([1.0, bad])


@pytest.mark.parametrize("bins", [-2, 2, 12])
def test_bins_that_cannot_be_halved_are_a_value_error(bins):
    """Pairs have to become one, again and again."""
    with pytest.raises(ValueError, match="power of two"):
        Histogram.of(np.zeros(3, np.float32), bins=bins)


def test_different_bins_do_not_merge():
    """It would be a guess."""
    with pytest.raises(ValueError, match="16 bins cannot meet 8"):
        of([1.0]).merge(Histogram.of(np.ones(1, np.float32), bins=8))
