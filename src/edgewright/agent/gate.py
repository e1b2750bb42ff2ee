"""Judge whether a new bundle may be activated, and whether an activated one may stay.

This module only judges: it has no clock, disk or network. ``supervisor`` gathers
what a self-test answered and what a worker has done, and acts on the decision, so
every rule below is tested without waiting for anything.
"""

from dataclasses import dataclass
from enum import Enum

from edgewright.bundle.manifest import Policy
from edgewright.core.units import show_us
from edgewright.wire.local import GoldenCheck, SelfTest


class TrialDecision(Enum):
    """What the supervisor does next with the slot on trial."""

    WAIT = "wait"
    CONFIRM = "confirm"
    REVERT = "revert"


@dataclass(frozen=True, slots=True)
class Observation:
    """What the slot on trial has done since it was activated.

    Attributes:
        since_activation_s: Seconds on the monotonic clock; wall time jumps.
        answered: Right in form and in time.
        failed: The engine raised, or the answer would have come after the deadline of
            the device; not one that a caller set itself and nearer.
        p95_us: 95th percentile of an answer; 0 before the first.
        previous_p95_us: Of the slot it replaces, on this device under the same
            load; None when that one answered too little to say.
    """

    since_activation_s: float
    answered: int
    failed: int
    p95_us: int
    previous_p95_us: int | None = None


def judge_selftest(test: SelfTest) -> tuple[bool, str]:
    """Return whether a bundle may be activated here, and why in one sentence.

    Both golden sets must pass. An override that someone signed into the manifest
    is not asked for: a device activates no model that does not answer like its
    source, whoever says so.
    """
    if test.error is not None:
        return False, f"it cannot be loaded: {test.error.message}"
    checks = (("golden.reference", test.reference), ("golden.variant", test.golden))
    for name, check in checks:
        if check is None or not check.count:
            return False, f"{name} was not checked"
        if not check.passed:
            return False, f"{name}: {check.detail}"
    return True, "; ".join(f"{name}: {_detail(check)}" for name, check in checks)


def judge(seen: Observation, policy: Policy) -> tuple[TrialDecision, str]:
    """Return the decision and, for the audit log, the reason in one sentence."""
    attempted = seen.answered + seen.failed
    if attempted < policy.min_inferences:
        if seen.since_activation_s < policy.deadline_s:
            return TrialDecision.WAIT, f"{attempted} of {policy.min_inferences} inferences"
        # Silence is not health: a camera that never delivered a frame, or a
        # model that hangs in its first run, looks exactly like this.
        found = f"{attempted} of {policy.min_inferences} inferences"
        return TrialDecision.REVERT, f"{found} by the deadline of {policy.deadline_s} s"
    if fault := _fault(seen, policy):
        return TrialDecision.REVERT, fault
    return TrialDecision.CONFIRM, f"{attempted} inferences within limits"


def _fault(seen: Observation, policy: Policy) -> str:
    """Return the first limit that is broken; empty when all hold."""
    attempted = seen.answered + seen.failed
    if not seen.answered:
        return f"none of {attempted} inferences was answered"
    if seen.failed * 10_000 > policy.max_error_bp * attempted:
        rate, limit = seen.failed / attempted, policy.max_error_bp / 10_000
        return f"error rate {rate:.1%} is over {limit:.1%}"
    if policy.max_p95_us is not None and seen.p95_us > policy.max_p95_us:
        return f"p95 {show_us(seen.p95_us)} is over {show_us(policy.max_p95_us)}"
    before = seen.previous_p95_us
    if before and seen.p95_us * 10_000 > policy.max_slowdown_bp * before:
        return (
            f"p95 {show_us(seen.p95_us)} is {seen.p95_us / before:.1f} times the "
            f"{show_us(before)} of the slot before, "
            f"over {policy.max_slowdown_bp / 10_000:.1f} times"
        )
    return ""


def _detail(check: GoldenCheck | None) -> str:
    return check.detail if check else ""
