"""Pairs of layers with nothing between them that minds a scale, and their ranges."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from edgewright.toolchain.ir.edit import Editor
from edgewright.toolchain.ir.graph import STANDARD_DOMAINS

_Doubles = npt.NDArray[np.float64]

_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
# f(x / s) = f(x) / s, each channel by itself.
_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "PRelu", "Identity", "Dropout"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})


@dataclass(slots=True, eq=False)
class Layer:
    """A convolution or a product with weights of its own, which are changed here.

    Attributes:
        node: What computes it.
        weight: float64, as stored.
        groups: Of a convolution.
        biases: What is added to its output, by node and input: shapes broadcast.
    """

    node: NodeProto
    weight: _Doubles
    groups: int = 1
    biases: list[tuple[NodeProto, int, _Doubles]] = field(default_factory=list)

    @property
    def is_conv(self) -> bool:
        """Whether its channels are the second dimension, not the last."""
        return self.node.op_type == "Conv"

    @property
    def depthwise(self) -> bool:
        """Whether each channel is a group of its own."""
        return self.groups > 1 and self.groups == len(self.weight)

    def by_output(self) -> _Doubles:
        """Return the weights, shape (outputs, all others): a view where that is possible."""
        upright = self.weight if self.is_conv or _transposed(self.node) else self.weight.T
        return upright.reshape(len(upright), -1)

    def by_input(self) -> _Doubles:
        """Return the weights as a view, shape (groups, outputs, inputs, places)."""
        if not self.is_conv:
            upright = self.weight if _transposed(self.node) else self.weight.T
            return upright[None, :, :, None]
        outputs, inputs = self.weight.shape[:2]
        return self.weight.reshape(self.groups, outputs // self.groups, inputs, -1)

    def output_ranges(self) -> _Doubles:
        """Return the largest magnitude of each output."""
        found: _Doubles = np.abs(self.by_output()).max(axis=1, initial=0.0)
        return found

    def input_ranges(self) -> _Doubles:
        """Return the largest magnitude of each input."""
        found: _Doubles = np.abs(self.by_input()).max(axis=(1, 3), initial=0.0)
        return found.ravel()

    def divide_outputs(self, scale: _Doubles) -> None:
        """Divide each output and its biases by its ``scale``."""
        if self.is_conv or _transposed(self.node):
            self.weight /= scale.reshape(-1, *[1] * (self.weight.ndim - 1))
        else:
            self.weight /= scale
        for _, _, bias in self.biases:
            np.divide(bias, scale.reshape(bias.shape), out=bias)

    def multiply_inputs(self, scale: _Doubles) -> None:
        """Multiply what reads each input by its ``scale``."""
        view = self.by_input()
        view *= scale.reshape(view.shape[0], 1, -1, 1)

    def store(self, editor: Editor) -> None:
        """Give the nodes what was changed."""
        editor.give(self.node, 1, self.weight)
        for node, index, bias in self.biases:
            editor.give(node, index, bias)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two layers, and how many inputs of the second one output of the first makes."""

    first: Layer
    second: Layer
    places: int = 1

    @property
    def names(self) -> frozenset[str]:
        """The nodes of both."""
        return frozenset({self.first.node.name, self.second.node.name})

    @property
    def said(self) -> str:
        """Both by name."""
        return f"{self.first.node.name!r} and {self.second.node.name!r}"

    @property
    def depthwise(self) -> bool:
        """Whether one of them is."""
        return self.first.depthwise or self.second.depthwise

    @property
    def channels(self) -> int:
        """How many they share."""
        return len(self.first.output_ranges())

    def equalise(self) -> _Doubles:
        """Make the ranges of both sides equal; return the scale of each channel."""
        mine = self.first.output_ranges()
        theirs = self.second.input_ranges().reshape(-1, self.places).max(axis=1)
        live = (mine > 0) & (theirs > 0)
        scale = np.ones(len(mine))
        scale[live] = np.sqrt(mine[live] / theirs[live])
        self.first.divide_outputs(scale)
        self.second.multiply_inputs(np.repeat(scale, self.places))
        return scale

    def unequal(self) -> float:
        """Return the largest over the median range of an output of the first."""
        ranges = self.first.output_ranges()
        middle = float(np.median(ranges[ranges > 0])) if ranges.any() else 1.0
        return float(ranges.max(initial=0.0)) / middle


def pairs(editor: Editor) -> tuple[list[Pair], list[str]]:
    """Return the pairs in the order of their first layers, and others with the reason."""
    layers = {id(node): layer for node in editor.nodes if (layer := _layer(editor, node))}
    found, left = [], []
    for node in editor.nodes:
        if id(node) not in layers:
            continue
        pair, why = _follow(editor, layers[id(node)], layers)
        if pair is not None:
            found.append(pair)
        elif why:
            left.append(f"{node.name!r}, {why}")
    return found, left


def _follow(editor: Editor, first: Layer, layers: dict[int, Layer]) -> tuple[Pair | None, str]:
    """Return the pair that ``first`` begins, or why there is none."""
    outputs = len(first.output_ranges())
    tensor, flat = first.node.output[0], False
    while True:
        node = editor.only_reader(tensor)
        if node is None:
            shared = tensor not in editor.outputs
            return None, "its output is read more than once" if shared else ""
        if id(node) in layers:
            return _joined(first, layers[id(node)], flat=flat), ""
        if node.domain not in STANDARD_DOMAINS:
            return None, f"{node.op_type} follows"
        if node.op_type == "Flatten" and first.is_conv and _axis(node) == 1:
            flat = True
        elif node.op_type == "Add":
            index = int(node.input[0] == tensor)
            bias = _bias(editor, node, index, outputs, first)
            if bias is None or flat:
                return None, "Add follows"
            first.biases.append((node, index, bias))
        elif node.op_type not in (_HOMOGENEOUS | _POOLS if first.is_conv else _HOMOGENEOUS):
            return None, f"{node.op_type} follows"
        tensor = node.output[0]


def _joined(first: Layer, second: Layer, *, flat: bool) -> Pair | None:
    """Return the pair, if the inputs of the one are the outputs of the other."""
    outputs, inputs = len(first.output_ranges()), len(second.input_ranges())
    if second.is_conv is not (first.is_conv and not flat) or inputs % outputs:
        return None
    if inputs != outputs and not flat:
        return None
    return Pair(first, second, inputs // outputs)


def _layer(editor: Editor, node: NodeProto) -> Layer | None:
    """Return ``node`` as a layer, if it is one whose weights nobody else reads."""
    if node.op_type not in _LAYERS or node.domain not in STANDARD_DOMAINS:
        return None
    constants = list(node.input[1:])
    if not all(editor.is_weight(name) for name in constants if name):
        return None
    if editor.only_reader(node.input[1]) is not node:
        return None
    weight = editor.weight(node.input[1]).astype(np.float64)
    turned = any(a.name == "transA" and a.i for a in node.attribute)
    if turned or (node.op_type != "Conv" and weight.ndim != 2):
        return None
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    layer = Layer(node, weight, groups)
    if len(constants) > 1 and constants[1]:
        bias = editor.weight(constants[1]).astype(np.float64)
        if bias.size != len(layer.output_ranges()):
            return None
        layer.biases.append((node, 2, bias))
    return layer


def _bias(
    editor: Editor, node: NodeProto, index: int, outputs: int, first: Layer
) -> _Doubles | None:
    """Return what ``node`` adds to each channel, None where that is something else."""
    name = node.input[index]
    if not editor.is_weight(name):
        return None
    bias = editor.weight(name).astype(np.float64)
    after = first.weight.ndim - 2 if first.is_conv else 0
    shape = bias.shape[bias.ndim - after - 1 :] if bias.ndim > after else ()
    fits = shape == (outputs, *[1] * after) and bias.size == outputs
    return bias if fits else None


def _axis(node: NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "axis"), 1)


def _transposed(node: NodeProto) -> bool:
    return any(a.name == "transB" and a.i for a in node.attribute)
