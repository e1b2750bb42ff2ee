"""step, pause, resume, abort: where a rollout can go, and that it gets to an end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.errors import ConflictError
from edgewright.fleet.rollout.gate import GateDecision
from edgewright.fleet.rollout.progress import (
    ABORTED,
    ACTIVE,
    DONE,
    HALTED,
    PAUSED,
    RUNNING,
    Progress,
    abort,
    pause,
    resume,
    step,
)

CONTINUE, HOLD, ROLL_BACK = GateDecision

DECISIONS = st.sampled_from(list(GateDecision))


@given(waves=st.integers(1, 5), decisions=st.lists(DECISIONS, max_size=12))
def test_waves_open_one_by_one(waves, decisions):
    """However it is decided, at most one wave opens at a time, and none skips the gate."""
    at = Progress(RUNNING, waves, 1)

    for decision in decisions:
        new = step(at, decision, "why")
        assert new.open_waves in {0, at.open_waves, at.open_waves + 1}
        assert new.open_waves <= waves
        if new.open_waves > at.open_waves:
            assert decision is CONTINUE
        at = new


@given(waves=st.integers(1, 5))
def test_continuing_leads_to_done(waves):
    """As many good decisions as there are waves finish a rollout, with its waves open."""
    at = Progress(RUNNING, waves, 1)

    for _ in range(waves):
        assert at.state == RUNNING
        at = step(at, CONTINUE, "all good")

    assert at == Progress(DONE, waves, waves, "all good")


@given(state=st.sampled_from([DONE, HALTED]), decision=DECISIONS)
def test_the_end_is_the_end(state, decision):
    """Nothing moves a rollout that has ended."""
    ended = Progress(state, 3, 0 if state == HALTED else 3, "over")

    assert step(ended, decision, "why") == ended
    for verb in (pause, resume, abort):
        with pytest.raises(ConflictError, match=state):
            verb(ended)


@pytest.mark.parametrize("state", ACTIVE)
def test_rolling_back_closes_every_wave(state):
    """A violation halts a rollout also while it is paused, and keeps the reason."""
    assert step(Progress(state, 3, 2), ROLL_BACK, "too slow") == Progress(
        HALTED, 3, 0, "too slow"
    )


def test_a_pause_opens_nothing():
    """A paused rollout keeps its waves until it is resumed."""
    paused = pause(Progress(RUNNING, 3, 2))

    assert paused == Progress(PAUSED, 3, 2)
    assert step(paused, CONTINUE, "good") == paused
    assert resume(paused) == Progress(RUNNING, 3, 2)
    with pytest.raises(ConflictError, match="paused"):
        pause(paused)


def test_an_abort_says_who():
    """An operator's abort halts with its own reason."""
    assert abort(Progress(RUNNING, 3, 2)) == Progress(HALTED, 3, 0, ABORTED)
