"""TensorFlow, Keras and TFLite, through an environment that has them."""

import os
import subprocess

import numpy as np
import pytest

from edgewright.core.errors import ModelError
from edgewright.toolchain.ir.axes import inputs_of
from edgewright.toolchain.ir.load import load
from edgewright.toolchain.sources import Wish, bring

pytestmark = [pytest.mark.slow, pytest.mark.needs("tensorflow")]

_WRITE = """
import tensorflow as tf
layers = tf.keras.layers
image = layers.Input((8, 8, 1), name="image")
hidden = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(image))
net = tf.keras.Model(image, [layers.Dense(5)(hidden), layers.Dense(2)(hidden)])
net.save("net.keras")
net.save("net.h5")
net.export("net")
open("net.tflite", "wb").write(tf.lite.TFLiteConverter.from_keras_model(net).convert())
lam = tf.keras.Sequential([layers.Input((4,)), layers.Lambda(lambda x: x * 2)])
lam.save("lambda.h5")
"""
IMAGES = np.random.default_rng(5).normal(size=(7, 8, 8, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a folder with one network in every form TensorFlow writes."""
    folder = tmp_path_factory.mktemp("tensorflow")
    subprocess.run(
        [os.environ["EDGEWRIGHT_TF_PYTHON"], "-c", _WRITE],
        cwd=folder,
        check=True,
        capture_output=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return folder


@pytest.mark.parametrize("name", ["net", "net.keras", "net.h5", "net.tflite"])
def test_each_form_arrives_and_answers_alike(written, tmp_path, name):
    """Real inputs, a free batch, two outputs; no path of this machine."""
    brought = bring(str(written / name), Wish(samples={"image": IMAGES}), tmp_path)

    graph = load(brought.path)
    assert inputs_of(graph)[0].shape == ("batch", 8, 8, 1)
    assert sorted(spec.shape for spec in graph.outputs) == [(-1, 2), (-1, 5)]
    assert brought.parity < 1e-4
    assert "tf2onnx" in brought.exporter
    assert str(written).encode() not in brought.path.read_bytes()


def test_code_in_an_old_keras_file_is_not_run(written, tmp_path):
    """A Lambda layer is marshalled code."""
    with pytest.raises(ModelError, match="holds a Lambda layer"):
        bring(str(written / "lambda.h5"), Wish(), tmp_path)


def test_a_damaged_file_is_an_error_of_ours(tmp_path):
    """With what TensorFlow said."""
    (tmp_path / "bad.tflite").write_bytes(b"not a model at all")

    with pytest.raises(ModelError, match="cannot convert"):
        bring(str(tmp_path / "bad.tflite"), Wish(), tmp_path)
