"""judge: what must hold for every observation, then one line per rule."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.fleet.rollout.gate import GateDecision, GatePolicy, Observation, judge

CONTINUE, HOLD, ROLL_BACK = GateDecision

POLICY = GatePolicy(min_inferences=50, max_error_bp=200, deadline_s=600)
HEALTHY = Observation(
    devices=4,
    confirmed=4,
    failed=0,
    attempted=200,
    errors=1,
    p99_us=2000,
    base_p99_us=1000,
    open_s=60.0,
    settled_s=30.0,
)


@st.composite
def policies(draw):
    """Draw any policy that may be."""
    deadline_s = draw(st.integers(1, 7200))
    return GatePolicy(
        min_confirmed_bp=draw(st.integers(1, 10_000)),
        min_inferences=draw(st.integers(1, 200)),
        max_error_bp=draw(st.integers(0, 10_000)),
        max_slowdown_bp=draw(st.integers(1, 100_000)),
        max_failed=draw(st.integers(0, 5)),
        soak_s=draw(st.integers(0, deadline_s - 1)),
        deadline_s=deadline_s,
    )


@st.composite
def observations(draw):
    """Draw anything a wave could have shown."""
    devices = draw(st.integers(0, 50))
    attempted = draw(st.integers(0, 500))
    known = draw(st.booleans())
    return Observation(
        devices=devices,
        confirmed=draw(st.integers(0, devices)),
        failed=draw(st.integers(0, 8)),
        attempted=attempted,
        errors=draw(st.integers(0, attempted)),
        p99_us=draw(st.integers(1, 10**6)) if known else None,
        base_p99_us=draw(st.integers(1, 10**6)) if known else None,
        open_s=draw(st.floats(0, 8000)),
        settled_s=draw(st.floats(0, 8000)),
    )


@given(observations(), policies())
def test_continuing_needs_evidence(seen, policy):
    """A wave with devices is left behind only with every kind of evidence there."""
    decision, _ = judge(seen, policy)

    if decision is CONTINUE and seen.devices:
        assert seen.confirmed * 10_000 >= policy.min_confirmed_bp * seen.devices
        assert seen.confirmed >= 1
        assert seen.attempted >= policy.min_inferences >= 1
        assert seen.errors * 10_000 <= policy.max_error_bp * seen.attempted
        assert seen.settled_s >= policy.soak_s


@given(observations(), policies(), st.integers(0, 1))
def test_what_was_not_judged_never_looks_judged(seen, policy, base):
    """A wave with devices that is left behind without a p99 says so in its reason."""
    decision, reason = judge(replace(seen, compare_from=300 * base), policy)

    if decision is CONTINUE and seen.devices:
        assert ("p99 not judged" in reason) is (seen.p99_us is None)


@given(observations(), policies())
def test_a_refusal_too_many_rolls_back(seen, policy):
    """More failed devices than allowed always end the rollout, whatever else is good."""
    decision, _ = judge(replace(seen, failed=policy.max_failed + 1), policy)

    assert decision is ROLL_BACK


@given(observations(), policies())
def test_nothing_is_held_after_the_deadline(seen, policy):
    """After the deadline there is always a decision."""
    decision, _ = judge(replace(seen, open_s=policy.deadline_s), policy)

    assert decision is not HOLD


@given(observations(), policies(), st.integers(0, 20))
def test_more_errors_never_help(seen, policy, more):
    """Turning right answers into failed ones never makes the decision better."""
    order = [ROLL_BACK, HOLD, CONTINUE]
    worse = replace(seen, errors=min(seen.errors + more, seen.attempted))

    before, after = judge(seen, policy)[0], judge(worse, policy)[0]

    assert order.index(after) <= order.index(before)


@given(observations(), policies(), st.integers(0, 20))
def test_more_confirmations_never_hurt(seen, policy, more):
    """A device that confirms never makes the decision worse."""
    order = [ROLL_BACK, HOLD, CONTINUE]
    better = replace(seen, confirmed=min(seen.confirmed + more, seen.devices))

    before, after = judge(seen, policy)[0], judge(better, policy)[0]

    assert order.index(after) >= order.index(before)


@given(observations(), policies())
def test_an_early_stop_was_certain(seen, policy):
    """Stopped before enough inferences, no faultless rest could have made it good."""
    early = replace(seen, failed=0, p99_us=None, open_s=0.0)

    decision, _ = judge(early, policy)

    if decision is ROLL_BACK and early.attempted < policy.min_inferences:
        rest = replace(early, attempted=policy.min_inferences)
        assert judge(rest, policy)[0] is ROLL_BACK


@pytest.mark.parametrize(
    ("change", "decision", "reason"),
    [
        ({}, CONTINUE, "4 of 4 devices confirmed, 200 inferences within limits"),
        (
            {"devices": 0, "confirmed": 0, "attempted": 0, "errors": 0, "before": 2},
            CONTINUE,
            "no devices in this wave, 2 confirmed before it",
        ),
        (
            {"devices": 0, "confirmed": 0, "attempted": 0, "errors": 0, "waiting": 3},
            HOLD,
            "no device is in this wave, and 3 wait in later ones",
        ),
        ({"confirmed": 3}, HOLD, "3 of 4 devices confirmed"),
        ({"attempted": 49, "errors": 0}, HOLD, "49 of 50 inferences"),
        (
            {"confirmed": 3, "open_s": 600.0},
            ROLL_BACK,
            "3 of 4 devices confirmed by the deadline of 600 s",
        ),
        ({"failed": 1}, ROLL_BACK, "1 device refused or reverted it, 0 allowed"),
        (
            {"devices": 0, "confirmed": 0, "failed": 1},
            ROLL_BACK,
            "1 device refused or reverted it, 0 allowed",
        ),
        ({"errors": 4}, CONTINUE, "4 of 4 devices confirmed, 200 inferences within limits"),
        ({"errors": 5}, ROLL_BACK, "5 of 200 inferences failed or came late, over 2 %"),
        (
            {"attempted": 10, "errors": 2},
            ROLL_BACK,
            "2 of 10 inferences failed or came late, over 2 %",
        ),
        ({"p99_us": 3000}, CONTINUE, "4 of 4 devices confirmed, 200 inferences within limits"),
        ({"p99_us": 3001}, ROLL_BACK, "p99 3001 us is over 3 times the base's 1000 us"),
        (
            {"p99_us": 9000, "base_p99_us": None},
            CONTINUE,
            (
                "4 of 4 devices confirmed, 200 inferences within limits; "
                "p99 not judged: no base to compare with"
            ),
        ),
        (
            {"p99_us": None, "base_p99_us": None, "compared": 96, "compare_from": 300},
            CONTINUE,
            (
                "4 of 4 devices confirmed, 200 inferences within limits; "
                "p99 not judged: 96 of 300 answers"
            ),
        ),
    ],
)
def test_rules(change, decision, reason):
    """Each rule, from a healthy wave with a few things changed."""
    assert judge(replace(HEALTHY, **change), POLICY) == (decision, reason)


def test_a_wave_soaks():
    """Confirmed devices are watched for the time asked before the next wave opens."""
    policy = replace(POLICY, soak_s=60)

    held = judge(replace(HEALTHY, settled_s=59.0), policy)
    gone_on = judge(replace(HEALTHY, settled_s=60.0), policy)

    assert held == (HOLD, "soaked 59 of 60 s")
    assert gone_on[0] is CONTINUE


@pytest.mark.parametrize(
    "change",
    [
        {"min_confirmed_bp": 0},
        {"min_confirmed_bp": 10_001},
        {"min_inferences": 0},
        {"max_error_bp": -1},
        {"max_failed": -1},
        {"max_slowdown_bp": 0},
        {"soak_s": 600},
        {"deadline_s": 0},
    ],
)
def test_a_policy_that_decides_on_nothing_is_refused(change):
    """No evidence is never enough, and a soak must fit before the deadline."""
    with pytest.raises(ValueError, match="must be"):
        replace(POLICY, **change)
