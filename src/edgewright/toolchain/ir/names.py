"""Take paths out of the names inside a graph.

Exporters name nodes and tensors after scopes, and some after files of the machine they ran
on. No program can tell the two apart, so a name with a path separator in it is replaced:
that of a weight by its last part, any other by the kind of its node and a number. Inputs
and outputs keep their names: they are what others call them by.
"""

from collections.abc import Iterator, Sequence
from itertools import count

from onnx import GraphProto

from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.tidy import graphs_of

_SEPARATORS = ("/", "\\")


def without_paths(graph: Graph) -> Graph:
    """Return ``graph`` without a path in any name inside; it computes the same."""
    proto = graph.copy()
    every = list(graphs_of(proto.graph))
    fresh = _fresh(every, {value.name for value in (*proto.graph.input, *proto.graph.output)})
    for part in every:
        part.name = "main" if part is every[0] else "inner"
        for held in (*part.initializer, *part.input, *part.output):
            held.name = fresh.get(held.name, held.name)
        _rename_nodes(part, fresh)
    return Graph(proto)


def _fresh(every: Sequence[GraphProto], kept: set[str]) -> dict[str, str]:
    """Return a new name for each tensor whose name is a path, but for those in ``kept``."""
    wishes = {name: wish for part in every for name, wish in _named(part)}
    taken = set(wishes)
    fresh: dict[str, str] = {}
    for name, wish in wishes.items():
        if _is_path(name) and name not in kept:
            fresh[name] = next(n for n in _candidates(wish) if n not in taken)
            taken.add(fresh[name])
    return fresh


def _named(part: GraphProto) -> Iterator[tuple[str, str]]:
    """Yield every tensor that ``part`` defines, with what it could be called."""
    for node in part.node:
        yield from ((name, f"{node.op_type}_out") for name in node.output)
    for value in (*part.input, *part.output):
        yield value.name, "value"
    for tensor in part.initializer:
        yield tensor.name, tensor.name.replace("\\", "/").rpartition("/")[2] or "weight"


def _rename_nodes(part: GraphProto, fresh: dict[str, str]) -> None:
    seen: set[str] = set()
    for index, node in enumerate(part.node):
        node.input[:] = [fresh.get(name, name) for name in node.input]
        node.output[:] = [fresh.get(name, name) for name in node.output]
        if _is_path(node.name) or node.name in seen:
            wish = f"{node.op_type}_{index}"
            node.name = next(name for name in _candidates(wish) if name not in seen)
        seen.add(node.name)


def _candidates(wish: str) -> Iterator[str]:
    """Yield ``wish``, then the same with numbers."""
    return (wish if n == 1 else f"{wish}_{n}" for n in count(1))


def _is_path(name: str) -> bool:
    return any(separator in name for separator in _SEPARATORS)
