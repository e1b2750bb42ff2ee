"""The first convolution reads four points of a row as one.

A kernel of codes gathers the window of every point by itself, as many bytes at a time as
there are channels: one or three in a picture. Four points of a row together have four times
the channels, fewer windows, and answer their neighbours at once; where channels are last, as
engines compute, nothing has to be moved for it. The weights are the same with zeros between
them, and so are the answers up to rounding. Where the zeros would be more than a few of all
weights, or the picture is small, the layer stays as it is.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
from onnx import NodeProto, helper

from edgewright.toolchain.ir.edit import Editor, Floats
from edgewright.toolchain.ir.graph import Graph, has_subgraphs, options_of
from edgewright.toolchain.ir.shapes import PLANE, Shapes, picture_of, shapes_of
from edgewright.toolchain.techniques.quantize.moves import rewrite_rows

# Points that become one. Kernels of codes read four channels at a time.
_TOGETHER = 4
_FEW = 3
_LARGEST = 7
# What changes every value by itself, so that points can be put together before it.
_POINTWISE = frozenset({"Add", "Cast", "Div", "Mul", "Sub"})
_ACTIVATIONS = frozenset({"Clip", "Relu"})


@dataclass(frozen=True, slots=True)
class Worth:
    """When it pays.

    Attributes:
        share: Of all weights, the zeros that a layer may add: more bytes than that are not
            worth the time.
        gathers: Points in all windows of a layer together: fewer cost less time than the
            nodes that this adds.
    """

    share: float = 0.05
    gathers: int = 4096


@dataclass(frozen=True, slots=True)
class _Row:
    """A convolution along the rows of a picture.

    Attributes:
        kernel: Points wide.
        stride: Points between two answers.
        pads: Points before the first and behind the last.
    """

    kernel: int
    stride: int
    pads: tuple[int, int]

    @property
    def answers(self) -> int:
        """How many there are for points that became one."""
        return _TOGETHER // self.stride

    @property
    def first(self) -> int:
        """The first group of points that answers of group 0 look at."""
        return -self.pads[0] // _TOGETHER

    @property
    def last(self) -> int:
        """The last one."""
        return (self.stride * (self.answers - 1) - self.pads[0] + self.kernel - 1) // _TOGETHER


_WORTH = Worth()


def in_rows(graph: Graph, skip: frozenset[str], worth: Worth = _WORTH) -> Graph:
    """Return ``graph`` with such first convolutions, where that pays.

    Nodes named in ``skip`` stay as they are.
    """
    if has_subgraphs(graph.proto):
        return graph
    editor, shapes = Editor(graph), shapes_of(graph)
    inputs = {spec.name for spec in graph.inputs}
    weights = sum(prod(tensor.dims) for tensor in graph.proto.graph.initializer)
    changed = False
    for node in list(editor.nodes):
        if node.op_type == "Conv" and node.name not in skip and not node.domain:
            given = _together(editor, node, shapes, inputs)
            if given is not None and given.pays(weights, worth):
                given.carry_out(editor)
                changed = True
    return editor.graph() if changed else graph


def _together(
    editor: Editor, node: NodeProto, shapes: Shapes, inputs: set[str]
) -> "_Together | None":
    """Return how ``node`` reads points together; None where it cannot."""
    picture, answer = picture_of(shapes, node.input[0]), picture_of(shapes, node.output[0])
    row = _row(editor, node)
    if row is None or not picture or not answer:
        return None
    channels, _, wide = picture
    if channels > _FEW or wide % _TOGETHER or answer[2] != wide // row.stride:
        return None
    source, reader = _source(editor, node, shapes)
    if source not in inputs:
        return None
    weight = editor.weight(node.input[1])
    return _Together(node, row, picture, answer, source, reader, weight, _weights(weight, row))


@dataclass(frozen=True, slots=True)
class _Together:
    """What a convolution becomes.

    Attributes:
        node: The convolution.
        row: How it convolves along rows.
        picture: Channels, height and width of what it reads.
        answer: Of what it writes.
        source: What it reads, as it comes into the graph.
        reader: The node that reads that.
        weight: Of each point, as it is.
        together: Of points put together.
    """

    node: NodeProto
    row: _Row
    picture: list[int]
    answer: list[int]
    source: str
    reader: NodeProto
    weight: Floats
    together: Floats

    def pays(self, weights: int, worth: Worth) -> bool:
        """Return whether it is worth it in a graph of so many weights."""
        light = self.together.size - self.weight.size <= worth.share * weights
        gathers = prod(self.answer[1:]) * prod(self.weight.shape[2:])
        return light and gathers >= worth.gathers

    def carry_out(self, editor: Editor) -> None:
        """Put points together before the first reader, and apart behind the activation."""
        node, (channels, high, wide) = self.node, self.picture
        grouped = editor.free_name(f"{self.source}_rows")
        sizes = [0, high, wide // _TOGETHER, _TOGETHER * channels]
        rewrite_rows(editor, self.reader, (self.source, grouped), sizes)
        editor.redirect(self.reader, list(self.reader.input).index(self.source), grouped)
        editor.give(node, 1, self.together)
        if len(node.input) > 2 and node.input[2]:
            editor.give(node, 2, np.tile(editor.weight(node.input[2]), self.row.answers))
        _describe(node, self.row)
        last = _activation(editor, node)
        whole, (made, *plane) = last.output[0], self.answer
        grouped = editor.free_name(f"{whole}_rows")
        instead = NodeProto.FromString(last.SerializeToString())
        instead.output[0] = grouped
        editor.insert(instead, last)
        rewrite_rows(editor, last, (grouped, whole), [0, *plane, made])
        editor.remove(last)


def _source(editor: Editor, node: NodeProto, shapes: Shapes) -> tuple[str, NodeProto]:
    """Return what ``node`` reads by values moved alike, and the first to read it."""
    tensor, reader = node.input[0], node
    while editor.only_reader(tensor) is reader:
        writer = editor.writer(tensor, *_POINTWISE)
        if writer is None:
            break
        read = [name for name in writer.input if editor.values(name) is None]
        constants = [editor.values(name) for name in writer.input if name not in read]
        single = all(values is not None and values.size == 1 for values in constants)
        if len(read) != 1 or not single or shapes.get(read[0]) != shapes.get(tensor):
            break
        tensor, reader = read[0], writer
    return tensor, reader


def _activation(editor: Editor, node: NodeProto) -> NodeProto:
    """Return the last of the activations that belong to ``node``, or itself."""
    last = node
    while (after := editor.only_reader(last.output[0])) is not None:
        fixed = [editor.values(name) is not None for name in after.input[1:] if name]
        if after.op_type not in _ACTIVATIONS or not all(fixed):
            break
        last = after
    return last


def _row(editor: Editor, node: NodeProto) -> _Row | None:
    """Return how ``node`` convolves along rows, if it is a plain convolution."""
    biases = [name for name in node.input[2:] if name]
    if not all(map(editor.is_weight, [node.input[1], *biases])):
        return None
    options = options_of(node)
    plain = options.get("group", 1) == 1 and options.get("auto_pad", b"NOTSET") == b"NOTSET"
    shape = editor.weight(node.input[1]).shape
    if not plain or len(shape) != PLANE or set(options.get("dilations", [1])) != {1}:
        return None
    stride = options.get("strides", [1, 1])[1]
    pads = options.get("pads", [0] * 4)
    if not 1 < shape[3] <= _LARGEST or stride not in {1, 2}:
        return None
    return _Row(shape[3], stride, (pads[1], pads[3]))


def _weights(weight: Floats, row: _Row) -> Floats:
    """Return the weights of points put together, (out, in, rows, columns), for those of each.

    Channels of both are by point, then by channel of the point.
    """
    made, taken, high, _ = weight.shape
    wide = row.last - row.first + 1
    shape = (row.answers, made, _TOGETHER, taken, high, wide)
    together = np.zeros(shape, np.float32)
    for answer in range(row.answers):
        for column in range(row.kernel):
            group, point = divmod(row.stride * answer - row.pads[0] + column, _TOGETHER)
            together[answer, :, point, :, :, group - row.first] = weight[..., column]
    return together.reshape(row.answers * made, _TOGETHER * taken, high, wide)


def _describe(node: NodeProto, row: _Row) -> None:
    """Say in ``node`` how wide it is now."""
    for told in node.attribute:
        if told.name == "kernel_shape":
            told.ints[1] = row.last - row.first + 1
        elif told.name == "strides":
            told.ints[1] = 1
    pads = next((told.ints for told in node.attribute if told.name == "pads"), [0] * 4)
    now = helper.make_attribute("pads", [pads[0], -row.first, pads[2], row.last])
    rest = [told for told in node.attribute if told.name != "pads"]
    del node.attribute[:]
    node.attribute.extend([*rest, now])
