"""config: a file becomes a value, or an error that names file, place and nearest key."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgewright.core import config
from edgewright.core.errors import ConfigError


@dataclass(frozen=True)
class Link:
    """A part of the file below."""

    url: str
    timeout_s: float = 10.0


@dataclass(frozen=True)
class Settings:
    """A file as small as one can be and still show each case."""

    name: str
    link: Link
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an empty name."""
        if not self.name:
            raise ValueError("name must not be empty")


GOOD = 'name = "a"\n[link]\nurl = "http://x"\ntimeout_s = 3\n[labels]\ncanary = "yes"\n'


def test_a_good_file(tmp_path):
    """Every value where it belongs; a whole number may stand for a float."""
    path = tmp_path / "device.toml"
    path.write_text(GOOD)

    assert config.load(Settings, path) == Settings(
        "a", Link("http://x", 3.0), {"canary": "yes"}
    )


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            GOOD.replace("timeout_s", "timeot_s"),
            "unknown key 'timeot_s' in link",
            "'timeout_s'",
        ),
        (GOOD + "[lnk]\n", "unknown key 'lnk'", "'link'"),
        (GOOD.replace("= 3", '= "3"'), "link.timeout_s must be number, got '3'", ""),
        (GOOD.replace("= 3", "= true"), "link.timeout_s must be number, got True", ""),
        (GOOD.replace('"yes"', "1"), "labels.canary must be string, got 1", ""),
        ('name = "a"\nlink = 7\n', "link must be a table, got int", ""),
        ('name = "a"\n[link]\n', "link.url is missing", ""),
        (GOOD.replace('"a"', '""'), "name must not be empty", ""),
        ("name = ", "Invalid value", ""),
    ],
)
def test_a_wrong_file(tmp_path, text, message, hint):
    """One ConfigError with the file's path, the place and the nearest known key."""
    path = tmp_path / "device.toml"
    path.write_text(text)

    with pytest.raises(ConfigError) as refused:
        config.load(Settings, path)

    assert str(path) in str(refused.value)
    assert message in str(refused.value)
    assert hint in refused.value.hint


@pytest.mark.parametrize("kind", ["nothing", "folder", "not text"])
def test_what_is_no_file(tmp_path, kind):
    """Also a ConfigError."""
    path = tmp_path / "device.toml"
    if kind == "folder":
        path.mkdir()
    if kind == "not text":
        path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ConfigError, match=r"device\.toml"):
        config.load(Settings, path)


@pytest.mark.parametrize(
    ("value", "home"),
    [(None, "/var/lib/edgewright"), ("", "/var/lib/edgewright"), ("/data/ew", "/data/ew")],
)
def test_the_home_folder(monkeypatch, value, home):
    """From the environment; unset and empty both mean the default."""
    monkeypatch.delenv("EDGEWRIGHT_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("EDGEWRIGHT_HOME", value)

    assert config.home() == Path(home)
