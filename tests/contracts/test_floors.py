"""The import contracts: they hold, and each of them refuses what it is there to refuse."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]

# For each contract: a module, and what it must not import, also inside a function.
PLANTED = {
    "floors": ("core/units.py", "import edgewright.wire.version"),
    "toolchain": ("toolchain/ir/__init__.py", "import edgewright.toolchain.planner"),
    "fleet": ("fleet/store/__init__.py", "import edgewright.fleet.registry"),
    "agent": ("agent/gate.py", "import edgewright.agent.courier"),
    "siblings": (
        "toolchain/techniques/fuse/__init__.py",
        "import edgewright.toolchain.techniques.quantize",
    ),
    "light-device": ("monitor/sketch.py", "def f():\n    import rich.table"),
    "agent-starts-processes": (
        "agent/slots.py",
        "def f():\n    import edgewright.bundle.install",
    ),
    "resident": ("agent/slots.py", "def f():\n    import edgewright.wire.http"),
    "live-statistics": ("monitor/sketch.py", "import numpy"),
    "any-engine": ("runtime/requests.py", "def f():\n    import numpy as np"),
    "http-is-a-shell": ("fleet/registry.py", "import starlette"),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the source with the project's contracts."""
    folder = tmp_path_factory.mktemp("floors")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def _lint(folder, *arguments):
    return subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-logo", "--no-cache", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_contract_has_a_planted_violation():
    """None is added without showing that it refuses something."""
    assert {contract["id"] for contract in CONTRACTS} == set(PLANTED)


@pytest.mark.slow
def test_the_contracts_hold(copy):
    """The source as it is breaks none."""
    linted = _lint(copy)

    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.slow
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract["id"])
def test_a_violation_is_caught(copy, contract):
    """One import that must not be breaks the contract that forbids it, by name."""
    module, line = PLANTED[contract["id"]]
    path = copy / "src" / "edgewright" / module
    before = path.read_text()

    path.write_text(f"{before}\n\n{line}\n")
    try:
        linted = _lint(copy, "--contract", contract["id"])
    finally:
        path.write_text(before)

    assert linted.returncode == 1, linted.stdout + linted.stderr
    assert f"{contract['name']} BROKEN" in " ".join(linted.stdout.split())


@pytest.mark.slow
def test_a_module_on_no_floor_is_caught(copy):
    """The list of floors is exhaustive: a new folder must be given its place."""
    path = copy / "src" / "edgewright" / "elsewhere.py"

    path.write_text('"""A module nobody gave a floor."""\n')
    try:
        linted = _lint(copy, "--contract", "floors")
    finally:
        path.unlink()

    assert linted.returncode == 1
    assert "elsewhere" in linted.stdout + linted.stderr
