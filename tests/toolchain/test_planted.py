"""Twelve mistakes that make good figures of a bad model: each is caught without being asked.

Every test plants one and runs ``optimize`` as anybody would; none passes a flag.
"""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import onnx
import pytest
from benchmarks.suite import ROWS
from onnx import helper, numpy_helper
from tests.sim.colours import classifier, pictures

from edgewright.core.contract import Contract
from edgewright.core.errors import ContractError, DataError, ModelError
from edgewright.toolchain.planner import steps, workspace
from edgewright.toolchain.recipe import optimize
from edgewright.toolchain.techniques import Applied, load_technique

CALIBRATE, EVALUATE = 300, 900


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return what runs ``optimize`` on the colour model, with some of it replaced."""
    # A planted technique must not be hidden by what the real one left.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def go(proto=None, *, name="model", contract=None, **arrays):
        images, labels = pictures(CALIBRATE + EVALUATE)
        held = {
            "calibrate_images": images[:CALIBRATE],
            "calibrate_labels": labels[:CALIBRATE],
            "evaluate_images": images[CALIBRATE:],
            "evaluate_labels": labels[CALIBRATE:],
        }
        for key, value in arrays.items():
            made = value(held[key]) if callable(value) else value
            held[key] = made
        given = {key: value for key, value in held.items() if value is not None}
        np.savez(tmp_path / "data.npz", **given)
        onnx.save(proto or classifier(), tmp_path / f"{name}.onnx")
        return optimize(
            tmp_path / f"{name}.onnx",
            data=tmp_path / "data.npz",
            out=tmp_path / "out" / name,
            contract=contract or Contract(),
            allow_slower=True,
        )

    return go


@pytest.mark.slow
def test_what_is_planted_in_is_sound(run):
    """Without a mistake there is no doubt, and something smaller ships."""
    report = run()

    assert report.outcome == "pass"
    assert report.doubts == ()
    assert report.shipped.file_bytes < report.candidate("float").file_bytes


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda x: x * 255, "divided by 255"),
        (lambda x: x / 255, "times 255"),
    ],
    ids=["bytes", "dark"],
)
def test_1_inputs_prepared_otherwise_than_in_training(run, wrong, said):
    """The model is asked again with common preparations, and the one that helps is named."""
    with pytest.raises(DataError, match=rf"preparation: .*% {said}"):
        run(calibrate_images=wrong, evaluate_images=wrong)


def test_1_calibration_prepared_otherwise_than_evaluation(run):
    """Ranges of bytes for a model that is fed shares."""
    with pytest.raises(DataError, match="calibration-inputs: the mean of 'image' is"):
        run(calibrate_images=lambda x: x * 255)


def test_1_calibration_padded_otherwise_than_evaluation(tmp_path):
    """Padded phrases to calibrate a model on that will see unpadded ones."""
    rows = {row.name: row for row in ROWS}
    padded = rows["transformer-padded"].samples("calibrate")
    whole = rows["transformer"].samples("evaluate")
    np.savez(
        tmp_path / "data.npz",
        evaluate_labels=whole.targets["label"],
        **{f"calibrate_{name}": array for name, array in padded.inputs.items()},
        **{f"evaluate_{name}": array for name, array in whole.inputs.items()},
    )

    with pytest.raises(DataError, match=r"calibration-inputs: .* of '(mask|words)'"):
        optimize(rows["transformer"].model, data=tmp_path / "data.npz", out=tmp_path / "out")


@pytest.mark.parametrize("labelled", [True, False], ids=["by labels", "by answers"])
def test_2_a_class_that_calibration_lacks(run, labelled):
    """It is named, by the labels or by what the model itself answers."""
    images, labels = pictures(CALIBRATE)
    kept = labels != 4
    marks = labels[kept] if labelled else None

    with pytest.raises(
        DataError, match="calibration-classes: no calibration sample is of '4'"
    ):
        run(calibrate_images=images[kept], calibrate_labels=marks)


@pytest.mark.slow
def test_3_boxes_and_scores_that_share_a_scale(tmp_path):
    """A detector whose heads are one tensor: what loses its scores does not ship."""
    row = next(row for row in ROWS if row.name == "detector")
    proto = _one_tensor(onnx.load(row.model))
    held, calibrate = row.samples("evaluate"), row.samples("calibrate")
    np.savez(
        tmp_path / "data.npz",
        calibrate_images=calibrate.inputs["image"],
        evaluate_images=held.inputs["image"][:2000],
        evaluate_boxes=held.targets["boxes"][:2000],
        evaluate_labels=held.targets["label"][:2000],
    )
    onnx.save(proto, tmp_path / "m.onnx")

    report = optimize(
        tmp_path / "m.onnx", data=tmp_path / "data.npz", out=tmp_path / "out", goal="size"
    )

    assert report.outcome == "pass"
    assert report.shipped.overall.loss().high <= 0.01
    for one in report.candidates:
        assert one.chosen or one.outcome != "pass" or one.overall.loss().high <= 0.01


def test_4_ranges_from_four_samples(run):
    """Four are refused, and how many there are is said."""
    with pytest.raises(DataError, match="calibration-size: 4 calibration samples"):
        run(calibrate_images=lambda x: x[:4], calibrate_labels=lambda y: y[:4])


@pytest.mark.slow
def test_5_a_weight_that_takes_all_of_a_scale(run):
    """One weight a thousand times the others, in a channel nobody reads: not by tensor."""
    report = run(classifier(wide=1000.0), contract=Contract(file_bytes=20_000))

    assert report.outcome == "pass"
    assert report.shipped.overall.loss().high <= 0.01
    assert all(one.chosen or one.outcome == "fail" for one in report.candidates[3:])


def test_6_colours_in_another_order(run):
    """Blue, green, red for a model that was trained with red, green, blue."""
    with pytest.raises(DataError, match="with the order of colours turned round"):
        run(calibrate_images=lambda x: x[:, ::-1], evaluate_images=lambda x: x[:, ::-1])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda x: x.swapaxes(2, 3), "with height and width swapped"),
        (lambda x: x.transpose(0, 2, 3, 1).reshape(x.shape), "read with the channel last"),
    ],
    ids=["turned", "channels last"],
)
def test_7_axes_in_another_order(run, wrong, said):
    """The shape fits, the meaning of its sizes does not."""
    with pytest.raises(DataError, match=said):
        run(calibrate_images=wrong, evaluate_images=wrong)


@pytest.mark.slow
def test_7_a_technique_that_takes_the_wrong_axis(run, monkeypatch, tmp_path):
    """Scales of the rows for the columns: judged by its answers, and never shipped."""

    class Wrong:
        def apply(self, graph, settings, samples=None):
            done = load_technique("weights").apply(graph, settings, samples)
            proto = done.graph.copy()
            for node in proto.graph.node:
                if node.op_type == "Mul":
                    scale = next(t for t in proto.graph.initializer if t.name == node.input[1])
                    turned = np.roll(numpy_helper.to_array(scale), 1)
                    scale.CopyFrom(numpy_helper.from_array(turned, scale.name))
            return Applied(type(graph)(proto), changed=True, notes=done.notes)

    def load(name):
        return Wrong() if name == "weights" else load_technique(name)

    monkeypatch.setattr(steps, "load_technique", load)

    # Another candidate may hold the contract; the spoiled one must not ship.
    with suppress(ContractError):
        run(contract=Contract(file_bytes=17_500))

    report = workspace.read_report(tmp_path / "out" / "model")
    found = report.candidate("int8-weights")
    assert report.chosen != "int8-weights"
    assert {f.limit: f.outcome for f in found.findings}["accuracy_drop"] == "fail"


@pytest.mark.parametrize("how", ["weights", "layer"])
def test_8_a_layer_that_answers_no_number(run, how):
    """NaN among the weights, or a logarithm of what is below zero."""
    proto = classifier()
    if how == "weights":
        weight = next(t for t in proto.graph.initializer if t.name == "first")
        values = numpy_helper.to_array(weight).copy()
        values[3, 3] = np.nan
        weight.CopyFrom(numpy_helper.from_array(values, "first"))
    else:
        proto.graph.node[-1].output[0] = "before"
        proto.graph.node.append(helper.make_node("Log", ["before"], ["scores"]))

    with pytest.raises(ModelError, match=r"not finite|answers NaN"):
        run(proto)


@pytest.mark.parametrize("copied", [lambda x: x, lambda x: x + np.float32(1e-7)])
def test_9_evaluation_samples_among_the_calibration_samples(run, copied):
    """Byte by byte, or rounded otherwise."""
    images, labels = pictures(CALIBRATE + EVALUATE)
    leaked = images[:CALIBRATE].copy()
    leaked[:50] = copied(images[CALIBRATE : CALIBRATE + 50])

    with pytest.raises(
        DataError, match="50 of 900 evaluation samples are calibration samples"
    ):
        run(calibrate_images=leaked, calibrate_labels=labels[:CALIBRATE])


@pytest.mark.slow
def test_10_steps_and_evidence_of_another_model(run, tmp_path):
    """What an earlier run of another model left is not taken for this one's."""
    first = run(name="one")
    other = classifier(bias=-0.5)
    (tmp_path / "out" / "two").mkdir(parents=True)
    (tmp_path / "out" / "one" / workspace.EVIDENCE).rename(
        tmp_path / "out" / "two" / workspace.EVIDENCE
    )

    second = run(other, name="two")

    alike = set(first.evidence_files.values()) & set(second.evidence_files.values())
    assert not alike
    assert second.candidate("float").files != first.candidate("float").files


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda y: (y + 1) % 6, "the labels look shifted by one"),
        (lambda y: np.array([3, 4, 5, 0, 1, 2])[y], "the classes look mixed up"),
    ],
    ids=["shifted", "mixed"],
)
def test_11_labels_that_mean_other_classes(run, wrong, said):
    """How many answers would be right is said for both readings."""
    with pytest.raises(DataError, match=said):
        run(evaluate_labels=wrong)


def test_11_classes_in_other_shares(run):
    """Evaluation is nearly all of one class, calibration is not."""
    images, labels = pictures(6 * EVALUATE)
    mostly = np.flatnonzero((labels == 2) | (np.arange(len(labels)) % 16 == 0))[CALIBRATE:]

    with pytest.raises(DataError, match="class-shares: the classes are mixed otherwise"):
        run(evaluate_images=images[mostly] * np.float32(0.999), evaluate_labels=labels[mostly])


def test_12_a_class_that_is_never_answered(run):
    """The reference itself never names it, so nothing could be lost there."""
    with pytest.raises(DataError, match="dead-class: the reference never answers '5'"):
        run(classifier(bias=-50.0))


@pytest.mark.slow
def test_12_a_class_that_only_the_candidate_loses(run, monkeypatch, tmp_path):
    """A sixth of the samples in the worst class: out by that class, whatever the rest."""

    class Deaf:
        def apply(self, graph, settings, samples=None):
            done = load_technique("weights").apply(graph, settings, samples)
            proto = done.graph.copy()
            offset = next(t for t in proto.graph.initializer if t.dims == [6])
            values = numpy_helper.to_array(offset).copy()
            values[5] -= 50
            offset.CopyFrom(numpy_helper.from_array(values, offset.name))
            return Applied(type(graph)(proto), changed=True, notes=done.notes)

    def load(name):
        return Deaf() if name == "weights" else load_technique(name)

    monkeypatch.setattr(steps, "load_technique", load)
    contract = replace(Contract(), accuracy_drop_bp=3000, min_retention_bp=0)

    with suppress(ContractError):
        run(contract=replace(contract, file_bytes=17_500))

    report = workspace.read_report(tmp_path / "out" / "model")
    found = report.candidate("int8-weights")
    assert report.chosen != "int8-weights"
    missed = [f for f in found.findings if f.outcome == "fail"]
    assert [f.limit for f in missed] == ["worst_class_drop"]
    assert "class '5'" in missed[0].reason


def _one_tensor(proto):
    """Return the detector with both heads in one tensor, taken apart at the very end."""
    graph = proto.graph
    boxes, scores = (output.name for output in graph.output)
    for node in graph.node:
        node.output[:] = [f"{n}_head" if n in {boxes, scores} else n for n in node.output]
        node.input[:] = [f"{n}_head" if n in {boxes, scores} else n for n in node.input]
    sizes = numpy_helper.from_array(np.array([4, 3], np.int64), "head_sizes")
    graph.initializer.append(sizes)
    graph.node.extend(
        [
            helper.make_node("Concat", [f"{boxes}_head", f"{scores}_head"], ["both"], axis=2),
            helper.make_node("Split", ["both", "head_sizes"], [boxes, scores], axis=2),
        ]
    )
    return proto
