"""F1, the area under the receiver's curve, the mean absolute error, and overlap by place."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import DataError, ModelError
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.measure.bounds import Scores
from edgewright.toolchain.measure.data import Dataset
from edgewright.toolchain.measure.metrics import Answers, Kind, scores_of
from edgewright.toolchain.measure.metrics.pool import Pool, Weighted

_BOTH = 2


def f1(
    data: Dataset, outputs: Sequence[TensorSpec], reference: Answers, *, detail: str
) -> Pool:
    """Return the metric of F1: the mean over the classes, and each of them."""
    del detail
    labels = _labels(data, "f1")
    place = scores_of(outputs)
    if place is None:
        raise ModelError(
            "f1 judges one output that is a row of at least two float scores",
            hint="Export the class scores, before any argmax.",
        )

    def scores(answers: Answers) -> Mapping[str, Weighted]:
        named = answers[place].argmax(axis=1)
        found = {
            name: _f1(labels == index, named == index)
            for index, name in enumerate(data.classes)
            if (labels == index).any()
        }

        return {"overall": _mean(found.values()), **found}

    sizes = {name: int((labels == index).sum()) for index, name in enumerate(data.classes)}
    return Pool(len(labels), scores, scores(reference), sizes)


def auc(
    data: Dataset, outputs: Sequence[TensorSpec], reference: Answers, *, detail: str
) -> Pool:
    """Return the metric of the area: label 1 is positive, 0 is not.

    The score of a sample is the output's one number, the second of two, or how far a
    model that answers its own input is from it (a mean square).
    """
    del detail
    labels = _labels(data, "auc")
    if set(np.unique(labels)) != {0, 1}:
        raise DataError(
            f"auc needs labels 0 and 1, got {sorted(set(labels.tolist()))[:10]}",
            hint="Label what is to be found with 1 and everything else with 0.",
        )
    positive = labels == 1

    def scores(answers: Answers) -> Mapping[str, Weighted]:
        return {"overall": _area(_certainty(data, outputs, answers), positive)}

    return Pool(len(labels), scores, scores(reference))


def mae(
    data: Dataset, outputs: Sequence[TensorSpec], reference: Answers, *, detail: str
) -> Pool:
    """Return the metric of the mean absolute error.

    It is told as ``1 - error / spread``, where the spread is the mean absolute distance
    of the targets from their median: 1 is no error, 0 is always answering the median.
    """
    del detail
    targets = data.targets
    if targets is None:
        raise DataError(
            "mae needs the right numbers of each evaluation sample",
            hint="Add evaluate_targets to the data, or judge by another metric: --metric.",
        )
    if len(outputs) != 1 or reference[0].size != targets.size:
        raise ModelError(
            f"mae compares one output with {list(targets.shape)} targets; the model answers "
            f"{', '.join(str(list(a.shape)) for a in reference)}",
            hint="Give targets of the shape of the output, the sample first.",
        )
    flat = targets.reshape(len(targets), -1).astype(np.float64)
    scale = float(np.abs(flat - np.median(flat, axis=0)).mean())
    if scale == 0:
        raise DataError(
            "mae has no scale: all targets are the same",
            hint="Give samples whose targets differ, or judge by another metric: --metric.",
        )

    def scores(answers: Answers) -> Mapping[str, Weighted]:
        error = np.abs(answers[0].reshape(flat.shape) - flat).mean(axis=1) / scale
        return {"overall": lambda weights: 1 - float(weights @ error) / float(weights.sum())}

    return Pool(len(flat), scores, scores(reference))


def iou(
    data: Dataset, outputs: Sequence[TensorSpec], reference: Answers, *, detail: str
) -> Pool:
    """Return the metric of classes by place: intersection over union, mean and by class."""
    del detail
    targets = data.targets
    scores_at = reference[0].shape
    if targets is None or targets.dtype.kind not in "iu":
        raise DataError(
            "iou needs the right class of each place, whole numbers as targets",
            hint="Add evaluate_targets to the data: the class of each place.",
        )
    if len(outputs) != 1 or (scores_at[0], *scores_at[2:]) != targets.shape:
        raise ModelError(
            f"iou compares one output [n, classes, ...] with {list(targets.shape)} targets; "
            f"the model answers {', '.join(str(list(a.shape)) for a in reference)}",
            hint="Give targets of the shape of the output without its classes.",
        )
    flat = targets.reshape(len(targets), -1)
    count = scores_at[1]
    names = data.classes if len(data.classes) == count else tuple(map(str, range(count)))

    def scores(answers: Answers) -> Mapping[str, Weighted]:
        named = answers[0].argmax(axis=1).reshape(flat.shape)
        found = {name: _overlap(flat == k, named == k) for k, name in enumerate(names)}
        return {"overall": _mean(found.values()), **found}

    return Pool(len(flat), scores, scores(reference))


def _overlap(true: npt.NDArray[np.bool_], named: npt.NDArray[np.bool_]) -> Weighted:
    both = (true & named).sum(axis=1).astype(np.float64)
    either = (true | named).sum(axis=1).astype(np.float64)

    def score(weights: Scores) -> float:
        total = float(weights @ either)
        return float(weights @ both) / total if total else float("nan")

    return score


def _mean(each: Collection[Weighted]) -> Weighted:
    """Return the mean of those scores that there are."""

    def score(weights: Scores) -> float:
        known = [one for one in (part(weights) for part in each) if np.isfinite(one)]
        return float(np.mean(known)) if known else float("nan")

    return score


def _labels(data: Dataset, name: str) -> npt.NDArray[np.int64]:
    if data.labels is None or data.labels.ndim != 1:
        raise DataError(
            f"{name} needs the right class of each evaluation sample",
            hint="Add evaluate_labels to the data, or judge by fidelity.",
        )
    return data.labels


def _f1(true: npt.NDArray[np.bool_], named: npt.NDArray[np.bool_]) -> Weighted:
    both, either = true & named, true.astype(np.float64) + named

    def score(weights: Scores) -> float:
        # A resample without the class has no score of it.
        if not (weights @ true):
            return float("nan")
        return float(_BOTH * (weights @ both) / (weights @ either))

    return score


def _certainty(
    data: Dataset, outputs: Sequence[TensorSpec], answers: Answers
) -> npt.NDArray[np.floating]:
    if len(outputs) == 1:
        (found,) = answers
        flat = found.reshape(len(found), -1)
        if flat.shape[1] <= _BOTH:
            certain: npt.NDArray[np.floating] = flat[:, -1]
            return certain
        asked = list(data.evaluate.arrays.values())
        if len(asked) == 1 and asked[0].shape == found.shape:
            apart = np.square(found.astype(np.float64) - asked[0])
            error: npt.NDArray[np.floating] = apart.reshape(len(found), -1).mean(axis=1)
            return error
    raise ModelError(
        "auc judges one output of one number, of two, or of the input's own shape; the "
        f"model answers {', '.join(str(list(spec.shape)) for spec in outputs)}",
        hint="Judge this model by another metric: --metric.",
    )


def _area(certainty: npt.NDArray[np.floating], positive: npt.NDArray[np.bool_]) -> Weighted:
    order = np.argsort(certainty, kind="stable")
    sorted_by = certainty[order]
    # Equal scores share a place: half of their pairs count.
    first = np.searchsorted(sorted_by, sorted_by, side="left")
    after = np.searchsorted(sorted_by, sorted_by, side="right")
    found = positive[order]

    def score(weights: Scores) -> float:
        mine = weights[order]
        below = np.concatenate([[0.0], np.cumsum(np.where(found, 0.0, mine))])
        total = below[-1] * float(mine[found].sum())
        if not total:
            return float("nan")
        pairs = (below[first] + below[after]) / 2
        return float((mine * pairs)[found].sum() / total)

    return score


KINDS: dict[str, Kind] = {"f1": f1, "auc": auc, "mae": mae, "iou": iou}
