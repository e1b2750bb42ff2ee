"""answers and paired_counts: every sample once, in order, and counted with its class."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.sim.models import model, quarters, samples, write_model

from edgewright.core.errors import EngineError, ModelError, ParityError
from edgewright.core.evidence import PairedCounts
from edgewright.runtime.engines import load_engine
from edgewright.toolchain.measure.accuracy import answers, paired_counts
from edgewright.toolchain.measure.data import Dataset
from edgewright.toolchain.measure.parity import TOLERANCE, check_parity

ENGINE = load_engine("onnxruntime")


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
@pytest.mark.parametrize("batch", ["n", 1])
def test_every_sample_is_answered_once_in_order(tmp_path, count, batch):
    """In runs of 64 or of one: the rows are those of the samples."""
    path = write_model(tmp_path / "m.onnx", quarters(batch=batch))
    images, labels = samples(count, blur=1)

    found = answers(ENGINE, path, images)

    assert found.shape == (count, 4)
    assert (found.argmax(axis=1) == labels).all()


def test_one_by_one_is_what_a_device_does(tmp_path):
    """The rows are the same as in batches, up to rounding."""
    path = write_model(tmp_path / "m.onnx")
    images, _ = samples(40)

    np.testing.assert_allclose(
        answers(ENGINE, path, images, one_by_one=True),
        answers(ENGINE, path, images),
        atol=1e-5,
    )


def test_nan_answers_are_refused(tmp_path):
    """How many samples are answered so is said."""
    proto = model(
        [helper.make_node("Log", ["x"], ["y"])],
        {},
        inputs={"x": (TensorProto.FLOAT, ["n", 2])},
        outputs={"y": (TensorProto.FLOAT, ["n", 2])},
    )
    path = write_model(tmp_path / "m.onnx", proto)

    with pytest.raises(ModelError, match="NaN to 1 of 3 samples"):
        answers(ENGINE, path, np.array([[1, 2], [-1, 2], [3, 4]], np.float32))


def test_a_model_the_engine_refuses_is_an_error_of_ours(tmp_path):
    """A file that is no model."""
    (tmp_path / "m.onnx").write_bytes(b"no")

    with pytest.raises(EngineError):
        answers(ENGINE, tmp_path / "m.onnx", samples(1)[0])


def test_hand_counted_pairs():
    """Two of six lost, one gained, told by class; a class without samples is left out."""
    images, _ = samples(6)
    data = Dataset(
        images[:0], images, np.array([0, 0, 0, 2, 2, 2]), ("a", "b", "c"), "sha256:" + "0" * 64
    )
    reference = np.array([True, True, False, True, True, False])
    candidate = np.array([True, False, True, True, False, False])

    assert paired_counts(reference, candidate, data) == (
        PairedCounts("overall", 6, 4, 2, 1),
        PairedCounts("a", 3, 2, 1, 1),
        PairedCounts("c", 3, 2, 1, 0),
    )


def test_parity_holds_for_what_answers_alike():
    """The difference is told as a share of the largest answer."""
    source = np.array([[4.0, -8.0], [1.0, 2.0]])

    assert check_parity(source, source + 8e-5, "float") == pytest.approx(1e-5)
    assert check_parity(np.zeros((2, 2)), np.zeros((2, 2)), "float") == 0


@pytest.mark.parametrize(
    ("written", "match"),
    [
        (
            np.array([[4.0, -8.0], [1.0, 2.0 + 9 * TOLERANCE]]),
            "away from its source on 2 real",
        ),
        (np.array([[4.0], [1.0]]), r"shape \[2, 1\], its source \[2, 2\]"),
    ],
)
def test_parity_refuses_what_answers_otherwise(written, match):
    """One number of four is enough."""
    source = np.array([[4.0, -8.0], [1.0, 2.0]])

    with pytest.raises(ParityError, match=match):
        check_parity(source, written, "float")
