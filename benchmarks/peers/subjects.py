"""What is compressed: the models of the suite, and MiniLM where it can be had.

A subject is a model with samples to calibrate on, held-out samples, and how good answers
to these are in points. MiniLM has no labels: its points are the mean cosine between an
answer's sentence vector and the float model's, times 100.
"""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from benchmarks.peers import MAKERS
from benchmarks.peers.engines import Answers
from benchmarks.peers.environments import home, python_of
from benchmarks.peers.makers.job import cut
from benchmarks.suite import ROWS, Row
from benchmarks.suite.data import Samples

Array = npt.NDArray[Any]
Points = Callable[[Answers, Answers, Samples], float]

MINILM, MINILM_PADDED = "minilm", "minilm-padded"
_TIMED = 64
_QUICK = 1_000
_DEPTHWISE = frozenset({"mobilenet", "heartbeat"})
_MASK = "attention_mask"


@dataclass(frozen=True, slots=True)
class Subject:
    """One model with one data set.

    Attributes:
        name: As tables call it.
        model: The float model.
        family: ``dense``, ``depthwise``, ``recurrent`` or ``transformer``.
        metric: What points are of.
        mflop: Millions of operations for one sample; 0 where nobody counted.
        calibrate: Samples for the tools; subjects with the same model and
            ``calibration`` share what is made.
        evaluate: Samples held out.
        points: How good answers are, given the float model's and the samples.
        calibration: Name of the calibration samples.
        calibrate_mask: The input calibration samples are cut by; empty for none.
        evaluate_mask: The same of the held-out ones.
    """

    name: str
    model: Path
    family: str
    metric: str
    mflop: float
    calibrate: Samples
    evaluate: Samples
    points: Points
    calibration: str
    calibrate_mask: str = ""
    evaluate_mask: str = ""

    @property
    def transformer(self) -> bool:
        """Whether tools should treat it as one."""
        return self.family == "transformer"

    @property
    def in_suite(self) -> bool:
        """Whether the goals for the suite count it."""
        return self.name not in {MINILM, MINILM_PADDED}

    def timed(self) -> list[Answers]:
        """Return held-out samples to time with, each a batch of one."""
        inputs = self.evaluate.inputs
        count = min(_TIMED, len(self.evaluate))
        return [
            cut({k: v[i : i + 1] for k, v in inputs.items()}, self.evaluate_mask)
            for i in range(count)
        ]


def names() -> list[str]:
    """Return what subjects there are."""
    return [*(row.name for row in ROWS), MINILM, MINILM_PADDED]


def of_suite(row: Row, *, quick: bool) -> Subject:
    """Return a row of the suite as a subject."""
    evaluate = row.samples("evaluate")
    if quick:
        evaluate = part_of(evaluate, slice(_QUICK))

    def points(answers: Answers, _reference: Answers, samples: Samples) -> float:
        return row.points(answers, samples)

    return Subject(
        name=row.name,
        model=row.model,
        family=_family(row),
        metric=row.metric,
        mflop=row.mflop,
        calibrate=row.samples("calibrate"),
        evaluate=evaluate,
        points=points,
        calibration=row.data,
    )


def minilm() -> tuple[Subject, Subject]:
    """Return MiniLM, as long as each sentence is and padded to 64 words.

    Raises:
        UnavailableError: Its environment cannot be installed.
        CalledProcessError: It cannot be exported.
    """
    folder = home() / "minilm-model"
    python = python_of("minilm")
    if not (folder / "model.onnx").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        argv = [python, MAKERS / "minilm_model.py", folder]
        subprocess.run(argv, check=True, capture_output=True, text=True)
    calibrate, evaluate = (
        Samples(dict(np.load(folder / f"{part}.npz")), {})
        for part in ("calibrate", "evaluate")
    )

    def one(name: str, mask: str) -> Subject:
        return Subject(
            name=name,
            model=folder / "model.onnx",
            family="transformer",
            metric="cosine",
            mflop=0.0,
            calibrate=calibrate,
            evaluate=evaluate,
            points=mean_cosine,
            calibration="sentences",
            calibrate_mask=_MASK,
            evaluate_mask=mask,
        )

    return one(MINILM, _MASK), one(MINILM_PADDED, "")


def mean_cosine(answers: Answers, reference: Answers, samples: Samples) -> float:
    """Return the mean cosine between vectors of sentences, times 100."""
    mask = samples.inputs[_MASK]
    ours, theirs = (_vectors(a["states"], mask) for a in (answers, reference))
    return 100 * float((ours * theirs).sum(axis=1).mean())


def _vectors(states: Array, mask: Array) -> Array:
    """Return the mean over the words of each sentence, of length 1."""
    words = mask[:, : states.shape[1], None]
    mean = np.where(words == 1, states, 0).sum(axis=1)
    vectors: Array = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return vectors


def part_of(samples: Samples, which: slice) -> Samples:
    """Return some of the samples."""
    return Samples(
        {name: array[which] for name, array in samples.inputs.items()},
        {name: array[which] for name, array in samples.targets.items()},
    )


def _family(row: Row) -> str:
    if row.name in _DEPTHWISE:
        return "depthwise"
    named = {"gru": "recurrent", "transformer": "transformer"}
    return named.get(row.name.partition("-")[0], "dense")


def suite_rows(wanted: Sequence[str]) -> list[Row]:
    """Return the rows of the suite that are wanted."""
    return [row for row in ROWS if row.name in wanted]
