"""Doors and Worker: who is let in when, and what an answer counts for."""

import socket
import sys
import time

import msgspec
import pytest
from tests.sim.clock import ManualClock

from edgewright.agent import DeviceConfig, Home
from edgewright.agent.child import Child
from edgewright.agent.health import Doors, Service, Worker
from edgewright.core.errors import UpdateError
from edgewright.wire.checkin import Serving
from edgewright.wire.local import WorkerMessage, WorkerStats
from edgewright.wire.version import encode

READY = Serving(digest="sha256:00", release="digits@1", variant="v")
STATS = WorkerStats(
    answered=5,
    failed=1,
    late=2,
    refused=3,
    latency={"10": 4, "11": 1},
    p50_us=1,
    p95_us=2,
    p99_us=3,
    resident_bytes=99,
    impatient=4,
)
SAY_READY = f"print({encode(WorkerMessage(ready=READY)).decode()!r})"


CONFIG = DeviceConfig(
    server="http://127.0.0.1:1",
    name="camera-1",
    enrol_token_file="token",  # noqa: S106  the name of a file
    artefacts_root="a",
    assignments_root="b",
)


def _knock(port):
    with socket.create_connection(("127.0.0.1", port), timeout=2):
        return True


@pytest.fixture
def doors(tmp_path):
    """Doors of a device, not yet open."""
    made = Doors(Home(tmp_path), 0)
    yield made
    made.close()


def test_closed_doors_refuse_at_once(doors):
    """Bound, so nobody else has the port, and refusing, so nobody waits."""
    assert doors.port > 0
    with pytest.raises(ConnectionRefusedError):
        _knock(doors.port)


def test_doors_open_and_shut_on_the_same_port(doors):
    """Callers find the same address before and after a time without a worker."""
    port = doors.port
    doors.open()
    opened = _knock(port)

    doors.shut()
    with pytest.raises(ConnectionRefusedError):
        _knock(port)
    doors.open()

    assert opened
    assert doors.port == port
    assert _knock(port)


def test_the_local_socket_works_in_a_deep_folder(tmp_path):
    """A home folder may be deeper than a socket's address is long."""
    home = Home(tmp_path / ("deep" * 20) / ("deeper" * 10))
    home.run.mkdir(parents=True)
    doors = Doors(home, 0)

    _, unix = doors.open()

    assert (home.run / "worker.sock").is_socket()
    assert unix.family == socket.AF_UNIX
    doors.close()


def test_a_disk_that_refuses_leaves_the_port(tmp_path):
    """Without a place for the local socket callers still get in by the port."""
    doors = Doors(Home(tmp_path / "nowhere"), 0)

    opened = doors.open()

    assert len(opened) == 1
    assert _knock(doors.port)
    assert "worker.sock" in doors.problem
    doors.close()


def test_a_taken_port_is_said(tmp_path):
    """A port that is someone else's is a mistake in the settings."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UpdateError, match=f"port {port}"):
            Doors(Home(tmp_path), port)


def test_the_port_of_before_is_tried_first(tmp_path):
    """Where any port would do the old one is taken, unless it is gone."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        elsewhere = Doors(Home(tmp_path / "a"), 0, last_port=taken)
    again = Doors(Home(tmp_path / "b"), 0, last_port=taken)

    assert elsewhere.port != taken
    assert again.port == taken
    elsewhere.close()
    again.close()


def _worker(program, clock):
    child = Child([sys.executable, "-u", "-c", program])
    return Worker("sha256:00", child, clock=clock, hang_s=5.0)


def _printing(*messages):
    lines = "".join(f"print({encode(message).decode()!r})\n" for message in messages)
    return lines + "import sys\nfor line in sys.stdin: print(line, end='')"


def _until(worker, done):
    end = time.monotonic() + 20
    while not done() and time.monotonic() < end:
        worker.tick()
        time.sleep(0.01)
    assert done()


def test_summaries_are_differences():
    """Each period counts what is new; nothing new is no summary."""
    clock = ManualClock()
    program = _printing(WorkerMessage(ready=READY), WorkerMessage(stats=STATS))
    worker = _worker(program, clock)
    _until(worker, lambda: worker.stats)

    clock.advance(3)
    first = worker.summary()
    worker.summarised()
    nothing = worker.summary()
    worker.stats = msgspec.structs.replace(
        STATS, answered=7, latency={"10": 4, "11": 2, "12": 1}
    )
    second = worker.summary()

    assert (first.answered, first.failed, first.late, first.refused) == (5, 1, 2, 3)
    assert (first.impatient, second.impatient) == (4, 0)
    assert (first.latency, first.period_s) == ({"10": 4, "11": 1}, 3.0)
    assert nothing is None
    assert (second.answered, second.failed, second.latency) == (2, 0, {"11": 1, "12": 1})
    worker.close()


def test_a_worker_that_says_nothing_is_hung():
    """Ready once and silent since: it is killed after its time, and says why."""
    clock = ManualClock()
    program = (
        f"print({encode(WorkerMessage(ready=READY)).decode()!r})\nimport time\ntime.sleep(60)"
    )
    worker = _worker(program, clock)
    _until(worker, lambda: worker.ready)

    clock.advance(6)
    _until(worker, lambda: worker.ended is not None)

    assert worker.reason == "said nothing for 5 s"


def test_a_worker_that_never_gets_ready_is_given_up():
    """Loading takes a while, not for ever."""
    clock = ManualClock()
    worker = _worker("import time; time.sleep(60)", clock)
    worker.tick()

    clock.advance(121)
    _until(worker, lambda: worker.ended is not None)

    assert "was not ready" in worker.reason


def test_a_worker_that_does_not_stop_is_killed():
    """Finishing what it answers takes a moment, not for ever."""
    clock = ManualClock()
    program = (
        f"print({encode(WorkerMessage(ready=READY)).decode()!r})\nimport time\ntime.sleep(60)"
    )
    worker = _worker(program, clock)
    _until(worker, lambda: worker.ready)

    worker.stop()
    worker.stop()
    clock.advance(11)
    _until(worker, lambda: worker.ended is not None)

    assert "did not stop" in worker.reason


def test_why_a_worker_could_not_start_is_its_reason():
    """The error it printed is what is told, not its exit code."""
    error = '{"error": {"code": "bundle_error", "message": "weights.bin is damaged"}}'
    worker = _worker(f"print({error!r}); raise SystemExit(1)", ManualClock())

    _until(worker, lambda: worker.ended is not None)

    assert worker.reason == "weights.bin is damaged"
    assert worker.error.code == "bundle_error"


def test_a_start_that_fails_is_tried_again_later(doors, tmp_path, monkeypatch):
    """No memory for a process: said, no death of the slot's, and tried ever more slowly."""
    clock, permitted, told = ManualClock(), [], []

    def refuse(*_, **__):
        raise UpdateError("cannot start python: Resource temporarily unavailable")

    monkeypatch.setattr("edgewright.agent.health.Child", refuse)
    service = Service(
        Home(tmp_path),
        CONFIG,
        clock,
        doors,
        lambda of: permitted.append(of) is None,
        lambda of, why: told.append((of, str(why))),
        wanted="sha256:" + "0" * 64,
    )
    deaths = []
    for _ in range(300):
        deaths += service.tick()
        clock.advance(0.2)

    assert deaths == []
    assert 5 < len(told) == len(permitted) < 15
    assert "temporarily" in told[0][1]


@pytest.mark.parametrize(
    ("code", "damaged"),
    [("bundle_error", True), ("storage_error", True), ("golden_error", False), ("", False)],
)
def test_a_copy_that_cannot_be_used_is_told_from_a_bundle(
    doors, tmp_path, monkeypatch, code, damaged
):
    """Damaged or unreadable, it is fetched anew; what its worker did else is its own."""
    said = encode({"error": {"code": code, "message": "no"}}).decode() if code else ""
    program = [sys.executable, "-c", f"print({said!r}); raise SystemExit(1)"]
    monkeypatch.setattr("edgewright.agent.health.Child", lambda *_, **__: Child(program))
    service = Service(
        Home(tmp_path),
        CONFIG,
        ManualClock(),
        doors,
        lambda _: True,
        lambda *_: None,
        wanted="sha256:" + "0" * 64,
    )
    deaths, end = [], time.monotonic() + 20
    while not deaths and time.monotonic() < end:
        deaths = service.tick()
        time.sleep(0.01)
    service.close()

    assert (deaths[0].damaged, deaths[0].code) == (damaged, code)


def test_nonsense_from_a_worker_is_no_sign_of_life():
    """Lines that are no messages are logged and do not count as an answer."""
    clock = ManualClock()
    program = f"{SAY_READY}\nimport time\nwhile True: print('hello'); time.sleep(0.01)"
    worker = _worker(program, clock)
    _until(worker, lambda: worker.ready)

    clock.advance(6)
    _until(worker, lambda: worker.ended is not None)

    assert "said nothing" in worker.reason
