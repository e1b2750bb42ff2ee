"""What candidates are held to: the reference's answers, and whether the data can be trusted.

A doubt about the data stops a run before anything is made or measured, unless it was
accepted by name; figures from data nobody should trust look like any others.
"""

from collections.abc import Callable
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
from edgewright.toolchain.planner.decide import aim_of
from edgewright.toolchain.planner.glance import Glance, few
from edgewright.toolchain.planner.inputs import Inputs
from edgewright.toolchain.planner.values import CoverageLine, DoubtLine, GoldenIndex
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
        coverage: Samples of each class, where answers are classes.
        glance: What a candidate is asked first where the cheapest is looked for.
    """

    metric: Metric
    golden: GoldenIndex
    doubts: tuple[DoubtLine, ...]
    coverage: tuple[CoverageLine, ...]
    glance: Glance | None


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
    found, coverage = _look(given, engine, reference)
    _refuse(found, given.recipe.trusted)
    lines = tuple(DoubtLine(d.name, d.detail, d.name in given.recipe.trusted) for d in found)
    recipe, glance = given.recipe, None
    if not recipe.goal and aim_of(recipe.goal, recipe.contract):
        glance = few(recipe.metric, data, outputs, reference)
    return Ground(metric, _write_golden(work, engine, given, metric), lines, coverage, glance)


def _look(
    given: Inputs, engine: Engine, reference: Answers
) -> tuple[list[Doubt], tuple[CoverageLine, ...]]:
    """Return what is doubtful about the data, and how many samples each class has."""
    data, place = given.data, metrics.scores_of(given.graph.outputs)
    calibrates = given.recipe.quantization != "none"

    def ask(samples: Samples) -> npt.NDArray[np.int64]:
        answered = accuracy.answers(engine, given.reference, samples)
        found: npt.NDArray[np.int64] = answered[place or 0].argmax(axis=1)
        return found

    if data.synthetic:
        return [], ()
    found = list(doubts.about_inputs(data, calibrates=calibrates))
    found += doubts.about_halves(given.graph, reference)
    if place is None or not metrics.by_class(given.recipe.metric):
        return found, ()
    calibrated = ask(data.calibrate) if calibrates else None
    evaluated = reference[place].argmax(axis=1)
    found += doubts.about_classes(data, evaluated, calibrated)
    found += doubts.about_preparation(data, ask)
    known = data.calibrate_labels if data.calibrate_labels is not None else calibrated
    right = data.labels if data.labels is not None else evaluated
    return found, tuple(
        CoverageLine(
            name,
            0 if known is None else int((known == index).sum()),
            int((right == index).sum()),
        )
        for index, name in enumerate(data.classes)
    )


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
