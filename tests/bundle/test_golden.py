"""compare: the two tolerances, and what never passes."""

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.bundle.golden import compare
from edgewright.bundle.manifest import CLOSE, TOP1, Tolerance

NUMBERS = st.floats(-1e6, 1e6, width=32)
WIDTHS = st.integers(1, 5)
ROWS = WIDTHS.flatmap(
    lambda width: st.lists(st.lists(NUMBERS, min_size=width, max_size=width), min_size=1)
)
TOLERANCES = st.one_of(
    st.builds(Tolerance, st.just(TOP1), min_agree_bp=st.integers(0, 10_000)),
    st.builds(Tolerance, st.just(CLOSE), atol_micro=st.integers(0, 10**6)),
)


@given(TOLERANCES, ROWS)
def test_a_set_equals_itself(tolerance, rows):
    """Equal answers pass every tolerance, with no difference."""
    result = compare(tolerance, rows, rows)

    assert result.passed
    assert result.worst_micro == 0
    assert result.count == len(rows)


@given(TOLERANCES, ROWS, st.data())
def test_a_nan_never_passes(tolerance, rows, data):
    """One NaN anywhere among the answers fails the set, however generous it is."""
    got = [list(row) for row in rows]
    row = data.draw(st.integers(0, len(got) - 1))
    got[row][data.draw(st.integers(0, len(got[row]) - 1))] = nan

    result = compare(tolerance, rows, got)

    assert not result.passed
    assert f"the first is number {row}" in result.detail


@given(ROWS, st.integers(0, 10**6), st.integers(0, 10**6), st.data())
def test_a_wider_tolerance_never_refuses_more(rows, one, other, data):
    """What passes close at one width passes at every greater one."""
    got = [[value + data.draw(st.floats(-1, 1, width=32)) for value in row] for row in rows]
    narrow, wide = sorted((one, other))

    results = [
        compare(Tolerance(CLOSE, atol_micro=atol), rows, got) for atol in (narrow, wide)
    ]

    assert results[1].passed or not results[0].passed
    assert results[0].worst_micro == results[1].worst_micro


@given(ROWS)
def test_close_says_the_largest_difference(rows):
    """The worst difference is the one that was put there."""
    got = [list(row) for row in rows]
    got[-1][-1] += 0.25

    result = compare(Tolerance(CLOSE, atol_micro=250_000), rows, got)

    assert result.worst_micro == pytest.approx(250_000, abs=65_000)  # float steps at 1e6


@pytest.mark.parametrize(
    ("got", "agree", "passed"),
    [
        ([[0, 1], [1, 0], [0, 1], [1, 0]], 4, True),
        ([[0, 1], [1, 0], [0, 1], [0, 1]], 3, True),
        ([[0, 1], [1, 0], [1, 0], [0, 1]], 2, False),
    ],
)
def test_top1_counts_the_rows_that_agree(got, agree, passed):
    """A hand-worked example: three of four must agree."""
    expected = [[0, 9], [9, 0], [0, 9], [9, 0]]

    result = compare(Tolerance(TOP1, min_agree_bp=7500), expected, got)

    assert result.passed is passed
    assert result.detail == f"{agree} of 4 answers agree, at least 75.00 % must"


def test_among_equals_the_first_is_the_top():
    """A tie is decided as argmax decides it."""
    tolerance = Tolerance(TOP1)

    assert compare(tolerance, [[1, 1, 0]], [[5, 4, 4]]).passed
    assert not compare(tolerance, [[1, 1, 0]], [[4, 5, 5]]).passed


@pytest.mark.parametrize(
    ("expected", "got", "worst"),
    [
        ([[1.0]], [[1.1]], 100_000),
        ([[1.0, 2.0]], [[1.0, 2.0000005]], 1),
        ([[0.0]], [[-3.5]], 3_500_000),
        ([[inf]], [[inf]], 0),
        ([[inf]], [[1.0]], 2**53 - 1),
        ([[nan]], [[1.0]], 2**53 - 1),
        ([[nan, 0.0]], [[1.0, 1.0]], 2**53 - 1),
        ([[-inf]], [[inf]], 2**53 - 1),
    ],
)
def test_known_differences(expected, got, worst):
    """Hand-worked differences in millionths; one that is no number passes nothing."""
    result = compare(Tolerance(CLOSE, atol_micro=10**9), expected, got)

    assert result.worst_micro == worst
    assert result.passed is (worst <= 10**9)


@pytest.mark.parametrize(
    ("expected", "got", "detail"),
    [
        ([], [], "there are no golden answers"),
        ([[1.0]], [[1.0], [1.0]], "1 answers are expected, got 2"),
        ([[1.0], [1.0]], [[1.0]], "2 answers are expected, got 1"),
        ([[1.0, 2.0]], [[1.0]], "answer 0 should hold 2 numbers, got 1"),
        ([[]], [[]], "answer 0 should hold 0 numbers, got 0"),
    ],
)
@pytest.mark.parametrize("kind", [TOP1, CLOSE])
def test_answers_of_another_form_never_pass(kind, expected, got, detail):
    """A missing row, one too many, or one of another length fails the set."""
    result = compare(Tolerance(kind, min_agree_bp=0, atol_micro=10**9), expected, got)

    assert not result.passed
    assert detail in result.detail
