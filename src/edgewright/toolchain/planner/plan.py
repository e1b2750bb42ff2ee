"""What to try for a recipe, and why; decided before anything is done."""

from edgewright.core.errors import TargetError
from edgewright.core.profile import DeviceProfile
from edgewright.toolchain.planner.values import FORMAT, CandidatePlan, Plan, Recipe, Step
from edgewright.toolchain.targets import TARGETS

BASELINE = "float"

_FUSE = Step(
    "fuse", {"level": "portable"}, "fewer nodes are fewer bytes and fewer calls, for nothing"
)
_PER_TENSOR = Step(
    "quantize",
    {"granularity": "tensor"},
    "a quarter of the weight bytes and 8-bit arithmetic; one scale a tensor is the smallest",
)
_PER_CHANNEL = Step(
    "quantize",
    {"granularity": "channel"},
    "a quarter of the weight bytes and 8-bit arithmetic; one scale a channel keeps more of "
    "the answers",
)


def make_plan(recipe: Recipe, device: DeviceProfile) -> Plan:
    """Return the candidates for ``recipe`` on ``device``, where it has to run.

    Raises:
        TargetError: No engine of ours runs on ``device``.
    """
    target = _target(recipe, device)
    floats = recipe.quantization != "int8"
    candidates = [
        CandidatePlan(BASELINE, (), choosable=floats),
        CandidatePlan("fused", (_FUSE,), choosable=floats),
    ]
    left_out: dict[str, str] = {}
    if recipe.quantization == "none":
        left_out["quantize"] = "the recipe asks for no quantization"
    else:
        candidates += [
            CandidatePlan("int8-per-tensor", (_FUSE, _PER_TENSOR), choosable=True),
            CandidatePlan("int8-per-channel", (_FUSE, _PER_CHANNEL), choosable=True),
        ]
    return Plan(
        format=FORMAT,
        target=target,
        engine=TARGETS[target].engine,
        baseline=BASELINE,
        candidates=tuple(candidates),
        left_out=left_out,
    )


def _target(recipe: Recipe, device: DeviceProfile) -> str:
    for info in TARGETS.values():
        if info.engine in device.engines:
            return info.name
    runs = ", ".join(device.engines) or "none we know"
    raise TargetError(
        f"{recipe.device} runs {runs}; edgewright lowers to {', '.join(TARGETS)}",
        hint="Choose a device that runs one of them: edgewright devices list.",
    )
