"""A process that does nothing but answer, and tells what that took.

``python -m edgewright.toolchain.measure.process MODEL ENGINE STARTED_NS [SHAPE ...]`` loads a
model with the engine a device uses, answers a hundred times and prints one line of JSON. A
SHAPE for each input, like ``1x128``, says how large its free sizes are; 1 where none is given.
``STARTED_NS`` is the monotonic clock when it was started, so that the start of Python
counts. It imports as little as it can: what it weighs is what a device would carry.
"""

import json
import sys
import time
from pathlib import Path

from edgewright.core.errors import EdgewrightError, EngineError
from edgewright.core.tensors import TensorSpec
from edgewright.runtime.engines import Array, Engine, load_engine

ANSWERS = 100
_PEAK = "VmHWM:"


def main(model: str, engine_name: str, started_ns: str, *shapes: str) -> int:
    """Load, answer, print; return 0 unless the model cannot answer."""
    try:
        engine = load_engine(engine_name)
        session = engine.load(Path(model))
        asked = [tuple(map(int, shape.split("x"))) for shape in shapes]
        feeds = {
            spec.name: _zeros(engine, spec, asked[place] if asked else spec.shape)
            for place, spec in enumerate(session.inputs)
        }
        session.run(feeds)
        first_answer_us = (time.monotonic_ns() - int(started_ns)) // 1000
        for _ in range(ANSWERS - 1):
            session.run(feeds)
        line = {"first_answer_us": first_answer_us, "peak_bytes": _peak_bytes()}
    except EdgewrightError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(line) + "\n")
    return 0


def _zeros(engine: Engine, spec: TensorSpec, asked: tuple[int, ...]) -> Array:
    shape = tuple(1 if size == -1 else size for size in asked)
    return engine.array(bytes(spec.nbytes(shape)), spec.dtype, shape)


def _peak_bytes() -> int:
    """Return the most memory this process ever held, from the kernel."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(_PEAK):
            return int(line.split()[1]) * 1024
    raise EngineError(
        "this kernel does not tell the peak memory of a process",
        hint="Measure on Linux, whose /proc/self/status tells it.",
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
