"""A glance at candidates: which is asked next, and which need not be asked at all."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.contract import Contract
from edgewright.core.evidence import Evidence, PairedCounts
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure.data import Dataset
from edgewright.toolchain.planner.decide import Known, Rules
from edgewright.toolchain.planner.glance import Prices, few
from edgewright.toolchain.planner.values import CandidatePlan, Step

HERE, THERE = "linux-11111111", "raspberry-pi-22222222"
CONTRACT = Contract(accuracy_drop_bp=200, worst_class_drop_bp=10_000, min_retention_bp=0)
SCORES = (TensorSpec("scores", "float32", (-1, 4)),)


def known(name, size, ratio=10_000, *, low=None, lost=0, gained=0, n=256):
    """Return what a glance says of a candidate; nothing of its answers where ``n`` is 0."""
    figures = (
        Evidence("file_bytes", size, 1, HERE, "parsed"),
        Evidence("latency_ratio_bp", ratio, 9, HERE, "measured on host", low or ratio, ratio),
    )
    counts = (PairedCounts("overall", n, n * 9 // 10, lost, gained),) if n else ()
    return Known(name, choosable=True, evidence=figures, counts=counts)


def prices(*seen, evaluate=2000, **rules):
    """Return prices of candidates that are judged by ``evaluate`` samples later."""
    bench = SimpleNamespace(data=SimpleNamespace(evaluate=range(evaluate)))
    rules = Rules(**{"contract": CONTRACT, "machine": HERE, "host": HERE, **rules})
    return Prices(bench, None, rules, None, {one.name: one for one in seen})


@st.composite
def _waiting(draw):
    """Draw candidates, some of which lose much, and what would ship now."""
    seen = [
        known(
            f"c{number}",
            draw(st.integers(1, 1000)),
            draw(st.integers(1000, 20_000)),
            lost=draw(st.sampled_from([0, 1, 30])),
        )
        for number in range(draw(st.integers(1, 6)))
    ]
    names = [one.name for one in seen]
    best = draw(st.sampled_from(["", "nearest c0", *names]))
    return prices(*seen), [name for name in names if name != best], best


@given(_waiting())
def test_the_cheapest_that_may_well_hold_is_next(drawn):
    """Nothing likely that is cheaper waits behind it, and it is cheaper than what holds."""
    costs, waiting, best = drawn

    name = costs.next(waiting, best)

    # Two in a hundred are no difference.
    limit = costs.cost(best) / 1.02 if best in costs.known else float("inf")
    likely = [n for n in waiting if costs.known[n].counts[0].lost < 30]
    cheaper = [costs.cost(n) for n in likely if costs.cost(n) < limit]
    if name in likely:
        assert costs.cost(name) == min(cheaper)
    elif name:
        assert not cheaper
        assert 2 * costs.cost(name) < limit
    else:
        assert not cheaper


def test_of_two_that_cost_the_same_the_plan_decides():
    """Names mean nothing."""
    costs = prices(known("z", 100), known("a", 100), known("float", 400))

    assert costs.next(["z", "a"], "float") == "z"


@pytest.mark.parametrize(("size", "asked"), [(49, "int4"), (50, "")])
def test_what_will_hardly_hold_is_asked_for_half_the_cost(size, asked):
    """8 of 256 lost is 3.1 points of 2: it may have been the draw, in one of ten perhaps."""
    costs = prices(known("int8", 100), known("int4", size, lost=8))

    assert costs.next(["int4"], "int8") == asked


def test_why_one_is_not_asked_is_told_with_its_price_and_what_it_lost():
    """Dearer, or cheaper and hardly right."""
    costs = prices(known("int8", 100), known("fp16", 150, 9900), known("int4", 60, lost=8))

    assert costs.behind("fp16", "int8") == (
        "int8 holds, and its bytes times latency are no less by a short run: 150 bytes at "
        "0.99 times the baseline's latency"
    )
    assert costs.behind("int4", "int8") == (
        "int8 holds, and it hardly would: 3.12 points lost on 256 of the samples; it takes "
        "60 bytes at 1.00 times the baseline's latency"
    )


def test_what_was_measured_at_length_counts_for_more_than_a_short_run():
    """It was 80 by the first, and is 100 by the second: 90 is less."""
    costs = prices(known("int8", 100, 8000), known("int4", 100, 9000))
    before = costs.next(["int4"], "int8")

    costs.correct(known("int8", 100, 10_000))

    assert (before, costs.next(["int4"], "int8")) == ("", "int4")


def test_where_nothing_holds_all_are_asked():
    """The float model misses too: whatever is left has its turn, the likely ones first."""
    costs = prices(known("float", 400), known("int8", 100), known("int4", 50, lost=8))

    assert costs.next(["int8", "int4"], "nearest float") == "int8"
    assert costs.next(["int4"], "nearest float") == "int4"


def test_what_was_not_asked_yet_may_hold():
    """Of a candidate that is long to make only the cost is known."""
    costs = prices(known("int8", 100), known("int4-learned", 90, n=0))

    assert costs.next(["int4-learned"], "int8") == "int4-learned"
    assert not costs.hopeless("int4-learned")


def test_more_samples_to_come_help_what_is_undecided():
    """3 of 256 lost: bounds of 300 samples in all are too wide for 2 points, of 20,000 not."""
    asked = [
        prices(known("int8", 100), known("a", 60, lost=3), evaluate=count).next(["a"], "int8")
        for count in (300, 20_000)
    ]

    assert asked == ["", "a"]


def test_what_surely_misses_is_told_with_its_numbers():
    """26 of 256 lost is 10 points where 2 are allowed."""
    costs = prices(known("int4", 50, lost=26), known("int8", 100, lost=6))

    why = costs.hopeless("int4")

    assert why.startswith(
        "surely misses accuracy_drop by some of its answers: 10.16 points lost"
    )
    assert "256 samples" in why
    assert not costs.hopeless("int8")


def test_what_is_surely_slower_is_not_asked_either():
    """Unless slower may ship, or the time is of another machine than the contract's."""
    slow = known("int8", 100, 15_000, low=14_000)

    assert prices(slow).hopeless("int8").startswith("slower than the float baseline: 1.50")
    assert not prices(slow, allow_slower=True).hopeless("int8")
    assert not prices(slow, machine=THERE).hopeless("int8")


def test_what_is_long_to_make_costs_what_its_like_does():
    """Learned rounding changes neither bytes nor time, and says nothing of answers yet."""
    plain = Step("weights", {"form": "int4", "block": "32"}, "because")
    learned = Step("weights", {**plain.settings, "rounding": "learned"}, "for another reason")
    plans = {
        name: CandidatePlan(name, (step,), choosable=True)
        for name, step in {"int4": plain, "int4-learned": learned}.items()
    }
    costs = prices(known("int4", 50, lost=26))

    assert costs.like(plans["int4-learned"], plans)
    assert costs.cost("int4-learned") == costs.cost("int4")
    assert not costs.hopeless("int4-learned")
    assert not costs.like(plans["int4"], plans)
    assert not prices().like(plans["int4-learned"], plans)


def _data(count):
    """Return samples that stand in the order of their four classes."""
    labels = np.sort(np.arange(count) % 4)
    inputs = Samples({"x": np.arange(count, dtype=np.float32)[:, None]})
    names = ("a", "b", "c", "d")
    return Dataset(inputs[:0], inputs, labels, names, "sha256:" + "0" * 64)


@pytest.mark.parametrize(("count", "asked"), [(511, None), (512, 256), (4000, 500)])
def test_a_glance_is_an_eighth_and_no_fewer_than_256(count, asked):
    """None is taken where that would be more than half of all."""
    data = _data(count)
    reference = (np.eye(4, dtype=np.float32)[data.labels],)

    glance = few("accuracy", data, SCORES, reference)

    assert (glance and len(glance.samples)) == asked


def test_a_glance_sees_all_classes_with_their_own_labels():
    """Data in the order of classes; the reference's answers to those samples are all right."""
    data = _data(2000)
    reference = (np.eye(4, dtype=np.float32)[data.labels],)

    glance = few("accuracy", data, SCORES, reference)

    places = glance.samples.arrays["x"][:, 0].astype(int)
    counts = glance.metric.compare((reference[0][places],))
    assert counts[0].reference == counts[0].candidate == 1
    assert min(one.n for one in counts[1:]) > 40
    again = few("accuracy", data, SCORES, reference)
    assert np.array_equal(places, again.samples.arrays["x"][:, 0].astype(int))


def test_a_metric_that_needs_what_was_not_drawn_means_no_glance():
    """A single positive among 4000, for an area under a curve."""
    inputs = Samples({"x": np.zeros((4000, 1), np.float32)})
    labels = np.zeros(4000, np.int64)
    labels[7] = 1
    data = Dataset(inputs[:0], inputs, labels, ("no", "yes"), "sha256:" + "0" * 64)
    reference = (np.random.default_rng(1).random((4000, 2), np.float32),)

    assert few("auc", data, (TensorSpec("scores", "float32", (-1, 2)),), reference) is None
