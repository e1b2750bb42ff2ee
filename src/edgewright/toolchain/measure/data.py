"""Real inputs with their labels: one half to calibrate on, one half to judge by.

No sample may be in both: what a range was taken from flatters what is judged by it.
Without labels the reference's own answers are the right ones: then what is judged is
fidelity to the reference, and it is called so. An array that may well be the labels
under another name is asked about, never passed over.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from edgewright.core import digest, records
from edgewright.core.errors import DataError
from edgewright.core.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class DataKeys:
    """What the arrays of a data file are called.

    Attributes:
        calibrate_inputs: Real inputs to take ranges from; no labels are needed.
        evaluate_inputs: Inputs to judge by.
        evaluate_labels: The right class of each, from 0; may be missing.
        calibrate_labels: Checked when there; nothing is computed from it.
    """

    calibrate_inputs: str = "calibrate_images"
    evaluate_inputs: str = "evaluate_images"
    evaluate_labels: str = "evaluate_labels"
    calibrate_labels: str = "calibrate_labels"


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Samples that fit a model.

    Attributes:
        calibrate: Inputs, first dimension the sample; may hold none.
        evaluate: Inputs, first dimension the sample; at least one.
        labels: int64, the right class of each evaluation sample; None where nobody
            said, until the reference has been asked.
        classes: Names of the classes, one for each output.
        sha256: Digest of every array that was read.
    """

    calibrate: npt.NDArray[Any]
    evaluate: npt.NDArray[Any]
    labels: npt.NDArray[np.int64] | None
    classes: tuple[str, ...]
    sha256: str

    @property
    def right(self) -> npt.NDArray[np.int64]:
        """The right class of each evaluation sample; a ValueError while nobody said."""
        if self.labels is None:
            raise ValueError("there are no labels yet; ask the reference first")
        return self.labels


def load(
    path: Path,
    spec: TensorSpec,
    classes: tuple[str, ...],
    *,
    keys: DataKeys | None = None,
) -> Dataset:
    """Return the samples in the npz file ``path``, checked against a model.

    Args:
        path: Written by ``numpy.savez``; nothing in it is unpickled.
        spec: The model's input.
        classes: Names of the model's classes, one an output.
        keys: What the arrays are called.

    Raises:
        DataError: No such file or array, samples that do not fit ``spec``, labels that
            do not fit the samples or the classes, a sample used twice, or no labels but
            an array that could be them.
    """
    keys = keys or DataKeys()
    arrays = _read(path)
    calibrate = arrays.get(keys.calibrate_inputs)
    evaluate = _array(arrays, keys.evaluate_inputs, path)
    labels = arrays.get(keys.evaluate_labels)
    if calibrate is None:
        calibrate = evaluate[:0]
    _check_samples(evaluate, spec, keys.evaluate_inputs)
    if not len(evaluate):
        raise DataError(f"{keys.evaluate_inputs} in {path.name} holds no samples")
    if labels is None:
        _check_no_labels(arrays, keys, len(evaluate), path)
    else:
        _check_labels(labels, keys.evaluate_labels, len(evaluate), len(classes))
    if len(calibrate):
        _check_samples(calibrate, spec, keys.calibrate_inputs)
    if keys.calibrate_labels in arrays:
        marks = arrays[keys.calibrate_labels]
        _check_labels(marks, keys.calibrate_labels, len(calibrate), len(classes))
    _check_disjoint(calibrate, evaluate)
    read = {"calibrate": calibrate, "evaluate": evaluate}
    if labels is None:
        return Dataset(calibrate, evaluate, None, classes, _digest(read))
    return Dataset(
        calibrate, evaluate, labels.astype(np.int64), classes,
        _digest({**read, "labels": labels}),
    )  # fmt: skip


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path.name}: {error.strerror}") from error
    if not data.startswith((b"PK", b"\x93NUMPY")):
        raise DataError(
            f"{path.name} is not an npz file: it begins with {data[:8]!r}",
            hint="Write it with numpy.savez.",
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


def _array(arrays: Mapping[str, npt.NDArray[Any]], name: str, path: Path) -> npt.NDArray[Any]:
    if name not in arrays:
        hint = records.nearest(name, list(arrays)) if arrays else "It holds no arrays."
        raise DataError(f"no array {name!r} in {path.name}", hint=hint)
    return arrays[name]


def _check_samples(samples: npt.NDArray[Any], spec: TensorSpec, name: str) -> None:
    shape = samples.shape
    if samples.ndim:
        # How many there are is not the model's business, where it takes one at a time.
        count = max(len(samples), 1) if spec.shape[:1] == (-1,) else spec.shape[0]
        shape = (count, *samples.shape[1:])
    if wrong := spec.misfit(str(samples.dtype), shape):
        raise DataError(
            f"{name} does not fit the model: {wrong}",
            hint="Give the samples exactly as a device will feed them.",
        )
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        raise DataError(f"{name} holds values that are not finite")


def _check_labels(labels: npt.NDArray[Any], name: str, count: int, classes: int) -> None:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{name} must be one integer a sample, got {labels.dtype} of shape "
            f"{list(labels.shape)}"
        )
    if len(labels) != count:
        raise DataError(f"{name} has {len(labels)} labels for {count} samples")
    if count and not (labels.min() >= 0 and labels.max() < classes):
        raise DataError(
            f"{name} runs from {labels.min()} to {labels.max()}, "
            f"the model answers classes 0 to {classes - 1}"
        )


def _check_no_labels(
    arrays: Mapping[str, npt.NDArray[Any]], keys: DataKeys, count: int, path: Path
) -> None:
    """Refuse to go without labels that were named, or where an array has their form."""
    if keys.evaluate_labels != DataKeys().evaluate_labels:
        _array(arrays, keys.evaluate_labels, path)
    alike = [
        name
        for name, array in sorted(arrays.items())
        if name != keys.calibrate_labels and array.size == count and array.dtype.kind in "iuf"
    ]
    if alike:
        raise DataError(
            f"no array {keys.evaluate_labels!r} in {path.name}, but {alike[0]!r} has a "
            "number for each sample",
            hint=f'Say data.keys.evaluate_labels = "{alike[0]}" if these are the labels, or '
            "take it out of the file to judge by fidelity to the reference.",
        )


def _check_disjoint(calibrate: npt.NDArray[Any], evaluate: npt.NDArray[Any]) -> None:
    held = {row.tobytes() for row in calibrate}
    twice = sum(row.tobytes() in held for row in evaluate)
    if twice:
        raise DataError(
            f"{twice} of {len(evaluate)} evaluation samples are calibration samples too",
            hint="Judge by samples nothing was fitted to.",
        )


def _digest(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    parts = (
        f"{name} {array.dtype} {array.shape} {digest.of_bytes(array.tobytes())}"
        for name, array in sorted(arrays.items())
    )
    return digest.of_bytes("\n".join(parts).encode())
