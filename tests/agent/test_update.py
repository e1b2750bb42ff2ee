"""Update: what is to blame for what, and what may be removed, without a process or a fleet."""

import dataclasses
import json
import os
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim.clock import ManualClock

from edgewright.agent import DeviceConfig, Home
from edgewright.agent.control import Errands, Result
from edgewright.agent.slots import Slots
from edgewright.agent.telemetry import Telemetry
from edgewright.agent.update import Update, interval_s
from edgewright.core import digest
from edgewright.wire.assignment import Target
from edgewright.wire.checkin import LEAST_S, ErrorBody
from edgewright.wire.local import CourierReport, InstallReport, SelfTest

A, B, C = (digest.of_bytes(name) for name in (b"a", b"b", b"c"))
CONFIG = DeviceConfig(
    server="http://127.0.0.1:1",
    name="camera-1",
    enrol_token_file="token",  # noqa: S106  the name of a file
    artefacts_root="a",
    assignments_root="b",
)
BROKEN = ErrorBody(code="bundle_error", message="it is another file")
FULL = ErrorBody(code="storage_error", message="No space left on device")
LOST = ErrorBody(code="storage_error", message="cannot read weights.bin: Input/output error")


class Sent:
    """An errand whose outcome the test decides."""

    def __init__(self, name):
        self.name, self.result, self.output = name, None, None

    def poll(self):
        """Return what the test says."""
        return self.result

    def cancel(self):
        """Nothing to end."""


@dataclasses.dataclass(frozen=True, slots=True)
class FakeErrands(Errands):
    """Errands nobody runs; each that was sent is kept."""

    sent: list = dataclasses.field(default_factory=list)

    def _send(self, name):
        self.sent.append(Sent(name))
        return self.sent[-1]

    def enrol(self):
        """Go to the fleet for the first time."""
        return self._send("courier")

    def install(self, _digest, _archive):
        """Make a slot."""
        return self._send("installer")

    def selftest(self, _digest):
        """Test one."""
        return self._send("self-test")


class Bench:
    """An update with all it needs, and the courier in the test's hand."""

    def __init__(self, root):
        self.home, self.clock = Home(root), ManualClock()
        self.home.staging.mkdir()
        self.service = SimpleNamespace(workers=())
        self.lock = os.open(self.home.staging, os.O_RDONLY)
        self.telemetry = Telemetry(self.home, CONFIG, self.clock)
        self.slots = Slots(self.home, self.clock, self.telemetry.feedback)
        self.errands = FakeErrands(self.home, CONFIG, root, self.clock, self.lock)
        self.update = Update(
            self.errands, self.slots, self.telemetry, previous_p95_us=lambda: None
        )

    def slot(self, of):
        """Put a slot where the installer would, and take note of it."""
        self.home.slot(of).mkdir(parents=True)
        manifest = self.home.slot(of) / "manifest.json"
        manifest.write_text(json.dumps({"name": "digits", "version": 1}))
        self.slots.stage(of, "rol_1")

    def good(self, of):
        """Take a slot all the way to good."""
        self.slot(of)
        self.slots.begin(of, rollout="r", previous_p95_us=None)
        self.slots.confirm("fine")

    def contact(self, of, *, archive=True):
        """Let the courier come back with what is wanted."""
        file = self.home.download(of)
        if archive:
            file.write_bytes(b"archive")
        report = CourierReport(
            interval_s=30, wanted=_target(of), archive=str(file) if archive else ""
        )
        self.update._came_back(Result(report))

    def installed(self, error, *, unreadable=False):
        """Wait out what holds the bundle, and let its installer end with an error."""
        self._ended(InstallReport(digest=B, error=error, unreadable=unreadable))

    def tested(self, error):
        """Wait out what holds the bundle, and let its self-test end with an error."""
        self._ended(SelfTest(digest=B, error=error))

    def _ended(self, report):
        self.clock.advance(3601)
        self.update._due_s = self.clock.monotonic_s() + 10**6
        self.update.tick(self.service)
        self.errands.sent[-1].result = Result(report)
        self.update.tick(self.service)

    def whats(self):
        """Return what was queued, feedback by its word and a problem by its code."""
        events = self.telemetry.spool.peek(1000).events
        return [event.body.get("what") or event.body["code"] for event in events]

    def close(self):
        """Stop in order."""
        self.slots.close()
        self.telemetry.close()
        os.close(self.lock)


def _target(of):
    return Target(release="digits@2", digest=of, length=7, path="digits/2.ewb")


@pytest.fixture
def bench(tmp_path):
    """A device on which A proved good."""
    made = Bench(tmp_path)
    made.good(A)
    yield made
    made.close()


def test_a_full_disk_is_no_verdict(bench):
    """Told as a problem and tried again for ever: the fleet must not count a failure."""
    for _ in range(7):
        bench.contact(B)
        bench.installed(FULL)

    assert bench.slots.pointer.bad == {}
    assert "refused" not in bench.whats()
    assert bench.whats().count("storage_error") == 7
    assert [one.name for one in bench.errands.sent] == ["installer"] * 7


def test_only_a_download_the_disk_has_lost_is_fetched_anew(bench):
    """What is there is kept while the disk is full; neither is a verdict on the bundle."""
    bench.contact(B)
    bench.installed(FULL)
    kept = bench.home.download(B).exists()
    for _ in range(7):
        bench.contact(B)
        bench.installed(LOST, unreadable=True)
        assert not bench.home.download(B).exists()

    assert kept
    assert bench.slots.pointer.bad == {}
    assert "refused" not in bench.whats()


def test_a_slot_the_disk_will_not_give_is_no_verdict(bench):
    """A self-test that cannot read its slot has it installed anew, as often as it takes."""
    for _ in range(7):
        bench.slot(B)
        bench.contact(B, archive=False)
        bench.tested(LOST)
        assert B not in bench.slots.installed
        assert not bench.home.slot(B).exists()

    assert bench.slots.pointer.bad == {}
    assert bench.slots.pointer.active == A
    assert "refused" not in bench.whats()
    assert bench.whats().count("storage_error") == 7


def test_a_full_disk_is_told_once_an_hour(bench):
    """Many attempts within the hour are one problem."""
    for _ in range(3):
        bench.update._disk_refused(B, "No space left on device")

    assert bench.whats().count("storage_error") == 1


def test_a_damaged_download_is_fetched_anew(bench):
    """The archive goes, the bundle is not bad; only the fifth in a row gives it up."""
    for times in range(1, 6):
        bench.contact(B)
        bench.installed(BROKEN)
        assert not bench.home.download(B).exists()
        assert bench.update._archive == ("", "")
        assert (B in bench.slots.pointer.bad) is (times == 5)


def test_a_download_that_is_gone_is_not_installed(bench):
    """A courier that brings no archive takes back the one of before."""
    bench.contact(B)
    bench.contact(B, archive=False)
    bench.update._advance()

    assert bench.errands.sent == []


def test_nothing_is_removed_before_anything_is_trusted(bench):
    """What was staged before a restart is still there when the fleet is heard of."""
    bench.slot(B)
    bench.slot(C)
    bench.update._collect(bench.service)
    before = set(bench.slots.installed)
    bench.contact(B, archive=False)
    bench.update._collect(bench.service)

    assert before == {A, B, C}
    assert set(bench.slots.installed) == {A, B}


def test_an_enrolment_says_nothing_of_what_is_needed(bench):
    """A clean report without a check-in is no reason to remove a slot."""
    bench.slot(B)
    bench.update._came_back(Result(CourierReport()))
    bench.update._collect(bench.service)

    assert set(bench.slots.installed) == {A, B}


def test_without_a_good_slot_only_bad_ones_go(tmp_path):
    """A pointer that was lost with its history takes no slot with it."""
    bench = Bench(tmp_path)
    for one in (A, B, C):
        bench.slot(one)
    bench.slots.refuse(C, "digits@1", rollout="r", reason="wrong", bad=True)
    bench.contact(B, archive=False)
    bench.update._collect(bench.service)

    assert set(bench.slots.installed) == {A, B}
    bench.close()


def test_a_slot_dropped_as_damaged_is_tested_again(bench):
    """That it passed before says nothing of what is fetched anew."""
    bench.slot(B)
    bench.update._passed.add(B)
    bench.slots.step_back(B, damaged=True)
    bench.update.tick(bench.service)
    bench.slot(B)
    bench.contact(B, archive=False)
    bench.update._advance()

    assert bench.slots.pointer.trial is None
    assert bench.errands.sent[-1].name == "self-test"


SECONDS = st.floats(0.01, 3600)


@given(own=SECONDS, said=SECONDS, least_s=st.floats(0, 10))
def test_between_rollouts_the_longer_interval_holds(own, said, least_s):
    """Neither side can make the other come more often than it asks for."""
    report = CourierReport(interval_s=said, least_s=least_s)

    assert interval_s(own, report) == max(own, said)


@given(own=SECONDS, said=SECONDS, least_s=st.floats(0.01, 10))
def test_in_a_running_rollout_the_shorter_does(own, said, least_s):
    """A wave does not wait for the longer one, and nobody comes sooner than is allowed."""
    report = CourierReport(interval_s=said, least_s=least_s, running=True)

    assert interval_s(own, report) == max(min(own, said), least_s, LEAST_S)


@pytest.mark.parametrize(
    ("own", "said", "least_s", "expected"),
    [(5, 30, 1, 5), (60, 30, 1, 30), (0.2, 30, 1, 1), (5, 60, 0, 60), (5, 0, 0, 5)],
    ids=["the device's", "the fleet's", "bounded", "a busy or an older server", "no answer"],
)
def test_who_decides_in_a_running_rollout(own, said, least_s, expected):
    """Each case once, in seconds."""
    report = CourierReport(interval_s=said, least_s=least_s, running=True)

    assert interval_s(own, report) == expected


def test_a_device_comes_back_sooner_while_a_rollout_runs(bench):
    """The next contact is due after the device's own interval, give or take a tenth."""
    slow = CourierReport(interval_s=3000, least_s=1, wanted=_target(A))
    bench.update._came_back(Result(slow))
    usual = bench.update._due_s - bench.clock.monotonic_s()
    bench.update._came_back(Result(msgspec.structs.replace(slow, running=True)))
    hurried = bench.update._due_s - bench.clock.monotonic_s()

    assert usual == pytest.approx(3000, rel=0.11)
    assert hurried == pytest.approx(CONFIG.check_in_s, rel=0.11)
