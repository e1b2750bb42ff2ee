"""Judge whether a rollout may open its next wave.

This module only judges: it has no clock, database or network. The controller
gathers an ``Observation`` of the newest open wave and acts on the decision, so
every rule is tested without a fleet.
"""

from dataclasses import dataclass
from enum import Enum

_FULL_BP = 10_000


class GateDecision(Enum):
    """What the controller does next with a rollout."""

    CONTINUE = "continue"
    HOLD = "hold"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What a wave must show before the next one opens.

    Attributes:
        min_confirmed_bp: Share of the wave's devices that confirmed the release.
        min_inferences: Answers attempted with the release, over the whole wave.
        max_error_bp: Failed and late answers over attempted ones.
        max_slowdown_bp: p99 over that of the base on the same devices; 30000 is
            three times as slow. Not judged where the base has no such record.
        max_failed: Devices of all open waves that may refuse or revert it.
        soak_s: Seconds that must pass after the last confirmation.
        deadline_s: Seconds after opening at which an undecided wave is given up.
    """

    min_confirmed_bp: int = _FULL_BP
    min_inferences: int = 50
    max_error_bp: int = 200
    max_slowdown_bp: int = 30_000
    max_failed: int = 0
    soak_s: int = 0
    deadline_s: int = 3600

    def __post_init__(self) -> None:
        """Refuse a policy that would open a wave on no evidence, or never could."""
        if not 1 <= self.min_confirmed_bp <= _FULL_BP:
            raise ValueError(f"min_confirmed_bp must be 1 to {_FULL_BP}")
        if self.min_inferences < 1:
            raise ValueError("min_inferences must be at least 1")
        if not 0 <= self.max_error_bp <= _FULL_BP:
            raise ValueError(f"max_error_bp must be 0 to {_FULL_BP}")
        if self.max_slowdown_bp < 1 or self.max_failed < 0:
            raise ValueError("max_slowdown_bp must be at least 1, max_failed at least 0")
        if not 0 <= self.soak_s < self.deadline_s:
            raise ValueError(
                f"soak_s must be less than deadline_s: {self.soak_s} and {self.deadline_s}"
            )


@dataclass(frozen=True, slots=True)
class Observation:
    """What the newest open wave has shown since it opened.

    Attributes:
        devices: Enrolled devices of the wave.
        confirmed: Of them, those that confirmed the release and now serve it.
        failed: Devices of all open waves that refused or reverted it.
        attempted: Answers of the wave's devices with the release, failed ones included.
        errors: Of them, failed or late.
        p99_us: Of the release, on the devices that have a record of the base; None
            where there is too little to compare.
        base_p99_us: Of the base on the same devices; None likewise.
        open_s: Seconds since the wave opened, pauses left out.
        settled_s: Seconds since the last confirmation; 0 before the first.
        complaint: What one of the failed devices said, in a few words.
        waiting: Devices of the waves that are still closed.
        before: Devices of the waves before that confirmed.
        compared: Answers on those devices, of the release or the base, whichever are
            fewer.
        compare_from: So many make a p99 that is judged; 0 where there is no base.
    """

    devices: int
    confirmed: int
    failed: int
    attempted: int
    errors: int
    p99_us: int | None
    base_p99_us: int | None
    open_s: float
    settled_s: float
    complaint: str = ""
    waiting: int = 0
    before: int = 0
    compared: int = 0
    compare_from: int = 0


def judge(seen: Observation, policy: GatePolicy) -> tuple[GateDecision, str]:
    """Return the decision and, for the audit, the reason in one sentence."""
    if violation := _violation(seen, policy):
        return GateDecision.ROLL_BACK, violation
    if seen.devices == 0 and not seen.waiting:
        before = f", {seen.before} confirmed before it" if seen.before else ""
        return GateDecision.CONTINUE, f"no devices in this wave{before}"
    missing = _missing(seen, policy)
    if not missing:
        shown = f"{seen.confirmed} of {seen.devices} devices confirmed"
        shown = f"{shown}, {seen.attempted} inferences within limits"
        return GateDecision.CONTINUE, "; ".join(filter(None, (shown, unjudged(seen))))
    if seen.open_s < policy.deadline_s:
        return GateDecision.HOLD, missing
    # A device that went silent looks exactly like one that was never reached:
    # neither is a reason to send the release to more of them.
    return GateDecision.ROLL_BACK, f"{missing} by the deadline of {policy.deadline_s} s"


def unjudged(seen: Observation) -> str:
    """Return in words that p99 was not judged, and why; empty when it was."""
    if seen.p99_us is not None and seen.base_p99_us is not None:
        return ""
    if not seen.compare_from:
        return "p99 not judged: no base to compare with"
    return f"p99 not judged: {seen.compared} of {seen.compare_from} answers"


def _violation(seen: Observation, policy: GatePolicy) -> str:
    """Return which limit is broken; empty if none is."""
    if seen.failed > policy.max_failed:
        devices = "device" if seen.failed == 1 else "devices"
        counted = (
            f"{seen.failed} {devices} refused or reverted it, {policy.max_failed} allowed"
        )
        return f"{counted}; {seen.complaint}" if seen.complaint else counted
    # Judged early only when even a faultless rest could not make it good.
    answers = max(seen.attempted, policy.min_inferences)
    if seen.errors * _FULL_BP > policy.max_error_bp * answers:
        limit = f"{policy.max_error_bp / 100:g} %"
        return (
            f"{seen.errors} of {seen.attempted} inferences failed or came late, over {limit}"
        )
    if seen.p99_us is not None and seen.base_p99_us is not None:
        allowed = policy.max_slowdown_bp * seen.base_p99_us
        if seen.p99_us * _FULL_BP > allowed:
            times = f"{policy.max_slowdown_bp / _FULL_BP:g}"
            return (
                f"p99 {seen.p99_us} us is over {times} times the base's {seen.base_p99_us} us"
            )
    return ""


def _missing(seen: Observation, policy: GatePolicy) -> str:
    """Return which evidence is still missing; empty if none is."""
    if seen.devices == 0:
        # A mistyped label would otherwise send the release to everyone unseen.
        return f"no device is in this wave, and {seen.waiting} wait in later ones"
    if seen.confirmed * _FULL_BP < policy.min_confirmed_bp * seen.devices:
        return f"{seen.confirmed} of {seen.devices} devices confirmed"
    if seen.attempted < policy.min_inferences:
        return f"{seen.attempted} of {policy.min_inferences} inferences"
    if seen.settled_s < policy.soak_s:
        return f"soaked {seen.settled_s:.0f} of {policy.soak_s} s"
    return ""
