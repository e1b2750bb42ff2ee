"""ONNX brought in: it answers as it did, with the axes, the opset and the names we want."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.sim.models import model, quarters, samples, write_model

from edgewright.core.errors import DataError, ModelError, ParityError, UsageError
from edgewright.toolchain.ir.answers import answers
from edgewright.toolchain.ir.axes import inputs_of, outputs_of
from edgewright.toolchain.ir.load import load
from edgewright.toolchain.sources import SOURCES, Wish, bring, recognise
from edgewright.toolchain.sources.settle import settle
from edgewright.toolchain.sources.values import Converted

PLANTED = "/srv/secret/train.py"
FLOAT = TensorProto.FLOAT


def _bring(path, tmp_path, **wish):
    return bring(str(path), Wish(**wish), tmp_path / "out")


@pytest.mark.parametrize("opset", [11, 12, 13, 18])
def test_a_model_answers_as_given(tmp_path, opset):
    """Real inputs, one row and several; a rise of the opset is said."""
    images, _ = samples(80)
    path = write_model(tmp_path / "m.onnx", quarters(opset=opset))

    brought = _bring(path, tmp_path, samples={"image": images})

    told = [answers(one, [{"image": images}])[0][0] for one in (path, brought.path)]
    np.testing.assert_allclose(*told, rtol=1e-5)
    assert load(brought.path).opset == max(opset, 13)
    assert any(f"opset {opset} and raised to 13" in n for n in brought.notes) == (opset < 13)
    assert (brought.rows, brought.real) == (64, True)
    assert brought.parity < 1e-5


def test_a_newer_opset_on_request(tmp_path):
    """It is raised and checked like an old one; it cannot be lowered."""
    path = write_model(tmp_path / "m.onnx")

    brought = _bring(path, tmp_path, opset=21)

    assert load(brought.path).opset == 21
    assert "It was raised from opset 18 to 21." in brought.notes
    with pytest.raises(UsageError, match="opset 18 and cannot be lowered to 17"):
        _bring(path, tmp_path, opset=17)


def test_made_up_inputs_are_called_so(tmp_path):
    """Without samples parity is checked all the same, and the note says on what."""
    brought = _bring(write_model(tmp_path / "m.onnx"), tmp_path)

    assert not brought.real
    assert any("made-up inputs" in note for note in brought.notes)


@pytest.mark.parametrize("key", ["batch", "n", "image:0"])
def test_a_batch_is_frozen_by_any_of_its_names(tmp_path, key):
    """``batch``, the name in the file, or the place; outputs follow."""
    brought = _bring(write_model(tmp_path / "m.onnx"), tmp_path, freeze={key: 2})

    graph = load(brought.path)
    assert inputs_of(graph)[0].shape == (2, 1, 8, 8)
    assert outputs_of(graph)[0].shape == (2, 4)


def test_a_name_nobody_has_is_refused(tmp_path):
    """The nearest axis is named."""
    with pytest.raises(UsageError, match="no free axis is called 'bacth'") as caught:
        _bring(
            write_model(tmp_path / "m.onnx", quarters(batch="batch")),
            tmp_path,
            freeze={"bacth": 1},
        )

    assert "'batch'" in caught.value.hint


def test_a_free_axis_is_frozen_or_kept_on_request_only(tmp_path):
    """The input, the axis and its name are in the refusal, both remedies in the hint."""
    proto = model(
        [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=0),
            helper.make_node("Gemm", ["m", "w"], ["y"]),
        ],
        {"w": np.eye(3, dtype=np.float32)},
        inputs={"x": (FLOAT, ["n", "time", 3])},
        outputs={"y": (FLOAT, ["n", 3])},
        opset=13,
    )
    path = write_model(tmp_path / "m.onnx", proto)

    with pytest.raises(ModelError, match=r"axis 1 \('time'\) of input 'x' is free") as caught:
        _bring(path, tmp_path)
    kept = inputs_of(load(_bring(path, tmp_path, keep_dynamic=True).path))[0]
    fixed = inputs_of(load(_bring(path, tmp_path, freeze={"time": 7}).path))[0]

    assert "--freeze time=N" in caught.value.hint
    assert "--keep-dynamic" in caught.value.hint
    assert kept.shape == ("batch", "time", 3)
    assert fixed.shape == ("batch", 7, 3)


def _reshaping(first):
    """Return a model said to take any batch, with a Reshape to ``first`` rows inside."""
    return model(
        [
            helper.make_node("Reshape", ["x", "shape"], ["flat"], name="flatten_it"),
            helper.make_node("Relu", ["flat"], ["y"]),
        ],
        {"shape": np.array([first, -1])},
        inputs={"x": (FLOAT, ["n", 2, 3])},
        outputs={"y": (FLOAT, ["n", 6] if first == 0 else ["n", "k"])},
    )


def test_a_free_batch_that_does_not_work_is_refused(tmp_path):
    """The node that fixes it is named; the remedy works."""
    path = write_model(tmp_path / "m.onnx", _reshaping(1))

    with pytest.raises(ModelError, match=r"Reshape 'flatten_it' to \[1, -1\]") as caught:
        _bring(path, tmp_path)
    frozen = _bring(path, tmp_path, freeze={"batch": 1})

    assert "--freeze batch=1" in caught.value.hint
    assert outputs_of(load(frozen.path))[0].shape == (1, 6)
    assert _bring(write_model(tmp_path / "good.onnx", _reshaping(0)), tmp_path).parity == 0.0


def test_a_batch_the_engine_stops_at_is_refused(tmp_path):
    """With the sizes that were fed."""
    proto = _reshaping(1)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([1, 6]), "shape"))

    with pytest.raises(ModelError, match=r"cannot answer x \[3, 2, 3\]") as caught:
        _bring(write_model(tmp_path / "m.onnx", proto), tmp_path)

    assert "--freeze batch=1" in caught.value.hint


def test_sizes_that_do_not_fit_together_are_refused(tmp_path):
    """Frozen at what the weights were not made for."""
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"w": np.ones((4, 2), np.float32)},
        inputs={"x": (FLOAT, ["n", "width"])},
        outputs={"y": (FLOAT, ["n", 2])},
    )

    with pytest.raises(ModelError, match="does not fit together with the frozen axes"):
        _bring(write_model(tmp_path / "m.onnx", proto), tmp_path, freeze={"width": 5})


def test_samples_are_matched_by_name_and_shape(tmp_path):
    """A missing array, another type, another shape, values that are not finite."""
    proto = model(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        {},
        inputs={"a": (FLOAT, ["n", 2]), "b": (FLOAT, ["n", 2])},
        outputs={"y": (FLOAT, ["n", 2])},
    )
    path = write_model(tmp_path / "m.onnx", proto)
    good = np.ones((5, 2), np.float32)

    assert _bring(path, tmp_path, samples={"b": good, "a": good}).rows == 5
    for wrong, match in (
        ({"a": good}, "no samples for input 'b'"),
        (
            {"a": good, "b": good.astype(np.float64)},
            "takes b float32 nx2|takes b float32 batchx2",
        ),
        ({"a": good, "b": np.ones((5, 3), np.float32)}, "axis 1 of the samples for 'b' is 3"),
        ({"a": good, "b": good[:2]}, "different numbers of samples: a 5, b 2"),
        ({"a": good, "b": good * np.nan}, "not finite"),
    ):
        with pytest.raises(DataError, match=match):
            _bring(path, tmp_path, samples=wrong)


def test_weights_and_inputs_are_the_models_own(tmp_path):
    """Flags that would mean nothing are refused."""
    path = write_model(tmp_path / "m.onnx")

    with pytest.raises(UsageError, match="brings its own"):
        _bring(path, tmp_path, weights=tmp_path / "w.safetensors")


# --- parity


def _told(*arrays):
    return lambda tried: [list(arrays) for _ in tried]


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda a: a * 1.001, "of the largest answer away from its source"),
        (lambda a: a[:, :3], r"answers shape \[1, 4\], its source \[1, 3\]"),
        (lambda a: np.where(a == a.max(), np.nan, a), "not finite"),
    ],
    ids=["far", "shape", "nan"],
)
def test_another_answer_than_the_source_gives_is_an_error(tmp_path, answer, match):
    """And nothing is written."""
    path = write_model(tmp_path / "m.onnx")

    def source(tried):
        return [[answer(a) for a in told] for told in answers(path, tried)]

    with pytest.raises(ParityError, match=match):
        settle(Converted(path, "sha256:0", "x", (), source), "onnx", Wish(), tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_another_number_of_outputs_is_an_error(tmp_path):
    """A source that answers more than was exported is not what was exported."""
    path = write_model(tmp_path / "m.onnx")
    two = _told(np.zeros((1, 4), np.float32), np.zeros(1))

    with pytest.raises(ParityError, match=r"has 1 outputs \(logits\), its source answers 2"):
        settle(Converted(path, "sha256:0", "x", (), two), "onnx", Wish(), tmp_path / "out")


# --- traces


def test_a_path_planted_anywhere_is_gone(tmp_path):
    """Notes, names, stale shapes, subgraphs, fields of others: the bytes hold none of it."""
    inner = helper.make_graph(
        [helper.make_node("Relu", ["x"], [f"{PLANTED}/in"], name=PLANTED, doc_string=PLANTED)],
        PLANTED,
        [],
        [helper.make_tensor_value_info(f"{PLANTED}/in", FLOAT, ["n", 4])],
        doc_string=PLANTED,
    )
    inner.node[0].metadata_props.add(key="trace", value=PLANTED)
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["negative"])],
        "other",
        [],
        [helper.make_tensor_value_info("negative", FLOAT, ["n", 4])],
    )
    yes = numpy_helper.from_array(np.array(True))  # noqa: FBT003  the value of a constant
    yes.doc_string = PLANTED
    proto = model(
        [
            helper.make_node("Constant", [], ["yes"], value=yes),
            helper.make_node(
                "If", ["yes"], [f"{PLANTED}:0"], then_branch=inner, else_branch=other
            ),
            helper.make_node(
                "MatMul", [f"{PLANTED}:0", f"{PLANTED}/w"], ["y"], name=f"a/{PLANTED}"
            ),
        ],
        {f"{PLANTED}/w": np.eye(4, dtype=np.float32)},
        inputs={"x": (FLOAT, ["n", 4])},
        outputs={"y": (FLOAT, ["n", 4])},
    )
    for holder in (proto, proto.graph, proto.graph.node[1], proto.graph.initializer[0]):
        holder.doc_string = PLANTED
        holder.metadata_props.add(key=PLANTED, value=PLANTED)
    proto.graph.node[1].attribute[0].doc_string = PLANTED
    proto.graph.input[0].doc_string = PLANTED
    proto.producer_name = proto.domain = proto.graph.name = PLANTED
    proto.graph.value_info.append(helper.make_tensor_value_info(PLANTED, FLOAT, [9]))
    path = write_model(tmp_path / "m.onnx", proto)
    # A field no ONNX has: number 1999, a text.
    field = b"\xfa\x7c" + bytes([len(PLANTED)]) + PLANTED.encode()
    path.write_bytes(path.read_bytes() + field)
    assert path.read_bytes().count(b"secret") > 15

    brought = _bring(path, tmp_path)

    assert b"secret" not in brought.path.read_bytes()
    assert brought.parity == 0.0


# --- recognising


def test_each_kind_is_recognised(tmp_path):
    """By its name, and folders by what is in them; the table has a row for each."""
    for name in ("m.onnx", "m.pt2", "m.keras", "m.h5", "m.tflite"):
        (tmp_path / name).write_bytes(b"x")
    for folder, file in (("bert", "config.json"), ("saved", "saved_model.pb")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text("{}")

    kinds = [
        recognise(str(tmp_path / name)).name
        for name in ("m.onnx", "m.pt2", "m.keras", "m.h5", "m.tflite", "bert", "saved")
    ]

    assert kinds == [
        "onnx", "torch-export", "keras", "keras", "tflite", "transformers", "saved-model",
    ]  # fmt: skip
    assert recognise("package.module:Class.make").name == "factory"
    assert set(kinds) <= set(SOURCES)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("gone.onnx", "there is no model gone.onnx"),
        ("m.safetensors", "weights without the model"),
        ("m.txt", "no kind of model"),
        ("empty", "neither config.json"),
        ("m.pt", "no file that torch wrote"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, name, match):
    """With what it could have been."""
    (tmp_path / "empty").mkdir()
    for file in ("m.safetensors", "m.txt", "m.pt"):
        (tmp_path / file).write_bytes(b"something")

    with pytest.raises(ModelError, match=match) as caught:
        recognise(str(tmp_path / name))

    assert caught.value.hint


def test_external_data_is_brought_in(tmp_path):
    """One file comes out, with all weights."""
    path = tmp_path / "m.onnx"
    onnx.save(quarters(), path, save_as_external_data=True, location="d", size_threshold=0)

    brought = _bring(path, tmp_path)

    assert len(brought.path.read_bytes()) > 130_000
    assert [p.name for p in brought.path.parent.iterdir()] == ["model.onnx"]


def test_the_folder_of_the_model_is_left_as_it_was(tmp_path):
    """Nothing is written beside what was given, whatever is asked."""
    (tmp_path / "given").mkdir()
    path = write_model(tmp_path / "given" / "m.onnx")

    bring(str(path), Wish(freeze={"batch": 1}), tmp_path / "out")

    assert [one.name for one in (tmp_path / "given").iterdir()] == ["m.onnx"]
