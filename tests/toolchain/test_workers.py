"""``optimize --workers``: what comes out is what one process makes, whatever befalls them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
from tests.sim.cluster import Cluster, free_port
from tests.sim.models import quarters, write_data, write_model

from edgewright.toolchain.planner.workspace import read_report

pytestmark = [pytest.mark.slow, pytest.mark.needs("ray")]

CANDIDATES, STEPS = 7, 9


@pytest.fixture(scope="module")
def cluster():
    """Return a cluster with two workers."""
    with Cluster(cpus=2) as found:
        yield found


@dataclass
class Order:
    """A model and data, and how they are optimised by a command."""

    folder: object
    env: dict

    def command(self, out, *more):
        """Return the command for ``folder/out``."""
        return [
            sys.executable, "-m", "edgewright.cli.main", "optimize",
            str(self.folder / "m.onnx"), "--data", str(self.folder / "d.npz"),
            "-o", str(self.folder / out), "--events", "--allow-slower",
            "--accuracy-drop", "2", "--worst-class-drop", "6", "--goal", "size",
            "--quantization", "int8",
            # Or how many first layers are floats would hang on how fast this machine was.
            "--precision", "*Conv*=int8", *more,
        ]  # fmt: skip

    def environment(self, out):
        """Return an environment with a step cache that is its own."""
        return {**self.env, "XDG_CACHE_HOME": str(self.folder / f"{out}.cache")}

    def start(self, out, *more):
        """Start the command."""
        return subprocess.Popen(
            self.command(out, *more), env=self.environment(out), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, out, *more, **env):
        """Return the events of the command, what it said on stderr, and its exit code."""
        done = subprocess.run(
            self.command(out, *more), env={**self.environment(out), **env},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return _events(done.stdout), done.stderr, done.returncode


@pytest.fixture(scope="module")
def order(cluster, tmp_path_factory):
    """Return an order of a model that workers take a while for."""
    folder = tmp_path_factory.mktemp("workers")
    write_model(folder / "m.onnx", quarters(hidden=192))
    write_data(folder / "d.npz", evaluate=1000)
    return Order(folder, cluster.env)


@pytest.fixture(scope="module")
def alone(order):
    """Return what one process makes of the order."""
    _, said, code = order.run("alone")
    assert code == 0, said
    return _made(order.folder / "alone")


def _events(text):
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def _workers(events):
    return [event for event in events if event["event"] == "workers"]


def _made(folder):
    """Return all of a run that does not hang on how fast this machine was."""
    report = read_report(folder)
    evidence = {
        name: (folder / "evidence" / file).read_bytes()
        for name, file in report.evidence_files.items()
        if name.startswith(("accuracy of ", "drift of "))
    }
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for part in ("candidates", "golden")
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
    }
    steps = {one.name: one.steps for one in report.candidates}
    return report.chosen, report.left_out, steps, evidence, files


@pytest.mark.parametrize("form", ["ray://", "ray"])
def test_workers_come_to_what_one_process_does(form, cluster, order, alone):
    """The chosen model, every file and the evidence of answers, all done on the cluster."""
    address = cluster.address if form == "ray://" else "ray"
    gcs = (cluster.folder / "t" / "ray_current_cluster").read_text().strip()

    events, said, code = order.run(form[:3] + form[-1], "--workers", address, RAY_ADDRESS=gcs)

    assert code == 0, said
    assert _made(order.folder / (form[:3] + form[-1])) == alone
    first, *_, last = _workers(events)
    assert first["what"] == f"2 workers on {address}"
    assert last["what"] == f"workers delivered {STEPS} steps and {CANDIDATES} answers"
    assert last["lost"] == []


def test_learned_weights_are_the_same_bytes(cluster, order):
    """What is learned multiplies large matrices, in as many threads there as here."""
    asked = ("--quantization", "int4")
    _, said, code = order.run("learned", *asked)
    assert code == 0, said

    events, said, code = order.run("taught", *asked, "--workers", cluster.address)

    assert code == 0, said
    # Which of two equally large ones is faster is measured anew.
    assert _made(order.folder / "taught")[1:] == _made(order.folder / "learned")[1:]
    assert _workers(events)[-1]["what"] == "workers delivered 3 steps and 3 answers"


def test_workers_ask_only_what_is_asked_where_the_cheapest_is_looked_for(cluster, order):
    """All steps are done ahead, and answers as soon as it is told what costs least."""
    _, said, code = order.run("cheap", "--goal", "auto")
    assert code == 0, said
    first, again = order.folder / "cheap", order.folder / "cheaper" / "evidence"
    report = read_report(first)
    again.mkdir(parents=True)
    for what, file in report.evidence_files.items():
        # What costs least hangs on how fast this machine was; what was answered does not.
        if not what.startswith(("accuracy of ", "drift of ")):
            (again / file).write_bytes((first / "evidence" / file).read_bytes())

    asked = ("--goal", "auto", "--workers", cluster.address)
    events, said, code = order.run("cheaper", *asked)

    assert code == 0, said
    assert _made(again.parent) == _made(first)
    answered = len(report.candidates)
    delivered = f"workers delivered {STEPS} steps and {answered} answers"
    assert _workers(events)[-1]["what"] == delivered
    assert answered < CANDIDATES


def test_a_worker_that_is_killed_costs_nothing_but_time(cluster, order, alone):
    """It is said what it was doing; that is done here, and all else is the same."""
    process = order.start("killed", "--workers", cluster.address)
    for line in process.stdout:
        if json.loads(line)["event"] == "workers":
            break
    killed = cluster.kill_one_at_work(30)
    said, wrong = process.communicate(timeout=120)

    assert killed
    assert process.returncode == 0, wrong
    last = _workers(_events(said))[-1]
    assert len(last["lost"]) == 1
    assert any("died" in event["what"] for event in _workers(_events(said)))
    assert _made(order.folder / "killed") == alone


def test_a_run_that_is_killed_does_not_ask_again_for_what_came(cluster, order, alone):
    """SIGKILL when some steps were delivered: only the others are asked for after that."""
    process = order.start("resumed", "--workers", cluster.address)
    for line in process.stdout:
        if json.loads(line).get("what") == "latency of int8-weights":
            process.kill()
    process.communicate()
    kept = len(list((order.folder / "resumed.cache").rglob("*.step")))

    events, said, code = order.run("resumed", "--workers", cluster.address)

    assert code == 0, said
    assert 2 < kept < STEPS
    assert _workers(events)[-1]["steps"] == STEPS - kept
    assert _made(order.folder / "resumed") == alone


def test_a_cluster_that_dies_leaves_the_rest_to_this_machine(order, alone):
    """All of it killed in the middle: said once, nothing else is different."""
    with Cluster(cpus=1) as own:
        process = order.start("left", "--workers", own.address)
        for line in process.stdout:
            event = json.loads(line)
            if (event.get("stage"), event.get("what")) == ("make", "int8-weights"):
                for pid in own.processes():
                    os.kill(pid, signal.SIGKILL)
                break
        said, wrong = process.communicate(timeout=120)

    assert process.returncode == 0, wrong
    gone = [e for e in _workers(_events(said)) if " is gone" in e["what"]]
    assert len(gone) == 1
    assert _made(order.folder / "left") == alone


def test_other_versions_are_refused_before_anything_is_done(cluster, order):
    """Both versions and what to do are named; nothing is written."""
    fake = order.folder / "fake" / "onnxruntime-0.1.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Name: onnxruntime\nVersion: 0.1\n")
    path = f"{fake.parent}{os.pathsep}{order.env['PYTHONPATH']}"

    events, said, code = order.run("other", "--workers", cluster.address, PYTHONPATH=path)

    assert code == 2
    assert "onnxruntime 1." in said
    assert " there, 0.1 here" in said
    assert "Install the same versions there" in said
    assert [event["event"] for event in events] == ["stage"]
    assert not (order.folder / "other").exists()


def test_a_cluster_that_is_not_there_is_an_error_with_its_address(order):
    """At once, not after Ray's half minute."""
    address = f"ray://127.0.0.1:{free_port()}"
    started = time.monotonic()

    _, said, code = order.run("nobody", "--workers", address)

    assert code == 1
    assert f"no Ray cluster can be reached at {address}" in said
    assert "ray start --head" in said
    assert time.monotonic() - started < 20


def test_what_is_no_cluster_is_an_error_too(order):
    """Something listens there, and does not speak Ray's language."""
    quick = {
        "RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "1",
        "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "1",
    }
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"ray://127.0.0.1:{server.getsockname()[1]}"
        _, said, code = order.run("mute", "--workers", address, **quick)

    assert code == 1
    assert f"the Ray cluster at {address} does not let us in" in said
    assert "Traceback" not in said


def test_a_run_leaves_nothing_of_itself_on_the_cluster(cluster, order):
    """No cache of steps, no temporary files: a worker changes nothing where it runs."""
    _, said, code = order.run("clean", "--workers", cluster.address)

    assert code == 0, said
    assert not (cluster.folder / "cache").exists()
    shutil.rmtree(order.folder / "clean")
