"""Edgewright itself, one technique after the other; here the planner will be asked."""

import sys
from pathlib import Path

from job import Job, carry_out

from edgewright.toolchain.ir.load import load
from edgewright.toolchain.techniques import load_technique

_FUSE = ("fuse", {"level": "portable"})


def _steps(job: Job) -> list[tuple[str, dict[str, str]]]:
    bits = "7" if job.pairs_overflow else "8"
    steps = {
        "int8": ("quantize", {"granularity": "channel", "bits": bits}),
        "fp16": ("weights", {"form": "float16"}),
        "int8-weights": ("weights", {"form": "int8"}),
        "int4-weights": ("weights", {"form": "int4", "block": "32"}),
    }
    return [_FUSE, steps[job.variant]]


def make(job: Job) -> list[Path]:
    """Apply what stands behind the variant."""
    graph = load(job.model)
    samples = job.arrays()
    # One input is an array alone, as the techniques take it.
    given = next(iter(samples.values())) if len(samples) == 1 else samples
    for name, settings in _steps(job):
        graph = load_technique(name).apply(graph, settings, given).graph
    path = job.out / "model.onnx"
    path.write_bytes(graph.to_bytes())
    return [path]


MAKERS = dict.fromkeys(("int8", "fp16", "int8-weights", "int4-weights"), make)

if __name__ == "__main__":
    sys.exit(carry_out(MAKERS, ["edgewright", "onnxruntime", "onnx"]))
