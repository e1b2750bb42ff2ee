"""load: what it takes, what it takes away, and everything it refuses."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.sim.models import model, quarters, samples, write_model

from edgewright.core import digest
from edgewright.core.errors import ModelError, ParityError
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.ir.answers import answers
from edgewright.toolchain.ir.load import load, source_digest
from edgewright.toolchain.ir.upgrade import check_alike


def test_the_interface_is_read_off_the_graph(tmp_path):
    """Names, types and shapes, with -1 where the size is free."""
    graph = load(write_model(tmp_path / "m.onnx"))

    assert graph.inputs == (TensorSpec("image", "uint8", (-1, 1, 8, 8)),)
    assert graph.outputs == (TensorSpec("logits", "float32", (-1, 4)),)
    assert graph.opset == 18


def test_an_initializer_is_not_an_input(tmp_path):
    """Old exporters list the weights among the inputs; nobody has to feed them."""
    proto = quarters()
    proto.graph.input.append(
        helper.make_tensor_value_info("kernel", TensorProto.FLOAT, [8, 1, 3, 3])
    )

    graph = load(write_model(tmp_path / "m.onnx", proto))

    assert [spec.name for spec in graph.inputs] == ["image"]


def test_traces_of_the_exporter_are_gone(tmp_path):
    """No producer, no notes, no paths of the machine it was exported on."""
    proto = quarters()
    proto.producer_name, proto.doc_string = "exporter", "of a person"
    for holder in (proto, proto.graph, proto.graph.node[0], proto.graph.initializer[0]):
        entry = holder.metadata_props.add()
        entry.key, entry.value = "stack_trace", "File /srv/secret/train.py"
    proto.graph.value_info.append(
        helper.make_tensor_value_info("kernel", TensorProto.FLOAT, [1, 2])
    )

    data = load(_write_unchecked(tmp_path / "m.onnx", proto)).to_bytes()

    assert b"secret" not in data
    assert b"exporter" not in data
    assert b"of a person" not in data


def test_equal_weights_are_stored_once(tmp_path):
    """Two initializers with the same bytes become one, and both readers read it."""
    two = np.full((4, 4), 0.5, np.float32)
    proto = model(
        [
            helper.make_node("MatMul", ["x", "a"], ["y"]),
            helper.make_node("MatMul", ["y", "b"], ["z"]),
        ],
        {"a": two, "b": two, "unused": two + 1},
        inputs={"x": (TensorProto.FLOAT, ["n", 4])},
        outputs={"z": (TensorProto.FLOAT, ["n", 4])},
    )

    graph = load(write_model(tmp_path / "m.onnx", proto))

    assert [tensor.name for tensor in graph.proto.graph.initializer] == ["a"]
    assert [node.input[1] for node in graph.proto.graph.node] == ["a", "a"]


def test_external_data_is_part_of_the_model(tmp_path):
    """Weights in a file beside the graph are loaded, and count for its digest."""
    path = tmp_path / "m.onnx"
    onnx.save(
        quarters(), path, save_as_external_data=True, location="m.data", size_threshold=0
    )
    before = source_digest(path)

    graph = load(path)
    data = (tmp_path / "m.data").read_bytes()
    (tmp_path / "m.data").write_bytes(data[:-1] + b"\x7f")

    assert graph.weight_bytes > 100_000
    assert source_digest(path) != before


def test_the_digest_of_a_single_file_is_that_of_the_file(tmp_path):
    """So a person can work it out with sha256sum."""
    path = write_model(tmp_path / "m.onnx")

    assert source_digest(path) == digest.of_file(path)


def test_local_functions_are_opened(tmp_path):
    """A function of the exporter's becomes the nodes it stands for."""
    domain = "pkg"
    function = helper.make_function(
        domain, "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )  # fmt: skip
    proto = model(
        [helper.make_node("Twice", ["x"], ["y"], domain=domain)],
        {},
        inputs={"x": (TensorProto.FLOAT, ["n", 4])},
        outputs={"y": (TensorProto.FLOAT, ["n", 4])},
    )
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid(domain, 1))

    graph = load(write_model(tmp_path / "m.onnx", proto))

    assert graph.operators == {"Add": 1}


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "not an ONNX model"),
        (b"PK\x03\x04 a zip", "not an ONNX model"),
        (b"just a text\n", "not an ONNX model"),
        (bytes(1000), "not an ONNX model"),
    ],
    ids=["empty", "zip", "text", "zeros"],
)
def test_what_is_not_onnx_is_refused(tmp_path, data, match):
    """A file of another kind is named, with its size."""
    path = tmp_path / "m.onnx"
    path.write_bytes(data)

    with pytest.raises(ModelError, match=match) as caught:
        load(path)

    assert str(len(data)) in str(caught.value)


def test_a_truncated_model_is_refused_wherever_it_ends(tmp_path):
    """At every length but the whole there is an error of ours, never another."""
    data = write_model(tmp_path / "whole.onnx", quarters(hidden=4)).read_bytes()
    path = tmp_path / "m.onnx"
    for length in sorted({*range(0, len(data), 997), *range(len(data) - 40, len(data))}):
        path.write_bytes(data[:length])

        with pytest.raises(ModelError):
            load(path)


@pytest.mark.parametrize("opset", [11, 12])
def test_an_old_opset_is_raised(tmp_path, opset):
    """To the first that knows channels; the answers stay the same, to the last bit."""
    path = write_model(tmp_path / "old.onnx", quarters(opset=opset))
    images, _ = samples(5)

    graph = load(path)
    (tmp_path / "new.onnx").write_bytes(graph.to_bytes())

    before, after = (
        answers(tmp_path / name, [{"image": images}]) for name in ("old.onnx", "new.onnx")
    )
    assert graph.opset == 13
    np.testing.assert_array_equal(before, after)


def test_a_raised_model_that_answers_otherwise_is_refused():
    """What the converter of opsets did is looked at, not believed."""
    feeds = {"image": samples(2)[0]}

    with pytest.raises(ParityError, match="raised to a newer opset answers something else"):
        check_alike(quarters(opset=11), quarters(opset=13, gain=-1.0), feeds, "m.onnx")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "bright",
            "'bright' is the name of what Relu '' writes and of what MatMul 'end' writes",
        ),
        ("image", "'image' is the name of an input and of what MatMul 'end' writes"),
        ("kernel", "'kernel' is the name of a weight and of what MatMul 'end' writes"),
    ],
)
def test_a_name_that_two_tensors_have_is_told(tmp_path, name, said):
    """Both are named, and that another name for the output helps."""
    proto = quarters()
    proto.graph.node[-1].name = "end"
    proto.graph.node[-1].output[0] = name
    proto.graph.output[0].name = name

    with pytest.raises(ModelError, match="not a valid ONNX model") as told:
        load(_write_unchecked(tmp_path / "m.onnx", proto))

    assert said in str(told.value)
    assert "another name" in told.value.hint


@pytest.mark.parametrize("opset", [9, 10, 99])
def test_an_unknown_opset_is_refused(tmp_path, opset):
    """Older than we can raise, or newer than anything we know."""
    path = _write_unchecked(tmp_path / "m.onnx", quarters(opset=opset))

    with pytest.raises(ModelError, match=f"opset {opset}"):
        load(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, bad):
    """The tensor is named, with how many values are bad."""
    proto = quarters()
    kernel = next(t for t in proto.graph.initializer if t.name == "kernel")
    values = numpy_helper.to_array(kernel).copy()
    values[2, 0, 1, 1] = bad
    kernel.CopyFrom(numpy_helper.from_array(values, "kernel"))

    with pytest.raises(ModelError, match="1 of 72 weights of 'kernel'"):
        load(write_model(tmp_path / "m.onnx", proto))


def test_an_infinite_bound_is_no_weight(tmp_path):
    """Clip with an infinite maximum is an ordinary ReLU."""
    proto = model(
        [helper.make_node("Clip", ["x", "low", "high"], ["y"])],
        {"low": np.array(0, np.float32), "high": np.array(np.inf, np.float32)},
        inputs={"x": (TensorProto.FLOAT, ["n", 4])},
        outputs={"y": (TensorProto.FLOAT, ["n", 4])},
    )

    graph = load(write_model(tmp_path / "m.onnx", proto))

    assert graph.operators == {"Clip": 1}


def test_types_that_do_not_fit_together_are_refused(tmp_path):
    """A float weight multiplied with integers is a broken model."""
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"w": np.ones((4, 4), np.float32)},
        inputs={"x": (TensorProto.INT32, ["n", 4])},
        outputs={"y": (TensorProto.FLOAT, ["n", 4])},
    )

    with pytest.raises(ModelError, match="not a valid ONNX model"):
        load(_write_unchecked(tmp_path / "m.onnx", proto))


def test_a_weight_with_too_few_bytes_is_refused(tmp_path):
    """The tensor whose values do not fill its shape is named."""
    proto = quarters()
    kernel = next(t for t in proto.graph.initializer if t.name == "kernel")
    kernel.raw_data = kernel.raw_data[:-4]

    with pytest.raises(ModelError, match="kernel"):
        load(_write_unchecked(tmp_path / "m.onnx", proto))


@pytest.mark.parametrize("place", ["../m.data", "a/../../m.data", "/etc/hostname", "C:m.data"])
def test_weights_are_read_from_beside_the_model_only(tmp_path, place):
    """A model that names a file elsewhere is refused, by load and by its digest."""
    path = tmp_path / "in" / "m.onnx"
    path.parent.mkdir()
    onnx.save(
        quarters(), path, save_as_external_data=True, location="m.data", size_threshold=0
    )
    (path.parent / "m.data").rename(tmp_path / "m.data")
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = place
    path.write_bytes(proto.SerializeToString())

    for read in (load, source_digest):
        with pytest.raises(ModelError, match="not a file beside the model"):
            read(path)


def test_external_data_behind_a_link_is_refused(tmp_path):
    """A link beside the model leads elsewhere as well as a path does."""
    path = tmp_path / "in" / "m.onnx"
    path.parent.mkdir()
    onnx.save(
        quarters(), path, save_as_external_data=True, location="m.data", size_threshold=0
    )
    (path.parent / "m.data").rename(tmp_path / "m.data")
    (path.parent / "m.data").symlink_to(tmp_path / "m.data")

    with pytest.raises(ModelError, match="cannot be read"):
        load(path)


@pytest.mark.parametrize("cut", ["missing", "short"])
def test_missing_external_data_is_refused(tmp_path, cut):
    """The graph alone is not the model."""
    path = tmp_path / "m.onnx"
    onnx.save(
        quarters(), path, save_as_external_data=True, location="m.data", size_threshold=0
    )
    beside = tmp_path / "m.data"
    if cut == "missing":
        beside.unlink()
    else:
        beside.write_bytes(beside.read_bytes()[:1000])

    with pytest.raises(ModelError):
        load(path)


def test_a_model_that_is_not_there_is_refused(tmp_path):
    """The message names the file, not the folder it was looked for in."""
    with pytest.raises(ModelError, match=r"cannot read the model gone\.onnx"):
        load(tmp_path / "gone.onnx")


def test_an_output_without_shape_is_refused(tmp_path):
    """Nothing could be said about what it answers."""
    proto = quarters()
    proto.graph.output[0].type.tensor_type.ClearField("shape")

    with pytest.raises(ModelError, match="shape"):
        load(_write_unchecked(tmp_path / "m.onnx", proto))


def _write_unchecked(path, proto):
    path.write_bytes(proto.SerializeToString())
    return path
