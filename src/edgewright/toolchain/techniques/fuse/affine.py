"""What multiplies and adds constants by channel goes into the layer before or after it.

A batch norm, a bias, a factor, the ``(x - mean) / std`` of a preprocessing: each computes
``a * x + b`` with an ``a`` and a ``b`` for each channel. With a layer before it that is

    a * (W x + c) + b = (a W) x + (a c + b)

and with a layer after it

    W (a x + b) + c = (W a) x + (c + W b)

which holds for a convolution only where no zeros are padded, since those are padded after
the ``b``; where ``b`` is zero it holds always. All is computed in float64. What would be
equal on paper only, or ruin a later rounding to 8 bits, is left as it is.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper

from edgewright.toolchain.ir.edit import Editor
from edgewright.toolchain.ir.graph import STANDARD_DOMAINS, Graph, has_subgraphs, options_of

_Doubles = npt.NDArray[np.float64]

BATCH_NORM = frozenset({"BatchNormalization"})
ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div"})
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm"})
# An offset of more standard deviations than this is subtracted before anything is
# multiplied, as what is left of a difference of large numbers is mostly rounding.
_FAR = 64.0
# Factors that differ by more than this stay: 8 bits hold what is near one scale, and with
# the factor in the weights neither they nor the activations are.
_UNEVEN = 8.0


def into_layer_before(graph: Graph, kinds: frozenset[str]) -> Graph:
    """Return ``graph`` with nodes of ``kinds`` in the layer whose answer they change."""
    if has_subgraphs(graph.proto):
        return graph
    editor = Editor(graph)
    changed = False
    for node in list(editor.nodes):
        layer = _Layer.of(editor, node)
        while layer is not None:
            step = _after(editor, layer, kinds)
            if step is None or (kinds != BATCH_NORM and _uneven(step.factor)):
                break
            layer.then(step)
            layer.store(editor)
            editor.absorb(layer.node, step.node)
            changed = True
    return editor.graph() if changed else graph


def into_layer_after(graph: Graph, kinds: frozenset[str]) -> Graph:
    """Return ``graph`` with nodes of ``kinds`` in the layer that alone reads them."""
    if has_subgraphs(graph.proto):
        return graph
    editor = Editor(graph)
    changed = False
    for node in list(editor.nodes):
        layer = _Layer.of(editor, node)
        chain = _before(editor, layer, kinds) if layer is not None else []
        if layer is not None and chain:
            changed |= _take(editor, layer, chain)
    return editor.graph() if changed else graph


@dataclass(frozen=True, slots=True)
class _Affine:
    """A node that computes ``factor * x + offset``.

    Attributes:
        node: What computes it.
        source: The tensor x.
        factor: For each channel, or of one value.
        offset: Likewise.
    """

    node: NodeProto
    source: str
    factor: _Doubles
    offset: _Doubles


@dataclass(slots=True)
class _Layer:
    """A convolution or a product of two matrices, with weights of its own.

    Attributes:
        node: What computes it.
        weight: As stored.
        bias: For each output channel; None where there is none.
        groups: Of a convolution.
    """

    node: NodeProto
    weight: _Doubles
    bias: _Doubles | None
    groups: int

    @classmethod
    def of(cls, editor: Editor, node: NodeProto) -> "_Layer | None":
        """Return ``node`` if it is a layer all of whose weights are its own."""
        if node.op_type not in _LAYERS or node.domain not in STANDARD_DOMAINS:
            return None
        name = node.input[1]
        if not editor.is_weight(name) or len(editor.readers(name)) != 1:
            return None
        options = options_of(node)
        if options.get("transA", 0):
            return None
        layer = cls(
            node, editor.weight(name).astype(np.float64), None, options.get("group", 1)
        )
        if len(node.input) > 2 and node.input[2]:
            if not editor.is_weight(node.input[2]):
                return None
            held = editor.weight(node.input[2]).astype(np.float64) * options.get("beta", 1.0)
            gemm = node.op_type == "Gemm"
            bias = _by_channel(held, layer.rank, layer.outputs) if gemm else held
            if bias is None:
                return None
            layer.bias = np.broadcast_to(bias, layer.outputs).copy()
        return layer

    @property
    def rank(self) -> int:
        """How many axes its input has; the second is the channels of it."""
        return self.weight.ndim

    @property
    def outputs(self) -> int:
        """How many channels it answers."""
        if self.node.op_type == "ConvTranspose":
            return int(self.weight.shape[1]) * self.groups
        return len(self._upright())

    @property
    def inputs(self) -> int:
        """How many channels it reads."""
        if self.node.op_type == "ConvTranspose":
            return len(self.weight)
        return int(self._upright().shape[1]) * self.groups

    @property
    def pads(self) -> bool:
        """Whether some answers are computed from fewer inputs than others."""
        if self.node.op_type == "Gemm":
            return False
        options = options_of(self.node)
        automatic = options.get("auto_pad", b"NOTSET")
        plain = automatic == b"VALID" or (
            automatic == b"NOTSET" and not any(options.get("pads", ()))
        )
        return self.node.op_type == "ConvTranspose" or not plain

    def then(self, step: _Affine) -> None:
        """Let the answer be ``step`` of what it was."""
        factor = np.broadcast_to(step.factor, self.outputs)
        if self.node.op_type == "ConvTranspose":
            view = self.weight.reshape(self.groups, -1, *self.weight.shape[1:])
            scaled = view * factor.reshape(self.groups, 1, -1, *[1] * (self.rank - 2))
            self.weight = scaled.reshape(self.weight.shape)
        else:
            self._store_upright(self._upright() * factor.reshape(-1, *[1] * (self.rank - 1)))
        before = 0.0 if self.bias is None else self.bias * factor
        if self.bias is not None or step.offset.any():
            self.bias = np.broadcast_to(before + step.offset, self.outputs).copy()

    def after(self, factor: _Doubles, offset: _Doubles) -> None:
        """Let what it reads be ``factor`` and ``offset`` of what it will be given."""
        factor = np.broadcast_to(factor, self.inputs)
        if self.node.op_type == "ConvTranspose":
            self.weight = self.weight * factor.reshape(-1, *[1] * (self.rank - 1))
            return
        upright = self._upright()
        shape = upright.shape
        view = upright.reshape(self.groups, shape[0] // self.groups, shape[1], -1)
        if offset.any():
            each = np.broadcast_to(offset, self.inputs).reshape(self.groups, 1, -1, 1)
            added = (view * each).sum(axis=(2, 3)).ravel() * options_of(self.node).get(
                "alpha", 1
            )
            self.bias = added if self.bias is None else self.bias + added
        view = view * factor.reshape(self.groups, 1, -1, 1)
        self._store_upright(view.reshape(shape))

    def store(self, editor: Editor) -> None:
        """Give the node what was changed."""
        editor.give(self.node, 1, self.weight)
        if self.bias is not None:
            editor.give(self.node, 2, self.bias)
            kept = [a for a in self.node.attribute if a.name != "beta"]
            del self.node.attribute[:]
            self.node.attribute.extend(kept)

    def _upright(self) -> _Doubles:
        """Return the weight of all but a transposed convolution, outputs first."""
        return self.weight.T if self._lies else self.weight

    def _store_upright(self, weight: _Doubles) -> None:
        self.weight = weight.T if self._lies else weight

    @property
    def _lies(self) -> bool:
        return self.node.op_type == "Gemm" and not options_of(self.node).get("transB", 0)


def _after(editor: Editor, layer: _Layer, kinds: frozenset[str]) -> _Affine | None:
    """Return the step of ``kinds`` that alone reads what ``layer`` answers."""
    end = layer.node.output[0]
    node = editor.only_reader(end)
    if node is None:
        return None
    step = _step(editor, node, layer.rank, layer.outputs, kinds)
    return step if step is not None and step.source == end else None


def _before(editor: Editor, layer: _Layer, kinds: frozenset[str]) -> list[_Affine]:
    """Return the steps of ``kinds`` that lead only to ``layer``, the last first."""
    found: list[_Affine] = []
    tensor = layer.node.input[0]
    while (node := editor.writer(tensor)) and editor.only_reader(tensor):
        step = _step(editor, node, layer.rank, layer.inputs, kinds)
        if step is None:
            break
        found.append(step)
        tensor = step.source
    return found


def _take(editor: Editor, layer: _Layer, chain: list[_Affine]) -> bool:
    """Let ``layer`` do what ``chain`` does, as far as that is the same; return whether any is.

    A layer that pads does the factor alone: ``a * x + b`` is ``a * (x + b / a)``, of which
    padding minds the sum.
    """
    factor, offset = np.ones(1), np.zeros(1)
    for step in chain:
        factor, offset = step.factor * factor, step.offset * factor + offset
    source, moved = chain[-1].source, np.zeros(1)
    if _uneven(factor):
        return False
    if offset.any() and layer.pads:
        if len(chain) == 1:
            return False
        moved, offset = offset / factor, np.zeros(1)
    if np.abs(offset).max() > _FAR:
        return False
    layer.after(factor, offset)
    layer.store(editor)
    if moved.any():
        shape = (-1, *[1] * (layer.rank - 2)) if moved.size > 1 else ()
        name = editor.constant(f"{source}_offset", moved.reshape(shape))
        node = helper.make_node("Add", [source, name], [editor.free_name(f"{name}_added")])
        editor.insert(node, layer.node)
        source = node.output[0]
    editor.redirect(layer.node, 0, source)
    for step in chain:
        editor.remove(step.node)
    return True


def _uneven(factor: _Doubles) -> bool:
    sizes = np.abs(factor)
    return bool(sizes.max() > _UNEVEN * sizes.min())


def _step(
    editor: Editor, node: NodeProto, rank: int, channels: int, kinds: frozenset[str]
) -> _Affine | None:
    """Return ``node`` of ``kinds`` as what it does to a tensor of these axes."""
    if node.op_type not in kinds or node.domain not in STANDARD_DOMAINS:
        return None
    found = _batch_norm(editor, node) if node.op_type in BATCH_NORM else _sum(editor, node)
    if found is None:
        return None
    source, a, b = found
    if node.op_type in BATCH_NORM:
        # Its channels are the second axis, whatever comes after.
        a, b = (each.reshape(-1, *[1] * (rank - 2)) for each in (a, b))
    factor, offset = _by_channel(a, rank, channels), _by_channel(b, rank, channels)
    if factor is None or offset is None:
        return None
    if not (np.isfinite(factor).all() and np.isfinite(offset).all()):
        return None
    return _Affine(node, source, factor, offset)


def _batch_norm(editor: Editor, node: NodeProto) -> tuple[str, _Doubles, _Doubles] | None:
    options = options_of(node)
    plain = not options.get("training_mode", 0) and len(node.output) == 1
    if not plain or not all(map(editor.is_weight, node.input[1:])):
        return None
    gamma, beta, mean, variance = (editor.weight(n).astype(np.float64) for n in node.input[1:])
    factor = gamma / np.sqrt(variance + options.get("epsilon", 1e-5))
    return node.input[0], factor, beta - mean * factor


def _sum(editor: Editor, node: NodeProto) -> tuple[str, _Doubles, _Doubles] | None:
    """Return (x, a, b) when ``node`` computes ``a * x + b`` with constants a and b."""
    left, right = node.input
    if editor.is_weight(left) == editor.is_weight(right):
        return None
    constant, source = (left, right) if editor.is_weight(left) else (right, left)
    value = editor.weight(constant).astype(np.float64)
    one, zero = np.ones(1), np.zeros(1)
    if node.op_type == "Add":
        return source, one, value
    if node.op_type == "Mul":
        return source, value, zero
    if node.op_type == "Sub":
        return (source, -one, value) if constant == left else (source, one, -value)
    return None if constant == left or not value.all() else (source, 1 / value, zero)


def _by_channel(values: _Doubles, rank: int, channels: int) -> _Doubles | None:
    """Return a constant as a value for each channel, or one for all; None if it is neither.

    It meets a tensor of ``rank`` axes, the second of which has ``channels``.
    """
    if values.ndim > rank:
        return None
    shape = (1,) * (rank - values.ndim) + values.shape
    others = shape[:1] + shape[2:]
    if any(size != 1 for size in others) or shape[1] not in {1, channels}:
        return None
    return values.reshape(-1)
