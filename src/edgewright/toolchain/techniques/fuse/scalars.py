"""Chains of arithmetic with constants become one multiplication and one addition.

Any chain of additions and factors is ``a * x + b``, computed here once in float64.
"""

from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgewright.toolchain.ir.graph import Graph, has_subgraphs
from edgewright.toolchain.ir.tidy import tidy

_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div"})


@dataclass(frozen=True, slots=True)
class _Chain:
    """Neighbouring nodes that compute ``factor * x + offset``.

    Attributes:
        nodes: In order; every one but the last is read by the next alone.
        source: The tensor x.
    """

    nodes: tuple[NodeProto, ...]
    source: str
    factor: float
    offset: float


def fold_scalars(graph: Graph) -> Graph:
    """Return ``graph`` with every chain that gets shorter folded."""
    if has_subgraphs(graph.proto):
        return graph
    proto = graph.copy()
    changed = False
    done: set[str] = set()
    while (found := _next_chain(proto, done)) is not None:
        done.add(found.nodes[-1].output[0])
        changed |= _fold(proto, found)
    return tidy(proto) if changed else graph


def _next_chain(proto: ModelProto, done: set[str]) -> _Chain | None:
    """Return the first chain whose end is not in ``done``, as long as it can be."""
    scalars = _scalars(proto)
    readers = _readers(proto)
    for node in proto.graph.node:
        step = _step(node, scalars)
        if step is None:
            continue
        source, factor, offset = step
        nodes = [node]
        while True:
            after = readers.get(nodes[-1].output[0], [])
            step = _step(after[0], scalars) if len(after) == 1 else None
            if step is None or step[0] != nodes[-1].output[0]:
                break
            nodes.append(after[0])
            factor, offset = step[1] * factor, step[1] * offset + step[2]
        if nodes[-1].output[0] not in done:
            return _Chain(tuple(nodes), source, factor, offset)
    return None


def _step(node: NodeProto, scalars: dict[str, float]) -> tuple[str, float, float] | None:
    """Return (x, a, b) when ``node`` computes ``a * x + b`` with constants a and b."""
    if node.op_type not in _ARITHMETIC or node.domain:
        return None
    left, right = node.input
    if right in scalars and left not in scalars:
        value = scalars[right]
        if node.op_type == "Div":
            return (left, 1 / value, 0.0) if value else None
        return {
            "Mul": (left, value, 0.0),
            "Add": (left, 1.0, value),
            "Sub": (left, 1.0, -value),
        }[node.op_type]
    if left in scalars and right not in scalars:
        value = scalars[left]
        return {
            "Mul": (right, value, 0.0),
            "Add": (right, 1.0, value),
            "Sub": (right, -1.0, value),
        }.get(node.op_type)
    return None


def _fold(proto: ModelProto, chain: _Chain) -> bool:
    """Replace ``chain`` if that leaves fewer nodes; return whether it did."""
    if not all(map(np.isfinite, (chain.factor, chain.offset))) or chain.factor == 0:
        return False
    fresh = []
    if chain.factor != 1:
        fresh.append(("Mul", chain.factor))
    if chain.offset:
        fresh.append(("Add", chain.offset))
    asked_for = {value.name for value in proto.graph.output}
    nothing_left = not fresh and chain.nodes[-1].output[0] in asked_for
    if len(fresh) >= len(chain.nodes) or nothing_left:
        return False
    _replace(proto, chain, fresh)
    return True


def _replace(proto: ModelProto, chain: _Chain, fresh: list[tuple[str, float]]) -> None:
    """Put the nodes of ``fresh``, operator and constant, where ``chain`` stands."""
    graph = proto.graph
    end = chain.nodes[-1].output[0]
    place = list(graph.node).index(chain.nodes[0])
    for node in chain.nodes:
        graph.node.remove(node)
    last = chain.source
    for number, (operator, constant) in enumerate(fresh):
        name = f"{end}_scalar_{number}"
        value = numpy_helper.from_array(np.array(constant, np.float32), name)
        graph.initializer.append(value)
        output = end if number == len(fresh) - 1 else f"{name}_out"
        graph.node.insert(place + number, helper.make_node(operator, [last, name], [output]))
        last = output
    if not fresh:
        for node in graph.node:
            node.input[:] = [last if name == end else name for name in node.input]


def _scalars(proto: ModelProto) -> dict[str, float]:
    """Return every float32 constant of one value and no dimension."""
    return {
        tensor.name: float(numpy_helper.to_array(tensor))
        for tensor in proto.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and not tensor.dims
    }


def _readers(proto: ModelProto) -> dict[str, list[NodeProto]]:
    """Return who reads each tensor; the graph's own outputs count as a reader of none."""
    readers: dict[str, list[NodeProto]] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for value in proto.graph.output:
        # Never folded over: a result the caller asked for by name.
        readers.setdefault(value.name, []).extend([NodeProto(), NodeProto()])
    return readers
