"""The compression suite: its table tells the truth about its models and its data."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.suite import MODELS, ROWS, cost
from benchmarks.suite.answers import answers_of
from benchmarks.suite.data import EVALUATE, PHRASE_LENGTH, PHRASE_SHORTEST, Samples
from benchmarks.suite.metrics import (
    accuracy,
    average_precision,
    fault_area,
    mean_overlap,
)
from onnx import TensorProto, helper, numpy_helper

from edgewright.toolchain.ir.load import check, load

# Drawing five thousand samples of each takes seconds.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "benchmarks" / "suite" / "README.md").read_text()


@pytest.fixture(params=ROWS, ids=lambda row: row.name)
def row(request):
    """One row of the table after the other."""
    return request.param


def _rows(samples):
    arrays = list(samples.inputs.values())
    return {
        b"".join(array[index].tobytes() for array in arrays) for index in range(len(samples))
    }


def test_the_table_loads_nothing_heavy():
    """Whoever lists the models pays for no numpy, onnx or torch."""
    code = (
        "import sys, benchmarks.suite;"
        "print({'numpy', 'onnx', 'onnxruntime', 'torch'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "set()"


def test_the_table_and_the_folder_hold_the_same_models():
    """No model without a row, no row without a model, together under 12 MB."""
    models = {row.model_file for row in ROWS}

    assert models == {path.name for path in MODELS.iterdir()}
    assert sum(path.stat().st_size for path in MODELS.iterdir()) < 12_000_000


def test_a_model_is_what_its_row_says(row):
    """It loads, costs what is stored, and takes any number of what its data feed."""
    graph = load(row.model)
    fed = row.samples("calibrate").inputs

    assert 18 <= graph.opset <= 21
    assert cost.parameters(graph) == row.parameters
    assert cost.mflop(graph) == pytest.approx(row.mflop, abs=0.005)
    assert [spec.name for spec in graph.inputs] == list(fed)
    for spec, array in zip(graph.inputs, fed.values(), strict=True):
        assert spec.shape[0] == -1
        assert spec.misfit(str(array.dtype), array.shape) == ""


def test_a_model_names_nothing_of_the_machine_it_was_trained_on(row):
    """The file is its own tidied form and holds no path."""
    data = row.model.read_bytes()

    assert load(row.model).to_bytes() == data
    assert b".py" not in data
    assert b"site-packages" not in data


def test_data_are_the_same_every_time_and_in_one_part_only(row):
    """Two calls give equal bytes; no sample to calibrate on is one to judge by."""
    first, again = row.samples("calibrate"), row.samples("calibrate")
    judged = row.samples("evaluate")

    for one, other in ((first.inputs, again.inputs), (first.targets, again.targets)):
        assert {k: a.tobytes() for k, a in one.items()} == {
            k: a.tobytes() for k, a in other.items()
        }
    assert len(judged) >= EVALUATE >= 5_000
    assert not _rows(first) & _rows(judged)


def test_nothing_judged_was_trained_on(row):
    """The training part shares no sample with the other two."""
    trained = _rows(row.samples("train"))

    assert not trained & _rows(row.samples("calibrate"))
    assert not trained & _rows(row.samples("evaluate"))


def test_the_stored_quality_is_measured_again(row):
    """The float model is as good on the held-out samples as the table says, to 0.2."""
    held_out = row.samples("evaluate")

    measured = row.points(answers_of(row.model, held_out), held_out)

    assert measured == pytest.approx(row.float_points, abs=0.2)
    # A model that is always right, or hardly better than chance, could not be hurt.
    assert 80 < row.float_points < 99.5


def test_only_padded_phrases_are_padded():
    """Lengths vary in one of the two, and the words end where the mask does."""
    full, padded = (
        next(row for row in ROWS if row.data == name).samples("evaluate")
        for name in ("phrases", "phrases_padded")
    )

    assert full.inputs["mask"].all()
    lengths = padded.inputs["mask"].sum(axis=1)
    assert set(lengths) == set(range(PHRASE_SHORTEST, PHRASE_LENGTH + 1))
    assert ((padded.inputs["words"] != 0) == (padded.inputs["mask"] == 1)).all()


def test_padding_does_not_decide():
    """What stands behind the mask changes no answer, so the mask reaches the sums."""
    row = next(row for row in ROWS if row.data == "phrases_padded")
    inputs = row.samples("calibrate").inputs
    noisy = np.where(inputs["mask"] == 1, inputs["words"], 17)

    answers = answers_of(row.model, Samples(inputs, {}))
    other = answers_of(row.model, Samples(inputs | {"words": noisy}, {}))

    np.testing.assert_allclose(other["logits"], answers["logits"], atol=1e-4)


def test_the_page_shows_the_table(row):
    """The README has a line for the row with its numbers."""
    size = f"{row.model.stat().st_size:,}"

    (line,) = [line for line in README.splitlines() if line.startswith(f"| {row.name} |")]

    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2:] == [
        f"{row.parameters:,}", size, f"{row.mflop:.2f}", row.metric.replace("_", " "),
        f"{row.float_points:.2f}", f"{row.train_minutes:.1f}",
    ]  # fmt: skip


def test_accuracy_by_hand():
    """Two of three are right."""
    samples = Samples({}, {"label": np.array([0, 1, 1])})

    assert accuracy({"logits": np.eye(3, 2)}, samples) == pytest.approx(200 / 3)


def test_mean_overlap_by_hand():
    """Ground: 2 of 3 pixels shared; figure: 1 of 2."""
    logits = np.eye(2)[[[0, 0, 1, 1]]].transpose(0, 2, 1)[..., None]
    samples = Samples({}, {"mask": np.array([0, 0, 0, 1]).reshape(1, 4, 1)})

    assert mean_overlap({"logits": logits}, samples) == pytest.approx(
        100 * (2 / 3 + 1 / 2) / 2
    )


def test_fault_area_by_hand():
    """Of four pairs the fault is worse in two, equal in one: 2.5 of 4."""
    wanted = np.zeros((4, 1))
    again = np.array([[1.0], [3.0], [2.0], [3.0]])
    samples = Samples({"x": wanted}, {"label": np.array([0, 0, 1, 1])})

    assert fault_area({"again": again}, samples) == pytest.approx(62.5)


def test_average_precision_by_hand():
    """Found, missed by place, found twice: only one of two figures counts, first."""
    true = np.array([[[0, 0, 10, 10], [20, 20, 30, 30]]], np.float32)
    boxes = np.array([[[0, 0, 10, 9], [1, 0, 10, 10], [40, 40, 50, 50]]], np.float32)
    scores = np.array([[[0.9], [0.8], [0.7]]], np.float32)
    samples = Samples({}, {"boxes": true, "label": np.zeros((1, 2), np.int64)})

    found = average_precision({"boxes": boxes, "scores": scores}, samples)

    assert found == pytest.approx(50)


def test_cost_by_hand():
    """3 x 4 by 4 x 5 is 60 products, 120 operations."""
    weight = np.zeros((4, 5), np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], transA=1)],
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 5])],
        [numpy_helper.from_array(weight, "w")],
    )
    opset = [helper.make_opsetid("", 18)]
    checked = check(helper.make_model(graph, opset_imports=opset, ir_version=10), "hand")

    assert cost.mflop(checked) == pytest.approx(120e-6)
    assert cost.parameters(checked) == 20
