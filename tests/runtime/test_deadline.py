"""Deadlines and the one thread that watches them."""

import threading
import time

import pytest

from edgewright.core.errors import DeadlineError
from edgewright.runtime.deadline import Deadline, Watchdog


def test_a_deadline_expires():
    """Before its moment it has not come, after it has."""
    near, far = Deadline(0.01), Deadline(60)

    time.sleep(0.02)

    assert near.expired
    assert not far.expired


def test_a_deadline_counts_from_the_moment_given():
    """What waited before its deadline was made has waited all the same."""
    deadline = Deadline(1, since_s=time.monotonic() - 2)

    assert deadline.expired


@pytest.mark.parametrize("after_s", [0, -1, float("inf"), float("nan")])
def test_a_deadline_that_is_none_is_the_callers_mistake(after_s):
    """It must lie in the future, at a moment that comes."""
    with pytest.raises(ValueError, match="lies in the future"):
        Deadline(after_s)


def test_a_missed_deadline_says_what_was_allowed():
    """The error has the number and can be retried."""
    error = Deadline(0.25).missed()

    assert isinstance(error, DeadlineError)
    assert "250 ms" in str(error)
    assert error.retry


def test_alarms_ring_in_order_from_one_thread():
    """Armed in any order, they ring in the order of their moments, not before them."""
    watchdog = Watchdog()
    rung = []
    done = threading.Event()
    start = time.monotonic()

    for after_s in (0.09, 0.03, 0.06):

        def ring(after_s=after_s):
            rung.append((after_s, time.monotonic() - start, threading.get_ident()))
            if len(rung) == 3:
                done.set()

        watchdog.arm(Deadline(after_s), ring)

    assert done.wait(5)
    assert [after_s for after_s, _, _ in rung] == [0.03, 0.06, 0.09]
    assert all(at >= after_s for after_s, at, _ in rung)
    assert len({ident for _, _, ident in rung}) == 1


def test_a_disarmed_alarm_stays_silent():
    """What ended by itself is not stopped."""
    watchdog = Watchdog()
    rung = []
    watchdog.arm(Deadline(0.02), lambda: rung.append("disarmed")).disarm()
    done = threading.Event()
    watchdog.arm(Deadline(0.04), done.set)

    assert done.wait(5)
    assert rung == []


def test_many_disarmed_alarms_are_forgotten():
    """A busy worker does not collect the deadlines it met."""
    watchdog = Watchdog()
    for _ in range(1000):
        watchdog.arm(Deadline(30), lambda: None).disarm()
    done = threading.Event()

    watchdog.arm(Deadline(0.01), done.set)
    assert done.wait(5)
    for _ in range(100):
        if not watchdog._alarms:
            break
        time.sleep(0.01)

    assert watchdog._alarms == []
