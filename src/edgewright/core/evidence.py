"""Evidence: a measurement that says what, how much, how sure, where and how.

Values are whole numbers in the unit their name carries (``p99_us``,
``file_bytes``, ``accuracy_drop_bp``), because evidence is signed.
"""

from dataclasses import dataclass

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
