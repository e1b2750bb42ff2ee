"""Do one step of a candidate: find the nodes it is about, and apply its technique.

The same two functions are called here and on a worker, so that a step comes to the same.
"""

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from edgewright.core.errors import UsageError
from edgewright.core.records import nearest
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.planner.layers import layers_of
from edgewright.toolchain.planner.patterns import known_bad
from edgewright.toolchain.planner.plan import KNOWN_BAD
from edgewright.toolchain.planner.values import Step
from edgewright.toolchain.techniques import TECHNIQUES, Applied, load_technique

_NODES = ("skip", "only")
_TOKEN = "@"  # noqa: S105  no secret: what begins with it stands for nodes
_NAMED = 5


class Meaning(Protocol):
    """What a token among the nodes to skip stands for, where only this machine can tell."""

    def nodes(self, graph: Graph, step: Step) -> Mapping[str, str]:
        """Return the nodes, each with the reason; what they rest on is put on record."""

    def foretold(self, graph: Graph, step: Step) -> Mapping[str, str]:
        """Return the same for somebody who works ahead; nothing is put on record."""

    def rest_by(self, rest: Callable[[], None]) -> None:
        """Call ``rest`` from now on before anything is timed."""


Told = Callable[[Graph, Step, str], Mapping[str, str]]


def tokens_of(step: Step) -> set[str]:
    """Return the tokens among the nodes that ``step`` names."""
    named = [name for key in _NODES for name in step.settings.get(key, "").split(",")]
    return {name for name in named if name.startswith(_TOKEN)}


def resolved(
    graph: Graph, step: Step, samples: Samples, told: Told | None = None
) -> tuple[Step, tuple[str, ...]]:
    """Return ``step`` with the nodes that tokens and patterns stand for, and why.

    Args:
        graph: What the step is done to.
        step: As it was planned.
        samples: Calibration inputs.
        told: What other tokens than ``KNOWN_BAD`` stand for; nothing when None.

    Raises:
        UsageError: A pattern is like no layer.
    """
    settings = dict(step.settings)
    reasons: dict[str, list[str]] = {}
    for key in _NODES:
        names = [name for name in settings.get(key, "").split(",") if name]
        if not names:
            continue
        found: set[str] = set()
        for name in names:
            if not name.startswith(_TOKEN):
                found |= _meant(graph, name)
                continue
            if name == KNOWN_BAD:
                meant = known_bad(graph, samples)
            else:
                meant = told(graph, step, name) if told else {}
            for node, reason in meant.items():
                reasons.setdefault(reason, []).append(node)
            found |= set(meant)
        settings[key] = ",".join(sorted(found))
    if not settings.get("skip", "yes"):
        del settings["skip"]
    return replace(step, settings=settings), tuple(map(_because, reasons.items()))


def applied(graph: Graph, step: Step, samples: Samples) -> Applied:
    """Return what a resolved step comes to.

    Raises:
        QuantizeError: It cannot be done.
        ModelError: The graph does not allow it.
    """
    calibrates = TECHNIQUES[step.technique].needs_samples(step.settings)
    technique = load_technique(step.technique)
    return technique.apply(graph, step.settings, samples if calibrates else None)


def _because(found: tuple[str, list[str]]) -> str:
    reason, names = found
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"in floats: {', '.join(names[:_NAMED])}{more}; {reason}"


def _meant(graph: Graph, token: str) -> set[str]:
    if not set(token) & set("*?["):
        return {token}
    names = {node.name for node in graph.proto.graph.node}
    found = set(fnmatch.filter(names, token))
    if not found:
        layers = [layer.name for layer in layers_of(graph)]
        raise UsageError(f"no layer is called like {token!r}", hint=nearest(token, layers))
    return found
