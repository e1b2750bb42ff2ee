"""apart: numbers worked by hand, and everything that is not alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgewright.core.errors import ParityError
from edgewright.toolchain.ir.answers import apart

F32 = np.float32


@given(arrays.arrays(F32, arrays.array_shapes(), elements=st.floats(width=32)))
def test_an_answer_is_alike_to_itself(answer):
    """Infinities and NaN included."""
    assert apart([answer], [answer.copy()], ["y"]) == 0.0


def test_the_share_is_of_the_largest_answer():
    """0.0002 beside 4 is 5e-5; the worst output counts."""
    first, second = np.array([4.0, 1.0]), np.array([1.0])

    assert apart(
        [first, second], [first + np.array([0, 2e-4]), second], ["a", "b"]
    ) == pytest.approx(5e-5)


@pytest.mark.parametrize(
    ("source", "written", "match"),
    [
        (F32([1, 2]), F32([1, 2.001]), "output 'y' is 5.00e-04 of the largest answer away"),
        (F32([1, 2]), F32([[1, 2]]), r"shape \[1, 2\], its source \[2\]"),
        (F32([1, 2]), F32([1, np.nan]), "1 values that are not finite, its source 0"),
        (F32([1, np.nan]), F32([np.nan, 1]), "or in other places"),
        (F32([1, np.inf]), F32([1, -np.inf]), "or in other places"),
        (np.array([3, 4]), np.array([3, 5]), "1 of 2 values of output 'y'"),
        (np.array([True]), np.array([False]), "1 of 1 values"),
    ],
)
def test_what_is_not_alike_is_refused(source, written, match):
    """Too far, another shape, other infinities, another whole number."""
    with pytest.raises(ParityError, match=match):
        apart([source], [written], ["y"])


def test_half_precision_is_held_to_what_it_can_hold():
    """1e-3 apart is one step of float16, and ten steps are too many."""
    one = np.ones(3, np.float16)

    assert apart([one], [one + np.float16(1e-3)], ["y"]) == pytest.approx(1e-3, rel=0.05)
    with pytest.raises(ParityError):
        apart([one], [one + np.float16(0.02)], ["y"])
