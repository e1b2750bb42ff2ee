"""Before quantizing: write a float graph in operators that compute with codes.

An engine has 8-bit kernels for some operators only; between them it unfolds codes to
floats and folds them again. What can be said in others that it has is said in those, and
answers the same up to rounding:

- A mean over all of a picture is a GlobalAveragePool.
- A ConvTranspose whose windows touch and never overlap is a convolution of single points
  that answers every point of a window as a channel, and rows of points moved apart.
- A Resize that repeats every point is a copy of rows.
- Channels moved to the end of a flat list are moved there while it is still a picture:
  between convolutions a picture lies like that already.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from edgewright.toolchain.ir.edit import Editor
from edgewright.toolchain.ir.graph import Graph, has_subgraphs, options_of
from edgewright.toolchain.ir.shapes import PLANE, Shape, Shapes, picture_of, shapes_of
from edgewright.toolchain.techniques.quantize.moves import repeat_points, unfold_blocks
from edgewright.toolchain.techniques.quantize.tail import behind_the_layers

# A ConvTranspose that does nothing but what its kernel and strides say.
_PLAIN: Mapping[str, object] = {
    "group": 1, "dilations": [1, 1], "output_padding": [0, 0], "pads": [0] * 4,
    "output_shape": None, "auto_pad": b"NOTSET",
}  # fmt: skip
_NEAREST: Mapping[str, Any] = {
    "mode": b"nearest", "coordinate_transformation_mode": b"half_pixel",
    "nearest_mode": b"round_prefer_floor",
}  # fmt: skip
# From which point to which, and how to round: by these every point comes as often, in order.
_REPEATS = frozenset({
    (b"asymmetric", b"floor"),
    *((where, how) for where in (b"half_pixel", b"pytorch_half_pixel")
      for how in (b"round_prefer_floor", b"round_prefer_ceil")),
})  # fmt: skip


def in_kernels_of_codes(graph: Graph, skip: frozenset[str]) -> Graph:
    """Return ``graph`` so written; nodes named in ``skip`` stay as they are.

    Nodes keep their names where they do what they did.
    """
    if has_subgraphs(graph.proto):
        return graph
    editor, shapes = Editor(graph), shapes_of(graph)
    changed, floats = False, behind_the_layers(graph)
    for node in list(editor.nodes):
        if node.name in skip or node.domain not in {"", "ai.onnx"}:
            continue
        if node.op_type == "ReduceMean":
            changed |= _pool(editor, node, shapes)
        elif node.op_type == "ConvTranspose":
            changed |= _windows(editor, node, shapes)
        elif node.op_type == "Resize" and node.name not in floats:
            changed |= _repeat(editor, node, shapes)
        elif node.op_type == "Transpose":
            changed |= _channels_last(editor, node, shapes)
    return editor.graph() if changed else graph


def _pool(editor: Editor, node: NodeProto, shapes: Shapes) -> bool:
    """Make a mean over all axes behind the channels a pool."""
    options = options_of(node)
    shape = shapes.get(node.input[0], ())
    axes = options.get("axes")
    if axes is None and len(node.input) > 1:
        axes = editor.values(node.input[1])
    rank = len(shape)
    if axes is None or rank <= 2:
        return False
    if sorted(int(axis) % rank for axis in axes) != list(range(2, rank)):
        return False
    answer = node.output[0]
    kept = bool(options.get("keepdims", 1))
    pooled = answer if kept else editor.free_name(f"{answer}_pooled")
    pool = helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], name=node.name)
    if not kept:
        flat = helper.make_node("Flatten", [pooled], [answer], name=f"{node.name}_flat")
        editor.insert(pool, node)
        pool = flat
    editor.replace(node, pool)
    return True


def _windows(editor: Editor, node: NodeProto, shapes: Shapes) -> bool:
    """Make a ConvTranspose without overlap a Conv of points that are moved apart."""
    if not editor.is_weight(node.input[1]) or len(shapes.get(node.input[0], ())) != PLANE:
        return False
    weight = editor.weight(node.input[1])  # from, to, rows, columns
    options = options_of(node)
    rows, columns = weight.shape[2:]
    if rows != columns or list(options.get("strides", [1, 1])) != [rows, columns] or rows < 2:
        return False
    if any(options.get(name, usual) != usual for name, usual in _PLAIN.items()):
        return False
    bias = node.input[2] if len(node.input) > 2 else ""
    if bias and not editor.is_weight(bias):
        return False
    taken, made = weight.shape[:2]
    points = weight.transpose(2, 3, 1, 0).reshape(made * rows * columns, taken, 1, 1)
    inputs = [node.input[0], editor.constant(f"{node.input[1]}_points", points)]
    if bias:
        each = np.tile(editor.weight(bias), rows * columns)
        inputs.append(editor.constant(f"{bias}_points", each))
    deep, answer = editor.free_name(f"{node.output[0]}_deep"), node.output[0]
    conv = helper.make_node("Conv", inputs, [deep], name=node.name, kernel_shape=[1, 1])
    editor.insert(conv, node)
    plane = [size for size in shapes[node.input[0]][2:] if isinstance(size, int)]
    if len(plane) == PLANE - 2:
        unfold_blocks(editor, node, (deep, answer), (made, *plane), int(rows))
    else:
        wide = helper.make_node(
            "DepthToSpace", [deep], [answer], name=f"{node.name}_wide", blocksize=int(rows)
        )
        editor.insert(wide, node)
    editor.remove(node)
    return True


def _repeat(editor: Editor, node: NodeProto, shapes: Shapes) -> bool:
    """Make a Resize that repeats points one that copies them."""
    options = {**_NEAREST, **options_of(node)}
    how = options["coordinate_transformation_mode"], options["nearest_mode"]
    if options["mode"] != b"nearest" or how not in _REPEATS or options.get("axes") is not None:
        return False
    picture, answer = node.input[0], node.output[0]
    plane = picture_of(shapes, picture)
    times = _times(editor, node, (shapes[picture][0], *plane)) if plane else 0
    if times < 2:
        return False
    repeat_points(editor, node, (picture, answer), plane, times)
    editor.remove(node)
    return True


def _times(editor: Editor, node: NodeProto, before: Shape) -> int:
    """Return how often a Resize repeats a point along both sides; 0 where it does not.

    By its scales or its sizes, not by what comes out: 3 points at a scale of 2.1 are 6 too,
    but not each of them twice.
    """
    named = {place: name for place, name in enumerate(node.input) if name}
    told = editor.values(named.get(2, named.get(3, "")))
    if told is None or told.shape != (PLANE,):
        return 0
    sizes = told.astype(np.float64)
    if 2 not in named:
        if before[0] != int(sizes[0]):
            return 0
        sizes /= np.array(before, np.float64)
    times = int(sizes[2])
    return times if sizes.tolist() == [1, 1, times, times] else 0


def _channels_last(editor: Editor, node: NodeProto, shapes: Shapes) -> bool:
    """Transpose a picture before its points become a list, not the list after."""
    view = editor.writer(node.input[0], "Reshape", "Flatten")
    if view is None or editor.only_reader(view.output[0]) is not node:
        return False
    if list(options_of(node).get("perm", [])) != [0, 2, 1]:
        return False
    channels, *plane = shapes.get(view.input[0], ())[1:] or (None,)
    listed = shapes.get(view.output[0], ())[1:]
    if not isinstance(channels, int) or len(plane) != PLANE - 2:
        return False
    points = [size for size in plane if isinstance(size, int)]
    if len(points) != len(plane) or listed != (channels, prod(points)):
        return False
    moved = editor.free_name(f"{view.input[0]}_channels_last")
    shape = editor.constant(
        f"{node.output[0]}_shape", np.array([0, prod(points), channels], np.int64)
    )
    first = helper.make_node(
        "Transpose", [view.input[0]], [moved], name=node.name, perm=[0, 2, 3, 1]
    )
    last = helper.make_node("Reshape", [moved, shape], [node.output[0]], name=view.name)
    editor.insert(first, node)
    editor.replace(node, last)
    editor.remove(view)
    return True
