"""``edgewright rollout``: what is typed becomes what is meant, and what happens is shown."""

import json
import threading

import pytest
from tests.sim.plane import SimDevice, publish, running, until

from edgewright.cli import main, rollout
from edgewright.core.errors import UsageError
from edgewright.wire.feedback import REFUSED

CANARY = {"canary": "yes"}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Give a control plane that the environment names, with a canary and another."""
    with running(tmp_path) as made:
        monkeypatch.setenv("EDGEWRIGHT_SERVER", made.url)
        token = made.plane.settings.state / "tokens" / "operate.token"
        monkeypatch.setenv("EDGEWRIGHT_TOKEN_FILE", str(token))
        made.canary = SimDevice.make(made, tmp_path, "canary", labels=CANARY)
        made.other = SimDevice.make(made, tmp_path, "other")
        yield made


def run(*argv):
    """Run a command and return its exit code."""
    return main.main(["rollout", *argv])


def started(capsys, *more):
    """Start a rollout of digits@1 in two waves and return its id."""
    waves = ("--wave", "canary=yes", "--wave", "100%")
    code = run("start", "digits@1", "--channel", "stable", *waves, "--json", *more)
    assert code == 0
    return json.loads(capsys.readouterr().out)["rollout"]


@pytest.mark.parametrize(
    ("text", "wave"),
    [
        ("canary=yes", {"labels": CANARY, "bp": 10_000}),
        ("100%", {"labels": {}, "bp": 10_000}),
        ("0.5%", {"labels": {}, "bp": 50}),
        ("site=lab, line=2, 10%", {"labels": {"site": "lab", "line": "2"}, "bp": 1000}),
    ],
)
def test_waves_as_people_write_them(text, wave):
    """Labels and a share, in any order; what is shown of a wave can be typed again."""
    assert rollout.parse_wave(text) == wave
    assert rollout.parse_wave(rollout.show_wave(wave)) == wave


@pytest.mark.parametrize(
    "text", ["", "canary", "canary=", "=yes", "10%,20%", "101%", "-1%", "0.001%", "x%", "NaN%"]
)
def test_waves_nobody_can_mean(text):
    """Anything else is refused, with how to write it."""
    with pytest.raises(UsageError):
        rollout.parse_wave(text)


def test_every_limit_reaches_the_gate(server, capsys):
    """What is typed in percent, times and factors is what the server judges by."""
    publish(server, "digits@1")
    name = started(
        capsys,
        *("--min-confirmed", "90%", "--min-inferences", "7", "--max-error", "0.5%"),
        *("--max-slowdown", "1.5", "--max-failed", "2", "--soak", "5s", "--deadline", "10m"),
    )

    assert server.client().call("GET", f"/v1/rollouts/{name}")["gate"] == {
        "min_confirmed_bp": 9000,
        "min_inferences": 7,
        "max_error_bp": 50,
        "max_slowdown_bp": 15_000,
        "max_failed": 2,
        "soak_s": 5,
        "deadline_s": 600,
    }


@pytest.mark.parametrize(
    "more", [("--soak", "1.5s"), ("--max-slowdown", "fast"), ("--max-error", "2")]
)
def test_limits_nobody_can_mean(server, capsys, more):
    """A limit that is none is a usage error, and nothing is started."""
    publish(server, "digits@1")
    waves = ("--wave", "100%")

    assert run("start", "digits@1", "--channel", "stable", *waves, *more) == 2
    assert capsys.readouterr().err
    assert server.client().call("GET", "/v1/rollouts")["rollouts"] == []


def test_watching_to_a_good_end(server, capsys):
    """Without a terminal there is one line per change, and exit code 0 at the end."""
    fake = publish(server, "digits@1")
    name = started(capsys)
    server.canary.confirm("digits@1", fake.digest)
    timer = threading.Timer(1.0, server.other.confirm, ("digits@1", fake.digest))
    timer.start()

    code = run("watch", name)

    timer.join()
    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert f"{name} digits@1 running: wave 2 of 2: 0 of 1 devices confirmed" in lines
    assert lines[-1].startswith(f"{name} digits@1 done: 1 of 1 devices confirmed")
    assert len(lines) == len(set(lines))


def test_waiting_for_a_bad_end(server, capsys):
    """A halted rollout is exit code 1, and the reason is the last thing said."""
    fake = publish(server, "digits@1")
    told = server.canary.tells(REFUSED, "digits@1", fake.digest, reason="golden 0/16")
    timer = threading.Timer(1.0, server.canary.check_in, (told,))
    timer.start()
    waves = ("--wave", "canary=yes", "--wave", "100%")

    code = run("start", "digits@1", "--channel", "stable", *waves, "--wait", "--json")

    timer.join()
    document = json.loads(capsys.readouterr().out)
    assert code == 1
    assert document["state"] == "halted"
    assert "golden 0/16" in document["reason"]


def test_pausing_resuming_aborting(server, capsys):
    """Each verb takes the newest rollout when none is named."""
    publish(server, "digits@1")
    name = started(capsys)

    for verb, state in (("pause", "paused"), ("resume", "running"), ("abort", "halted")):
        assert run(verb) == 0
        assert f"{name} digits@1 {state}" in capsys.readouterr().out
    assert run("resume") == 1
    assert "halted" in capsys.readouterr().err
    assert run("watch", name) == 1


def test_listing_and_showing(server, capsys):
    """People see waves, devices and decisions; programs see all of it."""
    fake = publish(server, "digits@1")
    name = started(capsys)
    server.canary.confirm("digits@1", fake.digest)
    client = server.client()
    until(lambda: client.call("GET", f"/v1/rollouts/{name}")["open_waves"] == 2)

    assert run("list") == 0
    listed = capsys.readouterr().out
    assert run("show") == 0
    shown = capsys.readouterr().out
    assert run("show", name, "--json") == 0
    document = json.loads(capsys.readouterr().out)

    assert name in listed
    assert "canary=yes" in shown
    assert "continue: 1 of 1 devices confirmed" in shown
    assert document["open_waves"] == 2


@pytest.mark.slow
def test_a_p99_that_is_not_judged_does_not_look_judged(server, capsys):
    """The status says how many answers there are of how many, and so does the decision."""
    old, new = publish(server, "digits@1"), publish(server, "digits@2")
    started(capsys)
    server.canary.confirm("digits@1", old.digest, answered=400)
    server.other.confirm("digits@1", old.digest, answered=400)
    assert run("watch") == 0
    assert "; p99 not judged: no base" in capsys.readouterr().out
    waves = ("--wave", "canary=yes", "--wave", "100%", "--min-inferences", "50")
    assert run("start", "digits@2", "--channel", "stable", *waves) == 0
    server.canary.confirm("digits@2", new.digest, answered=96)
    until(
        lambda: server.client().call("GET", "/v1/rollouts")["rollouts"][1]["open_waves"] == 2
    )
    capsys.readouterr()

    assert run("show") == 0
    shown = capsys.readouterr().out

    assert "96 inferences within limits; p99 not judged: 96 of 300 answers" in shown
    assert "\nwave 2: p99 not judged: 0 of 300 answers\n" in shown


def test_a_wave_without_devices_is_warned_of(server, capsys):
    """A label nobody carries is said on standard error."""
    publish(server, "digits@1")
    waves = ("--wave", "canari=yes", "--wave", "100%")

    assert run("start", "digits@1", "--channel", "stable", *waves) == 0
    assert "warning: wave 1 has no devices" in capsys.readouterr().err


def test_nothing_was_rolled_out_yet(server, capsys):
    """An empty list is said in words, and there is no newest to show."""
    assert server.url
    assert run("list") == 0
    assert "no rollouts yet" in capsys.readouterr().out
    assert run("show") == 1
    assert "there is no rollout yet" in capsys.readouterr().err
