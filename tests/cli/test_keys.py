"""``edgewright keys``: what a person sees, and what they never see."""

import json
from datetime import UTC, datetime

import pytest
from tests.sim.plane import hand_out, running

from edgewright.bundle import signing
from edgewright.cli.main import main


def test_init_and_show(tmp_path, capsys):
    """Keys are made, and shown by role with threshold, ids, version and days left."""
    keys = str(tmp_path / "keys")

    assert main(["keys", "init", keys, "--root-keys", "3", "--root-threshold", "2"]) == 0
    assert main(["keys", "show", keys, "--json"]) == 0

    made, shown = capsys.readouterr().out.split("\n{", 1)
    assert "2 of 3 root keys" in made
    roles = {(r["repository"], r["role"]): r for r in json.loads("{" + shown)["roles"]}
    root = roles["artefacts", "root"]
    assert (root["threshold"], sorted(root["keys"])) == (2, ["root-1", "root-2", "root-3"])
    assert (root["version"], root["days_left"]) == (1, 364)
    assert roles["artefacts", "timestamp"]["days_left"] == 29
    assert roles["assignments", "targets"]["days_left"] is None


def test_a_table_for_people(tmp_path, capsys):
    """Without ``--json`` each role is a line; what expires soon is marked."""
    keys = tmp_path / "keys"
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    signing.init(keys, root_keys=1, root_threshold=1, now=long_ago)

    assert main(["keys", "show", str(keys)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "repository",
        "role",
        "signs",
        "keys",
        "version",
        "days",
        "left",
    ]
    assert len(lines) == 9
    assert "EXPIRED" in lines[1]
    assert "online" in lines[-1]


def test_rotate(tmp_path, capsys):
    """The answer names the new key, the roots, and what to do next."""
    keys = str(tmp_path / "keys")
    main(["keys", "init", keys, "--root-keys", "1", "--root-threshold", "1", "--json"])
    capsys.readouterr()

    assert main(["keys", "rotate", keys, "root-1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert main(["keys", "rotate", keys, "assignments"]) == 0
    text = capsys.readouterr().out

    assert document["roots"] == {"artefacts": 2, "assignments": 2}
    assert len(document["key_id"]) == 64
    assert "root 3 of assignments" in text
    assert "Restart the control plane" in text


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["init", "DIR"], 1, "is not empty"),
        (["init", "OTHER", "--root-keys", "2"], 2, "3 of 2 root keys"),
        (["rotate", "DIR", "targets"], 2, "no key is called 'targets'"),
        (["show", "OTHER"], 1, "there is no"),
        (
            ["refresh", "DIR", "--server", "http://127.0.0.1:9", "--token-file", "OTHER"],
            2,
            "token",
        ),
    ],
    ids=["keys are there", "threshold", "role", "no keys", "no token"],
)
def test_refusals(tmp_path, capsys, argv, code, said):
    """Message and hint on standard error, and the exit code of the error."""
    keys = tmp_path / "keys"
    signing.init(keys, root_keys=1, root_threshold=1, now=datetime.now(UTC))
    places = {"DIR": str(keys), "OTHER": str(tmp_path / "other")}

    assert main(["keys", *(places.get(word, word) for word in argv)]) == code

    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_no_private_key_is_ever_printed(tmp_path, capsys):
    """No command prints what is between the lines of a key file."""
    keys = str(tmp_path / "keys")

    for argv in (
        ["init", keys],
        ["show", keys],
        ["show", keys, "--json"],
        ["rotate", keys, "root-2", "--json"],
        ["rotate", keys, "releases"],
    ):
        main(["keys", *argv])

    captured = capsys.readouterr()
    secrets = [
        p.read_text().splitlines()[1] for p in (tmp_path / "keys" / "private").iterdir()
    ]
    assert len(secrets) == 8
    assert not any(secret in captured.out + captured.err for secret in secrets)


@pytest.mark.slow
def test_refresh(tmp_path, capsys):
    """A running control plane hands out what was signed anew."""
    with running(tmp_path) as plane:
        token = plane.plane.settings.state / "tokens" / "operate.token"
        where = ["--server", plane.url, "--token-file", str(token)]

        assert main(["keys", "refresh", str(plane.keys), *where, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert main(["keys", "refresh", str(plane.keys), *where, "--targets"]) == 0
        text = capsys.readouterr().out

        assert (document["metadata_version"], document["targets_signed"]) == (2, False)
        assert "signed targets, snapshot and timestamp anew: metadata 3" in text
        assert json.loads(hand_out(plane)["timestamp.json"])["signed"]["version"] == 3
