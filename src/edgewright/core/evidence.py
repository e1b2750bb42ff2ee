"""Evidence: a measurement that says what, how much, how sure, where and how.

Values are whole numbers in the unit their name carries (``p99_us``,
``file_bytes``, ``accuracy_drop_bp``), because evidence is signed.
"""

from dataclasses import dataclass
from math import ceil
from statistics import NormalDist

from edgewright.core import stats
from edgewright.core.stats import Interval

METHODS = (
    "measured on device",
    "measured on host",
    "simulated",
    "parsed",
    "estimated",
    "declared",
)

# What counts as measured for a verdict; the rest needs --accept-estimates.
FIRM = frozenset({"measured on device", "measured on host", "parsed"})

# What is another number at every look, so that reading it once is not knowing it.
_SAMPLED = ("_us", "_ms", "_hz", "_mw", "peak_memory_bytes")


_MICRO = 1_000_000
_Z = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measurement.

    Attributes:
        name: What was measured, with its unit: ``p99_us``.
        value: The estimate, in that unit.
        n: Samples behind it; 1 for a size.
        machine: Fingerprint of the machine the figure belongs to.
        method: One of ``METHODS``.
        low: One-sided 95 % lower bound; None where it is exact, or not known.
        high: One-sided 95 % upper bound; None where it is exact, or not known.
        how: What was done, in a few words.
    """

    name: str
    value: int
    n: int
    machine: str
    method: str
    low: int | None = None
    high: int | None = None
    how: str = ""

    def __post_init__(self) -> None:
        """Refuse a method we have no word for and a bound on the wrong side."""
        if self.method not in METHODS:
            raise ValueError(
                f"unknown method {self.method!r}, use one of {', '.join(METHODS)}"
            )
        if self.n < 1:
            raise ValueError(f"evidence {self.name!r} needs n >= 1, got {self.n}")
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        if not low <= self.value <= high:
            raise ValueError(
                f"{self.name!r}: {self.low} <= {self.value} <= {self.high} is false"
            )

    @property
    def firm(self) -> bool:
        """Whether it was measured or read off the artifact itself."""
        return self.method in FIRM

    @property
    def exact(self) -> bool:
        """Whether the value needs no bounds: declared, or a size that was parsed."""
        if self.method == "parsed":
            return not self.name.endswith(_SAMPLED)
        return self.method == "declared"

    @property
    def lower(self) -> int | None:
        """The lower bound; the value where it is exact, None where nothing is sure."""
        return self.value if self.low is None and self.exact else self.low

    @property
    def upper(self) -> int | None:
        """The upper bound; the value where it is exact, None where nothing is sure."""
        return self.value if self.high is None and self.exact else self.high


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """How a candidate's answers compare with the reference's on the same samples.

    Attributes:
        label: Class name, or ``overall``.
        n: Samples; >= 1.
        reference_right: Answered rightly by the reference.
        lost: Right by the reference only.
        gained: Right by the candidate only.
    """

    label: str
    n: int
    reference_right: int
    lost: int
    gained: int

    def __post_init__(self) -> None:
        """Refuse counts that cannot be."""
        wrong = self.n - self.reference_right
        if self.n < 1 or not (
            0 <= self.lost <= self.reference_right and 0 <= self.gained <= wrong
        ):
            raise ValueError(f"impossible counts for {self.label!r}: {self}")

    @property
    def candidate_right(self) -> int:
        """Answered rightly by the candidate."""
        return self.reference_right - self.lost + self.gained

    @property
    def reference(self) -> float:
        """The share the reference answers rightly."""
        return self.reference_right / self.n

    @property
    def candidate(self) -> float:
        """The share the candidate answers rightly."""
        return self.candidate_right / self.n

    def loss(self) -> Interval:
        """Return the share lost, with one-sided 95 % bounds."""
        return stats.paired_loss(self.lost, self.gained, self.n)

    def kept(self) -> Interval | None:
        """Return candidate over reference; None where the reference is never right."""
        if self.reference_right == 0:
            return None
        return stats.retention(self.reference_right, self.lost, self.gained)

    def p_value(self, limit: float) -> float:
        """Return the p-value against a loss of at most ``limit``."""
        return stats.paired_p_value(self.lost, self.gained, self.n, limit)

    def loss_needs(self, limit: float) -> int | None:
        """Return how many samples would decide ``loss <= limit`` if the rates stay."""
        return stats.samples_needed(self.lost, self.gained, self.n, limit)

    def kept_needs(self, at_least: float) -> int | None:
        """Return how many samples would decide ``kept >= at_least`` if the rates stay."""
        right, lost, gained = self.reference_right, self.lost, self.gained
        return stats.retention_samples_needed(right, lost, gained, self.n, at_least)

    @property
    def unlike(self) -> str:
        """What differs, in a few characters."""
        return f"-{self.lost} +{self.gained}"


@dataclass(frozen=True, slots=True)
class PairedScores:
    """How a candidate scores beside the reference on the same samples, in millionths.

    For what is not right or wrong sample by sample: an area, a mean error, a likeness.
    A score is 1 at best, and its loss is reference minus candidate.

    Attributes:
        label: Class name, or ``overall``.
        n: Samples; >= 1.
        reference_micro: The reference's score.
        candidate_micro: The candidate's score.
        low_micro: One-sided 95 % lower bound of the loss.
        high_micro: One-sided 95 % upper bound of the loss.
        how: Where the bounds are from, in a few words.
    """

    label: str
    n: int
    reference_micro: int
    candidate_micro: int
    low_micro: int
    high_micro: int
    how: str = ""

    def __post_init__(self) -> None:
        """Refuse bounds on the wrong side."""
        loss = self.reference_micro - self.candidate_micro
        if self.n < 1 or not self.low_micro <= loss <= self.high_micro:
            raise ValueError(f"impossible scores for {self.label!r}: {self}")

    @property
    def reference(self) -> float:
        """The reference's score."""
        return self.reference_micro / _MICRO

    @property
    def candidate(self) -> float:
        """The candidate's score."""
        return self.candidate_micro / _MICRO

    def loss(self) -> Interval:
        """Return the loss with one-sided 95 % bounds."""
        return Interval(
            self.low_micro / _MICRO, self.reference - self.candidate, self.high_micro / _MICRO
        )

    def kept(self) -> Interval | None:
        """Return candidate over reference; None where the reference scores nothing."""
        if self.reference_micro <= 0:
            return None
        loss = self.loss()
        parts = (self.reference - one for one in (loss.high, loss.estimate, loss.low))
        return Interval(*(part / self.reference for part in parts))

    def p_value(self, limit: float) -> float:
        """Return the p-value against a loss of at most ``limit``, by the lower bound."""
        loss = self.loss()
        if loss.estimate <= limit:
            return 1.0
        if loss.estimate <= loss.low:
            return 0.0
        return 1 - NormalDist().cdf((loss.estimate - limit) / (loss.estimate - loss.low) * _Z)

    def loss_needs(self, limit: float) -> int | None:
        """Return how many samples would decide ``loss <= limit`` if nothing else changes."""
        loss = self.loss()
        if limit <= loss.estimate:
            return None
        return _grown(self.n, loss.high - loss.estimate, limit - loss.estimate)

    def kept_needs(self, at_least: float) -> int | None:
        """Return how many samples would decide ``kept >= at_least``."""
        return self.loss_needs((1 - at_least) * self.reference)

    @property
    def unlike(self) -> str:
        """What differs, in a few characters."""
        return f"{(self.candidate - self.reference) * 100:+.2f}"


Paired = PairedCounts | PairedScores


def _grown(n: int, width: float, room: float) -> int:
    """Return how many samples bring a bound from ``width`` to ``room``: as its root."""
    return max(n + 1, ceil(n * (width / room) ** 2))
