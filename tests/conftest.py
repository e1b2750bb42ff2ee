"""What every test run shares: the scale of campaigns, and programs not every machine has.

``--scale full`` runs the fault campaigns over every point instead of a sample; tests ask
the ``scale`` fixture. ``@pytest.mark.needs("chromium")`` says that a test cannot run
without something; where it is missing the test is skipped with the reason, and where
``CI`` is set it fails, because a build that skips has not checked. Nothing else is
skipped, and the order is random (``-p randomly -p "randomly_seed=N"`` repeats one).
"""

import os
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec

import pytest
from hypothesis import settings

SAMPLED, FULL = "sampled", "full"

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("soak", deadline=None, max_examples=2000)


def pytest_addoption(parser):
    """Add ``--scale``."""
    parser.addoption(
        "--scale",
        choices=(SAMPLED, FULL),
        default=SAMPLED,
        help="how much of a fault campaign to run: a sample, or every point",
    )


def pytest_configure(config):
    """Choose how many examples hypothesis draws, and let every test start alike.

    A run that a script started in the background inherits an ignored Ctrl-C, and hands
    it on to every process it starts; here it means what it means on a terminal.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # No test finds steps that something outside of this run had done.
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="edgewright-cache-")
    if config.getoption("--scale") == FULL:
        settings.load_profile("soak")
    else:
        settings.load_profile("ci" if _in_ci() else "local")


def pytest_unconfigure():
    """Remove the cache folder of this run."""
    shutil.rmtree(os.environ.pop("XDG_CACHE_HOME", ""), ignore_errors=True)


def pytest_runtest_setup(item):
    """Skip, or in CI fail, a test whose needs are not met."""
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            if why_not := missing(name):
                reason = f"needs {name}: {why_not}"
                if _in_ci():
                    pytest.fail(reason, pytrace=False)
                pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Let no test read or write what the person who runs it keeps in a cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def scale(request):
    """``sampled`` or ``full``."""
    return request.config.getoption("--scale")


def missing(name):
    """Return why this machine cannot offer ``name``; empty if it can."""
    if name not in _NEEDS:
        raise pytest.UsageError(f"unknown need {name!r}, known: {', '.join(_NEEDS)}")
    return _NEEDS[name]()


def _in_ci():
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def _no_mount():
    """Mount and unmount a small file system, which takes rights and a kernel that lets."""
    if not shutil.which("mount"):
        return "there is no mount program"
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            return made.stderr.strip() or "mount refused"
        subprocess.run(["umount", folder], check=True)
    return ""


def _no_program(*names):
    def why_not():
        found = any(shutil.which(name) for name in names)
        return "" if found else f"none of {', '.join(names)} is installed"

    return why_not


def _no_library(*names):
    def why_not():
        lost = [name for name in names if find_spec(name) is None]
        return f"{lost[0]} is not installed (make frameworks)" if lost else ""

    return why_not


def _no_tensorflow():
    python = os.environ.get("EDGEWRIGHT_TF_PYTHON", "")
    if not python:
        return "EDGEWRIGHT_TF_PYTHON names no interpreter that has it (make frameworks)"
    return "" if shutil.which(python) else "EDGEWRIGHT_TF_PYTHON names no program"


_NEEDS = {
    "mount": _no_mount,
    "chromium": _no_program("chromium", "chromium-browser", "google-chrome", "chrome"),
    "node": _no_program("node"),
    "openssl": _no_program("openssl"),
    "git": _no_program("git"),
    "torch": _no_library("torch", "onnxscript", "safetensors"),
    "transformers": _no_library("torch", "onnxscript", "transformers"),
    "tensorflow": _no_tensorflow,
    "pillow": _no_library("PIL"),
    "ray": _no_library("ray", "grpc"),
    "pyarrow": _no_library("pyarrow"),
}
