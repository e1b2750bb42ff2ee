"""Activations that are written out become the operator they are.

With ``h(x) = clip(x + 3, 0, 6) / 6``, HardSigmoid of slope 1/6 and offset 1/2, HardSwish is
``x * h(x)``. Exporters write both out in several orders of the same factors. They also
choose x itself where it is large instead of its Softplus, which is x there to the last bit
of a float.
"""

import math
from dataclasses import dataclass

from onnx import NodeProto, helper

from edgewright.toolchain.ir.edit import Editor
from edgewright.toolchain.ir.graph import Graph, has_subgraphs

HARD_SWISH = "HardSwish"
_SINCE = 14
_GELU_SINCE = 20
_HALF = 0.5
# Softplus(x) - x is below a float's last bit from here on.
_LARGE = 17.0
_SLOPE, _OFFSET = 1 / 6, 0.5


@dataclass(frozen=True, slots=True)
class _Found:
    """Nodes that compute ``scale * h(x)``, or x times that.

    Attributes:
        source: The tensor x.
        scale: The factor; 1 is what an operator computes.
        nodes: The last first.
    """

    source: str
    scale: float
    nodes: tuple[NodeProto, ...]


def name_activations(graph: Graph) -> Graph:
    """Return ``graph`` with hard sigmoids and hard swishes as one node each."""
    if has_subgraphs(graph.proto) or graph.opset < _SINCE:
        return graph
    editor = Editor(graph)
    changed = False
    for kind, find in ((HARD_SWISH, _swish), ("HardSigmoid", _sigmoid)):
        for node in list(editor.nodes):
            # What became part of another activation is not there any more.
            found = find(editor, node) if editor.writer(node.output[0]) else None
            if found is None or len(found.nodes) < 2 or not _is(found.scale, 1.0):
                continue
            last, *rest = found.nodes
            made = helper.make_node(kind, [found.source], last.output, name=last.name)
            if kind != HARD_SWISH:
                given = {"alpha": _SLOPE, "beta": _OFFSET}
                made.attribute.extend(helper.make_attribute(k, v) for k, v in given.items())
            editor.replace(last, made)
            for inner in rest:
                editor.remove(inner)
            changed = True
    for node in list(editor.nodes):
        changed |= _softplus(editor, node)
    return editor.graph() if changed else graph


def name_gelus(graph: Graph) -> Graph:
    """Return ``graph`` with GELUs as one node, or as engines make one node of them.

    Written out, it is ``x * (0.5 * (1 + erf(x / sqrt(2))))`` with its factors in any order.
    Before operator set 20 there is no operator for it; engines know it by the order
    ``(x * (1 + erf)) * 0.5``, and take one pass over the values then instead of five.
    """
    if has_subgraphs(graph.proto):
        return graph
    editor = Editor(graph)
    changed = False
    for node in list(editor.nodes):
        # What became part of another activation is not there any more.
        erf = editor.writer(node.output[0], "Erf")
        if erf is not None:
            changed |= _gelu(editor, erf, named=graph.opset >= _GELU_SINCE)
    return editor.graph() if changed else graph


def _gelu(editor: Editor, erf: NodeProto, *, named: bool) -> bool:
    inner = editor.writer(erf.input[0], "Div", "Mul")
    if inner is None or editor.only_reader(inner.output[0]) is not erf:
        return False
    source = next((n for n in inner.input if _scalar(editor, n) is None), "")
    root = _factor(editor, inner, source) if source else None
    more = editor.only_reader(erf.output[0])
    if root is None or not _is(root, math.sqrt(0.5)) or more is None or more.op_type != "Add":
        return False
    one = next((n for n in more.input if n != erf.output[0]), "")
    products = _products(editor, more, source) if _scalar(editor, one) == 1.0 else None
    if products is None:
        return False
    first, last, half = products
    if named:
        made = helper.make_node("Gelu", [source], last.output, name=erf.name)
        editor.replace(last, made)
        for node in (first, more, erf, inner):
            editor.remove(node)
        return True
    if half in last.input:
        return False
    end = first.output[0]
    again = helper.make_node("Mul", [source, more.output[0]], [end], name=first.name)
    editor.replace(first, again)
    editor.replace(last, helper.make_node("Mul", [end, half], last.output, name=last.name))
    return True


def _products(
    editor: Editor, more: NodeProto, source: str
) -> tuple[NodeProto, NodeProto, str] | None:
    """Return the products of ``1 + erf``, x and a half, and the name of the half."""
    nodes, factors, tensor = [], [], more.output[0]
    for _ in range(2):
        node = editor.only_reader(tensor)
        if node is None or not editor.writer(node.output[0], "Mul"):
            return None
        factors.append(next((name for name in node.input if name != tensor), ""))
        nodes.append(node)
        tensor = node.output[0]
    half = next((name for name in factors if _scalar(editor, name) == _HALF), "")
    return (nodes[0], nodes[1], half) if half and source in factors else None


def _softplus(editor: Editor, node: NodeProto) -> bool:
    """Make one node of ``Where(x > large, x, Softplus(x))``; return whether it was one."""
    if editor.writer(node.output[0], "Where") is None:
        return False
    asked, source, other = node.input
    question, soft = editor.writer(asked, "Greater"), editor.writer(other, "Softplus")
    if question is None or soft is None or list(soft.input) != [source]:
        return False
    if editor.only_reader(asked) is None or editor.only_reader(other) is None:
        return False
    bound = _scalar(editor, question.input[1])
    if question.input[0] != source or bound is None or bound < _LARGE:
        return False
    made = helper.make_node("Softplus", [source], node.output, name=soft.name)
    editor.replace(node, made)
    editor.remove(question)
    editor.remove(soft)
    return True


def _swish(editor: Editor, node: NodeProto) -> _Found | None:
    """Return the product of x and its gate that begins at ``node``, with factors after it."""
    if editor.writer(node.output[0], "Mul") is None:
        return None
    found = None
    for source, gate in (tuple(node.input), tuple(reversed(node.input))):
        inner = _gate(editor, gate)
        if inner is not None and inner.source == source:
            found = _Found(source, inner.scale, (node, *inner.nodes))
    while found is not None and not _is(found.scale, 1.0):
        after = editor.only_reader(found.nodes[0].output[0])
        factor = _factor(editor, after, found.nodes[0].output[0]) if after else None
        if after is None or factor is None:
            return None
        found = _Found(found.source, found.scale * factor, (after, *found.nodes))
    return found


def _gate(editor: Editor, tensor: str) -> _Found | None:
    """Return the hard sigmoid that ``tensor`` is, if one node alone reads it."""
    node = editor.writer(tensor)
    return None if node is None or not editor.only_reader(tensor) else _sigmoid(editor, node)


def _sigmoid(editor: Editor, node: NodeProto) -> _Found | None:
    """Return the hard sigmoid that ends at ``node``, however it is written."""
    end = node.output[0]
    if editor.writer(end, "HardSigmoid"):
        options = {a.name: a.f for a in node.attribute}
        usual = _is(options.get("alpha", 0.2), _SLOPE) and _is(
            options.get("beta", 0.5), _OFFSET
        )
        return _Found(node.input[0], 1.0, (node,)) if usual else None
    if editor.writer(end, "Clip"):
        bounds = [_scalar(editor, name) for name in node.input[1:]]
        inner = editor.writer(node.input[0], "Add")
        if bounds != [0.0, 6.0] or inner is None or not editor.only_reader(node.input[0]):
            return None
        for source, constant in (tuple(inner.input), tuple(reversed(inner.input))):
            if _scalar(editor, constant) == 3.0:
                return _Found(source, 6.0, (node, inner))
        return None
    for name in node.input:
        factor = _factor(editor, node, name)
        found = _gate(editor, name) if factor is not None else None
        if found is not None and factor is not None:
            return _Found(found.source, found.scale * factor, (node, *found.nodes))
    return None


def _factor(editor: Editor, node: NodeProto, tensor: str) -> float | None:
    """Return what ``node`` multiplies ``tensor`` by, if that is all it does."""
    if editor.writer(node.output[0], "Mul", "Div") is None or tensor not in node.input:
        return None
    left, right = node.input
    value = _scalar(editor, right if tensor == left else left)
    if value is None or (node.op_type == "Div" and tensor != left):
        return None
    if node.op_type == "Div":
        return 1 / value if value else None
    return value


def _scalar(editor: Editor, tensor: str) -> float | None:
    """Return a constant of no axis, which makes nothing larger."""
    if not editor.is_weight(tensor) or editor.weight(tensor).ndim:
        return None
    return float(editor.weight(tensor))


def _is(value: float, wanted: float) -> bool:
    return math.isclose(value, wanted, rel_tol=1e-6)
