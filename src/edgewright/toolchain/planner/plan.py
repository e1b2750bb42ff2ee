"""What to try for a recipe, and why; decided before anything is done.

Candidates stand in the order of what they risk: without a goal the first that holds the
contract ships, and what comes after it is not tried.
"""

from edgewright.core.errors import TargetError
from edgewright.core.profile import DeviceProfile
from edgewright.toolchain.planner.values import FORMAT, CandidatePlan, Plan, Recipe, Step
from edgewright.toolchain.targets import TARGETS

BASELINE = "float"

_FUSE = Step(
    "fuse", {"level": "portable"}, "fewer nodes are fewer bytes and fewer calls, for nothing"
)
_QUARTER = "a quarter of the weight bytes and 8-bit arithmetic"
_SCALES = {
    "channel": "one scale a channel keeps more of the answers",
    "tensor": "one scale a tensor is the smallest",
}
_NARROW = (
    "weights within 7 bits, because this processor adds two 8-bit products in 16 bits, "
    "where full weights overflow"
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
            CandidatePlan(f"int8-per-{scale}", (_FUSE, _int8(scale, device)), choosable=True)
            for scale in _SCALES
        ]
    return Plan(
        format=FORMAT,
        target=target,
        engine=TARGETS[target].engine,
        baseline=BASELINE,
        candidates=tuple(candidates),
        left_out=left_out,
    )


def _int8(scale: str, device: DeviceProfile) -> Step:
    reason = f"{_QUARTER}; {_SCALES[scale]}"
    bits = "8"
    if device.pairs_overflow:
        reason, bits = f"{reason}; {_NARROW}", "7"
    return Step("quantize", {"granularity": scale, "bits": bits}, reason)


def _target(recipe: Recipe, device: DeviceProfile) -> str:
    for info in TARGETS.values():
        if info.engine in device.engines:
            return info.name
    runs = ", ".join(device.engines) or "none we know"
    raise TargetError(
        f"{recipe.device} runs {runs}; edgewright lowers to {', '.join(TARGETS)}",
        hint="Choose a device that runs one of them: edgewright devices list.",
    )
