"""Free axes: their names, and what freezing one does to the others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.sim.models import model

from edgewright.core.errors import UsageError
from edgewright.toolchain.ir.axes import (
    Axes,
    freeze,
    frozen,
    inputs_of,
    outputs_of,
    with_batch_named,
)
from edgewright.toolchain.ir.tidy import tidy

FLOAT = TensorProto.FLOAT
SIZES = st.integers(1, 64) | st.sampled_from(["batch", "n", "seq", "k"])


def _added(left, right):
    """Return the graph of ``y = a + b`` whose inputs have these shapes."""
    return tidy(
        model(
            [helper.make_node("Add", ["a", "b"], ["y"])],
            {},
            inputs={"a": (FLOAT, left), "b": (FLOAT, right)},
            outputs={"y": (FLOAT, left)},
        )
    )


@given(
    st.lists(st.lists(SIZES, max_size=4), max_size=3),
    st.dictionaries(SIZES.filter(lambda s: isinstance(s, str)), st.integers(1, 9)),
)
def test_freezing_touches_what_it_names_only(shapes, sizes):
    """Every other axis is as it was; a key that was not used changed nothing."""
    inputs = [Axes(f"x{i}", "float32", tuple(shape)) for i, shape in enumerate(shapes)]

    after, used = freeze(inputs, sizes)

    for before, one in zip(inputs, after, strict=True):
        for axis, (old, new) in enumerate(zip(before.shape, one.shape, strict=True)):
            assert new == old or (isinstance(old, str) and new in {sizes[k] for k in used}), (
                axis
            )
    assert used <= set(sizes)
    assert not {s for one in after for s in one.shape} & used


def test_axes_with_one_name_are_fixed_together():
    """Addressed at one input, fixed at both and at the output."""
    graph = frozen(_added(["n", "k"], ["n", "k"]), {"b:1": 5})

    assert [one.shape for one in inputs_of(graph)] == [("n", 5), ("n", 5)]
    assert outputs_of(graph)[0].shape == ("n", 5)


def test_an_axis_without_a_name_has_one():
    """Of its input and its place; it can be frozen by that."""
    graph = _added([None, 3], [None, 3])

    assert [one.shape[0] for one in inputs_of(graph)] == ["a_0", "b_0"]
    assert inputs_of(frozen(graph, {"a_0": 2, "b_0": 2}))[1].shape == (2, 3)


def test_a_key_of_no_axis_is_refused():
    """A fixed axis is none, and neither is another input."""
    with pytest.raises(UsageError, match="no free axis is called 'a:1'"):
        frozen(_added(["n", 3], ["n", 3]), {"a:1": 3})


@pytest.mark.parametrize(
    ("left", "right", "named"),
    [
        (["n", 3], ["n", 3], ["batch", "batch"]),
        (["unk__1", 3], ["unk__2", 3], ["batch", "batch"]),
        (["n", 3], ["m", 3], ["n", "m"]),
        ([1, 3], [1, 3], [1, 1]),
    ],
)
def test_the_batch_gets_its_name(left, right, named):
    """One name of the exporter's, or counted ones; two that differ are two sizes."""
    graph = with_batch_named(_added(left, right))

    assert [one.shape[0] for one in inputs_of(graph)] == named


@pytest.mark.parametrize(
    ("dtype", "shape"), [("float", (1,)), ("int8", (0,)), ("int8", (-1,))]
)
def test_what_no_tensor_has_is_refused(dtype, shape):
    """A type without a name, a size below one."""
    with pytest.raises(ValueError, match="'x'"):
        Axes("x", dtype, shape)


def test_it_is_shown_as_it_is_typed():
    """Name, type, sizes."""
    assert str(Axes("x", "int8", ("batch", 3))) == "x int8 batchx3"
    assert str(Axes("x", "int8", ())) == "x int8 scalar"
    assert np.dtype(Axes("x", "int8", ()).dtype) == np.int8
