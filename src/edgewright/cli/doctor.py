"""``edgewright doctor``: what this machine has, lacks, and how to mend it."""

import argparse
import importlib.metadata
import importlib.util
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgewright.cli.output import emit, table

NAME = "doctor"
HELP = "say what this machine has, lacks, and how to mend it"

_LIBRARIES = ("numpy", "onnx", "onnx-ir", "onnxruntime", "tuf", "cryptography", "zstandard")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; ``needed`` says whether its absence is a failure."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = True

    @property
    def mark(self) -> str:
        """How the line begins."""
        return "ok" if self.ok else ("FAILED" if self.needed else "absent")


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    del parser  # it takes none


def run(args: argparse.Namespace) -> int:
    """Run every check; exit 1 if one that is needed fails."""
    checks = [_python(), _wheels(), *map(_library, _LIBRARIES), _disk(), *_optional()]
    document = {
        "ok": all(c.ok for c in checks if c.needed),
        "checks": [
            {"name": c.name, "ok": c.ok, "found": c.found, "remedy": c.remedy} for c in checks
        ],
    }
    rows = [(c.mark, c.name, c.found, "" if c.ok else c.remedy) for c in checks]
    emit(args, document, table(("", "what", "found", "remedy"), rows))
    return 0 if document["ok"] else 1


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= (3, 11)
    return Check("python", ok, version, "Install Python 3.11 or later.")


def _wheels() -> Check:
    """The two wheels hold the same files: together, removing one breaks the other."""
    both = [n for n in ("edgewright", "edgewright-device") if _version(n)]
    remedy = "Remove both, then install one: pip uninstall edgewright edgewright-device."
    return Check("one wheel", len(both) == 1, " and ".join(both) or "neither", remedy)


def _library(name: str) -> Check:
    version = _version(name)
    return Check(name, bool(version), version or "not installed", f"pip install {name}")


def _disk() -> Check:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    found = f"{free / 10**9:.1f} GB free for temporary files"
    return Check("disk", free > 10**9, found, "Free at least 1 GB.")


def _optional() -> list[Check]:
    torch = importlib.util.find_spec("torch") is not None
    counter = Path("/sys/class/powercap/intel-rapl:0/energy_uj")
    return [
        Check(
            "torch",
            torch,
            _version("torch") or "not installed",
            "pip install 'edgewright[torch]', to train the example again",
            needed=False,
        ),
        Check(
            "energy counter",
            counter.exists(),
            str(counter) if counter.exists() else "none on this machine",
            "power limits stay inconclusive here; measure on the device",
            needed=False,
        ),
    ]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
