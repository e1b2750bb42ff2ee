"""The golden sets on this machine: how samples are cut, answered and compared."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim.bundles import INPUT, golden_images, make_slot

from edgewright.bundle.archive import slot_digest
from edgewright.core.errors import BundleError, EngineError
from edgewright.core.tensors import ITEM_BYTES, TensorSpec
from edgewright.runtime import selftest
from edgewright.runtime.engines import load_engine

ENGINE = load_engine("onnxruntime")


def opened(slot):
    """Return what a check needs: manifest, session, samples, reader."""
    manifest, _ = slot_digest(slot)

    def read(path):
        return (slot / path).read_bytes()

    session = ENGINE.load(slot / manifest.variants[0].model)
    return manifest, session, selftest.golden_samples(manifest, read, ENGINE), read


def checked(slot):
    """Return how the first variant of a slot answers."""
    manifest, session, feeds, read = opened(slot)
    try:
        return selftest.check(manifest, manifest.variants[0].name, session, feeds, read)
    finally:
        session.close()


def test_a_good_bundle_passes_both(tmp_path):
    """Both sets are compared on every sample."""
    result = checked(make_slot(tmp_path)[0])

    assert result.passed
    assert result.finding == ""
    assert result.reference.count == result.variant.count == 16


def test_a_wrong_model_fails_the_reference_only(tmp_path):
    """The device computes what the build host computed; it is the model that is wrong."""
    result = checked(make_slot(tmp_path, invert=True)[0])

    assert not result.reference.passed
    assert result.variant.passed
    assert result.finding.startswith("golden.reference: 0 of 16 answers agree")


def test_a_wrong_device_fails_its_own_set_only(tmp_path):
    """The model still names the right class, but not with the build host's numbers."""
    result = checked(make_slot(tmp_path, wrong_variant=True)[0])

    assert result.reference.passed
    assert not result.variant.passed
    assert "golden.variant: largest difference 1.0" in result.finding


def test_samples_are_answered_alone():
    """Sixteen samples are sixteen requests of one."""
    images = golden_images(16)

    feeds = selftest.samples((INPUT,), (images.tobytes(),), 16, ENGINE)

    assert [feed["image"].shape for feed in feeds] == [(1, 1, 8, 8)] * 16
    assert b"".join(feed["image"].tobytes() for feed in feeds) == images.tobytes()


def test_one_free_dimension_is_told_by_the_bytes():
    """A sequence of any length is cut where its samples end."""
    spec = TensorSpec("tokens", "int32", (-1, -1, 2))

    feeds = selftest.samples((spec,), (bytes(4 * 2 * 5 * 3),), 3, ENGINE)

    assert [feed["tokens"].shape for feed in feeds] == [(1, 5, 2)] * 3


@pytest.mark.parametrize(
    ("spec", "length", "count", "error"),
    [
        (TensorSpec("x", "uint8", (-1, 4)), 7, 2, BundleError),
        (TensorSpec("x", "uint8", (-1, 4)), 12, 2, BundleError),
        (TensorSpec("x", "uint8", (-1, 4)), 0, 2, BundleError),
        (TensorSpec("x", "uint8", (-1, 4)), 0, 0, BundleError),
        (TensorSpec("x", "uint8", (-1, -1, -1)), 8, 2, BundleError),
        (TensorSpec("x", "uint8", (4, 4)), 32, 2, EngineError),
        (TensorSpec("x", "uint8", ()), 2, 2, EngineError),
    ],
    ids=[
        "odd",
        "too many",
        "none",
        "none of none",
        "two free",
        "a fixed batch of 4",
        "a scalar",
    ],
)
def test_bytes_that_are_not_the_samples_are_refused(spec, length, count, error):
    """Nothing is padded, cut or guessed."""
    with pytest.raises(error):
        selftest.samples((spec,), (bytes(length),), count, ENGINE)


@given(st.data())
def test_rows_are_the_numbers(data):
    """Raw values of every type become the numbers they encode, row by row."""
    dtype = data.draw(st.sampled_from(sorted(ITEM_BYTES)))
    width, count = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    drawn = data.draw(st.binary(min_size=width * count, max_size=width * count))
    values = np.array([byte % 2 for byte in drawn], dtype).reshape(count, width)

    found = selftest.rows(values.tobytes(), dtype, count)

    assert [list(row) for row in found] == values.tolist()


def test_rows_of_odd_length_are_refused():
    """Seven bytes are not two rows of float16."""
    with pytest.raises(BundleError, match="7 bytes are not 2 rows of float16"):
        selftest.rows(bytes(7), "float16", 2)
    with pytest.raises(BundleError, match="6 bytes are not 2 rows of float16"):
        selftest.rows(bytes(6), "float16", 2)
    assert list(selftest.rows(struct.pack("<e", 1.5), "float16", 1)[0]) == [1.5]


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "fits"),
    [
        ("image", "uint8", (-1, 1, 8, 8), True),
        ("image", "uint8", (1, 1, 8, 8), True),
        ("image", "uint8", (-1, 3, 8, 8), False),
        ("image", "uint8", (-1, 64), False),
        ("image", "float32", (-1, 1, 8, 8), False),
        ("picture", "uint8", (-1, 1, 8, 8), False),
    ],
)
def test_the_graph_must_take_what_the_manifest_says(tmp_path, name, dtype, shape, fits):
    """A free dimension goes with any size; anything else must be equal."""
    manifest, session, _, _ = opened(make_slot(tmp_path)[0])

    class Other:
        inputs = (TensorSpec(name, dtype, shape),)
        outputs = session.outputs

    if fits:
        selftest.check_tensors(manifest, Other())
    else:
        with pytest.raises(BundleError, match="its manifest says image uint8"):
            selftest.check_tensors(manifest, Other())
    session.close()


def test_a_variant_without_golden_answers_is_refused(tmp_path):
    """There is nothing a device could be compared with."""
    manifest, session, feeds, read = opened(make_slot(tmp_path)[0])

    with pytest.raises(BundleError, match="'int4' has no golden answers"):
        selftest.check(manifest, "int4", session, feeds, read)
    session.close()
