"""Fuse: compute once what never changes, and one node where several did the same.

Two passes, both exact up to rounding and both leaving standard operators only, so the
result loads wherever the original did: ONNX Runtime's offline optimiser at its *basic*
level (constants folded, batch norm and biases into convolutions, identities gone), then
chains of scalar arithmetic (``scalars``). Its *extended* level is not used: it writes
operators of ``com.microsoft`` that fix the engine, and gains nothing, since the engine
applies them again when it loads the model.
"""

from collections import Counter
from collections.abc import Mapping

from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques import Applied, settle
from edgewright.toolchain.techniques.fuse.offline import optimise
from edgewright.toolchain.techniques.fuse.scalars import fold_scalars


def fuse(graph: Graph) -> Applied:
    """Return ``graph`` with fewer nodes that answer the same.

    Raises:
        ModelError: The optimiser refuses the graph, or leaves operators that only one
            engine has.
    """
    fused = fold_scalars(optimise(graph))
    before, after = graph.operators, fused.operators
    if before == after and graph.weight_bytes == fused.weight_bytes:
        return Applied(graph, changed=False, notes=("nothing was left to fuse",))
    note = f"{before.total()} nodes became {after.total()}"
    if gone := _listed(before - after):
        note += f": gone {gone}"
    if made := _listed(after - before):
        note += f", new {made}"
    return Applied(fused, changed=True, notes=(note,))


class _Fuse:
    """The row ``fuse`` of the table."""

    def apply(
        self,
        graph: Graph,
        settings: Mapping[str, str],
        samples: Samples | None = None,  # noqa: ARG002  needs none
    ) -> Applied:
        """Return the graph after ``fuse``; level ``none`` returns it as it is."""
        if settle("fuse", settings)["level"] == "none":
            return Applied(graph, changed=False, notes=("level none was asked",))
        return fuse(graph)


def _listed(operators: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(operators.items()))


TECHNIQUE = _Fuse()
