"""Which control plane is meant: options over environment over the person's file."""

from argparse import Namespace

import pytest

from edgewright.cli import remote
from edgewright.core.errors import ConfigError, UsageError


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Give a home folder with three tokens and no settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in (remote.SERVER_VARIABLE, remote.TOKEN_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    for name in ("option", "environment", "file"):
        (tmp_path / name).write_text(f"token of {name}\n")
    return tmp_path


def chosen(server=None, token_file=None):
    """Return the address and the header that a command would use."""
    with remote.connected(Namespace(server=server, token_file=token_file)) as client:
        return client._name, client._headers["Authorization"]


def write_settings(home, text):
    """Write the person's file."""
    path = home / ".config" / "edgewright" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_what_is_said_comes_first(home, monkeypatch):
    """The file is used where nothing else speaks, and ``~`` is the home folder."""
    write_settings(home, 'server = "http://file:1"\ntoken_file = "~/file"\n')
    assert chosen() == ("http://file:1", "Bearer token of file")

    monkeypatch.setenv(remote.SERVER_VARIABLE, "http://environment:1")
    monkeypatch.setenv(remote.TOKEN_VARIABLE, str(home / "environment"))
    assert chosen() == ("http://environment:1", "Bearer token of environment")

    told = chosen("http://option:1", str(home / "option"))
    assert told == ("http://option:1", "Bearer token of option")


@pytest.mark.parametrize(
    ("server", "token", "says"),
    [(None, "option", "--server"), ("http://x:1", None, "--token-file")],
)
def test_nothing_names_one(home, server, token, says):
    """The error names the option, the variable and the file."""
    with pytest.raises(UsageError, match=says) as caught:
        chosen(server, token and str(home / token))
    assert "EDGEWRIGHT_" in caught.value.hint
    assert "config.toml" in caught.value.hint


def test_what_cannot_be_read(home):
    """A missing token, a wrong address and an unknown setting are errors of ours."""
    with pytest.raises(ConfigError, match="cannot read a token"):
        chosen("http://x:1", str(home / "none"))
    with pytest.raises(ConfigError, match="not the address"):
        chosen("x:1", str(home / "option"))
    write_settings(home, 'sever = "http://file:1"\n')
    with pytest.raises(ConfigError, match="sever"):
        chosen("http://x:1", str(home / "option"))
