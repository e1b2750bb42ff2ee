"""An npz file of plain arrays; nothing in it is unpickled."""

import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from edgewright.core import records
from edgewright.core.errors import DataError
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.measure.data import DataKeys, Given
from edgewright.toolchain.measure.forms import Form

_Arrays = Mapping[str, npt.NDArray[Any]]


def read(path: Path, inputs: Sequence[TensorSpec], form: Form) -> Given:
    """Return the arrays of an npz file.

    Raises:
        DataError: No such file or array, or no labels but an array that could be them.
    """
    keys = form.keys
    arrays = _load(path)
    evaluate = _inputs(arrays, keys.evaluate_inputs, "evaluate", inputs, path)
    calibrate: _Arrays = {}
    if _any_inputs(arrays, keys.calibrate_inputs, "calibrate", inputs):
        calibrate = _inputs(arrays, keys.calibrate_inputs, "calibrate", inputs, path)
    for name, default in (
        (keys.evaluate_labels, DataKeys().evaluate_labels),
        (keys.evaluate_targets, DataKeys().evaluate_targets),
        (keys.evaluate_boxes, DataKeys().evaluate_boxes),
    ):
        if name != default:
            _array(arrays, name, path)
    labels = arrays.get(keys.evaluate_labels)
    targets = arrays.get(keys.evaluate_targets)
    if labels is None and targets is None:
        first = next(iter(evaluate.values()))
        used = {id(array) for array in (*evaluate.values(), *calibrate.values())}
        _check_no_labels(arrays, keys, first, used, path)
    return Given(
        where=path.name,
        evaluate=evaluate,
        calibrate=calibrate,
        labels=labels,
        calibrate_labels=arrays.get(keys.calibrate_labels) if calibrate else None,
        targets=targets,
        boxes=arrays.get(keys.evaluate_boxes),
    )


def _inputs(
    arrays: _Arrays, key: str, part: str, inputs: Sequence[TensorSpec], path: Path
) -> dict[str, npt.NDArray[Any]]:
    """Return an array for each input: under ``key`` for one, ``part_NAME`` for several."""
    if len(inputs) == 1 and (key in arrays or f"{part}_{inputs[0].name}" not in arrays):
        return {inputs[0].name: _array(arrays, key, path)}
    return {spec.name: _array(arrays, f"{part}_{spec.name}", path) for spec in inputs}


def _any_inputs(arrays: _Arrays, key: str, part: str, inputs: Sequence[TensorSpec]) -> bool:
    return key in arrays or any(f"{part}_{spec.name}" in arrays for spec in inputs)


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read {path.name}: {error.strerror}",
            hint="Give the path of an npz file that may be read.",
        ) from error
    if not data.startswith((b"PK", b"\x93NUMPY")):
        raise DataError(
            f"{path.name} is not an npz file: it begins with {data[:8]!r}",
            hint="Write it with numpy.savez; csv, tsv and parquet are known by their names.",
        )
    try:
        archive = np.load(BytesIO(data), allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise DataError(f"{path.name} holds one array", hint="Write it with numpy.savez.")
        return {name: archive[name] for name in archive}
    except (ValueError, EOFError, OSError, BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path.name} is not a file of plain arrays: {error}",
            hint="Write it with numpy.savez; arrays of objects are not read.",
        ) from error


def _array(arrays: _Arrays, name: str, path: Path) -> npt.NDArray[Any]:
    if name not in arrays:
        hint = records.nearest(name, list(arrays)) if arrays else "It holds no arrays."
        raise DataError(f"no array {name!r} in {path.name}", hint=hint)
    return arrays[name]


def _check_no_labels(
    arrays: _Arrays, keys: DataKeys, first: npt.NDArray[Any], used: set[int], path: Path
) -> None:
    """Refuse to go without labels where an array has their form."""
    alike = [
        name
        for name, array in sorted(arrays.items())
        if name != keys.calibrate_labels
        and id(array) not in used
        and first.ndim
        and array.size == len(first)
        and array.dtype.kind in "iuf"
    ]
    if alike:
        raise DataError(
            f"no array {keys.evaluate_labels!r} in {path.name}, but {alike[0]!r} has a "
            "number for each sample",
            hint=f'Say data.keys.evaluate_labels = "{alike[0]}" if these are the labels, or '
            "take it out of the file to judge by fidelity to the reference.",
        )
