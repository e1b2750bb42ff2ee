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

    def constant(
        self, name: str, values: npt.NDArray[np.floating] | npt.NDArray[np.int64]
    ) -> str:
        """Keep ``values`` under ``name`` or one like it, which is returned.

        They are kept as float32, sizes and axes as int64.
        """
        name = self.free_name(name)
        kind = np.int64 if values.dtype == np.int64 else np.float32
        # Not ascontiguousarray, which makes a vector of a scalar.
        tensor = numpy_helper.from_array(np.asarray(values, kind, order="C"), name)
        self._held[name] = self._new[name] = tensor
        return name

    def free_name(self, name: str) -> str:
        """Return ``name`` or one like it that no tensor has."""
        taken = set(self._held) | set(self._writers) | set(self._readers) | self.outputs
        while name in taken:
            name += "_"
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

    def values(self, tensor: str) -> npt.NDArray[np.generic] | None:
        """Return the values of a constant of any type; None where it is computed."""
        held = self._held.get(tensor)
        return None if held is None else array_of(held)

    def replace(self, node: NodeProto, by: NodeProto) -> None:
        """Put ``by``, which writes the same, where ``node`` is."""
        self.insert(by, node)
        self.remove(node)
        self._writers.update((name, by) for name in by.output)

    def remove(self, node: NodeProto) -> None:
        """Take ``node`` out; nobody may read what it wrote, unless another writes it now."""
        self.nodes = [other for other in self.nodes if other is not node]
        for name in dict.fromkeys(filter(None, node.input)):
            self._readers[name] = [n for n in self._readers[name] if n is not node]
        for name in node.output:
            if self._writers.get(name) is node:
                del self._writers[name]

    def absorb(self, node: NodeProto, after: NodeProto) -> None:
        """Let ``node`` write what ``after`` wrote, its only reader, which is removed."""
        self.remove(after)
        self._writers.pop(node.output[0])
        node.output[0] = after.output[0]
        self._writers[node.output[0]] = node

    def bypass(self, node: NodeProto, index: int = 0) -> bool:
        """Remove ``node``, which answers its input ``index``; return whether one can.

        One cannot where an output of the graph has to be another name of an input, a
        constant or another output.
        """
        source, end = node.input[index], node.output[0]
        if end not in self.outputs:
            self.remove(node)
            self._rename_reads(end, source)
            return True
        writer = self._writers.get(source)
        if writer is None or source in self.outputs:
            return False
        self.remove(node)
        place = list(writer.output).index(source)
        writer.output[place] = end
        self._writers[end] = self._writers.pop(source)
        self._rename_reads(source, end)
        return True

    def _rename_reads(self, before: str, after: str) -> None:
        for reader in self._readers.pop(before, []):
            reader.input[:] = [after if name == before else name for name in reader.input]
            if all(other is not reader for other in self._readers.setdefault(after, [])):
                self._readers[after].append(reader)

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
