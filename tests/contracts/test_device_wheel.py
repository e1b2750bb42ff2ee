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
    """The Python of a fresh environment with the wheel and what it asks for, no more."""
    folder = tmp_path_factory.mktemp("alone")
    _run(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    _install(python, wheel)
    return python


def _install(python, *what):
    quiet = ("--quiet", "--quiet", "--disable-pip-version-check")
    _run(python, "-m", "pip", "install", *quiet, *what)


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


def test_alone_on_a_device_it_works(alone, tmp_path, scale):
    """Nothing it must not have is there, the agent starts, and the device's tests pass.

    One test, because the environment is empty only before the tools of tests are in it.
    """
    assert _found(alone, tmp_path) == []
    help_text = _run(alone.parent / "edgewright-agent", "--help", cwd=tmp_path)
    assert {"run", "status", "why", "models", "probe", "doctor"} <= set(help_text.split())

    # onnx makes the small models that tests pack; nothing installed imports it.
    _install(alone, "pytest", "hypothesis", "onnx")
    told = _tests_of_the_device(alone, tmp_path, scale)

    assert len(re.findall(r"\d+ passed", told)) == (1 if scale == "full" else 2)


def _found(python, folder):
    """Return which of our upper floors, and of the libraries they need, can be imported."""
    names = [f"edgewright.{name}" for name in ABSENT]
    names += ["onnx", "onnx_ir", "starlette", "sqlalchemy", "rich"]
    code = (
        "import importlib.util, json, sys, edgewright.runtime, edgewright.agent\n"
        "print(json.dumps([n for n in sys.argv[1:] if importlib.util.find_spec(n)]))"
    )
    return json.loads(_run(python, "-c", code, *names, cwd=folder))


def _tests_of_the_device(python, folder, scale):
    """Run tests/agent and tests/wire with the installed wheel and not the source."""
    for name in ("agent", "wire", "sim"):
        shutil.copytree(ROOT / "tests" / name, folder / "tests" / name)
    shutil.copy(ROOT / "tests" / "conftest.py", folder / "tests")
    project = (ROOT / "pyproject.toml").read_text()
    options = project[project.index("[tool.pytest.ini_options]") :]
    options = options.partition("[tool.importlinter]")[0].replace('["src", "."]', '["."]')
    (folder / "pyproject.toml").write_text(options)
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))
    }
    environment["PATH"] = f"{python.parent}:{environment['PATH']}"

    where = _run(python, "-c", "import edgewright; print(edgewright.__file__)", cwd=folder)
    assert "site-packages" in where
    command = (python, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    if scale == "full":
        return _run(*command, "tests/agent", "tests/wire", cwd=folder, env=environment)
    # The slow ones run against the source in this very campaign; here, the main road.
    quick = _run(
        *(*command, "-m", "not slow", "tests/agent", "tests/wire"), cwd=folder, env=environment
    )
    road = ("tests/agent/test_supervisor.py", "-k", "way_of_a_release or wrongly_is_refused")
    return quick + _run(*command, *road, cwd=folder, env=environment)
