"""Rows to try a model on: the sizes that are tried, and that nothing is left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.errors import DataError
from edgewright.toolchain.ir.axes import Axes
from edgewright.toolchain.ir.feeds import MOST_ROWS, made_up, sets

FREE, FIXED = Axes("x", "int32", ("batch", 2)), Axes("x", "int32", (4, 2))


def _numbered(count):
    return np.repeat(np.arange(count, dtype=np.int32)[:, None], 2, axis=1)


@given(st.integers(1, 100))
def test_a_free_batch_is_tried_at_two_sizes_and_on_every_row(count):
    """One row first, then three, then the rest."""
    tried = sets([FREE], {"x": _numbered(count)})

    seen = {int(row) for feeds in tried for row in feeds["x"][:, 0]}
    assert [len(feeds["x"]) for feeds in tried[:2]] == [1, 3]
    assert seen == set(range(min(count, MOST_ROWS)))


@given(st.integers(1, 100))
def test_a_fixed_batch_is_kept(count):
    """Each set has its size; every row is in one."""
    tried = sets([FIXED], {"x": _numbered(count)})

    seen = {int(row) for feeds in tried for row in feeds["x"][:, 0]}
    assert {len(feeds["x"]) for feeds in tried} == {4}
    assert seen == set(range(min(count, MOST_ROWS)))


def test_inputs_take_the_same_rows():
    """Row by row: what belongs together stays together."""
    both = [FREE, Axes("z", "int32", ("batch", 2))]

    for feeds in sets(both, {"x": _numbered(9), "z": _numbered(9)}):
        np.testing.assert_array_equal(feeds["x"], feeds["z"])


def test_an_input_without_a_batch_is_fed_whole():
    """A table beside the rows, and a scalar."""
    others = [Axes("table", "int32", (5, 2)), Axes("scale", "float32", ())]
    samples = {"x": _numbered(9), "table": _numbered(5), "scale": np.float32(2)}

    for feeds in sets([FREE, *others], {k: np.asarray(v) for k, v in samples.items()}):
        assert feeds["table"].shape == (5, 2)
        assert feeds["scale"].shape == ()


def test_made_up_values_are_the_same_each_time():
    """Of the right type, within the range of their input."""
    inputs = [
        Axes("ids", "int64", ("batch", "seq")),
        Axes("a", "uint8", (3,)),
        Axes("b", "bool", (9,)),
    ]
    within = {"ids": (10, 20)}

    first, again = (made_up(inputs, batch=3, size=8, within=within) for _ in range(2))

    assert first["ids"].shape == (3, 8)
    assert first["ids"].min() >= 10
    assert first["ids"].max() < 20
    assert (first["a"].dtype, first["b"].dtype) == (np.uint8, np.bool_)
    np.testing.assert_equal(first, again)


def test_made_up_sizes_differ_where_axes_are_free():
    """A fixed sequence shows as well as a fixed batch."""
    tried = sets([Axes("ids", "int64", (1, "seq"))], None)

    assert len({feeds["ids"].shape for feeds in tried}) == 2


def test_no_samples_are_refused():
    """An empty array is none."""
    with pytest.raises(DataError, match="axis 0 of the samples for 'x' is 0"):
        sets([FREE], {"x": _numbered(0)})
