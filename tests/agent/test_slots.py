"""Slots: the pointer is the truth, each transition is told once, nothing needed is removed."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim import disk
from tests.sim.clock import ManualClock

from edgewright.agent import Home
from edgewright.agent.slots import MAX_ATTEMPTS, Pointer, Slots, Step, Trial, next_step
from edgewright.core import digest, durable
from edgewright.core.errors import BundleError, StorageError
from edgewright.wire.feedback import RETURNED, REVERTED
from edgewright.wire.spool import Spool

A, B, C, D = (digest.of_bytes(name) for name in (b"a", b"b", b"c", b"d"))
RELEASES = {A: "digits@1", B: "digits@2", C: "digits@3", D: "digits@4"}


class Crash(BaseException):
    """The process is gone."""


class Device:
    """Slots with their queue, as a supervisor opens them."""

    def __init__(self, root):
        self.home = Home(root)
        self.told = []
        self.open()

    def open(self):
        """Start, as after a crash."""
        self.spool = Spool(self.home.spool)
        self.slots = Slots(
            self.home, ManualClock(), self._tell, told=lambda: self.spool.transition
        )

    def _tell(self, feedback):
        if self.spool.append_transition(feedback.transition, feedback):
            self.told.append((feedback.what, feedback.release, feedback.serving))

    def install(self, of):
        """Put a slot where the installer would, and take note of it."""
        folder = self.home.slot(of)
        folder.mkdir(parents=True)
        name, _, version = RELEASES[of].partition("@")
        manifest = {"name": name, "version": int(version), "policy": {"min_inferences": 7}}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        self.slots.stage(of, "rol_1")

    def confirm(self, of):
        """Take a slot all the way to good."""
        self.install(of)
        self.slots.begin(of, rollout="rol_1", previous_p95_us=None)
        self.slots.attempt()
        self.slots.serving = of
        self.slots.activated()
        self.slots.confirm("fine")

    def close(self):
        """Stop in order."""
        self.slots.close()
        self.spool.close()

    def whats(self):
        """Return what was told, in order."""
        return [what for what, _, _ in self.told]


@pytest.fixture
def device(tmp_path):
    """A device without a slot."""
    made = Device(tmp_path)
    yield made
    made.close()


def test_the_way_of_a_good_release(device):
    """Staged, tried, kept: each is told once, with what serves then."""
    device.confirm(A)
    device.confirm(B)

    pointer = device.slots.pointer
    assert (pointer.active, pointer.previous, pointer.golden) == (B, A, A)
    assert pointer.trial is None
    assert device.told == [
        ("staged", "digits@1", ""),
        ("activated", "digits@1", A),
        ("confirmed", "digits@1", A),
        ("staged", "digits@2", A),
        ("activated", "digits@2", B),
        ("confirmed", "digits@2", B),
    ]


def test_the_way_of_a_bad_release(device):
    """A failed trial changes nothing but the list of what is bad."""
    device.confirm(A)
    device.install(B)
    device.slots.begin(B, rollout="rol_2", previous_p95_us=5)
    device.slots.serving = B
    device.slots.activated()

    device.slots.end_trial(REVERTED, "too slow")
    device.slots.serving = A
    device.slots.ended()

    pointer = device.slots.pointer
    assert (pointer.active, pointer.trial, pointer.bad) == (A, None, {B: "too slow"})
    assert device.told[-1] == ("reverted", "digits@2", A)
    assert {s.release: s.state for s in device.slots.states()} == {
        "digits@1": "good",
        "digits@2": "bad",
    }


def test_the_first_release_has_nothing_to_go_back_to(device):
    """A failed first trial leaves nothing serving, and says so."""
    device.install(A)
    device.slots.begin(A, rollout="rol_1", previous_p95_us=None)
    device.slots.end_trial(REVERTED, "silent")
    device.slots.ended()

    assert device.slots.pointer.active is None
    assert device.told[-1] == ("reverted", "digits@1", "")


def test_going_back_because_the_fleet_says_so(device):
    """A slot that was good is active again without a trial; the one left is kept.

    The fleet hears of both: what was left, and what this device runs for good.
    """
    device.confirm(A)
    device.confirm(B)

    device.slots.serving = A
    device.slots.returned(A, rollout="rol_2", reason="asked")

    pointer = device.slots.pointer
    assert (pointer.active, pointer.previous, pointer.bad) == (A, B, {})
    assert device.told[-2:] == [("returned", "digits@2", A), ("confirmed", "digits@1", A)]
    assert device.spool.peek(1000).events[-1].body["reason"] == "it was good before"


@pytest.mark.parametrize("at", [7, 8], ids=["returned", "confirmed"])
def test_a_return_cut_short_is_told_whole(device, monkeypatch, at):
    """Killed before either of its two transitions was told, each is told once."""
    device.confirm(A)
    device.confirm(B)
    device.slots.serving = A
    tell = device.slots._tell

    def dies(feedback):
        if feedback.transition == at:
            raise Crash
        tell(feedback)

    monkeypatch.setattr(device.slots, "_tell", dies)
    with pytest.raises(Crash):
        device.slots.returned(A, rollout="rol_2", reason="asked")
    device.close()
    for _ in range(2):
        device.open()
        device.close()
    device.open()

    assert device.told[6:] == [("returned", "digits@2", A), ("confirmed", "digits@1", A)]
    assert device.slots.pointer.transition.transition == 8
    assert device.slots.pointer.owed is None


def test_a_trial_the_fleet_ended_is_not_bad(device):
    """Giving up a trial on request leaves the release free to come again."""
    device.confirm(A)
    device.install(B)
    device.slots.begin(B, rollout="r", previous_p95_us=None)
    device.slots.end_trial(RETURNED, "asked")
    device.slots.ended()

    assert device.slots.pointer.bad == {}
    assert device.whats()[-1] == "returned"


def test_starts_of_a_trial_are_counted_before_they_are_made(device):
    """After three starts there is no fourth, also when each ended in a crash."""
    device.install(A)
    device.slots.begin(A, rollout="r", previous_p95_us=None)
    allowed = []
    for _ in range(MAX_ATTEMPTS + 1):
        allowed.append(device.slots.attempt())
        device.close()
        device.open()

    assert allowed == [True] * MAX_ATTEMPTS + [False]
    assert device.slots.pointer.trial.attempts == MAX_ATTEMPTS


def test_a_start_that_came_to_nothing_is_not_counted(device):
    """Taken back, it leaves every start the trial may have."""
    device.install(A)
    device.slots.begin(A, rollout="r", previous_p95_us=None)
    for _ in range(MAX_ATTEMPTS + 1):
        assert device.slots.attempt()
        device.slots.attempt(-1)

    assert device.slots.pointer.trial.attempts == 0


def test_the_policy_comes_from_the_manifest(device):
    """The limits of a trial are the signed ones."""
    device.install(A)

    assert device.slots.policy(A).min_inferences == 7
    with pytest.raises(BundleError, match="no readable manifest"):
        device.slots.policy(B)


def test_what_is_needed_is_kept(device):
    """Active, previous, golden, on trial and what the caller names stay; the rest goes."""
    for one in (A, B, C):
        device.confirm(one)
    device.install(D)

    first = device.slots.collect([D])
    device.slots.begin(D, rollout="r", previous_p95_us=None)
    second = device.slots.collect([])
    device.slots.end_trial(REVERTED, "bad")
    device.slots.ended()
    third = device.slots.collect([])

    assert (first, second, third) == ([], [], [D])
    assert not device.home.slot(D).exists()
    assert set(device.slots.installed) == {A, B, C}


@pytest.mark.parametrize(
    ("lost", "active"), [((C,), B), ((C, B), A), ((C, B, A), None)], ids=["one", "two", "all"]
)
def test_a_damaged_slot_gives_way_to_the_next_best(device, lost, active):
    """Previous, then golden, then nothing: what is left serves."""
    for one in (A, B, C):
        device.confirm(one)

    for one in lost:
        device.slots.step_back(one, damaged=True)

    assert device.slots.pointer.active == active
    assert all(not device.home.slot(one).exists() for one in lost)


def test_a_worn_out_slot_gives_way_and_stays(device):
    """A slot whose worker only ends is not thrown away: the cause may lie elsewhere."""
    device.confirm(A)
    device.confirm(B)

    device.slots.step_back(B, damaged=False)

    pointer = device.slots.pointer
    assert (pointer.active, pointer.previous) == (A, None)
    assert device.home.slot(B).exists()
    assert next_step(pointer, B, device.slots.installed) is Step.TRY


def test_slots_that_vanished_are_forgotten(device):
    """A pointer to a folder that is gone is repaired at the start, and reported."""
    device.confirm(A)
    device.confirm(B)
    device.close()
    durable.remove(device.home.slot(B))

    device.open()

    assert device.slots.pointer.active == A
    assert any("is gone" in problem for problem in device.slots.problems)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_damaged_pointer_is_made_anew(device, damage):
    """What served last, by the journal, serves again; numbers go on."""
    device.confirm(A)
    device.confirm(B)
    device.close()
    device.home.pointer.write_bytes(damage)

    device.open()
    device.slots.stage(A, "rol_3")

    assert device.slots.pointer.active == B
    assert device.slots.pointer.golden == A
    assert device.slots.problems
    assert device.slots.pointer.transition.transition == 7
    assert device.home.pointer.with_name("pointer.json.damaged").exists()


def test_a_damaged_journal_is_set_aside(device):
    """History is for people: the pointer goes on, and so do the numbers."""
    device.confirm(A)
    device.close()
    data = device.home.journal.read_bytes()
    device.home.journal.write_bytes(b"\0" + data[1:])

    device.open()
    device.confirm(B)

    assert device.slots.problems
    assert device.slots.pointer.transition.transition == 6
    assert device.whats()[-1] == "confirmed"


def test_losing_pointer_and_journal_does_not_silence_the_device(device):
    """Numbers the fleet has heard are not used again, so what follows is heard too."""
    device.confirm(A)
    device.close()
    device.home.pointer.unlink()
    device.home.journal.unlink()
    durable.remove(device.home.slot(A))

    device.open()
    device.confirm(A)

    assert device.whats() == ["staged", "activated", "confirmed"] * 2


def test_a_long_history_is_set_aside(device):
    """The journal a process holds in memory stays small."""
    for number in range(14):
        device.slots.refuse(B, "digits@2", rollout="r" * 20_000, reason=f"{number}", bad=False)
    device.close()

    device.open()
    device.slots.refuse(B, "digits@2", rollout="r", reason="again", bad=False)

    assert device.home.journal.stat().st_size < 30_000
    assert device.home.journal.with_name("journal.log.1").exists()
    assert device.slots.pointer.transition.transition == 15


@pytest.mark.parametrize("again", [False, True], ids=["first", "rotated"])
def test_a_damaged_pointer_is_made_of_a_long_history(device, again):
    """Set aside or about to be: the history a pointer is rebuilt from is read."""
    device.confirm(A)
    for number in range(14):
        device.slots.refuse(B, "digits@2", rollout="r" * 20_000, reason=f"{number}", bad=False)
    device.close()
    if again:
        device.open()
        device.slots.refuse(B, "digits@2", rollout="r", reason="again", bad=False)
        device.close()
    device.home.pointer.write_bytes(b"{")

    device.open()

    assert (device.slots.pointer.active, device.slots.pointer.golden) == (A, A)
    assert device.slots.pointer.transition.transition == 17 + again
    assert device.slots.collect([]) == []


def test_a_slot_never_judged_is_not_good(device):
    """A pointer rebuilt during a trial goes back to what proved good, not to the trial."""
    device.confirm(A)
    device.install(B)
    device.slots.begin(B, rollout="r", previous_p95_us=None)
    device.slots.serving = B
    device.slots.activated()
    device.close()
    device.home.pointer.write_bytes(b"")

    device.open()

    assert (device.slots.pointer.active, device.slots.pointer.golden) == (A, A)


def _life(device):
    """Go through every kind of transition there is."""
    device.confirm(A)
    device.confirm(B)
    device.install(C)
    device.slots.begin(C, rollout="r", previous_p95_us=None)
    device.slots.attempt()
    device.slots.serving = C
    device.slots.activated()
    device.slots.end_trial(REVERTED, "slow")
    device.slots.serving = B
    device.slots.ended()
    device.slots.collect([])
    device.slots.serving = A
    device.slots.returned(A, rollout="r", reason="asked")
    device.slots.refuse(D, "digits@4", rollout="r", reason="wrong", bad=True)


@pytest.mark.slow
def test_a_full_disk_at_any_write_leaves_the_pointer_whole(tmp_path, scale):
    """Whichever write is refused: pointer and journal can be read, and the queue agrees."""
    counted = Device(tmp_path / "counted")
    with disk.watching(tmp_path / "counted", lambda *_: None) as calls:
        _life(counted)
    counted.close()

    for at in range(1, len(calls.names) + 1, 1 if scale == "full" else 7):
        device = Device(tmp_path / f"d{at}")
        with suppress(StorageError, OSError), disk.failing(device.home.root, at):
            _life(device)
        device.close()
        device.open()
        journal = durable.Journal(device.home.journal)
        numbers = [record["transition"] for record in journal.records]
        journal.close()
        last = device.slots.pointer.transition
        told = device.spool.peek(1000).events
        device.close()

        assert numbers == list(range(1, len(numbers) + 1))
        assert (last.transition if last else 0) == len(numbers) == len(told)
        assert not device.slots.problems


POINTERS = st.builds(
    Pointer,
    active=st.none() | st.sampled_from([A, B]),
    previous=st.none() | st.sampled_from([A, B, C]),
    golden=st.none() | st.sampled_from([A, C]),
    trial=st.none()
    | st.builds(
        Trial,
        digest=st.sampled_from([B, C, D]),
        release=st.just("x@1"),
        ending=st.sampled_from(["", "reverted", "returned"]),
    ),
    bad=st.dictionaries(st.sampled_from([C, D]), st.just("why"), max_size=2),
)


@given(
    pointer=POINTERS,
    wanted=st.none() | st.sampled_from([A, B, C, D]),
    installed=st.sets(st.sampled_from([A, B, C, D])),
)
def test_the_next_step_is_never_wrong(pointer, wanted, installed):
    """Nothing bad, nothing unknown and nothing twice is ever tried."""
    step = next_step(pointer, wanted, installed)

    if step is Step.NOTHING:
        return
    trial = pointer.trial
    assert wanted is not None
    assert wanted not in pointer.bad
    assert wanted != (trial.digest if trial else pointer.active)
    assert not (trial and trial.ending)
    good = {pointer.active, pointer.previous, pointer.golden}
    if step is Step.FETCH:
        assert wanted not in installed
    if step is Step.RETURN:
        assert wanted in installed
        assert wanted in good
    if step is Step.TRY:
        assert wanted in installed
        assert wanted not in good
        assert trial is None
