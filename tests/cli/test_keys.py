"""``edgewright keys``: what a person sees, and what they never see."""

import json
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime

import pytest
from tests.sim.plane import hand_out, running

from edgewright.bundle import signing
from edgewright.bundle.keys import PrivateKey
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


def _private_bytes(folder):
    """Return, for every file that holds a whole private key below ``folder``, its key."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in paths if b"PRIVATE" in path.read_bytes()}


def _assert_only_whole_keys(folder):
    """Nothing half-made is there, and every private key lies in one file, its own."""
    assert not [path for path in folder.rglob("*") if "~" in path.name]
    found = _private_bytes(folder)
    for path, data in found.items():
        PrivateKey.load(path)
        assert path.parent.name == "private"
        assert path.suffix == ".key"
        secret = data.splitlines()[1]
        holders = [p for p in folder.rglob("*") if p.is_file() and secret in p.read_bytes()]
        assert holders == [path]


@pytest.mark.parametrize("verb", ["init", "show", "rotate", "refresh"])
def test_every_verb_removes_what_a_killed_one_left(tmp_path, verb):
    """Temporary keys, half-made folders and a copied key go; another folder's stay."""
    keys = tmp_path / "keys"
    signing.init(keys, root_keys=1, root_threshold=1, now=datetime.now(UTC))
    private = keys / "private"
    secret = private / "releases.key"
    shutil.copy(secret, private / "freshness.next.key.new~")
    shutil.copy(secret, private / "releases.next.key")
    shutil.copy(
        keys / "public/artefacts/1.root.json", keys / "public/artefacts/2.root.json.new~"
    )
    for other in ("keys.new~", "keys.new~.new~", "others.new~"):
        shutil.copytree(keys / "private", tmp_path / other / "private")
    more = {
        "init": [],
        "show": [],
        "rotate": ["root-1"],
        "refresh": ["--server", "http://127.0.0.1:9", "--token-file", "none"],
    }

    main(["keys", verb, str(keys), *more[verb]])

    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys", "others.new~"]
    shutil.rmtree(tmp_path / "others.new~")
    _assert_only_whole_keys(tmp_path)
    assert len(_private_bytes(tmp_path)) == 4


def test_a_rotation_that_was_begun_keeps_its_key(tmp_path):
    """A new key that is not in use yet is what finishing the rotation needs."""
    keys = tmp_path / "keys"
    signing.init(keys, root_keys=1, root_threshold=1, now=datetime.now(UTC))
    begun = PrivateKey.create(keys / "private" / "releases.next.key").public

    assert main(["keys", "show", str(keys)]) == 0
    assert main(["keys", "rotate", str(keys), "releases"]) == 0

    assert PrivateKey.load(keys / "private" / "releases.key").public == begun
    _assert_only_whole_keys(tmp_path)


_WORK = textwrap.dedent(
    """
    import sys
    from edgewright.bundle import signing  # before it is timed
    from edgewright.cli.main import main
    folder, number = sys.argv[1], int(sys.argv[2])
    print("ready", flush=True)
    while True:
        keys = f"{folder}/keys-{number}"
        print(number, flush=True)
        main(["keys", "init", keys, "--root-keys", "2", "--root-threshold", "1", "--json"])
        for name in ("releases", "root-1", "assignments"):
            main(["keys", "rotate", keys, name, "--json"])
        number += 1
    """
)


@pytest.mark.slow
def test_a_kill_leaves_no_private_key_behind(tmp_path, scale):
    """SIGKILL at any moment: after the next command only whole keys are there."""
    chance = random.Random(8)  # noqa: S311  moments, not secrets
    for round_ in range(200 if scale == "full" else 12):
        folder = tmp_path / str(round_)
        folder.mkdir()
        child = subprocess.Popen(
            [sys.executable, "-c", _WORK, str(folder), "0"], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.0, 0.15))
        child.send_signal(signal.SIGKILL)
        said = child.stdout.read().split("\n")
        child.wait()
        child.stdout.close()
        last = max((int(line) for line in said if line.isdigit()), default=0)

        main(["keys", "show", f"{folder}/keys-{last}"])

        _assert_only_whole_keys(folder)
        if (folder / f"keys-{last}").exists():
            names = {path.name for path in (folder / f"keys-{last}/private").iterdir()}
            assert names >= {"root-1.key", "root-2.key", "releases.key"}
