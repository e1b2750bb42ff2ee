"""The sketch: within 1 %, and merging is adding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.errors import WireError
from edgewright.monitor.sketch import ACCURACY, Sketch

DURATIONS = st.floats(1, 1e13)
LISTS = st.lists(DURATIONS, min_size=1, max_size=50)
QUANTILES = st.floats(0, 1)


def sketch(values):
    """Return a sketch of the values."""
    made = Sketch()
    made.extend(values)
    return made


def merged(*sketches):
    """Return the sum of sketches, which stay as they are."""
    total = Sketch()
    for one in sketches:
        total.merge(one)
    return total


@given(LISTS, QUANTILES)
def test_a_quantile_is_within_one_percent(values, q):
    """The answer is within 1 % of the value of that rank."""
    exact = sorted(values)[int(q * (len(values) - 1))]

    got = sketch(values).quantile(q)

    assert abs(got - exact) <= exact * (ACCURACY + 1e-9)


@given(LISTS, QUANTILES, QUANTILES)
def test_quantiles_do_not_fall(values, one, other):
    """A higher quantile is never a smaller value."""
    low, high = sorted((one, other))
    made = sketch(values)

    assert made.quantile(low) <= made.quantile(high)


@given(st.lists(LISTS, max_size=4))
def test_merging_is_adding_the_values(parts):
    """A merged sketch is the sketch of all values together."""
    whole = sketch([value for part in parts for value in part])

    assert merged(*map(sketch, parts)).counts == whole.counts


@given(LISTS, LISTS, LISTS)
def test_merging_is_associative_and_commutative(a, b, c):
    """Devices and minutes may be summed in any order and grouping."""
    one, two, three = map(sketch, (a, b, c))

    left = merged(merged(one, two), three)
    right = merged(one, merged(three, two))

    assert left.counts == right.counts


@given(LISTS)
def test_it_survives_the_wire(values):
    """What is sent is what is counted."""
    made = sketch(values)

    assert Sketch.from_wire(made.to_wire()).counts == made.counts
    assert made.count == len(values)


@given(LISTS)
def test_one_by_one_is_all_at_once(values):
    """Adding and extending count alike."""
    single = Sketch()
    for value in values:
        single.add(value)

    assert single.counts == sketch(values).counts


def test_known_buckets():
    """Hand-worked: g = 1.01/0.99, so 1.02 us is in bucket 1 and 100 us in bucket 231."""
    made = sketch([0.0, 0.5, 1.0, 1.02, 100.0])

    assert made.to_wire() == {"0": 3, "1": 1, "231": 1}
    assert made.quantile(0) == 1.0
    assert made.quantile(1) == pytest.approx(100, rel=0.01)


def test_what_is_longer_than_thirty_years_is_counted():
    """The last bucket has no upper end, so the number of buckets is bounded."""
    made = sketch([1e16, 1e30, 1e300])

    assert made.to_wire() == {"1728": 3}


def test_an_empty_sketch_answers_zero():
    """No answer has a duration."""
    assert Sketch().quantile(0.99) == 0.0
    assert Sketch().count == 0
    assert Sketch().to_wire() == {}


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_what_is_no_duration_is_the_callers_mistake(bad):
    """A negative or endless duration is refused."""
    with pytest.raises(ValueError, match="a duration is finite"):
        Sketch().add(bad)


def test_a_quantile_outside_the_unit_interval_is_refused():
    """Percent are not fractions."""
    with pytest.raises(ValueError, match="q must be 0 to 1"):
        Sketch().quantile(99)


@pytest.mark.parametrize(
    "data", [{"x": 1}, {"-1": 1}, {"1729": 1}, {"1": 0}, {"1": -5}, {"01": 1}, {"²": 1}]
)
def test_a_sketch_that_cannot_be_is_refused(data):
    """Counts of a peer are checked before they are merged."""
    with pytest.raises(WireError, match="latency sketch"):
        Sketch.from_wire(data)
