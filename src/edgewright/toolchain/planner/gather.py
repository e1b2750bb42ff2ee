"""Measure a candidate, or find what was measured of the same files before.

Each candidate is measured by itself, in turns with the float baseline, so that a search
that ends early has whole evidence of everything it tried.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from edgewright.core.evidence import Evidence
from edgewright.core.profile import DeviceProfile
from edgewright.runtime.engines import Engine
from edgewright.toolchain import costs
from edgewright.toolchain.ir.load import load as load_graph
from edgewright.toolchain.measure import accuracy, energy, footprint, latency, sizes
from edgewright.toolchain.measure.data import Dataset
from edgewright.toolchain.measure.metrics import Metric
from edgewright.toolchain.planner.ahead import Ahead
from edgewright.toolchain.planner.decide import Known
from edgewright.toolchain.planner.ledger import Ledger, Measurement
from edgewright.toolchain.planner.perform import Made

_Obtain = Callable[[str, Mapping[str, str], Callable[[], Measurement]], Measurement]


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What candidates are measured with.

    Attributes:
        engine: What runs them.
        data: What candidates are judged by.
        metric: Compares answers to the evaluation samples with the reference's.
        metric_name: As it was asked for.
        reference_sha256: Digest of the reference's file.
        machine: Fingerprint of this machine.
        tools: Versions that decide figures.
        budget: How long latency of one candidate may take.
        elsewhere: The device, where it is not this machine; latency is estimated for it.
        meter: What tells energy here; None where nothing does, or nobody asked.
        rate_hz: Answers a second that power is about.
        ahead: Who may have asked a candidate already.
    """

    engine: Engine
    data: Dataset
    metric: Metric
    metric_name: str
    reference_sha256: str
    machine: str
    tools: Mapping[str, str]
    budget: latency.Budget
    elsewhere: DeviceProfile | None = None
    meter: energy.Meter | None = None
    rate_hz: int | None = None
    ahead: Ahead = field(default_factory=Ahead)


def gather(
    one: Made,
    baseline: Made,
    bench: Bench,
    ledger: Ledger,
    *,
    worth: Callable[[Known], bool],
    observe: Callable[[str], None],
) -> tuple[Known, Known]:
    """Return what is known of a candidate, and what was before it was measured again.

    Args:
        one: The candidate.
        baseline: What its latency is compared with; may be the candidate itself.
        bench: What to measure with.
        ledger: Keeps measurements.
        worth: Is shown its bytes and accuracy, and says whether to measure latency and
            memory too, which take the time.
        observe: Is told what is measured, before it is.
    """
    name = one.plan.name
    key = about(name, one.sha256, bench)

    def obtain(
        kind: str, more: Mapping[str, str], take: Callable[[], Measurement]
    ) -> Measurement:
        return ledger.obtain(kind, {**key, **more}, take, of=name, observe=observe)

    counts = obtain("accuracy", against(bench), lambda: _accuracy(one, bench)).counts[name]
    exact = sizes.file_bytes(one.model.parent, bench.machine)
    known = Known(name, one.plan.choosable, (exact,), counts)
    if not worth(known):
        return known, known
    taken = _slow(one, baseline, bench, obtain)
    now = [e for found in taken for e in found.figures[name]]
    before = [e for found in taken for e in (found.previous or found.figures)[name]]
    guessed = _estimates(one, bench)
    return (
        replace(known, evidence=(exact, *now, *guessed)),
        replace(known, evidence=(exact, *before, *guessed)),
    )


def judged(name: str, sha256: str, bench: Bench, ledger: Ledger) -> bool:
    """Return whether the answers of a candidate, by the digest of its files, are known."""
    return ledger.known("accuracy", {**about(name, sha256, bench), **against(bench)})


def about(name: str, sha256: str, bench: Bench) -> dict[str, object]:
    """Return what every measurement of a candidate is found again by."""
    return {"models": {name: sha256}, "machine": bench.machine, "tools": dict(bench.tools)}


def against(bench: Bench) -> dict[str, str]:
    """Return what its answers are compared with, and how."""
    return {
        "data": bench.data.sha256, "reference": bench.reference_sha256,
        "metric": bench.metric_name,
    }  # fmt: skip


def _slow(one: Made, baseline: Made, bench: Bench, obtain: _Obtain) -> list[Measurement]:
    """Return what takes seconds to measure: latency, memory, and energy if it is asked."""
    samples = {"data": bench.data.sha256}
    against = {**samples, "baseline": baseline.sha256}
    taken = [
        obtain("latency", against, lambda: _latency(one, baseline, bench)),
        obtain("footprint", {}, lambda: _footprint(one, bench)),
    ]
    if bench.meter is not None:
        rate, meter = {**samples, "rate": str(bench.rate_hz)}, bench.meter
        taken.append(obtain("energy", rate, lambda: _energy(one, bench, meter)))
    return taken


def _estimates(one: Made, bench: Bench) -> tuple[Evidence, ...]:
    """Return what is worked out for a device that is not at hand."""
    if bench.elsewhere is None:
        return ()
    work = costs.work_of(load_graph(one.model), bench.data.evaluate[:1])
    guessed = costs.estimate(work, bench.elsewhere)
    p50 = next((figure for figure in guessed if figure.name == "p50_us"), None)
    return (*guessed, *energy.estimate(p50, bench.elsewhere, bench.rate_hz))


def _energy(one: Made, bench: Bench, meter: energy.Meter) -> Measurement:
    bench.ahead.rest()
    session = bench.engine.load(one.model)
    try:
        figures = energy.measure(
            session, bench.data.evaluate, meter, machine=bench.machine, rate_hz=bench.rate_hz
        )
    finally:
        session.close()
    return Measurement("", "", figures={one.plan.name: figures})


def _accuracy(one: Made, bench: Bench) -> Measurement:
    answered = bench.ahead.answers(one.sha256, bench.data.evaluate)
    if answered is None:
        answered = accuracy.answers(bench.engine, one.model, bench.data.evaluate)
    counts = bench.metric.compare(answered)
    return Measurement("", "", counts={one.plan.name: counts})


def _latency(one: Made, baseline: Made, bench: Bench) -> Measurement:
    figures = in_turns(one, baseline, bench, bench.budget)
    return Measurement("", "", figures={one.plan.name: figures})


def in_turns(
    one: Made, baseline: Made, bench: Bench, budget: latency.Budget
) -> tuple[Evidence, ...]:
    """Return the latency of a candidate, measured in turns with the baseline."""
    bench.ahead.rest()
    with ExitStack() as stack:
        sessions = {}
        for made in (baseline, one):
            if made.plan.name not in sessions:
                sessions[made.plan.name] = bench.engine.load(made.model)
                stack.callback(sessions[made.plan.name].close)
        figures = latency.measure(
            sessions,
            bench.data.evaluate,
            baseline=baseline.plan.name,
            machine=bench.machine,
            budget=budget,
        )
    return figures[one.plan.name]


def _footprint(one: Made, bench: Bench) -> Measurement:
    figures = footprint.measure(
        {one.plan.name: one.model},
        engine=bench.engine.name,
        machine=bench.machine,
        shapes=[(1, *bench.data.evaluate.arrays[s.name].shape[1:]) for s in one.inputs],
    )
    return Measurement("", "", figures=figures)
