"""Weights: stored in fewer bits, computed with as floats.

Every large float weight, whatever operator reads it, becomes its codes followed by the
nodes that give the float back, as ``unfold`` writes them. An engine computes these once,
when it loads the model: the file shrinks, an answer takes as long as before. In memory
there are the floats then, and for a while both. So matrices can be kept as codes there
too, for the product with codes that engines have. What is too
small to pay, or does not fit the format, stays as it is and is named. So does a vector,
unless halved: biases and the scales of norms are a thousandth of the bytes, and as int4
cost a sentence encoder .07 of its cosine. Where nothing paid it raises.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, version_converter

from edgewright.core.errors import QuantizeError
from edgewright.toolchain.ir.codes import CODERS, Codes, by_block, by_channel, by_input_block
from edgewright.toolchain.ir.graph import Graph, array_of, check_flat
from edgewright.toolchain.ir.halves import loses_whole_numbers
from edgewright.toolchain.ir.learn import Learned, Wanted, learn, said
from edgewright.toolchain.ir.linear import layers_of
from edgewright.toolchain.ir.observe import batches, check_samples
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.ir.tidy import tidy
from edgewright.toolchain.techniques import Applied, check_nodes, settle, skipped
from edgewright.toolchain.techniques.weights.unfold import Stored, coded, half, in_place

# The largest code; 0 where there are two, -1 and 1.
_LARGEST = {"int8": 127, "int4": 7, "ternary": 1, "binary": 0}
# Since this opset Cast knows int4 and DequantizeLinear blocks; the IR version goes with it.
_INT4_OPSET, _INT4_IR = 21, 10
# A node, with its name and what it reads.
_NODE_BYTES = 60
# Beyond it the form, or what unfolds it, has no finite number.
_LARGEST_HELD = {
    "float16": float(np.finfo(np.float16).max),
    "ternary": float(np.finfo(np.float32).max) / 4,
    "binary": float(np.finfo(np.float32).max) / 4,
}
_NAMED = 5
# Kept as codes in memory: the forms, the sizes a block can have, and the fewest bytes of
# floats for which that is worth a block's scales.
_IN_PLACE, _BLOCKS, _LARGE = frozenset({"int8", "int4"}), (128, 64, 32), 64 << 10
_UNFOLDS = frozenset({"Cast", "DequantizeLinear"})
_NARROW = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.FLOAT16)


def narrow(
    graph: Graph,
    *,
    form: str,
    block: str = "channel",
    memory: str = "floats",
    samples: Samples | None = None,
    skip: frozenset[str] = frozenset(),
    more: bool = False,
) -> Applied:
    """Return ``graph`` with its weights stored as ``form``.

    Args:
        graph: Any float graph.
        form: ``float16``, ``int8``, ``int4``, ``ternary`` or ``binary``.
        block: What shares a scale: ``channel``, or how many weights in a row.
        memory: What large matrices are there once the model is loaded, ``floats`` or
            ``codes``; of these, 128 inputs of an output share a scale where ``block``
            does not say how many.
        samples: Real inputs, to round by what answers lose; None to round to the nearest,
            as ``float16`` and what is no layer's own weight are in any case.
        skip: Nodes of ``graph``, by name, whose weights stay as they are.
        more: Whether others may be stored in fewer bits already.

    Raises:
        UsageError: ``skip`` names a node there is not.
        QuantizeError: No weight pays, or the graph has parts that are not looked into.
    """
    check_nodes(graph, skip)
    _check(graph, more=more)
    in_place = memory == "codes" and form in _IN_PLACE
    proto = _raised(graph.copy()) if form == "int4" or in_place else graph.copy()
    nodes = [node for node in graph.proto.graph.node if node.name in skip]
    asked = {name: node.name for node in nodes for name in node.input}
    stored = _Store(graph, form, block, asked, in_place=in_place)
    if samples is not None:
        stored.learn(samples)
    stored.rewrite(proto)
    if not stored.count:
        raise QuantizeError(
            f"none of {stored.seen} float weights could be stored as {form}: {stored.left()}",
            hint="Leave this technique out of the recipe for this model.",
        )
    notes = stored.notes()
    if memory == "codes" and not in_place:
        notes += (f"{form} is unfolded to floats when the model is loaded",)
    return Applied(tidy(proto), changed=True, notes=notes)


def _check(graph: Graph, *, more: bool) -> None:
    check_flat(graph, QuantizeError)
    if not more and (held := _narrow(graph.proto)):
        raise QuantizeError(
            f"weights of the graph are stored in fewer bits already, {held!r} for one",
            hint="Give the float model it was made from.",
        )


def _narrow(proto: ModelProto) -> str:
    """Return a weight that is made floats again, as this technique leaves it; or nothing."""
    stored = {tensor.name for tensor in proto.graph.initializer if tensor.data_type in _NARROW}
    unfolded = (n.input[0] for n in proto.graph.node if n.op_type in _UNFOLDS)
    return next((name for name in unfolded if name in stored), "")


class _Store:
    """Rewrites the weights of a graph and remembers what it did."""

    def __init__(
        self,
        graph: Graph,
        form: str,
        block: str,
        asked: Mapping[str, str],
        *,
        in_place: bool = False,
    ) -> None:
        """Use ``form``; weights in ``asked`` stay, each for the node it names."""
        self._in_place = in_place
        self._stayed: list[int] = []
        self._turned: set[str] = set()
        self._graph = graph
        self._form = form
        self._block = block
        self._asked = asked
        self._as_asked: list[str] = []
        self._layers = layers_of(graph)
        self._learned: dict[str, Learned] = {}
        self._unlearned = False
        self._kept: list[str] = []
        self._vectors: list[int] = []
        self._before = self._after = 0
        self.seen = self.count = 0

    def learn(self, samples: Samples) -> None:
        """Round the weights of layers by what their answers lose on ``samples``."""
        if self._form not in _LARGEST:
            self._unlearned = True
            return
        qmax = _LARGEST[self._form]
        wanted = []
        for tensor in self._graph.proto.graph.initializer:
            layer = self._layers.get(tensor.name)
            if layer is None or tensor.name in self._asked:
                continue
            weight = np.asarray(array_of(tensor), np.float32)
            if not np.isfinite(weight).all():
                continue  # left and named when it is met again
            codes = self._codes(tensor.name, weight)
            scale = np.broadcast_to(codes.scale, codes.values.shape).reshape(weight.shape)
            values = codes.values.reshape(weight.shape)
            wanted.append(Wanted(layer, weight, scale, values, qmax))
        feeds = batches(self._graph, samples, [one.layer.node.input[0] for one in wanted])
        for one in learn(self._graph, feeds, wanted):
            self._learned[one.wanted.layer.node.input[1]] = one

    def rewrite(self, proto: ModelProto) -> None:
        """Replace every weight of ``proto`` that pays."""
        nodes: list[NodeProto] = []
        tensors: list[TensorProto] = []
        shared: dict[str, TensorProto] = {}
        outputs = {value.name for value in proto.graph.output}
        for tensor in proto.graph.initializer:
            if tensor.data_type != TensorProto.FLOAT or tensor.name in outputs:
                tensors.append(tensor)
                continue
            self.seen += 1
            if tensor.name in self._asked:
                self._as_asked.append(f"{tensor.name!r} of {self._asked[tensor.name]}")
                tensors.append(tensor)
                continue
            narrowed = self._narrowed(tensor)
            if narrowed is None:
                tensors.append(tensor)
                continue
            tensors += narrowed.tensors
            shared |= {tensor.name: tensor for tensor in narrowed.shared}
            nodes += narrowed.nodes
        tensors += shared.values()
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(tensors)
        for node in proto.graph.node:
            if node.op_type == "Gemm" and node.input[1] in self._turned:
                kept = [a for a in node.attribute if a.name != "transB"]
                del node.attribute[:]
                node.attribute.extend(kept)
        nodes += proto.graph.node
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)

    def notes(self) -> tuple[str, ...]:
        """Return what was done, with the numbers."""
        stored = (
            f"{self.count} of {self.seen} float weights are stored as {self._form}: "
            f"{self._after} bytes instead of {self._before}"
        )
        notes = [stored]
        if self._stayed:
            held = sum(self._stayed)
            notes.append(f"{len(self._stayed)} of them, {held} bytes, stay codes in memory")
        if self._unlearned:
            notes.append(f"{self._form} is rounded to the nearest, samples decide nothing")
        if self._learned:
            notes.append(said(list(self._learned.values())))
        if self._vectors:
            held = sum(self._vectors)
            notes.append(f"{len(self._vectors)} vectors of {held} bytes in all stay floats")
        if self._kept:
            notes.append(f"left as they are: {_listed(self._kept)}")
        if self._as_asked:
            notes.append(f"left as they are, as asked: {_listed(self._as_asked)}")
        return tuple(notes)

    def left(self) -> str:
        """Return which weights were left as they are, and why."""
        return _listed(self._kept + self._as_asked) or "there are none"

    def _narrowed(self, tensor: TensorProto) -> Stored | None:
        weight = np.asarray(array_of(tensor), np.float32)
        largest = float(np.abs(weight).max(initial=0.0))
        if not np.isfinite(largest):
            self._leave(tensor, "it holds an infinity on purpose")
            return None
        if largest > _LARGEST_HELD.get(self._form, np.inf):
            self._leave(tensor, f"{largest:g} is beyond {self._form}")
            return None
        if self._form == "float16" and loses_whole_numbers(weight):
            self._leave(tensor, f"float16 has not all whole numbers up to {largest:g}")
            return None
        block = self._block_in_place(tensor.name, weight)
        if self._form == "float16":
            stored = half(tensor.name, weight)
        elif block:
            layer = self._layers[tensor.name]
            codes = self._codes(tensor.name, weight)
            stored = in_place(tensor.name, codes, self._form, transposed=layer.transposed)
        else:
            stored = coded(tensor.name, self._codes(tensor.name, weight), self._form)
        if stored.nbytes + _NODE_BYTES * len(stored.nodes) >= weight.nbytes:
            self._leave(tensor, f"{weight.nbytes} bytes are too few to pay")
            return None
        if self._form != "float16" and max(weight.shape, default=1) == weight.size:
            self._vectors.append(weight.nbytes)
            return None
        if block:
            self._stayed.append(stored.nbytes)
            self._turned |= {tensor.name} if self._layers[tensor.name].transposed else set()
        self.count += 1
        self._before += weight.nbytes
        self._after += stored.nbytes
        return stored

    def _block_in_place(self, name: str, weight: npt.NDArray[np.float32]) -> int:
        """Return how many inputs share a scale of a matrix that stays codes; else 0."""
        layer = self._layers.get(name)
        if not self._in_place or layer is None or layer.is_conv or weight.nbytes < _LARGE:
            return 0
        factors = {a.f for a in layer.node.attribute if a.name in {"alpha", "beta"}}
        if factors - {1.0}:
            return 0
        wanted = _BLOCKS if self._block == "channel" else (int(self._block),)
        return next((size for size in wanted if layer.inputs % size == 0), 0)

    def _codes(self, name: str, weight: npt.NDArray[np.float32]) -> Codes:
        coder, layer = CODERS[self._form], self._layers.get(name)
        if layer is not None and (size := self._block_in_place(name, weight)):
            codes = by_input_block(weight, coder, size, transposed=layer.transposed)
        elif self._block != "channel" and weight.size % int(self._block) == 0:
            codes = by_block(weight, coder, int(self._block))
        else:
            codes = by_channel(weight, coder, None if layer is None else layer.channel)
        if name not in self._learned:
            return codes
        values = self._learned[name].codes.reshape(codes.values.shape)
        return Codes(values, codes.scale, codes.shape)

    def _leave(self, tensor: TensorProto, why: str) -> None:
        self._kept.append(f"{tensor.name!r}, {why}")


def _listed(which: Sequence[str]) -> str:
    more = len(which) - _NAMED
    shown = "; ".join(which[:_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


def _raised(proto: ModelProto) -> ModelProto:
    """Return ``proto`` in an opset that knows int4, and scales of blocks.

    Raises:
        QuantizeError: It cannot be brought there.
    """
    opset = max(o.version for o in proto.opset_import if o.domain in {"", "ai.onnx"})
    if opset < _INT4_OPSET:
        try:
            proto = version_converter.convert_version(proto, _INT4_OPSET)
            onnx.checker.check_model(proto, full_check=True)
        except (RuntimeError, ValueError) as error:
            first = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise QuantizeError(
                f"the form needs opset {_INT4_OPSET}, and the graph of opset {opset} cannot "
                f"be brought there: {first}",
                hint="Export the model in a newer opset.",
            ) from error
    proto.ir_version = max(proto.ir_version, _INT4_IR)
    return proto


class _Weights:
    """The row ``weights`` of the table."""

    def apply(
        self,
        graph: Graph,
        settings: Mapping[str, str],
        samples: Samples | None = None,
    ) -> Applied:
        """Return the graph after ``narrow``."""
        settled = settle("weights", settings)
        learns = settled["rounding"] == "learned"
        return narrow(
            graph,
            form=settled["form"],
            block=settled["block"],
            memory=settled["memory"],
            samples=check_samples(graph, samples, "weights") if learns else None,
            skip=skipped(settled, graph),
            # Who names the layers knows what has become of the others.
            more="only" in settled,
        )


TECHNIQUE = _Weights()
