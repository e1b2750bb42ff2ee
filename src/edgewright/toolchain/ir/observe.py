"""Run a graph on samples and hand over what chosen tensors hold, batch by batch.

One batch at a time, and of a batch only as many tensors as fit a budget: where all of
them are more, the graph is run several times, each time for the next few. Who watches
keeps something of a size that the number of samples does not change.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from edgewright.toolchain.ir.samples import Samples, check_fit

Feed = Mapping[str, npt.NDArray[Any]]
Take = Callable[[str, npt.NDArray[Any]], None]

# Of activations that are held at once; a group has one tensor or more.
BUDGET_BYTES = 128 << 20
_FLOAT_BYTES = 4

# Samples a run; more only cost memory, since what is kept is over all of them.
_BATCH = 32


@dataclass(frozen=True, slots=True, eq=False)
class _Batches:
    """Samples batch by batch, as often as they are asked for."""

    samples: Samples
    size: int
    whole: bool

    def __iter__(self) -> Iterator[Feed]:
        # A fixed batch cannot be fed half; the samples left over are not looked at.
        return self.samples.batches(self.size, whole=self.whole)


def batches(graph: Graph, samples: Samples, tensors: Sequence[str]) -> Iterable[Feed]:
    """Return ``samples`` in batches whose ``tensors`` fit the budget, if one sample's do.

    Raises:
        DataError: ``samples`` do not fit the inputs.
        QuantizeError: ONNX Runtime refuses the graph.
    """
    fixed = {spec.shape[0] for spec in graph.inputs} - {-1}
    if fixed:
        return _Batches(samples, max(fixed), whole=True)
    one = activation_bytes(graph, samples[:1].arrays, tensors)
    fitting = BUDGET_BYTES // max(1, sum(one.values()))
    return _Batches(samples, min(max(fitting, 1), _BATCH), whole=False)


def check_samples(graph: Graph, samples: Samples | None, technique: str) -> Samples:
    """Return ``samples`` if there are any and they fit.

    Raises:
        DataError: They are missing, empty, or do not fit the inputs.
    """
    if samples is None or len(samples) == 0:
        raise DataError(
            f"{technique} needs calibration samples and got none",
            hint="Give a few hundred real inputs as calibrate_images of the data file.",
        )
    check_fit(samples, graph.inputs, "calibration samples")
    return samples


def observe(
    graph: Graph,
    feeds: Iterable[Feed],
    tensors: Sequence[str],
    take: Take,
    *,
    budget_bytes: int = BUDGET_BYTES,
) -> None:
    """Hand each of ``tensors`` to ``take`` with its name, once for each of ``feeds``.

    Args:
        graph: What is run; no node of it is fused.
        feeds: Batches, each with an array for every input; walked as often as there are
            groups of tensors, so not an iterator.
        tensors: Tensors of ``graph``, in its order; its inputs too.
        take: Must not keep the array.
        budget_bytes: How much of a batch's tensors is held at once, going by the first
            batch.

    Raises:
        DataError: There are no feeds, or one that does not fit the inputs.
        QuantizeError: ONNX Runtime refuses the graph.
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
    outer = [name for name in tensors if name in fed]
    bytes_of = activation_bytes(graph, first, inner)
    with ort.quiet("run the graph on calibration samples", QuantizeError) as folder:
        for group in groups(bytes_of, budget_bytes):
            _run(graph, feeds, group, take, folder)
        for feed in feeds if outer else ():
            for name in outer:
                take(name, feed[name])


def check_finite(name: str, values: npt.NDArray[Any]) -> None:
    """Refuse ``values`` of the activation ``name`` that hold a NaN or an infinity.

    Raises:
        QuantizeError: They do.
    """
    finite = np.isfinite(values)
    if not finite.all():
        bad = values.size - int(np.count_nonzero(finite))
        raise QuantizeError(
            f"the activation {name!r} is not finite on calibration samples, in {bad} of "
            f"{values.size} values",
            hint="Fill masks with a finite value, -1e4; check divisions and logarithms.",
        )


def activation_bytes(graph: Graph, feed: Feed, tensors: Sequence[str]) -> dict[str, int]:
    """Return the bytes of each of ``tensors``, as float32, when ``graph`` is run on ``feed``.

    Raises:
        DataError: ``feed`` does not fit the inputs.
        QuantizeError: ONNX Runtime refuses the graph.
    """
    _check_feed(graph, feed)
    if not tensors:
        return {}  # asked for no outputs, the engine answers them all
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
    graph: Graph, feeds: Iterable[Feed], group: Sequence[str], take: Take, folder: Path
) -> None:
    """Run ``graph`` on all ``feeds`` for the tensors of ``group``."""
    proto = graph.copy()
    already = {value.name for value in proto.graph.output}
    new = [onnx.ValueInfoProto(name=name) for name in group if name not in already]
    proto.graph.output.extend(new)
    session = _session(proto, folder)
    del proto
    only = onnxruntime.RunOptions()
    only.only_execute_path_to_fetches = True
    for feed in feeds:
        _check_feed(graph, feed)
        found = session.run(list(group), dict(feed), only)
        # None keeps a name: one that outlived its batch would split the engine's memory.
        wrong: QuantizeError | None = None
        for name in reversed(group):
            try:
                take(name, found.pop())
            except QuantizeError as error:
                # From the end: what comes first in the graph is the cause of the others.
                wrong = error
        if wrong is not None:
            raise wrong


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


def _check_feed(graph: Graph, feed: Feed) -> None:
    for spec in graph.inputs:
        if spec.name not in feed:
            raise DataError(
                f"calibration samples lack the input {spec.name!r}",
                hint="Name each array like the input it is for.",
            )
        array = feed[spec.name]
        if wrong := spec.misfit(str(array.dtype), array.shape):
            raise DataError(
                f"calibration samples do not fit: {wrong}",
                hint="Give the samples exactly as a device will feed them.",
            )
