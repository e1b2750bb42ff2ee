"""Mean average precision of boxes with scores, one head each.

Average precision is the area under the precision envelope over recall, as in PASCAL VOC
2010 and later, at an overlap of 1/2. Both models pass through the same suppression: of
boxes that overlap by more than a half the likeliest stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import DataError, ModelError
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.measure.bounds import Scores
from edgewright.toolchain.measure.data import Dataset
from edgewright.toolchain.measure.metrics import Answers, Kind
from edgewright.toolchain.measure.metrics.pool import Pool, Weighted

Array = npt.NDArray[Any]

_OVERLAP, _LEAST_SCORE = 0.5, 0.05
_CORNERS = 4
_RESAMPLES = 399  # each looks at every box again


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The boxes of one class, the likeliest first.

    Attributes:
        sample: Which sample each is from.
        hit: Whether it finds an object nothing likelier has found.
        wanted: How many objects of the class each sample has.
    """

    sample: npt.NDArray[np.int64]
    hit: npt.NDArray[np.bool_]
    wanted: npt.NDArray[np.int64]

    def __call__(self, weights: Scores) -> float:
        """Return the average precision of samples that count so often."""
        total = float(weights @ self.wanted)
        if not total:
            return float("nan")
        share = weights[self.sample]
        right, seen = np.cumsum(share * self.hit), np.cumsum(share)
        precision = right / np.maximum(seen, 1e-12)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        return float((envelope * share)[self.hit].sum() / total)


def average_precision(
    data: Dataset, outputs: Sequence[TensorSpec], reference: Answers, *, detail: str
) -> Pool:
    """Return the metric: the mean over the classes, and each of them."""
    del detail
    if data.boxes is None or data.labels is None:
        raise DataError(
            "map needs the boxes of each evaluation sample and their classes",
            hint="Give evaluate_boxes (n, m, 4) and evaluate_labels (n, m), -1 for none.",
        )
    boxes, scores = heads(outputs)
    truth, labels = data.boxes, data.labels
    kinds = reference[scores].shape[2]
    names = data.classes if len(data.classes) == kinds else tuple(map(str, range(kinds)))

    def judged(answers: Answers) -> Mapping[str, Weighted]:
        found = {
            name: _found(answers[boxes], answers[scores][:, :, kind], truth, labels == kind)
            for kind, name in enumerate(names)
        }

        def mean(weights: Scores) -> float:
            each = [one(weights) for one in found.values()]
            known = [one for one in each if np.isfinite(one)]
            return float(np.mean(known)) if known else float("nan")

        return {"overall": mean, **found}

    sizes = {name: int((labels == kind).sum()) for kind, name in enumerate(names)}
    seen = {name: size for name, size in sizes.items() if size}
    return Pool(len(truth), judged, judged(reference), seen, _RESAMPLES)


def heads(outputs: Sequence[TensorSpec]) -> tuple[int, int]:
    """Return which output holds the boxes, ``(n, m, 4)``, and which the scores.

    Raises:
        ModelError: It cannot be told.
    """
    deep = [i for i, spec in enumerate(outputs) if len(spec.shape) == 3]
    boxes = [i for i in deep if outputs[i].shape[2] == _CORNERS]
    named = [i for i in boxes if "box" in outputs[i].name.lower()]
    if len(boxes) > 1 and len(named) == 1:
        boxes = named
    others = [i for i in deep if i not in boxes]
    if len(boxes) != 1 or len(others) != 1:
        listed = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in outputs)
        raise ModelError(
            "map judges an output of boxes [n, m, 4] and one of scores [n, m, classes]; the "
            f"model answers {listed}",
            hint="Export both heads as outputs of their own, or judge with a function.",
        )
    return boxes[0], others[0]


def _found(boxes: Array, scores: Array, truth: Array, mine: Array) -> Found:
    hits, certainty, sample = [], [], []
    for index in range(len(boxes)):
        kept, score = _distinct(boxes[index], scores[index])
        hits.append(_hits(kept, truth[index][mine[index]]))
        certainty.append(score)
        sample.append(np.full(len(kept), index, np.int64))
    order = np.argsort(-np.concatenate(certainty), kind="stable")
    return Found(np.concatenate(sample)[order], np.concatenate(hits)[order], mine.sum(axis=1))


def _distinct(boxes: Array, scores: Array) -> tuple[Array, Array]:
    """Return the boxes no likelier box covers by half, the likeliest first, and scores."""
    likely = np.flatnonzero(scores > _LEAST_SCORE)
    left = likely[np.argsort(-scores[likely], kind="stable")]
    kept: list[int] = []
    while len(left):
        kept.append(int(left[0]))
        left = left[1:][_overlaps(boxes[left[0]], boxes[left[1:]]) <= _OVERLAP]
    return boxes[kept], scores[kept]


def _hits(boxes: Array, true: Array) -> Array:
    """Return for each box, the likeliest first, whether it finds what was not found yet."""
    hits = np.zeros(len(boxes), bool)
    missing = list(range(len(true)))
    for index, box in enumerate(boxes):
        if not missing:
            break
        shares = _overlaps(box, true[missing])
        if shares.max() >= _OVERLAP:
            hits[index] = True
            del missing[int(shares.argmax())]
    return hits


def _overlaps(box: Array, others: Array) -> Array:
    """Return the intersection over union of ``box`` with each of ``others``."""
    inner = np.minimum(box, others)[:, 2:] - np.maximum(box, others)[:, :2]
    shared = inner.clip(0).prod(axis=1)
    sizes = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    share: Array = shared / np.maximum(sizes - shared, 1e-9)
    return share


KINDS: dict[str, Kind] = {"map": average_precision}
