"""tensors: what fits a specification, and why the rest does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.tensors import ITEM_BYTES, OIP_NAMES, TensorSpec

IMAGE = TensorSpec("image", "uint8", (-1, 1, 8, 8))


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (512, 1, 8, 8)])
def test_what_fits(shape):
    """Any size where -1 stands."""
    assert IMAGE.misfit("uint8", shape) == ""


@pytest.mark.parametrize(
    ("dtype", "shape", "why"),
    [
        ("float32", (1, 1, 8, 8), "input 'image' must be uint8, got float32"),
        ("uint8", (1, 8, 8), "input 'image' must have shape Nx1x8x8, got 1x8x8"),
        ("uint8", (1, 1, 8, 9), "input 'image' must have shape Nx1x8x8, got 1x1x8x9"),
        ("uint8", (0, 1, 8, 8), "input 'image' must have shape Nx1x8x8, got 0x1x8x8"),
        ("uint8", (), "input 'image' must have shape Nx1x8x8, got a scalar"),
    ],
)
def test_what_does_not_fit(dtype, shape, why):
    """The wrong type, rank, size, nothing at all, a scalar: said in one sentence."""
    assert IMAGE.misfit(dtype, shape) == why


@given(
    st.lists(st.integers(1, 50), max_size=5).map(tuple), st.sampled_from(sorted(ITEM_BYTES))
)
def test_a_tensor_fits_its_own_shape(shape, dtype):
    """With every dimension fixed, only that shape and type fit."""
    spec = TensorSpec("x", dtype, shape)

    assert spec.misfit(dtype, shape) == ""
    assert spec.misfit(dtype, (*shape, 1)) != ""


def test_bytes_worked_by_hand():
    """3 x 1 x 8 x 8 float16 is 384 bytes; a scalar is one item."""
    assert TensorSpec("x", "float16", (-1, 1, 8, 8)).nbytes((3, 1, 8, 8)) == 384
    assert TensorSpec("x", "int64", ()).nbytes(()) == 8


def test_every_type_has_a_name_in_the_inference_protocol():
    """One table does not forget what the other has, and no two share a name."""
    assert set(OIP_NAMES) == set(ITEM_BYTES)
    assert len(set(OIP_NAMES.values())) == len(OIP_NAMES)


@pytest.mark.parametrize(
    ("dtype", "shape"), [("float", (1,)), ("int8", (0,)), ("int8", (1, -2))]
)
def test_impossible_tensors_are_refused(dtype, shape):
    """A type we cannot name, a dimension of nothing."""
    with pytest.raises(ValueError, match="tensor 'x' has"):
        TensorSpec("x", dtype, shape)
