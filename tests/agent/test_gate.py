"""judge and judge_selftest: what must hold for everything, then one line per rule."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.agent.gate import Observation, TrialDecision, judge, judge_selftest
from edgewright.bundle.manifest import Policy
from edgewright.wire.checkin import ErrorBody
from edgewright.wire.local import GoldenCheck, SelfTest

POLICY = Policy(
    min_inferences=50,
    max_error_bp=200,
    max_p95_us=80_000,
    max_slowdown_bp=30_000,
    deadline_s=300,
)
HEALTHY = Observation(
    since_activation_s=60.0, answered=199, failed=1, p95_us=42_000, previous_p95_us=40_000
)
GOOD = GoldenCheck(passed=True, count=16, detail="16 of 16 agree")
BAD = GoldenCheck(passed=False, count=16, detail="9 of 16 agree")
PASSED = SelfTest(digest="sha256:00", variant="v", reference=GOOD, golden=GOOD)

CHECKS = st.none() | st.builds(
    GoldenCheck, passed=st.booleans(), count=st.integers(0, 20), detail=st.text(max_size=5)
)
POLICIES = st.builds(
    Policy,
    min_inferences=st.integers(1, 100),
    max_error_bp=st.integers(0, 10_000),
    max_p95_us=st.none() | st.integers(1, 10**6),
    max_slowdown_bp=st.integers(1, 100_000),
    deadline_s=st.integers(1, 600),
)


@st.composite
def observations(draw):
    """Draw anything a slot on trial could have done."""
    return Observation(
        since_activation_s=draw(st.floats(0, 1000)),
        answered=draw(st.integers(0, 500)),
        failed=draw(st.integers(0, 500)),
        p95_us=draw(st.integers(0, 10**6)),
        previous_p95_us=draw(st.none() | st.integers(0, 10**6)),
    )


@given(observations(), POLICIES)
def test_a_trial_ends_by_the_deadline(seen, policy):
    """After the deadline there is always a decision."""
    decision, _ = judge(replace(seen, since_activation_s=float(policy.deadline_s)), policy)

    assert decision is not TrialDecision.WAIT


@given(observations(), POLICIES)
def test_keeping_needs_evidence(seen, policy):
    """A slot is kept only with enough answers and every limit met."""
    decision, _ = judge(seen, policy)

    if decision is TrialDecision.CONFIRM:
        attempted = seen.answered + seen.failed
        assert seen.answered >= 1
        assert attempted >= policy.min_inferences
        assert seen.failed * 10_000 <= policy.max_error_bp * attempted
        assert policy.max_p95_us is None or seen.p95_us <= policy.max_p95_us
        if seen.previous_p95_us:
            limit = policy.max_slowdown_bp * seen.previous_p95_us
            assert seen.p95_us * 10_000 <= limit


@given(observations(), POLICIES, st.integers(1, 10**6))
def test_being_worse_never_helps(seen, policy, more):
    """More failures or more latency never turn a revert into a keep."""
    before, _ = judge(seen, policy)
    worse = replace(seen, failed=seen.failed + more, p95_us=seen.p95_us + more)

    after, _ = judge(worse, policy)

    if before is TrialDecision.REVERT and seen.answered + seen.failed >= policy.min_inferences:
        assert after is TrialDecision.REVERT


@given(observations(), POLICIES)
def test_every_decision_says_why(seen, policy):
    """The reason goes into the audit log, so there always is one."""
    assert judge(seen, policy)[1]


@pytest.mark.parametrize(
    ("change", "decision", "reason"),
    [
        ({}, TrialDecision.CONFIRM, "200 inferences within limits"),
        ({"answered": 7, "failed": 0}, TrialDecision.WAIT, "7 of 50 inferences"),
        (
            {"answered": 0, "failed": 0, "since_activation_s": 301.0},
            TrialDecision.REVERT,
            "0 of 50 inferences by the deadline of 300 s",
        ),
        ({"failed": 9}, TrialDecision.REVERT, "error rate 4.3% is over 2.0%"),
        (
            {"answered": 0, "failed": 60},
            TrialDecision.REVERT,
            "none of 60 inferences was answered",
        ),
        ({"p95_us": 120_400}, TrialDecision.REVERT, "p95 120.40 ms is over 80.00 ms"),
        (
            {"p95_us": 70_000, "previous_p95_us": 10_000},
            TrialDecision.REVERT,
            "p95 70.00 ms is 7.0 times the 10.00 ms of the slot before, over 3.0 times",
        ),
        ({"previous_p95_us": None}, TrialDecision.CONFIRM, "200 inferences within limits"),
    ],
    ids=[
        "healthy",
        "too early",
        "silent",
        "failing",
        "dead",
        "slow",
        "slower than before",
        "nothing to compare with",
    ],
)
def test_rules(change, decision, reason):
    """Each rule, from a healthy slot with one thing changed."""
    assert judge(replace(HEALTHY, **change), POLICY) == (decision, reason)


def test_a_policy_without_a_latency_limit_asks_none():
    """No limit in the contract means none here."""
    decision, _ = judge(replace(HEALTHY, p95_us=10**9), replace(POLICY, max_p95_us=None))

    assert decision is TrialDecision.REVERT  # it is still slower than the slot before

    alone = replace(HEALTHY, p95_us=10**9, previous_p95_us=None)
    assert judge(alone, replace(POLICY, max_p95_us=None))[0] is TrialDecision.CONFIRM


@given(reference=CHECKS, golden=CHECKS)
def test_both_golden_sets_must_pass(reference, golden):
    """A bundle is activated only when both sets were checked and passed."""
    test = SelfTest(digest="sha256:00", reference=reference, golden=golden)

    allowed, reason = judge_selftest(test)

    both = all(check and check.passed and check.count for check in (reference, golden))
    assert allowed is both
    assert reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reference": BAD}, "golden.reference: 9 of 16 agree"),
        ({"golden": BAD}, "golden.variant: 9 of 16 agree"),
        ({"golden": None}, "golden.variant was not checked"),
        (
            {"error": ErrorBody(code="engine_error", message="no AVX")},
            "cannot be loaded: no AVX",
        ),
    ],
)
def test_a_refusal_names_what_failed(change, words):
    """The reason says which set, and with which numbers."""
    allowed, reason = judge_selftest(msgspec.structs.replace(PASSED, **change))

    assert (allowed, words in reason) == (False, True)
