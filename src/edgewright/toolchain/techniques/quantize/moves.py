"""Points of a picture moved about where engines compute with codes: channels last.

There a point is its channels in a row, so a block of points that becomes the channels of
one, or is made of them, is a few copies of whole rows. The operators for it that ONNX has
are written channel by channel, and an engine turns the picture around before and after.
The Transposes here meet those that the engine puts around its convolutions and go.
"""

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, helper

from edgewright.toolchain.ir.edit import Editor

_LAST, _FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def unfold_blocks(
    editor: Editor,
    before: NodeProto,
    tensors: tuple[str, str],
    plane: Sequence[int],
    block: int,
) -> None:
    """Write ``tensors[1]``, the picture whose blocks of points ``tensors[0]`` has as channels.

    Args:
        editor: Of the graph.
        before: The node to put this in front of.
        tensors: What is read, (N, block * block * C, high, wide) with the channels of the
            block's first point first, and what is written, (N, C, high * block, wide * block).
        plane: C, high and wide.
        block: Points along a side.
    """
    made, high, wide = plane
    steps: list[tuple[str, Sequence[int]]] = [
        ("Transpose", _LAST),
        ("Reshape", [0, high, wide, block, block, made]),
        ("Transpose", [0, 1, 3, 2, 4, 5]),
        ("Reshape", [0, high * block, wide * block, made]),
        ("Transpose", _FIRST),
    ]
    _write(editor, before, tensors, steps)


def rewrite_rows(
    editor: Editor, before: NodeProto, tensors: tuple[str, str], sizes: Sequence[int]
) -> None:
    """Write ``tensors[1]``, whose rows are those of ``tensors[0]`` cut at other places.

    Args:
        editor: Of the graph.
        before: The node to put this in front of.
        tensors: What is read, (N, C, high, wide), and what is written.
        sizes: Of what is written, channels last.
    """
    _write(
        editor,
        before,
        tensors,
        [("Transpose", _LAST), ("Reshape", sizes), ("Transpose", _FIRST)],
    )


def repeat_points(
    editor: Editor,
    before: NodeProto,
    tensors: tuple[str, str],
    plane: Sequence[int],
    times: int,
) -> None:
    """Write ``tensors[1]``, which has each point of ``tensors[0]`` ``times`` by ``times``.

    Args:
        editor: Of the graph.
        before: The node to put this in front of.
        tensors: What is read, (N, C, high, wide), and what is written.
        plane: C, high and wide.
        times: Along a side.
    """
    made, high, wide = plane
    steps: list[tuple[str, Sequence[int]]] = [
        ("Transpose", _LAST),
        ("Reshape", [0, high, 1, wide, 1, made]),
        ("Expand", [1, high, times, wide, times, made]),
        ("Reshape", [0, high * times, wide * times, made]),
        ("Transpose", _FIRST),
    ]
    _write(editor, before, tensors, steps)


def _write(
    editor: Editor,
    before: NodeProto,
    tensors: tuple[str, str],
    steps: Sequence[tuple[str, Sequence[int]]],
) -> None:
    tensor, last = tensors
    for count, (operator, values) in enumerate(steps):
        end = count == len(steps) - 1
        name = f"{last}_moved_{count}"
        written = last if end else editor.free_name(name)
        if operator == "Transpose":
            node = helper.make_node(operator, [tensor], [written], name=name, perm=values)
        else:
            sizes = editor.constant(f"{name}_sizes", np.array(values, np.int64))
            node = helper.make_node(operator, [tensor, sizes], [written], name=name)
        editor.insert(node, before)
        tensor = written
