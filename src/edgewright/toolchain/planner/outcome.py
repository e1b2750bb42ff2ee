"""From decisions to the sentences and rows of a report."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgewright.toolchain.measure.latency import RATIO
from edgewright.toolchain.planner.decide import Decision, Known
from edgewright.toolchain.planner.perform import Made
from edgewright.toolchain.planner.values import CandidateReport, LayerReport, lines


def candidate_reports(
    made: Sequence[Made],
    known: Sequence[Known],
    decision: Decision,
    layers: Mapping[str, tuple[LayerReport, ...]],
) -> tuple[CandidateReport, ...]:
    """Return a row for each candidate, in the order of the plan."""
    return tuple(
        CandidateReport(
            name=one.plan.name,
            steps=one.steps,
            precision=one.precision,
            files=one.files,
            outcome=decision.verdicts[one.plan.name].outcome.value,
            findings=lines(decision.verdicts[one.plan.name]),
            chosen=one.plan.name == decision.chosen,
            reason=decision.reasons[one.plan.name],
            evidence=seen.evidence,
            counts=seen.counts,
            layers=layers.get(one.plan.name, ()),
        )
        for one, seen in zip(made, known, strict=True)
    )


def summary(candidate: CandidateReport) -> dict[str, Any]:
    """Return what a watcher is told of a candidate."""
    p50, p99 = candidate.figure("p50_us"), candidate.figure("p99_us")
    ratio = candidate.figure(RATIO)
    return {
        "name": candidate.name,
        "outcome": candidate.outcome,
        "chosen": candidate.chosen,
        "file_bytes": candidate.file_bytes,
        "p50_us": p50.value if p50 else None,
        "p99_us": p99.value if p99 else None,
        "latency_ratio_bp": ratio.value if ratio else None,
        "loss": round(candidate.overall.loss().estimate, 6),
        "reason": candidate.reason,
    }


def missed(decision: Decision) -> tuple[str, ...]:
    """Return what stands between the nearest candidate and the contract."""
    if decision.nearest is None:
        return ()
    name = decision.nearest.candidate
    findings = decision.verdicts[name].missed
    if not findings:
        return (f"{name} is {decision.reasons[name]}",)
    return tuple(
        f"{f.limit} ({f.outcome.value}): {f.reason}" + (f". {f.remedy}" if f.remedy else "")
        for f in findings
    )


def changed(before: Decision, now: Decision) -> tuple[str, ...]:
    """Return the decisions that new measurements changed, one sentence each."""
    found = []
    if before.chosen != now.chosen:
        found.append(
            f"chosen is {now.chosen or 'none'}, was {before.chosen or 'none'} "
            "by the measurements before"
        )
    for name, verdict in now.verdicts.items():
        old = before.verdicts[name].outcome
        if verdict.outcome is not old:
            found.append(f"{name} is {verdict.outcome.value}, was {old.value}")
    return tuple(found)
