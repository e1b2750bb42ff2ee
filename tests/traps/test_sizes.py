"""Bytes: what is too large is said before it is read, what ships is weighed as written."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.sim.models import quarters, write_data, write_model

from edgewright.core.errors import ModelError
from edgewright.toolchain.ir.load import MOST_BYTES, load, source_digest
from edgewright.toolchain.recipe import optimize


def _sparse(path, size):
    """Write a file that takes ``size`` bytes to read and none on disk."""
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(size)


@pytest.mark.parametrize("read", [load, source_digest])
@pytest.mark.parametrize("beside", [True, False], ids=["weights beside", "one file"])
def test_more_than_two_gigabytes_are_refused_unread(tmp_path, read, beside):
    """How many bytes there are, how many can be, and what to do; never "not an ONNX model"."""
    path = tmp_path / "large.onnx"
    if beside:
        _write_external(path)
    _sparse(tmp_path / "weights.data" if beside else path, MOST_BYTES + 1)
    total = MOST_BYTES + 1 + (path.stat().st_size if beside else 0)

    with pytest.raises(ModelError, match=f"large.onnx takes {total} bytes") as told:
        read(path)

    assert f"{MOST_BYTES} (2 GiB)" in str(told.value)
    assert "float16" in told.value.hint


def test_as_much_as_can_be_held_is_not_refused_for_its_size(tmp_path):
    """One byte less is read, and found to be what it is."""
    path = tmp_path / "m.onnx"
    _write_external(path)

    assert load(path).weight_bytes == 4 * 4 * 4


@pytest.mark.slow
def test_bytes_are_those_of_the_files_and_not_of_what_could_be_left_out(tmp_path):
    """Zeros among the weights make no file smaller, so a model full of them is not."""
    proto = quarters()
    for tensor in proto.graph.initializer:
        if len(tensor.raw_data) > 10_000:
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[np.abs(values) < 0.004] = 0
            assert (values == 0).mean() > 0.8
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    report = optimize(
        write_model(tmp_path / "m.onnx", proto),
        data=write_data(tmp_path / "data.npz"),
        out=tmp_path / "out",
        quantization="none",
        allow_slower=True,
    )

    for one in report.candidates:
        folder = tmp_path / "out" / "candidates" / one.name
        assert one.file_bytes == sum(file.stat().st_size for file in folder.iterdir())
        assert one.file_bytes > 130_000


def _write_external(path):
    """Write a small model whose weights are in a file beside it."""
    weight = onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [weight],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 8
    onnx.save(
        proto, path, save_as_external_data=True, location="weights.data", size_threshold=0
    )
