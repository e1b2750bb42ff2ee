"""Mixed precision: the layers to blame are found, taken out, and stored in 8 bits still."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.sim.colours import classifier, pictures
from tests.sim.models import model

from edgewright.core.errors import UsageError
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.planner.layers import ends_of, estimate, followers, layers_of
from edgewright.toolchain.planner.mixed import drift
from edgewright.toolchain.planner.patterns import known_bad
from edgewright.toolchain.recipe import optimize

GRAPH = check(classifier(wide=1000.0), "m")
SAMPLES = Samples({"image": pictures(100)[0]})


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return what optimises the colour model in which one channel takes all of a scale."""
    # Whether the layer to blame is in floats anyway would hang on how fast this machine is.
    monkeypatch.setattr("edgewright.toolchain.planner.stem._MOST", 0)
    images, labels = pictures(1200)
    np.savez(
        tmp_path / "data.npz",
        calibrate_images=images[:300],
        calibrate_labels=labels[:300],
        evaluate_images=images[300:],
        evaluate_labels=labels[300:],
    )
    onnx.save(classifier(wide=1000.0), tmp_path / "m.onnx")

    def go(**wishes):
        return optimize(
            tmp_path / "m.onnx", data=tmp_path / "data.npz", out=tmp_path / "out",
            quantization="int8", goal="size", allow_slower=True, force=True, **wishes,
        )  # fmt: skip

    return go


def test_the_layers_are_the_nodes_with_weights():
    """In the order of the graph, with what they compute from and answer."""
    found = layers_of(GRAPH)

    assert [one.operator for one in found] == ["Conv", "MatMul", "Gemm"]
    assert found[1].weight_bytes == 4 * 64 * 64 * 4
    assert ends_of(GRAPH, found) == {found[0].name, found[2].name}
    names = {node.name for node in GRAPH.proto.graph.node}
    assert followers(GRAPH, found, {found[0].name}) == {
        name for name in names if name.startswith(("Relu_1", "Flatten"))
    }


def test_a_layer_with_a_state_holds_the_weights_of_both():
    """Those of its input, 3 gates by 8 by 5, and of its state, 3 gates by 8 by 8."""
    weights = {"W": np.zeros((1, 24, 5), np.float32), "R": np.zeros((1, 24, 8), np.float32)}
    node = helper.make_node("GRU", ["x", "W", "R"], ["", "y"], name="gru", hidden_size=8)
    proto = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 1, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 8])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    made = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)])

    (layer,) = layers_of(Graph(made))

    assert layer.weight_bytes == 4 * (24 * 5 + 24 * 8)
    assert layer.unit == 24


def test_the_estimate_blames_the_layer_that_is_fed_the_wide_channel():
    """Its input is rounded in steps of four, where a share of one counts."""
    layers = layers_of(GRAPH)

    found = estimate(GRAPH, layers, SAMPLES)

    errors = {layer.operator: found[layer.name].error for layer in layers}
    assert errors["MatMul"] > 20 * max(errors["Conv"], errors["Gemm"])
    assert sum(one.work for one in found.values()) == pytest.approx(1)


def test_no_answer_moved_is_no_drift():
    """And a tenth of every answer is a tenth."""
    one = (np.array([[1.0, -2.0]]),)

    assert drift(one, one) == 0
    assert drift(one, (one[0] * 1.1,)) == pytest.approx(0.1)


@pytest.mark.slow
def test_what_no_8_bit_candidate_holds_a_mixed_one_does(run):
    """The layer to blame comes out, stored as int8 still, and the answers are right."""
    report = run()

    whole = {"int8-dynamic", "int8-per-channel", "int8-per-tensor"}
    assert {c.outcome for c in report.candidates if c.name in whole} == {"fail"}
    mixed = report.candidate("int8-mixed")
    assert mixed.outcome == "pass"
    forms = {one.operator: one.form for one in mixed.layers}
    assert forms["MatMul"] == "int8-weights"
    assert forms["Gemm"] == "int8"
    assert mixed.file_bytes < report.candidate("float").file_bytes / 3


@pytest.mark.slow
def test_a_mixed_search_that_is_done_again_measures_nothing(run):
    """Probes are evidence too: stored, found again, and the same report comes of them."""
    first, seen = run(), []

    second = run(observe=seen.append)

    said = [e.fields["what"] for e in seen if e.fields.get("stage") == "measure"]
    assert all("from stored evidence" in what for what in said)
    assert second == first


@pytest.mark.slow
def test_a_pinned_layer_is_never_taken_out(run):
    """The search works with what is left, and says so where that is not enough."""
    report = run(precision={"MatMul*": "int8"})

    for one in report.candidates:
        assert all(not layer.name.startswith("MatMul") for layer in one.layers)


def test_a_pin_that_fits_no_layer_is_refused(run):
    """The nearest layer is named."""
    with pytest.raises(UsageError, match="no layer is called like 'Matmul"):
        run(precision={"Matmul*": "float"})


def test_a_form_nobody_knows_is_refused(run):
    """With the nearest one."""
    with pytest.raises(UsageError, match="precision of Conv_0 cannot be 'int9'") as caught:
        run(precision={"Conv_0": "int9"})

    assert "int8" in caught.value.hint


def test_softmax_and_what_goes_by_it_is_left_in_floats():
    """Up to the next layer with weights; the layer itself is not."""
    proto = model(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Softmax", ["a"], ["b"]),
            helper.make_node("Mul", ["b", "two"], ["c"]),
            helper.make_node("MatMul", ["c", "v"], ["y"]),
        ],
        {"w": np.eye(4, dtype=np.float32), "v": np.eye(4, dtype=np.float32),
         "two": np.array(2, np.float32)},
        inputs={"x": (TensorProto.FLOAT, ["n", 4])},
        outputs={"y": (TensorProto.FLOAT, ["n", 4])},
    )  # fmt: skip

    found = known_bad(check(proto, "m"), Samples({"x": np.ones((8, 4), np.float32)}))

    assert {name.partition("_")[0] for name in found} == {"Softmax", "Mul"}


@pytest.mark.parametrize(("size", "bad"), [(64.0, True), (2.0, False)])
def test_parts_of_very_different_size_get_no_scale_together(size, bad):
    """Boxes up to 64 beside scores up to 1; twice as large is borne."""
    proto = model(
        [
            helper.make_node("Mul", ["x", "size"], ["boxes"]),
            helper.make_node("Sigmoid", ["x"], ["scores"]),
            helper.make_node("Concat", ["boxes", "scores"], ["y"], axis=1),
        ],
        {"size": np.array(size, np.float32)},
        inputs={"x": (TensorProto.FLOAT, ["n", 4])},
        outputs={"y": (TensorProto.FLOAT, ["n", 8])},
    )

    found = known_bad(check(proto, "m"), Samples({"x": np.ones((8, 4), np.float32)}))

    assert any("it joins parts up to 64" in why for why in found.values()) is bad
