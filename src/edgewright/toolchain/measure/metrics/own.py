"""A function of the user's: ``module:callable``.

It is called with the answers, a list with an array for each output, and with a mapping of
what the data hold of the same samples: the inputs by name, and ``labels``, ``targets`` and
``boxes`` where there are any. It returns a score for each sample, from 0 to 1 and 1 at best,
or one number for all; then the samples are drawn again and again to find its bounds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import DataError
from edgewright.core.evidence import Paired
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.measure import bounds
from edgewright.toolchain.measure.bounds import Scores
from edgewright.toolchain.measure.data import Dataset
from edgewright.toolchain.measure.metrics import Answers, Kind
from edgewright.toolchain.measure.metrics.pool import Pool, Weighted, row, spread
from edgewright.toolchain.measure.named import function

_RESAMPLES = 199  # each calls a function of unknown cost


@dataclass(frozen=True, slots=True, eq=False)
class Each:
    """A score of each sample."""

    score: Callable[[Answers], Scores]
    reference: Scores

    def compare(self, candidate: Answers) -> tuple[Paired, ...]:
        """Return the mean over all samples."""
        loss = bounds.paired(self.reference, self.score(candidate))
        mean = float(self.reference.mean())
        return (row("overall", len(self.reference), mean, loss, "paired, by betting"),)

    def golden(self) -> npt.NDArray[np.int64]:
        """Return samples spread evenly over all."""
        return spread(len(self.reference))


def _own(
    data: Dataset, outputs: Sequence[TensorSpec], reference: Answers, *, detail: str
) -> Each | Pool:
    del outputs
    call, n = function(detail), len(data.evaluate)
    truth = _truth(data)
    first = np.asarray(call(list(reference), truth), np.float64)
    if first.ndim:
        return Each(lambda answers: _checked(call(list(answers), truth), n, detail),
                    _checked(first, n, detail))  # fmt: skip

    def scores(answers: Answers) -> Mapping[str, Weighted]:
        def weighted(weights: Scores) -> float:
            drawn = np.repeat(np.arange(n), weights.astype(np.int64))
            some = {name: values[drawn] for name, values in truth.items()}
            score = float(call([a[drawn] for a in answers], some))
            if not -1e3 <= score <= 1:
                raise DataError(
                    f"{detail} returned {score}, a score is at most 1",
                    hint="Return a share: 1 is perfect, lower is worse.",
                )
            return score

        return {"overall": weighted}

    return Pool(n, scores, scores(reference), resamples=_RESAMPLES)


def _truth(data: Dataset) -> dict[str, npt.NDArray[Any]]:
    held = {"labels": data.labels, "targets": data.targets, "boxes": data.boxes}
    known = {name: values for name, values in held.items() if values is not None}
    return {**data.evaluate.arrays, **known}


def _checked(scores: Any, n: int, name: str) -> Scores:
    found = np.asarray(scores, np.float64)
    if found.shape != (n,) or not ((found >= 0) & (found <= 1)).all():
        raise DataError(
            f"{name} returned {list(found.shape)} scores from {found.min():.3g} to "
            f"{found.max():.3g} for {n} samples; one from 0 to 1 for each is wanted",
            hint="Return one score from 0 to 1 for each sample, as an array.",
        )
    return found


KINDS: dict[str, Kind] = {"own": _own}
