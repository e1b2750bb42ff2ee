"""evidence: what a figure may claim."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.evidence import FIRM, METHODS, Evidence, PairedCounts


def _figure(**changes):
    values = {"name": "p99_us", "value": 100, "n": 50, "machine": "m", "method": "simulated"}
    return Evidence(**{**values, **changes})


@pytest.mark.parametrize(
    ("name", "method"),
    [("file_bytes", "parsed"), ("transport_bytes", "parsed"), ("p99_us", "declared")],
)
def test_an_exact_figure_is_its_own_bound(name, method):
    """A size that was read off a file and what was declared need no interval."""
    figure = _figure(name=name, method=method)

    assert figure.exact
    assert (figure.lower, figure.upper) == (100, 100)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("p99_us", "measured on device"),
        ("file_bytes", "measured on host"),
        ("first_answer_ms", "simulated"),
        ("rate_hz", "estimated"),
        ("power_mw", "parsed"),
        ("peak_memory_bytes", "parsed"),
    ],
)
def test_a_sampled_figure_without_an_interval_has_no_bounds(name, method):
    """Having looked at it says nothing of where it will be the next time."""
    figure = _figure(name=name, method=method)

    assert not figure.exact
    assert (figure.lower, figure.upper) == (None, None)


def test_bounds_are_kept():
    """One side may be known alone."""
    assert (_figure(low=90).lower, _figure(low=90).upper) == (90, None)
    assert (_figure(high=0, value=0).upper, _figure(high=110).upper) == (0, 110)


@pytest.mark.parametrize("method", METHODS)
def test_only_what_was_measured_or_read_is_firm(method):
    """Simulated, estimated and declared figures never decide by themselves."""
    assert _figure(method=method).firm == (method in FIRM)


@pytest.mark.parametrize(
    "changes",
    [{"method": "guessed"}, {"n": 0}, {"low": 101}, {"high": 99}],
    ids=["method", "samples", "low", "high"],
)
def test_claims_that_cannot_be_are_refused(changes):
    """Another method, no samples, a bound on the wrong side."""
    with pytest.raises(ValueError, match=r"method|needs n|is false"):
        _figure(**changes)


@given(st.integers(1, 500), st.data())
def test_paired_counts_add_up(n, data):
    """What the candidate answers rightly follows, between 0 and n."""
    right = data.draw(st.integers(0, n))
    lost, gained = data.draw(st.integers(0, right)), data.draw(st.integers(0, n - right))

    counts = PairedCounts("overall", n, right, lost, gained)

    assert counts.candidate_right == right - lost + gained
    assert 0 <= counts.candidate_right <= n


@pytest.mark.parametrize(
    ("n", "right", "lost", "gained"),
    [
        (0, 0, 0, 0),
        (10, 11, 0, 0),
        (10, 5, 6, 0),
        (10, 5, 0, 6),
        (10, 5, -1, 0),
        (10, -1, 0, 0),
    ],
)
def test_counts_that_cannot_be_are_refused(n, right, lost, gained):
    """None at all, more right than there are, more lost than were right."""
    with pytest.raises(ValueError, match="impossible counts"):
        PairedCounts("overall", n, right, lost, gained)
