"""edgewright-agent: settings, and the verbs a person asks a device with."""

import fcntl
import json
import os

import pytest
from tests.sim.control_plane import device_toml

from edgewright.agent import Home, load_config
from edgewright.agent.main import main
from edgewright.agent.slots import Slots
from edgewright.core import digest, probe
from edgewright.core.clock import SystemClock
from edgewright.core.errors import ConfigError
from edgewright.core.profile import DeviceProfile

A, B = digest.of_bytes(b"a"), digest.of_bytes(b"b")
STATUS = {
    "device": "dev-x",
    "name": "camera-1",
    "running": True,
    "at": "2026-01-01T00:00:00Z",
    "port": 8610,
    "serving": {"digest": A, "release": "digits@1", "variant": "int8"},
    "trial": {"release": "digits@2", "attempts": 1},
    "active": A,
    "previous": None,
    "golden": A,
    "slots": [
        {"digest": A, "release": "digits@1", "state": "good"},
        {"digest": B, "release": "digits@2", "state": "on trial"},
    ],
    "wanted": {"release": "digits@2"},
    "last_contact": "2026-01-01T00:00:00Z",
    "problems": [{"at": "2026-01-01T00:00:00Z", "message": "the server is away"}],
    "spool": {"queued": 3, "lost": 0},
}


@pytest.fixture
def home(tmp_path):
    """The folder of a device that has run."""
    made = Home(tmp_path / "home")
    made.run.mkdir(parents=True)
    made.status.write_text(json.dumps(STATUS))
    return made


def _run(capsys, *argv):
    code = main([str(word) for word in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def _history(home):
    slots = Slots(home, SystemClock(), lambda _: None)
    slots.refuse(B, "digits@2", rollout="rol_1", reason="golden.reference: 3 of 16", bad=True)
    slots.serving = A
    slots.begin(A, rollout="rol_1", previous_p95_us=None)
    slots.activated()
    slots.close()


def test_status_says_what_serves(capsys, home):
    """A running agent: what answers, what is tried, what is wrong."""
    held = os.open(home.root, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)

    code, out, _ = _run(capsys, "status", "--home", home.root)

    os.close(held)
    assert code == 0
    for words in ("running", "digits@1", "port 8610", "trial    digits@2", "server is away"):
        assert words in out


def test_status_does_not_believe_a_dead_agent(capsys, home):
    """An agent that was killed left a file that says it runs; it does not."""
    _, out, _ = _run(capsys, "status", "--home", home.root)
    code, document, _ = _run(capsys, "status", "--home", home.root, "--json")

    assert "stopped" in out
    assert "serving  nothing" in out
    assert json.loads(document)["running"] is False
    assert code == 0


def test_status_of_nothing_is_a_usage_error(capsys, tmp_path):
    """A folder no agent ever used is the wrong folder."""
    code, _, err = _run(capsys, "status", "--home", tmp_path)

    assert code == 2
    assert "no agent has run" in err
    assert "--home" in err


def test_errors_are_json_too(capsys, tmp_path):
    """With --json an error has the one shape errors have."""
    code, out, _ = _run(capsys, "why", "--home", tmp_path, "--json")

    assert code == 2
    assert json.loads(out)["error"]["code"] == "usage_error"


def test_why_tells_the_history(capsys, home):
    """Every transition is a sentence with its reason and the rollout that asked."""
    _history(home)

    code, out, _ = _run(capsys, "why", "--home", home.root)
    _, last, _ = _run(capsys, "why", "--home", home.root, "--last", 1)
    _, document, _ = _run(capsys, "why", "--home", home.root, "--json")

    assert code == 0
    assert "digits@2" in out
    assert "was refused: golden.reference: 3 of 16 [rol_1]" in out
    assert len(last.splitlines()) == 1
    assert [one["what"] for one in json.loads(document)["transitions"]] == [
        "refused",
        "activated",
    ]


def test_why_leaves_the_journal_alone(capsys, home):
    """Asking while the agent writes a line does not cut that line."""
    _history(home)
    with home.journal.open("ab") as journal:
        journal.write(b"0000 half a line")
    before = home.journal.read_bytes()

    code, _, _ = _run(capsys, "why", "--home", home.root)

    assert code == 0
    assert home.journal.read_bytes() == before


def test_models_lists_the_slots(capsys, home):
    """Each slot with its state and what it is kept for."""
    code, out, _ = _run(capsys, "models", "--home", home.root)
    _, document, _ = _run(capsys, "models", "--home", home.root, "--json")

    assert code == 0
    assert out.splitlines()[0].split() == ["digits@1", A[7:19], "good", "active", "golden"]
    assert json.loads(document)["slots"][1]["state"] == "on trial"


def test_probe_says_what_the_machine_is(capsys, home):
    """A profile and the conditions of this moment."""
    code, out, _ = _run(capsys, "probe", "--home", home.root, "--json")

    found = json.loads(out)
    assert code == 0
    assert found["profile"]["cores"] >= 1
    assert "storage_free_bytes" in found["conditions"]


def test_probe_speaks_to_people(capsys, home, monkeypatch):
    """Bytes, MHz, degrees and percent have their units; --json keeps the bare numbers."""
    profile = DeviceProfile(
        title="Board 3",
        platform="linux",
        isa=("dotprod", "neon"),
        clock_mhz=1500,
        memory_bytes=4 * 10**9,
        sources={"clock_mhz": "cpufreq"},
    )
    now = probe.Conditions(
        load_1m=0.5,
        memory_available_bytes=1_250_000_000,
        temperature_milli_c=-3250,
        battery_percent=87,
        storage_free_bytes=512,
    )
    monkeypatch.setattr(probe, "probe", lambda: profile)
    monkeypatch.setattr(probe, "conditions", lambda _: now)

    _, out, _ = _run(capsys, "probe", "--home", home.root)
    _, document, _ = _run(capsys, "probe", "--home", home.root, "--json")

    shown = [" ".join(line.split()) for line in out.splitlines()]
    assert shown == [
        "title Board 3",
        "platform linux",
        "isa dotprod, neon",
        "clock 1500 MHz (cpufreq)",
        "memory 4.00 GB",
        "connectivity none known",
        "use",
        "engines none known",
        "load 1m 0.5",
        "memory available 1.25 GB",
        "temperature -3.2 °C",
        "battery 87 %",
        "storage free 512 B",
    ]
    assert json.loads(document)["profile"]["memory_bytes"] == 4 * 10**9
    assert json.loads(document)["conditions"]["temperature_milli_c"] == -3250


def test_run_says_at_once_who_it_is_and_where(plane, device):
    """The first line on standard error: name, home, fleet, and where callers are answered."""
    device.start()
    device.wait_for(lambda: device.status().get("device"), "its id")
    first_id, port = device.status()["device"], device.status()["port"]
    device.stop()
    device.start()
    device.stop()

    events = [json.loads(line) for line in device.log.read_text().splitlines()]
    one, two = [event for event in events if event["event"] == "started"]
    assert events[0] == one
    assert (one["device"], two["device"]) == ("not enrolled yet", first_id)
    assert one["name"] == load_config(device.config).name
    assert (one["home"], one["server"]) == (str(device.home.root), plane.url)
    assert one["answers_at"] == f"http://127.0.0.1:{port}"


def test_a_verb_is_needed(capsys):
    """Nothing asked is a usage error."""
    with pytest.raises(SystemExit) as caught:
        main([])

    assert caught.value.code == 2
    assert "VERB" in capsys.readouterr().err


def _checks(out):
    return {one["name"]: one["passed"] for one in json.loads(out)["checks"]}


def test_doctor_finds_a_healthy_device_healthy(capsys, plane, tmp_path):
    """Settings, roots, server, clock, disk: all checked, all well."""
    config = device_toml(plane, tmp_path / "device.toml")

    code, out, _ = _run(
        capsys, "doctor", "--home", tmp_path / "home", "--config", config, "--json"
    )

    assert code == 0
    assert all(_checks(out).values())
    assert {"server", "clock", "artefacts root", "enrolment", "disk"} <= set(_checks(out))


@pytest.mark.parametrize(
    ("settings", "failing"),
    [
        ({"server": "http://127.0.0.1:1"}, "server"),
        ({"artefacts_root": "missing.json"}, "artefacts root"),
        ({"enrol_token_file": "missing"}, "enrolment"),
        ({"report_s": 0}, "settings"),
        ({"serber": "x"}, "settings"),
    ],
)
def test_doctor_names_what_is_wrong(capsys, plane, tmp_path, settings, failing):
    """One thing wrong is one failed check, with something to do about it."""
    config = device_toml(plane, tmp_path / "device.toml", **settings)

    code, out, _ = _run(capsys, "doctor", "--home", tmp_path, "--config", config)
    _, document, _ = _run(capsys, "doctor", "--home", tmp_path, "--config", config, "--json")

    assert code == 1
    assert "FAIL" in out
    assert [name for name, passed in _checks(document).items() if not passed] == [failing]


def test_doctor_tells_the_two_roots_apart(capsys, plane, tmp_path):
    """The root of one repository in place of the other is found before a device trusts it."""
    config = device_toml(
        plane, tmp_path / "device.toml", artefacts_root=str(plane.root_file("assignments"))
    )

    code, out, _ = _run(capsys, "doctor", "--home", tmp_path, "--config", config)

    assert code == 1
    assert "is the root of the assignments" in out


def test_files_in_the_settings_lie_beside_them(plane, tmp_path):
    """A relative path in device.toml is relative to device.toml."""
    path = device_toml(plane, tmp_path / "device.toml", artefacts_root="keys/root.json")

    assert load_config(path).artefacts_root == str(tmp_path / "keys" / "root.json")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"channel": "No Such"}, "cannot name a channel"),
        ({"port": 70_000}, "port must be"),
        ({"check_in_s": 0.0}, "check_in_s must be"),
        ({"spool_bytes": 10}, "spool_bytes must be at least"),
        ({"prot": 1}, "Did you mean 'port'"),
    ],
)
def test_wrong_settings_are_refused(plane, tmp_path, settings, words):
    """A value nothing could run with, or a key nobody knows, is named."""
    path = device_toml(plane, tmp_path / "device.toml", **settings)

    with pytest.raises(ConfigError) as caught:
        load_config(path)

    assert words in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("argv", "hint"),
    [(("statsu",), "'status'?"), (("status", "--hme", "x"), "--hme: Did you mean '--home'?")],
)
def test_a_mistyped_word_is_told_its_nearest(argv, hint, capsys):
    """A verb or an option, with the exit code of a wrong usage."""
    with pytest.raises(SystemExit) as caught:
        main(argv)

    assert caught.value.code == 2
    assert hint in capsys.readouterr().err
