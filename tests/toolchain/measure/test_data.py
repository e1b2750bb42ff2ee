"""Arrays: samples that fit, and a named refusal for everything else."""

import numpy as np
import pytest
from tests.sim.models import samples, write_data

from edgewright.core.errors import DataError
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.measure.data import DataKeys, assemble
from edgewright.toolchain.measure.forms import Form, read

SPEC = TensorSpec("image", "uint8", (-1, 1, 8, 8))
NAMES = ("top left", "top right", "bottom left", "bottom right")


def load(path, spec, classes, *, keys=None):
    """Return the data in a file, for a model with one input."""
    given = read(str(path), [spec], Form(keys=keys or DataKeys()))
    return assemble(given, [spec], classes)


def test_a_good_file_is_read(tmp_path):
    """Both halves, the labels as int64, and the classes that were given."""
    data = load(write_data(tmp_path / "d.npz"), SPEC, NAMES)

    assert data.calibrate.arrays["image"].shape == (60, 1, 8, 8)
    assert data.evaluate.arrays["image"].shape == (400, 1, 8, 8)
    assert data.labels.dtype == np.int64
    assert data.classes == NAMES


def test_the_digest_is_of_the_values(tmp_path):
    """Compressed or not it is the same; one pixel or one label makes another."""
    images, labels = samples(60)
    first = load(write_data(tmp_path / "a.npz"), SPEC, NAMES)
    arrays = dict(np.load(tmp_path / "a.npz"))
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    images = arrays["calibrate_images"].copy()
    images[3, 0, 2, 2] ^= 1
    labels = arrays["evaluate_labels"].copy()
    labels[7] = (labels[7] + 1) % 4

    again = load(tmp_path / "b.npz", SPEC, NAMES)
    pixel = load(write_data(tmp_path / "c.npz", calibrate_images=images), SPEC, NAMES)
    label = load(write_data(tmp_path / "e.npz", evaluate_labels=labels), SPEC, NAMES)

    assert again.sha256 == first.sha256
    assert len({first.sha256, pixel.sha256, label.sha256}) == 3


def test_arrays_may_be_called_otherwise(tmp_path):
    """The names of the keys are the caller's."""
    images, labels = samples(90)
    np.savez(tmp_path / "d.npz", cal=images[:30], x=images[30:], y=labels[30:])
    keys = DataKeys(calibrate_inputs="cal", evaluate_inputs="x", evaluate_labels="y")

    data = load(tmp_path / "d.npz", SPEC, NAMES, keys=keys)

    assert (len(data.calibrate), len(data.evaluate)) == (30, 60)


def test_calibration_samples_may_be_absent(tmp_path):
    """A recipe without quantization needs none."""
    path = write_data(tmp_path / "d.npz", calibrate_images=None, calibrate_labels=None)

    assert len(load(path, SPEC, NAMES).calibrate) == 0


IMAGES, LABELS = samples(400, seed=9)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"evaluate_images": None}, "no array 'evaluate_images'"),
        (
            {"evaluate_labels": None, "labels": LABELS},
            "no array 'evaluate_labels' in d.npz, but 'labels' has a number for each",
        ),
        (
            {"evaluate_labels": None, "y": LABELS.astype(float).reshape(-1, 1)},
            "but 'y' has a number for each sample",
        ),
        ({"evaluate_images": IMAGES.astype(np.float32)}, "must be uint8, got float32"),
        ({"evaluate_images": IMAGES[:, 0]}, "must have shape Nx1x8x8, got 400x8x8"),
        (
            {"evaluate_images": IMAGES[:0], "evaluate_labels": LABELS[:0]},
            "holds no evaluation samples",
        ),
        ({"evaluate_images": np.uint8(3)}, "must share their first dimension"),
        ({"calibrate_images": IMAGES.astype(np.int16)[:60]}, "calibration samples do not fit"),
        ({"evaluate_labels": LABELS[:399]}, "399 evaluation labels for 400 samples"),
        (
            {"evaluate_labels": LABELS + 1},
            "run from 1 to 4, the model answers classes 0 to 3",
        ),
        ({"evaluate_labels": LABELS - 1}, "run from -1 to 2"),
        ({"evaluate_labels": LABELS.astype(float)}, "one integer a sample, got float64"),
        ({"evaluate_labels": LABELS.reshape(200, 2)}, r"shape \[200, 2\]"),
        ({"calibrate_labels": LABELS[:59]}, "59 calibration labels for 60 samples"),
        ({"calibrate_images": IMAGES[:60], "evaluate_images": IMAGES}, "60 of 400 evaluation"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, match):
    """The array and the difference are named, with the numbers."""
    path = write_data(tmp_path / "d.npz", **change)

    with pytest.raises(DataError, match=match):
        load(path, SPEC, NAMES)


def test_values_that_are_not_finite_are_refused(tmp_path):
    """A NaN among the inputs would be judged as a wrong answer."""
    spec = TensorSpec("x", "float32", (-1, 3))
    inputs = np.arange(30, dtype=np.float32).reshape(10, 3)
    inputs[4, 1] = np.nan
    np.savez(tmp_path / "d.npz", evaluate_images=inputs, evaluate_labels=np.zeros(10, int))

    with pytest.raises(DataError, match="not finite"):
        load(tmp_path / "d.npz", spec, NAMES)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "not an npz file"),
        (b"PK\x03\x04 broken", "not a file of plain arrays"),
        (b"label,pixel\n1,2\n", "not an npz file"),
    ],
    ids=["empty", "broken", "text"],
)
def test_what_is_no_npz_is_refused(tmp_path, data, match):
    """Every other kind of file, and half of one."""
    path = tmp_path / "d.npz"
    path.write_bytes(data)

    with pytest.raises(DataError, match=match):
        load(path, SPEC, NAMES)


def test_half_a_file_is_refused(tmp_path):
    """A copy that was cut off is no data."""
    whole = write_data(tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "d.npz"
    for length in range(1, len(whole), 2999):
        path.write_bytes(whole[:length])

        with pytest.raises(DataError):
            load(path, SPEC, NAMES)


def test_objects_are_never_unpickled(tmp_path):
    """A pickle could run anything; it is refused before it is read."""
    np.savez(tmp_path / "d.npz", evaluate_images=np.array([{"a": 1}], dtype=object))

    with pytest.raises(DataError, match="not a file of plain arrays"):
        load(tmp_path / "d.npz", SPEC, NAMES)


def test_one_array_alone_is_refused(tmp_path):
    """A npy file under another name."""
    with (tmp_path / "d.npz").open("wb") as file:
        np.save(file, IMAGES)

    with pytest.raises(DataError, match="holds one array"):
        load(tmp_path / "d.npz", SPEC, NAMES)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    """The message names the file."""
    with pytest.raises(DataError, match=r"cannot read gone\.npz"):
        load(tmp_path / "gone.npz", SPEC, NAMES)


def test_without_labels_nobody_has_said_what_is_right(tmp_path):
    """The samples are read, and the digest is another."""
    labelled = load(write_data(tmp_path / "l.npz"), SPEC, NAMES)

    data = load(write_data(tmp_path / "d.npz", evaluate_labels=None), SPEC, NAMES)

    assert data.labels is None
    assert data.sha256 != labelled.sha256


def test_labels_that_were_named_must_be_there(tmp_path):
    """A key somebody wrote down is never passed over for fidelity."""
    path = write_data(tmp_path / "d.npz", evaluate_labels=None)

    with pytest.raises(DataError, match="no array 'y'"):
        load(path, SPEC, NAMES, keys=DataKeys(evaluate_labels="y"))


def test_calibration_inputs_are_never_taken_for_labels(tmp_path):
    """A hundred rows of four numbers have as many values as there are other samples."""
    x = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    np.savez(tmp_path / "d.npz", calibrate_images=x[:100], evaluate_images=x[100:])

    data = load(tmp_path / "d.npz", TensorSpec("x", "float32", (-1, 4)), ())

    assert data.labels is None
    assert (len(data.calibrate), len(data.evaluate)) == (100, 400)
