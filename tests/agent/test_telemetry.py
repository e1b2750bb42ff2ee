"""Telemetry: what stays wrong is told once an hour, and a batch says whether it held all."""

import sys
from dataclasses import replace

import pytest
from tests.sim.clock import ManualClock
from tests.sim.database import Refusing

from edgewright.agent import DeviceConfig, Home
from edgewright.agent.child import Child
from edgewright.agent.health import Doors, Service, Worker
from edgewright.agent.telemetry import Telemetry
from edgewright.core.errors import StorageError
from edgewright.wire.checkin import ErrorBody, Serving
from edgewright.wire.local import WorkerStats
from edgewright.wire.telemetry import SUMMARY

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


def _ended(number, clock):
    """Return a worker that has ended after ``number`` answers, with a long summary."""
    worker = Worker("sha256:00", Child([sys.executable, "-c", ""]), clock=clock, hang_s=5.0)
    worker.ready = Serving(digest="sha256:00", release=f"digits@{number}", variant="v")
    worker.stats = WorkerStats(
        answered=number,
        failed=0,
        late=0,
        refused=0,
        latency={str(bucket): 1 for bucket in range(2_000)},
        p50_us=1,
        p95_us=2,
        p99_us=3,
        resident_bytes=99,
    )
    worker.close()
    return worker


@pytest.mark.parametrize("at", range(1, 5))
def test_answers_are_told_once_whichever_commit_fails(tmp_path, clock, at):
    """Three workers, a commit each: what was refused is told the next time, the rest not."""
    home = Home(tmp_path)
    telemetry = Telemetry(home, replace(CONFIG, spool_bytes=256 << 10), clock)
    doors = Doors(home, 0)
    workers = [_ended(number, clock) for number in (1, 2, 3)]
    service = Service(
        home,
        CONFIG,
        clock,
        doors,
        lambda _: True,
        lambda *_: None,
        current=workers[0],
        finished=workers[1:],
    )
    telemetry.spool._database = Refusing(telemetry.spool._database, [at, at + 1])

    refused = 0
    for _ in range(3):
        try:
            telemetry.summarise(service, now=True)
        except StorageError:
            refused += 1
            clock.advance(10)

    events = telemetry.spool.peek(100, limit_bytes=1 << 30).events
    assert refused == (at <= 3)
    assert {event.kind for event in events} == {SUMMARY}
    assert sorted(event.body["answered"] for event in events) == [1, 2, 3]
    assert service.finished == []
    telemetry.close()
    doors.close()
