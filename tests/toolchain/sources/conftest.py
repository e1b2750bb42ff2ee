"""Files of torch's, written once in a process of their own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_WRITE = "import nets, pathlib; nets.write(pathlib.Path())"
NETS = Path(__file__).resolve().parents[2] / "sim" / "nets.py"


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Return a folder with a model in every form torch writes."""
    folder = tmp_path_factory.mktemp("nets")
    shutil.copy(NETS, folder)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _WRITE],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def here(written, tmp_path, monkeypatch):
    """Stand in a copy of that folder, to do with as one likes."""
    shutil.copytree(written, tmp_path / "nets")
    monkeypatch.chdir(tmp_path / "nets")
    return tmp_path / "nets"
