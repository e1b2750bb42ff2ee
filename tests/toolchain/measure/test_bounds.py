"""Bounds on a loss by scores: right 95 times in 100, and never surer than n samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.stats import binomial_upper
from edgewright.toolchain.measure import bounds


@given(st.integers(1, 400), st.integers(0, 9))
def test_bounds_lie_on_either_side(n, seed):
    """Of whatever scores."""
    one, other = np.random.default_rng(seed).uniform(size=(2, n))

    found = bounds.paired(one, other)

    assert -1 <= found.low <= found.estimate <= found.high <= 1


def test_no_difference_is_as_sure_as_so_many_samples():
    """About three in n, as for an event that did not happen in n samples."""
    for n in (50, 500, 5000):
        found = bounds.paired(np.ones(n), np.ones(n))

        assert 2 / n < found.high < 5 / n


def test_bounds_narrow_where_differences_hardly_vary():
    """A loss of 0.2 points in every one of 2000 samples is known to a quarter of a point."""
    rng = np.random.default_rng(0)

    found = bounds.paired(np.ones(2000), 0.998 + rng.uniform(-0.001, 0.001, 2000))

    assert found.estimate == pytest.approx(0.002, abs=1e-4)
    assert found.high < 0.0045


@pytest.mark.slow
def test_the_truth_is_missed_one_time_in_twenty_at_most():
    """With rare large losses, whose mean is hard to see."""
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(400):
        loss = np.where(rng.uniform(size=300) < 0.02, rng.uniform(0.2, 1, 300), 0.0)
        found = bounds.paired(np.ones(300), 1 - loss)
        missed += not found.high >= 0.02 * 0.6

    assert missed / 400 <= 0.05


@pytest.mark.slow
def test_resamples_miss_the_truth_hardly_more_often():
    """The mean as a pooled score: within the error of a bootstrap, 5 to 8 times in 100."""
    rng = np.random.default_rng(2)
    missed = 0
    for _ in range(300):
        one, other = rng.normal(0.9, 0.1, 200), rng.normal(0.88, 0.1, 200)
        found = bounds.pooled(
            lambda w, x=one: float(w @ x / w.sum()),
            lambda w, x=other: float(w @ x / w.sum()),
            200,
            resamples=299,
        )
        missed += not found.low <= 0.02 <= found.high

    assert missed / 300 <= 0.12


def test_what_no_resample_shows_is_still_possible():
    """Equal scores of 40 samples leave room for what none of them showed."""
    found = bounds.pooled(lambda _: 1.0, lambda _: 1.0, 40)

    assert found.high == pytest.approx(binomial_upper(0, 40))
    assert found.low == -found.high
