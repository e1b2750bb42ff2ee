# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy", "onnx"]
# ///
"""Make a release that answers the same and takes about twenty times as long.

The example ships it to show that an update which is right but slow is caught. A
branch beside the network computes ``sin(sin(... mean(image)))`` on many copies of
one number and adds ``w - w`` of the result to the logits.

A sine is finite, so that difference is exactly 0; it depends on the image, so no
optimiser can compute it beforehand; and onnxruntime's quantizer leaves every
operator used here in float, so the int8 version is as slow and answers the same.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

# One sine of so many numbers takes about as long as one call of the int8 model.
WIDTH = 80_000


def make_slow(source: Path, out: Path, *, factor: int = 20) -> None:
    """Write to ``out`` the digits model ``source`` with wasted work in every call.

    Args:
        source: A float ONNX model, opset 18 or later, from ``image`` to ``logits``.
        out: Where to write; replaced if it exists.
        factor: The waste, counted in calls of the int8 model at batch 1; >= 1. It does
            not grow with the batch.

    Raises:
        ValueError: ``factor`` is below 1, or ``source`` is not such a model.
    """
    if factor < 1:
        raise ValueError(f"factor must be at least 1, got {factor}")
    proto = onnx.load(source)
    graph = proto.graph
    inputs = [value.name for value in graph.input]
    outputs = [value.name for value in graph.output]
    if (inputs, outputs) != (["image"], ["logits"]):
        raise ValueError(f"{source} maps {inputs} to {outputs}, not image to logits")

    for node in graph.node:
        node.output[:] = ["answer" if name == "logits" else name for name in node.output]
    graph.node.extend(_waste(factor))
    # Sum rather than Add: the quantizer would round the logits a second time.
    graph.node.append(helper.make_node("Sum", ["answer", "nothing"], ["logits"], "sum"))
    graph.initializer.append(numpy_helper.from_array(np.array([WIDTH]), "waste_width"))
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, out)


def _waste(factor: int) -> list[NodeProto]:
    """Return nodes from ``image`` to the scalar ``nothing``, which is always 0."""
    chain = ["waste_start", *(f"waste_{step}" for step in range(1, factor + 1))]
    return [
        helper.make_node("Cast", ["image"], ["waste_image"], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["waste_image"], ["waste_seed"], keepdims=0),
        helper.make_node("Expand", ["waste_seed", "waste_width"], [chain[0]]),
        *(helper.make_node("Sin", [source], [result]) for source, result in pairwise(chain)),
        helper.make_node("ReduceMean", [chain[-1]], ["waste_mean"], keepdims=0),
        helper.make_node("Sub", ["waste_mean", "waste_mean"], ["nothing"]),
    ]


def main() -> None:
    """Read the two paths from the command line."""
    parser = argparse.ArgumentParser(description="Write a slow copy of a digits model.")
    parser.add_argument("source", type=Path, metavar="SRC")
    parser.add_argument("out", type=Path, metavar="OUT")
    arguments = parser.parse_args()
    make_slow(arguments.source, arguments.out)


if __name__ == "__main__":
    main()
