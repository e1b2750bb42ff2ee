"""The trial as the supervisor sees it, with a worker that is only said to be there."""

import json

import pytest
from tests.sim.clock import ManualClock

from edgewright.agent import DeviceConfig, Home
from edgewright.agent.health import Death
from edgewright.agent.supervisor import Supervisor
from edgewright.core import digest
from edgewright.core.errors import UpdateError
from edgewright.wire.feedback import REVERTED

A, B, C = (digest.of_bytes(name) for name in (b"a", b"b", b"c"))
CONFIG = DeviceConfig(
    server="http://127.0.0.1:1",
    name="camera-1",
    enrol_token_file="token",  # noqa: S106  the name of a file
    artefacts_root="a",
    assignments_root="b",
    port=0,
)


@pytest.fixture
def clock():
    """Time that moves when told."""
    return ManualClock()


@pytest.fixture
def supervisor(tmp_path, clock):
    """A supervisor that was never run."""
    made = Supervisor(Home(tmp_path / "home"), CONFIG, tmp_path / "device.toml", clock)
    yield made
    made.close()


def _try(supervisor, of):
    """Put a slot on trial, and let it be said to serve."""
    folder = supervisor._home.slot(of)
    folder.mkdir(parents=True)
    manifest = {"name": "digits", "version": 1}
    manifest["policy"] = {"min_inferences": 7, "deadline_s": 60}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    supervisor._slots.stage(of, "rol_1")
    supervisor._slots.begin(of, rollout="rol_1", previous_p95_us=None)
    supervisor._slots.serving = of


def test_a_manifest_that_cannot_be_read_does_not_stop_the_deadline(supervisor, clock):
    """The limits of a trial are read once; the silent slot is given up in time."""
    _try(supervisor, A)
    supervisor._settle_trial()
    (supervisor._home.slot(A) / "manifest.json").unlink()

    clock.advance(61)
    supervisor._settle_trial()

    assert supervisor._slots.pointer.trial.ending == REVERTED


def test_each_end_of_a_trial_has_its_own_time(supervisor, clock):
    """What an earlier trial had waited for its end does not shorten a later one's."""
    slots = supervisor._slots
    _try(supervisor, A)
    slots.confirm("fine")
    _try(supervisor, B)
    slots.end_trial(REVERTED, "slow")
    supervisor._settle_trial()
    slots.step_back(B, damaged=True)
    supervisor._settle_trial()

    clock.advance(1000)
    _try(supervisor, C)
    slots.end_trial(REVERTED, "slow")
    supervisor._settle_trial()

    assert slots.pointer.trial is not None


@pytest.mark.parametrize("code", ["storage_error", "bundle_error"])
def test_a_slot_of_no_use_on_this_disk_does_not_fail_its_trial(supervisor, code):
    """Its worker could not read it: fetched anew and tried again, never bad."""
    _try(supervisor, A)

    supervisor._mourn(
        Death(A, 1, damaged=True, reason="cannot be read", stats=None, code=code)
    )

    pointer = supervisor._slots.pointer
    assert (pointer.trial, pointer.bad) == (None, {})
    assert A not in supervisor._slots.installed
    assert [one["code"] for one in supervisor._telemetry.problems] == [code]


def test_a_trial_survives_a_machine_without_memory(supervisor, clock, monkeypatch):
    """Starts that never came about are told, and leave the trial all its attempts."""

    def refuse(*_, **__):
        raise UpdateError("cannot start python: Cannot allocate memory")

    _try(supervisor, A)
    supervisor._slots.serving = ""
    monkeypatch.setattr("edgewright.agent.health.Child", refuse)
    for _ in range(10):
        supervisor._serve()
        clock.advance(20)

    trial = supervisor._slots.pointer.trial
    assert (trial.attempts, trial.ending) == (0, "")
    assert any("allocate" in one["message"] for one in supervisor._telemetry.problems)
