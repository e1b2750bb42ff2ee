"""What a technique is, and the table of the ones we have.

A technique makes a graph smaller or faster and says what it did. Nothing here
imports a technique: the table is data the planner, the help and the docs read.
Each may be used alone::

    graph = load(Path("model.onnx"))
    samples = Samples({"pixels": images})
    applied = load_technique("quantize").apply(graph, {"granularity": "channel"}, samples)
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol, cast

from edgewright.core import records
from edgewright.core.errors import UsageError
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.samples import Samples


@dataclass(frozen=True, slots=True)
class Applied:
    """What a technique did.

    Attributes:
        graph: The graph after it.
        changed: Whether ``graph`` computes or stores anything differently.
        notes: What was done, one sentence each, with the numbers.
    """

    graph: Graph
    changed: bool
    notes: tuple[str, ...]


class Technique(Protocol):
    """One way to change a graph. Every technique passes ``tests/conformance``."""

    def apply(
        self,
        graph: Graph,
        settings: Mapping[str, str],
        samples: Samples | None = None,
    ) -> Applied:
        """Return the graph after this technique; ``graph`` itself is left as it is.

        Args:
            graph: What to change.
            settings: A value for each name in ``TechniqueInfo.settings``; what is left
                out has the first value listed there. Those in ``TechniqueInfo.free``
                may be left out too.
            samples: Inputs to calibrate on; only read where
                ``TechniqueInfo.needs_samples`` says so.

        Raises:
            UsageError: A setting, or a node it names, that does not exist.
            ModelError: The graph cannot be changed this way.
            DataError: ``samples`` are needed and missing.
        """


@dataclass(frozen=True, slots=True)
class TechniqueInfo:
    """A row of the table.

    Attributes:
        name: As users write it; also the sibling package that holds ``TECHNIQUE``.
        summary: What it is for, one sentence.
        calibrates: Whether it needs samples of real input.
        exact: Whether the graph still computes the same, to rounding.
        settings: Every setting with its values, the default first.
        moves: How far answers of the conformance suite's network may move, as a share
            of the largest, with whatever settings.
        free: Settings whose values cannot be listed, each with what it is; empty by
            default.
        calibrates_with: Settings, each with the value at which it needs samples too.
        moves_with: Values of settings at which answers may move further than ``moves``.
    """

    name: str
    summary: str
    calibrates: bool
    exact: bool
    settings: Mapping[str, tuple[str, ...]]
    moves: float = 1e-4
    free: Mapping[str, str] = field(default_factory=dict)
    calibrates_with: Mapping[str, str] = field(default_factory=dict)
    moves_with: Mapping[str, float] = field(default_factory=dict)

    def needs_samples(self, settings: Mapping[str, str]) -> bool:
        """Return whether it has to be given samples for ``settings``."""
        asked = (settings.get(key) == value for key, value in self.calibrates_with.items())
        return self.calibrates or any(asked)


_NODES = {
    "skip": "nodes that are left as they are, by name, with commas between",
    "only": "the only nodes that are changed, by name, with commas between",
}

TECHNIQUES = {
    info.name: info
    for info in (
        TechniqueInfo(
            "fuse",
            "Compute once what never changes, and one node where several did the same.",
            calibrates=False,
            exact=True,
            settings={"level": ("aggressive", "balanced", "fast", "none")},
        ),
        TechniqueInfo(
            "equalise",
            "Make the channels of neighbouring layers equally large, so that they round well.",
            calibrates=False,
            exact=True,
            settings={"depthwise": ("scale", "leave")},
            free=_NODES,
        ),
        TechniqueInfo(
            "smooth",
            "Move what is large in an activation into weights, so that both round well.",
            calibrates=True,
            exact=True,
            settings={
                "strength": ("auto", "0.5", "0.8"),
                "insert": ("multiply", "leave"),
            },
        ),
        TechniqueInfo(
            "quantize",
            "Store weights as int8 and compute on 8-bit activations.",
            calibrates=True,
            exact=False,
            settings={
                "granularity": ("channel", "tensor"),
                "bits": ("8", "7"),
                "ranges": ("minmax", "percentile", "entropy", "mse"),
                "rounding": ("nearest", "learned"),
                "bias": ("leave", "correct"),
            },
            moves=0.05,
            free=_NODES,
        ),
        TechniqueInfo(
            "dynamic",
            "Store weights as int8 and quantize activations anew in every run.",
            calibrates=False,
            exact=False,
            settings={
                "granularity": ("channel", "tensor"),
                "signs": ("signed", "unsigned"),
                "convolutions": ("leave", "convert"),
                "rounding": ("nearest", "learned"),
            },
            moves=0.05,
            free=_NODES,
            calibrates_with={"rounding": "learned"},
        ),
        TechniqueInfo(
            "weights",
            "Store weights in fewer bits and compute with them as floats.",
            calibrates=False,
            exact=False,
            settings={
                "form": ("float16", "int8", "int4", "ternary", "binary"),
                "block": ("channel", "16", "32", "64", "128"),
                "rounding": ("nearest", "learned"),
                "memory": ("floats", "codes"),
            },
            moves=0.15,
            free=_NODES,
            calibrates_with={"rounding": "learned"},
            # Signs alone, of weights that were not trained to be signs, answer little.
            moves_with={"binary": 1.0},
        ),
    )
}


def load_technique(name: str) -> Technique:
    """Import the technique called ``name``.

    Raises:
        UsageError: There is no such technique.
    """
    if name not in TECHNIQUES:
        hint = records.nearest(name, list(TECHNIQUES))
        raise UsageError(f"no technique {name!r}", hint=hint)
    return cast("Technique", import_module(f"{__name__}.{name}").TECHNIQUE)


def settle(name: str, settings: Mapping[str, str]) -> dict[str, str]:
    """Return ``settings`` of the technique ``name`` with its defaults filled in.

    A free setting is in the answer only where something was given for it.

    Raises:
        UsageError: A setting or a value it does not have.
    """
    known, free = TECHNIQUES[name].settings, TECHNIQUES[name].free
    for key, value in settings.items():
        if key not in known and key not in free:
            hint = records.nearest(key, [*known, *free])
            raise UsageError(f"{name} has no setting {key!r}", hint=hint)
        if key in known and value not in known[key]:
            hint = records.nearest(value, list(known[key]))
            raise UsageError(f"{name}.{key} cannot be {value!r}", hint=hint)
    settled = {key: settings.get(key, values[0]) for key, values in known.items()}
    return settled | {key: settings[key] for key in free if settings.get(key)}


def skipped(settled: Mapping[str, str], graph: Graph) -> frozenset[str]:
    """Return the nodes that the settings ``skip`` and ``only`` leave as they are.

    Raises:
        UsageError: A node that ``graph`` does not have.
    """
    skip, only = (
        frozenset(filter(None, map(str.strip, settled.get(key, "").split(","))))
        for key in ("skip", "only")
    )
    check_nodes(graph, skip | only)
    if only:
        skip |= {node.name for node in graph.proto.graph.node} - only
    return skip


def check_nodes(graph: Graph, names: Collection[str]) -> None:
    """Refuse ``names`` that are no nodes of ``graph``.

    Raises:
        UsageError: With the nearest name there is.
    """
    known = [node.name for node in graph.proto.graph.node]
    if unknown := sorted(set(names) - set(known)):
        hint = records.nearest(unknown[0], known)
        raise UsageError(f"the graph has no node {unknown[0]!r}", hint=hint)
