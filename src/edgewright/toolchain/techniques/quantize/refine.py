"""After quantizing: round weights by what answers lose, and take the mean of it out.

Both look at one layer at a time, at what it is given in the float graph. A bias takes the
mean by which weights and activation, once rounded, move its output::

    bias' = bias - (Wq' E[xq] - W' E[x])

Source: of the rounding ``ir.rounding``; of the correction M. Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2, with
means from samples instead of batch norms.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from edgewright.toolchain.ir.graph import Graph, array_of, options_of
from edgewright.toolchain.ir.learn import Wanted, learn, said
from edgewright.toolchain.ir.linear import Linear
from edgewright.toolchain.ir.moments import Moments, fits, observe_moments
from edgewright.toolchain.ir.observe import Feed

_NAMED = 5
_INT8, _UINT8 = TensorProto.INT8, TensorProto.UINT8


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """A layer before and after quantizing.

    Attributes:
        linear: In the float graph.
        weight: Of the float graph.
        node: In the quantized graph.
        stored: Its codes there.
        scale: Of the codes; broadcasts over them.
    """

    linear: Linear
    weight: npt.NDArray[np.float32]
    node: NodeProto
    stored: TensorProto
    scale: npt.NDArray[np.float32]

    def wanted(self, qmax: int) -> Wanted:
        """Return it as a weight to round."""
        codes = cast("npt.NDArray[np.int8]", array_of(self.stored))
        return Wanted(self.linear, self.weight, self.scale, codes, qmax)


class Refinery:
    """Changes a quantized model, knowing the float graph it was made from."""

    def __init__(self, graph: Graph, proto: ModelProto) -> None:
        """Take over ``proto``, which ``graph`` became."""
        self._graph, self._proto = graph, proto
        self._held = {t.name: t for t in proto.graph.initializer}
        self._writers = {name: n for n in proto.graph.node for name in n.output}
        self._layers = self._found()

    def round(self, feeds: Iterable[Feed], qmax: int) -> tuple[str, ...]:
        """Round every weight anew within [-qmax, qmax]; return what came of it."""
        readers = [name for node in self._proto.graph.node for name in node.input]
        mine = [
            layer
            for layer in self._layers
            if fits(layer.linear) and readers.count(layer.node.input[1]) == 1
        ]
        kept = [layer for layer in self._layers if layer not in mine]
        found = list(learn(self._graph, feeds, [layer.wanted(qmax) for layer in mine]))
        for layer, one in zip(mine, found, strict=True):
            fresh = numpy_helper.from_array(one.codes, layer.stored.name)
            layer.stored.CopyFrom(fresh)
        return (said(found), *_left(kept, "rounded to the nearest"))

    def correct(self, feeds: Iterable[Feed]) -> tuple[str, ...]:
        """Correct every bias; return what came of it."""
        mine = [layer for layer in self._layers if self._takes_bias(layer.node)]
        kept = [layer for layer in self._layers if layer not in mine]
        linears = [layer.linear for layer in mine]
        activations = {layer.linear.node.input[0]: layer.node.input[0] for layer in mine}

        def rounded(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return self._rounded(activations[name], values)

        found = observe_moments(self._graph, feeds, linears, second=False, rounded=rounded)
        for layer in mine:
            self._correct(layer, found[layer.linear.node.name])
        note = f"{len(mine)} biases are corrected by the mean error of their layer"
        return (note, *_left(kept, "without a bias to correct"))

    def _found(self) -> list[_Layer]:
        """Return the layers whose weights are int8 codes, in the float graph's order."""
        floats = {t.name: t for t in self._graph.proto.graph.initializer}
        after = {node.name: node for node in self._proto.graph.node}
        found = []
        for node in self._graph.proto.graph.node:
            made = after.get(node.name)
            if made is None or len(node.input) < 2 or node.input[1] not in floats:
                continue
            linear = Linear.of(node, tuple(floats[node.input[1]].dims))
            unfold = self._writers.get(made.input[1])
            if linear is None or unfold is None or unfold.op_type != "DequantizeLinear":
                continue
            stored = self._held.get(unfold.input[0])
            if stored is None or stored.data_type != _INT8:
                continue
            scale = np.asarray(array_of(self._held[unfold.input[1]]), np.float32)
            axis = next((a.i for a in unfold.attribute if a.name == "axis"), 1)
            if scale.size > 1:
                scale = scale.reshape(
                    [-1 if a == axis else 1 for a in range(len(stored.dims))]
                )
            weight = np.asarray(array_of(floats[node.input[1]]), np.float32)
            found.append(_Layer(linear, weight, made, stored, scale))
        return found

    def _takes_bias(self, node: NodeProto) -> bool:
        """Return whether ``node`` adds a bias as it is, constant or none so far."""
        if len(node.input) > 2 and node.input[2] and node.input[2] not in self._held:
            return False
        options = options_of(node)
        factors = {options.get(name, 1.0) for name in ("alpha", "beta")}
        return node.op_type == "Conv" or (node.op_type == "Gemm" and factors == {1.0})

    def _rounded(self, name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return ``values`` as the quantized graph sees them under ``name``."""
        unfold = self._writers.get(name)
        if unfold is None or unfold.op_type != "DequantizeLinear":
            return values
        scale = float(array_of(self._held[unfold.input[1]]))
        zero = int(array_of(self._held[unfold.input[2]]))
        steps = np.clip(np.rint(values / np.float32(scale)) + zero, 0, 255)
        found: npt.NDArray[Any] = ((steps - zero) * scale).astype(np.float32)
        return found

    def _correct(self, layer: _Layer, moments: Moments) -> None:
        codes = cast("npt.NDArray[np.int8]", array_of(layer.stored))
        after = layer.linear.unrolled(codes * layer.scale)
        moved = np.einsum("gi,gio->go", moments.rounded, after)
        moved -= np.einsum("gi,gio->go", moments.mean, layer.linear.unrolled(layer.weight))
        node = layer.node
        name = node.input[2] if len(node.input) > 2 else ""
        before = np.asarray(array_of(self._held[name]), np.float64) if name else np.zeros(1)
        corrected = (before.ravel() - moved.ravel()).astype(np.float32)
        fresh = numpy_helper.from_array(corrected, f"{name or 'bias'}:{node.name}")
        self._proto.graph.initializer.append(fresh)
        del node.input[2:]
        node.input.append(fresh.name)


def _left(layers: Sequence[_Layer], how: str) -> tuple[str, ...]:
    if not layers:
        return ()
    names = [repr(layer.linear.node.name) for layer in layers]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (f"{how}: {', '.join(names[:_NAMED])}{more}",)
