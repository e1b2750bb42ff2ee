"""What a written model answers to real samples."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import ModelError
from edgewright.runtime.engines import Engine
from edgewright.toolchain.ir.samples import Samples

# Samples a run where the model takes any number: large enough to pay, small enough to
# stay in the cache.
_BATCH = 64

Answers = tuple[npt.NDArray[Any], ...]


def answers(
    engine: Engine, model: Path, samples: Samples, *, one_by_one: bool = False
) -> Answers:
    """Return what the file ``model`` answers: for each output an array, the sample first.

    Args:
        engine: What runs it.
        model: A file of that engine.
        samples: What it is asked.
        one_by_one: In runs of one, as a device asks.

    Raises:
        EngineError: The engine cannot load or run it.
        ModelError: It answers with NaN, or not once for each sample.
    """
    session = engine.load(model)
    try:
        fixed = any(spec.shape[0] != -1 for spec in session.inputs) or one_by_one
        runs = [
            [np.asarray(array) for array in session.run(feed)]
            for feed in samples.batches(1 if fixed else _BATCH)
        ]
        names = [spec.name for spec in session.outputs]
    finally:
        session.close()
    return tuple(
        _whole(model.name, name, [run[place] for run in runs], len(samples))
        for place, name in enumerate(names)
    )


def _whole(
    model: str, name: str, parts: list[npt.NDArray[Any]], count: int
) -> npt.NDArray[Any]:
    """Return one output's answers to all samples, which must be numbers."""
    try:
        found = np.concatenate(parts)
    except ValueError as error:
        raise ModelError(
            f"output {name!r} of {model} does not answer all samples in one shape: {error}",
            hint="Give samples of one size, padded as on the device.",
        ) from error
    if len(found) != count:
        raise ModelError(
            f"output {name!r} of {model} answers {len(found)} rows to {count} samples",
            hint="The first dimension of every output must be the sample.",
        )
    if found.dtype.kind == "f" and np.isnan(found).any():
        bad = int(np.isnan(found).any(axis=tuple(range(1, found.ndim))).sum())
        raise ModelError(
            f"{model} answers NaN to {bad} of {count} samples",
            hint="A model that cannot answer real inputs cannot be judged.",
        )
    return found
