"""Class by class: which samples are answered rightly, and which only by one of the two."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import DataError, ModelError, UsageError
from edgewright.core.evidence import Paired, PairedCounts
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.measure.data import Dataset
from edgewright.toolchain.measure.metrics import Answers, Kind, scores_of


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """Right or wrong, sample by sample.

    Attributes:
        labels: The right class of each sample.
        classes: Names of the classes.
        place: Which output holds the scores.
        among: A class counts as named among so many of the likeliest.
        scores: The reference's.
    """

    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    place: int
    among: int
    scores: npt.NDArray[np.floating]

    def right(self, scores: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        """Return for each sample whether its class is named."""
        if self.among == 1:
            found: npt.NDArray[np.bool_] = scores.argmax(axis=1) == self.labels
            return found
        own = scores[np.arange(len(scores)), self.labels][:, None]
        # Of equal scores the class with the smaller number stands before.
        ahead = (scores > own).sum(axis=1)
        earlier = np.arange(scores.shape[1]) < self.labels[:, None]
        ahead += ((scores == own) & earlier).sum(axis=1)
        among: npt.NDArray[np.bool_] = ahead < self.among
        return among

    def compare(self, candidate: Answers) -> tuple[Paired, ...]:
        """Return the counts overall and of every class that has samples."""
        reference, right = self.right(self.scores), self.right(candidate[self.place])
        rows = [_counts("overall", reference, right)]
        for index, name in enumerate(self.classes):
            mine = self.labels == index
            if mine.any():
                rows.append(_counts(name, reference[mine], right[mine]))
        return tuple(rows)

    def golden(self) -> npt.NDArray[np.int64]:
        """Return what the reference answers rightly, class after class in turn.

        Those it is surest of come first: a golden input near a decision border would fail
        a good model.
        """
        ordered = np.sort(self.scores, axis=1)
        margin = ordered[:, -1] - ordered[:, -2]
        right = self.scores.argmax(axis=1) == self.labels
        queues = []
        for index in range(len(self.classes)):
            mine = np.flatnonzero(right & (self.labels == index))
            queues.append(mine[np.argsort(-margin[mine], kind="stable")])
        longest = max((len(queue) for queue in queues), default=0)
        chosen = [
            int(queue[rank])
            for rank in range(longest)
            for queue in queues
            if rank < len(queue)
        ]
        if not chosen:
            raise DataError(
                "the reference answers no evaluation sample rightly, so none can be golden",
                hint="Check the labels and the reference.",
            )
        return np.array(chosen, dtype=np.int64)


def _accuracy(
    data: Dataset, outputs: Sequence[TensorSpec], reference: Answers, *, detail: str
) -> Classes:
    place = _place(outputs)
    labels = data.labels
    if labels is None or labels.ndim != 1:
        raise DataError(
            "accuracy needs the right class of each evaluation sample, and there is none",
            hint="Give labels, or judge by --metric fidelity.",
        )
    among = int(detail or 1)
    if among >= reference[place].shape[1]:
        raise UsageError(
            f"top-{among} of {reference[place].shape[1]} classes is always right",
            hint="Ask for fewer, or for accuracy.",
        )
    return Classes(labels, data.classes, place, among, reference[place])


def _fidelity(
    data: Dataset, outputs: Sequence[TensorSpec], reference: Answers, *, detail: str
) -> Classes:
    del detail
    place = _place(outputs)
    # What the reference answers is right, by definition: fidelity to it.
    own = reference[place].argmax(axis=1).astype(np.int64)
    return Classes(own, data.classes, place, 1, reference[place])


def _place(outputs: Sequence[TensorSpec]) -> int:
    place = scores_of(outputs)
    if place is None:
        listed = ", ".join(f"{s.name} {s.dtype} {list(s.shape)}" for s in outputs)
        raise ModelError(
            "accuracy judges one output that is a row of at least two float scores; "
            f"the model answers {listed}",
            hint="Export the class scores before any argmax, or choose another --metric.",
        )
    return place


def _counts(
    label: str, reference: npt.NDArray[np.bool_], candidate: npt.NDArray[np.bool_]
) -> PairedCounts:
    return PairedCounts(
        label=label,
        n=len(reference),
        reference_right=int(reference.sum()),
        lost=int((reference & ~candidate).sum()),
        gained=int((~reference & candidate).sum()),
    )


KINDS: dict[str, Kind] = {"accuracy": _accuracy, "top-5": _accuracy, "fidelity": _fidelity}
