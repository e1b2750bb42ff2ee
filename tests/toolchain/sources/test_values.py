"""What is asked: inputs and sizes as they are typed, and wishes that mean nothing."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.errors import DataError, ModelError, UsageError
from edgewright.core.tensors import ITEM_BYTES
from edgewright.toolchain.ir.axes import Axes
from edgewright.toolchain.sources import (
    Wish,
    bring,
    load_samples,
    parse_freeze,
    parse_input,
    torch,
)

WORDS = st.text("abcdefgh_", min_size=1)


@given(
    WORDS,
    st.sampled_from(sorted(ITEM_BYTES)),
    st.lists(st.integers(1, 999) | WORDS, max_size=5),
)
def test_an_input_is_read_as_it_is_shown(name, dtype, shape):
    """Every input that can be shown can be typed."""
    one = Axes(name, dtype, tuple(shape))

    assert parse_input(f"{name}:{dtype}:{'x'.join(map(str, shape))}") == one


def test_minus_one_is_a_free_axis():
    """The first is the batch, others are called after their input."""
    assert parse_input("image:float32:-1x3x-1") == Axes(
        "image", "float32", ("batch", 3, "image_2")
    )


@pytest.mark.parametrize(
    "text",
    ["image", "image:float32:0x3", "image:float:1", ":float32:1", "a:int8:1x-2", "a:int8:1xA"],
)
def test_an_input_that_says_nothing_is_refused(text):
    """With an example of one that does."""
    with pytest.raises(UsageError) as caught:
        parse_input(text)

    assert "image:float32" in caught.value.hint


def test_sizes_are_read():
    """By name, and by input and axis."""
    assert parse_freeze("batch=1,image:2=224") == {"batch": 1, "image:2": 224}


@pytest.mark.parametrize("text", ["batch", "batch=0", "=3", "batch=x", "a=1,a=2", "a=-1"])
def test_sizes_that_say_nothing_are_refused(text):
    """No size, none that is possible, one axis twice."""
    with pytest.raises(UsageError, match="freezes no axis"):
        parse_freeze(text)


@pytest.mark.parametrize(
    ("wish", "match"),
    [
        ({"freeze": {"batch": 0}}, "cannot be frozen at 0"),
        ({"opset": 12}, "opset 12 is too old"),
        ({"inputs": (Axes("a", "int8", (1,)),) * 2}, "'a' is given twice"),
        ({"samples": {}}, "no array"),
    ],
)
def test_a_wish_that_means_nothing_is_refused(wish, match):
    """When it is made."""
    with pytest.raises(UsageError, match=match):
        Wish(**wish)


def test_samples_are_plain_arrays(tmp_path):
    """By name; a file with objects in it, or of another kind, is refused."""
    path = tmp_path / "d.npz"
    np.savez(path, image=np.zeros(3))
    assert list(load_samples(path)) == ["image"]

    np.savez(path, image=np.array([object()], dtype=object))
    with pytest.raises(DataError, match="plain arrays"):
        load_samples(path)
    path.write_bytes(b"text")
    with pytest.raises(DataError, match="not an npz file"):
        load_samples(path)
    np.savez(path)
    with pytest.raises(DataError, match="holds no array"):
        load_samples(path)
    with pytest.raises(DataError, match=r"cannot read gone\.npz"):
        load_samples(tmp_path / "gone.npz")


# --- what is not installed


@pytest.mark.parametrize(
    ("model", "extra"),
    [("nets:Net", "edgewright[torch]"), ("bert", "edgewright[transformers]")],
)
def test_a_framework_that_is_not_there_is_named(tmp_path, monkeypatch, model, extra):
    """With what to install, and the way around it."""
    monkeypatch.setattr(torch, "find_spec", lambda _name: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text("{}")

    with pytest.raises(ModelError, match="needs torch, which is not installed") as caught:
        bring(model, Wish(inputs=(parse_input("a:int8:1"),) if ":" in model else ()), tmp_path)

    assert f'pip install "{extra}"' in caught.value.hint
    assert "ONNX" in caught.value.hint


@pytest.mark.parametrize("name", ["m.keras", "m.tflite"])
def test_without_tensorflow_the_commands_are_told(tmp_path, monkeypatch, name):
    """How to make its environment, and the way around it."""
    monkeypatch.delenv("EDGEWRIGHT_TF_PYTHON", raising=False)
    (tmp_path / name).write_bytes(b"x")

    with pytest.raises(ModelError, match="needs TensorFlow in an environment") as caught:
        bring(str(tmp_path / name), Wish(), tmp_path)

    assert "pip install tensorflow-cpu tf2onnx" in caught.value.hint
    assert "EDGEWRIGHT_TF_PYTHON=" in caught.value.hint
    assert "tf2onnx.convert" in caught.value.hint


def test_an_interpreter_that_is_not_there_is_refused(tmp_path):
    """And one without TensorFlow says so itself."""
    (tmp_path / "m.tflite").write_bytes(b"x")
    model = str(tmp_path / "m.tflite")

    with pytest.raises(ModelError, match="there is no program python"):
        bring(model, Wish(tf_python=tmp_path / "python"), tmp_path)
    with pytest.raises(ModelError, match="has no tensorflow"):
        bring(model, Wish(tf_python=sys.executable), tmp_path)


def test_a_lambda_in_a_keras_file_is_refused(tmp_path):
    """Before TensorFlow is even looked for: it is code."""
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        layer = {"config": {"function": {"class_name": "__lambda__", "config": {}}}}
        archive.writestr("config.json", json.dumps({"layers": [layer]}))

    with pytest.raises(ModelError, match="holds a Lambda layer"):
        bring(str(path), Wish(), tmp_path)


def test_no_framework_is_imported_here():
    """The table and the way in load neither torch nor TensorFlow."""
    code = (
        "import sys\n"
        "from edgewright.toolchain.sources import onnx, tensorflow, torch\n"
        "print(sorted({'torch', 'tensorflow', 'transformers'} & set(sys.modules)))"
    )

    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert told.stdout.strip() == "[]"
