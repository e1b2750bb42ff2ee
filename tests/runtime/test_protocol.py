"""The Open Inference Protocol: what is asked is understood, or refused by name."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgewright.core.errors import EdgewrightError, InputError, WireError
from edgewright.core.tensors import OIP_NAMES, TensorSpec
from edgewright.runtime import protocol
from edgewright.runtime.engines import load_engine

ENGINE = load_engine("onnxruntime")
OUTPUTS = (TensorSpec("logits", "float32", (-1, 2)), TensorSpec("top", "int64", (-1,)))
BEFORE = b'{"inputs":[{"name":"x","shape":[1],"datatype":"UINT8","data":'
DEEP = BEFORE + b"[" * 100_000
WIDE = BEFORE + b"[" * 100 + b"1" + b"]" * 100 + b"}]}"
TENSOR = {"name": "x", "shape": [2, 2], "datatype": "UINT8", "data": [1, 2, 3, 4]}


def ask(document, raw=b""):
    """Return what a request is understood as."""
    text = json.dumps(document).encode()
    return protocol.decode(text + raw, len(text), OUTPUTS, ENGINE)


def with_tensor(**changes):
    """Return a request with one changed tensor; None removes a field."""
    tensor = {**TENSOR, **changes}
    return {"inputs": [{k: v for k, v in tensor.items() if v is not None}]}


def encoded(question, **parameters):
    """Return the JSON and the raw tail of an answer."""
    logits = np.array([[0.5, -1.25]], np.float32)
    top = np.array([7], np.int64)
    answers = zip(OUTPUTS, (logits, top), strict=True)
    body, size = protocol.encode(
        question, answers, model=("digits", "3"), parameters=parameters
    )
    return json.loads(body[:size]), body[size:]


def test_a_plain_request():
    """Flat or nested numbers are the same tensor."""
    flat = ask({"id": "a", "inputs": [TENSOR], "parameters": {"deadline_ms": 250}})
    nested = ask(with_tensor(data=[[1, 2], [3, 4]]))

    assert flat.id == "a"
    assert flat.deadline_s == 0.25
    assert flat.wanted == (("logits", False), ("top", False))
    assert flat.feeds["x"].tolist() == nested.feeds["x"].tolist() == [[1, 2], [3, 4]]


@given(st.data())
def test_raw_tensors_are_the_bytes_behind_the_json(data):
    """Any tensors of any types, one after the other, come through unchanged."""
    arrays = [
        data.draw(
            hnp.arrays(data.draw(st.sampled_from(sorted(OIP_NAMES))), hnp.array_shapes())
        )
        for _ in range(data.draw(st.integers(1, 3)))
    ]
    inputs = [
        {
            "name": f"x{index}",
            "shape": list(array.shape),
            "datatype": OIP_NAMES[str(array.dtype)],
            "parameters": {"binary_data_size": array.nbytes},
        }
        for index, array in enumerate(arrays)
    ]

    question = ask({"inputs": inputs}, b"".join(array.tobytes() for array in arrays))

    for index, array in enumerate(arrays):
        assert question.feeds[f"x{index}"].tobytes() == array.tobytes()
        assert question.feeds[f"x{index}"].shape == array.shape


@pytest.mark.parametrize(
    ("document", "raw", "error", "message"),
    [
        ({}, b"", WireError, "missing required field `inputs`"),
        ({"inputs": {}}, b"", WireError, "inputs"),
        (with_tensor(shape=None), b"", WireError, "shape"),
        (with_tensor(shape=["2"]), b"", WireError, "shape"),
        (with_tensor(shape=[-2, -2]), b"", InputError, "impossible shape"),
        (with_tensor(shape=[0]), b"", InputError, "impossible shape"),
        (with_tensor(shape=[2**60, 2**60]), b"", InputError, "values, got 4"),
        (with_tensor(datatype="BYTES"), b"", InputError, "unknown datatype 'BYTES'"),
        (with_tensor(data=[1, 2, 3]), b"", InputError, "has 4 values, got 3"),
        (with_tensor(data=[1, 2, 3, 400]), b"", InputError, "beyond 0 to 255"),
        (with_tensor(data=[1, 2, 3, "4"]), b"", InputError, "not all of its kind"),
        (with_tensor(data=None), b"", InputError, "either data or binary_data_size"),
        (with_tensor(parameters={"binary_data_size": 4}), b"abcd", InputError, "either data"),
        (with_tensor(), b"abcd", InputError, "4 bytes follow the last raw tensor"),
        (
            with_tensor(data=None, parameters={"binary_data_size": 4}),
            b"abc",
            InputError,
            "is 4 bytes, got 3",
        ),
        (
            with_tensor(data=None, parameters={"binary_data_size": -4}),
            b"",
            InputError,
            "binary_data_size -4",
        ),
        ({"inputs": [TENSOR, TENSOR]}, b"", InputError, "stands there twice"),
        ({"inputs": [TENSOR], "outputs": [{"name": "y"}]}, b"", InputError, "no output 'y'"),
        ({"inputs": [], "parameters": {"deadline_ms": 0}}, b"", InputError, "deadline_ms"),
        ({"inputs": [], "parameters": {"deadline_ms": "9"}}, b"", InputError, "deadline_ms"),
        ({"inputs": [], "parameters": {"deadline_ms": True}}, b"", InputError, "deadline_ms"),
    ],
)
def test_what_cannot_be_understood_is_refused(document, raw, error, message):
    """The message names the tensor or the parameter."""
    with pytest.raises(error, match=message):
        ask(document, raw)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000, b'{"inputs":' + b"[" * 5000, DEEP, WIDE],
    ids=["empty", "cut", "no text", "a list", "deep", "deep inside", "deep data", "many axes"],
)
def test_what_is_no_json_is_a_wire_error(body):
    """Nothing of the JSON library's own gets out, nor does the stack."""
    with pytest.raises(EdgewrightError):
        protocol.decode(body, len(body), OUTPUTS, ENGINE)


def test_an_answer_says_who_answered():
    """Outputs in order, flat, with their types and shapes, and the parameters given."""
    document, raw = encoded(ask({"id": "7", "inputs": [TENSOR]}), digest="sha256:x")

    assert raw == b""
    assert document == {
        "id": "7",
        "model_name": "digits",
        "model_version": "3",
        "parameters": {"digest": "sha256:x"},
        "outputs": [
            {"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [0.5, -1.25]},
            {"name": "top", "datatype": "INT64", "shape": [1], "data": [7]},
        ],
    }


def test_only_the_outputs_asked_for_are_answered():
    """In the order asked, raw where raw was asked."""
    wanted = [{"name": "top"}, {"name": "logits", "parameters": {"binary_data": True}}]

    document, raw = encoded(ask({"inputs": [TENSOR], "outputs": wanted}))

    assert [o["name"] for o in document["outputs"]] == ["top", "logits"]
    assert document["outputs"][1]["parameters"] == {"binary_data_size": 8}
    assert "data" not in document["outputs"][1]
    assert np.frombuffer(raw, np.float32).tolist() == [0.5, -1.25]
    assert "id" not in document


def test_all_outputs_raw():
    """One parameter asks for it."""
    question = ask({"inputs": [TENSOR], "parameters": {"binary_data_output": True}})

    document, raw = encoded(question)

    assert [o["parameters"]["binary_data_size"] for o in document["outputs"]] == [8, 8]
    assert len(raw) == 16
