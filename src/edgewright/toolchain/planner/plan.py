"""What to try for a recipe, and why; decided before anything is done.

Candidates stand in the order of what they risk: without a goal the first that holds the
contract ships, and what comes after it is not tried.
"""

from edgewright.core.errors import TargetError
from edgewright.core.profile import DeviceProfile
from edgewright.toolchain.planner.values import FORMAT, CandidatePlan, Plan, Recipe, Step
from edgewright.toolchain.targets import TARGETS
from edgewright.toolchain.techniques import TECHNIQUES

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
_AS_FLOATS = "computed with as floats, so that an answer takes as long as before"
_WEIGHTS = {
    "fp16": ("float16", "channel", f"half the weight bytes, {_AS_FLOATS}"),
    "int8": ("int8", "channel", f"a quarter of the weight bytes, {_AS_FLOATS}"),
    "int4": ("int4", "32", f"a sixth of the weight bytes, {_AS_FLOATS}"),
}


def make_plan(recipe: Recipe, device: DeviceProfile) -> Plan:
    """Return the candidates for ``recipe`` on ``device``, where it has to run.

    Raises:
        TargetError: No engine of ours runs on ``device``.
    """
    target = _target(recipe, device)
    asked = recipe.quantization
    floats = asked in {"auto", "none"}
    candidates = [CandidatePlan(BASELINE, (), choosable=floats)]
    if floats:
        candidates.append(CandidatePlan("fused", (_FUSE,), choosable=True))
    for form in ("fp16", "int8", "int4"):
        if asked in {"auto", form}:
            candidates += _narrow(form, device)
    tried = {step.technique for one in candidates for step in one.steps}
    why = f"the recipe asks for {'no quantization' if asked == 'none' else asked}"
    return Plan(
        format=FORMAT,
        target=target,
        engine=TARGETS[target].engine,
        baseline=BASELINE,
        candidates=tuple(candidates),
        left_out={name: why for name in TECHNIQUES if name not in tried},
    )


def _narrow(form: str, device: DeviceProfile) -> list[CandidatePlan]:
    """Return the candidates with weights of ``form``, the gentlest first."""
    kind, block, reason = _WEIGHTS[form]
    stored = Step("weights", {"form": kind, "block": block}, reason)
    found = [CandidatePlan(f"{form}-weights", (_FUSE, stored), choosable=True)]
    if form == "int8":
        found += [
            CandidatePlan(f"int8-per-{scale}", (_FUSE, _int8(scale, device)), choosable=True)
            for scale in _SCALES
        ]
    return found


def _int8(scale: str, device: DeviceProfile) -> Step:
    reason = f"{_QUARTER}; {_SCALES[scale]}"
    bits = "8"
    if device.pairs_overflow:
        reason, bits = f"{reason}; {_NARROW}", "7"
    settings = {"granularity": scale, "bits": bits, "ranges": "minmax"}
    return Step("quantize", settings, reason)


def _target(recipe: Recipe, device: DeviceProfile) -> str:
    for info in TARGETS.values():
        if info.engine in device.engines:
            return info.name
    runs = ", ".join(device.engines) or "none we know"
    raise TargetError(
        f"{recipe.device} runs {runs}; edgewright lowers to {', '.join(TARGETS)}",
        hint="Choose a device that runs one of them: edgewright devices list.",
    )
