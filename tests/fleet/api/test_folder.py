"""The state folder: a first start that fails leaves nothing, a later one what can be used."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest
from tests.sim.plane import make_keys

from edgewright.core.errors import ConflictError, StorageError
from edgewright.fleet.api import folder
from edgewright.wire.http import Client


def command(place, *, trust=None, key=None, port=0):
    """Return the command line of a server with its state below ``place``."""
    keys = make_keys(place)
    return [
        *(sys.executable, "-m", "edgewright.cli.main", "serve"),
        *("--state", str(place / "above" / "state")),
        *("--trust", str(trust or keys / "public")),
        *("--assignments-key", str(key or keys / "private" / "assignments.key")),
        *("--port", str(port)),
    ]


def refused(argv):
    """Run a server that cannot start; return what it says."""
    done = subprocess.run(argv, capture_output=True, timeout=60, check=False, text=True)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def works(place):
    """Start a server, let its operator in, and end it."""
    with subprocess.Popen(command(place), stdout=subprocess.PIPE) as process:
        try:
            url = process.stdout.readline().decode().strip()
            token = (place / "above" / "state" / "tokens" / "operate.token").read_text()
            client = Client(url, token=token.strip())
            assert client.call("GET", "/v1/releases")["releases"] == []
            client.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
    return token


def everything(place):
    """Return what lies below ``place``, with modes and contents."""
    return {
        path.relative_to(place): (path.stat().st_mode, path.is_file() and path.read_bytes())
        for path in [place, *place.rglob("*")]
    }


@contextmanager
def taken_port():
    """Give a port of the loopback that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def other_keys(place):
    """Make keys that are nobody else's."""
    (place / "strange").mkdir()
    return make_keys(place / "strange", strange=True)


def fail_on_the_port(place):
    """Another process has the port."""
    with taken_port() as port:
        return refused(command(place, port=port))


def fail_on_the_trust(place):
    """The folder of public keys is not there."""
    return refused(command(place, trust=place / "nowhere"))


def fail_on_the_key(place):
    """The roots are those of another fleet, which shows only after they were taken."""
    return refused(command(place, trust=other_keys(place) / "public"))


def fail_on_its_mode(place):
    """Everybody may read the key, so it is not used."""
    loose = place / "loose.key"
    loose.write_bytes((make_keys(place) / "private" / "assignments.key").read_bytes())
    loose.chmod(0o644)
    return refused(command(place, key=loose))


FAILURES = [
    (fail_on_the_port, "cannot listen"),
    (fail_on_the_trust, "there is no"),
    (fail_on_the_key, "may not sign"),
    (fail_on_its_mode, "has mode 0644"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("fail", "says"), FAILURES)
def test_a_first_start_that_fails_leaves_nothing(tmp_path, fail, says):
    """Neither the folder nor what was missing above it is there afterwards."""
    assert says in fail(tmp_path)

    assert not (tmp_path / "above").exists()
    works(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("fail", "says"), FAILURES)
def test_what_was_there_before_stays(tmp_path, fail, says):
    """A folder someone made for it keeps its mode and what lies in it."""
    state = tmp_path / "above" / "state"
    (state / "lost+found").mkdir(parents=True)
    (state / "note.txt").write_text("mine")
    state.chmod(0o750)
    before = everything(tmp_path / "above")

    assert says in fail(tmp_path)

    assert everything(tmp_path / "above") == before


@pytest.mark.slow
@pytest.mark.parametrize("fail", [fail for fail, _ in FAILURES])
def test_a_later_start_that_fails_costs_nothing(tmp_path, fail):
    """The state is still the same fleet's, and its tokens are still good."""
    token = works(tmp_path)

    assert fail(tmp_path)

    assert works(tmp_path) == token


@pytest.mark.slow
def test_an_address_that_cannot_be_written(tmp_path):
    """What is in its place is refused by name, and left alone."""
    place = tmp_path / "above" / "state" / "server.json"
    place.mkdir(parents=True)
    before = everything(tmp_path / "above")

    assert "server.json" in refused(command(tmp_path))

    assert everything(tmp_path / "above") == before


@pytest.mark.parametrize("below", ["", "state"])
def test_a_state_folder_that_cannot_be(tmp_path, below):
    """A file where the folder should be is an error of ours that names it."""
    file = tmp_path / "above"
    file.write_text("mine")

    with pytest.raises(StorageError, match="cannot use"), folder.held(file / below):
        pass

    assert file.read_text() == "mine"


def test_what_came_to_serve_is_kept(tmp_path):
    """Whatever ends the server after its first answer, the state stays."""
    state = tmp_path / "state"

    def end():
        with folder.held(state) as keep:
            (state / folder.DATABASE).touch()
            keep()
            raise StorageError("the disk is full")

    with pytest.raises(StorageError, match="full"):
        end()

    assert {path.name for path in state.iterdir()} == {folder.DATABASE, "lock"}


def test_a_second_server_takes_nothing_back(tmp_path):
    """The one that is refused leaves the first start of the other alone."""
    state = tmp_path / "state"
    with folder.held(state):
        (state / folder.DATABASE).touch()
        with pytest.raises(ConflictError, match="another server"), folder.held(state):
            pass
        assert (state / folder.DATABASE).exists()

    assert not state.exists()


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made anew"])
def test_a_lock_that_was_removed_holds_nothing(tmp_path, again):
    """Who opened it just before a failed start removed it does not share the folder."""
    path = tmp_path / "lock"
    path.touch()
    descriptor = os.open(path, os.O_RDWR)
    path.unlink()
    if again:
        path.touch()

    assert not folder._lock(descriptor, path)

    os.close(descriptor)
