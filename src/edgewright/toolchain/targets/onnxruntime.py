"""ONNX Runtime: the graph as it is, with its weights beside it so that they are mapped."""

from onnx import defs

from edgewright.core.errors import TargetError
from edgewright.toolchain.ir.graph import STANDARD_DOMAINS, Graph
from edgewright.toolchain.ir.store import files_of

# Beyond the standard, what its builds carry everywhere.
_CARRIED = frozenset({"ai.onnx.ml", "com.microsoft"})


class _OnnxRuntime:
    """The row ``onnxruntime`` of the table."""

    def unsupported(self, graph: Graph) -> list[str]:
        """Return the nodes whose operator neither ONNX nor ONNX Runtime defines."""
        return [
            node.name
            for node in graph.proto.graph.node
            if node.domain not in _CARRIED
            and not (
                node.domain in STANDARD_DOMAINS and defs.has(node.op_type, graph.opset, "")
            )
        ]

    def lower(self, graph: Graph) -> dict[str, bytes]:
        """Return ``model.onnx``, and ``weights.bin`` when there is much to map."""
        if refused := self.unsupported(graph):
            raise TargetError(
                f"onnxruntime cannot run {len(refused)} nodes: {', '.join(refused[:5])}",
                hint="Export the model with standard ONNX operators.",
            )
        return files_of(graph)


TARGET = _OnnxRuntime()
