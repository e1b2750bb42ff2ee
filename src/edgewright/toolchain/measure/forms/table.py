"""A table with a row for each sample: csv, tsv, or parquet through pyarrow.

The column ``label`` holds the class, by name or number, or for a model with one output a
number; ``split`` may say ``calibrate`` or ``evaluate``, else a quarter of the rows, told by
their own values, calibrates. All other columns are the input, in their order.
"""

import csv
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import DataError
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.measure.data import Given, split
from edgewright.toolchain.measure.forms import Form, only_input

_SPLIT = "split"


def read(path: Path, inputs: Sequence[TensorSpec], form: Form) -> Given:
    """Return the rows of a table.

    Raises:
        DataError: It cannot be read, a cell is no number, or rows are of another length.
    """
    spec = only_input(inputs, "a table")
    columns = _parquet(path) if path.suffix.lower() == ".parquet" else _text(path)
    label = columns.pop(form.keys.label, None)
    marks = columns.pop(_SPLIT, None)
    values = np.stack([_numbers(name, cells, path) for name, cells in columns.items()], axis=1)
    rows = _shaped(values, spec)
    chosen = split(row.tobytes() for row in rows) if marks is None else _marked(marks, path)
    labels, classes, targets = _labels(label, path)
    return Given(
        where=path.name,
        evaluate={spec.name: rows[~chosen]},
        calibrate={spec.name: rows[chosen]} if chosen.any() else {},
        labels=None if labels is None else labels[~chosen],
        calibrate_labels=None if labels is None or not chosen.any() else labels[chosen],
        targets=None if targets is None else targets[~chosen],
        classes=classes,
    )


def _text(path: Path) -> dict[str, list[str]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, delimiter=delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"cannot read {path.name}: {error}",
            hint="Give a table in UTF-8 that may be read: csv, tsv or parquet.",
        ) from error
    if len(rows) < 2:
        raise DataError(
            f"{path.name} needs a row of names and rows of values",
            hint="Begin with a row of names; each row after it is a sample.",
        )
    head, *body = rows
    if len(set(head)) != len(head):
        raise DataError(
            f"{path.name} names a column twice: {', '.join(head)}",
            hint="Give each column a name of its own.",
        )
    for number, row in enumerate(body, start=2):
        if len(row) != len(head):
            raise DataError(
                f"line {number} of {path.name} has {len(row)} cells, the head {len(head)}",
                hint="Mend or remove that line; every row has a cell for each name.",
            )
    return {name: [row[place] for row in body] for place, name in enumerate(head)}


def _parquet(path: Path) -> dict[str, list[Any]]:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataError(
            f"{path.name} is read with pyarrow, which is not installed",
            hint='Install it: pip install "edgewright[parquet]".',
        ) from error
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read {path.name}: {error}",
            hint="Give a table in UTF-8 that may be read: csv, tsv or parquet.",
        ) from error
    found: dict[str, list[Any]] = table.to_pydict()
    return found


def _numbers(name: str, cells: Sequence[Any], path: Path) -> npt.NDArray[np.float64]:
    try:
        return np.array(cells, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"column {name!r} of {path.name} holds what is no number: {error}",
            hint="Take the column out, or name it: [data.keys] label.",
        ) from error


def _shaped(values: npt.NDArray[np.float64], spec: TensorSpec) -> npt.NDArray[Any]:
    try:
        return values.astype(spec.dtype).reshape(len(values), *spec.shape[1:])
    except ValueError as error:
        raise DataError(
            f"{values.shape[1]} columns do not fill input {spec.name!r} of shape "
            f"{list(spec.shape)}",
            hint="Every column but label and split is a number of the input.",
        ) from error


def _marked(marks: Sequence[Any], path: Path) -> npt.NDArray[np.bool_]:
    strange = sorted({str(mark) for mark in marks} - {"calibrate", "evaluate"})
    if strange:
        raise DataError(
            f"column {_SPLIT!r} of {path.name} says {strange[0]!r}",
            hint="It says calibrate or evaluate.",
        )
    return np.array([mark == "calibrate" for mark in marks])


def _labels(
    cells: Sequence[Any] | None, path: Path
) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...], npt.NDArray[np.float64] | None]:
    """Return labels, names of the classes, and targets where labels are no classes."""
    if cells is None:
        return None, (), None
    try:
        numbers = np.array(cells, dtype=np.float64)
    except (TypeError, ValueError):
        names = sorted({str(cell) for cell in cells})
        place = {name: index for index, name in enumerate(names)}
        return np.array([place[str(cell)] for cell in cells]), tuple(names), None
    if not np.isfinite(numbers).all():
        raise DataError(
            f"a label of {path.name} is missing",
            hint="Give every row a label, or leave the column out.",
        )
    if (numbers == np.floor(numbers)).all() and numbers.min() >= 0:
        return numbers.astype(np.int64), (), None
    return None, (), numbers
