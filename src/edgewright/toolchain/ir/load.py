"""Load an ONNX model and refuse what nothing good could be made of."""

from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model

from edgewright.core import digest
from edgewright.core.errors import ModelError
from edgewright.toolchain.ir.graph import STANDARD_DOMAINS, Graph, array_of
from edgewright.toolchain.ir.tidy import tidy

# QuantizeLinear and DequantizeLinear know channels since opset 13.
MIN_OPSET = 13

# What onnx raises when a model is not one; its C++ side uses RuntimeError.
_REFUSALS = (
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    RuntimeError,
    ValueError,
)


def load(path: Path) -> Graph:
    """Return the model at ``path``, checked and without its exporter's traces.

    Raises:
        ModelError: No such file, not ONNX, incomplete, an opset we do not know, types
            or shapes that do not fit together, or weights that are not finite.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(f"cannot read the model {path.name}: {reason}") from error
    proto = _parse(data, path)
    try:
        load_external_data_for_model(proto, str(path.parent))
    except (*_REFUSALS, OSError) as error:
        raise ModelError(
            f"{path.name} keeps weights in another file that cannot be read: {error}",
            hint="Copy the model together with its external data.",
        ) from error
    return check(proto, path.name)


def source_digest(path: Path) -> str:
    """Return the digest of the model as the user gave it, external data included.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        proto = _parse(path.read_bytes(), path)
        others = {
            ExternalDataInfo(tensor).location
            for tensor in proto.graph.initializer
            if tensor.data_location == TensorProto.EXTERNAL
        }
        parts = [
            digest.of_file(path),
            *(digest.of_file(path.parent / o) for o in sorted(others)),
        ]
    except OSError as error:
        raise ModelError(f"cannot read the model {path.name}: {error.strerror}") from error
    return parts[0] if len(parts) == 1 else digest.of_bytes("\n".join(parts).encode())


def check(proto: ModelProto, name: str) -> Graph:
    """Return ``proto``, which is changed, as a graph; ``name`` is for messages.

    Raises:
        ModelError: As ``load`` says.
    """
    _check_opset(proto, name)
    # What the exporter thought of shapes inside; some is stale, all of it is inferred.
    proto.graph.ClearField("value_info")
    try:
        onnx.checker.check_model(proto, full_check=True)
    except _REFUSALS as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{name} is not a valid ONNX model: {first}",
            hint="The file may be damaged or incomplete; export it again.",
        ) from error
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    for tensor in proto.graph.initializer:
        _check_finite(tensor, name)
    return tidy(proto)


def _parse(data: bytes, path: Path) -> ModelProto:
    try:
        proto = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError(
            f"{path.name} is not an ONNX model, or not all of it: "
            f"{len(data)} bytes that do not parse",
            hint="Give a complete .onnx file; edgewright does not read other formats yet.",
        ) from error
    if not proto.ir_version or not proto.graph.node:
        raise ModelError(
            f"{path.name} is not an ONNX model: {len(data)} bytes without a graph",
            hint="Give a complete .onnx file.",
        )
    return proto


def _check_opset(proto: ModelProto, name: str) -> None:
    versions = [o.version for o in proto.opset_import if o.domain in STANDARD_DOMAINS]
    newest = onnx.defs.onnx_opset_version()
    if not versions:
        raise ModelError(f"{name} does not say which opset it is written in")
    if not MIN_OPSET <= max(versions) <= newest:
        raise ModelError(
            f"{name} is written in opset {max(versions)}; {MIN_OPSET} to {newest} are known",
            hint="Export it with an opset in that range, 18 for instance.",
        )


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
