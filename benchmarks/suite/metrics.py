"""How good answers are, in points from 0 to 100; numpy alone.

Average precision is the area under the precision envelope over recall, as in PASCAL VOC
2010 and later, at an overlap of 1/2. The area under the receiver's curve is the share of
pairs, one fault and one normal, in which the fault has the larger error.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from benchmarks.suite.data import Samples

Array = npt.NDArray[Any]
Answers = Mapping[str, Array]

_OVERLAP, _LEAST_SCORE = 0.5, 0.05


def accuracy(answers: Answers, samples: Samples) -> float:
    """Return the share of samples whose largest logit is the right one."""
    return 100 * float((answers["logits"].argmax(axis=1) == samples.targets["label"]).mean())


def mean_overlap(answers: Answers, samples: Samples) -> float:
    """Return the intersection over union of each class over all pixels, averaged."""
    found, true = answers["logits"].argmax(axis=1), samples.targets["mask"]
    classes = answers["logits"].shape[1]
    shares = [
        ((found == k) & (true == k)).sum() / ((found == k) | (true == k)).sum()
        for k in range(classes)
    ]
    return 100 * float(np.mean(shares))


def errors(answers: Answers, samples: Samples) -> Array:
    """Return the mean squared error of each reconstruction, ``(n,)``."""
    (wanted,) = samples.inputs.values()
    square = np.square(answers["again"].astype(np.float64) - wanted)
    mean: Array = square.mean(axis=1)
    return mean


def fault_area(answers: Answers, samples: Samples) -> float:
    """Return the area under the receiver's curve of the error of reconstruction."""
    error, faulty = errors(answers, samples), samples.targets["label"] == 1
    normal = np.sort(error[~faulty])
    below = np.searchsorted(normal, error[faulty], side="left")
    not_above = np.searchsorted(normal, error[faulty], side="right")
    return 100 * float((below + not_above).mean() / 2 / len(normal))


def average_precision(answers: Answers, samples: Samples) -> float:
    """Return the average precision of each class, averaged."""
    boxes, scores = answers["boxes"], answers["scores"]
    true_boxes, true_label = samples.targets["boxes"], samples.targets["label"]
    found = []
    for kind in range(scores.shape[2]):
        hits, certainty = [], []
        for sample in range(len(boxes)):
            kept, score = _distinct(boxes[sample], scores[sample, :, kind])
            hits.append(_hits(kept, true_boxes[sample][true_label[sample] == kind]))
            certainty.append(score)
        order = np.argsort(-np.concatenate(certainty), kind="stable")
        found.append(_area(np.concatenate(hits)[order], int((true_label == kind).sum())))
    return 100 * float(np.mean(found))


def _distinct(boxes: Array, scores: Array) -> tuple[Array, Array]:
    """Return the boxes no better box covers by half, best first, and their scores."""
    likely = np.flatnonzero(scores > _LEAST_SCORE)
    left = likely[np.argsort(-scores[likely], kind="stable")]
    kept = []
    while len(left):
        kept.append(left[0])
        left = left[1:][_overlaps(boxes[left[0]], boxes[left[1:]]) <= _OVERLAP]
    return boxes[kept], scores[kept]


def _hits(boxes: Array, true: Array) -> Array:
    """Return for each box, best first, whether it finds a figure not yet found."""
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


def _area(hits: Array, count: int) -> float:
    """Return the area under precision over recall; ``hits`` are the most certain first."""
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[hits].sum() / count)
