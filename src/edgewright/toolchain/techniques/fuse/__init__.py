"""Fuse: compute once what never changes, and one node where several did the same.

Three levels, each with all that the one before has, all exact up to rounding and leaving
standard operators only, so that the result loads wherever the original did:

- ``fast``: identities and no-ops gone, constants folded (``noops``).
- ``balanced``: batch norms into the layers before or after them (``affine``).
- ``aggressive``: biases, additions and factors into their neighbours, the preprocessing
  into the first layer (``affine``), chains of scalar arithmetic made one (``scalars``),
  Transpose cleaned up, views of views made one (``views``), and activations that are
  written out made one node (``activations``).

ONNX Runtime's offline optimiser at its *basic* level does what it can; the passes named
above do what it leaves. Its *extended* level is not used: it writes operators of
``com.microsoft`` that fix the engine, and gains nothing, since the engine applies them
again when it loads the model.
"""

from collections import Counter
from collections.abc import Callable, Mapping

from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques import Applied, settle
from edgewright.toolchain.techniques.fuse.activations import (
    HARD_SWISH,
    name_activations,
    name_gelus,
)
from edgewright.toolchain.techniques.fuse.affine import (
    ARITHMETIC,
    BATCH_NORM,
    into_layer_after,
    into_layer_before,
)
from edgewright.toolchain.techniques.fuse.noops import drop_noops
from edgewright.toolchain.techniques.fuse.offline import BATCH_NORMS, NEIGHBOURS, optimise
from edgewright.toolchain.techniques.fuse.scalars import fold_scalars
from edgewright.toolchain.techniques.fuse.views import merge_views

_Pass = Callable[[Graph], Graph]

_GELUS = "GELUs as engines know them"
_OPTIMISER = "ONNX Runtime's optimiser"
# What each level adds, the gentlest first: the passes of the optimiser it still goes
# without, and ours, by what the notes call them.
_LEVELS: Mapping[str, tuple[frozenset[str], Mapping[str, _Pass]]] = {
    "fast": (BATCH_NORMS | NEIGHBOURS, {"dropping what does nothing": drop_noops}),
    "balanced": (
        NEIGHBOURS,
        {
            "batch norms into the layer before": lambda g: into_layer_before(g, BATCH_NORM),
            "batch norms into the layer after": lambda g: into_layer_after(g, BATCH_NORM),
        },
    ),
    "aggressive": (
        frozenset(),
        {
            "constants into the layer before": lambda g: into_layer_before(g, ARITHMETIC),
            "constants into the layer after": lambda g: into_layer_after(g, ARITHMETIC),
            "chains of constants": fold_scalars,
            "activations by name": name_activations,
            _GELUS: name_gelus,
            "views of views": merge_views,
        },
    ),
}


def fuse(graph: Graph, *, level: str = "aggressive") -> Applied:
    """Return ``graph`` with fewer nodes that answer the same.

    Args:
        graph: Any graph.
        level: ``fast``, ``balanced`` or ``aggressive``.

    Raises:
        ModelError: The optimiser refuses the graph, or leaves operators that only one
            engine has.
    """
    fused, notes = graph, []
    own: dict[str, _Pass] = {}
    for name, (without, passes) in _LEVELS.items():
        own |= passes
        made, saved = _until_done(fused, {_OPTIMISER: _optimiser(without), **own})
        if saved:
            by = ", ".join(f"{what} {count}" for what, count in saved.items())
            notes.append(f"{name}: {_change(fused.operators, made.operators)}; by {by}")
            fused = made
        if name == level:
            break
    if not notes:
        return Applied(graph, changed=False, notes=("nothing was left to fuse",))
    return Applied(fused, changed=True, notes=tuple(notes))


def _until_done(graph: Graph, passes: Mapping[str, _Pass]) -> tuple[Graph, Counter[str]]:
    """Return what ``passes`` leave of ``graph``, and the nodes that each saved."""
    saved: Counter[str] = Counter()
    while True:
        before = graph
        for what, change in passes.items():
            made = change(graph)
            # More nodes are no gain: an operator that was taken apart stays as it is. One
            # pass may leave as many, for the engine to make fewer of.
            if _cost(made) < _cost(graph) or (what == _GELUS and made is not graph):
                saved[what] += graph.operators.total() - made.operators.total()
                graph = made
        if graph is before:
            return graph, saved


def _optimiser(without: frozenset[str]) -> _Pass:
    def change(graph: Graph) -> Graph:
        made = optimise(graph, without)
        # It takes every hard swish apart, which is no reason to go without the rest.
        return name_activations(made) if HARD_SWISH in graph.operators else made

    return change


def _cost(graph: Graph) -> tuple[int, int]:
    return graph.operators.total(), graph.weight_bytes


def _change(before: Counter[str], after: Counter[str]) -> str:
    note = f"{before.total()} nodes became {after.total()}"
    if gone := _listed(before - after):
        note += f", gone {gone}"
    if made := _listed(after - before):
        note += f", new {made}"
    return note


class _Fuse:
    """The row ``fuse`` of the table."""

    def apply(
        self,
        graph: Graph,
        settings: Mapping[str, str],
        samples: Samples | None = None,  # noqa: ARG002  needs none
    ) -> Applied:
        """Return the graph after ``fuse``; level ``none`` returns it as it is."""
        level = settle("fuse", settings)["level"]
        if level == "none":
            return Applied(graph, changed=False, notes=("level none was asked",))
        return fuse(graph, level=level)


def _listed(operators: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(operators.items()))


TECHNIQUE = _Fuse()
