"""Parcels: what comes out is what went in, to the bit, or an error of ours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgewright.core.errors import WireError
from edgewright.core.tensors import ITEM_BYTES
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.planner.parcels import (
    array_parcel,
    arrays_of,
    opened,
    parcel,
    samples_of,
    samples_parcel,
)


@given(st.dictionaries(st.text(), st.integers() | st.text()), st.binary())
def test_a_parcel_comes_as_it_was_sent(head, body):
    """Whatever the names, lines and bytes."""
    assert opened(parcel(head, body)) == (head, body)


@given(
    arrays.arrays(
        st.sampled_from(sorted(ITEM_BYTES)), arrays.array_shapes(min_dims=0, min_side=0)
    )
)
def test_an_array_comes_as_it_was_sent(array):
    """Type, shape and bits, NaN and numbers that are not whole bytes of text included."""
    found = arrays_of(*opened(array_parcel({}, [("x", array)])))["x"]

    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


def test_samples_come_with_their_digest():
    """Two inputs of different types; the digest that steps and evidence are named by."""
    sent = Samples({"b": np.arange(6, dtype=np.int64).reshape(3, 2), "a": np.ones((3, 1))})

    found = samples_of(samples_parcel(sent))

    assert found.digest == sent.digest


@given(st.binary(max_size=200))
def test_what_is_no_parcel_is_refused(data):
    """By an error of ours, never another."""
    with pytest.raises(WireError):
        opened(data)


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_flipped_bit_is_refused(place, bit):
    """Anywhere: in the digest, in the head, in the bytes."""
    data = bytearray(parcel({"a": 1}, bytes(range(256))))
    data[place % len(data)] ^= 1 << bit

    with pytest.raises(WireError, match="damaged"):
        opened(bytes(data))


@pytest.mark.parametrize(
    "listed",
    [
        None,
        [["x", "float32", [3]]],
        [["x", "float32", [1]]],
        [["x", "object", [1]]],
        [["x", "float32", [-1]]],
        [["x", "float32"]],
        [["x", "float32", ["2"]]],
    ],
    ids=["none", "short", "long", "type", "negative", "torn", "text"],
)
def test_arrays_that_are_not_as_listed_are_refused(listed):
    """Eight bytes cannot be any of these."""
    with pytest.raises(WireError, match="arrays"):
        arrays_of({"arrays": listed}, bytes(8))


def test_arrays_that_are_no_samples_are_refused():
    """Another count of each, or none at all."""
    odd = array_parcel({}, [("a", np.ones(3)), ("b", np.ones(4))])

    for data in (odd, array_parcel({}, []), parcel({"arrays": []})):
        with pytest.raises(WireError, match="no samples"):
            samples_of(data)


def test_what_is_no_bytes_is_refused():
    """A worker that returned something else."""
    with pytest.raises(WireError, match="got dict"):
        opened({"arrays": []})
