"""decide: what must hold for every decision, then one line per rule."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.core.contract import Contract, Outcome, judge
from edgewright.core.evidence import Evidence, PairedCounts
from edgewright.toolchain.planner.decide import (
    SLOWER_BP,
    Known,
    Rules,
    decide,
    nearest,
    objective,
    slower,
    verdict_on,
)
from edgewright.toolchain.planner.values import GOALS

# A verdict takes some milliseconds of pure Python, and there are several an example.
FEW = settings(max_examples=30)

HERE, THERE = "linux-11111111", "raspberry-pi-22222222"
CONTRACT = Contract(accuracy_drop_bp=100, worst_class_drop_bp=600, file_bytes=400, p99_us=500)
RULES = Rules(CONTRACT, machine=HERE, host=HERE, goal="size")


def known(
    name="int8",
    *,
    size=300,
    p50=100,
    p99=(300, 310, 320),
    ratio=(8000, 8100, 8200),
    lost=0,
    gained=0,
    n=900,
    choosable=True,
):
    """Return a candidate with the figures of a run; all of it fits ``CONTRACT``."""
    figures = (
        Evidence("file_bytes", size, 1, HERE, "parsed"),
        Evidence("p50_us", p50, 900, HERE, "measured on host"),
        Evidence("p99_us", p99[1], 900, HERE, "measured on host", p99[0], p99[2]),
        Evidence(
            "latency_ratio_bp", ratio[1], 90, HERE, "measured on host", ratio[0], ratio[2]
        ),
    )
    counts = (
        PairedCounts("overall", n, n - 30, lost, gained),
        PairedCounts("0", n // 2, n // 2 - 15, lost, gained),
    )
    return Known(name, choosable, figures, counts)


@st.composite
def candidates(draw):
    """Draw a few candidates that could have come out of a run."""
    found = []
    for number in range(draw(st.integers(1, 3))):
        low = draw(st.integers(5000, 15000))
        value = low + draw(st.integers(0, 500))
        p99 = draw(st.integers(1, 900))
        found.append(
            known(
                f"c{number}",
                size=draw(st.integers(100, 700)),
                p50=draw(st.integers(1, 900)),
                p99=(p99, p99 + 10, p99 + draw(st.integers(10, 300))),
                ratio=(low, value, value + 100),
                lost=draw(st.integers(0, 30)),
                gained=draw(st.integers(0, 15)),
                choosable=draw(st.booleans()) or number == 0,
            )
        )
    return found


@given(given_=candidates())
@FEW
def test_what_is_chosen_passes_and_is_not_slower(given_):
    """Never a candidate without a pass, never one the recipe excludes, never a slower one."""
    decision = decide(given_, RULES)

    by_name = {one.name: one for one in given_}
    if decision.chosen:
        chosen = by_name[decision.chosen]
        assert decision.verdicts[decision.chosen].outcome is Outcome.PASS
        assert chosen.choosable
        assert not slower(chosen)
        assert decision.outcome is Outcome.PASS
        assert decision.nearest is None
    else:
        assert decision.outcome is not Outcome.PASS
        assert by_name[decision.nearest.candidate].choosable


@given(given_=candidates(), goal=st.sampled_from(GOALS))
@FEW
def test_no_candidate_would_have_served_the_goal_better(given_, goal):
    """Whatever passes and is not slower is at best as good by the goal as the chosen one."""
    decision = decide(given_, replace(RULES, goal=goal))

    for one in _fit(given_, decision):
        chosen = next(c for c in given_ if c.name == decision.chosen)
        assert objective(one, goal) >= objective(chosen, goal)


@given(given_=candidates())
@FEW
def test_without_a_goal_the_first_that_holds_ships(given_):
    """The order of the plan decides, so a search may stop there."""
    decision = decide(given_, replace(RULES, goal=""))

    fit = _fit(given_, decision)
    assert decision.chosen == (fit[0].name if fit else "")


@pytest.mark.parametrize(
    ("goal", "chosen"), [("size", "small"), ("speed", "fast"), ("balanced", "both")]
)
def test_each_goal_has_its_own_favourite(goal, chosen):
    """300 bytes at 0.95, 390 at 0.50, 320 at 0.55: products 285, 195 and 176."""
    given_ = [
        known("small", size=300, ratio=(9400, 9500, 9600)),
        known("fast", size=390, ratio=(4900, 5000, 5100)),
        known("both", size=320, ratio=(5400, 5500, 5600)),
    ]

    assert decide(given_, replace(RULES, goal=goal)).chosen == chosen


def test_a_percent_of_latency_is_noise():
    """Of two that are equally fast to within it, the smaller one is the faster choice."""
    given_ = [
        known("large", size=390, ratio=(7900, 7996, 8100)),
        known("small", size=300, ratio=(7900, 8004, 8100)),
    ]

    assert decide(given_, replace(RULES, goal="speed")).chosen == "small"


@given(given_=candidates())
@FEW
def test_every_candidate_has_a_reason(given_):
    """One sentence each, chosen or not."""
    decision = decide(given_, RULES)

    assert set(decision.reasons) == {one.name for one in given_}
    assert all(decision.reasons.values())


@given(given_=candidates(), retention=st.sampled_from([9500, 9990, 10_000]))
@FEW
@pytest.mark.slow
def test_the_nearest_contract_really_is_met(given_, retention):
    """Judged again under it, its candidate passes: nothing is promised in vain."""
    contract = replace(CONTRACT, min_retention_bp=retention)
    decision = decide(given_, replace(RULES, contract=contract))

    if decision.nearest is not None:
        one = next(c for c in given_ if c.name == decision.nearest.candidate)
        again = judge(decision.nearest.contract, one.evidence, one.counts)
        assert again.outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("given_", "chosen", "reasons"),
    [
        ([known("a")], "a", {"a": "the only one that passes"}),
        (
            [known("a", size=350), known("b", size=300)],
            "b",
            {
                "a": "passes too, but is 50 bytes larger than b",
                "b": "the smallest of 2 that pass",
            },
        ),
        (
            [known("a"), known("b", ratio=(6900, 7000, 7100))],
            "b",
            {
                "a": "passes too, with 300 bytes at 0.81 times the baseline's latency; "
                "b has 300 at 0.70",
                "b": "the smallest of 2 that pass",
            },
        ),
        (
            [known("float", size=390), known("int8", ratio=(13000, 13200, 13400))],
            "float",
            {
                "float": "the only one that passes",
                "int8": "slower than the float baseline: 1.32 times its median "
                "(at least 1.30, 95 %)",
            },
        ),
        (
            [known("float", choosable=False), known("int8", size=350)],
            "int8",
            {
                "float": "the recipe asks for less; this one is the measure of the others",
                "int8": "the only one that passes",
            },
        ),
    ],
    ids=["alone", "smaller", "equal size, faster", "slower is left", "float not asked"],
)
def test_rules(given_, chosen, reasons):
    """Each rule, with the sentence a reader is given."""
    decision = decide(given_, RULES)

    assert decision.chosen == chosen
    assert decision.reasons == reasons


def test_slower_may_be_allowed():
    """Where size is all that counts, someone may say so."""
    small = known("int8", ratio=(13000, 13200, 13400))

    assert decide([small], RULES).outcome is Outcome.FAIL
    assert decide([small], replace(RULES, allow_slower=True)).chosen == "int8"


@pytest.mark.parametrize(("low", "is_slower"), [(SLOWER_BP, False), (SLOWER_BP + 1, True)])
def test_slower_means_beyond_noise(low, is_slower):
    """The lower bound decides, not the estimate."""
    assert bool(slower(known(ratio=(low, 12000, 14000)))) is is_slower


def test_a_miss_is_a_fail_with_its_number():
    """A candidate that is surely too large."""
    decision = decide([known(size=500)], RULES)

    assert decision.outcome is Outcome.FAIL
    assert decision.reasons["int8"] == "misses file_bytes: 500 B, at most 400 B is asked"
    assert decision.nearest.moved == ("file_bytes",)
    assert decision.nearest.contract.file_bytes == 500


def test_one_undecided_candidate_leaves_all_open():
    """A float that fails and an int8 that needs more samples: more samples may help."""
    unsure = known("int8", lost=5, n=900)

    decision = decide([known("float", size=900), unsure], RULES)

    assert decision.outcome is Outcome.INCONCLUSIVE
    assert decision.reasons["int8"].startswith("does not decide accuracy_drop")
    assert "samples" in decision.verdicts["int8"].missed[0].remedy


def test_figures_of_another_machine_decide_nothing():
    """Latency of the host says nothing of a Raspberry Pi; its size is the same there."""
    rules = Rules(CONTRACT, machine=THERE, host=HERE)

    verdict = verdict_on(known(size=500), rules)

    found = {f.limit: f for f in verdict.findings}
    assert found["file_bytes"].outcome is Outcome.FAIL
    assert found["p99_us"].outcome is Outcome.INCONCLUSIVE
    assert found["p99_us"].reason == "p99_us was not measured on this device"
    assert "on the device" in found["p99_us"].remedy


@pytest.mark.parametrize(
    "contract", [Contract(), Contract(accuracy_drop_bp=50), Contract(transport_bytes=9)]
)
def test_where_nothing_of_a_candidate_but_answers_is_limited_the_cheapest_ships(contract):
    """200 bytes at 0.9 cost less than 300 at 0.7, whatever the plan has in front."""
    rules = replace(RULES, contract=contract, goal="")
    given_ = [
        known("float", size=900, ratio=(10_000,) * 3),
        known("fast", ratio=(6900, 7000, 7100)),
        known("small", size=200, ratio=(8900, 9000, 9100)),
    ]

    assert rules.by_cost
    assert decide(given_, rules).chosen == "small"
    assert decide(given_, replace(rules, goal="speed")).chosen == "fast"
    assert not replace(rules, contract=Contract(file_bytes=1000)).by_cost
    limited = replace(rules, contract=Contract(file_bytes=1000))
    assert decide(given_, limited).chosen == "float"


def test_without_limits_on_speed_another_device_is_decided():
    """Size and accuracy are known everywhere, and slowness here is no reason there."""
    rules = Rules(replace(CONTRACT, p99_us=None), machine=THERE, host=HERE)

    assert decide([known(ratio=(13000, 13200, 13400))], rules).chosen == "int8"


def test_the_nearest_contract_says_nothing_of_what_is_not_known():
    """A limit on unmeasured latency stays where it was."""
    rules = Rules(CONTRACT, machine=THERE, host=HERE)
    one = known()

    found = nearest([one], {"int8": verdict_on(one, rules)}, rules)

    assert found.contract == CONTRACT
    assert found.moved == ()


def test_the_nearest_contract_promises_nothing_on_a_figure_without_a_bound():
    """A p99 that was looked at once cannot be met for certain, wherever the limit goes."""
    one = known()
    figures = tuple(replace(e, low=None, high=None) for e in one.evidence)
    unsure = replace(one, evidence=figures)

    decision = decide([unsure], RULES)

    assert decision.outcome is Outcome.INCONCLUSIVE
    assert decision.nearest.contract == CONTRACT
    assert decision.nearest.moved == ()


def test_a_ratio_without_a_bound_calls_nothing_slower():
    """Slower means surely slower."""
    one = known(ratio=(13000, 13200, 13400))
    figures = tuple(
        replace(e, low=None) if e.name == "latency_ratio_bp" else e for e in one.evidence
    )

    assert slower(one)
    assert not slower(replace(one, evidence=figures))


def test_limits_of_the_bundle_are_left_to_pack():
    """They can only be measured on the bundle."""
    contract = replace(CONTRACT, transport_bytes=1, storage_bytes=1)

    assert decide([known()], replace(RULES, contract=contract)).chosen == "int8"


def _fit(given_, decision):
    """Return the candidates that may ship, in the order of the plan."""
    return [
        one
        for one in given_
        if one.choosable
        and decision.verdicts[one.name].outcome is Outcome.PASS
        and not slower(one)
    ]
