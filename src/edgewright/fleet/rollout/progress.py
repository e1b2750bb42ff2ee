"""The states of a rollout and what moves it between them; pure.

::

    running ──CONTINUE──▶ running, one more wave ──▶ done
       │▲
       ▼│ pause, resume
    paused
       │
       └──ROLL_BACK or abort, from running and paused──▶ halted, no wave open

``done`` and ``halted`` are final: the next change of a channel is another rollout.
"""

from dataclasses import dataclass, replace

from edgewright.core.errors import ConflictError
from edgewright.fleet.rollout.gate import GateDecision
from edgewright.wire import assignment

RUNNING, PAUSED, HALTED, DONE = assignment.RUNNING, "paused", "halted", "done"
ACTIVE = (RUNNING, PAUSED)

ABORTED = "aborted by operator"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rollout is.

    Attributes:
        state: One of the four.
        waves: How many there are.
        open_waves: How many are open, from the first; 0 once halted.
        reason: Why it is done or halted; empty while it is active.
    """

    state: str
    waves: int
    open_waves: int
    reason: str = ""


def step(progress: Progress, decision: GateDecision, reason: str) -> Progress:
    """Return where ``decision`` takes a rollout; the same where it changes nothing."""
    if progress.state not in ACTIVE or decision is GateDecision.HOLD:
        return progress
    if decision is GateDecision.ROLL_BACK:
        return replace(progress, state=HALTED, open_waves=0, reason=reason)
    if progress.state == PAUSED:
        return progress
    if progress.open_waves < progress.waves:
        return replace(progress, open_waves=progress.open_waves + 1)
    return replace(progress, state=DONE, reason=reason)


def pause(progress: Progress) -> Progress:
    """Keep the waves as they are; open no more until resumed.

    Raises:
        ConflictError: It is not running.
    """
    _need(progress, (RUNNING,), "paused")
    return replace(progress, state=PAUSED)


def resume(progress: Progress) -> Progress:
    """Go on.

    Raises:
        ConflictError: It is not paused.
    """
    _need(progress, (PAUSED,), "resumed")
    return replace(progress, state=RUNNING)


def abort(progress: Progress) -> Progress:
    """Send every device back to the base.

    Raises:
        ConflictError: It has ended already.
    """
    _need(progress, ACTIVE, "aborted")
    return replace(progress, state=HALTED, open_waves=0, reason=ABORTED)


def _need(progress: Progress, states: tuple[str, ...], what: str) -> None:
    if progress.state not in states:
        raise ConflictError(
            f"a rollout that is {progress.state} cannot be {what}",
            hint=progress.reason and f"It ended: {progress.reason}.",
        )
