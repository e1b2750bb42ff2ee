"""The forms real inputs come in: arrays, folders of pictures, tables, a function.

``read`` tells the form by the path; each form is a sibling module with ``read``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from edgewright.core.errors import DataError
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.measure.data import DataKeys, Given


@dataclass(frozen=True, slots=True)
class Pictures:
    """How a picture becomes numbers: ``(value / divide - mean) / spread``.

    Attributes:
        divide: What a value from 0 to 255 is divided by; 0 for 255 where the model takes
            floats and 1 where it takes bytes.
        mean: Taken off, one for each channel or one for all.
        spread: Divided by after that, likewise.
        order: ``rgb`` or ``bgr``.
    """

    divide: float = 0.0
    mean: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    order: str = "rgb"


@dataclass(frozen=True, slots=True)
class Form:
    """How data are to be read.

    Attributes:
        keys: What arrays and columns are called.
        pictures: How pictures become numbers.
    """

    keys: DataKeys = field(default_factory=DataKeys)
    pictures: Pictures = field(default_factory=Pictures)


class Reader(Protocol):
    """Reads one form."""

    def __call__(self, path: Path, inputs: Sequence[TensorSpec], form: Form) -> Given:
        """Return what is at ``path``, for a model that takes ``inputs``.

        Raises:
            DataError: It cannot be read, or does not hold what is needed.
        """


_TABLES = {".csv": "table", ".tsv": "table", ".parquet": "table"}


def read(where: str, inputs: Sequence[TensorSpec], form: Form) -> Given:
    """Return what the data called ``where`` hold.

    Args:
        where: An npz file, a folder of pictures by class, a csv, tsv or parquet table, or
            ``module:callable``.
        inputs: What the model takes.
        form: How they are to be read.

    Raises:
        DataError: There is nothing of that name, or it is of no known form.
    """
    path = Path(where)
    if ":" in where and not path.exists():
        kind = "function"
    elif path.is_dir():
        kind = "folder"
    else:
        kind = _TABLES.get(path.suffix.lower(), "arrays")
    reader = cast("Reader", import_module(f"{__name__}.{kind}").read)
    return reader(path, inputs, form)


def only_input(inputs: Sequence[TensorSpec], what: str) -> TensorSpec:
    """Return the model's only input.

    Raises:
        DataError: It has several.
    """
    if len(inputs) != 1:
        named = ", ".join(spec.name for spec in inputs)
        raise DataError(
            f"{what} can feed a model with one input, this one has {len(inputs)}: {named}",
            hint="Give an npz file with an array for each, or module:callable.",
        )
    return inputs[0]
