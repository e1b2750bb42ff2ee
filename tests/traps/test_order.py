"""Order: what keeps the answers comes first, what rounds comes last, and it stays so."""

from dataclasses import replace

import pytest
from tests.sim.models import quarters, samples

from edgewright.bundle.manifest import Policy
from edgewright.core import profile
from edgewright.core.contract import Contract
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.planner.perform import Workshop
from edgewright.toolchain.planner.plan import make_plan
from edgewright.toolchain.planner.values import QUANTIZATIONS, CandidatePlan, Recipe, Step
from edgewright.toolchain.techniques import TECHNIQUES

SHA = "sha256:" + "0" * 64
RECIPE = Recipe(
    format=1, model="m", model_sha256=SHA, reference_sha256=SHA, data_sha256=SHA, device="x",
    contract=Contract(), policy=Policy(), classes=("a", "b"), tools={},
)  # fmt: skip
PI = profile.find("raspberry-pi-5")
GRAPH = check(quarters(), "m")


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("precision", [{}, {"Gemm_7": "fp16"}, {"Gemm_7": "float"}])
def test_whatever_is_planned_rounds_last(quantization, precision):
    """Fused, equalised and smoothed are floats; nothing of the kind follows what rounds."""
    plan = make_plan(
        replace(RECIPE, quantization=quantization, precision=precision), PI, GRAPH
    )

    for candidate in plan.candidates:
        exact = [TECHNIQUES[step.technique].exact for step in candidate.steps]
        assert exact == sorted(exact, reverse=True), candidate.name


@pytest.mark.parametrize("after", [n for n, info in TECHNIQUES.items() if info.exact])
@pytest.mark.parametrize("before", [n for n, info in TECHNIQUES.items() if not info.exact])
def test_a_plan_in_another_order_cannot_be_made(before, after):
    """The calling programmer's mistake: both steps are named."""
    steps = tuple(Step(name, {}, "because") for name in (before, after))

    with pytest.raises(ValueError, match=f"{after} comes after {before}, which rounds"):
        CandidatePlan("wrong", steps, choosable=True)

    assert CandidatePlan("right", steps[::-1], choosable=True).steps == steps[::-1]


@pytest.mark.parametrize("name", ["int8-per-channel", "int8-per-tensor", "int8-weights"])
def test_no_batch_norm_is_left_beside_rounded_weights(tmp_path, name):
    """Folded afterwards its factors would widen weights that are rounded already."""
    plan = make_plan(RECIPE, PI, GRAPH)
    workshop = Workshop(plan, GRAPH, Samples({"image": samples(60)[0]}), tmp_path)
    candidate = next(one for one in plan.candidates if one.name == name)

    graph, done = workshop.build(candidate.steps)

    assert GRAPH.operators["BatchNormalization"] == 1
    assert graph.operators["BatchNormalization"] == 0
    assert done[-1].applied


@pytest.mark.parametrize("isa", [("neon",), ("avx2",), ()])
def test_one_scale_for_all_channels_is_only_tried_once_they_are_equally_large(isa):
    """Where an engine knows one scale a tensor only, small channels are not given away."""
    plan = make_plan(replace(RECIPE, quantization="int8"), replace(PI, isa=isa), GRAPH)

    whole = [
        [step.technique for step in one.steps]
        for one in plan.candidates
        for last in one.steps[-1:]
        if last.settings.get("granularity") == "tensor"
    ]
    assert whole == [["fuse", "equalise", "quantize"]]
