"""An environment for each tool, made from exact versions and kept between runs.

``python -m benchmarks.peers.environments [NAME ...]`` makes what is missing. They lie in
``edgewright/peers`` of the user's cache folder, two to three gigabytes together; one is
made anew when its file of versions has changed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.peers import REQUIREMENTS

_MARK = "made-from"
_MAX_SECONDS = 1200


class UnavailableError(Exception):
    """A tool cannot be had here; the message is the reason in words."""


def home() -> Path:
    """Return where environments are kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "edgewright" / "peers"


def pins(name: str) -> Path:
    """Return the file with the exact versions of ``name``."""
    return REQUIREMENTS / f"{name}.txt"


def python_of(name: str) -> Path:
    """Return the interpreter of the environment ``name``, which is made if need be.

    Raises:
        UnavailableError: It cannot be installed.
    """
    folder = home() / name
    python = folder / "bin" / "python"
    if made_from(folder) == digest(name):
        return python
    shutil.rmtree(folder, ignore_errors=True)
    print(f"installing {name} into {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True)
    # The file lists everything, so nothing is left to resolve; two of the tools do not
    # declare all they need, and one forbids what it works with.
    argv = [python, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"]
    argv += ["--disable-pip-version-check", "--requirement", pins(name)]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=_MAX_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"pip did not finish in {_MAX_SECONDS} s") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise UnavailableError((said or ["pip failed"])[-1].removeprefix("ERROR: "))
    (folder / _MARK).write_text(digest(name))
    return python


def digest(name: str) -> str:
    """Return the digest of the versions of ``name`` and of the Python they are for."""
    version = ".".join(map(str, sys.version_info[:2]))
    return hashlib.sha256(version.encode() + pins(name).read_bytes()).hexdigest()


def made_from(folder: Path) -> str:
    """Return the digest of what ``folder`` was made from, empty if it is not complete."""
    mark = folder / _MARK
    return mark.read_text() if mark.is_file() else ""


def main() -> int:
    """Make what was named, everything by default."""
    names = sys.argv[1:] or sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))
    for name in names:
        try:
            print(f"{name}: {python_of(name)}")
        except UnavailableError as error:
            print(f"{name}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
