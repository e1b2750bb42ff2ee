"""How alike answers are to the reference's, where nothing is right or wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgewright.core.evidence import Paired
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.measure import bounds
from edgewright.toolchain.measure.bounds import Scores
from edgewright.toolchain.measure.data import Dataset
from edgewright.toolchain.measure.metrics import Answers, Kind
from edgewright.toolchain.measure.metrics.pool import row, spread


@dataclass(frozen=True, slots=True, eq=False)
class Cosine:
    """The cosine of each answer with the reference's, all outputs' numbers in a row."""

    names: tuple[str, ...]
    reference: Answers

    def compare(self, candidate: Answers) -> tuple[Paired, ...]:
        """Return the mean of all outputs, then each output where there are several."""
        each = {
            name: cosines(mine, theirs)
            for name, mine, theirs in zip(self.names, self.reference, candidate, strict=True)
        }
        # An output that is lost is not made up for by the others.
        found = {"overall": np.min(list(each.values()), axis=0)}
        if len(each) > 1:
            found |= each
        return tuple(_row(label, scores) for label, scores in found.items())

    def golden(self) -> npt.NDArray[np.int64]:
        """Return samples spread evenly over all."""
        return spread(len(self.reference[0]))


def cosines(reference: npt.NDArray[np.generic], candidate: npt.NDArray[np.generic]) -> Scores:
    """Return the cosine of each row with the other's, 0 to 1; two rows of zeros are alike."""
    one, other = (a.reshape(len(a), -1).astype(np.float64) for a in (reference, candidate))
    inner = (one * other).sum(axis=1)
    sizes = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    same = (one == other).all(axis=1)
    found: Scores = np.where(same, 1.0, inner / np.where(sizes, sizes, 1.0)).clip(0.0, 1.0)
    return found


def _row(label: str, scores: Scores) -> Paired:
    loss = bounds.paired(np.ones(len(scores)), scores)
    return row(label, len(scores), 1.0, loss, "paired, by betting")


def _cosine(
    data: Dataset, outputs: Sequence[TensorSpec], reference: Answers, *, detail: str
) -> Cosine:
    del data, detail
    return Cosine(tuple(spec.name for spec in outputs), reference)


KINDS: dict[str, Kind] = {"cosine": _cosine}
