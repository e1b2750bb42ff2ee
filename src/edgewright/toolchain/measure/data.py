"""Real inputs with what is right for them: one part to calibrate on, one to judge by.

No sample may be in both: what a range was taken from flatters what is judged by it.
Where nobody says what is right the reference's own answers are: then what is judged is
fidelity to the reference, and it is called so. An array that may well be the labels
under another name is asked about, never passed over.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core import digest
from edgewright.core.errors import DataError
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.ir.samples import Samples, check_fit

Array = npt.NDArray[Any]

_CORNERS = 4
# A copy that was rounded otherwise differs by less than this share of its size.
_COPY = 1e-5
_MARKS, _ROWS = 20_240_301, 256


@dataclass(frozen=True, slots=True)
class DataKeys:
    """What the arrays of an npz file, or the columns of a table, are called.

    Attributes:
        calibrate_inputs: Real inputs to take ranges from; no labels are needed. Where the
            model has several inputs, ``calibrate_NAME`` for each of them.
        evaluate_inputs: Inputs to judge by; ``evaluate_NAME`` where there are several.
        evaluate_labels: The right class of each, from 0; may be missing.
        calibrate_labels: The same of the calibration inputs, to see which classes they have.
        evaluate_targets: The right numbers of each, for a mean error; may be missing.
        evaluate_boxes: The right boxes of each, ``(n, m, 4)``; the labels are ``(n, m)``
            then, -1 where there is no box.
        label: The column of a table that holds the class.
    """

    calibrate_inputs: str = "calibrate_images"
    evaluate_inputs: str = "evaluate_images"
    evaluate_labels: str = "evaluate_labels"
    calibrate_labels: str = "calibrate_labels"
    evaluate_targets: str = "evaluate_targets"
    evaluate_boxes: str = "evaluate_boxes"
    label: str = "label"


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What a form of data holds, before it is checked against a model.

    Attributes:
        where: What messages call it.
        evaluate: Inputs to judge by, by the model's names.
        calibrate: Inputs to take ranges from; empty where there are none.
        labels: The right class of each evaluation sample.
        calibrate_labels: The same of the calibration samples.
        targets: The right numbers of each evaluation sample.
        boxes: The right boxes of each evaluation sample.
        classes: Names of the classes, where the data say them.
    """

    where: str
    evaluate: Mapping[str, Array]
    calibrate: Mapping[str, Array] = field(default_factory=dict)
    labels: Array | None = None
    calibrate_labels: Array | None = None
    targets: Array | None = None
    boxes: Array | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Samples that fit a model.

    Attributes:
        calibrate: Inputs to take ranges from; may hold none.
        evaluate: Inputs to judge by; at least one.
        labels: int64, the right class of each evaluation sample; None where nobody said.
        classes: Names of the classes.
        sha256: Digest of every array that was read.
        calibrate_labels: int64, the class of each calibration sample, where it is known.
        targets: The right numbers of each evaluation sample, where it is about numbers.
        boxes: The right boxes of each evaluation sample, ``(n, m, 4)``.
        synthetic: Whether the inputs were made up; nothing real is known then.
    """

    calibrate: Samples
    evaluate: Samples
    labels: npt.NDArray[np.int64] | None
    classes: tuple[str, ...]
    sha256: str
    calibrate_labels: npt.NDArray[np.int64] | None = None
    targets: Array | None = None
    boxes: Array | None = None
    synthetic: bool = False


def assemble(given: Given, inputs: Sequence[TensorSpec], classes: tuple[str, ...]) -> Dataset:
    """Return what a form of data holds, checked against a model.

    Args:
        given: What was read.
        inputs: What the model takes.
        classes: Names of the model's classes; empty where it has none.

    Raises:
        DataError: Samples that do not fit the inputs, labels that do not fit the samples or
            the classes, or a sample in both parts.
    """
    try:
        evaluate = Samples(given.evaluate)
        nothing = {name: array[:0] for name, array in given.evaluate.items()}
        calibrate = Samples(given.calibrate or nothing)
    except ValueError as error:
        raise DataError(
            f"{given.where}: {error}", hint="Give every input as many samples as the others."
        ) from error
    if not len(evaluate):
        raise DataError(
            f"{given.where} holds no evaluation samples",
            hint="Give some hundred real inputs to judge by.",
        )
    check_fit(evaluate, tuple(inputs), "evaluation samples")
    if len(calibrate):
        check_fit(calibrate, tuple(inputs), "calibration samples")
    _check_truth(given, len(evaluate), len(calibrate), len(classes))
    _check_disjoint(calibrate, evaluate)
    held = {
        "labels": given.labels, "calibrate labels": given.calibrate_labels,
        "targets": given.targets, "boxes": given.boxes,
    }  # fmt: skip
    parts = [f"calibrate {calibrate.digest}", f"evaluate {evaluate.digest}"]
    parts += [_line(name, array) for name, array in held.items() if array is not None]
    return Dataset(
        calibrate=calibrate,
        evaluate=evaluate,
        labels=_whole(given.labels),
        classes=classes,
        sha256=digest.of_bytes("\n".join(parts).encode()),
        calibrate_labels=_whole(given.calibrate_labels),
        targets=given.targets,
        boxes=given.boxes,
    )


def split(rows: Iterable[bytes], *, calibrate: int = 4, most: int = 1024) -> Array:
    """Return which samples are for calibration: by their own bytes, so by chance but fixed.

    Args:
        rows: The bytes of each sample.
        calibrate: One of so many is.
        most: At most so many are.
    """
    marks = [digest.hex_of(digest.of_bytes(row)) for row in rows]
    order = sorted(range(len(marks)), key=marks.__getitem__)
    chosen = np.zeros(len(marks), bool)
    chosen[order[: min(len(marks) // calibrate, most)]] = True
    return chosen


def _check_truth(given: Given, evaluate: int, calibrate: int, classes: int) -> None:
    if given.boxes is not None:
        _check_boxes(given.boxes, given.labels, evaluate)
    elif given.labels is not None:
        _check_labels(given.labels, "evaluation labels", evaluate, classes)
    if given.calibrate_labels is not None and given.boxes is None:
        _check_labels(given.calibrate_labels, "calibration labels", calibrate, classes)
    targets = given.targets
    if targets is not None:
        if targets.shape[:1] != (evaluate,):
            raise DataError(
                f"there are targets of shape {list(targets.shape)} for {evaluate} samples",
                hint="Give a target for each evaluation sample, in the same order.",
            )
        if targets.dtype.kind not in "fiu" or not np.isfinite(targets).all():
            raise DataError(
                "targets must be finite numbers",
                hint="Leave out samples whose target is not known.",
            )


def _check_labels(labels: Array, name: str, count: int, classes: int) -> None:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{name} must be one integer a sample, got {labels.dtype} of shape "
            f"{list(labels.shape)}",
            hint="Give the number of the class of each sample, counted from 0.",
        )
    if len(labels) != count:
        raise DataError(
            f"{len(labels)} {name} for {count} samples",
            hint="Give a label for each sample, in the same order.",
        )
    if count and not (labels.min() >= 0 and (not classes or labels.max() < classes)):
        raise DataError(
            f"{name} run from {labels.min()} to {labels.max()}, "
            f"the model answers classes 0 to {classes - 1}",
            hint="Number the classes from 0, in the order the model answers them.",
        )


def _check_boxes(boxes: Array, labels: Array | None, count: int) -> None:
    if boxes.ndim != 3 or boxes.shape[0] != count or boxes.shape[2] != _CORNERS:
        raise DataError(
            f"boxes must be of shape [{count}, m, 4], got {list(boxes.shape)}",
            hint="Give left, top, right, bottom of each; label -1 where there is none.",
        )
    if labels is None or labels.shape != boxes.shape[:2] or labels.dtype.kind not in "iu":
        shape = None if labels is None else list(labels.shape)
        raise DataError(
            f"boxes of shape {list(boxes.shape)} need integer labels of shape "
            f"{list(boxes.shape[:2])}, got {shape}",
            hint="Give the class of each box, -1 where there is none.",
        )


def _check_disjoint(calibrate: Samples, evaluate: Samples) -> None:
    if not len(calibrate):
        return
    (one, _), (other, near) = _marks(calibrate), _marks(evaluate)
    one = one[np.argsort(one[:, 0], kind="stable")]
    low = np.searchsorted(one[:, 0], other[:, 0] - near, side="left")
    high = np.searchsorted(one[:, 0], other[:, 0] + near, side="right")
    twice = sum(
        bool((np.abs(one[first:last] - mark) <= room).all(axis=1).any())
        for mark, room, first, last in zip(other, near, low, high, strict=True)
    )
    if twice:
        raise DataError(
            f"{twice} of {len(evaluate)} evaluation samples are calibration samples too",
            hint="Judge by samples nothing was fitted to.",
        )


def _marks(
    samples: Samples,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return four numbers a sample, and how far a copy's may be from them.

    Each is the sample's inner product with a fixed random direction: copies have the same,
    to a share of the sample's size if they were rounded otherwise.
    """
    total = np.zeros((len(samples), 4))
    size = np.zeros(len(samples))
    for place, name in enumerate(sorted(samples.arrays)):
        array = samples.arrays[name]
        flat = array.reshape(len(array), -1)
        rng = np.random.default_rng([_MARKS, place])
        direction = rng.normal(size=(flat.shape[1], 4))
        for start in range(0, len(flat), _ROWS):
            rows = flat[start : start + _ROWS].astype(np.float64)
            total[start : start + _ROWS] += rows @ direction
            size[start : start + _ROWS] += np.square(rows).sum(axis=1)
    return total, _COPY * np.sqrt(size)


def _whole(labels: Array | None) -> npt.NDArray[np.int64] | None:
    return None if labels is None else labels.astype(np.int64)


def _line(name: str, array: Array) -> str:
    return f"{name} {array.dtype} {array.shape} {digest.of_bytes(array.tobytes())}"
