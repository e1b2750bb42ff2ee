"""Controller: the whole road of a rollout, without a network and without waiting."""

import pytest
from tests.sim.plane import Bench

from edgewright.core.errors import ConflictError, NotFoundError, StorageError, UsageError
from edgewright.fleet.rollout.progress import (
    DONE,
    HALTED,
    PAUSED,
    RUNNING,
    abort,
    pause,
    resume,
)
from edgewright.fleet.store import mirror
from edgewright.wire import assignment
from edgewright.wire.feedback import ACTIVATED, CONFIRMED, REFUSED, RETURNED, REVERTED

CANARY = {"labels": {"canary": "yes"}}
ALL = {"bp": 10_000}
DOCUMENT = "rollouts/stable.json"


@pytest.fixture
def bench(tmp_path):
    """Give a control plane with three devices, one a canary, and two releases."""
    made = Bench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def fleet(bench):
    """Give the ids of three enrolled devices, the canary first."""
    return (bench.enrol("canary", canary="yes"), bench.enrol("second"), bench.enrol("third"))


def document(bench):
    """Return the stable channel's document as a device trusts it."""
    return bench.trusted()[1][DOCUMENT]


def deliver(bench, release, fleet):
    """Bring a release to every device and return it."""
    fake = bench.publish(release)
    rollout = bench.start(release, min_inferences=1)
    for device in fleet:
        bench.says(device, CONFIRMED, fake, answered=50, latency={"200": 50})
    bench.tick()
    assert bench.rollout(rollout).progress.state == DONE
    return fake


def test_a_rollout_goes_wave_by_wave_to_its_end(bench, fleet):
    """The canary gets it, then everyone, and what devices trust says so at every step."""
    first = deliver(bench, "digits@1", fleet)
    second = bench.publish("digits@2")
    canary, *others = fleet

    rollout = bench.start("digits@2", CANARY, ALL, min_inferences=10)
    bench.tick()
    trusted = document(bench)
    assert trusted.base.release == first.release
    assert [assignment.assigned(trusted, d, {"canary": "yes"}).release for d in [canary]] == [
        "digits@2"
    ]
    assert {assignment.assigned(trusted, d, {}).release for d in others} == {"digits@1"}

    bench.says(canary, CONFIRMED, second, answered=9)
    bench.tick()
    assert bench.rollout(rollout).progress.open_waves == 1
    bench.says(canary, CONFIRMED, second, answered=1)
    bench.tick()
    assert bench.rollout(rollout).progress.open_waves == 2
    assert {assignment.assigned(document(bench), d, {}).release for d in others} == {
        "digits@2"
    }

    for device in others:
        bench.says(device, CONFIRMED, second, answered=10)
    bench.tick()
    assert bench.rollout(rollout).progress.state == DONE
    assert document(bench).state == DONE
    assert bench.actions().count("rollout.open_wave") == 1
    assert bench.actions().count("rollout.done") == 2


@pytest.mark.parametrize("what", [REFUSED, REVERTED])
def test_one_failed_device_sends_all_back(bench, fleet, what):
    """A refusal halts the rollout, closes its waves and keeps the reason."""
    first = deliver(bench, "digits@1", fleet)
    second = bench.publish("digits@2")
    rollout = bench.start("digits@2", CANARY, ALL)

    bench.says(fleet[0], what, second)
    bench.tick()

    found = bench.rollout(rollout)
    assert found.progress.state == HALTED
    assert found.progress.open_waves == 0
    assert "1 device refused or reverted it" in found.progress.reason
    trusted = document(bench)
    everyone = {assignment.assigned(trusted, d, {"canary": "yes"}).release for d in fleet}
    assert everyone == {first.release}
    assert bench.actions()[-2:] == ["rollout.halt", "assignments.sign"]


def test_a_late_failure_in_an_earlier_wave_counts(bench, fleet):
    """A canary that reverts while the second wave is judged halts everything."""
    second = bench.publish("digits@2")
    rollout = bench.start("digits@2", CANARY, ALL, min_inferences=1)
    bench.says(fleet[0], CONFIRMED, second, answered=5)
    bench.tick()
    assert bench.rollout(rollout).progress.open_waves == 2

    bench.says(fleet[0], REVERTED, second)
    bench.tick()

    assert bench.rollout(rollout).progress.state == HALTED


def test_confirmed_means_it_serves(bench, fleet):
    """A device that confirmed and then serves something else does not count."""
    first = deliver(bench, "digits@1", fleet)
    second = bench.publish("digits@2")
    rollout = bench.start("digits@2", CANARY, ALL, min_inferences=1)
    bench.says(fleet[0], CONFIRMED, second, answered=5)
    bench.serves(fleet[0], first)

    bench.tick()

    assert bench.rollout(rollout).progress.open_waves == 1


def test_errors_halt(bench, fleet):
    """Answers that fail or come late count against the release alone."""
    second = bench.publish("digits@2")
    rollout = bench.start("digits@2", CANARY, ALL, min_inferences=10)

    bench.says(fleet[0], ACTIVATED, second, answered=90, failed=1, late=2)
    bench.tick()

    assert "3 of 93 inferences failed" in bench.rollout(rollout).progress.reason


def test_a_slower_release_halts(bench, fleet):
    """p99 is compared with the base's on the same devices."""
    first = deliver(bench, "digits@1", fleet)
    second = bench.publish("digits@2")
    rollout = bench.start("digits@2", CANARY, ALL, min_inferences=10)

    # 70 buckets of 2 % each: four times as long.
    bench.says(fleet[0], CONFIRMED, first, answered=400, latency={"200": 400})
    bench.says(fleet[0], CONFIRMED, second, answered=400, latency={"270": 400})
    bench.tick()

    assert "over 3 times the base's" in bench.rollout(rollout).progress.reason


@pytest.mark.usefixtures("fleet")
def test_silence_until_the_deadline_halts(bench):
    """Time that passes while it runs counts; time while it is paused does not."""
    bench.publish("digits@2")
    rollout = bench.start("digits@2", CANARY, ALL, deadline_s=100)
    bench.clock.step(60)
    bench.move(rollout, pause)
    bench.clock.step(1000)
    bench.tick()
    assert bench.rollout(rollout).progress.state == PAUSED
    bench.move(rollout, resume)
    bench.clock.step(39)
    bench.tick()
    assert bench.rollout(rollout).progress.state == RUNNING

    bench.clock.step(1)
    bench.tick()

    found = bench.rollout(rollout)
    assert found.progress.state == HALTED
    assert found.progress.reason == "0 of 1 devices confirmed by the deadline of 100 s"


def test_each_wave_has_its_own_deadline(bench, fleet):
    """A wave opened late is not judged by the age of the rollout."""
    second = bench.publish("digits@2")
    rollout = bench.start("digits@2", CANARY, ALL, min_inferences=1, deadline_s=100)
    bench.clock.step(99)
    bench.says(fleet[0], CONFIRMED, second, answered=5)
    bench.tick()

    bench.clock.step(99)
    bench.tick()

    assert bench.rollout(rollout).progress.open_waves == 2
    assert bench.rollout(rollout).progress.state == RUNNING


def test_a_paused_rollout_opens_nothing_and_still_halts(bench, fleet):
    """Good news waits for resume; bad news does not."""
    second = bench.publish("digits@2")
    rollout = bench.start("digits@2", CANARY, ALL, min_inferences=1)
    bench.move(rollout, pause)
    bench.says(fleet[0], CONFIRMED, second, answered=5)
    bench.tick()
    assert bench.rollout(rollout).progress.open_waves == 1

    bench.says(fleet[0], REVERTED, second)
    bench.tick()

    assert bench.rollout(rollout).progress.state == HALTED


def test_an_aborted_rollout_closes_its_waves(bench, fleet):
    """Devices are told to go back to the base."""
    first = deliver(bench, "digits@1", fleet)
    bench.publish("digits@2")
    rollout = bench.start("digits@2", CANARY, ALL)
    bench.tick()

    bench.move(rollout, abort)
    bench.tick()

    trusted = document(bench)
    assert trusted.open_waves == 0
    assert assignment.assigned(trusted, fleet[0], {"canary": "yes"}).digest == first.digest
    assert bench.rollout(rollout).progress.reason == "aborted by operator"


def test_bases_follow_each_other(bench, fleet):
    """The base is what the last done rollout delivered; a halted one changes nothing."""
    first = deliver(bench, "digits@1", fleet)
    bench.publish("digits@2")
    halted = bench.start("digits@2", CANARY, ALL)
    bench.move(halted, abort)
    third = deliver(bench, "digits@3", fleet)
    bench.publish("digits@4")

    last = bench.rollout(bench.start("digits@4"))

    assert last.base.digest == third.digest
    bases = {bench.rollout(halted).base.digest, first.digest}
    assert bases == {first.digest}


@pytest.mark.usefixtures("fleet")
def test_a_channel_has_one_active_rollout(bench):
    """A second one is refused while the first runs; another channel is free."""
    bench.publish("digits@1")
    first = bench.start("digits@1", CANARY, ALL)

    with pytest.raises(ConflictError, match=first):
        bench.start("digits@1")
    assert bench.start("digits@1", channel="beta") != first


def test_what_runs_already_is_not_rolled_out(bench, fleet):
    """A rollout of the base itself would prove nothing."""
    deliver(bench, "digits@1", fleet)

    with pytest.raises(ConflictError, match="runs digits@1 already"):
        bench.start("digits@1")
    with pytest.raises(NotFoundError, match="digits@9"):
        bench.start("digits@9")


@pytest.mark.usefixtures("fleet")
def test_an_empty_wave_lets_nobody_through(bench):
    """A wave that no device belongs to proves nothing: those behind it keep what they run."""
    bench.publish("digits@1")
    rollout = bench.start("digits@1", {"labels": {"canary": "no"}}, ALL, deadline_s=100)

    bench.tick()
    waiting = bench.rollout(rollout).progress
    bench.clock.step(101)
    bench.tick()

    assert (waiting.state, waiting.open_waves) == (RUNNING, 1)
    ended = bench.rollout(rollout).progress
    assert (ended.state, ended.open_waves) == (HALTED, 0)
    assert "no device is in this wave" in ended.reason


def test_evidence_from_before_does_not_count(bench, fleet):
    """What a release did in an earlier rollout neither speaks for it nor against it."""
    second = bench.publish("digits@2")
    aborted = bench.start("digits@2", CANARY, ALL, min_inferences=10)
    bench.says(fleet[0], CONFIRMED, second, answered=60, failed=40, latency={"200": 60})
    bench.move(aborted, abort)
    bench.says(fleet[0], RETURNED, second)

    again = bench.start("digits@2", CANARY, ALL, min_inferences=10)
    bench.says(fleet[0], CONFIRMED, second, answered=9, latency={"200": 9})
    bench.tick()
    assert bench.rollout(again).progress.open_waves == 1

    bench.says(fleet[0], CONFIRMED, second, answered=1, latency={"200": 1})
    bench.tick()
    assert bench.rollout(again).progress.open_waves == 2


def test_a_device_that_refused_it_before_halts_at_once(bench, fleet):
    """A device never tries a bad digest again, so waiting for it would be in vain."""
    second = bench.publish("digits@2")
    bench.start("digits@2", CANARY, ALL)
    bench.says(fleet[0], REFUSED, second)
    bench.tick()

    again = bench.start("digits@2", CANARY, ALL)
    bench.tick()

    assert bench.rollout(again).progress.state == HALTED


def test_a_device_that_joins_late_is_judged_too(bench, fleet):
    """A device enrolled while the last wave is open must confirm as well."""
    fake = bench.publish("digits@1")
    rollout = bench.start("digits@1", min_inferences=1)
    for device in fleet:
        bench.says(device, CONFIRMED, fake, answered=5)
    late = bench.enrol("late")
    bench.tick()
    assert bench.rollout(rollout).progress.state == RUNNING

    bench.says(late, CONFIRMED, fake, answered=5)
    bench.tick()

    assert bench.rollout(rollout).progress.state == DONE


@pytest.mark.parametrize(
    "waves",
    [[CANARY], [{"bp": 5000}], [{"bp": 0}, ALL], [{"bp": 10_001}, ALL], [ALL] * 101],
)
def test_waves_that_lead_nowhere_are_refused(bench, waves):
    """The last wave takes everyone, and every share is one."""
    bench.publish("digits@1")

    with pytest.raises(UsageError):
        bench.start("digits@1", *waves)


@pytest.mark.parametrize("stop", range(4))
def test_killed_between_database_and_files(bench, fleet, monkeypatch, stop):
    """Stopped before any of the files, devices trust the old set; the next start heals it."""
    deliver(bench, "digits@1", fleet)
    second = bench.publish("digits@2")
    device = bench.folder / "device"
    version, _ = bench.trusted(device)
    rollout = bench.start("digits@2", CANARY, ALL, min_inferences=1)
    written = []
    real = mirror.durable.replace_file

    def dying(path, data):
        if len(written) == stop:
            raise StorageError("power cut")
        written.append(path)
        real(path, data)

    monkeypatch.setattr(mirror.durable, "replace_file", dying)
    bench.says(fleet[0], CONFIRMED, second, answered=5)
    with pytest.raises(StorageError):
        bench.tick()
    monkeypatch.setattr(mirror.durable, "replace_file", real)
    assert bench.rollout(rollout).progress.open_waves == 2
    assert bench.trusted(device)[0] == version

    bench.restart()

    healed, documents = bench.trusted(device)
    assert healed > version
    assert documents[DOCUMENT].open_waves == 2


def test_an_operator_who_was_faster_wins(bench, fleet):
    """A decision made on what has changed meanwhile is dropped, not forced."""
    second = bench.publish("digits@2")
    rollout = bench.start("digits@2", CANARY, ALL, min_inferences=1)
    bench.says(fleet[0], CONFIRMED, second, answered=5)
    stale = bench.rollout(rollout)
    bench.move(rollout, abort)

    bench.plane.controller._advance(stale)

    assert bench.rollout(rollout).progress.state == HALTED
    assert "rollout.open_wave" not in bench.actions()


def test_nothing_to_do_writes_nothing(bench, fleet):
    """Ticks without news leave database and folder as they are."""
    deliver(bench, "digits@1", fleet)
    before = bench.actions(), bench.trusted()[0]

    bench.tick(5)

    assert (bench.actions(), bench.trusted()[0]) == before


def test_assignments_are_signed_again_in_time(bench, fleet):
    """Half of the timestamp's life is used, never more, and the version grows."""
    deliver(bench, "digits@1", fleet)
    version, _ = bench.trusted()
    bench.clock.step(12 * 3600 - 5)
    bench.tick()
    assert bench.trusted()[0] == version

    bench.clock.step(10)
    bench.tick()

    assert bench.trusted()[0] == version + 1


def test_a_lost_folder_is_made_again(bench, fleet):
    """Without the folder the version still grows, so that devices take the new set."""
    deliver(bench, "digits@1", fleet)
    device = bench.folder / "device"
    version, documents = bench.trusted(device)
    folder = bench.plane.trust_folder / "assignments"
    for path in folder.rglob("*.json"):
        path.unlink()

    bench.tick()

    assert bench.trusted(device) == (version + 1, documents)


def test_a_damaged_document_is_signed_again(bench, fleet):
    """A document whose bytes are not the signed ones is replaced."""
    deliver(bench, "digits@1", fleet)
    (path,) = (bench.plane.trust_folder / "assignments" / "targets").rglob("*.json")
    before = path.read_bytes()
    path.write_bytes(before[:-1])

    bench.tick()

    assert document(bench).state == DONE
    assert path.read_bytes() == before
