"""float16: whole numbers above 2048 and what is above 65504 are never lost without a word."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.sim.models import model, quarters

from edgewright.core.errors import DataError
from edgewright.toolchain.ir.halves import WHOLE_UP_TO, Rounded, rounded_outputs
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.recipe import optimize
from edgewright.toolchain.techniques import load_technique

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def _names_a_class(classes, *, through="ArgMax", to=HALF):
    """Return a model that answers a class beside its score, as exported detectors do."""
    weight = np.random.default_rng(0).normal(size=(4, classes)).astype(np.float32)
    found = {
        "ArgMax": helper.make_node("ArgMax", ["scores"], ["place"], axis=1, keepdims=1),
        "TopK": helper.make_node("TopK", ["scores", "one"], ["top", "place"], axis=1),
    }[through]
    return model(
        [
            helper.make_node("MatMul", ["x", "w"], ["scores"]),
            found,
            helper.make_node("ReduceMax", ["scores"], ["best"], axes=[1], keepdims=1),
            helper.make_node("Cast", ["place"], ["class"], name="class_as_half", to=to),
            helper.make_node("Cast", ["best"], ["score"], name="score_as_half", to=to),
            helper.make_node("Concat", ["class", "score"], ["both"], axis=1),
            helper.make_node("Identity", ["both"], ["answer"]),
        ],
        {"w": weight, "one": np.array([1], np.int64)},
        inputs={"x": (FLOAT, ["n", 4])},
        outputs={"answer": (to, ["n", 2])},
        opset=17,
    )


@pytest.mark.parametrize("through", ["ArgMax", "TopK"])
@pytest.mark.parametrize("classes", [WHOLE_UP_TO + 1, WHOLE_UP_TO + 2, 5000])
def test_a_class_that_half_precision_rounds_is_found(classes, through):
    """Numbers to 2048 are exact, 2049 is not: the node and the largest number are told."""
    found = rounded_outputs(check(_names_a_class(classes, through=through), "m"))

    told = Rounded("answer", "class_as_half", classes - 1)
    assert found == ([told] if classes - 1 > WHOLE_UP_TO else [])


def test_a_class_in_single_precision_is_no_matter():
    """float32 holds every whole number up to 16 million."""
    assert rounded_outputs(check(_names_a_class(5000, to=FLOAT), "m")) == []


def test_a_number_of_unknown_size_is_found():
    """Whole numbers that are fed may be of any size; bytes may not."""
    found = {}
    for kind in (TensorProto.INT64, TensorProto.UINT8):
        proto = model(
            [helper.make_node("Cast", ["x"], ["y"], name="as_half", to=HALF)],
            {},
            inputs={"x": (kind, ["n", 2])},
            outputs={"y": (HALF, ["n", 2])},
        )
        found[kind] = rounded_outputs(check(proto, "m"))

    assert found == {TensorProto.INT64: [Rounded("y", "as_half", None)], TensorProto.UINT8: []}


def test_a_run_stops_at_a_class_in_half_precision(tmp_path):
    """Before anything is made; output, node, number and remedy are told."""
    draw = np.random.default_rng(1)
    _write(tmp_path, _names_a_class(5000), draw.normal(size=(500, 4)))

    with pytest.raises(DataError, match="half-precision: output 'answer' is float16") as told:
        optimize(tmp_path / "m.onnx", data=tmp_path / "data.npz", out=tmp_path / "out")

    assert "'class_as_half' puts whole numbers up to 4999 in it" in str(told.value)
    assert "as int32 or float32" in told.value.hint
    assert "--trust half-precision" in told.value.hint


def test_a_run_stops_at_an_answer_beyond_half_precision(tmp_path):
    """65504 is the largest; how many samples are answered with infinity is told."""
    proto = model(
        [
            helper.make_node("Mul", ["x", "much"], ["large"]),
            helper.make_node("Cast", ["large"], ["answer"], to=HALF),
        ],
        {"much": np.array([1e4], np.float32)},
        inputs={"x": (FLOAT, ["n", 4])},
        outputs={"answer": (HALF, ["n", 4])},
    )
    x = np.random.default_rng(1).uniform(-1, 1, size=(500, 4))
    x[300:310, 0] = 7.0
    _write(tmp_path, proto, x)

    with pytest.raises(DataError, match="'answer' is infinite for 10 of 400 samples") as told:
        optimize(
            tmp_path / "m.onnx",
            data=tmp_path / "data.npz",
            out=tmp_path / "out",
            trust=("calibration-inputs",),
        )

    assert "float16 ends at 65504" in str(told.value)


def test_a_table_of_whole_numbers_is_not_halved():
    """Places in a picture up to 4095 would be rounded to even ones; the table is named."""
    places = np.arange(4096, dtype=np.float32).reshape(1, 4096)
    weight = np.random.default_rng(0).normal(size=(64, 4096)).astype(np.float32)
    proto = model(
        [
            helper.make_node("MatMul", ["x", "w"], ["offset"]),
            helper.make_node("Add", ["offset", "places"], ["y"]),
        ],
        {"w": weight, "places": places},
        inputs={"x": (FLOAT, ["n", 64])},
        outputs={"y": (FLOAT, ["n", 4096])},
    )

    applied = load_technique("weights").apply(check(proto, "m"), {"form": "float16"})

    kept = {t.name: t.data_type for t in applied.graph.proto.graph.initializer}
    assert kept["places"] == FLOAT
    assert HALF in kept.values()
    assert "'places', float16 has not all whole numbers up to 4095" in applied.notes[1]


def test_half_weights_are_offered_for_bytes_and_computed_with_as_floats():
    """A processor without half arithmetic gains nothing by it, so no node computes in it."""
    graph = load_technique("weights").apply(check(quarters(), "m"), {"form": "float16"}).graph

    made = {
        node.op_type
        for node in graph.proto.graph.node
        for kind in _kinds(graph, node.output)
        if kind == HALF
    }
    assert any(t.data_type == HALF for t in graph.proto.graph.initializer)
    assert made == set()


def _kinds(graph, names):
    told = onnx.shape_inference.infer_shapes(graph.proto).graph
    values = {v.name: v.type.tensor_type.elem_type for v in (*told.value_info, *told.output)}
    return [values[name] for name in names if name in values]


def _write(folder, proto, x):
    onnx.save(proto, folder / "m.onnx")
    x = x.astype(np.float32)
    np.savez(folder / "data.npz", calibrate_images=x[:100], evaluate_images=x[100:])
