"""Run a graph on samples and keep the spread of every activation, never a sample's own.

One batch at a time, and of a batch only as many activations as fit a budget: where all of
them are more, the graph is run several times, each time for the next few. What is kept
is of a size that the number of samples does not change.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, helper

from edgewright.core.errors import DataError, QuantizeError
from edgewright.toolchain.ir import ort
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.techniques.quantize.fills import Spread

Feed = Mapping[str, npt.NDArray[Any]]

# Of activations that are held at once; a group has one tensor or more.
BUDGET_BYTES = 128 << 20

# Looked at together, so that what is computed from values is small beside them.
_CHUNK = 1 << 18
_FLOAT_BYTES = 4


def calibrate(
    graph: Graph,
    feeds: Iterable[Feed],
    tensors: Sequence[str],
    *,
    bins: int,
    budget_bytes: int = BUDGET_BYTES,
) -> dict[str, Spread]:
    """Return what each of ``tensors`` held while ``graph`` was run on all ``feeds``.

    Args:
        graph: A float graph.
        feeds: Batches, each with an array for every input; walked as often as there are
            groups of activations, so not an iterator.
        tensors: Float tensors of ``graph``, in its order.
        bins: Of a histogram; 0 keeps only the extremes.
        budget_bytes: How much of a batch's activations is held at once, going by the
            first batch.

    Raises:
        DataError: There are no feeds, or one that does not fit the inputs.
        QuantizeError: An activation is not finite, or ONNX Runtime refuses the graph.
    """
    if iter(feeds) is feeds:
        raise ValueError("feeds are walked several times: give a sequence, not an iterator")
    first = next(iter(feeds), None)
    if first is None:
        raise DataError(
            "calibration needs a batch of samples and got none",
            hint="Give at least as many samples as the model takes at once.",
        )
    fed = [spec.name for spec in graph.inputs]
    inner = [name for name in tensors if name not in fed]
    bytes_of = activation_bytes(graph, first, inner)
    nothing = Spread.of(np.zeros(0, np.float32), bins=bins)
    spreads = dict.fromkeys(tensors, nothing)
    outer = [name for name in tensors if name in fed]
    with ort.quiet("run the graph on calibration samples", QuantizeError) as folder:
        for group in groups(bytes_of, budget_bytes):
            found = {name: spreads[name] for name in group}
            _run(graph, feeds, found, folder)
            spreads |= found
        for feed in feeds if outer else ():
            for name in outer:
                spreads[name] = _seen(spreads[name], name, feed[name])
    return spreads


def activation_bytes(graph: Graph, feed: Feed, tensors: Sequence[str]) -> dict[str, int]:
    """Return the bytes of each of ``tensors``, as float32, when ``graph`` is run on ``feed``.

    Raises:
        DataError: ``feed`` does not fit the inputs.
        QuantizeError: ONNX Runtime refuses the graph.
    """
    _check_feed(graph, feed)
    proto = graph.copy()
    sizes = [f"{index}_edgewright_size" for index in range(len(tensors))]
    for name, size in zip(tensors, sizes, strict=True):
        proto.graph.node.append(helper.make_node("Size", [name], [size]))
        proto.graph.output.append(helper.make_tensor_value_info(size, TensorProto.INT64, []))
    with ort.quiet("run the graph on calibration samples", QuantizeError) as folder:
        # Counted as soon as they are there, so that no more are held than in any run.
        found = _session(proto, folder, order="PRIORITY_BASED").run(sizes, dict(feed))
    elements = (int(size) for size in found)
    return {name: size * _FLOAT_BYTES for name, size in zip(tensors, elements, strict=True)}


def groups(bytes_of: Mapping[str, int], budget_bytes: int) -> list[list[str]]:
    """Return the names in their order, in groups within the budget or of one name."""
    found: list[list[str]] = []
    held = 0
    for name, size in bytes_of.items():
        if not found or held + size > budget_bytes:
            found.append([])
            held = 0
        found[-1].append(name)
        held += size
    return found


def _run(
    graph: Graph, feeds: Iterable[Feed], spreads: dict[str, Spread], folder: Path
) -> None:
    """Add to each of ``spreads`` what its tensor holds, batch by batch."""
    proto = graph.copy()
    already = {value.name for value in proto.graph.output}
    new = [onnx.ValueInfoProto(name=name) for name in spreads if name not in already]
    proto.graph.output.extend(new)
    session = _session(proto, folder)
    del proto
    only = onnxruntime.RunOptions()
    only.only_execute_path_to_fetches = True
    for feed in feeds:
        _check_feed(graph, feed)
        found = session.run(list(spreads), dict(feed), only)
        # None keeps a name: one that outlived its batch would split the engine's memory.
        for name in reversed(spreads):
            spreads[name] = _seen(spreads[name], name, found.pop())


def _session(
    proto: ModelProto, folder: Path, *, order: str = "DEFAULT"
) -> onnxruntime.InferenceSession:
    path = folder / "exposed.onnx"
    onnx.save(proto, path)
    options = onnxruntime.SessionOptions()
    # Optimised, the graph would no longer hold the tensors that are asked for.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = getattr(onnxruntime.ExecutionOrder, order)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _seen(spread: Spread, name: str, values: npt.NDArray[Any]) -> Spread:
    flat, bins = values.reshape(-1), len(spread.rest.counts)
    for start in range(0, flat.size, _CHUNK):
        chunk = flat[start : start + _CHUNK].astype(np.float32, copy=False)
        if not np.isfinite(chunk).all():
            raise QuantizeError(
                f"the activation {name!r} is not finite on calibration samples",
                hint="Fill masks with a finite value, -1e4; check divisions and logarithms.",
            )
        spread = spread.merge(Spread.of(chunk, bins=bins))
    return spread


def _check_feed(graph: Graph, feed: Feed) -> None:
    for spec in graph.inputs:
        if spec.name not in feed:
            raise DataError(f"calibration samples lack the input {spec.name!r}")
        array = feed[spec.name]
        if wrong := spec.misfit(str(array.dtype), array.shape):
            raise DataError(f"calibration samples do not fit: {wrong}")
