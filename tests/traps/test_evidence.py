"""What figures stand on: real inputs unless somebody says otherwise, one measure for all."""

import json

import numpy as np
import pytest
from tests.sim.models import write_data, write_model

from edgewright.core.errors import DataError, UsageError
from edgewright.toolchain.planner.inputs import Order, read
from edgewright.toolchain.recipe import optimize


def test_nothing_is_made_up_without_being_asked(tmp_path):
    """Without data, or without any to calibrate on, there is a refusal with both remedies."""
    model = write_model(tmp_path / "m.onnx")
    data = write_data(tmp_path / "data.npz", calibrate_images=None, calibrate_labels=None)

    with pytest.raises(UsageError, match="no data: real inputs are needed") as told:
        Order(model=model, data=None)
    with pytest.raises(DataError, match=r"data.npz holds no calibration samples") as missing:
        read(Order(model=model, data=data))

    assert "--allow-synthetic, which proves nothing" in told.value.hint
    assert "calibrate_images" in missing.value.hint


def test_what_was_made_up_stays_on_the_record(tmp_path):
    """Asked for, the recipe says so ever after, and real inputs are not replaced."""
    model = write_model(tmp_path / "m.onnx")
    data = write_data(tmp_path / "data.npz", calibrate_images=None, calibrate_labels=None)

    made = read(Order(model=model, data=None, allow_synthetic=True))
    half = read(Order(model=model, data=data, allow_synthetic=True))
    whole = read(
        Order(model=model, data=write_data(tmp_path / "all.npz"), allow_synthetic=True)
    )

    assert [one.recipe.synthetic for one in (made, half, whole)] == [True, True, False]
    np.testing.assert_array_equal(
        half.data.evaluate.arrays["image"], np.load(data)["evaluate_images"]
    )


@pytest.mark.slow
def test_figures_by_one_measure_are_never_taken_for_those_by_another(tmp_path):
    """All candidates are judged alike; by another metric they are all judged anew."""
    model, data = write_model(tmp_path / "m.onnx"), write_data(tmp_path / "data.npz")
    judged = {}
    for metric in ("accuracy", "top-2", "accuracy"):
        report = optimize(
            model,
            data=data,
            out=tmp_path / "out",
            metric=metric,
            quantization="none",
            allow_slower=True,
            force=True,
        )
        told = report.evidence_files
        judged.setdefault(metric, []).append(
            {about: file for about, file in told.items() if about.startswith("accuracy of")}
        )
        asked = json.loads((tmp_path / "out" / "recipe.json").read_text())
        assert asked["metric"] == metric

    (first, again), (other,) = judged["accuracy"], judged["top-2"]
    assert set(first) == set(other) == {"accuracy of float", "accuracy of fused"}
    assert not set(first.values()) & set(other.values())
    assert set(again) == set(first)
