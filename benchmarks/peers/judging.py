"""How much worse answers are than the float model's on the same samples, with a bound.

Where a sample is right or wrong, the bound is the product's own for paired losses. Other
metrics are taken over 25 groups of the samples as well: the upper bound is the drop plus
``t s / sqrt(25)`` with ``s`` the standard deviation of the groups' drops and ``t`` the
0.95 quantile of Student's distribution with 24 degrees of freedom.
"""

from dataclasses import dataclass
from math import sqrt
from statistics import stdev

import numpy as np
from benchmarks.peers.engines import Answers
from benchmarks.peers.subjects import Subject, part_of

from edgewright.core import stats

GROUPS, _T = 25, 1.7109


@dataclass(frozen=True, slots=True)
class Drop:
    """Points lost against the float model; ``high`` is the one-sided 95 % bound."""

    points: float
    low: float
    high: float


def drop(subject: Subject, reference: Answers, answers: Answers) -> Drop:
    """Return what is lost from ``reference`` to ``answers``."""
    if subject.metric == "accuracy":
        return _of_rights(subject, reference, answers)
    samples = subject.evaluate

    def lost(which: slice) -> float:
        mine, theirs = (
            {name: array[which] for name, array in a.items()} for a in (answers, reference)
        )
        some = part_of(samples, which)
        return subject.points(theirs, theirs, some) - subject.points(mine, theirs, some)

    groups = [lost(slice(start, None, GROUPS)) for start in range(GROUPS)]
    return of_groups(lost(slice(None)), groups)


def of_groups(whole: float, groups: list[float]) -> Drop:
    """Return the drop over all samples with bounds from the drops of groups."""
    margin = _T * stdev(groups) / sqrt(len(groups))
    return Drop(whole, whole - margin, whole + margin)


def _of_rights(subject: Subject, reference: Answers, answers: Answers) -> Drop:
    label = subject.evaluate.targets["label"]
    was, now = (a["logits"].argmax(axis=1) == label for a in (reference, answers))
    lost, gained = int(np.sum(was & ~now)), int(np.sum(~was & now))
    found = stats.paired_loss(lost, gained, len(label))
    return Drop(100 * found.estimate, 100 * found.low, 100 * found.high)
