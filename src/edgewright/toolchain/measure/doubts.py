"""What makes a measurement doubtful before it is taken: the data, not the model.

Good figures from bad data are the costliest mistake there is: everything after looks right.
Each check has a name, refuses with the numbers, and can be accepted by that name; what was
accepted stays on the record. A remark is told and refuses nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core import stats
from edgewright.core.stats import binomial_upper
from edgewright.toolchain.ir import halves
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure.data import Dataset

Array = npt.NDArray[Any]

# Asked again with inputs that were prepared otherwise; enough to see a gross mistake.
PROBED = 256
_SEED = 20_240_302

_FEW, _SOME = 32, 100
_SHARE_SEEN, _SEEN = 0.01, 5
_APART = 1.0  # of the samples' own spread: the two parts are hardly from one source
_MIX = 0.5  # total variation distance between the shares of the classes
_GAIN, _SURE_GAIN = 0.05, 0.02
_GOOD, _EXPLAINS = 0.95, 0.85
_IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))

# What is answered to samples: the class of each.
Ask = Callable[[Samples], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something that is wrong with the data, or may be.

    Attributes:
        name: As it is accepted by.
        detail: One sentence with the numbers.
        remedy: What to do about it.
        refuses: Whether a run stops unless it is accepted.
    """

    name: str
    detail: str
    remedy: str
    refuses: bool = True


KINDS: Mapping[str, str] = {
    "calibration-size": "Too few calibration samples; below a hundred it is only told.",
    "calibration-classes": "Evaluation has a class that no calibration sample is of.",
    "calibration-inputs": "Calibration and evaluation samples were not prepared alike.",
    "no-better-than-chance": "The reference is no better than always the same answer.",
    "labels": "The answers would be right if labels were shifted or renumbered.",
    "preparation": "The reference is far better on inputs that are prepared otherwise.",
    "dead-class": "The reference never answers a class that there are samples of.",
    "class-shares": "The classes are mixed otherwise in the two parts.",
    "evaluation-classes": "No evaluation sample is of some class; only told.",
    "half-precision": "An answer in float16 is, or may be, more than float16 can hold.",
}


def about_inputs(data: Dataset, *, calibrates: bool) -> Iterator[Doubt]:
    """Yield what can be seen without asking a model.

    Args:
        data: What was given.
        calibrates: Whether something will be calibrated on it.
    """
    if calibrates and data.calibrate_labels is None and not len(data.calibrate):
        return
    if calibrates:
        yield from _size(len(data.calibrate))
        yield from _shifted(data.calibrate, data.evaluate)


def about_classes(
    data: Dataset, evaluated: npt.NDArray[np.int64], calibrated: npt.NDArray[np.int64] | None
) -> Iterator[Doubt]:
    """Yield what is wrong with classes.

    Args:
        data: What was given, with labels of one class a sample.
        evaluated: The class the reference answers to each evaluation sample.
        calibrated: The same of the calibration samples; None where none calibrate.
    """
    labels = data.labels
    if labels is None:
        yield from _coverage(data, evaluated, calibrated)
        return
    known = data.calibrate_labels if data.calibrate_labels is not None else calibrated
    yield from _coverage(data, labels, known if calibrated is not None else None)
    if data.calibrate_labels is not None and calibrated is not None:
        yield from _shares(data, labels, data.calibrate_labels)
    yield from _chance(labels, evaluated)
    yield from _permuted(labels, evaluated, data.classes)
    yield from _dead(data, labels, evaluated)
    missing = [n for i, n in enumerate(data.classes) if not (labels == i).any()]
    if missing:
        yield Doubt(
            "evaluation-classes",
            f"no evaluation sample is of {_list(missing)}: nothing is known of "
            f"{len(missing)} of {len(data.classes)} classes",
            "Add samples of every class the model answers.",
            refuses=False,
        )


def about_halves(graph: Graph, reference: Sequence[Array]) -> Iterator[Doubt]:
    """Yield which answers in half precision are no longer what was computed.

    Args:
        graph: The model.
        reference: For each of its outputs what the reference answers.
    """
    for one in halves.rounded_outputs(graph):
        upto = "of any size" if one.most is None else f"up to {one.most}"
        yield Doubt(
            "half-precision",
            f"output {one.output!r} is float16 and {one.node!r} puts whole numbers {upto} in "
            f"it: above {halves.WHOLE_UP_TO} float16 has not all of them",
            "Export that output as int32 or float32.",
        )
    for spec, array in zip(graph.outputs, reference, strict=True):
        if array.dtype != np.float16 or not np.isinf(array).any():
            continue
        count = int(np.isinf(_flat(array)).any(axis=1).sum())
        yield Doubt(
            "half-precision",
            f"output {spec.name!r} is infinite for {count} of {len(array)} samples: float16 "
            f"ends at {halves.LARGEST}",
            "Export the model in float32, or scale what is answered.",
        )


def about_preparation(data: Dataset, ask: Ask) -> Iterator[Doubt]:
    """Yield what inputs prepared otherwise would gain, if that is a lot.

    Args:
        data: What was given, with labels of one class a sample.
        ask: Answers samples with the reference.
    """
    labels = data.labels
    if labels is None or len(data.evaluate.arrays) != 1:
        return
    chosen = np.sort(np.random.default_rng(_SEED).permutation(len(labels))[:PROBED])
    some, right = data.evaluate[chosen], labels[chosen]
    given = ask(some) == right
    if given.mean() >= _GOOD:
        return
    ((name, array),) = some.arrays.items()
    best: tuple[float, str] | None = None
    for how, other in alternatives(array):
        gained = ask(Samples({name: _as(other, array)})) == right
        loss = stats.paired_loss(
            int((gained & ~given).sum()), int((given & ~gained).sum()), len(right)
        )
        sure = loss.low > _SURE_GAIN and loss.estimate > _GAIN
        if sure and (best is None or gained.mean() > best[0]):
            best = float(gained.mean()), how
    if best is not None:
        yield Doubt(
            "preparation",
            f"the model answers {given.mean():.0%} of {len(right)} samples rightly as they "
            f"are given, and {best[0]:.0%} {best[1]}",
            "Prepare the samples exactly as the model was trained, and as a device will.",
        )


def _as(other: Array, array: Array) -> Array:
    """Return ``other`` as what ``array`` is, laid out in one piece."""
    made: Array = np.ascontiguousarray(other, dtype=array.dtype)
    return made


def alternatives(array: Array) -> Iterator[tuple[str, Array]]:
    """Yield inputs as they would be if a common mistake had been made, with its name."""
    floats = array.dtype.kind == "f"
    if floats:
        yield "divided by 255", array / 255
        yield "times 255", array * 255
        yield "scaled from 0..1 to -1..1", array * 2 - 1
        yield "scaled from -1..1 to 0..1", (array + 1) / 2
        yield "scaled from 0..255 to -1..1", array / 127.5 - 1
        spread = float(array.std()) or 1.0
        yield "with mean 0 and spread 1", (array - array.mean()) / spread
        yield "turned from black to white", array.max() + array.min() - array
    if array.dtype == np.uint8:
        yield "turned from black to white", 255 - array
    if array.ndim != 4:
        return
    n, *sizes = array.shape
    if sizes[1] == sizes[2]:
        yield "with height and width swapped", array.swapaxes(2, 3)
    elif sizes[0] == sizes[1]:
        yield "with height and width swapped", array.swapaxes(1, 2)
    first, last = sizes[0] in {3, 4}, sizes[2] in {3, 4}
    if first:
        yield "with the order of colours turned round", array[:, ::-1]
        moved = array.reshape(n, sizes[1], sizes[2], sizes[0]).transpose(0, 3, 1, 2)
        yield "read with the channel last", moved
        if floats:
            mean, spread3 = (one.reshape(1, 3, 1, 1) for one in _IMAGENET)
            if sizes[0] == 3:
                yield "with ImageNet's mean and spread", (array - mean) / spread3
    elif last:
        yield "with the order of colours turned round", array[..., ::-1]
        moved = array.reshape(n, sizes[2], sizes[0], sizes[1]).transpose(0, 2, 3, 1)
        yield "read with the channel first", moved


def _size(count: int) -> Iterator[Doubt]:
    if count < _SOME:
        yield Doubt(
            "calibration-size",
            f"{count} calibration samples: ranges from so few miss what a device will see",
            "A few hundred real inputs cost nothing; no labels are needed.",
            refuses=count < _FEW,
        )


def _shifted(calibrate: Samples, evaluate: Samples) -> Iterator[Doubt]:
    for name, array in calibrate.arrays.items():
        other = evaluate.arrays[name]
        if array.dtype.kind not in "fiu" or not array.size:
            continue
        for what, measure in _SUMMARIES.items():
            one, two = (measure(_flat(a)) for a in (array, other))
            spread = float(np.sqrt((one.var() + two.var()) / 2))
            apart = abs(float(one.mean() - two.mean()))
            # What is nearly the same number everywhere has next to no spread of its own.
            least = 0.05 * max(abs(float(one.mean())), abs(float(two.mean())))
            if apart > _APART * max(spread, least, 1e-12):
                yield Doubt(
                    "calibration-inputs",
                    f"the {what} of {name!r} is {one.mean():.4g} in calibration samples and "
                    f"{two.mean():.4g} in evaluation samples, where samples differ by "
                    f"{spread:.2g}: they were not prepared alike, or are of another kind",
                    "Take both parts from one source and prepare them in one way.",
                )
                break


_SUMMARIES: Mapping[str, Callable[[Array], Array]] = {
    "mean": lambda flat: flat.mean(axis=1),
    "spread": lambda flat: flat.std(axis=1),
    "largest value": lambda flat: np.abs(flat).max(axis=1),
}


def _flat(array: Array) -> Array:
    return array.reshape(len(array), -1).astype(np.float64)


def _coverage(
    data: Dataset, evaluated: npt.NDArray[np.int64], calibrated: npt.NDArray[np.int64] | None
) -> Iterator[Doubt]:
    if calibrated is None or not len(calibrated):
        return
    counts = np.bincount(evaluated[evaluated >= 0], minlength=len(data.classes))
    least = max(_SEEN, _SHARE_SEEN * len(evaluated))
    missing = [
        _name(data, index)
        for index, count in enumerate(counts)
        if count >= least and not (calibrated == index).any()
    ]
    if missing:
        by = "labels" if data.calibrate_labels is not None else "the model's own answers"
        yield Doubt(
            "calibration-classes",
            f"no calibration sample is of {_list(missing)}, by {by}, though evaluation has "
            f"them: their activations are in no range",
            "Take calibration samples of every class, in the shares a device will see.",
        )


def _shares(
    data: Dataset, labels: npt.NDArray[np.int64], calibrated: npt.NDArray[np.int64]
) -> Iterator[Doubt]:
    if min(len(labels), len(calibrated)) < _SOME:
        return
    count = max(int(labels.max()), int(calibrated.max())) + 1
    one, two = (np.bincount(a, minlength=count) / len(a) for a in (labels, calibrated))
    apart = float(np.abs(one - two).sum() / 2)
    if apart > _MIX:
        worst = int(np.abs(one - two).argmax())
        yield Doubt(
            "class-shares",
            f"the classes are mixed otherwise in the two parts ({apart:.0%} would have to "
            f"change): {_name(data, worst)} is {two[worst]:.0%} of calibration and "
            f"{one[worst]:.0%} of evaluation",
            "Take both parts from one source.",
        )


def _chance(labels: Array, evaluated: Array) -> Iterator[Doubt]:
    n, right = len(labels), int((labels == evaluated).sum())
    majority = int(np.bincount(labels).max())
    # One class alone is answered by anything that always says so.
    if majority < n and n >= _FEW and binomial_upper(right, n) <= majority / n:
        yield Doubt(
            "no-better-than-chance",
            f"the reference answers {right} of {n} samples rightly; always saying the most "
            f"frequent class answers {majority}",
            "Check the labels and how samples are prepared; this model was not trained for "
            "them.",
        )


def _permuted(labels: Array, evaluated: Array, classes: tuple[str, ...]) -> Iterator[Doubt]:
    count = max(len(classes), int(max(labels.max(), evaluated.max())) + 1)
    table = np.zeros((count, count), np.int64)
    np.add.at(table, (labels, evaluated), 1)
    n, straight = len(labels), int(np.trace(table))
    for shift in (1, -1):
        turned = int(sum(table[i, (i + shift) % count] for i in range(count)))
        if count > 2 and turned > straight and turned > n / 2:
            yield Doubt(
                "labels",
                f"the labels look shifted by one: {straight} of {n} answers are right as they "
                f"are, {turned} if each label is one {'more' if shift > 0 else 'less'}",
                "Number the classes from 0, in the order the model answers them.",
            )
            return
    best = int(_assigned(table))
    if best - straight > max(_GAIN * n * 4, _SEEN) and best >= _EXPLAINS * n:
        yield Doubt(
            "labels",
            f"the classes look mixed up: {straight} of {n} answers are right as they are, "
            f"{best} if the labels are renumbered",
            "Give the classes in the order the model answers them.",
        )


def _assigned(table: npt.NDArray[np.int64]) -> int:
    """Return the most answers that are right if labels are renumbered, found greedily."""
    left, total = table.copy(), 0
    for _ in range(len(table)):
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        total += max(int(left[row, column]), 0)
        left[row, :] = -1
        left[:, column] = -1
    return total


def _dead(data: Dataset, labels: Array, evaluated: Array) -> Iterator[Doubt]:
    dead = [
        _name(data, index)
        for index in range(len(data.classes))
        if (labels == index).sum() >= _SEEN and not (evaluated == index).any()
    ]
    if dead:
        yield Doubt(
            "dead-class",
            f"the reference never answers {_list(dead)}, though there are samples of it",
            "Check the order of the classes and the model; nothing can be lost there, so "
            "nothing would be noticed.",
        )


def _name(data: Dataset, index: int) -> str:
    return data.classes[index] if index < len(data.classes) else str(index)


def _list(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
