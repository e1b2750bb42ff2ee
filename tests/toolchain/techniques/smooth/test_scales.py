"""scales: one family closed under itself, and the member that leaves the least error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.toolchain.techniques.smooth.scales import (
    STRENGTHS,
    Seen,
    choose,
    error,
    scales,
)


def _draw(seed, channels=16, outputs=12):
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(40, channels)) * np.exp(draw.normal(size=channels) * 2)
    return values.astype(np.float32), draw.normal(size=(channels, outputs)).astype(np.float32)


def test_known_values():
    """Channels of 16 and 1 with weights of 1: at a half their roots, with mean log 0."""
    seen = Seen.of(np.array([[16.0, -1.0], [-2.0, 0.5]], np.float32))

    found = scales(seen, np.ones((2, 3), np.float32), 0.5)

    np.testing.assert_allclose(found, [2.0, 0.5])
    assert seen.largest.tolist() == [16.0, 1.0]
    assert seen.squares.tolist() == [260.0, 1.25]


def test_the_error_of_known_values():
    """One channel of 127 and a weight of 127: both steps are 1, so both terms 127²/12."""
    seen = Seen.of(np.array([[127.0]], np.float32))

    found = error(seen, np.array([[127.0]], np.float32), np.ones(1))

    assert found == pytest.approx(2 * 127**2 / 12)


@given(seed=st.integers(0, 1000), strength=st.sampled_from(STRENGTHS))
def test_what_is_smooth_stays(seed, strength):
    """Scaling by the answer and asking again, at the same strength, answers 1."""
    values, weight = _draw(seed)
    scale = scales(Seen.of(values), weight, strength)

    again = scales(Seen.of(values / scale), weight * scale[:, None], strength)

    np.testing.assert_allclose(again, 1, rtol=1e-5)


@given(seed=st.integers(0, 1000))
def test_the_chosen_is_the_best_of_all(seed):
    """No strength leaves less than the one that is chosen."""
    values, weight = _draw(seed)
    seen = Seen.of(values)

    scale, gain = choose(seen, weight, None)

    least = min(error(seen, weight, scales(seen, weight, a)) for a in STRENGTHS)
    assert error(seen, weight, scale) == least
    assert gain == pytest.approx(error(seen, weight, np.ones(16)) / least)


@given(seed=st.integers(0, 1000), at=st.integers(1, 39))
def test_batches_do_not_matter(seed, at):
    """Seen in two pieces is what was seen at once."""
    values, _ = _draw(seed)

    once, parts = Seen.of(values), Seen.of(values[:at]).merge(Seen.of(values[at:]))

    np.testing.assert_allclose(once.largest, parts.largest)
    np.testing.assert_allclose(once.squares, parts.squares)
    assert once.count == parts.count == 40


def test_silent_channels_stay():
    """A channel that is always zero, or that no weight reads, has scale 1."""
    values, weight = _draw(0)
    values[:, 3] = 0
    weight[5] = 0

    found = scales(Seen.of(values), weight, 0.5)

    assert found[3] == found[5] == 1
    assert np.isfinite(found).all()
    assert (found > 0).all()
