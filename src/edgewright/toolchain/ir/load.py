"""Load an ONNX model and refuse what nothing good could be made of.

A model older than every technique understands is raised to an opset they do, and has to
answer as before.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import GraphProto, ModelProto, TensorProto
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model

from edgewright.core import digest
from edgewright.core.errors import ModelError
from edgewright.toolchain.ir.axes import inputs_of
from edgewright.toolchain.ir.feeds import made_up
from edgewright.toolchain.ir.graph import STANDARD_DOMAINS, Graph, array_of
from edgewright.toolchain.ir.tidy import tidy
from edgewright.toolchain.ir.upgrade import check_alike, upgrade

# What is read, and what that is raised to where it is older: QuantizeLinear and
# DequantizeLinear know channels since opset 13.
OLDEST_OPSET, MIN_OPSET = 11, 13

# What one message of this format can hold, weights of other files included: the checker,
# the converter of opsets and the quantizer all work on the model as one.
MOST_BYTES = 2**31 - 1

# What onnx raises when a model is not one; its C++ side uses RuntimeError.
_REFUSALS = (
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    RuntimeError,
    ValueError,
)


_RENAME = (
    "Give that output or input another name and export again: exporters call what is inside "
    "after operators and modules, like embedding or linear."
)


def load(path: Path) -> Graph:
    """Return the model at ``path``, checked and without its exporter's traces.

    Raises:
        ModelError: No such file, not ONNX, incomplete, an opset we do not know, types
            or shapes that do not fit together, or weights that are not finite.
        ParityError: It had to be raised to a newer opset, and then answers otherwise.
    """
    return check(read(path), path.name)


def read(path: Path) -> ModelProto:
    """Return the model at ``path`` with its weights, as it is written there.

    Raises:
        ModelError: No such file, not ONNX, more than can be held, or weights in a file that
            cannot be read.
    """
    proto, _ = _opened(path)
    try:
        load_external_data_for_model(proto, str(path.parent))
    except (*_REFUSALS, OSError) as error:
        raise ModelError(
            f"{path.name} keeps weights in another file that cannot be read: {error}",
            hint="Copy the model together with its external data.",
        ) from error
    return proto


def source_digest(path: Path) -> str:
    """Return the digest of the model as the user gave it, external data included.

    Raises:
        ModelError: It cannot be read.
    """
    _, others = _opened(path)
    try:
        parts = [digest.of_file(one) for one in (path, *others)]
    except OSError as error:
        raise _unreadable(path, error) from error
    return parts[0] if len(parts) == 1 else digest.of_bytes("\n".join(parts).encode())


def check(proto: ModelProto, name: str) -> Graph:
    """Return ``proto``, which is changed, as a graph; ``name`` is for messages.

    Raises:
        ModelError: As ``load`` says.
    """
    opset = _check_opset(proto, name)
    # What the exporter thought of shapes inside; some is stale, all of it is inferred.
    proto.graph.ClearField("value_info")
    try:
        onnx.checker.check_model(proto, full_check=True)
    except _REFUSALS as error:
        if twice := _written_twice(proto.graph):
            raise ModelError(
                f"{name} is not a valid ONNX model: {twice}", hint=_RENAME
            ) from error
        first = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{name} is not a valid ONNX model: {first}",
            hint="The file may be damaged or incomplete; export it again.",
        ) from error
    if opset < MIN_OPSET:
        raised = upgrade(proto, MIN_OPSET, name)
        check_alike(proto, raised, made_up(inputs_of(Graph(proto))), name)
        proto = raised
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    for tensor in proto.graph.initializer:
        _check_finite(tensor, name)
    return tidy(proto)


def _opened(path: Path) -> tuple[ModelProto, list[Path]]:
    """Return the model without the weights of other files, and those files by name."""
    try:
        _check_size(path, path.stat().st_size)
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    proto = _parse(data, path)
    others = [path.parent / name for name in sorted(_external(proto, path))]
    held = sum(other.stat().st_size for other in others if other.is_file())
    _check_size(path, len(data) + held)
    return proto, others


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(
        f"cannot read the model {path.name}: {error.strerror or error}",
        hint="Give the path of an ONNX file that may be read.",
    )


def _check_size(path: Path, size: int) -> None:
    if size > MOST_BYTES:
        raise ModelError(
            f"{path.name} takes {size} bytes with its weights, {MOST_BYTES} (2 GiB) are the "
            "most that can be checked and changed as one",
            hint="Export it with float16 weights, in parts, or take a smaller model.",
        )


def _parse(data: bytes, path: Path) -> ModelProto:
    try:
        proto = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError(
            f"{path.name} is not an ONNX model, or not all of it: "
            f"{len(data)} bytes that do not parse",
            hint="Give a complete .onnx file; `edgewright import` makes one of other formats.",
        ) from error
    if not proto.ir_version or not proto.graph.node:
        raise ModelError(
            f"{path.name} is not an ONNX model: {len(data)} bytes without a graph",
            hint="Give a complete .onnx file.",
        )
    return proto


def _external(proto: ModelProto, path: Path) -> set[str]:
    """Return the files beside ``path`` that hold weights.

    Raises:
        ModelError: One of them is not beside it: a model reads no other files.
    """
    named = {
        ExternalDataInfo(tensor).location: tensor.name
        for tensor in _tensors(proto.graph)
        if tensor.data_location == TensorProto.EXTERNAL
    }
    for location, tensor in named.items():
        place = PurePosixPath(location.replace("\\", "/"))
        if not location or place.is_absolute() or ".." in place.parts or ":" in location:
            raise ModelError(
                f"{path.name} wants the weights {tensor!r} from {location!r}, which is not a "
                "file beside the model",
                hint="Save it again with its external data in the same folder.",
            )
    return set(named)


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield every tensor of ``graph`` and of the graphs inside its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _written_twice(graph: GraphProto) -> str:
    """Return which tensor two parts of ``graph`` give their name to; empty if none is."""
    weights = {tensor.name for tensor in graph.initializer}
    who = dict.fromkeys(weights, "a weight")
    # Old exporters list weights among the inputs too; that is one tensor.
    who |= {v.name: "an input" for v in graph.input if v.name not in weights}
    for node in graph.node:
        here = f"{node.op_type} {node.name!r}"
        for name in filter(None, node.output):
            if name in who:
                return f"{name!r} is the name of {who[name]} and of what {here} writes"
            who[name] = f"what {here} writes"
    return ""


def _check_opset(proto: ModelProto, name: str) -> int:
    versions = [o.version for o in proto.opset_import if o.domain in STANDARD_DOMAINS]
    newest = onnx.defs.onnx_opset_version()
    if not versions:
        raise ModelError(
            f"{name} does not say which opset it is written in",
            hint="Export it again; a model without an opset has no meaning.",
        )
    opset = max(versions)
    if not OLDEST_OPSET <= opset <= newest:
        raise ModelError(
            f"{name} is written in opset {opset}; {OLDEST_OPSET} to {newest} are known",
            hint="Export it with an opset in that range, 18 for instance.",
        )
    return int(opset)


def _check_finite(tensor: TensorProto, name: str) -> None:
    values = array_of(tensor)
    if values.dtype.kind != "f":
        return
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    # Clip and masks use an infinite bound on purpose; a weight has more than one value.
    if bad and values.size > 1:
        raise ModelError(
            f"{bad} of {values.size} weights of {tensor.name!r} in {name} are not finite",
            hint="Check the exported model against the training framework first.",
        )
