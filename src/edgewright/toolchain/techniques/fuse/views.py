"""Two views in a row, of which only the last shape matters, become one."""

import numpy as np
from onnx import helper

from edgewright.toolchain.ir.edit import Editor
from edgewright.toolchain.ir.graph import Graph, has_subgraphs
from edgewright.toolchain.ir.shapes import Shape, shapes_of

# Each answers the same numbers in the same order.
_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
_COPIED, _FOLLOWS = 0, -1


def merge_views(graph: Graph) -> Graph:
    """Return ``graph`` with every view of a view a view of what that one reads."""
    if has_subgraphs(graph.proto):
        return graph
    editor, shapes = Editor(graph), shapes_of(graph)
    changed = False
    for node in list(editor.nodes):
        last = editor.writer(node.output[0], *_VIEWS)
        first = editor.writer(node.input[0], *_VIEWS) if last is not None else None
        if last is None or first is None or editor.only_reader(last.input[0]) is None:
            continue
        asked = _asked(shapes.get(first.input[0]), shapes.get(last.output[0]))
        if asked is None:
            continue
        name = editor.constant(f"{last.output[0]}_shape", np.array(asked, np.int64))
        source = first.input[0]
        merged = helper.make_node("Reshape", [source, name], [last.output[0]], name=last.name)
        editor.replace(last, merged)
        editor.remove(first)
        changed = True
    return editor.graph() if changed else graph


def _asked(before: Shape | None, after: Shape | None) -> list[int] | None:
    """Return what asks Reshape for ``after`` of ``before``; None where it cannot be told."""
    if before is None or after is None or 0 in after:
        return None
    asked = []
    for axis, size in enumerate(after):
        kept = axis < len(before) and isinstance(size, str) and before[axis] == size
        asked.append(size if isinstance(size, int) else _COPIED if kept else _FOLLOWS)
    return asked if asked.count(_FOLLOWS) <= 1 else None
