"""The Open Inference Protocol, version 2: messages to arrays and back.

Tensors come as JSON numbers, flat or nested, or as raw little-endian bytes behind
the JSON (the binary tensor data extension, ``Inference-Header-Content-Length``).

Source: the protocol's REST specification, open-inference/open-inference-protocol,
and Triton's extension_binary_data.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from edgewright.core.errors import InputError
from edgewright.core.tensors import OIP_NAMES, TensorSpec
from edgewright.runtime.engines import Array, Engine
from edgewright.wire import version

_MAX_DIMENSIONS = 32
_DTYPES = {shown: dtype for dtype, shown in OIP_NAMES.items()}


class TensorIn(msgspec.Struct, frozen=True, kw_only=True):
    """An input of a request; ``data`` or ``parameters.binary_data_size``, not both."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """An output asked for; ``parameters.binary_data`` wants it raw."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an inference request."""

    inputs: tuple[TensorIn, ...]
    id: str = ""
    outputs: tuple[Wanted, ...] = ()
    parameters: dict[str, Any] = {}


class TensorOut(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An output of an answer."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class InferResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of an answer; ``parameters`` says which bytes answered."""

    model_name: str
    model_version: str
    outputs: tuple[TensorOut, ...]
    parameters: dict[str, Any]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A request understood.

    Attributes:
        id: To be given back; empty if there was none.
        wanted: For each output asked, in order: its name and whether raw.
        deadline_s: As the request asked; None where it did not.
    """

    id: str
    feeds: dict[str, Array]
    wanted: tuple[tuple[str, bool], ...]
    deadline_s: float | None


def decode(
    body: bytes, json_bytes: int, outputs: Sequence[TensorSpec], engine: Engine
) -> Question:
    """Return what a request asks.

    Args:
        body: All of it.
        json_bytes: How much of it is JSON; raw tensors follow.
        outputs: What the model can answer.
        engine: Makes the arrays.

    Raises:
        WireError: Not JSON, or not of the protocol's shape.
        InputError: A tensor that cannot be one, or an output there is not.
    """
    request = version.decode(InferRequest, body[:json_bytes])
    feeds: dict[str, Array] = {}
    start = json_bytes
    for tensor in request.inputs:
        if tensor.name in feeds:
            raise InputError(f"input {tensor.name!r} stands there twice")
        size = _binary_size(tensor)
        feeds[tensor.name] = _array(tensor, body[start : start + size], engine)
        start += size
    if start != len(body):
        raise InputError(f"{len(body) - start} bytes follow the last raw tensor")
    return Question(
        request.id, feeds, _wanted(request, outputs), _deadline(request.parameters)
    )


def encode(
    question: Question,
    answers: Iterable[tuple[TensorSpec, Array]],
    *,
    model: tuple[str, str],
    parameters: Mapping[str, str],
) -> tuple[bytes, int]:
    """Return the body of the answer, and how much of it is JSON.

    Args:
        question: What was asked.
        answers: Every output of the model with its spec.
        model: Its name and its version.
        parameters: Which bytes answered.
    """
    by_name = {spec.name: (spec, array) for spec, array in answers}
    outputs, raw = [], []
    for name, binary in question.wanted:
        spec, array = by_name[name]
        tensor = TensorOut(
            name=name,
            datatype=OIP_NAMES[spec.dtype],
            shape=tuple(array.shape),
            data=None if binary else _flat(array),
            parameters={},
        )
        if binary:
            raw.append(array.tobytes())
            tensor = msgspec.structs.replace(
                tensor, parameters={"binary_data_size": len(raw[-1])}
            )
        outputs.append(tensor)
    response = InferResponse(
        model_name=model[0],
        model_version=model[1],
        id=question.id,
        outputs=tuple(outputs),
        parameters=dict(parameters),
    )
    text = version.encode(response)
    return b"".join((text, *raw)), len(text)


def describe(spec: TensorSpec) -> dict[str, Any]:
    """Return a tensor as model metadata shows it."""
    return {
        "name": spec.name,
        "datatype": OIP_NAMES[spec.dtype],
        "shape": list(spec.shape),
    }


def _array(tensor: TensorIn, raw: bytes, engine: Engine) -> Array:
    if tensor.datatype not in _DTYPES:
        raise InputError(f"input {tensor.name!r} has unknown datatype {tensor.datatype!r}")
    if any(size < 1 for size in tensor.shape) or len(tensor.shape) > _MAX_DIMENSIONS:
        raise InputError(f"input {tensor.name!r} has impossible shape {list(tensor.shape)}")
    dtype = _DTYPES[tensor.datatype]
    if tensor.data is None:
        return engine.array(raw, dtype, tensor.shape)
    return engine.array_of(tensor.data, dtype, tensor.shape)


def _binary_size(tensor: TensorIn) -> int:
    size = tensor.parameters.get("binary_data_size")
    if (size is None) == (tensor.data is None):
        raise InputError(f"input {tensor.name!r} needs either data or binary_data_size")
    if size is None:
        return 0
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InputError(f"input {tensor.name!r} has binary_data_size {size!r}")
    return size


def _wanted(
    request: InferRequest, outputs: Sequence[TensorSpec]
) -> tuple[tuple[str, bool], ...]:
    raw = request.parameters.get("binary_data_output") is True
    if not request.outputs:
        return tuple((spec.name, raw) for spec in outputs)
    known = {spec.name for spec in outputs}
    for one in request.outputs:
        if one.name not in known:
            raise InputError(
                f"the model has no output {one.name!r}",
                hint=f"It answers {', '.join(sorted(known))}.",
            )
    if len({one.name for one in request.outputs}) < len(request.outputs):
        raise InputError("an output is asked for twice")
    return tuple(
        (one.name, one.parameters.get("binary_data", raw) is True) for one in request.outputs
    )


def _deadline(parameters: Mapping[str, Any]) -> float | None:
    found = parameters.get("deadline_ms")
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found < 1e8:
        raise InputError(f"deadline_ms must be a positive number, got {found!r}")
    return found / 1000


def _flat(array: Array) -> list[Any]:
    """Return the values in C order, as the protocol recommends."""
    values = array.tolist()
    for _ in range(len(array.shape) - 1):
        values = [one for row in values for one in row]
    return values if isinstance(values, list) else [values]
