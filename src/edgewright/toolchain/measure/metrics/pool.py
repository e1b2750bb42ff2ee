"""Scores of all samples together, compared on the same resamples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil, floor

import numpy as np
import numpy.typing as npt

from edgewright.core.evidence import Paired, PairedScores
from edgewright.core.stats import Interval
from edgewright.toolchain.measure import bounds
from edgewright.toolchain.measure.bounds import Scores
from edgewright.toolchain.measure.metrics import Answers

_MICRO = 1_000_000

# The score of samples that count so often.
Weighted = Callable[[Scores], float]


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """A score of all samples, and one of each class if there are any.

    Attributes:
        n: How many samples there are.
        scores: Makes of answers the scores by label, ``overall`` first.
        reference: Those of the reference.
        sizes: How many samples each label is about; all where it is not named.
        resamples: How many are drawn for the bounds.
    """

    n: int
    scores: Callable[[Answers], Mapping[str, Weighted]]
    reference: Mapping[str, Weighted]
    sizes: Mapping[str, int] = field(default_factory=dict)
    resamples: int = bounds.RESAMPLES

    def compare(self, candidate: Answers) -> tuple[Paired, ...]:
        """Return how the candidate scores, label by label."""
        mine = self.scores(candidate)
        rows = []
        for label, reference in self.reference.items():
            # A class that the reference itself finds nothing of says nothing of a loss.
            if not np.isfinite(reference(np.ones(self.n))):
                continue
            loss = bounds.pooled(reference, mine[label], self.n, resamples=self.resamples)
            how = f"paired, {self.resamples} resamples"
            score = reference(np.ones(self.n))
            rows.append(row(label, self.sizes.get(label, self.n), score, loss, how))
        return tuple(rows)

    def golden(self) -> npt.NDArray[np.int64]:
        """Return samples spread evenly over all."""
        return spread(self.n)


def row(label: str, n: int, reference: float, loss: Interval, how: str) -> PairedScores:
    """Return a row in millionths, its bounds rounded outwards."""
    mine = round(reference * _MICRO)
    theirs = round((reference - loss.estimate) * _MICRO)
    return PairedScores(
        label=label,
        n=n,
        reference_micro=mine,
        candidate_micro=theirs,
        low_micro=min(floor(loss.low * _MICRO), mine - theirs),
        high_micro=max(ceil(loss.high * _MICRO), mine - theirs),
        how=how,
    )


def spread(n: int) -> npt.NDArray[np.int64]:
    """Return the numbers below ``n``, those first that halve what is left between them."""
    order = sorted(range(n), key=lambda i: (_reversed_bits(i), i))
    return np.array(order, dtype=np.int64)


def _reversed_bits(number: int) -> float:
    share, part = 0.0, 0.5
    while number:
        share += part * (number & 1)
        number, part = number >> 1, part / 2
    return share
