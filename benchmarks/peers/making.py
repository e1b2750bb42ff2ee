"""Ask a tool for a variant, in a process of its own that may fail or be ended."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from benchmarks.peers import MAKERS, TOOLS, Tool, Variant
from benchmarks.peers.environments import UnavailableError, python_of
from benchmarks.peers.subjects import Subject

from edgewright.core.probe import probe

_MAX_SECONDS = 600
# What the tools would otherwise do beside their work: ask hubs, count users.
_QUIET = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "OLIVE_DISABLE_TELEMETRY": "1",
    "NNCF_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True, slots=True)
class Made:
    """What came of asking.

    Attributes:
        variant: What was asked for.
        files: What a device would get; the first is what the engine opens.
        seconds: How long the tool worked, its start not counted.
        reason: Why there are no files; empty when there are.
        versions: Of the tool and what it stands on.
    """

    variant: Variant
    files: tuple[Path, ...] = ()
    seconds: float = 0.0
    reason: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes of the files together."""
        return sum(path.stat().st_size for path in self.files)


def variants_of(tools: list[str], *, transformer: bool) -> list[Variant]:
    """Return what the named tools are asked for."""
    return [
        variant
        for tool in TOOLS
        if tool.name in tools
        for variant in tool.variants
        if transformer or not variant.transformers_only
    ]


def make(variant: Variant, subject: Subject, folder: Path) -> Made:
    """Return what the tool makes of ``subject``; ``folder`` is for its files."""
    tool = next(tool for tool in TOOLS if tool.name == variant.tool)
    python = _python(tool)
    if isinstance(python, str):
        return Made(variant, reason=python)
    out = folder / f"{variant.tool}-{variant.name}"
    out.mkdir(parents=True)
    samples = folder / f"{subject.calibration}.npz"
    if not samples.exists():
        np.savez(samples, **subject.calibrate.inputs)
    job = {
        "variant": variant.name,
        "model": str(subject.model),
        "samples": str(samples),
        "out": str(out),
        "transformer": subject.transformer,
        "mask": subject.calibrate_mask,
        "pairs_overflow": probe().pairs_overflow,
    }
    path = folder / f"{variant.tool}-{variant.name}.json"
    path.write_text(json.dumps(job))
    return _run(tool, variant, python, path)


@cache
def _python(tool: Tool) -> Path | str:
    """Return the interpreter of ``tool``, or why there is none."""
    if not tool.environment:
        return Path(sys.executable)
    try:
        return python_of(tool.environment)
    except UnavailableError as error:
        return f"not installed: {error}"


def _run(tool: Tool, variant: Variant, python: Path, job: Path) -> Made:
    argv = [python, MAKERS / tool.maker, job]
    try:
        done = subprocess.run(
            argv,
            cwd=job.parent,  # some leave files where they are run
            capture_output=True,
            text=True,
            check=False,
            timeout=_MAX_SECONDS,
            env=os.environ | _QUIET,
        )
    except subprocess.TimeoutExpired:
        return Made(variant, reason=f"not done in {_MAX_SECONDS} s")
    job.with_suffix(".log").write_text(done.stdout + done.stderr)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        return Made(variant, reason=f"ended with {done.returncode}: {said}")
    told = json.loads(done.stdout.splitlines()[-1])
    return Made(
        variant,
        files=tuple(map(Path, told.get("files", ()))),
        seconds=told["seconds"],
        reason=told.get("failed", ""),
        versions=told["versions"],
    )
