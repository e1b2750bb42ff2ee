"""What a target is, and the table of the ones we have.

A target lowers a checked graph to the files one engine loads. Nothing here
imports a target: the table is data, so it can be listed, filtered by the
planner and shown in the docs where none of the vendor libraries is installed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from edgewright.core.errors import TargetError
from edgewright.toolchain.ir.graph import Graph


class Target(Protocol):
    """One way to lower a graph. Every target passes ``tests/conformance``."""

    def unsupported(self, graph: Graph) -> list[str]:
        """Return the nodes it cannot lower, by name; empty if it can take them all."""

    def lower(self, graph: Graph) -> Mapping[str, bytes]:
        """Return the engine's files by name, equal byte for byte for an equal graph.

        Raises:
            TargetError: ``unsupported`` names nodes.
        """


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """A row of the table.

    Attributes:
        name: As users write it; also the sibling module that holds ``TARGET``.
        engine: The engine that loads its files, a name in ``runtime.engines``.
        entry: The file the engine is given; the others are found beside it.
        dtypes: Tensor types it computes in, not merely stores.
    """

    name: str
    engine: str
    entry: str
    dtypes: frozenset[str]


TARGETS = {
    info.name: info
    for info in (
        TargetInfo("onnxruntime", "onnxruntime", "model.onnx", frozenset({"float32", "int8"})),
    )
}


def load_target(name: str) -> Target:
    """Import the target called ``name``.

    Raises:
        TargetError: There is no such target, or its library is not installed.
    """
    if name not in TARGETS:
        raise TargetError(f"no target {name!r}", hint=f"Choose from: {', '.join(TARGETS)}.")
    try:
        module = import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        missing = f"target {name!r} needs {error.name}, which is not installed"
        raise TargetError(missing, hint=f"Install edgewright[{name}].") from error
    return cast("Target", module.TARGET)
