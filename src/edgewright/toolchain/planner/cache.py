"""Steps that were done, kept over runs: content-addressed, checked, and bounded in bytes.

A step is named by all that decides its bytes: the graph it was given, the technique with
its settings, the calibration samples, the versions of the tools, and the code that does
it, since a technique may be mended between two releases. What is found is believed only
if its own digest says that it is whole. The cache is a convenience: when the disk refuses
to keep something, the step has still been done.
"""

import json
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edgewright.core import canonical, digest, durable
from edgewright.core.errors import ModelError, StorageError
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.planner.values import Step
from edgewright.toolchain.techniques import Applied

CAP_BYTES = 2 << 30
_SUFFIX = ".step"
_TOOLCHAIN = Path(__file__).resolve().parents[1]
_TECHNIQUES, _SHARED = "techniques", "ir"
_NAME = re.compile("[0-9a-f]{64}")


def home() -> Path:
    """Return the person's cache folder: ``$XDG_CACHE_HOME/edgewright/steps``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "edgewright" / "steps"


@cache
def code_of(technique: str, toolchain: Path = _TOOLCHAIN) -> str:
    """Return the digest of the sources of ``technique`` and of what all techniques use.

    Args:
        technique: A package in ``techniques``.
        toolchain: The folder of this code.
    """
    parts = toolchain / _TECHNIQUES
    files = [parts / "__init__.py"]
    for folder in (parts / technique, toolchain / _SHARED):
        files += sorted(folder.rglob("*.py"))
    told = (f"{p.relative_to(toolchain).as_posix()} {digest.of_file(p)}" for p in files)
    return digest.of_bytes("\n".join(told).encode())


class StepCache:
    """A folder of steps; the least recently used go when it grows over its cap."""

    def __init__(
        self, folder: Path, tools: Mapping[str, str], *, cap_bytes: int = CAP_BYTES
    ) -> None:
        """Use ``folder``, which need not exist; ``tools`` are versions that decide bytes."""
        self._folder = folder
        self._tools = dict(tools)
        self._cap = cap_bytes

    def key(self, graph: Graph, step: Step, samples: str) -> str:
        """Return the name of a step: ``samples`` is their digest, empty if none are read."""
        return key_of(graph, step, samples, self._tools)

    def get(self, key: str) -> Applied | None:
        """Return what came of a step, None where it is not known or is damaged."""
        path = self._folder / f"{key}{_SUFFIX}"
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return unpacked(key, data)

    def put(self, key: str, result: Applied) -> None:
        """Keep what came of a step, if the disk lets."""
        self._keep(key, packed(key, result))

    def take(self, key: str, data: bytes) -> bool:
        """Keep a step that was ``packed`` elsewhere; return whether it is whole.

        Args:
            key: What it says it is; whoever asks for a step works its key out anew.
            data: What came.
        """
        if not _NAME.fullmatch(key) or unpacked(key, data) is None:
            return False
        self._keep(key, data)
        return True

    def _keep(self, key: str, data: bytes) -> None:
        try:
            durable.replace_file(self._folder / f"{key}{_SUFFIX}", data)
            self._trim()
        except (StorageError, OSError):
            return

    def _trim(self) -> None:
        held = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            stat = path.stat()
            held.append((stat.st_mtime_ns, path.name, stat.st_size))
        total = sum(size for *_, size in held)
        for _, name, size in sorted(held):
            if total <= self._cap:
                return
            durable.remove(self._folder / name)
            total -= size


def key_of(graph: Graph, step: Step, samples: str, tools: Mapping[str, str]) -> str:
    """Return the name of a step: all that decides its bytes.

    Args:
        graph: What it is done to.
        step: A resolved step.
        samples: Digest of the calibration samples, empty if none are read.
        tools: Versions.
    """
    about = {
        "graph": graph.digest,
        "technique": step.technique,
        "settings": dict(step.settings),
        "samples": samples,
        "tools": dict(tools),
        "code": code_of(step.technique),
    }
    return digest.hex_of(digest.of_bytes(canonical.encode(about)))


def packed(key: str, result: Applied) -> bytes:
    """Return what came of the step ``key`` as bytes that say whether they are whole."""
    body = result.graph.to_bytes()
    said: dict[str, Any] = {"changed": result.changed, "notes": list(result.notes)}
    said["sha256"] = _whole(key, said, body)
    return json.dumps(said, sort_keys=True).encode() + b"\n" + body


def unpacked(key: str, data: bytes) -> Applied | None:
    """Return what came of the step ``key``; None where ``data`` are not that, or damaged."""
    head, _, body = data.partition(b"\n")
    try:
        said: dict[str, Any] = json.loads(head)
        if said["sha256"] != _whole(key, said, body):
            return None
        graph = Graph(onnx.load_model_from_string(body))
    except (ValueError, KeyError, TypeError, DecodeError, ModelError):
        return None
    return Applied(graph, changed=said["changed"], notes=tuple(said["notes"]))


def _whole(key: str, said: Mapping[str, Any], body: bytes) -> str:
    about = {"key": key, "changed": said["changed"], "notes": list(said["notes"])}
    return digest.of_bytes(canonical.encode(about) + body)
