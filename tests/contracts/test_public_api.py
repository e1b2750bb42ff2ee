"""The names others may rely on are the stored ones."""

import json
import subprocess
import sys

import pytest
from tools.public_api import SOURCE, STORED, public_api

import edgewright


def test_the_public_names_are_the_stored_ones():
    """A change that is meant is written down: python tools/public_api.py --write."""
    assert "\n".join(public_api(SOURCE)) == STORED.read_text().rstrip("\n")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("def load(source, *, threads=1): ...", "door.load(source, *, threads=1)"),
        (
            "class Engine:\n    name: str\n    def run(self, x): ...",
            "door.Engine.run(self, x)",
        ),
        ("__all__ = ['a']\ndef a(): ...\ndef b(): ...", "door.a()"),
        ("TABLE = {}", "door.TABLE"),
    ],
)
def test_a_change_of_a_front_door_is_seen(tmp_path, monkeypatch, change, expected):
    """A function, a method, a name left out of __all__, a constant."""
    monkeypatch.setattr("tools.public_api.ALSO", ())
    (tmp_path / "door").mkdir()
    (tmp_path / "door" / "__init__.py").write_text(change)

    names = public_api(tmp_path)

    assert expected in names
    assert "door.b()" not in names


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("edgewright", {"edgewright.core", "edgewright.toolchain", "numpy"}),
        ("edgewright.runtime", {"edgewright.toolchain", "numpy", "onnxruntime", "onnx"}),
        ("edgewright.agent.main", {"edgewright.toolchain", "numpy", "tuf", "ssl", "sqlite3"}),
    ],
)
def test_a_front_door_loads_little(module, absent):
    """Importing it, in a process of its own, leaves what is heavy where it is."""
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    assert not absent & set(json.loads(loaded))


def test_what_the_package_offers():
    """The version, and optimize when it is asked for; nothing else."""
    assert edgewright.__all__ == ["__version__", "optimize"]
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        edgewright.optimise  # noqa: B018
