"""What is known of the shapes inside a graph."""

from collections.abc import Mapping

import onnx

from edgewright.toolchain.ir.graph import Graph

# A size, the name of a free axis, or None where nothing is known.
Shape = tuple[int | str | None, ...]

Shapes = Mapping[str, Shape]

# The axes of a picture: sample, channels, height and width.
PLANE = 4

# What converters call each axis that they know nothing of; those are several sizes.
_NAMELESS = frozenset({"", "?", "-1", "None", "none", "unknown", "dynamic"})


def shapes_of(graph: Graph) -> dict[str, Shape]:
    """Return the shapes of all tensors whose rank is known, by ONNX's own inference.

    Two axes of one name have one size.
    """
    try:
        told = onnx.shape_inference.infer_shapes(graph.proto, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        # More than two gigabytes, or operators of others: nothing is known then.
        return {}
    return {
        value.name: tuple(map(_size, value.type.tensor_type.shape.dim))
        for value in (*told.input, *told.value_info, *told.output)
        if value.type.tensor_type.HasField("shape")
    }


def picture_of(shapes: Shapes, tensor: str) -> list[int]:
    """Return channels, height and width of a picture where they are known, else nothing."""
    shape = shapes.get(tensor, ())
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    return sizes if len(shape) == PLANE and len(sizes) == PLANE - 1 else []


def _size(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return dim.dim_value
    return None if dim.dim_param in _NAMELESS else dim.dim_param
