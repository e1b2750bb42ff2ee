"""``edgewright fleet``: devices, releases and the audit, for people and for programs."""

import json
from contextlib import closing

import pytest
from tests.sim.plane import SimDevice, publish, roll_out, running, until

from edgewright.cli import fleet, main
from edgewright.fleet import access
from edgewright.wire.http import Client
from edgewright.wire.telemetry import PROBLEM


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Give a control plane that the environment names."""
    with running(tmp_path) as made:
        monkeypatch.setenv("EDGEWRIGHT_SERVER", made.url)
        token = made.plane.settings.state / "tokens" / "operate.token"
        monkeypatch.setenv("EDGEWRIGHT_TOKEN_FILE", str(token))
        yield made


def run(*argv):
    """Run a command and return its exit code."""
    return main.main(["fleet", *argv])


def test_an_empty_fleet(server, capsys):
    """Nothing there is said in words."""
    assert server.url
    assert run("list") == 0
    assert "no devices are enrolled" in capsys.readouterr().out
    assert run("releases") == 0
    assert "nothing is published" in capsys.readouterr().out


def test_devices_and_what_they_serve(server, tmp_path, capsys):
    """The list has what each serves; one device is shown with its history."""
    fake = publish(server, "digits@1")
    device = SimDevice.make(server, tmp_path, "canary", labels={"canary": "yes"})
    SimDevice.make(server, tmp_path, "silent")
    roll_out(server, "digits@1", {"labels": {"canary": "yes"}}, {"bp": 10_000})
    device.confirm("digits@1", fake.digest, answered=60, failed=1)
    device.check_in((PROBLEM, {"code": "transport_error", "message": "no answer"}))

    assert run("list") == 0
    listed = capsys.readouterr().out
    assert run("show", "canary") == 0
    shown = capsys.readouterr().out
    assert run("show", device.id, "--json") == 0
    document = json.loads(capsys.readouterr().out)

    assert "canary=yes" in listed
    assert "never" in listed
    for text in ("serves digits@1", "assigned digits@1", "confirmed", "transport_error"):
        assert text in shown
    assert document["answered"] == 60
    assert document["queues"][0]["applied"] == 4


def test_names_that_do_not_name_one(server, tmp_path, capsys):
    """A name nobody or more than one has is not guessed at."""
    (tmp_path / "more").mkdir()
    SimDevice.make(server, tmp_path, "twin")
    SimDevice.make(server, tmp_path / "more", "twin")

    assert run("show", "nobody") == 1
    assert "no device is called 'nobody'" in capsys.readouterr().err
    assert run("show", "twin") == 2
    assert "2 devices are called 'twin'" in capsys.readouterr().err
    assert run("show", "dev-unknown") == 1


def test_releases_and_the_audit(server, capsys):
    """What was published and who did it, in the order it happened."""
    fake = publish(server, "digits@1")

    assert run("releases") == 0
    assert fake.hex[:12] in capsys.readouterr().out
    assert run("audit") == 0
    assert "release.publish" in capsys.readouterr().out
    assert run("audit", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["audit"]
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))


def test_the_audit_names_what_a_rollout_is_about(server, tmp_path, capsys):
    """Every row on a rollout has the release, the channel and the waves, in words and data."""
    fake = publish(server, "digits@1")
    device = SimDevice.make(server, tmp_path, "canary", labels={"canary": "yes"})
    SimDevice.make(server, tmp_path, "other")
    rollout = roll_out(server, "digits@1", {"labels": {"canary": "yes"}}, {"bp": 10_000})
    device.confirm("digits@1", fake.digest)
    place, client = f"/v1/rollouts/{rollout}", server.client()
    until(lambda: client.call("GET", place)["open_waves"] == 2)
    for verb in ("pause", "resume", "abort"):
        client.call("POST", f"{place}/{verb}")

    assert run("audit") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "rollout." in line]
    details = [row["detail"] for row in server.audit() if row["object"] == rollout]

    assert len(lines) == len(details) == 5
    for line, detail in zip(lines, details, strict=True):
        assert "digits@1 in stable: canary=yes,100% then 100%" in line
        assert (detail["release"], detail["channel"]) == ("digits@1", "stable")
        assert [wave["labels"] for wave in detail["waves"]] == [{"canary": "yes"}, {}]
    (opened,) = (line for line in lines if "rollout.open_wave" in line)
    assert "wave 1 of 2" in opened


def test_a_row_of_before_is_still_shown():
    """A rollout's row that does not name its waves is not in the way of the others."""
    assert fleet._about({"action": "rollout.pause", "detail": {"was": "running"}}) == ""


def test_tokens_are_made_listed_and_revoked(server, tmp_path, capsys):
    """The secret goes to standard output alone, or to a file nobody else can read."""
    assert run("tokens", "create", "--scope", "operate") == 0
    told = capsys.readouterr()
    file = tmp_path / "enrol.token"
    assert run("tokens", "create", "--scope", "enrol", "-o", str(file), "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert run("tokens", "list") == 0
    listed = capsys.readouterr().out
    assert run("tokens", "revoke", made["token"]) == 0

    with closing(Client(server.url, token=told.out.strip())) as client:
        assert len(client.call("GET", "/v1/tokens")["tokens"]) == 4
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().startswith("ew_enrol_")
    assert "secret" not in made
    assert listed.count("yours") == 1
    assert listed.count("tok_") == 4
    assert "lets nobody in since" in capsys.readouterr().out
    revoked = [row for row in server.audit() if row["action"] == "token.revoke"]
    assert [row["object"] for row in revoked] == [f"enrol:{made['token']}"]


@pytest.mark.usefixtures("server")
def test_the_last_operator_needs_force(capsys):
    """Refused with the way out; done when it is insisted on."""
    assert run("tokens", "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["tokens"]
    (token,) = (one["token"] for one in listed if one["yours"])

    assert run("tokens", "revoke", token) == 1
    assert "--force" in capsys.readouterr().err
    assert run("tokens", "revoke", token, "--force") == 0
    assert run("tokens", "list") == 1
    assert "not known" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "code", "made"),
    [("there", 2, 0), ("there/below", 1, 1)],
    ids=["taken", "cannot be written"],
)
def test_a_token_nobody_got_is_good_for_nothing(server, tmp_path, name, code, made):
    """No file is overwritten, and what could not be stored is revoked."""
    (tmp_path / "there").write_text("mine")

    assert run("tokens", "create", "--scope", "operate", "-o", str(tmp_path / name)) == code

    assert (tmp_path / "there").read_text() == "mine"
    listed = server.client().call("GET", "/v1/tokens")["tokens"]
    assert len(listed) == 2 + made
    assert sum(one["revoked_at"] is not None for one in listed) == made


def test_the_scopes_of_the_help_are_those_there_are():
    """The command names them without importing what has them."""
    assert fleet._SCOPES == access.SCOPES
