"""How good answers are, and how a candidate's compare with the reference's.

A metric is a row of ``METRICS``, or a function of the user's (``module:callable``). It is
made for a data set and a model's outputs, is given the reference's answers once, and then
compares those of one candidate after the other. Nothing here imports a metric: the table is
data the planner, the help and the docs read.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from edgewright.core import digest, records
from edgewright.core.errors import UsageError
from edgewright.core.evidence import Paired
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.measure.data import Dataset

Answers = tuple[npt.NDArray[Any], ...]


class Metric(Protocol):
    """Compares answers with a reference's."""

    def compare(self, candidate: Answers) -> tuple[Paired, ...]:
        """Return how it compares, ``overall`` first, then one per class if there are any.

        Args:
            candidate: For each output its answers to the evaluation samples, in order.
        """

    def golden(self) -> npt.NDArray[np.int64]:
        """Return evaluation samples fit to be golden, the fittest first."""


class Kind(Protocol):
    """A way to compare: it is made for a data set and the reference's answers."""

    def __call__(
        self,
        data: Dataset,
        outputs: Sequence[TensorSpec],
        reference: Answers,
        *,
        detail: str,
    ) -> Metric:
        """Return the metric.

        Args:
            data: What was asked, with what is right.
            outputs: What the model answers.
            reference: The reference's answers to the evaluation samples.
            detail: What follows the name: ``5`` in ``top-5``.

        Raises:
            DataError: What the metric needs to know is not in the data, or does not fit.
            ModelError: The outputs are none it can judge.
        """


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """A row of the table.

    Attributes:
        name: As users write it.
        summary: What it is, one sentence.
        needs: What the data must hold besides inputs: labels, targets, boxes or nothing.
        place: The module that makes it, below this package.
        title: How a share of it is headed in tables.
    """

    name: str
    summary: str
    needs: str
    place: str
    title: str


FIDELITY, OWN = "fidelity", "own"

METRICS = {
    info.name: info
    for info in (
        MetricInfo(
            "accuracy", "The share of samples whose class is named.",
            "labels", "classes", "right",
        ),
        MetricInfo(
            "top-5",
            "The share of samples whose class is among the five likeliest; any number goes.",
            "labels", "classes", "in top",
        ),
        MetricInfo(
            "fidelity", "The share of samples answered with the reference's class.",
            "nothing", "classes", "alike",
        ),
        MetricInfo(
            "f1", "The harmonic mean of precision and recall, averaged over the classes.",
            "labels", "rates", "F1",
        ),
        MetricInfo(
            "auc", "The share of pairs of one positive and one negative in the right order.",
            "labels", "rates", "area",
        ),
        MetricInfo(
            "mae", "One less the mean absolute error over the mean spread of the targets.",
            "targets", "rates", "1-error",
        ),
        MetricInfo(
            "iou", "Intersection over union of classes by place, averaged over the classes.",
            "targets", "rates", "overlap",
        ),
        MetricInfo(
            "map", "The mean average precision of boxes that overlap by a half.",
            "boxes", "boxes", "mAP",
        ),
        MetricInfo(
            "cosine", "The mean cosine between the answers and the reference's.",
            "nothing", "vectors", "cosine",
        ),
        MetricInfo(
            "own", "A function of one's own, module:callable.", "anything", "own", "score"
        ),
    )
}  # fmt: skip


def parse(name: str) -> tuple[MetricInfo, str]:
    """Return the row ``name`` means, and what it says beyond the name.

    Raises:
        UsageError: There is no such metric.
    """
    if ":" in name:
        return METRICS[OWN], name
    head, _, tail = name.partition("-")
    if head == "top" and tail.isdecimal() and int(tail) >= 1:
        return METRICS["top-5"], tail
    if name not in METRICS or name == OWN:
        raise UsageError(f"no metric {name!r}", hint=records.nearest(name, list(METRICS)))
    return METRICS[name], ""


def identity(name: str) -> str:
    """Return what tells a metric from another: its name, and a function's own code too."""
    info, detail = parse(name)
    if info.name != OWN:
        return name
    module = sys.modules.get(detail.partition(":")[0])
    place = getattr(module, "__file__", None)
    return f"{name} {digest.of_file(Path(place))}" if place else name


def make(
    name: str, data: Dataset, outputs: Sequence[TensorSpec], reference: Answers
) -> Metric:
    """Return the metric called ``name``, which knows the reference's answers.

    Raises:
        UsageError: There is no such metric.
        DataError: The data do not hold what it needs.
        ModelError: It cannot judge these outputs.
    """
    info, detail = parse(name)
    kind = import_module(f"{__name__}.{info.place}").KINDS[info.name]
    return cast("Kind", kind)(data, outputs, reference, detail=detail)


def fitting(data: Dataset, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str:
    """Return the metric that what is known of the answers calls for."""
    if data.boxes is not None:
        return "map"
    if data.targets is not None:
        places = data.targets.dtype.kind in "iu" and len(outputs) == 1
        return "iou" if places and len(outputs[0].shape) == data.targets.ndim + 1 else "mae"
    classes = scores_of(outputs) is not None and not restores(inputs, outputs)
    if data.labels is not None:
        return "accuracy" if classes else "auc"
    return FIDELITY if classes and len(outputs) == 1 else "cosine"


def by_class(name: str) -> bool:
    """Return whether a metric takes the largest score of a row for the class."""
    return parse(name)[0].name in {"accuracy", "top-5", FIDELITY, "f1"}


def restores(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Return whether a model answers its own input, so that its numbers are no scores."""
    if len(inputs) != 1 or len(outputs) != 1:
        return False
    (asked,), (answer,) = inputs, outputs
    return asked.shape[1:] == answer.shape[1:] and asked.dtype == answer.dtype


def scores_of(outputs: Sequence[TensorSpec]) -> int | None:
    """Return which output is a row of class scores; None unless it is exactly one."""
    found = [
        place
        for place, spec in enumerate(outputs)
        if len(spec.shape) == 2
        and (spec.shape[1] >= 2 or spec.shape[1] == -1)
        and spec.dtype.startswith("float")
    ]
    return found[0] if len(found) == 1 else None
