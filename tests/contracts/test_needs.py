"""How tests are run: a missing need is a skip here and a failure in CI; nothing else is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow

NEEDY = """
import pytest
@pytest.mark.needs("chromium")
def test_needy(): pass
def test_scale(scale): assert scale == "full"
"""


def _pytest(folder, text, *options, ci):
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = needs(name): x\n")
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    # A path without programs: whatever this machine has, the test below has not.
    environment = {**os.environ, "CI": ci, "PATH": str(folder)}
    environment.pop("PYTEST_ADDOPTS", None)
    plugins = ["-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", *plugins, *options, "."],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    ).stdout


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", "1 passed, 1 skipped"), ("true", "1 passed, 1 error")]
)
def test_a_missing_need(tmp_path, ci, outcome):
    """Skipped with the reason on a person's machine; failed with it where CI is set."""
    told = _pytest(tmp_path, NEEDY, "--scale", "full", ci=ci)

    assert outcome in told
    assert "needs chromium: none of chromium, chromium-browser" in told


def test_a_need_nobody_knows_is_an_error(tmp_path):
    """A typo does not switch a test off."""
    told = _pytest(tmp_path, NEEDY.replace("chromium", "chronium"), ci="")

    assert "unknown need 'chronium'" in told
    assert "1 error" in told


def test_the_scale_is_sampled_unless_asked(tmp_path):
    """The full campaigns run only when someone says so."""
    told = _pytest(tmp_path, "def test_it(scale): assert scale == 'sampled'", ci="")

    assert "1 passed" in told
