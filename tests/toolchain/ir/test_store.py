"""files_of: the same bytes every time, the same answers, and no name too many."""

import numpy as np
import onnx
import onnxruntime
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.sim.models import model, quarters, samples

from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.store import EXTERNAL_FROM_BYTES, MODEL, WEIGHTS, files_of


def test_the_same_graph_gives_the_same_bytes():
    """Twice from one file, and after a round through bytes."""
    first = files_of(check(quarters(), "m"))
    again = files_of(check(onnx.load_model_from_string(quarters().SerializeToString()), "m"))

    assert first == again


def test_large_weights_lie_beside_the_graph():
    """From 64 KiB on there is a second file, which holds nearly everything."""
    graph = check(quarters(hidden=64), "m")

    files = files_of(graph)

    assert graph.weight_bytes > EXTERNAL_FROM_BYTES
    assert set(files) == {MODEL, WEIGHTS}
    assert len(files[WEIGHTS]) > 0.9 * graph.weight_bytes
    assert len(files[MODEL]) < 4096


def test_small_weights_stay_inside():
    """Below it one file is enough."""
    files = files_of(check(quarters(hidden=4), "m"))

    assert set(files) == {MODEL}


def test_what_is_written_answers_the_same(tmp_path):
    """Short names and another place for the weights change no answer at all."""
    images, _ = samples(20)
    source = quarters()
    expected = _answer(source.SerializeToString(), images)
    for name, data in files_of(check(source, "m")).items():
        (tmp_path / name).write_bytes(data)

    found = _answer(str(tmp_path / MODEL), images)

    np.testing.assert_array_equal(found, expected)


def test_inputs_and_outputs_keep_their_names():
    """They are the interface; everything between has a name of a character or two."""
    proto = onnx.load_model_from_string(files_of(check(quarters(hidden=4), "m"))[MODEL])

    inside = {name for node in proto.graph.node for name in (*node.input, *node.output)}
    assert [value.name for value in proto.graph.input] == ["image"]
    assert [value.name for value in proto.graph.output] == ["logits"]
    assert all(len(name) <= 2 for name in inside - {"image", "logits"})
    assert {node.name for node in proto.graph.node} == {""}


def test_a_short_name_never_meets_a_given_one():
    """An input that is called 0 keeps that name, and nothing else gets it."""
    proto = model(
        [
            helper.make_node("Relu", ["0"], ["middle"]),
            helper.make_node("Relu", ["middle"], ["1"]),
        ],
        {},
        inputs={"0": (TensorProto.FLOAT, ["n", 4])},
        outputs={"1": (TensorProto.FLOAT, ["n", 4])},
    )

    data = files_of(check(proto, "m"))[MODEL]

    found = onnxruntime.InferenceSession(data).run(None, {"0": -np.eye(4, dtype=np.float32)})
    np.testing.assert_array_equal(found[0], np.zeros((4, 4)))
    assert onnx.load_model_from_string(data).graph.node[0].output[0] == "2"


def test_a_graph_in_a_graph_keeps_its_names():
    """What a branch reads from outside is still found."""
    inner = [
        helper.make_graph(
            [helper.make_node(operator, ["x", "w"], [f"{operator}_out"])],
            operator,
            [],
            [helper.make_tensor_value_info(f"{operator}_out", TensorProto.FLOAT, ["n", 4])],
        )
        for operator in ("Add", "Mul")
    ]
    proto = model(
        [
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            helper.make_node("Greater", ["most", "zero"], ["positive"]),
            helper.make_node(
                "If", ["positive"], ["y"], then_branch=inner[0], else_branch=inner[1]
            ),
        ],
        {"w": np.full((4,), 3, np.float32), "zero": np.array(0, np.float32)},
        inputs={"x": (TensorProto.FLOAT, ["n", 4])},
        outputs={"y": (TensorProto.FLOAT, ["n", 4])},
    )
    x = np.array([[1, 2, 3, 4]], np.float32)

    data = files_of(check(proto, "m"))[MODEL]

    session = onnxruntime.InferenceSession(data)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], x + 3)
    np.testing.assert_array_equal(session.run(None, {"x": -x})[0], -x * 3)


@given(hidden=st.integers(1, 12), seed=st.integers(0, 99))
def test_weights_are_aligned_and_whole(hidden, seed):
    """Every tensor in the second file begins at a multiple of 64 and lies inside it."""
    graph = check(quarters(hidden=4 * hidden, seed=seed), "m")
    files = files_of(graph)
    proto = onnx.load_model_from_string(files[MODEL])

    for tensor in proto.graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place:
            assert int(place["offset"]) % 64 == 0
            assert int(place["offset"]) + int(place["length"]) <= len(files[WEIGHTS])
            assert place["location"] == WEIGHTS


def _answer(source, images):
    return onnxruntime.InferenceSession(source).run(None, {"image": images})[0]
