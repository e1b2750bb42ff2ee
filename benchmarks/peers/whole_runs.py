"""From a model to a packed bundle as a person does it: two commands, nothing kept before.

Each run has an empty cache. Two results of LeNet lie near each other, so what ships may
differ from run to run; the time is what is asked here, and what the command said is told.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.peers import mobilenet_v2
from benchmarks.peers.results import Row, row
from benchmarks.suite import ROWS

LENET_SECONDS, MOBILENET_SECONDS = 60, 300
_CALIBRATE, _EVALUATE = 128, 256


@dataclass(frozen=True, slots=True)
class _Ran:
    """How long a command took, and what it said last if it did not go well."""

    seconds: float
    said: str


def rows(*, quick: bool) -> list[Row]:
    """Return how long the product takes from model to bundle."""
    with tempfile.TemporaryDirectory(prefix="edgewright-whole-") as folder:
        work = Path(folder)
        lenet = [_lenet(work / f"lenet-{place}") for place in range(1 if quick else 3)]
        big = _mobilenet(work / "mobilenet") if not quick else None
    found = [_row("lenet: model to packed bundle", lenet, LENET_SECONDS)]
    if big is not None:
        found.append(_row("MobileNetV2-224: optimize", [big], MOBILENET_SECONDS))
    return found


def _row(name: str, ran: list[_Ran], limit: int) -> Row:
    seconds = sorted(one.seconds for one in ran)
    said = "; ".join(dict.fromkeys(one.said for one in ran if one.said))
    spread = f"{seconds[0]:.1f} to {seconds[-1]:.1f}" if len(seconds) > 1 else ""
    return row(
        name,
        seconds[len(seconds) // 2],
        "s",
        goal=f"<= {limit}",
        met=seconds[-1] <= limit,
        spread="; ".join(filter(None, (spread, said))),
        n=len(ran),
    )


def _lenet(work: Path) -> _Ran:
    work.mkdir()
    held = next(row for row in ROWS if row.name == "lenet")
    calibrate, evaluate = held.samples("calibrate"), held.samples("evaluate")
    np.savez(
        work / "data.npz",
        calibrate_images=calibrate.inputs["image"],
        evaluate_images=evaluate.inputs["image"],
        evaluate_labels=evaluate.targets["label"],
    )
    optimized = _run(work, "optimize", held.model, "--data", "data.npz", "-o", "out")
    packed = _run(work, "pack", "out", "--name", "lenet", "--version", "1", "-o", "lenet.ewb")
    return _Ran(optimized.seconds + packed.seconds, optimized.said or packed.said)


def _mobilenet(work: Path) -> _Ran:
    work.mkdir()
    mobilenet_v2.build(work / "model.onnx")
    side, draw = mobilenet_v2.SIDE, np.random.default_rng(3)
    pictures = draw.integers(0, 256, (_CALIBRATE + _EVALUATE, 3, side, side), np.uint8)
    np.savez(
        work / "data.npz",
        calibrate_images=pictures[:_CALIBRATE],
        evaluate_images=pictures[_CALIBRATE:],
    )
    # Without an end to the search: everything there is gets made and measured.
    return _run(
        work, "optimize", "model.onnx", "--data", "data.npz", "-o", "out", "--goal", "balanced"
    )


def _run(work: Path, *words: object) -> _Ran:
    argv = [sys.executable, "-m", "edgewright.cli.main", *map(str, words)]
    began = time.perf_counter()
    done = subprocess.run(
        argv,
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"XDG_CACHE_HOME": str(work / "cache")},
    )
    seconds = time.perf_counter() - began
    if not done.returncode:
        return _Ran(seconds, "")
    wrong = [line for line in done.stderr.splitlines() if line.startswith("edgewright: ")]
    return _Ran(seconds, f"{words[0]}: {(wrong or ['edgewright: no word'])[-1][12:]}")
