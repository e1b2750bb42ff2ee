"""ONNX Runtime's own graph optimiser, run ahead of time, with the passes a level has.

Its *basic* passes leave standard operators only. They cannot be asked for one by one, but
left out by name, so that a level is told by what it leaves out.
"""

import onnx
import onnxruntime

from edgewright.core.errors import ModelError
from edgewright.toolchain.ir import ort
from edgewright.toolchain.ir.graph import STANDARD_DOMAINS, Graph
from edgewright.toolchain.ir.tidy import tidy

# Passes beyond identities, no-ops and constants.
BATCH_NORMS = frozenset({"ConvBNFusion", "MatmulBNFusion"})
NEIGHBOURS = frozenset(
    {
        "ConvAddFusion",
        "ConvMulFusion",
        "DivMulFusion",
        "FuseReluClip",
        "GemmSumFusion",
        "GemmTransposeFusion",
        "MatMulAddFusion",
        "MatMulScaleFusion",
        "PadFusion",
        "Pad_Fusion",
        "ReshapeFusion",
        "TransposeOptimizer",
    }
)


def optimise(graph: Graph, without: frozenset[str] = frozenset()) -> Graph:
    """Return what ONNX Runtime makes of ``graph`` at ``ORT_ENABLE_BASIC``.

    Args:
        graph: Any graph.
        without: Passes, by name, that are left out.

    Raises:
        ModelError: It refuses the graph, or answers with operators of its own.
    """
    with ort.quiet("optimise the graph", ModelError) as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folder / "optimised.onnx")
        options.intra_op_num_threads = 1
        onnxruntime.InferenceSession(
            graph.to_bytes(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=sorted(without) or None,
        )
        proto = onnx.load(folder / "optimised.onnx")
    given = {node.domain for node in graph.proto.graph.node}
    for node in proto.graph.node:
        if node.domain not in STANDARD_DOMAINS | given:
            raise ModelError(
                f"the optimiser wrote {node.domain}.{node.op_type}, which only it can run",
                hint="Leave fuse out of the recipe for this model.",
            )
    return tidy(proto)
