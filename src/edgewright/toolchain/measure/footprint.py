"""Memory and first answer, each from fresh processes: a peak is never given back."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgewright.core.errors import EngineError
from edgewright.core.evidence import Evidence
from edgewright.toolchain.measure import process

_TIMEOUT_S = 120.0
_MODULE = "edgewright.toolchain.measure.process"
RUNS = 3


def measure(
    models: Mapping[str, Path],
    *,
    engine: str,
    machine: str,
    shapes: Sequence[tuple[int, ...]] = (),
    runs: int = RUNS,
) -> dict[str, tuple[Evidence, ...]]:
    """Return peak memory and time to the first answer of each model.

    The models take turns, so that a busy moment happens to all of them.

    Args:
        models: What is weighed, by name.
        engine: What runs them.
        machine: Fingerprint of the machine this runs on.
        shapes: Of each input, where a size other than the first is free.
        runs: Processes for each model.

    Raises:
        EngineError: A process fails; the message is what it said.
    """
    found: dict[str, list[dict[str, int]]] = {name: [] for name in models}
    for _ in range(runs):
        for name, model in models.items():
            found[name].append(_run(model, engine, shapes))
    return {name: _evidence(seen, machine) for name, seen in found.items()}


def _evidence(seen: list[dict[str, int]], machine: str) -> tuple[Evidence, ...]:
    peaks = sorted(run["peak_bytes"] for run in seen)
    firsts = sorted(-(-run["first_answer_us"] // 1000) for run in seen)
    fresh = f"{len(seen)} fresh processes"
    return (
        Evidence(
            "peak_memory_bytes", peaks[-1], len(seen), machine, "measured on host",
            low=peaks[0], high=peaks[-1],
            how=f"VmHWM after {process.ANSWERS} answers, worst of {fresh}",
        ),
        Evidence(
            "first_answer_ms", firsts[len(firsts) // 2], len(seen), machine,
            "measured on host", low=firsts[0], high=firsts[-1],
            how=f"from the start of Python, files cached, median of {fresh}",
        ),
    )  # fmt: skip


def _run(model: Path, engine: str, shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    command = [sys.executable, "-m", _MODULE, str(model), engine, str(time.monotonic_ns())]
    command += ["x".join(map(str, shape)) for shape in shapes]
    try:
        # A session of its own, so that a Ctrl-C ends it once, through us.
        done = subprocess.run(  # noqa: S603  our own interpreter and module
            command, capture_output=True, text=True, check=False,
            timeout=_TIMEOUT_S, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"a fresh process gave no answer within {_TIMEOUT_S:.0f} s",
            hint="Measure on an idle machine, or compress a smaller model.",
        ) from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise EngineError(
            f"a fresh process cannot answer (exit {done.returncode}): {said}",
            hint="Run the model with the same engine by hand; it may need more memory.",
        )
    result: dict[str, int] = json.loads(done.stdout)
    return result
