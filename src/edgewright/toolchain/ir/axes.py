"""Axes of a model's inputs: which are free, what they are called, and how to fix one.

A free axis has the name the exporter gave it (``batch``, ``seq``, ``s77``), or, where it
gave none, ``INPUT_AXIS`` like ``image_0``. Axes with one name have one size. The first
axis of an input, where free, is its batch.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import ModelProto, ValueInfoProto

from edgewright.core import records
from edgewright.core.errors import ModelError, UsageError
from edgewright.core.tensors import ITEM_BYTES
from edgewright.toolchain.ir.graph import Graph, dtype_name

BATCH = "batch"
_COUNTED = re.compile(r"unk__\d+")


@dataclass(frozen=True, slots=True)
class Axes:
    """A tensor of the interface, with names for its free axes.

    Attributes:
        name: As the graph calls it.
        dtype: A key of ``ITEM_BYTES``.
        shape: A size, or the name of a free axis, for each axis.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __post_init__(self) -> None:
        """Refuse what no tensor has."""
        if self.dtype not in ITEM_BYTES:
            known = ", ".join(sorted(ITEM_BYTES))
            raise ValueError(f"{self.name!r} has unknown type {self.dtype!r}; known: {known}")
        if any(isinstance(size, int) and size < 1 for size in self.shape):
            raise ValueError(f"{self.name!r} has impossible shape {list(self.shape)}")

    @property
    def batch(self) -> str:
        """The name of its free first axis; empty where that is fixed or not there."""
        first = self.shape[0] if self.shape else 1
        return first if isinstance(first, str) else ""

    @property
    def free(self) -> dict[int, str]:
        """Names of the free axes after the first, by axis."""
        rest = list(enumerate(self.shape))[1:]
        return {axis: size for axis, size in rest if isinstance(size, str)}

    def __str__(self) -> str:
        """Show it as the command line takes it: ``image float32 batchx3x224x224``."""
        return f"{self.name} {self.dtype} {'x'.join(map(str, self.shape)) or 'scalar'}"


def inputs_of(graph: Graph) -> tuple[Axes, ...]:
    """Return the inputs that have to be fed, in graph order."""
    fed = {spec.name for spec in graph.inputs}
    return tuple(_axes(value) for value in graph.proto.graph.input if value.name in fed)


def outputs_of(graph: Graph) -> tuple[Axes, ...]:
    """Return the outputs, in graph order."""
    return tuple(_axes(value) for value in graph.proto.graph.output)


def freeze(
    inputs: Sequence[Axes], sizes: Mapping[str, int]
) -> tuple[tuple[Axes, ...], frozenset[str]]:
    """Return ``inputs`` with axes fixed, and the keys of ``sizes`` that fixed one.

    A key is the name of a free axis, ``INPUT:AXIS``, or ``batch`` for the free first axis
    of every input, whatever it is called.
    """
    used: set[str] = set()

    def fixed(one: Axes, axis: int, size: int | str) -> int | str:
        if not isinstance(size, str):
            return size
        aliases = [f"{one.name}:{axis}", size, *([BATCH] if axis == 0 else [])]
        key = next((alias for alias in aliases if alias in sizes), "")
        used.update({key} - {""})
        return sizes[key] if key else size

    named = tuple(
        Axes(one.name, one.dtype, tuple(fixed(one, a, s) for a, s in enumerate(one.shape)))
        for one in inputs
    )
    # Axes with one name have one size, however one of them was addressed.
    also = {
        before: after
        for old, new in zip(inputs, named, strict=True)
        for before, after in zip(old.shape, new.shape, strict=True)
        if isinstance(before, str) and isinstance(after, int)
    }
    every = tuple(
        Axes(
            one.name,
            one.dtype,
            tuple(also.get(s, s) if isinstance(s, str) else s for s in one.shape),
        )
        for one in named
    )
    return every, frozenset(used)


def frozen(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """Return ``graph`` with the axes that ``sizes`` names fixed; see ``freeze``.

    Raises:
        UsageError: A key names no free axis.
        ModelError: With these sizes the graph does not fit together.
    """
    before = inputs_of(graph)
    after, used = freeze(before, sizes)
    for key in sizes:
        if key not in used:
            known = sorted({str(s) for one in before for s in one.shape if isinstance(s, str)})
            raise UsageError(
                f"no free axis is called {key!r}",
                hint=records.nearest(key, known) if known else "No axis of the model is free.",
            )
    if before == after:
        return graph
    fixed = {
        old: new
        for one, other in zip(before, after, strict=True)
        for old, new in zip(one.shape, other.shape, strict=True)
        if isinstance(old, str) and isinstance(new, int)
    }
    proto = graph.copy()
    shapes = {one.name: one.shape for one in after}
    for value in proto.graph.input:
        if value.name in shapes:
            _reshape(value, shapes[value.name])
    for value in proto.graph.output:
        _reshape(value, tuple(fixed.get(str(s), s) for s in _axes(value).shape))
    return Graph(_inferred(proto))


def with_batch_named(graph: Graph) -> Graph:
    """Return ``graph`` with the free first axes of its inputs called ``batch``.

    Where they have several names of their own they stay as they are: those are several
    sizes. Names that a converter counted up say nothing of the kind.
    """
    inputs = inputs_of(graph)
    chosen = {one.batch for one in inputs if one.batch and not is_counted(one.batch)}
    if len(chosen) > 1 or any(BATCH in one.free.values() for one in inputs):
        return graph
    old = {one.batch for one in inputs if one.batch}
    proto = graph.copy()
    for value in (*proto.graph.input, *proto.graph.output):
        named = zip(value.type.tensor_type.shape.dim, _axes(value).shape, strict=True)
        for dim, size in named:
            if size in old:
                dim.dim_param = BATCH
    return Graph(proto)


def is_counted(name: str) -> bool:
    """Return whether a converter made up the name of an axis, like ``unk__17``."""
    return bool(_COUNTED.fullmatch(name))


def _inferred(proto: ModelProto) -> ModelProto:
    """Fill in the sizes of outputs that follow from those of the inputs."""
    try:
        told = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ModelError(
            f"the graph does not fit together with the frozen axes: {lines[-1]}",
            hint="Freeze the axes at sizes the model was made for.",
        ) from error
    found = {value.name: value for value in told.graph.output}
    for value in proto.graph.output:
        value.CopyFrom(found[value.name])
    return proto


def _reshape(value: ValueInfoProto, shape: Sequence[int | str]) -> None:
    for dim, size in zip(value.type.tensor_type.shape.dim, shape, strict=True):
        if isinstance(size, int):
            dim.dim_value = size


def _axes(value: ValueInfoProto) -> Axes:
    tensor = value.type.tensor_type
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}_{axis}"
        for axis, dim in enumerate(tensor.shape.dim)
    )
    return Axes(value.name, dtype_name(tensor.elem_type), shape)
