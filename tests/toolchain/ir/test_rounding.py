"""learned: never worse than the nearest, and by how much on inputs that go together."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.toolchain.ir import rounding
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


@pytest.mark.parametrize("inputs", [1, 5, 64, 65, 200])
def test_the_factor_is_that_of_the_inverse(inputs):
    """What is found without an inverse of all of H is what its inverse factors into."""
    draw = np.random.default_rng(inputs)
    rows = draw.normal(size=(2, 300, inputs)) * draw.uniform(0.1, 3, (2, 1, inputs))
    moment = rows.transpose(0, 2, 1) @ rows / 300
    order = np.stack([draw.permutation(inputs) for _ in range(2)])

    upper = rounding._upper(moment, order)

    for one, factor, places in zip(moment, upper, order, strict=True):
        damped = one + 0.01 * np.trace(one) / inputs * np.eye(inputs)
        inverse = np.linalg.inv(damped[np.ix_(places, places)])
        np.testing.assert_allclose(factor.T @ factor, inverse, rtol=1e-8, atol=1e-10)
        np.testing.assert_array_equal(factor, np.triu(factor))
        assert (np.diagonal(factor) > 0).all()


def test_outputs_in_slices_are_the_outputs(monkeypatch):
    """Memory is bounded by doing some outputs at a time, which changes no code."""
    weight, scale, moment, qmax = _case(4)
    codes, plain = learned(weight, scale, moment, qmax), nearest(weight, scale, qmax)
    error = _sum(weight, plain, scale, moment)

    monkeypatch.setattr(rounding, "_SLICE_BYTES", 2 * 70 * 2 * 8)

    assert len(list(rounding._slices(weight.shape))) == 3
    np.testing.assert_array_equal(learned(weight, scale, moment, qmax), codes)
    assert abs(_sum(weight, plain, scale, moment) - error) <= 1e-12 * error


@pytest.mark.slow
def test_a_factor_takes_two_more_moments_at_its_peak():
    """H in its order and L, then L alone, in whose place the inverse is made."""
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(1, 1500, 1500))
    moment = rows.transpose(0, 2, 1) @ rows / 1500

    peak = _peak(rounding._upper, moment, np.arange(1500)[None])

    assert peak <= 2.6 * moment.nbytes


@pytest.mark.slow
def test_a_wide_layer_is_rounded_in_slices():
    """72 MB of doubles would be held ten times over; slices are of 16."""
    inputs, outputs = 500, 18_000
    draw = np.random.default_rng(0)
    weight = draw.normal(size=(1, inputs, outputs)).astype(np.float32)
    scale = np.abs(weight).max(axis=1, keepdims=True) / 127
    rows = draw.normal(size=(1, 800, inputs))
    moment = rows.transpose(0, 2, 1) @ rows / 800

    peak = _peak(learned, weight, scale, moment, 127)

    assert peak <= 12 * (16 << 20) + weight.nbytes // 4


def _peak(function, *given):
    """Return the most bytes of arrays that ``function`` held at once."""
    tracemalloc.start()
    function(*given)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak
