"""Raise a model to a newer opset, and show that it still answers the same.

Below opset 13 QuantizeLinear knows no channels: what was asked per channel would become
per tensor without a word. So an old model is raised before anything is done with it.
"""

import tempfile
from pathlib import Path

import onnx
import onnx.version_converter
from onnx import ModelProto

from edgewright.core.errors import EdgewrightError, ModelError, ParityError
from edgewright.toolchain.ir.answers import Feeds, answers, apart

_REFUSALS = (RuntimeError, ValueError, onnx.checker.ValidationError)


def upgrade(proto: ModelProto, opset: int, name: str) -> ModelProto:
    """Return ``proto`` written in ``opset``, which is newer than its own.

    Raises:
        ModelError: A node has no form in the newer opset.
    """
    old = max(o.version for o in proto.opset_import if o.domain in {"", "ai.onnx"})
    try:
        raised = onnx.version_converter.convert_version(proto, opset)
        onnx.checker.check_model(raised, full_check=True)
    except _REFUSALS as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{name} is written in opset {old} and cannot be raised to {opset}: {first}",
            hint=f"Export it again with opset {opset} or newer, 18 for instance.",
        ) from error
    return raised


def check_alike(old: ModelProto, new: ModelProto, feeds: Feeds, name: str) -> None:
    """Refuse a raised model that does not answer ``feeds`` like the one it was made from.

    Raises:
        ParityError: It answers something else.
        ModelError: One of them cannot answer at all.
    """
    with tempfile.TemporaryDirectory(prefix="edgewright-") as folder:
        told = []
        for part, proto in (("as given", old), ("raised", new)):
            path = Path(folder, f"{part.split()[0]}.onnx")
            path.write_bytes(proto.SerializeToString())
            try:
                told.append(answers(path, [feeds])[0])
            except EdgewrightError as error:
                raise ModelError(
                    f"{name} {part} cannot answer: {error}",
                    hint="Export it again, in opset 18 for instance.",
                ) from error
    try:
        apart(told[0], told[1], [value.name for value in new.graph.output])
    except ParityError as error:
        raise ParityError(
            f"{name} raised to a newer opset answers something else: {error}",
            hint="Export it again with opset 13 or newer, 18 for instance.",
        ) from error
