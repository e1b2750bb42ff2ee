"""How the answers of a written model compare with the reference's, sample by sample."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import ModelError
from edgewright.core.evidence import PairedCounts
from edgewright.runtime.engines import Engine
from edgewright.toolchain.measure.data import Dataset

# Samples a run where the model takes any number: large enough to pay, small enough to
# stay in the cache.
_BATCH = 64


def answers(
    engine: Engine, model: Path, samples: npt.NDArray[Any], *, one_by_one: bool = False
) -> npt.NDArray[np.floating[Any]]:
    """Return what the file ``model`` answers, one row a sample.

    Args:
        engine: What runs it.
        model: A file of that engine, with one input and one output.
        samples: Inputs, first dimension the sample.
        one_by_one: In runs of one, as a device asks.

    Raises:
        EngineError: The engine cannot load or run it.
        ModelError: It answers with NaN.
    """
    session = engine.load(model)
    try:
        (spec,) = session.inputs
        fixed = spec.shape[0] != -1 or one_by_one
        size = 1 if fixed else _BATCH
        rows = [
            np.asarray(session.run({spec.name: samples[start : start + size]})[0])
            for start in range(0, len(samples), size)
        ]
    finally:
        session.close()
    found = np.concatenate(rows)
    if np.isnan(found).any():
        bad = int(np.isnan(found).any(axis=tuple(range(1, found.ndim))).sum())
        raise ModelError(
            f"{model.name} answers NaN to {bad} of {len(samples)} samples",
            hint="A model that cannot answer real inputs cannot be judged.",
        )
    return found


def paired_counts(
    reference: npt.NDArray[np.bool_], candidate: npt.NDArray[np.bool_], data: Dataset
) -> tuple[PairedCounts, ...]:
    """Return the counts ``overall`` and of every class that has samples.

    Args:
        reference: For each evaluation sample, whether the reference answers rightly.
        candidate: The same of the candidate.
        data: Tells the class of each sample.
    """
    rows = [_counts("overall", reference, candidate)]
    for index, name in enumerate(data.classes):
        mine = data.right == index
        if mine.any():
            rows.append(_counts(name, reference[mine], candidate[mine]))
    return tuple(rows)


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
