"""ONNX Runtime on the CPU.

A run with a deadline gets run options of its own; the watchdog sets their
``terminate`` flag, which the library reads between two operators, and the session
answers as before afterwards. Weights kept as external data are mapped, not read.
"""

from collections.abc import Callable, Mapping, Sequence
from math import isnan, prod
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as states

from edgewright.core.errors import EngineError, InputError
from edgewright.core.tensors import ITEM_BYTES, TensorSpec
from edgewright.runtime.deadline import WATCHDOG, Deadline
from edgewright.runtime.engines import Array

_DTYPES = {
    **{f"tensor({name})": name for name in ITEM_BYTES},
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}

# The library's exceptions have no root of their own below Exception.
_REFUSALS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    TypeError,
    *(
        found
        for found in vars(states).values()
        if isinstance(found, type) and issubclass(found, Exception)
    ),
)

# Only what ends the process is logged by the library itself; the rest is raised.
_FATAL = 4


class _Session:
    """A model loaded by ONNX Runtime."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session: ort.InferenceSession | None = session
        self.inputs = tuple(_spec(node) for node in session.get_inputs())
        self.outputs = tuple(_spec(node) for node in session.get_outputs())
        self._names = [spec.name for spec in self.outputs]

    def run(
        self, feeds: Mapping[str, Array], *, deadline: Deadline | None = None
    ) -> list[Array]:
        """Return the outputs, in order, for inputs by name."""
        session = self._session
        if session is None:
            raise EngineError("the session is closed")
        if deadline is not None:
            return self._run_until(session, feeds, deadline)
        try:
            answers: list[Array] = session.run(self._names, feeds)
        except _REFUSALS as error:
            raise _failed(error) from error
        return answers

    def close(self) -> None:
        """Let go of the session; a run that is under way keeps it until it ends."""
        self._session = None

    def _run_until(
        self, session: ort.InferenceSession, feeds: Mapping[str, Array], deadline: Deadline
    ) -> list[Array]:
        if deadline.expired:
            raise deadline.missed()
        options = ort.RunOptions()
        options.log_severity_level = _FATAL
        alarm = WATCHDOG.arm(deadline, _terminate(options))
        try:
            answers: list[Array] = session.run(self._names, feeds, options)
        except _REFUSALS as error:
            if options.terminate:
                raise deadline.missed() from error
            raise _failed(error) from error
        finally:
            alarm.disarm()
        if deadline.expired:
            raise deadline.missed()
        return answers


class _OnnxRuntime:
    """The engine."""

    name = "onnxruntime"
    version: str = ort.__version__

    def load(self, model: Path, *, threads: int = 1) -> _Session:
        """Return a session for the ONNX file ``model``."""
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL
        # Idle threads sleep: on a device the core they would spin on is someone's.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
            return _Session(session)
        except _REFUSALS as error:
            raise EngineError(
                f"{model.name} cannot be loaded: {_first_line(error)}",
                hint="Check that the file is an ONNX model this version of the engine knows.",
            ) from error

    def array(self, data: bytes, dtype: str, shape: Sequence[int]) -> Array:
        """Return an array over ``data``, which is not copied."""
        wanted = prod(shape) * ITEM_BYTES[dtype]
        if len(data) != wanted:
            raise InputError(
                f"{dtype} of shape {list(shape)} is {wanted} bytes, got {len(data)}"
            )
        return np.frombuffer(data, dtype).reshape(shape)

    def array_of(self, values: Sequence[Any], dtype: str, shape: Sequence[int]) -> Array:
        """Return an array of numbers, none of them rounded or wrapped around."""
        try:
            found = np.asarray(values)
        except (ValueError, OverflowError) as error:
            raise InputError(f"values are not one rectangular tensor: {error}") from error
        if found.size != prod(shape):
            raise InputError(f"shape {list(shape)} has {prod(shape)} values, got {found.size}")
        if misfit := _unfit(found, np.dtype(dtype)):
            raise InputError(f"values do not fit {dtype}: {misfit}")
        return found.astype(dtype).reshape(shape)

    def finite(self, array: Array) -> bool:
        """Return whether an array of floats holds neither NaN nor an infinity."""
        return bool(np.isfinite(np.asarray(array)).all())

    def has_nan(self, array: Array) -> bool:
        """Return whether an array of floats holds a NaN."""
        values = np.asarray(array).ravel()
        # To ``minimum`` a NaN is the smallest, so that one quick pass finds it.
        return values.size > 0 and isnan(np.minimum.reduce(values))


ENGINE = _OnnxRuntime()


def _unfit(found: np.ndarray[Any, Any], wanted: np.dtype[Any]) -> str:
    """Return why numbers cannot become ``wanted`` unchanged; empty if they can."""
    kinds = found.dtype.kind + wanted.kind
    if found.size == 0 or kinds == "bb":
        return ""
    if "b" in kinds or found.dtype.kind not in "iuf":
        return "they are not all of its kind"
    if kinds in {"fi", "fu"}:
        return "they must be whole numbers"
    low, high = found.min().item(), found.max().item()
    lowest, highest = _range(wanted)
    if low >= lowest and high <= highest:
        return ""
    return f"{low} to {high} is beyond {lowest} to {highest}"


def _range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the lowest and the highest number of a type, as Python's own numbers."""
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        return float(limits.min), float(limits.max)
    whole = np.iinfo(dtype)
    return whole.min, whole.max


def _spec(node: Any) -> TensorSpec:
    if node.type not in _DTYPES:
        raise ValueError(f"{node.name!r} is a {node.type}, which no tensor of ours holds")
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return TensorSpec(node.name, _DTYPES[node.type], shape)


def _terminate(options: ort.RunOptions) -> Callable[[], None]:
    def stop() -> None:
        options.terminate = True

    return stop


def _failed(error: Exception) -> EngineError:
    return EngineError(f"the model could not be run: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    """Return what the library said, without its source lines and stack."""
    return str(error).strip().partition("\n")[0][:300]
