"""The agent as a whole: a real supervisor, its real children, and a fleet that can fail."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from tests.sim.device import Device, Scene, Traffic

from edgewright.bundle.archive import verify_slot
from edgewright.core import digest
from edgewright.wire.spool import Spool
from edgewright.wire.telemetry import FEEDBACK, PROBLEM, SUMMARY

pytestmark = pytest.mark.slow


def test_the_way_of_a_release(scene):
    """Installed, tried, kept, and left again when the fleet says so; no caller notices."""
    second = scene.roll_out("good-2")
    scene.wait_serves("digits@2")
    scene.plane.roll_out(second, scene.first, open_waves=0)
    scene.wait_serves("digits@1")
    scene.device.wait_for(
        lambda: scene.plane.device.feedback()[-1] == ("confirmed", "digits@1"), "the end"
    )

    assert scene.plane.device.feedback() == [
        ("staged", "digits@1"),
        ("activated", "digits@1"),
        ("confirmed", "digits@1"),
        ("staged", "digits@2"),
        ("activated", "digits@2"),
        ("confirmed", "digits@2"),
        ("returned", "digits@2"),
        ("confirmed", "digits@1"),
    ]
    assert scene.traffic.errors == {}
    assert scene.traffic.counts["digits@1"] > 0
    assert scene.traffic.counts["digits@2"] > 0
    assert len({request.path for request in scene.plane.asked("/v1/blobs/")}) == 2
    assert scene.plane.device.checkins[-1].serving.digest == scene.first.digest


def test_answers_are_counted_once(scene):
    """What callers got and what the fleet was told agree, over a switch and a stop."""
    scene.roll_out("good-2")
    scene.wait_serves("digits@2")
    scene.traffic.stop()
    scene.device.stop()
    scene.device.start()
    scene.device.wait_for(lambda: _queued(scene.device) == 0, "all to be told")

    told = [event.body for event in scene.plane.device.events if event.kind == SUMMARY]
    counted = sum(body["answered"] for body in told if body["release"] == "digits@2")
    assert counted == scene.device.asked["digits@2"]
    assert all(sum(body["latency"].values()) == body["answered"] for body in told)


def test_without_a_release_it_waits(plane, device):
    """Nothing assigned: enrolled, checking in, and callers are refused rather than kept."""
    device.start()
    device.wait_for(lambda: plane.devices and len(plane.device.checkins) >= 3, "check-ins")

    assert "refused" in device.ask()
    assert device.status()["serving"] is None
    assert device.stop() == 0


def test_without_a_fleet_it_serves(scene):
    """The server away: answers go on over a restart, events wait, and arrive in the end."""
    scene.plane.stop()
    scene.device.stop(signal.SIGKILL)
    scene.device.start()
    scene.wait_serves("digits@1")
    scene.device.wait_for(lambda: _queued(scene.device) > 2, "events to wait")

    scene.plane.start()
    scene.device.wait_for(lambda: _queued(scene.device) < 2, "events to arrive")

    seqs = [event.seq for event in scene.plane.device.events]
    assert seqs == list(range(1, len(seqs) + 1))
    assert scene.plane.device.checkins[-1].serving.digest == scene.first.digest


def test_after_a_long_silence_everything_is_told(plane, device):
    """A backlog of many batches goes out one right after the other."""
    device.home.root.mkdir()
    spool = Spool(device.home.spool)
    spool.append_all([(SUMMARY, {"n": n}) for n in range(1, 1701)])
    spool.close()

    device.start()
    device.wait_for(lambda: plane.devices and len(plane.device.events) >= 1700, "the backlog")

    assert [event.seq for event in plane.device.events][:1700] == list(range(1, 1701))
    assert len(plane.device.checkins) >= 4


def test_a_fleet_set_back_to_a_backup_is_followed(scene):
    """A server that forgot what it had acknowledged still hears everything that is new."""
    known = scene.plane.device
    known.marks = dict.fromkeys(known.marks, 1)
    known.sequence = 5
    before = len(known.checkins)

    scene.roll_out("good-2")
    scene.wait_serves("digits@2")
    scene.wait_told("confirmed", "digits@2")

    assert len(known.marks) == 2
    assert len(known.checkins) > before
    told = [what for what, release in known.feedback() if release == "digits@2"]
    assert told == ["staged", "activated", "confirmed"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [("overridden", "golden.reference"), ("wrong-device", "golden.variant")],
)
def test_a_model_that_answers_wrongly_is_refused(scene, kind, words):
    """Golden answers decide, signed override or not; the old release never stops serving."""
    wrong = scene.roll_out(kind)
    scene.wait_told("refused", wrong.release)
    downloads = len(scene.plane.asked("/v1/blobs/"))
    contacts = len(scene.plane.device.checkins)
    scene.device.wait_for(
        lambda: len(scene.plane.device.checkins) > contacts + 3, "more contacts"
    )

    assert any(words in reason for reason in scene.reasons())
    assert len(scene.plane.asked("/v1/blobs/")) == downloads
    assert set(scene.traffic.counts) == {"digits@1"}
    assert wrong.digest in scene.device.pointer()["bad"]
    assert not scene.device.home.slot(wrong.digest).exists()


@pytest.mark.parametrize(
    ("kind", "words"), [("slow", "p95"), ("silent", "by the deadline of 3 s")]
)
def test_a_trial_that_fails_is_reverted(scene, kind, words):
    """Too slow, or too few answers to tell: the slot before serves again, and stays."""
    new = scene.roll_out(kind)
    scene.wait_told("reverted", new.release)
    scene.wait_serves("digits@1")

    last = [e.body for e in scene.plane.device.events if e.kind == FEEDBACK][-1]
    assert words in last["reason"]
    assert last["serving"] == scene.first.digest
    assert scene.traffic.errors == {}
    assert scene.traffic.counts[new.release] > 0


def test_the_times_of_variants_are_kept_at_home(scene):
    """The self-test of a bundle with two variants measures them; its worker need not."""
    made = scene.roll_out("two-variants")
    scene.wait_serves("digits@9")

    kept = json.loads(scene.device.home.variants.read_bytes())
    assert [one["bundle"] for one in kept["measured"]] == [made.digest]
    assert sorted(kept["measured"][0]["variants"]) == ["float32", "other"]


def test_a_caller_cannot_fail_a_trial(scene):
    """One who asks for answers in a microsecond gets none, and the release is kept."""
    scene.roll_out("good-2")

    def pester():
        assert scene.device.ask(deadline_ms=0.001).endswith("answered 408")
        assert not scene.told("reverted", "digits@2"), scene.reasons()
        return scene.told("confirmed", "digits@2")

    scene.device.wait_for(pester, "digits@2 to be kept")
    scene.wait_serves("digits@2")
    scene.device.stop()
    scene.device.start()
    scene.device.wait_for(lambda: _queued(scene.device) == 0, "all to be told")
    told = [event.body for event in scene.plane.device.events if event.kind == SUMMARY]
    assert all(body["late"] == 0 for body in told)
    assert sum(body["impatient"] for body in told) > 10


def test_a_first_release_that_fails_leaves_nothing(plane, device, bundles):
    """Where there is nothing to go back to, nothing serves, and nobody says otherwise."""
    only = plane.publish(bundles["silent"])
    plane.roll_out(only)
    device.start()
    device.wait_for(
        lambda: plane.devices and ("reverted", "digits@6") in plane.device.feedback(),
        "the end",
    )

    assert "refused" in device.ask()
    assert device.status()["serving"] is None
    assert device.pointer()["active"] is None


def test_a_worker_that_keeps_dying_is_given_up(scene):
    """After three starts on trial there is no fourth: the slot before serves."""
    new = scene.roll_out("endless")
    for start in (1, 2, 3):
        scene.device.wait_for(
            lambda start=start: (
                _attempts(scene.device) == start
                and scene.device.serves("digits@7", good=False)
            ),
            f"start {start} to serve",
        )
        os.kill(scene.device.status()["worker_pid"], signal.SIGKILL)

    scene.wait_told("reverted", new.release)
    scene.wait_serves("digits@1")
    assert "3 starts" in scene.device.pointer()["bad"][new.digest]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a_lost_worker_is_replaced(scene, how):
    """Dead or hung, a worker of a good slot is replaced by another of the same slot."""
    before = scene.device.status()["worker_pid"]

    os.kill(before, how)
    scene.device.wait_for(
        lambda: scene.device.status()["worker_pid"] not in {before, None}, "another worker"
    )
    scene.wait_serves("digits@1")

    assert scene.device.pointer()["bad"] == {}


def test_a_flipped_bit_is_found_and_healed(scene):
    """The slot before serves at once; the damaged one is fetched anew and serves again."""
    second = scene.roll_out("good-2")
    scene.wait_serves("digits@2")
    scene.plane.misbehave("/v1/blobs/", "status", 503)
    scene.device.stop(signal.SIGKILL)
    _flip(scene.device.home.slot(second.digest))

    scene.device.start()
    scene.wait_serves("digits@1")
    scene.plane.behave()
    scene.wait_serves("digits@2")

    verify_slot(scene.device.home.slot(second.digest), second.digest)
    scene.device.wait_for(lambda: "bundle_error" in scene.problems(), "the fleet to hear")
    assert scene.device.pointer()["bad"] == {}


def test_damage_without_a_slot_before_is_healed(scene):
    """The only slot there is, damaged: nothing serves until it was fetched anew."""
    scene.device.stop()
    _flip(scene.device.home.slot(scene.first.digest))

    scene.device.start()
    scene.wait_serves("digits@1")

    verify_slot(scene.device.home.slot(scene.first.digest), scene.first.digest)


def test_expired_trust_changes_nothing(scene):
    """A rollout signed too long ago: what runs keeps running, and the fleet is told."""
    scene.roll_out("good-2", now=datetime.now(UTC) - timedelta(days=30))
    scene.device.wait_for(lambda: "expired_error" in scene.problems(), "the fleet to hear")

    assert scene.device.serves("digits@1")
    assert set(scene.traffic.counts) == {"digits@1"}


def test_older_trust_changes_nothing(scene):
    """A server set back to yesterday: what runs keeps running, and the fleet is told."""
    yesterday = scene.plane.files["assignments/timestamp.json"]
    scene.plane.roll_out(scene.first)
    scene.device.wait_for(
        lambda: scene.plane.device.checkins[-1].trust.get("assignments", 0) >= 3, "the new set"
    )

    scene.plane.files["assignments/timestamp.json"] = yesterday
    scene.device.wait_for(lambda: "rollback_error" in scene.problems(), "the fleet to hear")

    assert scene.device.serves("digits@1")
    assert set(scene.traffic.counts) == {"digits@1"}


FULL_DISK = """
import os, sys
from pathlib import Path
if "edgewright.bundle.install" in sys.orig_argv and Path({mark!r}).exists():
    def refuse(*_):
        raise OSError(28, "No space left on device")
    os.fsync = refuse
"""


def test_a_full_disk_postpones_an_update(plane, bundles, tmp_path):
    """No room to install: a problem and no verdict, nothing left behind, tried again."""
    mark, site = tmp_path / "full", tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(FULL_DISK.format(mark=str(mark)))
    device = Device(plane, tmp_path, env={"PYTHONPATH": str(site)})
    first = plane.publish(bundles["good-1"])
    plane.roll_out(first)
    device.start()
    try:
        with Traffic(device) as traffic:
            scene = Scene(plane, device, bundles, first, traffic)
            scene.wait_serves("digits@1")
            traffic.counts.clear()
            mark.touch()
            second = scene.roll_out("good-2")
            device.wait_for(lambda: "storage_error" in scene.problems(), "the fleet to hear")
            left = {path.name for path in device.home.slots.iterdir()}
            bad = device.pointer()["bad"]
            mark.unlink()
            scene.wait_serves("digits@2")
            scene.wait_told("confirmed", "digits@2")
            told = [e.body["message"] for e in plane.device.events if e.kind == PROBLEM]
    finally:
        device.stop()

    assert left == {digest.hex_of(first.digest)}
    assert second.digest not in bad
    assert traffic.errors == {}
    assert any("No space left" in message for message in told)
    assert not scene.told("refused", "digits@2")


@pytest.fixture
def small_disk(tmp_path):
    """A device's home on a file system of its own, of 16 MB."""
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", home], check=True)
    yield home
    subprocess.run(["umount", "--lazy", home], check=True)


@pytest.mark.needs("mount")
@pytest.mark.parametrize("disk", ["full", "read-only"])
def test_a_disk_that_refuses_everything_does_not_stop_answers(scene_on, small_disk, disk):
    """Started on a full or a read-only disk, the device serves; with room again it tells."""
    with scene_on(small_disk) as scene:
        scene.device.stop(signal.SIGKILL)
        if disk == "full":
            _fill(small_disk / "filler")
        else:
            _remount(small_disk, "ro")

        scene.device.start(silent=True)
        scene.device.wait_for(lambda: scene.device.ask() == "digits@1", "an answer")
        contacts = len(scene.plane.device.checkins)
        scene.device.wait_for(
            lambda: len(scene.plane.device.checkins) > contacts + 1, "check-ins"
        )
        serving = scene.plane.device.checkins[-1].serving
        if disk == "full":
            (small_disk / "filler").unlink()
        else:
            _remount(small_disk, "rw")
        scene.roll_out("good-2")
        scene.wait_serves("digits@2")
        scene.wait_told("confirmed", "digits@2")

        assert serving.release == "digits@1"


def _fill(path):
    """Write until there is no room for another byte."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)


def _remount(folder, how):
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


def test_one_home_has_one_agent(scene):
    """A second agent on the same folder ends at once and says why."""
    home, config = scene.device.home.root, scene.device.config
    argv = [sys.executable, "-m", "edgewright.agent.main", "run"]

    done = subprocess.run(
        [*argv, "--home", home, "--config", config],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    assert done.returncode == 1
    assert "another agent runs" in done.stderr
    assert scene.device.serves("digits@1")


def test_a_restart_keeps_the_port(scene):
    """Callers that know the port from before find the device there again."""
    before = scene.device.status()["port"]

    scene.device.stop(signal.SIGKILL)
    scene.device.start()
    scene.wait_serves("digits@1")

    assert scene.device.status()["port"] == before


@pytest.mark.parametrize("seed", range(2))
def test_kills_at_random_change_nothing(scene, seed, scale):
    """Whoever is killed whenever: a whole slot serves, the truth is told, it gets there."""
    chance = random.Random(seed)  # noqa: S311  a repeatable campaign
    targets = [scene.plane.publish(scene.bundles[name]) for name in ("good-2", "good-3")]
    base = scene.first
    for round_, target in enumerate(targets * (10 if scale == "full" else 1)):
        scene.plane.roll_out(target, base, rollout=f"rol_{round_}")
        for _ in range(5):
            time.sleep(chance.uniform(0.0, 0.8))
            _kill_one(scene.device, chance)
            _check_whole(scene.device)
        scene.device.wait_for(lambda: _settled(scene), "it to settle", seconds=90)
        base = target

    seqs = [event.seq for event in scene.plane.device.events]
    told = [e.body["transition"] for e in scene.plane.device.events if e.kind == FEEDBACK]
    assert seqs == list(range(1, len(seqs) + 1))
    assert told == list(range(1, len(told) + 1))
    assert scene.plane.device.lost == 0


def _kill_one(device, chance):
    """Kill the supervisor or one of its children, if it has one of that kind now."""
    words = ("supervisor", "agent.courier", "bundle.install", "runtime.worker")
    word = chance.choice(words)
    if word == "supervisor":
        device.stop(signal.SIGKILL)
        _check_whole(device)
        device.start()
    elif (pid := device.child(word)) is not None:
        os.kill(pid, signal.SIGKILL)


def _check_whole(device):
    """What the pointer calls active is there, complete and verified."""
    active = device.pointer()["active"]
    verify_slot(device.home.slot(active), active)


def _settled(scene):
    """Whether it runs what it was told to, and says so to callers and to the fleet alike."""
    status, last = scene.device.status(), scene.plane.device.checkins[-1].serving
    serving, wanted = status["serving"], status["wanted"]
    if serving is None or wanted is None or last is None or status["trial"]:
        return False
    there = serving["digest"] == wanted["digest"] or wanted["digest"] in status["bad"]
    truth = {serving["release"], last.release, scene.device.ask()}
    return there and not status["doing"] and len(truth) == 1


def _flip(slot):
    """Flip one bit of the weights of an installed slot."""
    (weights,) = slot.rglob("weights.bin")
    weights.chmod(0o644)
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    weights.chmod(0o444)


def _queued(device):
    return device.status()["spool"]["queued"]


def _attempts(device):
    return (device.status()["trial"] or {}).get("attempts")
