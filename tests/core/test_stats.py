"""The statistics behind verdicts: published numbers, independent sums, exact coverage."""

from math import comb, isclose, lgamma, log, sqrt
from math import exp as e_to

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from edgewright.core import stats

CONFIDENCES = st.floats(0.5, 0.999)


@st.composite
def paired(draw, most=400):
    """Draw lost, gained, n that can be."""
    n = draw(st.integers(1, most))
    lost = draw(st.integers(0, n))
    return lost, draw(st.integers(0, n - lost)), n


@st.composite
def hits(draw, most=2000):
    """Draw hits and n."""
    n = draw(st.integers(1, most))
    return draw(st.integers(0, n)), n


def _binomial_tail(count, n, p):
    """Return P(X <= count), summed term by term."""
    return sum(
        e_to(_log_choose(n, k) + k * log(p) + (n - k) * log(1 - p)) for k in range(count + 1)
    )


def _log_choose(n, k):
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


# --- Clopper-Pearson


@pytest.mark.parametrize(
    ("count", "n", "upper"),
    [
        # 0 hits: (1 - p)**n = 0.05.
        (0, 1, 0.95),
        (0, 2, 1 - sqrt(0.05)),
        (0, 90, 1 - 0.05 ** (1 / 90)),
        # n - 1 hits: 1 - p**n = 0.05.
        (1, 2, sqrt(0.95)),
        (9, 10, 0.95 ** (1 / 10)),
        (5, 5, 1.0),
        # 1 of 3: (1 - p)**2 * (1 + 2p) = 0.05.
        (1, 3, 0.8646497),
    ],
)
def test_upper_bounds_worked_by_hand(count, n, upper):
    """Closed forms, and one root of a cubic."""
    assert isclose(stats.binomial_upper(count, n), upper, rel_tol=1e-7)


@given(hits(), CONFIDENCES)
def test_the_upper_bound_is_where_the_tail_is_the_rest(drawn, confidence):
    """At the bound, as few hits as seen have probability 1 - confidence (summed)."""
    count, n = drawn
    assume(count < n)

    bound = stats.binomial_upper(count, n, confidence=confidence)

    assert isclose(_binomial_tail(count, n, bound), 1 - confidence, rel_tol=1e-6)


@given(hits(), CONFIDENCES)
def test_lower_and_upper_bounds_mirror_each_other(drawn, confidence):
    """A bound on hits is a bound on misses, and both enclose the estimate."""
    count, n = drawn

    low = stats.binomial_lower(count, n, confidence=confidence)
    high = stats.binomial_upper(count, n, confidence=confidence)

    assert 0.0 <= low <= count / n <= high <= 1.0
    assert low == 1 - stats.binomial_upper(n - count, n, confidence=confidence)


@pytest.mark.parametrize(("count", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_the_callers_mistake(count, n):
    """Every entrance refuses them."""
    for ask in (
        stats.binomial_upper,
        stats.binomial_lower,
        lambda c, m: stats.paired_loss(c, 0, m),
    ):
        with pytest.raises(ValueError, match="need 0 <= hits <= n"):
            ask(count, n)


# --- paired loss


def test_tangos_published_example():
    """Soft lenses, 44 pairs, one differs: -0.023 with 90 % interval -0.096 to 0.037."""
    upper = stats._tango_upper(1, 0, 44, 0.95)
    lower = -stats._tango_upper(0, 1, 44, 0.95)

    assert (round(upper, 3), round(lower, 3)) == (0.096, -0.037)


def test_no_difference_seen_is_not_no_difference():
    """0 of 90: the exact bound 1 - 0.05**(1/90), not Tango's smaller one."""
    loss = stats.paired_loss(0, 0, 90)

    assert isclose(loss.high, 0.0327380, rel_tol=1e-5)
    assert isclose(stats._tango_upper(0, 0, 90, 0.95), 0.0291843, rel_tol=1e-5)
    assert (loss.low, loss.estimate) == (-loss.high, 0.0)


@given(paired(most=150))
def test_the_score_bound_solves_its_equation(drawn):
    """At Tango's bound the score, its nuisance maximised independently, is z."""
    lost, gained, n = drawn
    assume(0 < lost < n)
    upper = stats._tango_upper(lost, gained, n, 0.95)

    rate = _constrained_gained(lost, gained, n, upper)
    variance = n * (2 * rate + upper * (1 - upper))

    assert isclose((n * upper - (lost - gained)) / sqrt(variance), 1.6448536, rel_tol=1e-3)


def _constrained_gained(lost, gained, n, loss):
    """Maximise the trinomial likelihood over the gained rate, the loss held fixed."""

    def likelihood(rate):
        parts = ((lost, rate + loss), (gained, rate), (n - lost - gained, 1 - 2 * rate - loss))
        return sum(count * log(max(p, 1e-300)) for count, p in parts if count)

    low, high = max(0.0, -loss), (1 - loss) / 2
    for _ in range(200):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if likelihood(left) < likelihood(right):
            low = left
        else:
            high = right
    return (low + high) / 2


@given(paired(), CONFIDENCES)
@example((0, 0, 1), 0.95)
@example((1, 0, 1), 0.95)
@example((0, 1, 1), 0.95)
def test_the_bounds_enclose_the_estimate(drawn, confidence):
    """-1 <= low <= estimate <= high <= 1."""
    lost, gained, n = drawn

    loss = stats.paired_loss(lost, gained, n, confidence=confidence)

    assert loss.estimate == (lost - gained) / n
    assert -1 <= loss.low <= loss.estimate + 1e-9
    assert loss.estimate - 1e-9 <= loss.high <= 1


@given(paired())
def test_loss_and_gain_mirror_each_other(drawn):
    """Swapping the two models turns the interval round."""
    lost, gained, n = drawn

    ours, theirs = stats.paired_loss(lost, gained, n), stats.paired_loss(gained, lost, n)

    assert (ours.low, ours.high) == (-theirs.high, -theirs.low)


@given(paired())
def test_one_more_lost_never_helps(drawn):
    """Both bounds rise with a sample lost and fall with one gained."""
    lost, gained, n = drawn
    assume(lost + gained < n)

    now = stats.paired_loss(lost, gained, n)
    worse, better = (
        stats.paired_loss(lost + 1, gained, n),
        stats.paired_loss(lost, gained + 1, n),
    )

    assert better.high - 1e-9 <= now.high <= worse.high + 1e-9
    assert better.low - 1e-9 <= now.low <= worse.low + 1e-9


@given(paired(), CONFIDENCES, CONFIDENCES)
def test_more_confidence_is_a_wider_interval(drawn, one, other):
    """The bounds move outwards with the confidence asked."""
    lost, gained, n = drawn
    less, more = sorted((one, other))

    narrow = stats.paired_loss(lost, gained, n, confidence=less)
    wide = stats.paired_loss(lost, gained, n, confidence=more)

    assert wide.low <= narrow.low + 1e-9
    assert narrow.high <= wide.high + 1e-9


@given(paired())
def test_more_samples_of_the_same_kind_narrow_the_interval(drawn):
    """Four times the samples at the same rates: neither bound moves outwards."""
    lost, gained, n = drawn

    few, many = (
        stats.paired_loss(lost, gained, n),
        stats.paired_loss(4 * lost, 4 * gained, 4 * n),
    )

    assert few.low - 1e-9 <= many.low
    assert many.high <= few.high + 1e-9


@pytest.mark.parametrize(
    ("n", "most", "at_least"),
    [(20, 0.2, 0.945), (30, 0.2, 0.945), (50, 0.2, 0.945), (20, 0.4, 0.94), (30, 0.4, 0.94)],
)
def test_the_bounds_cover_the_truth(n, most, at_least):
    """Enumerating every outcome: each bound alone holds in about 95 % of samples.

    A score bound is not exact: where more than a fifth of the samples is lost or
    gained it falls short by up to 0.6 points, which is why the limit is 94 % there.
    """
    bounds = [
        (lost, gained, stats.paired_loss(lost, gained, n))
        for lost in range(n + 1)
        for gained in range(n + 1 - lost)
    ]
    rates = [0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4]

    for lost_rate in (rate for rate in rates if rate <= most):
        for gained_rate in (rate for rate in rates if rate <= most):
            truth = lost_rate - gained_rate
            high = low = 0.0
            for lost, gained, loss in bounds:
                share = _trinomial(lost, gained, n, lost_rate, gained_rate)
                high += share * (loss.high >= truth - 1e-9)
                low += share * (loss.low <= truth + 1e-9)
            assert min(high, low) >= at_least, (lost_rate, gained_rate)


def _trinomial(lost, gained, n, lost_rate, gained_rate):
    ways = comb(n, lost) * comb(n - lost, gained)
    rest = 1 - lost_rate - gained_rate
    return ways * lost_rate**lost * gained_rate**gained * rest ** (n - lost - gained)


def test_a_loss_can_be_sure():
    """50 of 1000 lost, none gained: at least 3.9 points, by the binomial alone 3.9."""
    loss = stats.paired_loss(50, 0, 1000)

    assert 0.038 < loss.low <= stats.binomial_lower(50, 1000) + 1e-3
    assert isclose(stats.binomial_lower(50, 1000), 0.03916, abs_tol=1e-5)
    assert isclose(loss.high, 0.06286, abs_tol=1e-5)


# --- retention


@st.composite
def kept(draw, most=300):
    """Draw right, lost, gained that can be."""
    right = draw(st.integers(1, most))
    return right, draw(st.integers(0, right)), draw(st.integers(0, most))


@pytest.mark.parametrize(
    ("right", "lost", "low"),
    [
        # 0 lost: at the bound, right**low = 0.05, so 59 are the first to show 95 %.
        (58, 0, 0.05 ** (1 / 58)),
        (59, 0, 0.05 ** (1 / 59)),
        (60, 0, 0.05 ** (1 / 60)),
        # All but one lost: 1 - low**right = 0.95.
        (2, 1, 1 - sqrt(0.95)),
        (10, 10, 0.0),
    ],
)
def test_retention_without_gains_is_the_exact_bound(right, lost, low):
    """Where the score bound is the closer one, Clopper and Pearson's closed forms."""
    found = stats.retention(right, lost, 0)

    assert isclose(found.low, low, abs_tol=1e-9)
    assert found.estimate == (right - lost) / right


def test_losses_that_gains_make_good_count_little():
    """897 samples of the example, 5 lost and 4 gained: above 99 %, not 98.8 as 5 lost are."""
    assert 0.991 < stats.retention(870, 5, 4).low < 0.993
    assert stats.retention(870, 5, 0).low < 0.988


@given(kept(most=120), st.floats(0.3, 0.999))
def test_the_score_of_a_ratio_is_at_its_likeliest_nuisance(drawn, ratio):
    """With the nuisance maximised independently, the same number of deviations."""
    right, lost, gained = drawn
    both, seen = right - lost, right + gained
    assume(gained > 0 and lost > 0 and both > 0)

    def likelihood(share):
        parts = (
            (both, ratio - (1 + ratio) * share),
            (lost, 1 - ratio + ratio * share),
            (gained, share),
        )
        return sum(count * log(max(p, 1e-300)) for count, p in parts)

    share = _highest(likelihood, 0.0, ratio / (1 + ratio))
    deviation = sqrt(seen * ratio * (1 - ratio + (1 + ratio) * share))
    score = (both + gained - ratio * right) / deviation

    found = stats._ratio_score(right, lost, gained, ratio)
    assert isclose(found, score, rel_tol=1e-4, abs_tol=1e-4)


def _highest(curve, low, high):
    """Return where a concave curve is highest."""
    for _ in range(200):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (left, high) if curve(left) < curve(right) else (low, right)
    return (low + high) / 2


@given(kept(), CONFIDENCES)
@example((1, 1, 0), 0.95)
@example((1, 0, 1), 0.95)
@example((1, 1, 1), 0.95)
def test_the_bounds_on_retention_enclose_it(drawn, confidence):
    """0 <= low <= estimate <= high, and the two models turned round turn them round."""
    right, lost, gained = drawn
    left = right - lost + gained

    found = stats.retention(right, lost, gained, confidence=confidence)

    assert found.estimate == left / right
    assert 0 <= found.low <= found.estimate + 1e-9
    assert found.estimate - 1e-9 <= found.high
    if left:
        turned = stats.retention(left, gained, lost, confidence=confidence)
        assert found.high == 1 / turned.low


@given(kept())
def test_one_more_lost_never_helps_retention(drawn):
    """Both bounds fall with a sample lost and rise with one gained."""
    right, lost, gained = drawn
    assume(lost + 1 < right)

    now = stats.retention(right, lost, gained)
    worse = stats.retention(right, lost + 1, gained)
    better = stats.retention(right, lost, gained + 1)

    assert worse.low - 1e-9 <= now.low <= better.low + 1e-9
    assert worse.high - 1e-9 <= now.high <= better.high + 1e-9


@given(kept(), CONFIDENCES, CONFIDENCES)
def test_more_confidence_is_a_wider_interval_of_retention(drawn, one, other):
    """The bounds move outwards with the confidence asked."""
    less, more = sorted((one, other))

    narrow = stats.retention(*drawn, confidence=less)
    wide = stats.retention(*drawn, confidence=more)

    assert wide.low <= narrow.low + 1e-9
    assert narrow.high <= wide.high + 1e-9


@pytest.mark.parametrize("seen", [5, 10, 20, 30, 45])
def test_the_bounds_on_retention_cover_the_truth(seen):
    """Enumerating every outcome: false passes and false fails are at most 5 % each.

    At a floor equal to the truth, where both are likeliest. ``seen`` samples at least one
    of the models answers rightly; where that is never the reference, the verdict is a fail.
    """
    bounds = {}
    for lost in range(seen + 1):
        for gained in range(seen + 1 - lost):
            bounds[lost, gained] = stats.Interval(0.0, 0.0, 0.0)
            if gained < seen:
                bounds[lost, gained] = stats.retention(seen - gained, lost, gained)
    rates = [0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4]

    for lost_rate in rates:
        for gained_rate in rates:
            truth = (1 - lost_rate) / (1 - gained_rate)
            passes = fails = 0.0
            for (lost, gained), found in bounds.items():
                share = _trinomial(lost, gained, seen, lost_rate, gained_rate)
                passes += share * (found.low > truth + 1e-9)
                fails += share * (found.high < truth - 1e-9)
            assert max(passes, fails) <= 0.05, (lost_rate, gained_rate)


@settings(max_examples=40)
@given(kept(most=100), st.integers(0, 50), st.floats(0.3, 0.98))
def test_the_samples_needed_for_retention_are_enough(drawn, neither, floor):
    """At that count, the rates rounded against us, it is surely retained; None if never."""
    right, lost, gained = drawn
    n = right + gained + neither
    gap = (right - lost + gained) / right - floor
    assume(gap <= 0 or gap > 0.02)

    needed = stats.retention_samples_needed(right, lost, gained, n, floor)

    if gap <= 0:
        assert needed is None
        return
    scale = needed / n
    gone = -int(-lost * scale // 1)
    held = max(int(right * scale), gone, 1)
    assert stats.retention(held, gone, int(gained * scale)).low >= floor


def test_samples_needed_of_a_perfect_run_for_retention():
    """0 lost of 30, 95 % asked: low**n reaches it first at 59."""
    assert stats.retention_samples_needed(30, 0, 0, 30, 0.95) == 59


def test_impossible_retention_is_the_callers_mistake():
    """Nothing right, or more lost than were right."""
    for right, lost in ((0, 0), (3, 4), (3, -1)):
        with pytest.raises(ValueError, match="need 0 <= hits <= n"):
            stats.retention(right, lost, 0)


# --- p-values, Holm, samples needed


@settings(max_examples=40)
@given(paired(), st.floats(-0.2, 0.4))
def test_the_p_value_agrees_with_the_bound(drawn, limit):
    """Below 5 % exactly when the 95 % lower bound is over the limit."""
    lost, gained, n = drawn
    p_value = stats.paired_p_value(lost, gained, n, limit)
    low = stats.paired_loss(lost, gained, n).low
    assume(abs(low - limit) > 1e-6)

    assert (p_value < 0.05) == (low > limit)
    assert 0 <= p_value <= 1


def test_holm_worked_by_hand():
    """0.01, 0.04, 0.03, 0.005 against 5 %/4, /3, /2, /1: the third step stops it."""
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert stats.holm([0.012, 0.016, 0.024, 0.049]) == [True, True, True, True]
    assert stats.holm([0.013, 0.001, 0.9]) == [True, True, False]
    assert stats.holm([0.03, 0.03]) == [False, False]
    assert stats.holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 0.2))
def test_holm_lies_between_bonferroni_and_no_correction(p_values, level):
    """It rejects all that Bonferroni does and nothing a single test would not."""
    rejected = stats.holm(p_values, level=level)

    for p_value, over in zip(p_values, rejected, strict=True):
        assert over or p_value > level / len(p_values)
        assert not over or p_value <= level


@given(paired(most=300), st.floats(0.005, 0.2))
def test_the_samples_needed_are_enough(drawn, limit):
    """At that count, the rates rounded against us, the bound is within the limit."""
    lost, gained, n = drawn
    assume((lost - gained) / n < limit * 0.8)

    needed = stats.samples_needed(lost, gained, n, limit)

    scale = needed / n
    up, down = -int(-lost * scale // 1), int(gained * scale)
    assert stats.paired_loss(up, down, needed).high <= limit


@settings(max_examples=40)
@given(paired(most=100), st.floats(0.01, 0.2))
def test_no_number_of_samples_helps_what_is_over_the_limit(drawn, limit):
    """None exactly when the estimate is not below the limit."""
    lost, gained, n = drawn
    gap = limit - (lost - gained) / n
    assume(gap <= 0 or gap > 5e-3)

    assert (stats.samples_needed(lost, gained, n, limit) is None) == (gap <= 0)


@pytest.mark.parametrize("gained", [0, 5])
def test_no_number_of_samples_proves_a_loss_of_nothing(gained):
    """At a limit of 0 the exact bound on nothing lost never gets there."""
    assert stats.samples_needed(0, gained, 50, 0.0) is None


def test_samples_needed_of_a_perfect_run():
    """0 lost, limit 1 point: (1 - 0.01)**n <= 0.05 first at n = 299; found to 1 %."""
    needed = stats.samples_needed(0, 0, 100, 0.01)

    assert 299 <= needed <= 302


# --- quantiles


def test_quantiles_worked_by_hand():
    """Linear between order statistics: place q * (n - 1)."""
    values = [40.0, 10.0, 30.0, 20.0]

    assert stats.quantile(values, 0.0) == 10.0
    assert stats.quantile(values, 0.5) == 25.0
    assert stats.quantile(values, 0.25) == 17.5
    assert isclose(stats.quantile(values, 0.9), 37.0)
    assert stats.quantile(values, 1.0) == 40.0
    assert stats.quantile([7.0], 0.99) == 7.0


def test_quantile_bounds_worked_by_hand():
    """100 values, median: ranks 50 -+ 1.645 * 5 = 41.8 and 58.2, outwards."""
    values = list(range(1, 101))

    assert stats.quantile_interval(values, 0.5) == stats.Interval(41, 50.5, 60)
    # p99 of 100: the upper rank is beyond the data, so the largest seen is said.
    assert stats.quantile_interval(values, 0.99).high == 100


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_lies_within_its_bounds_and_the_data(values, q):
    """Low <= quantile <= high, all among what was seen."""
    found = stats.quantile_interval(values, q)

    assert min(values) <= found.low <= found.high <= max(values)
    assert found.low - 1e-9 <= found.estimate <= found.high + 1e-9


@pytest.mark.parametrize(("n", "q"), [(100, 0.5), (400, 0.95), (1000, 0.99)])
def test_the_quantile_bounds_cover_the_truth(n, q):
    """The rank of a quantile is binomial: each bound holds in 95 % of samples (summed)."""
    # The values are their own ranks, 0 to n - 1, so that a bound names its rank.
    found = stats.quantile_interval(list(range(n)), q)

    # X(low) is above the quantile when at most `low` of n values are below it.
    low_wrong = _binomial_tail(int(found.low), n, q)
    high_right = _binomial_tail(int(found.high), n, q)

    assert low_wrong <= 0.052
    assert high_right >= 0.948


@pytest.mark.parametrize(("values", "q"), [([], 0.5), ([1.0], -0.1), ([1.0], 1.1)])
def test_a_quantile_of_nothing_is_the_callers_mistake(values, q):
    """So is a share that is none."""
    with pytest.raises(ValueError, match="need values"):
        stats.quantile(values, q)
    with pytest.raises(ValueError, match="need values"):
        stats.quantile_interval(values, q)
