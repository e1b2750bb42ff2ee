"""How a report puts things in words: limits, figures with their units, gains and losses."""

from edgewright.core.contract import Contract
from edgewright.core.evidence import Evidence, Paired, PairedScores
from edgewright.core.units import show_bytes, show_us
from edgewright.toolchain.measure import metrics
from edgewright.toolchain.measure.latency import RATIO
from edgewright.toolchain.planner.values import COSINE, FIDELITY, CandidateReport, Report

BP = 10_000

# The bounds of a share, and of a figure that was sampled.
SURE = "one-sided 95 % bounds"

_QUALITIES = {
    "f1": "F1",
    "auc": "area under the curve",
    "mae": "1-error",
    "map": "mAP",
}
_LIMITS = {
    "file_bytes": "file size",
    "transport_bytes": "download",
    "storage_bytes": "installed size",
    "peak_memory_bytes": "peak memory",
    "p99_us": "p99 latency",
    "rate_hz": "sustained rate",
    "burst_hz": "burst rate",
    "power_mw": "power",
    "first_answer_ms": "first answer",
    "accuracy_drop": "{} lost",
    "worst_class_drop": "{} lost in the worst class",
    "retention": "{} kept",
}
_UNITS = {"ms": " ms", "hz": " Hz", "mw": " mW", "uj": " uJ"}


def metric_title(report: Report) -> str:
    """Return what a share of the report's metric is called in tables."""
    return metrics.parse(report.recipe.metric)[0].title


def quality(report: Report) -> str:
    """Return what is lost or kept, as a sentence calls it: accuracy, mAP, fidelity."""
    info, detail = metrics.parse(report.recipe.metric)
    if info.name == "top-5":
        return f"top-{detail} accuracy"
    return f"the score {detail}" if detail else _QUALITIES.get(info.name, info.name)


def likeness(report: Report) -> bool:
    """Return whether nobody said what is right, so that likeness is all that is known."""
    return report.recipe.metric in {FIDELITY, COSINE}


def limit_title(report: Report, name: str) -> str:
    """Return what a limit of the contract is called."""
    return _LIMITS.get(name, name).format(quality(report))


def asked_title(report: Report, field: str) -> str:
    """Return what a field of the contract is called: ``accuracy_drop_bp`` too."""
    return limit_title(report, field.removeprefix("min_").removesuffix("_bp"))


def asked_value(field: str, value: int) -> str:
    """Return a limit of the contract with its direction: ``at most 1.28 MB``."""
    if field == "min_retention_bp":
        return f"at least {value / 100:g} %"
    if field.endswith("_bp"):
        return f"at most {value / 100:g} points"
    return f"{'at least' if field.endswith('_hz') else 'at most'} {show_value(field, value)}"


def asked(contract: Contract) -> dict[str, int]:
    """Return every limit of a contract by its field, the shares last."""
    shares = ("accuracy_drop_bp", "worst_class_drop_bp", "min_retention_bp")
    return {**contract.limits(), **{name: getattr(contract, name) for name in shares}}


def show(figure: Evidence) -> str:
    """Return a figure as people read it."""
    return show_value(figure.name, figure.value)


def show_value(name: str, value: int) -> str:
    """Return a value in the unit its name carries."""
    if name.endswith("_bytes"):
        return show_bytes(value)
    if name.endswith("_us"):
        return show_us(value)
    if name.endswith("_bp"):
        return f"{value / 100:.2f} %"
    return f"{value}{_UNITS.get(name.rsplit('_', 1)[-1], '')}"


def points(share: float) -> str:
    """Return a share as points with two decimals, a zero without a sign."""
    return f"{round(share * 100, 2) + 0.0:.2f}"


def ratio_of(candidate: CandidateReport) -> Evidence | None:
    """Return its latency over the baseline's as they took turns."""
    return candidate.figure(RATIO)


def times(ratio_bp: int) -> str:
    """Return how many times as fast: ``1.25``."""
    return f"{BP / max(ratio_bp, 1):.2f}"


def speed_bounds(ratio: Evidence) -> str:
    """Return the bounds of a speed-up: ``1.21 to 1.30``; empty where there are none."""
    if ratio.lower is None or ratio.upper is None or ratio.lower == ratio.upper:
        return ""
    return f"{times(ratio.upper)} to {times(ratio.lower)}"


def gained(report: Report, candidate: CandidateReport) -> tuple[str, ...]:
    """Return what a candidate gained over the baseline: bytes, speed, right answers."""
    baseline = report.candidate(report.baseline)
    parts = [f"{baseline.file_bytes / max(candidate.file_bytes, 1):.2f} times smaller"]
    ratio = ratio_of(candidate)
    if ratio is not None:
        parts.append(
            f"{times(ratio.value)} times as fast on {report.host.title}"
            if ratio.value <= BP
            else f"at {times(ratio.value)} times the speed on {report.host.title}"
        )
    return (*parts, _judged(candidate.overall, report))


def headline(report: Report) -> str:
    """Return in one sentence what ships and what it gained, or that nothing does."""
    shipped = report.shipped
    if not report.chosen:
        return f"No candidate ships; {shipped.name} comes nearest."
    if shipped.name == report.baseline:
        return f"{shipped.name} ships: the model as it was given."
    return f"{shipped.name} ships: {', '.join(gained(report, shipped))}."


def made_up(report: Report) -> str:
    """Return what nobody may overlook where inputs were made up; empty where they were not."""
    if not report.recipe.synthetic:
        return ""
    return (
        "The inputs were made up. Nothing is known of how good the answers are on real ones: "
        "only sizes and times mean anything here."
    )


def _judged(counts: Paired, report: Report) -> str:
    """Return in a few words how the answers compare with the reference's."""
    if isinstance(counts, PairedScores):
        lost = counts.loss().estimate
        return f"{points(abs(lost))} points of {quality(report)} {_lost_or_gained(lost)}"
    if likeness(report):
        return f"{counts.candidate_right} of {counts.n} answers like the reference's"
    net = counts.gained - counts.lost
    if net == 0:
        return f"as many right answers of {counts.n}"
    word = "answer" if abs(net) == 1 else "answers"
    return f"{abs(net)} {'more' if net > 0 else 'fewer'} right {word} of {counts.n}"


def _lost_or_gained(lost: float) -> str:
    return "lost" if lost >= 0 else "gained"
