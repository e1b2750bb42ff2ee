"""What an engine is, and the table of the ones we have.

An engine loads the file a target wrote and answers with it. Nothing here imports
one: the table is data. An array is whatever an engine computes on, as long as it
tells its ``dtype`` and ``shape`` and can become bytes and lists.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

from edgewright.core.errors import EngineError
from edgewright.core.tensors import TensorSpec
from edgewright.runtime.deadline import Deadline


class Array(Protocol):
    """A tensor, as far as code outside an engine may look into it."""

    @property
    def dtype(self) -> Any:
        """Its element type; ``str`` of it is a key of ``core.tensors.ITEM_BYTES``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its size in each dimension."""

    def tobytes(self) -> bytes:
        """Return its values, little-endian, in C order."""

    def tolist(self) -> Any:
        """Return its values as nested lists, or one number for a scalar."""


class Session(Protocol):
    """A loaded model; any number of threads may run it at once."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes, in the order of its graph."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it answers, in the order of its graph."""

    def run(
        self, feeds: Mapping[str, Array], *, deadline: Deadline | None = None
    ) -> list[Array]:
        """Return the outputs, in order, for inputs by name.

        Raises:
            DeadlineError: The deadline passed; the run was stopped, not abandoned.
            EngineError: The engine cannot run it, or the session is closed.
        """

    def close(self) -> None:
        """Give back what it holds, once running answers are done; twice is fine."""


class Engine(Protocol):
    """One way to load and run. Every engine passes ``tests/conformance``."""

    name: str
    version: str

    def load(self, model: Path, *, threads: int = 1) -> Session:
        """Return a session for the file ``model``, using ``threads`` threads a run.

        Raises:
            EngineError: The file cannot be loaded here.
        """

    def array(self, data: bytes, dtype: str, shape: Sequence[int]) -> Array:
        """Return an array of raw little-endian values in C order.

        Raises:
            InputError: ``data`` has not the length that ``dtype`` and ``shape`` need.
        """

    def array_of(self, values: Sequence[Any], dtype: str, shape: Sequence[int]) -> Array:
        """Return an array of numbers, flat or nested.

        Raises:
            InputError: Their count is wrong, or one of them does not fit ``dtype``.
        """

    def finite(self, array: Array) -> bool:
        """Return whether an array of floats holds neither NaN nor an infinity."""

    def has_nan(self, array: Array) -> bool:
        """Return whether an array of floats holds a NaN."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """A row of the table.

    Attributes:
        name: As manifests name it; also the sibling module that holds ``ENGINE``.
        library: The module it needs.
        suffix: Of the files it loads.
        dtypes: Tensor types it takes and answers.
    """

    name: str
    library: str
    suffix: str
    dtypes: frozenset[str]

    @property
    def installed(self) -> bool:
        """Whether its library is here, found without importing it."""
        return find_spec(self.library) is not None


ENGINES = {
    info.name: info
    for info in (
        EngineInfo(
            name="onnxruntime",
            library="onnxruntime",
            suffix=".onnx",
            dtypes=frozenset(
                {
                    "bool", "uint8", "int8", "uint16", "int16", "float16", "uint32", "int32",
                    "float32", "uint64", "int64", "float64",
                }
            ),
        ),
    )
}  # fmt: skip


def load_engine(name: str) -> Engine:
    """Import the engine called ``name``.

    Raises:
        EngineError: There is no such engine, or its library is not installed.
    """
    if name not in ENGINES:
        raise EngineError(f"no engine {name!r}", hint=f"Choose from: {', '.join(ENGINES)}.")
    try:
        module = import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        missing = f"engine {name!r} needs {error.name}, which is not installed"
        raise EngineError(missing, hint=f"Install {ENGINES[name].library}.") from error
    return cast("Engine", module.ENGINE)
