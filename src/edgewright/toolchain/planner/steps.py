"""Do one step of a candidate: find the nodes it is about, and apply its technique.

The same two functions are called here and on a worker, so that a step comes to the same.
"""

import fnmatch
from dataclasses import replace

from edgewright.core.errors import UsageError
from edgewright.core.records import nearest
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.planner.layers import layers_of
from edgewright.toolchain.planner.patterns import known_bad
from edgewright.toolchain.planner.plan import KNOWN_BAD
from edgewright.toolchain.planner.values import Step
from edgewright.toolchain.techniques import TECHNIQUES, Applied, load_technique


def resolved(graph: Graph, step: Step, samples: Samples) -> Step:
    """Return ``step`` with the nodes that tokens and patterns stand for.

    Raises:
        UsageError: A pattern is like no layer.
    """
    settings = dict(step.settings)
    for key in ("skip", "only"):
        tokens = [token for token in settings.get(key, "").split(",") if token]
        if not tokens:
            continue
        found: set[str] = set()
        for token in tokens:
            found |= _meant(graph, token, samples)
        settings[key] = ",".join(sorted(found))
    if not settings.get("skip", "yes"):
        del settings["skip"]
    return replace(step, settings=settings)


def applied(graph: Graph, step: Step, samples: Samples) -> Applied:
    """Return what a resolved step comes to.

    Raises:
        QuantizeError: It cannot be done.
        ModelError: The graph does not allow it.
    """
    calibrates = TECHNIQUES[step.technique].needs_samples(step.settings)
    technique = load_technique(step.technique)
    return technique.apply(graph, step.settings, samples if calibrates else None)


def _meant(graph: Graph, token: str, samples: Samples) -> set[str]:
    if token == KNOWN_BAD:
        return set(known_bad(graph, samples))
    if not set(token) & set("*?["):
        return {token}
    names = {node.name for node in graph.proto.graph.node}
    found = set(fnmatch.filter(names, token))
    if not found:
        layers = [layer.name for layer in layers_of(graph)]
        raise UsageError(f"no layer is called like {token!r}", hint=nearest(token, layers))
    return found
