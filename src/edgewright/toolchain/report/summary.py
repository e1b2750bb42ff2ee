"""The figures of a report that other programs ask for, under names that stay."""

from typing import Any

from edgewright.toolchain.measure.latency import RATIO
from edgewright.toolchain.planner.values import CandidateReport, Report

_BP = 10_000


def summary(report: Report) -> dict[str, Any]:
    """Return what shipped, or came nearest, beside the baseline.

    Shares are basis points. ``size_reduction`` and ``speedup`` are baseline over
    candidate; ``speedup`` is None where no latency was measured. ``accuracy_delta``
    is the loss against the reference with its one-sided 95 % bounds; where ``metric`` is
    ``fidelity`` or ``cosine`` nobody said what is right, and a loss is an answer unlike the
    reference's. Where ``synthetic`` is true the inputs were made up, and no figure on answers
    means anything for real ones.
    """
    shipped, baseline = report.shipped, report.candidate(report.baseline)
    counts = shipped.overall
    loss = counts.loss()
    return {
        "outcome": report.outcome,
        "candidate": shipped.name,
        "size_reduction": round(baseline.file_bytes / max(shipped.file_bytes, 1), 3),
        "speedup": _speedup(shipped),
        "metric": report.recipe.metric,
        "synthetic": report.recipe.synthetic,
        "accuracy_delta": {
            "estimate_bp": round(loss.estimate * _BP),
            "low_bp": round(loss.low * _BP),
            "high_bp": round(loss.high * _BP),
            "n": counts.n,
        },
        "accuracy": {
            "reference_bp": round(counts.reference * _BP),
            "candidate_bp": round(counts.candidate * _BP),
        },
        "figures": {e.name: e.value for e in reversed(shipped.evidence) if e.firm},
        "estimates": {e.name: e.value for e in shipped.evidence if not e.firm},
    }


def _speedup(shipped: CandidateReport) -> float | None:
    """Return baseline over candidate latency as they took turns, not of two minutes."""
    ratio = shipped.figure(RATIO)
    return round(_BP / max(ratio.value, 1), 3) if ratio else None
