"""What a model of the suite answers, through onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from benchmarks.suite.data import Samples

_BATCH = 100


def answers_of(model: Path, samples: Samples) -> dict[str, npt.NDArray[Any]]:
    """Return what the file ``model`` answers to ``samples``, by output name."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    parts = [
        session.run(None, {k: v[start : start + _BATCH] for k, v in samples.inputs.items()})
        for start in range(0, len(samples), _BATCH)
    ]
    return {
        name: np.concatenate([part[index] for part in parts])
        for index, name in enumerate(names)
    }
