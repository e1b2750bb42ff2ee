"""Where the scales of an activation go: into what writes it, or into a node before it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper

from edgewright.toolchain.ir.edit import Editor
from edgewright.toolchain.ir.graph import STANDARD_DOMAINS

_Doubles = npt.NDArray[np.float64]
_PRODUCTS = ("MatMul", "Gemm")
# f(x / s) = f(x) / s for every s above 0.
_HOMOGENEOUS = ("Relu", "LeakyRelu", "PRelu")


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The products that read one activation.

    Attributes:
        tensor: The activation; its last dimension is the channels.
        nodes: MatMul or Gemm with a constant weight that none outside the group reads.
    """

    tensor: str
    nodes: tuple[NodeProto, ...]

    def weight(self, editor: Editor) -> npt.NDArray[np.float32]:
        """Return the weights side by side, shape (channels, all outputs)."""
        return np.concatenate([_upright(editor, node) for node in self.nodes], axis=1)

    def scale_up(self, editor: Editor, scale: _Doubles) -> None:
        """Multiply the weights of every channel by its ``scale``."""
        done: dict[tuple[str, bool], str] = {}
        for node in self.nodes:
            key = (node.input[1], _transposed(node))
            if key in done:
                editor.redirect(node, 1, done[key])
                continue
            along = scale if _transposed(node) else scale[:, None]
            editor.give(node, 1, _in_floats(np.multiply, editor.weight(node.input[1]), along))
            done[key] = node.input[1]


def groups(editor: Editor) -> list[Group]:
    """Return every activation that products read, in the order they are met."""
    found: dict[str, list[NodeProto]] = {}
    for node in editor.nodes:
        if _is_product(editor, node):
            found.setdefault(node.input[0], []).append(node)
    return [
        Group(tensor, tuple(nodes))
        for tensor, nodes in found.items()
        if all(reader in nodes for node in nodes for reader in editor.readers(node.input[1]))
    ]


def absorb(editor: Editor, group: Group, scale: _Doubles) -> bool:
    """Divide by ``scale`` what writes the activation; return whether that was possible."""
    tensor = group.tensor
    if tensor in editor.outputs or len(editor.readers(tensor)) != len(group.nodes):
        return False
    norm = editor.writer(tensor, "LayerNormalization")
    if norm is not None:
        return _divide(editor, norm, range(1, len(norm.input)), scale)
    node = editor.writer(tensor, *_HOMOGENEOUS)
    if node is not None:
        tensor = node.input[0]
        if editor.only_reader(tensor) is not node:
            return False
    return _absorb_linear(editor, tensor, scale)


def multiply(editor: Editor, group: Group, scale: _Doubles) -> None:
    """Put a multiplication between the activation and the products that read it."""
    name = f"{group.tensor}:smooth"
    inverse = editor.constant(f"{name}:scale", 1 / scale)
    node = helper.make_node("Mul", [group.tensor, inverse], [name], name=name)
    editor.insert(node, group.nodes[0])
    for reader in group.nodes:
        editor.redirect(reader, 0, name)


def _absorb_linear(editor: Editor, tensor: str, scale: _Doubles) -> bool:
    """Divide by ``scale`` the product, and what is added to it, that ``tensor`` is."""
    gemm = editor.writer(tensor, "Gemm")
    if gemm is not None:
        return _divide(editor, gemm, range(1, len(gemm.input)), scale)
    added = editor.writer(tensor, "Add")
    if added is None:
        product = editor.writer(tensor, "MatMul")
        return product is not None and _divide(editor, product, [1], scale)
    for index in (0, 1):
        product = editor.writer(added.input[1 - index], "MatMul")
        if product is None or editor.only_reader(product.output[0]) is not added:
            continue
        if _fits(editor, added, index, scale) and _divide(editor, product, [1], scale):
            return _divide(editor, added, [index], scale)
    return False


def _divide(editor: Editor, node: NodeProto, indices: Sequence[int], scale: _Doubles) -> bool:
    """Divide the last channels of constant inputs of ``node``; return whether all were."""
    if not all(_fits(editor, node, index, scale) for index in indices):
        return False
    for index in indices:
        values = editor.weight(node.input[index])
        along = scale[:, None] if index == 1 and _transposed(node) else scale
        editor.give(node, index, _in_floats(np.divide, values, along))
    return True


def _in_floats(
    operation: np.ufunc, weight: npt.NDArray[np.float32], along: _Doubles
) -> npt.NDArray[np.float32]:
    """Compute with doubles and keep floats, without all doubles at once."""
    found = np.empty_like(weight)
    operation(weight, along, out=found, casting="same_kind")
    return found


def _fits(editor: Editor, node: NodeProto, index: int, scale: _Doubles) -> bool:
    """Return whether an input is a weight with one channel for each scale."""
    name = node.input[index]
    if not editor.is_weight(name):
        return False
    shape = editor.weight(name).shape
    if node.op_type in _PRODUCTS and index == 1:
        mine = len(shape) == 2 and editor.only_reader(name) is node
        return mine and shape[0 if _transposed(node) else 1] == len(scale)
    return shape == (len(scale),)


def _is_product(editor: Editor, node: NodeProto) -> bool:
    if node.op_type not in _PRODUCTS or node.domain not in STANDARD_DOMAINS:
        return False
    if not editor.is_weight(node.input[1]) or editor.is_weight(node.input[0]):
        return False
    turned = any(a.name == "transA" and a.i for a in node.attribute)
    return not turned and editor.weight(node.input[1]).ndim == 2


def _transposed(node: NodeProto) -> bool:
    return any(a.name == "transB" and a.i for a in node.attribute)


def _upright(editor: Editor, node: NodeProto) -> npt.NDArray[np.float32]:
    weight = editor.weight(node.input[1])
    return weight.T if _transposed(node) else weight
