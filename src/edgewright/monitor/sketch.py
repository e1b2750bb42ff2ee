"""A latency sketch: quantiles within 1 %, in a few hundred counts that simply add up.

Bucket ``i`` counts the values in ``(g**(i-1), g**i]`` with ``g = (1 + a) / (1 - a)``
and ``a = 0.01``; it answers ``2 * g**i / (g + 1)``, which is within ``a`` of every
value in it. Sketches of two devices, or of two minutes, merge by adding counts.

Source: C. Masson, J. E. Rim and H. K. Lee, "DDSketch: a fast and fully-mergeable
quantile sketch with relative-error guarantees", VLDB 2019, section 2.
"""

from collections.abc import Iterable, Mapping
from math import ceil, inf, log
from typing import Self

from edgewright.core.errors import WireError

ACCURACY = 0.01

_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_PER_LOG = 1 / log(_GAMMA)
_FACTOR = 2 / (_GAMMA + 1)
# Bucket 0 holds everything up to 1 us; the last one begins after 30 years.
_MOST_INDEX, _MOST_DIGITS = 1728, 4


class Sketch:
    """Counts of durations in microseconds; below 1 us all count as 1 us."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self._counts: dict[int, int] = dict(counts or {})

    @property
    def counts(self) -> dict[int, int]:
        """How many values each bucket holds, by index; a copy."""
        return dict(self._counts)

    @property
    def count(self) -> int:
        """How many values were added."""
        return sum(self._counts.values())

    def add(self, us: float) -> None:
        """Count one duration.

        Raises:
            ValueError: It is negative or not finite.
        """
        self.extend((us,))

    def extend(self, values: Iterable[float]) -> None:
        """Count many durations; an error leaves those before it counted.

        Raises:
            ValueError: One is negative or not finite.
        """
        counts = self._counts
        for us in values:
            if not 0 <= us < inf:
                raise ValueError(f"a duration is finite and not negative, got {us}")
            index = min(ceil(log(us) * _PER_LOG), _MOST_INDEX) if us > 1 else 0
            counts[index] = counts.get(index, 0) + 1

    def merge(self, other: "Sketch") -> None:
        """Add the counts of ``other``."""
        for index, count in other._counts.items():  # noqa: SLF001  the other half of one class
            self._counts[index] = self._counts.get(index, 0) + count

    def quantile(self, q: float) -> float:
        """Return the value of rank ``floor(q * (count - 1))``, within 1 %; 0 if empty.

        Raises:
            ValueError: ``q`` is outside [0, 1].
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q must be 0 to 1, got {q}")
        rank = int(q * (self.count - 1))
        for index in sorted(self._counts):
            rank -= self._counts[index]
            if rank < 0:
                return _FACTOR * _GAMMA**index if index else 1.0
        return 0.0

    def to_wire(self) -> dict[str, int]:
        """Return the counts as JSON holds them, lowest bucket first."""
        return {str(index): self._counts[index] for index in sorted(self._counts)}

    @classmethod
    def from_wire(cls, data: Mapping[str, int]) -> Self:
        """Return the sketch that ``to_wire`` described.

        Raises:
            WireError: A bucket that does not exist, or a count that is not positive.
        """
        counts = {}
        for key, count in data.items():
            short = key.isascii() and key.isdigit() and len(key) <= _MOST_DIGITS
            known = short and str(int(key)) == key
            if not known or int(key) > _MOST_INDEX or count < 1:
                raise WireError(f"latency sketch has {count} values in bucket {key[:20]!r}")
            counts[int(key)] = count
        return cls(counts)
