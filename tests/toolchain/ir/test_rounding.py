"""learned: never worse than the nearest, and by how much on inputs that go together."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgewright.toolchain.ir.rounding import learned, lost, nearest


def _case(seed, *, rank=8, bits=4):
    """Return a weight, its scales, a moment of correlated inputs and the largest code."""
    groups, inputs, outputs = 2, 70, 5
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(groups, 200, rank)) @ draw.normal(size=(groups, rank, inputs))
    rows += 0.05 * draw.normal(size=rows.shape)
    weight = draw.normal(size=(groups, inputs, outputs))
    qmax = 2 ** (bits - 1) - 1
    scale = np.abs(weight).max(axis=1, keepdims=True) / qmax
    return weight, scale, rows.transpose(0, 2, 1) @ rows / 200, qmax


def _sum(weight, codes, scale, moment):
    return lost(weight, codes, scale, moment).sum()


@given(seed=st.integers(0, 10**6), rank=st.integers(1, 60), bits=st.integers(2, 8))
def test_no_output_loses_more_than_rounded_to_the_nearest(seed, rank, bits):
    """Whatever the inputs; and every code is one that was allowed."""
    weight, scale, moment, qmax = _case(seed, rank=rank, bits=bits)

    codes = learned(weight, scale, moment, qmax)

    plain = nearest(weight, scale, qmax)
    error, most = lost(weight, codes, scale, moment), lost(weight, plain, scale, moment)
    assert (error <= most).all()
    assert (codes == np.rint(codes)).all()
    assert np.abs(codes).max() <= qmax


def test_correlated_inputs_lose_a_tenth():
    """Seventy inputs of eight causes: what one weight loses the others make up for."""
    weight, scale, moment, qmax = _case(0)

    codes = learned(weight, scale, moment, qmax)

    plain = nearest(weight, scale, qmax)
    assert _sum(weight, codes, scale, moment) < _sum(weight, plain, scale, moment) / 10


def test_known_values():
    """Two equal inputs with weights of 0.4: 1 and 0 lose less than 0 and 0.

    What is lost is d' H d with H of ones, the square of the sum: 0.2 squared, not 0.8.
    """
    weight, scale, moment = np.full((1, 2, 1), 0.4), np.ones((1, 1, 1)), np.ones((1, 2, 2))

    codes = learned(weight, scale, moment, 7)

    assert sorted(codes.ravel()) == [0, 1]
    np.testing.assert_allclose(lost(weight, codes, scale, moment), [[0.04]])
    np.testing.assert_allclose(
        lost(weight, nearest(weight, scale, 7), scale, moment), [[0.64]]
    )


def test_independent_inputs_are_rounded_to_the_nearest():
    """Nothing can be made up for where no input tells of another."""
    weight, scale, _, qmax = _case(1)
    moment = np.broadcast_to(np.diag(np.arange(1.0, 71.0)), (2, 70, 70))

    np.testing.assert_array_equal(
        learned(weight, scale, moment, qmax), nearest(weight, scale, qmax)
    )


def test_inputs_that_were_never_seen_do_no_harm():
    """Moments of zero, of some inputs or of all, still have an answer."""
    weight, scale, moment, qmax = _case(2)
    silent = moment.copy()
    silent[:, 3] = silent[:, :, 3] = 0

    for one in (silent, np.zeros_like(moment)):
        codes = learned(weight, scale, one, qmax)
        assert np.isfinite(codes).all()
        np.testing.assert_array_equal(codes[:, 3], nearest(weight, scale, qmax)[:, 3])


def test_scales_may_differ_within_an_output():
    """As blocks of weights have them: each code is of its own scale."""
    weight, _, moment, qmax = _case(3)
    scale = np.abs(weight) / qmax * np.random.default_rng(0).uniform(1, 2, weight.shape)

    codes = learned(weight, scale, moment, qmax)

    plain = nearest(weight, scale, qmax)
    assert _sum(weight, codes, scale, moment) < _sum(weight, plain, scale, moment)
