"""The device wheel: built, installed alone, and the device's tests run against it."""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edgewright

ROOT = Path(__file__).resolve().parents[2]
# What decisions.md allows a device: six libraries.
LIBRARIES = {"onnxruntime", "numpy", "msgspec", "tuf", "cryptography", "zstandard"}
FLOORS = {"core", "bundle", "wire", "monitor", "runtime", "agent"}
ABSENT = ("toolchain", "fleet", "cli", "simulate")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built as ``make wheels`` builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    _run(
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        folder,
        ROOT / "packaging" / "device",
    )
    (built,) = folder.glob("edgewright_device-*.whl")
    return built


@pytest.fixture(scope="module")
def alone(wheel, tmp_path_factory):
    """A fresh environment with the wheel, what it asks for, and what runs its tests."""
    folder = tmp_path_factory.mktemp("alone")
    _run(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    tools = ["pytest", "hypothesis"]
    _run(
        python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, *tools
    )
    return python


def _run(*command, **options):
    ran = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, **options
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    return ran.stdout


def test_it_holds_the_device_floors_and_nothing_else(wheel):
    """Every file of the six floors, the package itself, the licence; no cache."""
    names = zipfile.ZipFile(wheel).namelist()
    modules = {name.split("/")[1] for name in names if name.startswith("edgewright/")}
    source = {
        f"edgewright/{path.relative_to(ROOT / 'src' / 'edgewright')}"
        for floor in FLOORS
        for path in (ROOT / "src" / "edgewright" / floor).rglob("*")
        if path.suffix in {".py", ".toml"}
    }

    assert modules == {*FLOORS, "__init__.py", "py.typed"}
    assert source <= set(names)
    assert not [name for name in names if "__pycache__" in name]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_it_asks_for_six_libraries(wheel):
    """And has the version of the source."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    asked = {re.match(r"[\w-]+", line)[0] for line in metadata.get_all("Requires-Dist")}

    assert metadata["Version"] == edgewright.__version__
    assert asked == LIBRARIES


def test_what_a_device_must_not_have_is_absent(alone, tmp_path):
    """Neither our own upper floors nor the libraries they need."""
    names = [f"edgewright.{name}" for name in ABSENT] + [
        "onnx",
        "starlette",
        "sqlalchemy",
        "rich",
    ]
    code = (
        "import importlib.util, json, sys, edgewright.runtime, edgewright.agent\n"
        "print(json.dumps([n for n in sys.argv[1:] if importlib.util.find_spec(n)]))"
    )

    found = json.loads(_run(alone, "-c", code, *names, cwd=tmp_path))

    assert found == []


def test_the_agent_starts(alone, tmp_path):
    """Its help names its verbs."""
    help_text = _run(alone.parent / "edgewright-agent", "--help", cwd=tmp_path)

    assert "run" in help_text
    assert "status" in help_text


def test_the_devices_tests_pass_against_it(alone, tmp_path):
    """tests/agent and tests/wire, with the installed wheel and not the source."""
    for name in ("agent", "wire", "sim"):
        shutil.copytree(ROOT / "tests" / name, tmp_path / "tests" / name)
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    project = (ROOT / "pyproject.toml").read_text()
    options = project[project.index("[tool.pytest.ini_options]") :].partition(
        "[tool.importlinter]"
    )
    (tmp_path / "pyproject.toml").write_text(options[0].replace('["src", "."]', '["."]'))
    shutil.copytree(ROOT / "examples", tmp_path / "examples")

    where = _run(alone, "-c", "import edgewright; print(edgewright.__file__)", cwd=tmp_path)
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))
    }
    told = _run(
        alone, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/agent", "tests/wire",
        cwd=tmp_path, env=environment,
    )  # fmt: skip

    assert "site-packages" in where
    assert re.search(r"\d+ passed", told)
