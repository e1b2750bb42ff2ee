"""When two sets of answers to the same golden inputs count as the same.

``top1``: the index of the largest number of a row (the first of equals) agrees
on at least ``min_agree_bp`` of the rows. ``close``: every number of every row
differs by at most ``atol_micro / 1e6``. A NaN among the answers never passes,
nor does a row that is missing, too many or of another length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isnan

from edgewright.bundle.manifest import TOP1, Tolerance

_BP = 10_000
# What is shown for a difference without bound; the largest integer JSON keeps.
_MOST = (1 << 53) - 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """How one golden set came out.

    Attributes:
        passed: Within the tolerance.
        count: Rows compared.
        detail: One sentence with the numbers.
        worst_micro: Largest difference of two numbers in millionths, rounded up.
    """

    passed: bool
    count: int
    detail: str
    worst_micro: int


def compare(
    tolerance: Tolerance,
    expected: Sequence[Sequence[float]],
    got: Sequence[Sequence[float]],
) -> Comparison:
    """Return how ``got`` compares with ``expected``: one flat row a sample."""
    if misfit := _misfit(expected, got):
        return Comparison(passed=False, count=len(expected), detail=misfit, worst_micro=_MOST)
    broken = [i for i, row in enumerate(got) if any(isnan(value) for value in row)]
    if broken:
        detail = (
            f"{len(broken)} of {len(got)} answers hold NaN, the first is number {broken[0]}"
        )
        return Comparison(passed=False, count=len(got), detail=detail, worst_micro=_MOST)
    differences = [_difference(a, b) for a, b in zip(expected, got, strict=True)]
    worst = max(differences)
    if tolerance.kind == TOP1:
        agree = sum(_top(a) == _top(b) for a, b in zip(expected, got, strict=True))
        passed = agree * _BP >= tolerance.min_agree_bp * len(got)
        detail = (
            f"{agree} of {len(got)} answers agree, "
            f"at least {tolerance.min_agree_bp / 100:.2f} % must"
        )
    else:
        passed = worst <= tolerance.atol_micro
        detail = (
            f"largest difference {worst / 1e6:.6f} in {len(got)} answers "
            f"(number {differences.index(worst)}), "
            f"at most {tolerance.atol_micro / 1e6:.6f} may be"
        )
    return Comparison(passed=passed, count=len(got), detail=detail, worst_micro=worst)


def _misfit(expected: Sequence[Sequence[float]], got: Sequence[Sequence[float]]) -> str:
    if not expected:
        return "there are no golden answers to compare with"
    if len(expected) != len(got):
        return f"{len(expected)} answers are expected, got {len(got)}"
    for index, (one, other) in enumerate(zip(expected, got, strict=True)):
        if len(one) != len(other) or not len(one):
            return f"answer {index} should hold {len(one)} numbers, got {len(other)}"
    return ""


def _difference(expected: Sequence[float], got: Sequence[float]) -> int:
    """Return the largest difference in millionths, rounded up; equal infinities are equal."""
    worst = 0.0
    for one, other in zip(expected, got, strict=True):
        if one != other:
            apart = abs(one - other)
            if isnan(apart):
                return _MOST
            worst = max(worst, apart)
    # A thousandth is taken off before rounding up, so that 1.1 - 1.0, which is
    # a little more than 0.1 in binary, counts as 100000 millionths.
    return ceil(worst * 1e6 - 1e-3) if worst * 1e6 < _MOST else _MOST


def _top(row: Sequence[float]) -> int:
    return max(range(len(row)), key=row.__getitem__)
