"""Change the weights of a graph and put nodes in, knowing who writes and reads what."""

from typing import cast

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, numpy_helper

from edgewright.toolchain.ir.graph import STANDARD_DOMAINS, Graph, array_of
from edgewright.toolchain.ir.tidy import tidy

Floats = npt.NDArray[np.float32]


class Editor:
    """A copy of a graph that is being changed.

    Attributes:
        nodes: In order; ``insert`` adds to them.
        outputs: Names of what the graph answers.
    """

    def __init__(self, graph: Graph) -> None:
        """Copy ``graph``, which has no graphs inside nodes."""
        self._proto = graph.copy()
        parts = self._proto.graph
        self._held = {t.name: t for t in parts.initializer}
        self._new: dict[str, TensorProto] = {}
        self.nodes = list(parts.node)
        self.outputs = {value.name for value in parts.output}
        self._writers = {name: node for node in self.nodes for name in node.output if name}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(filter(None, node.input)):
                self._readers.setdefault(name, []).append(node)

    def writer(self, tensor: str, *kinds: str) -> NodeProto | None:
        """Return the node that writes ``tensor``, if it is a standard one of ``kinds``."""
        node = self._writers.get(tensor)
        if node is None or node.domain not in STANDARD_DOMAINS:
            return None
        return node if not kinds or node.op_type in kinds else None

    def readers(self, tensor: str) -> list[NodeProto]:
        """Return the nodes that read ``tensor``, each once."""
        return list(self._readers.get(tensor, []))

    def only_reader(self, tensor: str) -> NodeProto | None:
        """Return the one node that reads ``tensor``, which the graph does not answer."""
        found = self._readers.get(tensor, [])
        return found[0] if len(found) == 1 and tensor not in self.outputs else None

    def is_weight(self, tensor: str) -> bool:
        """Return whether ``tensor`` is a float32 constant that no output names."""
        held = self._held.get(tensor)
        return (
            held is not None
            and held.data_type == TensorProto.FLOAT
            and tensor not in self.outputs
        )

    def weight(self, tensor: str) -> Floats:
        """Return the values of a weight."""
        return cast("Floats", array_of(self._held[tensor]))

    def give(self, node: NodeProto, index: int, values: npt.NDArray[np.floating]) -> None:
        """Let input ``index`` of ``node`` be ``values``, and leave other readers theirs."""
        before = node.input[index] if index < len(node.input) else ""
        self._leave(node, index)
        name = self.constant(f"{before or 'constant'}:{node.name}", values)
        while len(node.input) <= index:
            node.input.append("")
        node.input[index] = name
        self._readers[name] = [node]

    def constant(self, name: str, values: npt.NDArray[np.floating]) -> str:
        """Keep float32 ``values`` under ``name`` or one like it, which is returned."""
        taken = set(self._held) | set(self._writers)
        while name in taken:
            name += "_"
        tensor = numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name)
        self._held[name] = self._new[name] = tensor
        return name

    def insert(self, node: NodeProto, before: NodeProto) -> None:
        """Put ``node`` in front of another."""
        place = next(i for i, other in enumerate(self.nodes) if other is before)
        self.nodes.insert(place, node)
        self._writers.update((name, node) for name in node.output)
        for name in dict.fromkeys(node.input):
            self._readers.setdefault(name, []).append(node)

    def redirect(self, node: NodeProto, index: int, tensor: str) -> None:
        """Let input ``index`` of ``node`` be ``tensor``."""
        self._leave(node, index)
        node.input[index] = tensor
        self._readers.setdefault(tensor, []).append(node)

    def graph(self) -> Graph:
        """Return the graph as it is now."""
        parts = self._proto.graph
        parts.initializer.extend(self._new.values())
        nodes = [NodeProto.FromString(n.SerializeToString()) for n in self.nodes]
        del parts.node[:]
        parts.node.extend(nodes)
        return tidy(self._proto)

    def _leave(self, node: NodeProto, index: int) -> None:
        before = node.input[index] if index < len(node.input) else ""
        if before and list(node.input).count(before) == 1:
            self._readers[before] = [n for n in self._readers[before] if n is not node]
