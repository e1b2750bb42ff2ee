"""What to try for a recipe, and why; decided before anything is done.

Candidates stand in the order of what they risk: without a goal the first that holds the
contract ships, and what comes after it is not tried. Where only answers are limited the
cheapest of them ships instead (``glance``).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from edgewright.core.errors import TargetError
from edgewright.core.profile import DeviceProfile
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.planner.layers import layers_of
from edgewright.toolchain.planner.values import FORMAT, CandidatePlan, Plan, Recipe, Step
from edgewright.toolchain.targets import TARGETS
from edgewright.toolchain.techniques import TECHNIQUES

BASELINE = "float"

_FUSE = Step(
    "fuse", {"level": "aggressive"}, "fewer nodes are fewer bytes and fewer calls, for nothing"
)
_EQUALISE = Step(
    "equalise", {}, "one scale fits all channels better when they are equally large"
)
_SMOOTH = Step(
    "smooth", {}, "what is large in an activation rounds badly, unless weights bear some of it"
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
_AS_CODES = "which stay codes in memory; matrices are multiplied as such"
# A token among the nodes to skip: what ``patterns.known_bad`` finds in the graph at hand.
KNOWN_BAD = "@known-bad"
# Another: the first layers, where ``stem`` measured that they are faster in floats.
SLOW_STEM = "@slow-stem"
ROUNDING = frozenset({"quantize", "dynamic", "weights"})

# What a layer can be pinned to, and the form of stored weights that means.
_FORMS = {
    "float": "", "fp16": "float16", "int8-weights": "int8", "int4-weights": "int4",
    "int8": "int8",
}  # fmt: skip
PRECISIONS = tuple(_FORMS)

# From this share of weights in matrices on, quantizing activations in every run may pay.
_MOSTLY = 0.3
# A matrix as large as this is read from memory for every answer, not from a cache.
_LARGE_BYTES = 256 << 10

_SHARES = {"int8": "a quarter", "int4": "a sixth"}
_WEIGHTS = {
    "fp16": ("float16", "channel", f"half the weight bytes, {_AS_FLOATS}"),
    "int8": ("int8", "channel", f"{_SHARES['int8']} of the weight bytes, {_AS_FLOATS}"),
    "int4": ("int4", "32", f"{_SHARES['int4']} of the weight bytes, {_AS_FLOATS}"),
}


def make_plan(recipe: Recipe, device: DeviceProfile, graph: Graph) -> Plan:
    """Return the candidates for ``recipe`` on ``device``, where it has to run.

    Args:
        recipe: What was asked.
        device: What the contract is about.
        graph: The model; what it consists of decides what is worth a try.

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
            candidates += _narrow(form, device, graph, recipe)
    if recipe.graph_level != _FUSE.settings["level"]:
        candidates = [_levelled(one, recipe.graph_level) for one in candidates]
    candidates = [pinned(one, recipe.precision) for one in candidates]
    tried = {step.technique for one in candidates for step in one.steps}
    return Plan(
        format=FORMAT,
        target=target,
        engine=TARGETS[target].engine,
        baseline=BASELINE,
        candidates=tuple(candidates),
        left_out={n: _why_not(n, asked) for n in TECHNIQUES if n not in tried},
    )


def _narrow(
    form: str, device: DeviceProfile, graph: Graph, recipe: Recipe
) -> list[CandidatePlan]:
    """Return the candidates with weights of ``form``, the gentlest first."""
    kind, block, reason = _WEIGHTS[form]
    stored = Step("weights", {"form": kind, "block": block}, reason)
    found = [CandidatePlan(f"{form}-weights", (_FUSE, stored), choosable=True)]
    # Of four bits they take longer than floats, so it has to be for the memory.
    worth = form == "int8" or (
        form == "int4" and recipe.contract.peak_memory_bytes is not None
    )
    if worth and _in_large_matrices(graph):
        settings = {**stored.settings, "memory": "codes"}
        kept = Step("weights", settings, f"{_SHARES[form]} of the weight bytes, {_AS_CODES}")
        found.append(CandidatePlan(f"{form}-codes", (_FUSE, kept), choosable=True))
    if form == "int4":
        found.append(CandidatePlan("int4-learned", (_FUSE, _learned(stored)), choosable=True))
    if form == "int8":
        if _matrices(graph) >= _MOSTLY:
            last = _dynamic(device)
            found += [
                CandidatePlan("int8-smooth", (_FUSE, _SMOOTH, last), choosable=True),
                CandidatePlan("int8-dynamic", (_FUSE, last), choosable=True),
            ]
        found += [
            CandidatePlan(f"int8-per-{scale}", _static(scale, device), choosable=True)
            for scale in _SCALES
        ]
    return found


def _levelled(candidate: CandidatePlan, level: str) -> CandidatePlan:
    """Return ``candidate`` with its nodes fused as far as ``level``."""
    own = replace(_FUSE, settings={"level": level})
    steps = tuple(own if step is _FUSE else step for step in candidate.steps)
    return replace(candidate, steps=steps)


def _learned(stored: Step) -> Step:
    settings = {**stored.settings, "rounding": "learned"}
    why = "each weight rounded to where the layer's answers on real inputs lose least"
    return replace(stored, settings=settings, reason=f"{stored.reason}; {why}")


def pinned(candidate: CandidatePlan, precision: Mapping[str, str]) -> CandidatePlan:
    """Return ``candidate`` with each layer in ``precision`` as it says, where it rounds.

    A layer pinned to ``int8`` is computed in 8 bits by every candidate that does so.
    """
    if not precision or not any(step.technique in ROUNDING for step in candidate.steps):
        return candidate
    steps = [_without(step, precision) for step in candidate.steps]
    for form, kind in _FORMS.items():
        names = sorted(name for name, asked in precision.items() if asked == form)
        if names and kind and form != "int8":
            block = "32" if kind == "int4" else "channel"
            settings = {"form": kind, "block": block, "only": ",".join(names)}
            steps.append(Step("weights", settings, f"{', '.join(names)} asked to be {form}"))
    return replace(candidate, steps=tuple(steps))


def _without(step: Step, precision: Mapping[str, str]) -> Step:
    """Return ``step`` without the layers that are pinned to another form than its own."""
    if step.technique not in ROUNDING:
        return step
    own = f"{step.settings['form']}-weights" if step.technique == "weights" else "int8"
    own = own.replace("float16-weights", "fp16")
    others = [name for name, form in precision.items() if form not in {own, "int8"}]
    already = filter(None, [step.settings.get("skip", "")])
    kept = ",".join([*already, *sorted(others)])
    return replace(step, settings={**step.settings, "skip": kept}) if kept else step


def _static(scale: str, device: DeviceProfile) -> tuple[Step, ...]:
    reason = f"{_QUARTER}; {_SCALES[scale]}"
    bits = "8"
    if device.pairs_overflow:
        reason, bits = f"{reason}; {_NARROW}", "7"
    skip = f"{KNOWN_BAD},{SLOW_STEM}"
    settings = {"granularity": scale, "bits": bits, "ranges": "minmax", "skip": skip}
    last = Step("quantize", settings, reason)
    if scale == "tensor":
        return (_FUSE, _EQUALISE, last)
    return (_FUSE, last)


def _dynamic(device: DeviceProfile) -> Step:
    reason = f"{_QUARTER}, on activations that are looked at in every run"
    signs = "signed"
    if device.pairs_overflow:
        reason, signs = f"{reason}; unsigned weights, which do not overflow here", "unsigned"
    return Step("dynamic", {"granularity": "channel", "signs": signs}, reason)


def _matrices(graph: Graph) -> float:
    """Return the share of weight bytes that is in matrices and tables, not in convolutions."""
    held: Counter[bool] = Counter()
    for layer in layers_of(graph):
        held[not layer.operator.startswith("Conv")] += layer.weight_bytes
    return held[True] / held.total() if held else 0.0


def _in_large_matrices(graph: Graph) -> bool:
    """Return whether most weight bytes are in matrices that are large."""
    layers = layers_of(graph)
    large = [
        layer.weight_bytes
        for layer in layers
        if layer.operator in {"MatMul", "Gemm"} and layer.weight_bytes >= _LARGE_BYTES
    ]
    return sum(large) > _MOSTLY * sum(layer.weight_bytes for layer in layers)


def _why_not(technique: str, asked: str) -> str:
    if technique in {"dynamic", "smooth"} and asked in {"auto", "int8"}:
        return "hardly any weights are in matrices; convolutions are faster in other ways"
    return f"the recipe asks for {'no quantization' if asked == 'none' else asked}"


def _target(recipe: Recipe, device: DeviceProfile) -> str:
    wanted = [info for name, info in TARGETS.items() if recipe.target in {"", name}]
    for info in wanted:
        if info.engine in device.engines:
            return info.name
    runs = ", ".join(device.engines) or "none we know"
    raise TargetError(
        f"{recipe.device} runs {runs}; edgewright lowers to "
        f"{', '.join(info.name for info in wanted)}",
        hint="Choose a device that runs one of them: edgewright devices list.",
    )
