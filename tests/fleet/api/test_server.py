"""``edgewright serve`` as a process: it ends in order, and what it answered is kept."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from tests.sim.plane import (
    Running,
    SimDevice,
    make_keys,
    publish,
    roll_out,
    summary,
    until,
)

from edgewright.bundle.keys import PrivateKey
from edgewright.core.errors import ConflictError, TransportError
from edgewright.wire import version
from edgewright.wire.checkin import CheckInReply
from edgewright.wire.http import Client
from edgewright.wire.telemetry import SUMMARY

pytestmark = pytest.mark.slow

DIGEST = "sha256:" + "a" * 64


def command(folder, *more):
    """Return the command line of a server with its state below ``folder``."""
    keys = make_keys(folder)
    return [
        *(sys.executable, "-m", "edgewright.cli.main", "serve"),
        *("--state", str(folder / "state")),
        *("--trust", str(keys / "public")),
        *("--assignments-key", str(keys / "private" / "assignments.key")),
        *("--port", "0", *more),
    ]


@contextmanager
def serving(folder, *more):
    """Run a server; give the process and its address, and end it."""
    with subprocess.Popen(
        command(folder, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            url = process.stdout.readline().decode().strip()
            assert url, process.stderr.read().decode()
            yield process, url
        finally:
            process.kill()


def token(folder, scope):
    """Return a token that the server wrote."""
    return (folder / "state" / "tokens" / f"{scope}.token").read_text().strip()


def refused(folder):
    """Start a second server and return its exit code and what it says."""
    done = subprocess.run(command(folder), capture_output=True, timeout=60, check=False)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order(tmp_path, number):
    """A signal ends it with exit code 0, nothing on stderr, and no address left."""
    with serving(tmp_path) as (process, url):
        client = Client(url)
        assert client.call("GET", "/v1/health")["status"] == "ok"
        said = json.loads((tmp_path / "state" / "server.json").read_text())
        assert said == {"url": url, "pid": process.pid}

        process.send_signal(number)

        assert process.wait(20) == 0
        assert process.stderr.read() == b""
        client.close()
    assert not (tmp_path / "state" / "server.json").exists()


def test_one_state_folder_has_one_server(tmp_path):
    """A second server is refused while the first lives, and not after it was killed."""
    with serving(tmp_path) as (process, _):
        code, says = refused(tmp_path)
        assert code == 1
        assert "another server uses" in says

        process.kill()
        process.wait(20)
    with serving(tmp_path) as (_, url):
        client = Client(url)
        assert client.call("GET", "/v1/health")["status"] == "ok"
        client.close()


def test_a_port_that_is_taken(tmp_path):
    """The error names the port and the way out."""
    other = tmp_path / "other"
    other.mkdir()
    with serving(tmp_path) as (_, url):
        port = url.rpartition(":")[2]
        done = subprocess.run(
            [*command(other), "--port", port], capture_output=True, timeout=60, check=False
        )

    assert done.returncode == 1
    assert f"port {port}" in done.stderr.decode()
    assert "--port 0" in done.stderr.decode()


def test_requests_are_logged_on_demand(tmp_path):
    """One line of JSON per request, and none of it without the option."""
    with serving(tmp_path, "--log-requests") as (process, url):
        client = Client(url)
        client.call("GET", "/v1/health")
        client.close()
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        line = json.loads(process.stderr.readline())

    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/health", 200)


def beside(folder, url):
    """Return what the helpers of ``tests.sim.plane`` need to speak to a process."""
    state = folder / "state"
    plane = SimpleNamespace(
        settings=SimpleNamespace(state=state), trust_folder=state / "trust"
    )
    return Running(url, plane, make_keys(folder))


def test_a_rollout_goes_on_after_a_kill(tmp_path):
    """Killed between two waves, the next process opens what is due and ends it."""
    with serving(tmp_path) as (process, url):
        server = beside(tmp_path, url)
        canary = SimDevice.make(server, tmp_path, "canary", labels={"canary": "yes"})
        other = SimDevice.make(server, tmp_path, "other")
        fake = publish(server, "digits@1")
        waves = ({"labels": {"canary": "yes"}}, {"bp": 10_000})
        rollout = roll_out(server, "digits@1", *waves, min_inferences=10)
        canary.confirm("digits@1", fake.digest)
        process.kill()
        process.wait(20)
        for client in server.clients:
            client.close()

    with serving(tmp_path) as (_, url):
        server = beside(tmp_path, url)
        other.client = server.client("enrol")
        place = f"/v1/rollouts/{rollout}"
        operator = server.client()
        until(lambda: operator.call("GET", place)["open_waves"] == 2)
        other.confirm("digits@1", fake.digest)
        document = until(lambda: (d := operator.call("GET", place))["state"] == "done" and d)
        for client in server.clients:
            client.close()
    assert [row["decision"] for row in document["decisions"]] == ["continue", "continue"]


class Load:
    """Devices that check in as fast as they can and remember what was acknowledged."""

    def __init__(self, folder, count=4):
        self.folder = folder
        self.devices = [
            SimDevice(None, PrivateKey.create(folder / f"{n}.key"), name=f"device-{n}")
            for n in range(count)
        ]
        self.acked = dict.fromkeys((device.id for device in self.devices), 0)

    def connect(self, url):
        """Let every device speak to ``url``, enrolled."""
        for device in self.devices:
            device.client = Client(url, token=token(self.folder, "enrol"))
            device.enrol()

    def close(self):
        """Close every connection."""
        for device in self.devices:
            device.client.close()

    def run(self, device, stop):
        """Check in with one more event each time, sending again what was not answered."""
        pending = []
        while not stop.is_set():
            device.seq = self.acked[device.id]
            pending.append((SUMMARY, summary("digits@1", DIGEST, answered=1)))
            message = device.message(batch=device.batch(*pending))
            try:
                answer = device.send("/v1/device/checkin", message)
            except (TransportError, ConflictError):
                # The answer was lost, perhaps after the commit: what was applied is
                # above our mark now, and sending it again must change nothing.
                stop.wait(0.01)
                continue
            self.acked[device.id] = version.decode(CheckInReply, answer).ack.high
            pending = []


def test_killed_again_and_again_it_loses_nothing_it_answered(tmp_path):
    """Every acknowledged event is there once after each kill -9, and none twice."""
    load, chance = Load(tmp_path), random.Random(7)  # noqa: S311  times to kill at
    for _ in range(4):
        with serving(tmp_path) as (process, url):
            load.connect(url)
            stop = threading.Event()
            threads = [
                threading.Thread(target=load.run, args=(device, stop))
                for device in load.devices
            ]
            for thread in threads:
                thread.start()
            before = dict(load.acked)
            until(lambda old=before: any(v > old[k] for k, v in load.acked.items()))
            stop.wait(chance.uniform(0.1, 0.8))
            os.kill(process.pid, signal.SIGKILL)
            process.wait(20)
            stop.set()
            for thread in threads:
                thread.join()
            load.close()

    with serving(tmp_path) as (_, url):
        client = Client(url, token=token(tmp_path, "operate"))
        for device in load.devices:
            known = client.call("GET", f"/v1/devices/{device.id}")
            (queue,) = known["queues"]
            assert queue["high"] >= load.acked[device.id]
            assert queue["applied"] == queue["high"] == known["answered"]
            assert queue["lost"] == 0
        rows = client.call("GET", "/v1/audit?limit=1000")["audit"]
        client.close()
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
