"""make_plan: every candidate with its reason, and no target that cannot run there."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.sim.models import model, quarters

from edgewright.bundle.manifest import Policy
from edgewright.core import profile
from edgewright.core.contract import Contract
from edgewright.core.errors import TargetError
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.planner.plan import PRECISIONS, make_plan
from edgewright.toolchain.planner.values import Recipe
from edgewright.toolchain.techniques import TECHNIQUES, settle

SHA = "sha256:" + "0" * 64
RECIPE = Recipe(
    format=1, model="m", model_sha256=SHA, reference_sha256=SHA, data_sha256=SHA, device="x",
    contract=Contract(), policy=Policy(), classes=("a", "b"), tools={},
)  # fmt: skip
PI = profile.find("raspberry-pi-5")
HALF, INT4 = ["fp16-weights"], ["int4-weights", "int4-learned"]
INT8 = [
    "int8-weights", "int8-smooth", "int8-dynamic", "int8-per-channel", "int8-per-tensor"
]  # fmt: skip
GRAPH = check(quarters(), "m")


@pytest.mark.parametrize(
    ("quantization", "names", "choosable"),
    [
        ("auto", ["float", "fused", *HALF, *INT8, *INT4], 10),
        ("int8", ["float", *INT8], 5),
        ("int4", ["float", *INT4], 2),
        ("fp16", ["float", *HALF], 1),
        ("none", ["float", "fused"], 2),
    ],
)
def test_what_is_tried(quantization, names, choosable):
    """Asked for int8, the float is only what it is measured against."""
    plan = make_plan(replace(RECIPE, quantization=quantization), PI, GRAPH)

    assert [c.name for c in plan.candidates] == names
    assert sum(c.choosable for c in plan.candidates) == choosable
    tried = {step.technique for c in plan.candidates for step in c.steps}
    assert set(plan.left_out) == set(TECHNIQUES) - tried


def test_every_step_exists_and_says_why():
    """Techniques and settings of the table, each with a reason."""
    for candidate in make_plan(RECIPE, PI, GRAPH).candidates:
        for step in candidate.steps:
            assert step.technique in TECHNIQUES
            settled = settle(step.technique, step.settings)
            assert settled | step.settings == settled
            assert step.reason


@pytest.mark.parametrize(
    ("isa", "bits"),
    [
        (("avx2", "fma"), "7"),
        (("avx2", "avx512"), "7"),
        (("avx2", "avx512", "vnni"), "8"),
        (("avx2", "amx-int8"), "8"),
        (("neon",), "8"),
        ((), "8"),
    ],
)
def test_weights_are_narrow_where_full_ones_overflow(isa, bits):
    """x86 without VNNI gets 7-bit weights, with the reason; nobody else does."""
    plan = make_plan(RECIPE, replace(PI, isa=isa), GRAPH)

    steps = [s for c in plan.candidates for s in c.steps if s.technique == "quantize"]
    assert [step.settings["bits"] for step in steps] == [bits, bits]
    assert all(("overflow" in step.reason) is (bits == "7") for step in steps)
    dynamic = [s for c in plan.candidates for s in c.steps if s.technique == "dynamic"]
    signs = {step.settings["signs"] for step in dynamic}
    assert signs == {"unsigned" if bits == "7" else "signed"}


@pytest.mark.parametrize("level", ["balanced", "fast", "none"])
def test_the_level_that_was_asked_is_that_of_every_candidate(level):
    """Nothing is fused further than somebody wants it."""
    plan = make_plan(replace(RECIPE, graph_level=level), PI, GRAPH)

    levels = {
        s.settings["level"] for c in plan.candidates for s in c.steps if "level" in s.settings
    }
    assert levels == {level}


@pytest.mark.parametrize("form", PRECISIONS)
def test_a_pinned_layer_is_left_out_of_every_other_form(form):
    """Whatever rounds skips it, and a step of its own gives it the form it is pinned to."""
    recipe = replace(RECIPE, precision={"MatMul_9": form})
    own = {"fp16": "float16", "int8-weights": "int8", "int4-weights": "int4"}.get(form)

    for candidate in make_plan(recipe, PI, GRAPH).candidates[2:]:
        first = next(
            s for s in candidate.steps if s.technique in {"weights", "quantize", "dynamic"}
        )
        mine = first.technique == "weights" and first.settings["form"] == own
        assert ("MatMul_9" in first.settings.get("skip", "")) is (form != "int8" and not mine)
        only = [s.settings["form"] for s in candidate.steps if "only" in s.settings]
        assert only == ([own] if own else [])


def test_the_baseline_is_what_was_given():
    """Nothing is done to it but writing it for the engine."""
    plan = make_plan(RECIPE, PI, GRAPH)

    assert plan.baseline == plan.candidates[0].name
    assert plan.candidates[0].steps == ()


def test_a_device_without_an_engine_of_ours_is_refused():
    """A microcontroller runs none of them; the message says what it runs."""
    with pytest.raises(TargetError, match="x runs micro") as caught:
        make_plan(RECIPE, profile.find("cortex-m7"), GRAPH)

    assert "devices list" in caught.value.hint


def test_an_unknown_wish_is_a_value_error():
    """The calling programmer's mistake; users are refused before."""
    with pytest.raises(ValueError, match="quantization must be one of"):
        replace(RECIPE, quantization="int2")


def _wide(side):
    """Return a product with a matrix of ``side`` by ``side`` floats."""
    product = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    weights = {"w": np.ones((side, side), np.float32)}
    spec = (TensorProto.FLOAT, ["n", side])
    return check(model([product], weights, inputs={"x": spec}, outputs={"y": spec}), "m")


def test_large_matrices_may_stay_codes_in_memory():
    """As int8, and as int4 where memory is limited: they take longer."""
    limited = replace(RECIPE, contract=Contract(peak_memory_bytes=1 << 30))

    def codes(recipe, side):
        names = [c.name for c in make_plan(recipe, PI, _wide(side)).candidates]
        return [name for name in names if name.endswith("-codes")]

    assert codes(RECIPE, 512) == ["int8-codes"]
    assert codes(limited, 512) == ["int8-codes", "int4-codes"]
    assert codes(limited, 64) == []
