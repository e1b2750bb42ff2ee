"""answers: every sample once, in order, for every output."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.sim.models import model, quarters, samples, write_model

from edgewright.core.errors import EngineError, ModelError, ParityError
from edgewright.runtime.engines import load_engine
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure.accuracy import answers
from edgewright.toolchain.measure.parity import TOLERANCE, check_parity

ENGINE = load_engine("onnxruntime")


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
@pytest.mark.parametrize("batch", ["n", 1])
def test_every_sample_is_answered_once_in_order(tmp_path, count, batch):
    """In runs of 64 or of one: the rows are those of the samples."""
    path = write_model(tmp_path / "m.onnx", quarters(batch=batch))
    images, labels = samples(count, blur=1)

    (found,) = answers(ENGINE, path, Samples({"image": images}))

    assert found.shape == (count, 4)
    assert (found.argmax(axis=1) == labels).all()


def test_one_by_one_is_what_a_device_does(tmp_path):
    """The rows are the same as in batches, up to rounding."""
    path = write_model(tmp_path / "m.onnx")
    images = Samples({"image": samples(40)[0]})

    np.testing.assert_allclose(
        answers(ENGINE, path, images, one_by_one=True)[0],
        answers(ENGINE, path, images)[0],
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
        answers(ENGINE, path, Samples({"x": np.array([[1, 2], [-1, 2], [3, 4]], np.float32)}))


def test_a_model_the_engine_refuses_is_an_error_of_ours(tmp_path):
    """A file that is no model."""
    (tmp_path / "m.onnx").write_bytes(b"no")

    with pytest.raises(EngineError):
        answers(ENGINE, tmp_path / "m.onnx", Samples({"image": samples(1)[0]}))


def test_two_inputs_and_two_outputs_keep_their_places(tmp_path):
    """Each output has its own rows, and each input its own samples."""
    proto = model(
        [
            helper.make_node("Add", ["x", "z"], ["sum"]),
            helper.make_node("Neg", ["z"], ["neg"]),
        ],
        {},
        inputs={"x": (TensorProto.FLOAT, ["n", 2]), "z": (TensorProto.FLOAT, ["n", 2])},
        outputs={"sum": (TensorProto.FLOAT, ["n", 2]), "neg": (TensorProto.FLOAT, ["n", 2])},
    )
    path = write_model(tmp_path / "m.onnx", proto)
    x, z = np.random.default_rng(0).normal(size=(2, 70, 2)).astype(np.float32)

    total, negative = answers(ENGINE, path, Samples({"x": x, "z": z}))

    np.testing.assert_array_equal(total, x + z)
    np.testing.assert_array_equal(negative, -z)


def test_an_output_that_is_not_one_row_a_sample_is_refused(tmp_path):
    """Its first dimension is something else; nothing could be told by sample."""
    proto = model(
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1)],
        {},
        inputs={"x": (TensorProto.FLOAT, ["n", 2])},
        outputs={"y": (TensorProto.FLOAT, ["m", 1])},
    )
    path = write_model(tmp_path / "m.onnx", proto)

    with pytest.raises(ModelError, match="answers 1 rows to 3 samples"):
        answers(ENGINE, path, Samples({"x": np.ones((3, 2), np.float32)}))


def test_parity_holds_for_what_answers_alike():
    """The difference is told as a share of the largest answer."""
    source = np.array([[4.0, -8.0], [1.0, 2.0]])

    assert check_parity([source], [source + 8e-5], "float") == pytest.approx(1e-5)
    assert check_parity([np.zeros((2, 2))], [np.zeros((2, 2))], "float") == 0


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
        check_parity([source * 0, source], [source * 0, written], "float")
