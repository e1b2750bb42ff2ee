"""Which inputs a bundle carries as golden, and what the reference answers to them."""

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import DataError
from edgewright.toolchain.measure.data import Dataset

COUNT = 32


def choose(
    answers: npt.NDArray[np.floating], data: Dataset, *, count: int = COUNT
) -> npt.NDArray[np.int64]:
    """Return which evaluation samples are golden, in the order they are kept.

    Only samples the reference answers rightly, class after class in turn, those it is
    surest of first: a golden input near a decision border would fail a good model.

    Args:
        answers: The reference's, one row an evaluation sample.
        data: Tells the right class of each.
        count: How many to choose; fewer when fewer are answered rightly.

    Raises:
        DataError: The reference answers none rightly.
    """
    ordered = np.sort(answers, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    right = answers.argmax(axis=1) == data.right
    queues = []
    for index in range(len(data.classes)):
        mine = np.flatnonzero(right & (data.right == index))
        queues.append(mine[np.argsort(-margin[mine], kind="stable")])
    longest = max((len(queue) for queue in queues), default=0)
    chosen = [
        int(queue[rank]) for rank in range(longest) for queue in queues if rank < len(queue)
    ]
    if not chosen:
        raise DataError(
            "the reference answers no evaluation sample rightly, so none can be golden",
            hint="Check the labels and the reference.",
        )
    return np.array(chosen[:count], dtype=np.int64)
