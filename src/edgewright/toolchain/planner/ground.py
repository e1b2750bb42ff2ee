"""What candidates are held to: the reference's answers, and whether the data can be trusted.

A doubt about the data stops a run before anything is made or measured, unless it was
accepted by name; figures from data nobody should trust look like any others.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core import digest, durable
from edgewright.core.errors import DataError
from edgewright.runtime.engines import Engine
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure import accuracy, doubts, metrics
from edgewright.toolchain.measure.accuracy import Answers
from edgewright.toolchain.measure.doubts import Doubt
from edgewright.toolchain.measure.metrics import Metric
from edgewright.toolchain.planner.inputs import Inputs
from edgewright.toolchain.planner.values import DoubtLine, GoldenIndex
from edgewright.toolchain.planner.workspace import GOLDEN

# Golden samples a bundle carries.
GOLDEN_COUNT = 32


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What everything after is compared with.

    Attributes:
        metric: Knows the reference's answers.
        golden: The golden samples, on disk.
        doubts: What is doubtful about the data, and was accepted or is only told.
    """

    metric: Metric
    golden: GoldenIndex
    doubts: tuple[DoubtLine, ...]


def lay(given: Inputs, engine: Engine, work: Path, say: Callable[[str, str], None]) -> Ground:
    """Return the ground for ``given``; its golden samples are written below ``work``.

    Raises:
        DataError: The data are doubtful and that was not accepted, or the metric needs
            what they do not hold.
        ModelError: The reference does not answer, or the metric cannot judge it.
    """
    say("answer", "the reference's answers")
    data, outputs = given.data, given.graph.outputs
    reference = accuracy.answers(engine, given.reference, data.evaluate)
    metric = metrics.make(given.recipe.metric, data, outputs, reference)
    say("check", "whether the data can be trusted")
    found = _doubts(given, engine, reference)
    _refuse(found, given.recipe.trusted)
    lines = tuple(DoubtLine(d.name, d.detail, d.name in given.recipe.trusted) for d in found)
    return Ground(metric, _write_golden(work, engine, given, metric), lines)


def _doubts(given: Inputs, engine: Engine, reference: Answers) -> list[Doubt]:
    if given.data.synthetic:
        return []
    data, place = given.data, metrics.scores_of(given.graph.outputs)
    calibrates = given.recipe.quantization != "none"

    def ask(samples: Samples) -> npt.NDArray[np.int64]:
        answered = accuracy.answers(engine, given.reference, samples)
        found: npt.NDArray[np.int64] = answered[place or 0].argmax(axis=1)
        return found

    def every() -> Iterator[Doubt]:
        yield from doubts.about_inputs(data, calibrates=calibrates)
        if place is None or not metrics.by_class(given.recipe.metric):
            return
        calibrated = ask(data.calibrate) if calibrates else None
        yield from doubts.about_classes(data, reference[place].argmax(axis=1), calibrated)
        yield from doubts.about_preparation(data, ask)

    return list(every())


def _refuse(found: list[Doubt], trusted: tuple[str, ...]) -> None:
    refused = [doubt for doubt in found if doubt.refuses and doubt.name not in trusted]
    if not refused:
        return
    names = list(dict.fromkeys(doubt.name for doubt in refused))
    said = "; ".join(f"{doubt.name}: {doubt.detail}" for doubt in refused)
    accept = " ".join(f"--trust {name}" for name in names)
    raise DataError(
        f"the data are doubtful: {said}",
        hint=f"{refused[0].remedy} If it is meant to be so: {accept}.",
    )


def _write_golden(work: Path, engine: Engine, given: Inputs, metric: Metric) -> GoldenIndex:
    """Write the golden inputs and the reference's answers, asked one by one."""
    chosen = metric.golden()[:GOLDEN_COUNT]
    samples = given.data.evaluate[chosen]
    answered = accuracy.answers(engine, given.reference, samples, one_by_one=True)
    files: dict[str, str] = {}
    asked = [samples.arrays[spec.name] for spec in given.graph.inputs]
    return GoldenIndex(
        samples=tuple(chosen.tolist()),
        inputs=_written(work, "input", asked, files),
        outputs=_written(work, "output", answered, files),
        files=files,
    )


def _written(
    work: Path,
    kind: str,
    arrays: list[npt.NDArray[Any]] | Answers,
    files: dict[str, str],
) -> tuple[str, ...]:
    names = []
    for place, array in enumerate(arrays):
        name = f"{kind}-{place}.bin"
        data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        durable.replace_file(work / GOLDEN / name, data)
        files[name] = digest.of_bytes(data)
        names.append(name)
    return tuple(names)
