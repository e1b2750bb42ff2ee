"""Fuse: compute once what never changes, and one node where several did the same.

Three levels, each with all that the one before has, all exact up to rounding and leaving
standard operators only, so that the result loads wherever the original did:

- ``fast``: identities and no-ops gone, constants folded.
- ``balanced``: batch norms into the convolutions and matrices before them.
- ``aggressive``: biases, additions and factors into their neighbours, Transpose and Reshape
  cleaned up, chains of scalar arithmetic made one, and the factor of a preprocessing folded
  into the first convolution (``scalars``).

All but the chains is ONNX Runtime's offline optimiser at its *basic* level. Its *extended*
level is not used: it writes operators of ``com.microsoft`` that fix the engine, and gains
nothing, since the engine applies them again when it loads the model.
"""

from collections import Counter
from collections.abc import Callable, Mapping

from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques import Applied, settle
from edgewright.toolchain.techniques.fuse.offline import BATCH_NORMS, NEIGHBOURS, optimise
from edgewright.toolchain.techniques.fuse.scalars import fold_scalars


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
    for name, passes in _PASSES.items():
        made = passes(fused)
        # More nodes are no gain: an operator that was taken apart stays as it is.
        if _cost(made) < _cost(fused):
            notes.append(f"{name}: {_change(fused.operators, made.operators)}")
            fused = made
        if name == level:
            break
    if not notes:
        return Applied(graph, changed=False, notes=("nothing was left to fuse",))
    return Applied(fused, changed=True, notes=tuple(notes))


# What each level adds, the gentlest first.
_PASSES: Mapping[str, Callable[[Graph], Graph]] = {
    "fast": lambda graph: optimise(graph, BATCH_NORMS | NEIGHBOURS),
    "balanced": lambda graph: optimise(graph, NEIGHBOURS),
    "aggressive": lambda graph: fold_scalars(optimise(graph)),
}


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
