"""The worker as a process: what it prints, when it ends, what it weighs, who follows it."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest
from tests.sim.bundles import golden_images, make_slot
from tests.sim.workers import Worker, infer, infer_body, listening

from edgewright.monitor.sketch import Sketch
from edgewright.wire.checkin import ErrorReply
from edgewright.wire.local import SelfTest
from edgewright.wire.version import decode

pytestmark = pytest.mark.slow

# What a worker must never load: each costs memory that a small device has not.
HEAVY = {
    "ssl", "http", "email", "asyncio", "sqlite3", "logging", "multiprocessing", "xml",
    "urllib.request", "concurrent", "onnx", "tuf", "cryptography", "zstandard", "rich",
    "edgewright.core.durable", "edgewright.core.probe", "edgewright.toolchain",
    "edgewright.agent",
}  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Return a slot of the small model and its digest."""
    return make_slot(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def better(tmp_path_factory):
    """Return a slot of a second release."""
    return make_slot(tmp_path_factory.mktemp("better"), version=2, seed=9)


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """Return a slot of a model that takes a good part of a second."""
    return make_slot(tmp_path_factory.mktemp("slow"), slow=150, count=2)


@pytest.fixture
def listener():
    """Return a listening socket that outlives its workers."""
    with listening() as made:
        yield made


def selftest(slot, *more):
    """Run a self-test; return its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "edgewright.runtime.worker", "selftest", str(slot), *more],
        capture_output=True,
        check=False,
        timeout=60,
    )
    (line,) = done.stdout.splitlines()
    return done.returncode, decode(SelfTest, line)


def test_selftest_of_a_good_slot(good):
    """Both sets pass, and everything measured is there."""
    slot, digest = good

    code, result = selftest(slot, "--digest", digest)

    assert code == 0
    assert result.error is None
    assert (result.digest, result.variant) == (digest, "float32")
    assert result.reference.passed
    assert result.golden.passed
    assert result.reference.count == 16
    assert 0 < result.p50_us <= result.p95_us < 10**6
    assert 10**4 < result.load_us < 20 * 10**6
    assert 30 << 20 < result.peak_bytes < 100 << 20


@pytest.mark.parametrize(
    ("option", "reference", "golden"),
    [({"invert": True}, False, True), ({"wrong_variant": True}, True, False)],
)
def test_selftest_of_a_slot_that_answers_wrongly(tmp_path, option, reference, golden):
    """A failed golden set is a result, not an error: exit 0 and which one failed."""
    slot, _ = make_slot(tmp_path, **option)

    code, result = selftest(slot)

    assert code == 0
    assert result.error is None
    assert result.reference.passed is reference
    assert result.golden.passed is golden


def test_selftest_takes_the_variant_that_passes(tmp_path):
    """One variant asks for a CPU feature there is not; without another it is an error."""
    slot, _ = make_slot(tmp_path, isa=("avx1024",))

    code, result = selftest(slot)

    assert code == 1
    assert result.error.code == "engine_error"
    assert "this CPU has no avx1024" in result.error.message


def test_selftest_of_a_damaged_slot(tmp_path):
    """It is not even loaded: exit 1 with the error in the same line."""
    slot, digest = make_slot(tmp_path)
    (slot / "golden/float32/output-0.bin").write_bytes(bytes(640))

    code, result = selftest(slot, "--digest", digest)

    assert code == 1
    assert result.error.code == "bundle_error"
    assert "golden/float32/output-0.bin" in result.error.message
    assert result.digest == digest


def test_serving(good, listener):
    """Ready says what is served; answers, refusals and stats agree with each other."""
    slot, digest = good
    images = golden_images(1)
    with Worker(slot, digest, listener) as worker:
        ready = worker.line().ready
        client = http.client.HTTPConnection(*listener.getsockname(), timeout=10)
        statuses = [infer(client, infer_body(images))[0] for _ in range(20)]
        statuses.append(infer(client, infer_body(images.astype(int) * 100))[0])
        worker.ask("stats")
        stats = worker.line().stats
        client.close()

        assert (ready.digest, ready.release, ready.variant) == (digest, "digits@1", "float32")
        assert statuses == [200] * 20 + [400]
        assert (stats.answered, stats.failed, stats.late, stats.refused) == (20, 0, 0, 1)
        assert Sketch.from_wire(stats.latency).count == 20
        assert 0 < stats.p50_us <= stats.p95_us <= stats.p99_us
        assert 0 <= time.monotonic() - stats.completed_monotonic_s < 60
        assert 30 << 20 < stats.resident_bytes < 100 << 20
        assert worker.end() == 0


def test_a_unix_socket_beside_the_port(good, listener, tmp_path):
    """An application on the device may ask without a port."""
    slot, digest = good
    with socket.socket(socket.AF_UNIX) as local:
        local.bind(str(tmp_path / "worker.sock"))
        local.listen()
        local.set_inheritable(True)
        with Worker(slot, digest, listener, "--unix-fd", str(local.fileno())) as worker:
            worker.line()
            client = http.client.HTTPConnection("x")
            client.sock = socket.socket(socket.AF_UNIX)
            client.sock.connect(str(tmp_path / "worker.sock"))

            assert infer(client, infer_body(golden_images(1)))[0] == 200

            client.close()
            assert worker.end() == 0


def test_a_port_of_its_own(good):
    """Without a supervisor it says on standard error where it listens."""
    slot, _ = good
    command = [sys.executable, "-m", "edgewright.runtime.worker", "serve", str(slot)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*command, "--port", "0"], stdin=pipe, stdout=pipe, stderr=pipe
    ) as run:
        port = json.loads(run.stderr.readline())["port"]
        run.stdout.readline()
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

        assert infer(client, infer_body(golden_images(1)))[0] == 200

        client.close()
        run.stdin.close()
        assert run.wait(20) == 0


@pytest.mark.parametrize("how", ["stop", "end of input", "SIGTERM"])
def test_it_ends_when_told(good, listener, how):
    """Whichever way it hears of it, the exit code is 0."""
    slot, digest = good
    with Worker(slot, digest, listener) as worker:
        worker.line()
        if how == "stop":
            worker.ask("stop")
        elif how == "SIGTERM":
            worker.process.send_signal(signal.SIGTERM)
        else:
            worker.process.stdin.close()

        assert worker.process.wait(10) == 0


def test_its_last_word_counts_everything(good, listener):
    """What was answered since the last question is told before the end."""
    slot, digest = good
    with Worker(slot, digest, listener) as worker:
        worker.line()
        client = http.client.HTTPConnection(*listener.getsockname(), timeout=10)
        for _ in range(7):
            infer(client, infer_body(golden_images(1)))
        client.close()

        assert worker.end() == 0
        assert worker.line().stats.answered == 7


def test_a_supervisor_that_is_gone_is_no_fault(good, listener):
    """Killed, it can neither ask nor hear; the worker ends all the same, without a trace."""
    slot, digest = good
    with Worker(slot, digest, listener) as worker:
        worker.line()
        worker.ask("stats")
        worker.process.stdout.close()

        assert worker.end() == 0
        assert b"Traceback" not in worker.process.stderr.read()


def test_what_it_does_not_understand_is_logged(good, listener):
    """Neither noise nor an unknown operation ends it, nor does a question in two parts."""
    slot, digest = good
    with Worker(slot, digest, listener) as worker:
        worker.line()
        worker.process.stdin.write(b"noise\n{}\n")
        worker.ask("dance")
        worker.process.stdin.write(b'{"op":"st')
        worker.process.stdin.flush()
        time.sleep(0.05)
        worker.process.stdin.write(b'ats"}\n')
        worker.process.stdin.flush()

        assert worker.line().stats.answered == 0
        assert worker.end() == 0
        logged = [json.loads(line) for line in worker.process.stderr]
        assert [line["event"] for line in logged] == ["not understood"] * 3


@pytest.mark.parametrize("option", [{"invert": True}, {"isa": ("avx1024",)}])
def test_what_may_not_run_is_one_line_and_exit_1(tmp_path, listener, option):
    """A slot that answers wrongly is never served."""
    slot, digest = make_slot(tmp_path, **option)
    with Worker(slot, digest, listener) as worker:
        assert worker.process.wait(20) == 1
        (line,) = worker.process.stdout.read().splitlines()

    error = decode(ErrorReply, line).error
    assert error.code in {"golden_error", "engine_error"}
    assert "no variant of digits@1 can run here" in error.message


def test_a_damaged_slot_is_never_served(tmp_path, listener):
    """One flipped bit in the weights is one line and exit 1."""
    slot, digest = make_slot(tmp_path)
    weights = slot / "variants/float32/weights.bin"
    data = bytearray(weights.read_bytes())
    data[100] ^= 1
    weights.write_bytes(data)

    with Worker(slot, digest, listener) as worker:
        assert worker.process.wait(20) == 1
        (line,) = worker.process.stdout.read().splitlines()

    assert "weights.bin' is damaged in chunk 0" in decode(ErrorReply, line).error.message


def test_stats_come_while_an_inference_runs(slow, listener):
    """The supervisor hears from a worker whose model is busy for a long time."""
    slot, digest = slow
    with Worker(slot, digest, listener, "--deadline-ms", "60000") as worker:
        worker.line()
        client = http.client.HTTPConnection(*listener.getsockname(), timeout=60)
        client.request("POST", "/v2/models/digits/infer", infer_body(golden_images(8)))
        time.sleep(0.05)
        start = time.monotonic()

        worker.ask("stats")
        stats = worker.line().stats

        assert stats.answered == 0
        assert time.monotonic() - start < 0.2
        assert client.getresponse().read()
        client.close()


def test_a_late_answer_is_refused_and_the_next_is_the_same_bits(slow, listener):
    """After a deadline that stopped it the model answers as before, bit for bit."""
    slot, digest = slow
    content = infer_body(golden_images(1), deadline_ms=60_000)
    with Worker(slot, digest, listener, "--deadline-ms", "15") as worker:
        worker.line()
        client = http.client.HTTPConnection(*listener.getsockname(), timeout=60)
        before = infer(client, content)
        late = [infer(client, infer_body(golden_images(1)))[0] for _ in range(3)]
        after = infer(client, content)
        worker.ask("stats")
        stats = worker.line().stats
        client.close()

    assert late == [408] * 3
    assert before == after
    assert (stats.answered, stats.late) == (2, 3)


def test_a_switch_under_load_loses_nothing(good, better, listener):
    """Three times one worker replaces the other on their socket; every request is answered."""
    content = infer_body(golden_images(1))
    answers: list[list[tuple[int, str]]] = [[] for _ in range(4)]
    faults = []
    done = threading.Event()

    def ask(index):
        client = http.client.HTTPConnection(*listener.getsockname(), timeout=20)
        while not done.is_set():
            try:
                status, document = infer(client, content)
            except (OSError, http.client.HTTPException) as error:
                faults.append(repr(error))
                return
            answers[index].append((status, document.get("parameters", {}).get("release")))
            if index % 2:
                client.close()  # every second peer connects anew for each request
        client.close()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    counted = []
    with ExitStack() as undo:
        undo.callback(done.set)
        workers = [undo.enter_context(Worker(*good, listener))]
        workers[0].line()
        for thread in threads:
            thread.start()
        for slot in (better, good, better):
            time.sleep(0.3)
            workers.append(undo.enter_context(Worker(*slot, listener)))
            workers[-1].line()
            counted.append(ended(workers[-2]))
        time.sleep(0.3)
        done.set()
        for thread in threads:
            thread.join()
        counted.append(ended(workers[-1]))

    seen = [answer for one in answers for answer in one]
    assert faults == []
    assert {status for status, _ in seen} == {200}
    assert all(one[0][1] == "digits@1" and one[-1][1] == "digits@2" for one in answers)
    assert len(seen) > 200
    assert sum(stats.answered for stats in counted) == len(seen)
    assert all(stats.failed == stats.late == stats.refused == 0 for stats in counted)


def ended(worker):
    """End a worker; return its last word."""
    assert worker.end() == 0
    return worker.line().stats


def test_what_it_loads(good):
    """A worker carries no library it does not need."""
    slot, _ = good
    code = (
        "import sys; from edgewright.runtime.worker import main; "
        f"main(['selftest', {str(slot)!r}]); print(*sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded & HEAVY == set()
    assert "numpy" in loaded


def test_what_it_weighs_and_how_soon_it_answers(good, listener):
    """Within the budget of a device with 100 MB, and answering in well under a second."""
    slot, digest = good
    content = infer_body(golden_images(1))
    with Worker(slot, digest, listener) as worker:
        worker.line()
        client = http.client.HTTPConnection(*listener.getsockname(), timeout=10)
        assert infer(client, content)[0] == 200
        first_s = time.monotonic() - worker.started
        for _ in range(200):
            infer(client, content)
        weight = worker.smaps()
        client.close()

    # 0.5 s on a quiet machine; the tests share theirs with others.
    assert first_s < 2.0
    assert weight["Pss"] <= weight["Rss"] < 72 << 20


def test_memory_does_not_grow_with_requests(good, listener):
    """Two thousand answers more, in changing batch sizes, cost less than 2 MiB."""
    slot, digest = good
    images = np.repeat(golden_images(16), 1, axis=0)
    contents = [infer_body(images[: 1 + i % 16]) for i in range(16)]
    with Worker(slot, digest, listener) as worker:
        worker.line()
        client = http.client.HTTPConnection(*listener.getsockname(), timeout=10)
        for index in range(400):
            infer(client, contents[index % 16])
        before = worker.smaps()["Rss"]
        for index in range(2000):
            infer(client, contents[index % 16])
        grown = worker.smaps()["Rss"] - before
        client.close()

    assert grown < 2 << 20
