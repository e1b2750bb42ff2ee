"""The courier, as the process it is: one contact with a fleet that may misbehave."""

import json
import os
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from tests.sim.bundles import bare_manifest, make_bare
from tests.sim.control_plane import ControlPlane, device_toml

from edgewright.agent import Home
from edgewright.bundle import archive
from edgewright.core import digest, names
from edgewright.wire import version
from edgewright.wire.assignment import Wave
from edgewright.wire.checkin import CheckIn
from edgewright.wire.local import CourierJob, CourierReport
from edgewright.wire.telemetry import Batch, Event

pytestmark = pytest.mark.slow


class Contact:
    """A device's side of one fleet, run by hand."""

    def __init__(self, tmp_path):
        self.plane = ControlPlane(tmp_path / "plane")
        self.plane.start()
        self.home = Home(tmp_path / "home")
        self.config = device_toml(self.plane, tmp_path / "device.toml")
        self.sequence = 0
        self.stderr = ""

    def argv(self, verb, *more):
        """Return how the courier is called."""
        module = (sys.executable, "-m", "edgewright.agent.courier")
        return (*module, verb, "--config", self.config, "--home", self.home.root, *more)

    def enrol(self):
        """Run the first errand of a new device."""
        done = subprocess.run(self.argv("enrol"), capture_output=True, check=True)
        return version.decode(CourierReport, done.stdout)

    def job(self, *, batch=None, labels=None, **options):
        """Return a job as the supervisor would send it."""
        self.sequence += 1
        checkin = CheckIn(
            device=json.loads((self.home.identity / "device.json").read_text())["device"],
            sequence=self.sequence,
            at="2026-01-01T00:00:00Z",
            boot_id="boot",
            monotonic_s=1.0,
            agent_version="0",
            channel="stable",
            labels=labels or {},
            batch=batch,
        )
        return CourierJob(
            home=str(self.home.root), server=self.plane.url, checkin=checkin, **options
        )

    def run(self, *, env=None, **options):
        """Make one contact and return the report."""
        done = subprocess.run(
            self.argv("run", "--window-s", "60"),
            input=version.encode(self.job(**options)) + b"\n",
            capture_output=True,
            check=True,
            env={**os.environ, **(env or {})},
        )
        self.stderr = done.stderr.decode()
        return version.decode(CourierReport, done.stdout.splitlines()[-1])

    def publish(self, tmp_path, number=1, *, size=600_000):
        """Publish a bundle of a few chunks."""
        path = tmp_path / f"bare-{number}.ewb"
        made = {f"extra/{number}.bin": bytes((i * number) & 0xFF for i in range(size))}
        archive.write(path, bare_manifest(made, version=number), made)
        return self.plane.publish(path)


@pytest.fixture
def contact(tmp_path):
    """An enrolled device."""
    (tmp_path / "plane").mkdir()
    made = Contact(tmp_path)
    made.enrol()
    yield made
    made.plane.stop()


def _codes(report):
    return [problem.code for problem in report.problems]


def _batch(low, high):
    events = tuple(Event(seq=n, kind="summary", body={"n": n}) for n in range(low, high + 1))
    return Batch(queue_id="q", low=low, high=high, events=events)


def test_a_device_is_its_key(contact):
    """The key is made once and kept to itself; the id follows from it; enrolling is once."""
    key = contact.home.identity / "device.key"
    known = contact.plane.device

    report = contact.enrol()

    said = json.loads((contact.home.identity / "device.json").read_text())["device"]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert said == names.device_id(known.public)
    assert (known.enrol.name, known.enrol.channel) == ("camera-1", "stable")
    assert known.enrol.profile["platform"]
    assert len(contact.plane.asked("/enrol")) == 1
    assert report.problems == ()


def test_a_device_has_an_id_before_it_has_a_fleet(tmp_path):
    """Without a server there is a key and an id, and a problem that says what is missing."""
    (tmp_path / "plane").mkdir()
    contact = Contact(tmp_path)
    contact.plane.stop()

    report = contact.enrol()

    assert _codes(report) == ["transport_error"]
    assert (contact.home.identity / "device.json").exists()


def test_a_wrong_token_is_reported(contact):
    """A refusal to enrol comes back in the fleet's own words."""
    contact.plane.token_file.write_text("guess")
    (contact.home.identity / "enrolled.json").unlink()

    report = contact.enrol()

    assert _codes(report) == ["access_error"]


def test_telemetry_is_acknowledged(contact):
    """What the fleet made durable is named, with when to come again."""
    report = contact.run(batch=_batch(1, 3))

    assert (report.ack.queue_id, report.ack.high) == ("q", 3)
    assert report.interval_s == contact.plane.interval_s
    assert [event.seq for event in contact.plane.device.events] == [1, 2, 3]
    assert report.trust == {"artefacts": 1, "assignments": 1}
    assert report.problems == ()


def test_a_lost_answer_is_not_a_lost_event(contact):
    """A batch whose answer never came is sent again and counted once."""
    contact.plane.misbehave("/checkin", "drop_reply", times=1)

    first = contact.run(batch=_batch(1, 3))
    second = contact.run(batch=_batch(1, 5))

    assert first.ack is None
    assert second.ack.high == 5
    assert [event.seq for event in contact.plane.device.events] == [1, 2, 3, 4, 5]


def test_an_old_sequence_is_reported(contact):
    """A check-in the fleet takes for a replay is a conflict, not a crash."""
    contact.run()
    contact.sequence = 0

    report = contact.run()

    assert _codes(report) == ["conflict_error"]


def test_a_fleet_that_forgot_the_device_is_reminded(contact):
    """A restored server that does not know us gets our enrolment again."""
    contact.plane.devices.clear()

    report = contact.run(batch=_batch(1, 1))

    assert report.ack is not None
    assert report.problems == ()
    assert len(contact.plane.devices) == 1


def test_nothing_assigned_is_nothing_wrong(contact):
    """A channel without a rollout is a clean contact."""
    report = contact.run()

    assert (report.wanted, report.archive, report.problems) == (None, "", ())


def test_what_is_assigned_is_fetched(contact, tmp_path):
    """The archive lies in staging, complete and verified, and the report says where."""
    target = contact.publish(tmp_path)
    contact.plane.roll_out(target)

    report = contact.run()

    assert report.wanted == target
    assert report.rollout == "rol_1"
    assert digest.of_file(contact.home.download(target.digest)) == target.digest
    assert report.archive == str(contact.home.download(target.digest))
    assert report.downloaded_bytes == target.length
    assert 0 < report.peak_bytes < 100 << 20


def test_an_unchanged_fleet_costs_two_small_answers(contact, tmp_path):
    """A second contact is a conditional GET a side; tuf is not even imported."""
    target = contact.publish(tmp_path)
    contact.plane.roll_out(target)
    contact.run()
    contact.plane.requests.clear()

    report = contact.run(env={"PYTHONPROFILEIMPORTTIME": "1"}, have=(target.digest,))

    asked = contact.plane.asked("/v1/trust/")
    assert [one.path.rsplit("/", 1)[1] for one in asked] == ["timestamp.json"] * 2
    assert all("if-none-match" in one.headers for one in asked)
    assert report.wanted == target
    assert "edgewright.wire.http" in contact.stderr
    assert "tuf" not in contact.stderr


@pytest.mark.parametrize("tenth", [0, 3, 7, 9])
def test_a_cut_contact_is_resumed(contact, tmp_path, tenth):
    """The next contact fetches only what the last one did not."""
    target = contact.publish(tmp_path)
    contact.plane.roll_out(target)
    contact.plane.misbehave("/v1/blobs/", "slow", times=1)
    contact.plane.misbehave("/v1/blobs/", "cut", target.length * tenth // 10, times=1)

    first = contact.run()
    second = contact.run()

    assert _codes(first) == ["transport_error"]
    assert first.archive == ""
    assert second.archive
    assert first.downloaded_bytes + second.downloaded_bytes == target.length
    assert digest.of_file(contact.home.download(target.digest)) == target.digest


@pytest.mark.parametrize("open_waves", [0, 1])
@pytest.mark.parametrize("state", ["running", "paused", "halted", "done"])
def test_whether_the_rollout_is_running(contact, tmp_path, open_waves, state):
    """The signed document says it, also to a device whose wave is closed."""
    contact.plane.least_s = 1.5
    contact.plane.roll_out(contact.publish(tmp_path), open_waves=open_waves, state=state)

    report = contact.run(update=False)

    assert report.running is (state == "running")
    assert (report.interval_s, report.least_s) == (contact.plane.interval_s, 1.5)


@pytest.mark.parametrize("key", ["have", "bad"])
def test_nothing_is_fetched_twice_or_in_vain(contact, tmp_path, key):
    """What is installed, and what was refused, is known and left where it is."""
    target = contact.publish(tmp_path)
    contact.plane.roll_out(target)

    report = contact.run(**{key: (target.digest,)})

    assert report.wanted == target
    assert not contact.plane.asked("/v1/blobs/")


def test_a_contact_may_be_told_not_to_fetch(contact, tmp_path):
    """While there is no room, only the small things are exchanged."""
    target = contact.publish(tmp_path)
    contact.plane.roll_out(target)

    report = contact.run(update=False)

    assert (report.wanted, report.archive) == (target, "")


def test_a_wave_is_for_those_who_carry_its_label(contact, tmp_path):
    """The device itself works out which of the two releases is meant for it."""
    old, new = contact.publish(tmp_path, 1), contact.publish(tmp_path, 2)
    contact.plane.roll_out(new, old, waves=(Wave(labels={"canary": "yes"}), Wave()))

    canary = contact.run(labels={"canary": "yes"}, update=False)
    other = contact.run(update=False)

    assert (canary.wanted, other.wanted) == (new, old)


def test_downloads_of_yesterday_are_dropped(contact, tmp_path):
    """A partial download of what is not wanted any more does not stay on the disk."""
    target = contact.publish(tmp_path)
    contact.plane.roll_out(target)
    stale = contact.home.staging / ("0" * 64 + ".part")
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"half")

    contact.run()

    assert not stale.exists()
    assert contact.home.download(target.digest).exists()


def test_an_unsigned_release_is_refused(contact, tmp_path):
    """The online side may choose among signed releases; it cannot make one."""
    target = contact.publish(tmp_path)
    forged = msgspec.structs.replace(target, path="bare/9.ewb")

    contact.plane.roll_out(forged)
    report = contact.run()

    assert _codes(report) == ["trust_error"]
    assert report.wanted is None
    assert not contact.plane.asked("/v1/blobs/")


@pytest.mark.parametrize(
    "change",
    [{"digest": digest.of_bytes(b"other")}, {"length": 5}, {"release": "bare@7"}],
    ids=["digest", "length", "release"],
)
def test_both_sides_must_say_the_same(contact, tmp_path, change):
    """An assignment that differs from the signed release in anything is refused."""
    target = contact.publish(tmp_path)

    contact.plane.roll_out(msgspec.structs.replace(target, **change))
    report = contact.run()

    assert _codes(report) == ["trust_error"]
    assert (report.wanted, report.archive) == (None, "")


@pytest.mark.parametrize("side", ["artefacts", "assignments"])
def test_expired_trust_stops_updates_not_telemetry(contact, tmp_path, side):
    """When the signer was away too long, the device tells its story and installs nothing."""
    past = datetime.now(UTC) - timedelta(days=120)
    path = tmp_path / "bare.ewb"
    make_bare(path)
    target = contact.plane.publish(path, now=past if side == "artefacts" else None)
    contact.plane.roll_out(target, now=past if side == "assignments" else None)

    report = contact.run(batch=_batch(1, 2))

    assert report.ack.high == 2
    assert _codes(report) == ["expired_error"]
    assert (report.wanted, report.archive) == (None, "")


@pytest.mark.parametrize("side", ["artefacts", "assignments"])
def test_older_metadata_is_refused(contact, tmp_path, side):
    """A server set back to yesterday is not followed there."""
    first = contact.publish(tmp_path, 1)
    contact.plane.roll_out(first)
    yesterday = dict(contact.plane.files)
    second = contact.publish(tmp_path, 2)
    contact.plane.roll_out(second)
    contact.run(update=False)

    name = f"{side}/timestamp.json"
    contact.plane.files[name] = yesterday[name]
    report = contact.run(batch=_batch(1, 1))

    assert _codes(report) == ["rollback_error"]
    assert report.ack is not None
    assert report.wanted is None


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (("/timestamp.json", "flip", 30), "trust_error"),
        (("targets.json", "flip", 200), "trust_error"),
        (("targets/rollouts/", "flip", 20), "trust_error"),
        (("/v1/trust/", "status", 500), "transport_error"),
        (("/v1/trust/", "page"), "trust_error"),
        (("/v1/trust/", "refuse"), "transport_error"),
        (("/v1/blobs/", "status", 503), "transport_error"),
        (("/v1/blobs/", "page"), "transport_error"),
    ],
)
def test_misbehaviour_is_reported_and_survived(contact, tmp_path, fault, code):
    """Whatever a server answers, there is a report, and the next good contact succeeds."""
    target = contact.publish(tmp_path)
    contact.plane.roll_out(target)
    contact.plane.misbehave(*fault)

    bad = contact.run(batch=_batch(1, 1))
    contact.plane.behave()
    good = contact.run(batch=_batch(2, 2))

    assert bad.ack is not None
    assert set(_codes(bad)) == {code}
    assert bad.archive == ""
    assert (good.wanted, good.problems) == (target, ())
    assert good.archive


def test_a_server_that_is_away(contact):
    """Nobody there is one kind of problem and a quick end."""
    contact.plane.stop()

    report = contact.run(batch=_batch(1, 1))

    assert set(_codes(report)) == {"transport_error"}
    assert (report.ack, report.interval_s, report.wanted) == (None, 0.0, None)


def test_a_courier_ends_with_its_supervisor(contact):
    """An orphan would go on downloading beside its successor; it does not."""
    contact.plane.misbehave("/checkin", "slow", 30)
    child = subprocess.Popen(
        contact.argv("run", "--lifeline"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    child.stdin.write(version.encode(contact.job()) + b"\n")
    child.stdin.flush()
    while not contact.plane.asked("/checkin"):
        time.sleep(0.05)

    child.stdin.close()

    assert child.wait(timeout=5) != 0
    child.stdout.close()


def test_a_wrong_configuration_is_a_report_too(contact):
    """The supervisor always gets its line, also when the courier cannot begin."""
    contact.config.write_text("server = 5\n")

    report = contact.run()

    assert _codes(report) == ["config_error"]
