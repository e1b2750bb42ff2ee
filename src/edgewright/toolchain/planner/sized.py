"""Weights stored layer by layer in as many bytes as a limit allows, so that least is lost.

Between a model whose weights are all int8 and one whose weights are all int4 there is
nothing that a single form could make. What int4 does to the answers is measured layer by
layer (``mixed``); a finer form does less in the measure of its steps. Each layer then gets the
form with which the squares of all that add up to least within the bytes: errors of layers
that are rounded by themselves add like independent ones. That choice is a knapsack with one
item for each layer, solved exactly but for the rounding of sizes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, inf

from edgewright.core.errors import QuantizeError
from edgewright.toolchain.planner.layers import Layer
from edgewright.toolchain.planner.mixed import Mixer
from edgewright.toolchain.planner.perform import Workshop
from edgewright.toolchain.planner.values import CandidatePlan, LayerReport, Step
from edgewright.toolchain.targets import load_target

SIZED = "weights-to-size"

_MICRO = 1_000_000
_ROUNDS = 8
# Sizes are rounded up to a thousandth of what there is.
_UNITS = 1000
_CLOSE = 0.005


@dataclass(frozen=True, slots=True)
class _Form:
    """A way to store a layer: bytes a weight, and its error as a share of int4's."""

    kind: str
    block: str
    bytes: float
    error: float


# Steps of int8 are 127 / 7 times finer, but a channel shares a scale instead of 32 weights. In
# a block the largest decides; of 16 normal ones it is 0.89 times what it is of 32.
_FORMS = {
    "fp16": _Form("float16", "channel", 2.0, 1 / 200),
    "int8-weights": _Form("int8", "channel", 1.0, 1 / 12),
    "int4-by-16": _Form("int4", "16", 0.5 + 4 / 16, 0.89),
    "int4-by-32": _Form("int4", "32", 0.5 + 4 / 32, 1.0),
    "int4-by-64": _Form("int4", "64", 0.5 + 4 / 64, 1.1),
    "int4-by-128": _Form("int4", "128", 0.5 + 4 / 128, 1.2),
}
# What weights that no block divides are stored like, with a scale a channel.
_UNDIVIDED = "int4-by-32"
_LEAST = 16  # the smallest block
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Fitted:
    """A candidate within the limit: what to make, and what became of each layer."""

    plan: CandidatePlan
    layers: tuple[LayerReport, ...]


@dataclass(slots=True)
class Sizer:
    """Looks for the forms of layers that fit ``limit`` bytes.

    Attributes:
        mixer: Tells what each layer does alone; its base stores all of them as int4.
        limit: Bytes of all files.
    """

    mixer: Mixer
    limit: int
    _alone: dict[str, float] = field(default_factory=dict)

    def find(self) -> Fitted | None:
        """Return the candidate that loses least within the limit, None if none fits.

        Raises:
            QuantizeError: The base cannot be made.
        """
        self.mixer.prepare()
        self._alone = self.mixer.alone()
        layers, room = self.mixer.layers, self.limit
        best: tuple[float, CandidatePlan, dict[str, str]] | None = None
        for _ in range(_ROUNDS):
            forms = choose(layers, self._alone, room)
            plan, size = self._fitting(forms)
            lost = sum((_FORMS[form].error * self._alone[n]) ** 2 for n, form in forms.items())
            if size <= self.limit and (best is None or lost < best[0]):
                best = (lost, plan, forms)
            gap = self.limit - size
            if 0 <= gap <= _CLOSE * self.limit or room < 1:
                break
            # What is no layer's weight takes bytes too; and a room that leaves the choice as
            # it is would be no step.
            taken = sum(_bytes(layer, forms[layer.name]) for layer in layers)
            room = min(room + gap, taken - 1) if gap < 0 else room + gap
        return None if best is None else Fitted(best[1], self._reports(best[2]))

    def _fitting(self, forms: Mapping[str, str]) -> tuple[CandidatePlan, int]:
        """Return what makes ``forms``, and the bytes of its files.

        Raises:
            QuantizeError: They cannot be made.
        """
        workshop = self.mixer.workshop
        try:
            plan = self._plan(forms, half=True)
            return plan, _size(workshop, plan)
        except QuantizeError:  # nothing but layers pays, and none of them is halved
            plan = self._plan(forms, half=False)
            return plan, _size(workshop, plan)

    def _plan(self, forms: Mapping[str, str], *, half: bool) -> CandidatePlan:
        """Return the steps to ``forms``; ``half`` stores whatever else pays as float16."""
        steps = list(self.mixer.base.steps[:-1])
        by_form = {
            form: sorted(name for name, chosen in forms.items() if chosen == form)
            for form in _FORMS
        }
        coarse = sorted({*forms} - {*by_form["fp16"]})
        if half:
            steps.append(_step("fp16", {"skip": ",".join(coarse)} if coarse else {}))
        for form in [*filter(_is_int4, _FORMS), "int8-weights"]:
            if names := by_form[form]:
                learned = {"rounding": "learned"} if _is_int4(form) else {}
                steps.append(_step(form, {"only": ",".join(names), **learned}))
        return replace(self.mixer.base, name=SIZED, steps=tuple(steps))

    def _reports(self, forms: Mapping[str, str]) -> tuple[LayerReport, ...]:
        return tuple(self._report(layer, forms[layer.name]) for layer in self.mixer.layers)

    def _report(self, layer: Layer, form: str) -> LayerReport:
        alone = self._alone[layer.name]
        why = f"as int4 it alone moves the answers by {alone:.2%}"
        if _is_int4(form):
            block = _FORMS[form].block
            rows = "channel" if layer.unit % int(block) else f"{block} weights"
            form, why = "int4-weights", f"{why}; a scale for every {rows}"
        return LayerReport(
            layer.name, layer.operator, layer.weight_bytes, round(alone * _MICRO), form, why
        )


def choose(layers: Sequence[Layer], alone: Mapping[str, float], room: int) -> dict[str, str]:
    """Return the form of each layer: least squared error within ``room`` bytes.

    All are as small as can be where nothing fits.
    """
    unit = max(room, 1) / _UNITS
    least: list[tuple[float, tuple[str, ...]]] = [(0.0, ())] * (_UNITS + 1)
    for layer in layers:
        now: list[tuple[float, tuple[str, ...]]] = [(inf, ())] * (_UNITS + 1)
        for name in _open_to(layer):
            form = _FORMS[name]
            takes = ceil(_bytes(layer, name) / unit)
            lost = (form.error * alone[layer.name]) ** 2
            for held in range(takes, _UNITS + 1):
                before, chosen = least[held - takes]
                if before + lost < now[held][0]:
                    now[held] = (before + lost, (*chosen, name))
        least = now
    lost, chosen = least[_UNITS]
    names = chosen if lost < inf else tuple(map(_smallest, layers))
    return {layer.name: form for layer, form in zip(layers, names, strict=True)}


def _open_to(layer: Layer) -> list[str]:
    """Return the forms a layer can have: blocks have to go into its weights evenly."""
    return [
        name
        for name, form in _FORMS.items()
        if not _is_int4(name) or layer.unit % int(form.block) == 0
        or (name == _UNDIVIDED and layer.unit % _LEAST)
    ]  # fmt: skip


def _smallest(layer: Layer) -> str:
    return min(_open_to(layer), key=lambda form: _FORMS[form].bytes)


def _is_int4(form: str) -> bool:
    return _FORMS[form].kind == "int4"


def _bytes(layer: Layer, form: str) -> int:
    return ceil(layer.weight_bytes / _FLOAT_BYTES * _FORMS[form].bytes)


def _step(form: str, settings: Mapping[str, str]) -> Step:
    told = _FORMS[form]
    return Step(
        "weights",
        {"form": told.kind, "block": told.block, **settings},
        "each layer in the form with which least is lost within the bytes",
    )


def _size(workshop: Workshop, plan: CandidatePlan) -> int:
    """Return the bytes of a candidate's files; how its weights are rounded takes none."""
    steps = [
        replace(s, settings={k: v for k, v in s.settings.items() if k != "rounding"})
        for s in plan.steps
    ]
    graph, _ = workshop.build(steps, keep=1)
    return sum(map(len, load_target(workshop.plan.target).lower(graph).values()))
