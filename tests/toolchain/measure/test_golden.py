"""choose: golden inputs are answered rightly, spread over the classes, surest first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgewright.core.errors import DataError
from edgewright.toolchain.measure.data import Dataset
from edgewright.toolchain.measure.golden import choose

CLASSES = ("a", "b", "c")
ANSWERS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.just(3)),
    elements=st.floats(-5, 5, width=32),
)


def _data(labels):
    nothing = np.zeros((0, 1), np.uint8)
    return Dataset(nothing, nothing, np.asarray(labels), CLASSES, "sha256:" + "0" * 64)


def test_a_hand_worked_choice():
    """One of each class in turn, the largest margin first, wrong answers never."""
    answers = np.array(
        [[3, 0, 0], [9, 0, 0], [0, 2, 0], [5, 0, 0], [0, 0, 1], [0, 7, 6]], np.float32
    )
    data = _data([0, 0, 1, 2, 2, 1])

    assert choose(answers, data, count=4).tolist() == [1, 2, 4, 0]


def test_equal_margins_go_by_place():
    """The earlier sample first, so that two runs agree."""
    answers = np.tile(np.array([1, 0, 0], np.float32), (5, 1))

    assert choose(answers, _data([0] * 5), count=3).tolist() == [0, 1, 2]


@given(answers=ANSWERS, count=st.integers(1, 12), data=st.data())
def test_every_choice_is_right_and_there_once(answers, count, data):
    """Never more than asked, never one twice, never one the reference gets wrong."""
    labels = data.draw(hnp.arrays(np.int64, len(answers), elements=st.integers(0, 2)))
    labels[0] = answers[0].argmax()

    chosen = choose(answers, _data(labels), count=count)

    right = answers.argmax(axis=1) == labels
    assert right[chosen].all()
    assert len(set(chosen.tolist())) == len(chosen) == min(count, right.sum())


def test_a_reference_that_is_never_right_is_refused():
    """There is nothing to compare a device with."""
    with pytest.raises(DataError, match="no evaluation sample rightly"):
        choose(np.array([[1, 0, 0]], np.float32), _data([1]))
