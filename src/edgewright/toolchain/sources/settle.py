"""The end of every import: check what an exporter wrote, and hold it against its source.

What is read back from the file counts, not what the exporter was asked for: free axes are
tried at two sizes, shapes are compared with what is answered, and the answers with those
of the source.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx import numpy_helper

from edgewright.core import durable
from edgewright.core.errors import EngineError, ModelError, UsageError
from edgewright.toolchain.ir.answers import Array, Feeds, answers, apart
from edgewright.toolchain.ir.axes import (
    Axes,
    frozen,
    inputs_of,
    is_counted,
    outputs_of,
    with_batch_named,
)
from edgewright.toolchain.ir.feeds import BATCHES, sets
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.load import MOST_BYTES, check, load
from edgewright.toolchain.ir.names import without_paths
from edgewright.toolchain.ir.upgrade import upgrade
from edgewright.toolchain.sources.values import Brought, Converted, Wish

MODEL = "model.onnx"
_BATCH_HINT = "Freeze it with --freeze batch=1, or export a model that takes any batch."


def settle(converted: Converted, kind: str, wish: Wish, folder: Path) -> Brought:
    """Write ``folder/model.onnx`` from what a source gave, once it answers like that.

    Raises:
        ModelError: It is no model, or its free axes are not wanted or do not work.
        ParityError: It answers otherwise than its source.
        UsageError: An axis to freeze does not exist, or the opset is lower than its own.
        DataError: The samples do not fit.
        StorageError: The disk refused.
    """
    graph = load(converted.model)
    notes = list(converted.notes)
    if wish.opset is not None and wish.opset != graph.opset:
        notes.append(f"It was raised from opset {graph.opset} to {wish.opset}.")
        graph = _raised(graph, wish.opset, converted.model.name)
    sizes = {k: v for k, v in wish.freeze.items() if k not in converted.frozen}
    graph = without_paths(with_batch_named(frozen(graph, sizes)))
    inputs = inputs_of(graph)
    kept = _free_axes(inputs, keep=wish.keep_dynamic or converted.keeps_dynamic)
    notes += kept

    data = _bytes(graph)
    tried = sets(inputs, wish.samples, converted.within)
    # Never beside what was given: that folder is the user's.
    with tempfile.TemporaryDirectory(prefix="edgewright-") as scratch:
        path = Path(scratch) / MODEL
        path.write_bytes(data)
        written = _run(path, tried)
    _check_shapes(graph, tried, written)
    source = converted.answer(tried)
    names = [spec.name for spec in graph.outputs]
    parity = max(apart(s, w, names) for s, w in zip(source, written, strict=True))
    if wish.samples is None:
        notes.append(
            "Parity was checked on made-up inputs of the right shape, not on real ones: "
            "give --data to check it on those."
        )
    elif kept:
        notes.append("They were tried at the sizes of the samples only.")
    durable.replace_file(folder / MODEL, data)
    rows = sum(_count(inputs, feeds) for feeds in tried)
    return Brought(
        folder / MODEL, converted.sha256, kind, converted.exporter, tuple(notes), parity,
        rows, real=wish.samples is not None,
    )  # fmt: skip


def _raised(graph: Graph, opset: int, name: str) -> Graph:
    if opset < graph.opset:
        raise UsageError(
            f"{name} is written in opset {graph.opset} and cannot be lowered to {opset}",
            hint="Export it again with that opset.",
        )
    return check(upgrade(graph.copy(), opset, name), name)


def _free_axes(inputs: Sequence[Axes], *, keep: bool) -> list[str]:
    """Return notes on axes that stay free; refuse those nobody asked to keep."""
    kept = [(one, axis, name) for one in inputs for axis, name in one.free.items()]
    if not kept:
        return []
    if not keep:
        one, axis, name = kept[0]
        key = f"{one.name}:{axis}" if is_counted(name) else name
        raise ModelError(
            f"axis {axis} ({name!r}) of input {one.name!r} is free: {one}; only the batch "
            "may be",
            hint=f"Give --freeze {key}=N with the size a device will feed, or --keep-dynamic.",
        )
    told = ", ".join(sorted({f"{one.name}:{axis} ({name})" for one, axis, name in kept}))
    return [f"These axes stay free: {told}."]


def _bytes(graph: Graph) -> bytes:
    size = graph.proto.ByteSize()
    if size > MOST_BYTES:
        raise ModelError(
            f"the model takes {size} bytes, one ONNX file holds {MOST_BYTES}",
            hint="Export it in float16, or a smaller model.",
        )
    return graph.to_bytes()


def _run(path: Path, tried: Sequence[Feeds]) -> list[list[Array]]:
    """Return what the file answers; say which size it cannot take, and where it stops."""
    found: list[list[Array]] = []
    for feeds in tried:
        try:
            found += answers(path, [feeds])
        except EngineError as error:
            shapes = ", ".join(f"{name} {list(a.shape)}" for name, a in feeds.items())
            if not found:
                raise ModelError(
                    f"the exported model cannot answer {shapes}: {error}",
                    hint="Give --data of the sizes it was exported for, or --freeze them.",
                ) from error
            raise ModelError(
                f"the batch is said to be free, but the model cannot answer {shapes}: {error}",
                hint=_BATCH_HINT,
            ) from error
    return found


def _check_shapes(
    graph: Graph, tried: Sequence[Feeds], written: Sequence[Sequence[Array]]
) -> None:
    """Refuse an output whose shape is not what the file says, or not as many rows as fed."""
    inputs, outputs = inputs_of(graph), outputs_of(graph)
    batch = next((one.batch for one in inputs if one.batch), "")
    for feeds, told in zip(tried, written, strict=True):
        for one, array in zip(outputs, told, strict=True):
            fits = array.ndim == len(one.shape) and all(
                isinstance(want, str) or want == got
                for want, got in zip(one.shape, array.shape, strict=True)
            )
            if not fits:
                fed = ", ".join(f"{name} {list(a.shape)}" for name, a in feeds.items())
                raise ModelError(
                    f"output {one.name!r} is said to be {one} and answers shape "
                    f"{list(array.shape)} to {fed}",
                    hint=_BATCH_HINT if batch else "Export it again.",
                )
    if batch:
        _check_rows(graph, written, batch)


def _check_rows(graph: Graph, written: Sequence[Sequence[Array]], batch: str) -> None:
    """Refuse a free batch that no output follows."""
    alone, several = written[:2]
    followed = False
    for one, first, more in zip(outputs_of(graph), alone, several, strict=True):
        follows = bool(first.ndim) and len(more) * BATCHES[0] == len(first) * BATCHES[1]
        followed |= follows
        if one.batch == batch and not follows:
            raise _not_free(graph, one.name, first, more)
    if not followed:
        raise _not_free(graph, outputs_of(graph)[0].name, alone[0], several[0])


def _not_free(graph: Graph, output: str, first: Array, more: Array) -> ModelError:
    at = _fixed_reshape(graph)
    where = f"; {at} fixes its first axis" if at else ""
    return ModelError(
        f"the batch is said to be free, but output {output!r} has shape {list(first.shape)} "
        f"for {BATCHES[0]} row and {list(more.shape)} for {BATCHES[1]}{where}",
        hint=_BATCH_HINT,
    )


def _fixed_reshape(graph: Graph) -> str:
    """Return the first Reshape to a shape that is constant and begins with a size."""
    held: Mapping[str, Array] = {
        tensor.name: np.asarray(numpy_helper.to_array(tensor))
        for tensor in graph.proto.graph.initializer
        if tensor.data_type == tensor.INT64
    }
    for node in graph.proto.graph.node:
        shape = held.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is not None and shape.size and int(shape.flat[0]) > 0:
            return f"Reshape {node.name!r} to {[int(size) for size in shape]}"
    return ""


def _count(inputs: Sequence[Axes], feeds: Feeds) -> int:
    return max((len(feeds[one.name]) for one in inputs if one.shape), default=1)
