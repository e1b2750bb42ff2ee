"""Inputs that are bytes already are the codes of what a model makes of them.

A picture of bytes that is cast to floats, shifted and scaled is ``scale * (byte - zero)``:
what quantizing would round it to, had it asked for just that range. So that range is asked
for, and the nodes that make floats of bytes and bytes of floats go.

A shift by no whole number of steps, like 127.5, is rounded to one; what that moves every
point by is taken out of the biases behind it. What a convolution pads with moves by the
rest, at most half a step, which is what rounding may do to any value.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from edgewright.toolchain.ir.edit import Editor
from edgewright.toolchain.ir.graph import Graph, array_of, has_subgraphs, options_of
from edgewright.toolchain.ir.tidy import drop_unread
from edgewright.toolchain.techniques.quantize.choose import Range

_MOST = 255
_EXACT = 1e-5  # of a step
_MOVES = frozenset({"Reshape", "Transpose"})


@dataclass(frozen=True, slots=True)
class Given:
    """A float graph, and which of its tensors are an input in codes.

    Attributes:
        graph: Answers like the one it was made from, up to rounding.
        inputs: What has the codes of a tensor, by the tensor's name: an input, maybe moved.
        ranges: What 8 bits have to reach for those tensors.
    """

    graph: Graph
    inputs: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Line:
    """A tensor that is ``factor * byte + offset``, where bytes are those of ``codes``."""

    tensor: str
    codes: str
    factor: float
    offset: float

    @property
    def zero(self) -> int:
        """The byte next to where it is 0."""
        return round(-self.offset / self.factor)

    @property
    def apart(self) -> float:
        """What is missing to a whole zero, as a value of the tensor."""
        apart = self.offset + self.factor * self.zero
        return apart if abs(apart) > _EXACT * self.factor else 0.0

    @property
    def range(self) -> Range:
        """What its codes reach when they are the bytes."""
        return Range(-self.factor * self.zero, self.factor * (_MOST - self.zero))


def codes_given(graph: Graph, skip: frozenset[str]) -> Given:
    """Return ``graph`` with whole zeros for its inputs of bytes; not past ``skip``."""
    if has_subgraphs(graph.proto):
        return Given(graph)
    editor, inputs, ranges = Editor(graph), {}, {}
    changed = False
    for spec in graph.inputs:
        for line, node in _lines(editor, spec.name) if spec.dtype == "uint8" else ():
            if not 0 <= line.zero <= _MOST:
                continue
            if line.apart and not _shift(editor, line, node, skip):
                continue
            changed |= bool(line.apart)
            inputs[line.tensor], ranges[line.tensor] = line.codes, line.range
    return Given(editor.graph() if changed else graph, inputs, ranges)


def read_as_given(proto: ModelProto, given: Given) -> None:
    """Let what is computed with an input's codes read the input itself.

    Args:
        proto: What ``given.graph`` became; changed in place.
        given: As ``codes_given`` returned it.
    """
    held = {tensor.name: tensor for tensor in proto.graph.initializer}
    same = {}
    for node in proto.graph.node:
        source = given.inputs.get(node.input[0]) if node.input else None
        if node.op_type != "QuantizeLinear" or source is None:
            continue
        wanted = given.ranges[node.input[0]]
        zero = held[node.input[2]]
        step = float(array_of(held[node.input[1]]).reshape(-1)[0])
        code = int(np.asarray(array_of(zero)).reshape(-1)[0])
        whole = wanted.high - wanted.low
        exact = abs(step * _MOST - whole) <= _EXACT * whole
        if zero.data_type == TensorProto.UINT8 and exact and code == round(-wanted.low / step):
            same[node.output[0]] = source
    for node in proto.graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    if same:
        drop_unread(proto)


def _lines(editor: Editor, source: str) -> Iterator[tuple[_Line, NodeProto]]:
    """Yield what is computed of the input ``source`` alone by constants, in order."""
    for cast in editor.readers(source):
        if cast.op_type in _MOVES and source == cast.input[0]:
            yield from _lines(editor, cast.output[0])
        options = options_of(cast)
        if cast.op_type != "Cast" or options.get("to") != TensorProto.FLOAT:
            continue
        line: _Line | None = _Line(cast.output[0], source, 1.0, 0.0)
        node: NodeProto | None = cast
        while line is not None and node is not None:
            yield line, node
            node = editor.only_reader(line.tensor)
            line = None if node is None else _after(editor, node, line)


def _after(editor: Editor, node: NodeProto, line: _Line) -> _Line | None:
    """Return what ``node`` makes of ``line``, if that is a line again, and rising."""
    if not editor.writer(node.output[0], "Add", "Sub", "Mul", "Div"):
        return None
    place = 1 - list(node.input).index(line.tensor)
    constant = node.input[place]
    if not editor.is_weight(constant):
        return None
    values = editor.weight(constant)
    if not values.size or np.ptp(values) or (place == 0 and node.op_type in {"Sub", "Div"}):
        return None
    value = float(values.reshape(-1)[0])
    answer = node.output[0]
    if node.op_type in {"Add", "Sub"}:
        moved = value if node.op_type == "Add" else -value
        return replace(line, tensor=answer, offset=line.offset + moved)
    if value <= 0:
        return None
    factor = value if node.op_type == "Mul" else 1 / value
    return replace(
        line, tensor=answer, factor=line.factor * factor, offset=line.offset * factor
    )


def _shift(editor: Editor, line: _Line, node: NodeProto, skip: frozenset[str]) -> bool:
    """Give ``node`` a whole zero and the layers behind it the rest; return whether."""
    layers = editor.readers(line.tensor)
    fit = line.tensor not in editor.outputs and all(_takes(editor, n, line) for n in layers)
    if node.op_type != "Add" or not layers or not fit or skip & {n.name for n in layers}:
        return False
    for layer in layers:
        weight = editor.weight(layer.input[1])
        moved = weight.sum(axis=tuple(range(1, weight.ndim)), dtype=np.float64) * line.apart
        before = editor.weight(layer.input[2]) if len(layer.input) > 2 else 0.0
        editor.give(layer, 2, before + moved)
    place = next(i for i, name in enumerate(node.input) if editor.is_weight(name))
    editor.give(node, place, editor.weight(node.input[place]) - np.float32(line.apart))
    return True


def _takes(editor: Editor, node: NodeProto, line: _Line) -> bool:
    """Return whether ``node`` is a convolution of ``line`` with a bias to give."""
    if editor.writer(node.output[0], "Conv") is None or node.input[0] != line.tensor:
        return False
    bias = node.input[2] if len(node.input) > 2 else ""
    return editor.is_weight(node.input[1]) and (not bias or editor.is_weight(bias))
