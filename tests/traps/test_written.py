"""What is written is what counts: it is loaded, run and judged before it may ship."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.sim.models import quarters, write_data, write_model

from edgewright.core.contract import Contract
from edgewright.core.errors import EngineError, ModelError, ParityError
from edgewright.runtime.engines import load_engine
from edgewright.toolchain.measure.accuracy import answers
from edgewright.toolchain.measure.parity import check_parity
from edgewright.toolchain.planner import steps
from edgewright.toolchain.planner.inputs import Order, read
from edgewright.toolchain.planner.mixed import drift
from edgewright.toolchain.recipe import carry_out, optimize
from edgewright.toolchain.techniques import Applied, load_technique

LOOSE = Contract(accuracy_drop_bp=500, worst_class_drop_bp=2000)


def _not_executable():
    """Add a convolution of signed activations, which the engine has no kernel for."""
    nodes = [
        helper.make_node("Cast", ["image"], ["signed"], to=TensorProto.INT8),
        helper.make_node("ConvInteger", ["signed", "ones"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["wide"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "none"], ["nothing"]),
        helper.make_node("Unsqueeze", ["nothing", "last"], ["row"]),
        helper.make_node("Add", ["before", "row"], ["logits"]),
    ]
    return nodes, {
        "ones": np.ones((1, 1, 3, 3), np.int8),
        "none": np.array(0, np.float32),
        "last": np.array([1], np.int64),
    }


def _not_a_number():
    """Take the logarithm of what is negative for some samples."""
    nodes = [
        helper.make_node("Sub", ["before", "much"], ["less"]),
        helper.make_node("Log", ["less"], ["logits"]),
    ]
    return nodes, {"much": np.array(0.5, np.float32)}


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [_not_executable, _not_a_number])
def test_what_the_engine_cannot_answer_with_is_left_out_by_name(tmp_path, monkeypatch, spoil):
    """The other candidates are made and judged as if it had never been."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    class Spoiled:
        def apply(self, graph, settings, samples=None):
            done = load_technique("weights").apply(graph, settings, samples)
            proto = done.graph.copy()
            for node in proto.graph.node:
                node.output[:] = ["before" if n == "logits" else n for n in node.output]
            nodes, held = spoil()
            proto.graph.node.extend(nodes)
            proto.graph.initializer.extend(
                numpy_helper.from_array(array, name) for name, array in held.items()
            )
            return Applied(type(graph)(proto), changed=True, notes=done.notes)

    monkeypatch.setattr(
        steps, "load_technique", lambda n: Spoiled() if n == "weights" else load_technique(n)
    )

    report = optimize(
        write_model(tmp_path / "m.onnx", quarters(opset=17)),
        data=write_data(tmp_path / "data.npz"),
        out=tmp_path / "out",
        contract=LOOSE,
        goal="size",
        allow_slower=True,
    )

    assert report.outcome == "pass"
    assert {"float", "fused", "int8-per-channel"} <= {one.name for one in report.candidates}
    assert "what was written cannot be used" in report.left_out["int8-weights"]


def test_a_model_that_cannot_be_run_as_given_is_an_error(tmp_path):
    """There is nothing to compare with, so nothing is left out: the run stops."""
    nodes, held = _not_executable()
    proto = quarters(opset=17)
    for node in proto.graph.node:
        node.output[:] = ["before" if n == "logits" else n for n in node.output]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in held.items())

    with pytest.raises((EngineError, ModelError)):
        optimize(
            write_model(tmp_path / "m.onnx", proto),
            data=write_data(tmp_path / "data.npz"),
            out=tmp_path / "out",
        )


def test_infinities_are_compared_as_such():
    """Two infinities differ by what is no number, which is over no limit."""
    source = np.array([[1.0, -np.inf], [2.0, 3.0]])
    other = np.array([[1.0, -np.inf], [9.0, 3.0]])
    elsewhere = np.array([[-np.inf, 1.0], [2.0, 3.0]])
    finite = np.array([[1.0, 0.0], [2.0, 3.0]])

    assert check_parity([source], [source.copy()], "m") == 0
    for written in (other, elsewhere, finite):
        with pytest.raises(ParityError):
            check_parity([source], [written], "m")
    with pytest.raises(ParityError, match="or in other places"):
        check_parity([np.array([np.nan, 1.0])], [np.array([1.0, np.nan])], "m")


def test_half_precision_answers_are_held_to_what_it_can_hold():
    """A step of float16 is a thousandth; ten steps are too many."""
    source = np.array([[1.0, 0.5]], np.float16)

    assert check_parity([source], [source + np.float16(1e-3)], "m") < 2e-3
    with pytest.raises(ParityError, match="at most 1e-02"):
        check_parity([source], [source + np.float16(0.02)], "m")


def test_drift_is_a_number_whatever_is_answered():
    """Infinities in the same places are no drift, in others each counts as a whole answer."""
    one = np.array([[1.0, -np.inf], [1.0, 1.0]])
    other = np.array([[1.0, 1.0], [1.0, 1.0]])

    assert drift((one,), (one.copy(),)) == 0
    assert drift((one,), (other,)) == pytest.approx(0.25)


@pytest.mark.slow
def test_what_is_said_of_a_model_is_measured_on_its_own_file(tmp_path, monkeypatch):
    """Not on the last that was tried: that one answers wrongly, and what ships does not."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    class Turned:
        def apply(self, graph, settings, samples=None):
            done = load_technique("quantize").apply(graph, settings, samples)
            proto = done.graph.copy()
            for node in proto.graph.node:
                node.output[:] = ["before" if n == "logits" else n for n in node.output]
            proto.graph.node.append(helper.make_node("Neg", ["before"], ["logits"]))
            return Applied(type(graph)(proto), changed=True, notes=done.notes)

    monkeypatch.setattr(
        steps, "load_technique", lambda n: Turned() if n == "quantize" else load_technique(n)
    )
    order = Order(
        model=write_model(tmp_path / "m.onnx"), data=write_data(tmp_path / "data.npz"),
        out=tmp_path / "out", contract=LOOSE, goal="size", allow_slower=True,
    )  # fmt: skip
    report, data = carry_out(order), read(order).data
    engine = load_engine("onnxruntime")

    for one in report.candidates:
        file = order.folder / "candidates" / one.name / "model.onnx"
        (told,) = answers(engine, file, data.evaluate)
        counts = one.overall
        right = counts.reference_right - counts.lost + counts.gained
        assert right == (told.argmax(axis=1) == data.labels).sum(), one.name
    tried_last = next(one for one in report.candidates if one.name == "int8-per-tensor")
    assert tried_last.overall.lost > 300
    assert report.shipped.overall.lost < 10
