"""The contract, and the verdict on it.

A contract says what must hold on the device. A verdict is decided by evidence
alone: **pass** when the one-sided 95 % bound of every figure is within its
limit, **fail** when a bound is surely beyond it (jointly over classes, Holm),
**inconclusive** otherwise, with what is still needed. A figure that was sampled
and has no bound never decides. The class of a limit is
its name: ``*_bytes``, ``*_us``, ``*_mw`` and ``*_ms`` may not be exceeded, ``*_hz``
must be reached.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from enum import Enum
from typing import Any

from edgewright.core import stats
from edgewright.core.errors import ConfigError
from edgewright.core.evidence import Evidence, Paired
from edgewright.core.records import nearest
from edgewright.core.units import show_bytes, show_us

_BP = 10_000


class Outcome(Enum):
    """What evidence says about a limit, or about a whole contract."""

    PASS = "pass"  # noqa: S105  a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Contract:
    """What must hold on the device; None where nothing is asked.

    Attributes:
        accuracy_drop_bp: Loss against the reference, overall; 100 is one point.
        worst_class_drop_bp: Loss in the worst class.
        min_retention_bp: Floor on candidate over reference accuracy; 9500 is 95 %.
        file_bytes: The model's files as a device stores them before installing.
        transport_bytes: What one device downloads.
        storage_bytes: What an installed slot takes.
        peak_memory_bytes: Of the process that answers, model included.
        p99_us: 99th percentile of one answer, batch 1.
        rate_hz: Sustained answers per second.
        burst_hz: Answers per second for one second.
        power_mw: While answering at ``rate_hz``.
        first_answer_ms: From process start to the first answer.
    """

    accuracy_drop_bp: int = 100
    worst_class_drop_bp: int = 300
    min_retention_bp: int = 9500
    file_bytes: int | None = None
    transport_bytes: int | None = None
    storage_bytes: int | None = None
    peak_memory_bytes: int | None = None
    p99_us: int | None = None
    rate_hz: int | None = None
    burst_hz: int | None = None
    power_mw: int | None = None
    first_answer_ms: int | None = None

    def __post_init__(self) -> None:
        """Refuse limits nothing could be compared with."""
        for name in ("accuracy_drop_bp", "worst_class_drop_bp", "min_retention_bp"):
            if not 0 <= getattr(self, name) <= _BP:
                raise ValueError(f"{name} must be 0 to {_BP}, got {getattr(self, name)}")
        for name, limit in self.limits().items():
            if limit < 1:
                raise ValueError(f"{name} must be at least 1, got {limit}")

    def limits(self) -> dict[str, int]:
        """Return the limits on quantities that were asked, by name."""
        return {
            name: limit for name in QUANTITIES if (limit := getattr(self, name)) is not None
        }


QUANTITIES = tuple(f.name for f in fields(Contract) if not f.name.endswith("_bp"))

# How a person writes the three shares, and what one unit of theirs is in ours.
_WRITTEN = {
    "accuracy_drop_points": ("accuracy_drop_bp", 100),
    "worst_class_drop_points": ("worst_class_drop_bp", 100),
    "min_retention": ("min_retention_bp", _BP),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one limit came to.

    Attributes:
        limit: Name of the limit.
        outcome: pass, fail or inconclusive.
        reason: One sentence with the numbers.
        remedy: What would change it; empty when it passes.
    """

    limit: str
    outcome: Outcome
    reason: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evidence says about the whole contract."""

    outcome: Outcome
    findings: tuple[Finding, ...]

    @property
    def missed(self) -> tuple[Finding, ...]:
        """The findings that are not a pass."""
        return tuple(f for f in self.findings if f.outcome is not Outcome.PASS)

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as plain data."""
        findings = [
            {
                "limit": f.limit,
                "outcome": f.outcome.value,
                "reason": f.reason,
                "remedy": f.remedy,
            }
            for f in self.findings
        ]
        return {"outcome": self.outcome.value, "findings": findings}


def from_table(table: Mapping[str, Any]) -> Contract:
    """Return the ``[contract]`` table of a project file as a ``Contract``.

    Raises:
        ConfigError: An unknown key, or a limit that cannot be.
    """
    known = [*_WRITTEN, *QUANTITIES]
    values: dict[str, int] = {}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"unknown key {key!r} in contract", hint=nearest(key, known))
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"contract.{key} must be a number, got {value!r}")
        name, factor = _WRITTEN.get(key, (key, 1))
        # Decimal of the text as written: 0.07 points are 7 of ours, not 7.000000000000001.
        exact = Decimal(str(value)) * factor
        if not exact.is_finite() or exact != int(exact):
            raise ConfigError(
                f"contract.{key} must be a multiple of {1 / factor:g}, got {value}"
            )
        values[name] = int(exact)
    try:
        return Contract(**values)
    except ValueError as error:
        raise ConfigError(f"contract: {error}") from error


def judge(
    contract: Contract,
    evidence: Iterable[Evidence],
    counts: Iterable[Paired],
    *,
    accept_estimates: bool = False,
) -> Verdict:
    """Return the verdict on a candidate.

    Args:
        contract: The limits.
        evidence: Figures by name; a limit without its figure is inconclusive.
        counts: ``overall`` first, then one per class.
        accept_estimates: Let figures that were not measured decide.
    """
    figures = {e.name: e for e in evidence}
    findings = [
        _quantity(name, limit, figures.get(name), accept_estimates=accept_estimates)
        for name, limit in contract.limits().items()
    ]
    overall, *classes = counts
    findings.append(_overall(contract, overall))
    findings.append(_retention(contract, overall))
    if classes:
        findings.append(_worst_class(contract, classes))
    outcomes = {f.outcome for f in findings}
    for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE):
        if outcome in outcomes:
            return Verdict(outcome, tuple(findings))
    return Verdict(Outcome.PASS, tuple(findings))


def _quantity(
    name: str, limit: int, figure: Evidence | None, *, accept_estimates: bool
) -> Finding:
    if figure is None:
        return Finding(name, Outcome.INCONCLUSIVE, f"{name} was not measured", "Measure it.")
    at_least = name.endswith("_hz")
    worst = figure.lower if at_least else figure.upper
    best = figure.upper if at_least else figure.lower
    sign = "at least" if at_least else "at most"
    reason = f"{_show(name, figure.value)}{_bound(name, figure.value, worst)}, {sign} "
    reason += f"{_show(name, limit)} is asked"
    if not figure.firm and not accept_estimates:
        remedy = "Measure it on the device, or pass --accept-estimates."
        return Finding(name, Outcome.INCONCLUSIVE, f"{reason} ({figure.method})", remedy)
    if worst is not None and ((worst >= limit) if at_least else (worst <= limit)):
        return Finding(name, Outcome.PASS, reason)
    if best is not None and ((best < limit) if at_least else (best > limit)):
        return Finding(name, Outcome.FAIL, reason, "Compress further, or relax this limit.")
    if worst is None:
        remedy = "Measure it with its 95 % bounds."
        return Finding(name, Outcome.INCONCLUSIVE, f"{reason} (no 95 % bound)", remedy)
    return Finding(name, Outcome.INCONCLUSIVE, reason, "Measure again with more samples.")


def _overall(contract: Contract, counts: Paired) -> Finding:
    limit = contract.accuracy_drop_bp / _BP
    loss = counts.loss()
    reason = (
        f"{_points(loss.estimate)} points lost on {counts.n} samples, "
        f"at most {_points(loss.high)} (95 %), {_points(limit)} allowed"
    )
    if loss.high <= limit:
        return Finding("accuracy_drop", Outcome.PASS, reason)
    if loss.low > limit:
        return Finding("accuracy_drop", Outcome.FAIL, reason, "Use a gentler technique.")
    needed = counts.loss_needs(limit)
    return Finding("accuracy_drop", Outcome.INCONCLUSIVE, reason, _more(counts, needed))


def _retention(contract: Contract, counts: Paired) -> Finding:
    if contract.min_retention_bp == 0:
        return Finding("retention", Outcome.PASS, "nothing has to be retained")
    kept = counts.kept()
    if kept is None:
        reason = "the reference answers nothing rightly, so nothing can be retained"
        return Finding(
            "retention", Outcome.FAIL, reason, "Check the labels and the reference."
        )
    asked = contract.min_retention_bp
    reason = (
        f"{_points(kept.estimate)} % of the reference's score kept on {counts.n} samples, "
        f"at least {_points(kept.low)} % (95 %), {asked / 100:.2f} % asked"
    )
    if kept.low * _BP >= asked:
        return Finding("retention", Outcome.PASS, reason)
    if kept.high * _BP < asked:
        return Finding("retention", Outcome.FAIL, reason, "Use a gentler technique.")
    needed = counts.kept_needs(asked / _BP)
    return Finding("retention", Outcome.INCONCLUSIVE, reason, _more(counts, needed))


def _worst_class(contract: Contract, classes: list[Paired]) -> Finding:
    """Every class must pass; a class fails only jointly with the others (Holm)."""
    limit = contract.worst_class_drop_bp / _BP
    losses = [c.loss() for c in classes]
    worst = max(range(len(classes)), key=lambda i: losses[i].high)
    counts, loss = classes[worst], losses[worst]
    reason = (
        f"class {counts.label!r}: {_points(loss.estimate)} points lost on {counts.n} samples, "
        f"at most {_points(loss.high)} (95 %), {_points(limit)} allowed"
    )
    if loss.high <= limit:
        return Finding("worst_class_drop", Outcome.PASS, reason)
    p_values = [c.p_value(limit) for c in classes]
    failed = [c.label for c, over in zip(classes, stats.holm(p_values), strict=True) if over]
    if failed:
        reason += f"; surely over it: {', '.join(failed)}"
        return Finding("worst_class_drop", Outcome.FAIL, reason, "Use a gentler technique.")
    needed = counts.loss_needs(limit)
    return Finding("worst_class_drop", Outcome.INCONCLUSIVE, reason, _more(counts, needed))


def _more(counts: Paired, needed: int | None) -> str:
    where = "" if counts.label == "overall" else f" of class {counts.label!r}"
    if needed is None:
        return f"More samples{where} at these rates would not bring it within the limit."
    return f"About {needed} samples{where} would decide it; there are {counts.n}."


def _points(share: float) -> str:
    return f"{share * 100:.2f}"


def _bound(name: str, value: int, worst: int | None) -> str:
    return "" if worst in {None, value} else f" (95 % bound {_show(name, worst)})"


def _show(name: str, value: int) -> str:
    if name.endswith("_bytes"):
        return show_bytes(value)
    if name.endswith("_us"):
        return show_us(value)
    unit = name.rsplit("_", 1)[1]
    return f"{value} {'Hz' if unit == 'hz' else 'mW' if unit == 'mw' else unit}"
