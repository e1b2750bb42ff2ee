"""Measure the candidates, or find what was measured of the same files before."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgewright.core.evidence import Evidence
from edgewright.runtime.engines import Engine
from edgewright.toolchain.measure import accuracy, footprint, latency, sizes
from edgewright.toolchain.measure.data import Dataset
from edgewright.toolchain.planner.decide import Known
from edgewright.toolchain.planner.ledger import Counts, Figures, Ledger, Measurement
from edgewright.toolchain.planner.perform import Made, right


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What candidates are measured with.

    Attributes:
        engine: What runs them.
        data: Real inputs with labels.
        reference: The reference's answers to the evaluation samples.
        reference_sha256: Digest of the reference's file.
        machine: Fingerprint of this machine.
        tools: Versions that decide figures.
        budget: How long latency may take.
    """

    engine: Engine
    data: Dataset
    reference: npt.NDArray[np.floating]
    reference_sha256: str
    machine: str
    tools: Mapping[str, str]
    budget: latency.Budget


def gather(
    made: Sequence[Made],
    bench: Bench,
    ledger: Ledger,
    *,
    baseline: str,
    observe: Callable[[str], None],
) -> tuple[list[Known], list[Known]]:
    """Return what is known of each candidate, and what was before it was measured again.

    Args:
        made: The candidates.
        bench: What to measure with.
        ledger: Keeps measurements.
        baseline: The candidate the others' latency is compared with.
        observe: Is told what is measured, before it is.
    """
    models = {one.plan.name: one.sha256 for one in made}
    about = {"models": models, "machine": bench.machine, "tools": dict(bench.tools)}
    samples = {"data": bench.data.sha256}
    taken: dict[str, Measurement] = {}
    for kind, more, take in (
        (
            "accuracy",
            {**samples, "reference": bench.reference_sha256},
            lambda: Measurement("", "", counts=_accuracy(made, bench)),
        ),
        (
            "latency",
            {**samples, "baseline": baseline},
            lambda: Measurement("", "", figures=_latency(made, bench, baseline)),
        ),
        ("footprint", {}, lambda: Measurement("", "", figures=_footprint(made, bench))),
    ):
        taken[kind] = ledger.obtain(kind, {**about, **more}, take, observe=observe)
    exact = {one.plan.name: sizes.file_bytes(one.model.parent, bench.machine) for one in made}
    counts = taken["accuracy"].counts
    now = [taken[kind].figures for kind in ("latency", "footprint")]
    before = [taken[kind].previous or taken[kind].figures for kind in ("latency", "footprint")]
    return _known(made, exact, counts, now), _known(made, exact, counts, before)


def _known(
    made: Sequence[Made],
    exact: Mapping[str, Evidence],
    counts: Counts,
    figures: Sequence[Figures],
) -> list[Known]:
    return [
        Known(
            name=one.plan.name,
            choosable=one.plan.choosable,
            evidence=(
                exact[one.plan.name],
                *(e for found in figures for e in found[one.plan.name]),
            ),
            counts=counts[one.plan.name],
        )
        for one in made
    ]


def _accuracy(made: Sequence[Made], bench: Bench) -> Counts:
    data = bench.data
    reference = right(bench.reference, data.labels)
    found = {}
    for one in made:
        answered = accuracy.answers(bench.engine, one.model, data.evaluate)
        found[one.plan.name] = accuracy.paired_counts(
            reference, right(answered, data.labels), data
        )
    return found


def _latency(made: Sequence[Made], bench: Bench, baseline: str) -> Figures:
    with ExitStack() as stack:
        sessions = {}
        for one in made:
            sessions[one.plan.name] = bench.engine.load(one.model)
            stack.callback(sessions[one.plan.name].close)
        return latency.measure(
            sessions,
            bench.data.evaluate,
            baseline=baseline,
            machine=bench.machine,
            budget=bench.budget,
        )


def _footprint(made: Sequence[Made], bench: Bench) -> Figures:
    return footprint.measure(
        {one.plan.name: one.model for one in made},
        engine=bench.engine.name,
        machine=bench.machine,
    )
