"""The example that ships with the repository, through optimize with its own contract."""

from dataclasses import replace
from pathlib import Path

import pytest

from edgewright.core.contract import from_table
from edgewright.core.errors import ContractError
from edgewright.toolchain.planner.decide import slower
from edgewright.toolchain.planner.workspace import read_report
from edgewright.toolchain.recipe import Order, carry_out, load_project

pytestmark = pytest.mark.slow

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
PROJECT = load_project(DIGITS / "edgewright.toml")


def _order(number, out):
    return Order(
        model=DIGITS / "models" / f"digits-{number}.onnx",
        reference=DIGITS / PROJECT.model.reference,
        data=DIGITS / PROJECT.data.path,
        contract=from_table(PROJECT.contract),
        policy=PROJECT.policy,
        out=out,
    )


def test_the_first_release_ships_as_int8(tmp_path):
    """At least 3.5 times smaller, not slower, and 95 % sure to lose less than a point."""
    report = carry_out(_order(1, tmp_path / "out"))

    shipped = report.shipped
    assert report.outcome == "pass"
    assert shipped.precision == "int8"
    assert report.candidate("float").file_bytes / shipped.file_bytes > 3.5
    assert not slower(shipped)
    assert {finding.outcome for finding in shipped.findings} == {"pass"}
    assert len(report.golden.samples) == 32


def test_the_third_release_is_refused(tmp_path):
    """It reads ink as paper: as small and as fast as the others, and useless."""
    with pytest.raises(ContractError, match="accuracy_drop"):
        carry_out(_order(3, tmp_path / "out"))

    report = read_report(tmp_path / "out")
    missed = {f.limit for f in report.shipped.findings if f.outcome != "pass"}
    assert missed == {"accuracy_drop", "worst_class_drop", "retention"}


def test_ninety_samples_a_class_cannot_prove_three_points(tmp_path):
    """What the comment in the project file says, even of halves, which lose nothing."""
    order = replace(_order(1, tmp_path / "out"), quantization="fp16")
    tight = replace(order.contract, worst_class_drop_bp=300, file_bytes=None)

    with pytest.raises(ContractError, match=r"class .* 3\.00 allowed") as caught:
        carry_out(replace(order, contract=tight))

    assert caught.value.exit_code == 4
