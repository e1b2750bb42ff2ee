"""Telemetry: what stays wrong is told once an hour, and a batch says whether it held all."""

import pytest
from tests.sim.clock import ManualClock

from edgewright.agent import DeviceConfig, Home
from edgewright.agent.telemetry import Telemetry
from edgewright.wire.checkin import ErrorBody

CONFIG = DeviceConfig(
    server="http://127.0.0.1:1",
    name="camera-1",
    enrol_token_file="token",  # noqa: S106  the name of a file
    artefacts_root="a",
    assignments_root="b",
)


@pytest.fixture
def clock():
    """Time that moves when told."""
    return ManualClock()


@pytest.fixture
def telemetry(tmp_path, clock):
    """The telemetry of a new device."""
    made = Telemetry(Home(tmp_path), CONFIG, clock)
    yield made
    made.close()


def _bodies(telemetry):
    return [event.body["message"] for event in telemetry.spool.peek(1000).events]


def test_a_problem_that_stays_is_told_once_an_hour(telemetry, clock):
    """Said again only after an hour, however often it is met with."""
    for _ in range(5):
        telemetry.problem("storage_error", "the disk is full")
        clock.advance(600)
    clock.advance(1200)
    telemetry.problem("storage_error", "the disk is full")

    assert _bodies(telemetry) == ["the disk is full"] * 2


def test_the_network_is_one_problem_whatever_it_says(telemetry):
    """A cut at byte 5 and a cut at byte 6 are the same trouble; two refusals are not."""
    telemetry.problem("transport_error", "cut at byte 5")
    telemetry.problem("transport_error", "cut at byte 6")
    telemetry.problem("trust_error", "a")
    telemetry.problem("trust_error", "b")

    assert _bodies(telemetry) == ["cut at byte 5", "a", "b"]


def test_an_old_sequence_moves_the_counter(telemetry):
    """After a conflict the next check-in uses a number no earlier life can have used."""
    first = telemetry.spool.next_sequence()
    telemetry.spool._set(sequence=5)

    telemetry.noted((ErrorBody(code="conflict_error", message="old sequence"),))

    assert telemetry.spool.next_sequence() > first


def test_a_second_conflict_renews_the_queue(telemetry):
    """When another number did not help, the events get a queue the fleet never saw."""
    conflict = (ErrorBody(code="conflict_error", message="expected 7"),)
    telemetry.spool.append("summary", {"n": 1})
    old = telemetry.spool.queue_id

    telemetry.noted(conflict)
    kept = telemetry.spool.queue_id
    telemetry.noted(())
    telemetry.noted(conflict)
    still = telemetry.spool.queue_id
    telemetry.noted(conflict)

    assert kept == still == old
    assert telemetry.spool.queue_id != old
    assert telemetry.spool.peek(1).events[0].body == {"n": 1}


def test_a_clock_that_was_wrong_heals(telemetry, monkeypatch):
    """Numbers begun before the clock was set catch up with it at any conflict in a row."""
    conflict = (ErrorBody(code="conflict_error", message="old sequence"),)
    queues = [telemetry.spool.queue_id]
    for milliseconds in (10, 20, 10**15):
        monkeypatch.setattr("edgewright.wire.spool._milliseconds", lambda ms=milliseconds: ms)
        telemetry.noted(conflict)
        queues.append(telemetry.spool.queue_id)

    assert telemetry.spool.next_sequence() > 10**15
    assert queues[0] == queues[1] != queues[2] == queues[3]


def test_problems_are_kept_for_people_too(telemetry):
    """The last ten, newest last."""
    for number in range(15):
        telemetry.problem("trust_error", f"{number}")

    assert [one["message"] for one in telemetry.problems] == [str(n) for n in range(5, 15)]
