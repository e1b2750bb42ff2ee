"""Nodes that answer what they are given, of the kinds ONNX Runtime leaves in.

It removes Identity, Dropout, casts to the same type and arithmetic with a scalar that does
nothing. Here are those whose shapes or constants have to be looked at.
"""

from collections.abc import Callable, Mapping

import numpy as np
from onnx import NodeProto

from edgewright.toolchain.ir.edit import Editor
from edgewright.toolchain.ir.graph import STANDARD_DOMAINS, Graph, has_subgraphs
from edgewright.toolchain.ir.shapes import Shape, shapes_of

_Shapes = Mapping[str, Shape]


def drop_noops(graph: Graph) -> Graph:
    """Return ``graph`` without nodes that answer what they are given."""
    if has_subgraphs(graph.proto):
        return graph
    editor, shapes = Editor(graph), shapes_of(graph)
    changed = False
    for node in list(editor.nodes):
        if node.domain in STANDARD_DOMAINS and node.op_type in _KINDS:
            index = _KINDS[node.op_type](editor, node, shapes)
            changed |= index is not None and editor.bypass(node, index)
    return editor.graph() if changed else graph


def _transpose(_: Editor, node: NodeProto, __: _Shapes) -> int | None:
    order = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
    return 0 if order and order == sorted(order) else None


def _same_shape(_: Editor, node: NodeProto, shapes: _Shapes) -> int | None:
    """A view whose answer has the shape of its input."""
    before, after = shapes.get(node.input[0]), shapes.get(node.output[0])
    if before is None or after is None or len(before) != len(after):
        return None
    equal = [a for a, b in zip(before, after, strict=True) if a is not None and a == b]
    # As many numbers go in as come out: one axis follows from the others.
    follows = len(equal) == len(before) - 1 and all(
        isinstance(size, int) and size for size in equal
    )
    return 0 if follows or len(equal) == len(before) else None


def _pad(editor: Editor, node: NodeProto, _: _Shapes) -> int | None:
    pads = editor.values(node.input[1]) if len(node.input) > 1 else None
    return 0 if pads is not None and not pads.any() else None


def _of_one(_: Editor, node: NodeProto, __: _Shapes) -> int | None:
    return 0 if len(node.input) == 1 else None


def _neutral(editor: Editor, node: NodeProto, shapes: _Shapes) -> int | None:
    """Arithmetic with zeros or ones that does not make its other side larger."""
    nothing = 0.0 if node.op_type in {"Add", "Sub"} else 1.0
    swaps = node.op_type in {"Add", "Mul"}
    for constant, other in ((1, 0), (0, 1)) if swaps else ((1, 0),):
        values = editor.values(node.input[constant])
        if values is None or values.dtype != np.float32 or not np.all(values == nothing):
            continue
        shape = shapes.get(node.input[other])
        if shape is not None and shape == shapes.get(node.output[0]) and None not in shape:
            return other
    return None


def _again(editor: Editor, node: NodeProto, _: _Shapes) -> int | None:
    return 0 if editor.writer(node.input[0], node.op_type) is not None else None


_KINDS: Mapping[str, Callable[[Editor, NodeProto, _Shapes], int | None]] = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _same_shape),
    **dict.fromkeys(("Concat", "Sum", "Mean", "Max", "Min"), _of_one),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _neutral),
    **dict.fromkeys(("Relu", "Abs", "Ceil", "Floor", "Round", "Sign"), _again),
    "Transpose": _transpose,
    "Pad": _pad,
}
