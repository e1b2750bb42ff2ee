"""Layer by layer: how much the answers move when one is rounded, and what became of it.

A cell is as wide as its weights are heavy and filled as high as its drift, on a scale of
logarithms because drifts lie orders of magnitude apart. What a layer became is told by
the pattern of its cell and in words below.
"""

from collections.abc import Sequence
from html import escape
from math import log10

from edgewright.core.units import show_bytes
from edgewright.toolchain.planner.values import LayerReport, Report
from edgewright.toolchain.report import markup

INT8, WEIGHTS, FLOAT = "int8", "int8-weights", "float"

FORMS = {
    INT8: "computed in int8",
    WEIGHTS: "int8 weights, computed as floats",
    FLOAT: "stayed float",
    "fp16": "fp16 weights, computed as floats",
    "int4-weights": "int4 weights, computed as floats",
}

_DECADES = 3  # of drift that can be told apart by height
_LEAST = 0.06  # of the height, so that a cell without drift is still seen
_WORST = 12  # layers named below the strip


def sensitivity(report: Report) -> str:
    """Return the strip of the candidate that ships; empty where nobody looked at layers."""
    shipped = report.shipped
    layers = shipped.layers
    if not layers:
        return ""
    most = max(layer.drift_micro for layer in layers)
    cells = "".join(_cell(layer, most) for layer in layers)
    kinds = [form for form in FORMS if any(layer.form == form for layer in layers)]
    legend = "".join(
        f'<span class="key cell {form}">{FORMS[form]} ({_count(layers, form)})</span>'
        for form in kinds
    )
    said = (
        f"<b>Layers of {escape(shipped.name)}, first to last.</b> Width: bytes of the float "
        "weights. Height: how far the answers move when this layer alone is rounded, on a "
        f"logarithmic scale up to {drift(most)}."
    )
    strip = (
        '<div class="scroll"><div class="strip" role="img" aria-label="Drift of each layer '
        f'when it alone is rounded">{cells}</div></div>'
    )
    figure = markup.figure(said, strip, f'<p class="legend">{legend}</p>')
    return markup.section("Layer by layer", figure, _kept(layers), _all(layers))


def drift(micro: int) -> str:
    """Return a drift as a share of the answers' size."""
    return f"{micro / 10_000:.2g} %"


def unlike_the_rest(layers: Sequence[LayerReport]) -> list[LayerReport]:
    """Return what was not brought to int8, what moves the answers most in front."""
    kept = [layer for layer in layers if layer.form != INT8]
    return sorted(kept, key=lambda layer: (-layer.drift_micro, layer.name))


def _cell(layer: LayerReport, most: int) -> str:
    told = (
        f"{layer.name} ({layer.operator}), {show_bytes(layer.weight_bytes)}, "
        f"drift {drift(layer.drift_micro)}: {FORMS.get(layer.form, layer.form)}"
    )
    height = height_of(layer.drift_micro, most)
    return (
        f'<span class="cell {escape(layer.form)}" title="{escape(told)}" '
        f'style="flex-grow:{max(layer.weight_bytes, 1)}">'
        f'<i style="height:{height * 100:.1f}%"></i></span>'
    )


def height_of(micro: int, most: int) -> float:
    """Return how high a cell is filled, 0 to 1."""
    if micro <= 0 or most <= 0:
        return _LEAST
    return max(1 + (log10(micro) - log10(most)) / _DECADES, _LEAST)


def _count(layers: Sequence[LayerReport], form: str) -> str:
    same = [layer for layer in layers if layer.form == form]
    word = "layer" if len(same) == 1 else "layers"
    return f"{len(same)} {word}, {show_bytes(sum(layer.weight_bytes for layer in same))}"


def _kept(layers: Sequence[LayerReport]) -> str:
    kept = unlike_the_rest(layers)
    if not kept:
        return '<p class="quiet">Every layer is computed in int8.</p>'
    rows = _rows(kept[:_WORST])
    more = len(kept) - _WORST
    after = f'<p class="quiet">And {more} more, listed below.</p>' if more > 0 else ""
    return f"<p>Not in int8, and why:</p>{rows}{after}"


def _all(layers: Sequence[LayerReport]) -> str:
    return markup.folded(f"All {len(layers)} layers, in order", _rows(layers))


def _rows(layers: Sequence[LayerReport]) -> str:
    return markup.table(
        ("layer", "kind", "weights", "drift", "now", "why"),
        [
            (
                f"<b>{escape(layer.name)}</b>",
                escape(layer.operator),
                show_bytes(layer.weight_bytes),
                drift(layer.drift_micro),
                FORMS.get(layer.form, escape(layer.form)),
                escape(layer.reason),
            )
            for layer in layers
        ],
    )
