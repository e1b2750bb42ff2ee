"""optimize: what it leaves, what it refuses, and that it leaves nothing half done."""

import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tests.sim.interrupted import interrupted
from tests.sim.models import model, quarters, samples, write_data, write_model

import edgewright
from edgewright.cli.report import text
from edgewright.core import digest, records
from edgewright.core.contract import Contract
from edgewright.core.errors import (
    ConfigError,
    ContractError,
    DataError,
    InconclusiveError,
    ModelError,
    ParityError,
    QuantizeError,
    TargetError,
    UsageError,
)
from edgewright.runtime.engines import load_engine
from edgewright.toolchain.ir.load import load
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.planner.perform import Workshop, check_float
from edgewright.toolchain.planner.values import CandidatePlan, Plan
from edgewright.toolchain.planner.workspace import read_report
from edgewright.toolchain.recipe import Order, Report, carry_out, load_project, optimize
from edgewright.toolchain.report import headline
from edgewright.toolchain.report.summary import summary

pytestmark = pytest.mark.slow

LATENCY = "latency of int8-per-tensor"
LOOSE = Contract(accuracy_drop_bp=200, worst_class_drop_bp=600)


def _state(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- what it leaves


def test_the_smallest_that_passes_is_chosen(made):
    """The size that was asked is what int8 fits; floats that do not are not asked at all."""
    _, report, _ = made

    outcomes = {one.name: one.outcome for one in report.candidates}
    passing = [one for one in report.candidates if one.outcome == "pass"]
    assert outcomes["float"] == "fail"
    assert "bytes are more than the 60000 that are allowed" in report.left_out["fused"]
    assert report.outcome == "pass"
    assert report.shipped.file_bytes == min(one.file_bytes for one in passing)
    assert report.candidate("float").file_bytes / report.shipped.file_bytes > 3.5


def test_every_file_is_what_the_report_says(made):
    """Candidates and golden answers by digest, evidence by name, documents by digest."""
    order, report, _ = made
    folder = order.folder

    for one in report.candidates:
        for name, sha256 in one.files.items():
            assert digest.of_file(folder / "candidates" / one.name / name) == sha256
    for name, sha256 in report.golden.files.items():
        assert digest.of_file(folder / "golden" / name) == sha256
    for name in report.evidence_files.values():
        assert digest.hex_of(digest.of_file(folder / "evidence" / name)) == name[:-5]
    assert digest.of_file(folder / "recipe.json") == report.recipe_sha256
    assert digest.of_file(folder / "plan.json") == report.plan_sha256
    assert (
        records.decode(
            Report, json.loads((folder / "report.json").read_text()), error=ConfigError
        )
        == report
    )


def test_golden_answers_are_those_of_the_reference(made):
    """32 real inputs, as the reference answers them one by one."""
    order, report, _ = made
    folder = order.folder / "golden"
    data = np.load(order.data)

    inputs = np.fromfile(folder / "input-0.bin", np.uint8).reshape(-1, 1, 8, 8)
    outputs = np.fromfile(folder / "output-0.bin", np.float32).reshape(-1, 4)

    session = onnxruntime.InferenceSession(order.model)
    expected = [session.run(None, {"image": image[None]})[0][0] for image in inputs]
    places = list(report.golden.samples)
    assert len(places) == 32
    np.testing.assert_array_equal(inputs, data["evaluate_images"][places])
    np.testing.assert_allclose(outputs, expected, rtol=1e-5)
    assert (outputs.argmax(axis=1) == data["evaluate_labels"][places]).all()


def test_nothing_tells_of_the_machine_it_was_made_on(made):
    """No path, no user, no time in what ships or is stored."""
    order, _, _ = made

    for name, data in _state(order.folder).items():
        assert str(order.model.parent).encode() not in data, name


def test_every_event_reaches_the_watcher(made):
    """Stages in order, every candidate, and one end."""
    _, report, events = made

    stages = [event.fields["stage"] for event in events if event.kind == "stage"]
    told = [event.fields for event in events if event.kind == "candidate"]
    named = [fields["name"] for fields in told if not fields["provisional"]]
    assert [fields["name"] for fields in told if fields["provisional"]] == named
    assert list(dict.fromkeys(stages)) == [
        "load",
        "answer",
        "check",
        "make",
        "measure",
        "write",
    ]
    assert named == [one.name for one in report.candidates]
    assert events[-1].kind == "done"
    assert events[-1].fields["chosen"] == report.chosen


def test_the_same_again_is_the_same_to_the_byte(made):
    """Same inputs and same evidence: every file, and nothing is measured."""
    order, report, _ = made
    before = _state(order.folder)
    events = []

    again = carry_out(order, observe=events.append)

    said = [e.fields["what"] for e in events if e.fields.get("stage") == "measure"]
    assert again == report
    assert _state(order.folder) == before
    assert said == [f"{what}, from stored evidence" for what in report.evidence_files]


def test_measuring_again_changes_evidence_only(made, folder):
    """The models and the plan are the same; the old figures are kept beside the new."""
    order, report, _ = made
    order = replace(order, out=folder)
    before = _state(folder)

    again = carry_out(order, measure_again=True)

    after = _state(folder)
    kept = [name for name in before if name.startswith("candidates/")]
    latency = json.loads(after[f"evidence/{again.evidence_files[LATENCY]}"])
    assert all(after[name] == before[name] for name in [*kept, "plan.json", "recipe.json"])
    assert again.evidence_files[LATENCY] != report.evidence_files[LATENCY]
    assert latency["previous"]
    assert all("was" in line for line in again.changed)


def test_another_contract_reuses_the_measurements(made, folder):
    """What was too large is asked and timed now, nothing else is; and no force is needed."""
    order, report, _ = made
    tighter = replace(
        order, out=folder, contract=replace(order.contract, file_bytes=2_000_000)
    )

    again = carry_out(tighter)

    new = {*again.evidence_files} - {*report.evidence_files}
    assert report.evidence_files.items() <= again.evidence_files.items()
    assert new == {
        f"{kind} of {name}"
        for kind in ("accuracy", "latency", "footprint")
        for name, why in report.left_out.items()
        if "that are allowed" in why
    }
    assert {"accuracy of fused", "accuracy of fp16-weights"} <= new
    assert {one.outcome for one in again.candidates} == {"pass"}


def test_python_gets_the_same(made, tmp_path):
    """``edgewright.optimize`` with paths as text."""
    order, report, _ = made

    found = edgewright.optimize(
        str(order.model), data=str(order.data), contract=LOOSE, out=str(tmp_path / "out"),
        quantization="none", classes=("a", "b", "c", "d"),
    )  # fmt: skip

    assert found.outcome == "pass"
    assert found.recipe.classes == ("a", "b", "c", "d")
    assert [one.name for one in found.candidates] == ["float", "fused"]
    assert found.candidate("float").files == report.candidate("float").files


def test_without_labels_it_is_fidelity_and_called_so(made, tmp_path):
    """Right is what the reference answers; the report never says accuracy of it."""
    order, labelled, _ = made
    bare = write_data(tmp_path / "bare.npz", evaluate_labels=None)
    order = replace(order, data=bare, out=tmp_path / "out")

    report = carry_out(order)

    assert labelled.recipe.metric == "accuracy"
    assert report.recipe.metric == "fidelity"
    for one in report.candidates:
        assert one.overall.reference_right == one.overall.n == 400
        assert one.overall.gained == 0
    assert report.candidate("float").overall.lost == 0
    assert "answers like the reference's" in headline(report)
    shown = text(report, order.folder)
    assert "there are no labels: a loss is an answer unlike the reference's" in shown
    assert summary(report)["metric"] == "fidelity"
    assert "Right answers" not in (order.folder / "report.html").read_text()


# --- contracts that are not met


def test_an_impossible_contract_says_what_is_possible(made, tmp_path):
    """Exit 3, what was missed with the numbers, the nearest contract, and the report."""
    order, _, _ = made
    order = replace(order, out=tmp_path / "out", contract=replace(LOOSE, file_bytes=1000))

    with pytest.raises(ContractError, match="file_bytes") as caught:
        carry_out(order)

    report = read_report(tmp_path / "out")
    assert caught.value.exit_code == 3
    assert not isinstance(caught.value, InconclusiveError)
    assert f"file_bytes = {report.shipped.file_bytes}" in caught.value.hint
    assert "report.html" in caught.value.hint
    assert report.chosen == ""
    assert report.nearest.moved == ("file_bytes",)
    assert (tmp_path / "out" / "report.html").exists()


def test_too_few_samples_are_inconclusive(made, tmp_path):
    """Exit 4, and how many samples would decide it."""
    order, _, _ = made
    few = write_data(tmp_path / "few.npz", evaluate=40)
    order = replace(order, contract=replace(order.contract, file_bytes=100_000))

    with pytest.raises(InconclusiveError, match="does not decide") as caught:
        carry_out(replace(order, data=few, quantization="fp16", out=tmp_path / "out"))

    report = read_report(tmp_path / "out")
    assert caught.value.exit_code == 4
    assert any("samples" in line and "would decide it" in line for line in report.missed)


def test_a_model_that_became_useless_is_refused(made, tmp_path):
    """It loads and is fast, and answers the opposite of the reference."""
    order, _, _ = made
    wrong = write_model(tmp_path / "wrong.onnx", quarters(gain=-1.0))

    with pytest.raises(ContractError, match="accuracy_drop"):
        carry_out(replace(order, model=wrong, reference=order.model, out=tmp_path / "out"))

    report = read_report(tmp_path / "out")
    # Surely wrong answers are not worth timing: the baseline is, and what is nearest.
    timed = {one.name for one in report.candidates if one.figure("p50_us")}
    assert timed == {"float", report.shipped.name}
    assert report.recipe.reference_sha256 == digest.of_file(order.model)
    assert report.shipped.overall.candidate_right < 0.3 * report.shipped.overall.n


def test_speed_of_another_device_is_not_known(made, tmp_path):
    """Estimated, so inconclusive; the host's figures are shown as the host's."""
    order, _, _ = made
    order = replace(order, device="raspberry-pi-5", out=tmp_path / "out")

    with pytest.raises(InconclusiveError, match="estimated"):
        carry_out(order)

    report = read_report(tmp_path / "out")
    assert report.device.title == "Raspberry Pi 5 8GB"
    firm = {e.machine for e in report.shipped.evidence if e.firm}
    assert firm == {report.host.fingerprint}
    assert any("--accept-estimates" in line for line in report.missed)


# --- refusals; none leaves a folder


TWO_INPUTS = model(
    [helper.make_node("Add", ["x", "z"], ["y"])],
    {},
    inputs={"x": (TensorProto.FLOAT, ["n", 4]), "z": (TensorProto.FLOAT, ["n", 4])},
    outputs={"y": (TensorProto.FLOAT, ["n", 4])},
)


@pytest.mark.parametrize(
    ("proto", "error", "match"),
    [
        (TWO_INPUTS, DataError, "no array 'evaluate_x'"),
        (quarters(batch=8), ModelError, "must be the sample, free or 1"),
    ],
    ids=["two inputs", "fixed batch"],
)
def test_models_that_cannot_be_judged_are_refused(made, tmp_path, proto, error, match):
    """What is wrong with the interface or missing for it."""
    order, _, _ = made
    path = write_model(tmp_path / "m.onnx", proto)

    with pytest.raises(error, match=match):
        carry_out(replace(order, model=path, out=tmp_path / "out"))

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"calibrate_images": None}, DataError, "no calibration samples"),
        ({"evaluate_labels": np.zeros(399, int)}, DataError, "399 evaluation labels for 400"),
        ({"evaluate_labels": np.full(400, 4)}, DataError, "classes 0 to 3"),
        ({"calibrate_images": samples(90)[0][60:]}, DataError, "30 of 400 evaluation"),
        ({"evaluate_images": samples(400)[0].astype(float)}, DataError, "must be uint8"),
    ],
    ids=["no calibration", "short labels", "label range", "overlap", "dtype"],
)
def test_data_that_cannot_be_used_is_refused(made, tmp_path, change, error, match):
    """The array and the numbers; nothing is made."""
    order, _, _ = made
    change = {"calibrate_labels": None, **change}
    path = write_data(tmp_path / "d.npz", **change)

    with pytest.raises(error, match=match):
        carry_out(replace(order, data=path, out=tmp_path / "out"))

    assert not (tmp_path / "out").exists()


def test_int8_or_an_error(tmp_path):
    """Asked for int8 where nothing can be quantized: no float instead, and nothing left."""
    path = write_model(
        tmp_path / "m.onnx",
        model(
            [
                helper.make_node("Flatten", ["x"], ["f"]),
                helper.make_node("Relu", ["f"], ["y"]),
            ],
            {},
            inputs={"x": (TensorProto.FLOAT, ["n", 2, 2])},
            outputs={"y": (TensorProto.FLOAT, ["n", 4])},
        ),
    )
    inputs = np.random.default_rng(0).normal(size=(300, 2, 2)).astype(np.float32)
    np.savez(
        tmp_path / "d.npz", calibrate_images=inputs[:100], evaluate_images=inputs[100:],
        evaluate_labels=np.maximum(inputs[100:].reshape(-1, 4), 0).argmax(axis=1),
    )  # fmt: skip

    with pytest.raises(QuantizeError, match=r"no candidate could be made.*could be quantized"):
        optimize(path, data=tmp_path / "d.npz", out=tmp_path / "out", quantization="int8")

    assert not (tmp_path / "out").exists()


def test_a_step_that_changes_nothing_is_left_out_by_name(tmp_path):
    """Nothing to fuse, nothing to quantize: the float ships, and the report says why."""
    path = write_model(
        tmp_path / "m.onnx",
        model(
            [
                helper.make_node("Flatten", ["x"], ["f"]),
                helper.make_node("Relu", ["f"], ["y"]),
            ],
            {},
            inputs={"x": (TensorProto.FLOAT, ["n", 2, 2])},
            outputs={"y": (TensorProto.FLOAT, ["n", 4])},
        ),
    )
    inputs = np.random.default_rng(0).normal(size=(1000, 2, 2)).astype(np.float32)
    np.savez(
        tmp_path / "d.npz", calibrate_images=inputs[:100], evaluate_images=inputs[100:],
        evaluate_labels=np.maximum(inputs[100:].reshape(-1, 4), 0).argmax(axis=1),
    )  # fmt: skip

    report = optimize(path, data=tmp_path / "d.npz", contract=LOOSE, out=tmp_path / "out")

    assert report.chosen == "float"
    assert report.left_out["fused"] == "nothing was left to fuse"
    assert "could be quantized" in report.left_out["int8-per-tensor"]


def test_a_microcontroller_is_refused(made, tmp_path):
    """No engine of ours runs there, and that is said before anything is made."""
    order, _, _ = made

    with pytest.raises(TargetError, match="runs micro"):
        carry_out(replace(order, device="esp32-s3", out=tmp_path / "out"))


def test_a_reference_that_answers_another_question_is_refused(made, tmp_path):
    """Other classes cannot be compared."""
    order, _, _ = made
    other = model(
        [
            helper.make_node("Flatten", ["image"], ["f"]),
            helper.make_node("Cast", ["f"], ["y"], to=1),
        ],
        {},
        inputs={"image": (TensorProto.UINT8, ["n", 1, 8, 8])},
        outputs={"y": (TensorProto.FLOAT, ["n", 64])},
    )
    reference = write_model(tmp_path / "r.onnx", other)

    with pytest.raises(ModelError, match=r"answers y float32 \[64\], the model takes"):
        carry_out(replace(order, reference=reference, out=tmp_path / "out"))


def test_other_inputs_are_not_overwritten(made, folder, tmp_path):
    """A finished folder of another model stays, unless it is forced."""
    order, report, _ = made
    other = write_model(tmp_path / "other.onnx", quarters(seed=4))
    before = _state(folder)

    with pytest.raises(UsageError, match=r"made from other inputs \(model, reference\)"):
        carry_out(replace(order, model=other, out=folder))

    assert _state(folder) == before
    forced = carry_out(replace(order, model=other, out=folder), force=True)
    assert forced.recipe.model_sha256 != report.recipe.model_sha256


@pytest.mark.parametrize("change", [{"quantization": "int2"}, {"classes": ("one", "two")}])
def test_a_wish_that_means_nothing_is_a_usage_error(made, tmp_path, change):
    """No such quantization; two names for four classes."""
    order, _, _ = made

    with pytest.raises(UsageError):
        carry_out(replace(order, out=tmp_path / "out", **change))


def test_a_written_model_that_answers_otherwise_is_a_parity_error(tmp_path):
    """What was lowered is compared with the file the user gave, on real inputs."""
    given = write_model(tmp_path / "given.onnx")
    other = load(write_model(tmp_path / "other.onnx", quarters(gain=1.05)))
    images = Samples({"image": samples(64)[0]})
    plan = Plan(
        1,
        "onnxruntime",
        "onnxruntime",
        "float",
        (CandidatePlan("float", (), choosable=True),),
        {},
    )
    made = Workshop(plan, other, images, tmp_path / "candidates").make(plan.candidates[0])

    with pytest.raises(
        ParityError, match=r"float is .* away from its source on 64 real inputs"
    ):
        check_float(made, load_engine("onnxruntime"), given, images)


# --- faults


def _command(order, out, *more):
    return [
        sys.executable, "-m", "edgewright.cli.main", "optimize", str(order.model),
        "--data", str(order.data), "-o", str(out), "--events", "--allow-slower", *more,
    ]  # fmt: skip


@pytest.mark.parametrize("stage", ["make", "answer", "measure"])
def test_an_interrupt_leaves_nothing(made, tmp_path, stage):
    """Ctrl-C once, at any stage: exit 130, no folder, no trace of a traceback."""
    order, _, _ = made
    out = tmp_path / "out"

    code, said = interrupted(
        _command(order, out), lambda line: line.get("stage") == stage, after_s=0.05
    )

    assert code == 130
    assert "Traceback" not in said
    assert not out.exists()


def test_an_interrupt_leaves_the_run_before(made, folder):
    """The finished folder is what it was, to the byte."""
    order, _, _ = made
    before = _state(folder)

    code, _ = interrupted(
        _command(order, folder, "--measure-again"),
        lambda line: line.get("what") == "footprint of fused",
    )

    assert code == 130
    assert _state(folder) == before


@pytest.mark.parametrize("limit", [4_000, 40_000, 120_000])
def test_a_full_disk_is_a_storage_error(made, tmp_path, limit):
    """Wherever the space ends: what was meant is said, and nothing is left."""
    order, _, _ = made
    out = tmp_path / "out"

    done = subprocess.run(
        _command(order, out, "--worst-class-drop", "6"),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )

    assert done.returncode == 1
    assert "cannot" in done.stderr
    assert "Free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


# --- the project file


def test_a_project_file_is_read(tmp_path):
    """Every table of it, with the contract as people write it."""
    path = tmp_path / "edgewright.toml"
    path.write_text(
        '[model]\nreference = "r.onnx"\n[data]\npath = "d.npz"\nclasses = ["a", "b"]\n'
        '[data.keys]\nevaluate_inputs = "x"\n[contract]\naccuracy_drop_points = 0.5\n'
        '[policy]\nmin_inferences = 9\n[recipe]\nquantization = "int8"\n'
    )

    project = load_project(path)

    assert project.model.reference == "r.onnx"
    assert project.data.keys.evaluate_inputs == "x"
    assert project.data.classes == ("a", "b")
    assert project.contract == {"accuracy_drop_points": 0.5}
    assert project.policy.min_inferences == 9
    assert project.recipe.quantization == "int8"


def test_a_misspelt_key_is_named(tmp_path):
    """The nearest known one is offered."""
    path = tmp_path / "edgewright.toml"
    path.write_text("[recipe]\nquantisation = 'int8'\n")

    with pytest.raises(ConfigError, match="unknown key 'quantisation'") as caught:
        load_project(path)

    assert "quantization" in caught.value.hint


def test_an_order_names_its_folder():
    """``out/<stem>`` unless another is given."""
    order = Order(model=Path("models/digits-1.onnx"), data=Path("d.npz"))

    assert str(order.folder) == "out/digits-1"
