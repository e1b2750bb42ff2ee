"""Take paths out of the names inside a graph.

Exporters name nodes and tensors after scopes, and some after files of the machine they ran
on. No program can tell the two apart, so a name with a path separator in it is replaced:
that of a weight by its last part, any other by the kind of its node and a number. Inputs
and outputs keep their names: they are what others call them by.
"""

from itertools import count

from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.tidy import graphs_of

_SEPARATORS = ("/", "\\")


def without_paths(graph: Graph) -> Graph:
    """Return ``graph`` without a path in any name inside; it computes the same."""
    proto = graph.copy()
    every = list(graphs_of(proto.graph))
    taken = {name for part in every for node in part.node for name in (*node.input, *node.output)}
    taken |= {value.name for part in every for value in (*part.input, *part.output)}
    kept = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    fresh: dict[str, str] = {}

    def rename(name: str, wish: str) -> None:
        if name in kept or name in fresh or not _is_path(name):
            return
        new = next(n for n in _candidates(wish) if n not in taken and not _is_path(n))
        taken.add(new)
        fresh[name] = new

    for part in every:
        for tensor in part.initializer:
            rename(tensor.name, tensor.name.replace("\\", "/").rpartition("/")[2])
        for value in (*part.input, *part.output):
            rename(value.name, "value")
        for node in part.node:
            for name in node.output:
                rename(name, f"{node.op_type}_out")
    for part in every:
        part.name = "main" if part is every[0] else "inner"
        for held in (*part.initializer, *part.input, *part.output):
            held.name = fresh.get(held.name, held.name)
        for index, node in enumerate(part.node):
            node.input[:] = [fresh.get(name, name) for name in node.input]
            node.output[:] = [fresh.get(name, name) for name in node.output]
            if _is_path(node.name):
                node.name = f"{node.op_type}_{index}"
    _separate(proto.graph)
    return Graph(proto)


def _separate(graph: object) -> None:
    """Give nodes that now have one name a name each."""
    seen: set[str] = set()
    for node in graph.node:  # type: ignore[attr-defined]
        if node.name in seen:
            node.name = next(n for n in _candidates(node.name) if n not in seen)
        seen.add(node.name)


def _candidates(wish: str) -> "map[str]":
    """Return ``wish`` (or ``tensor`` for an empty one), then the same with numbers."""
    base = wish or "tensor"
    return map(lambda n: base if n == 1 else f"{base}_{n}", count(1))


def _is_path(name: str) -> bool:
    return any(separator in name for separator in _SEPARATORS)
