"""Edgewright itself, one technique after the other; here the planner will be asked."""

import sys
from pathlib import Path

from job import Job, carry_out

from edgewright.toolchain.ir.load import load
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.planner.patterns import known_bad
from edgewright.toolchain.techniques import load_technique

_FUSE = ("fuse", {"level": "aggressive"})


def _steps(job: Job) -> list[tuple[str, dict[str, str]]]:
    bits, signs = ("7", "unsigned") if job.pairs_overflow else ("8", "signed")
    steps: dict[str, list[tuple[str, dict[str, str]]]] = {
        "int8": [("quantize", {"granularity": "channel", "bits": bits})],
        "int8-smooth": [("smooth", {}), ("dynamic", {"signs": signs})],
        "fp16": [("weights", {"form": "float16"})],
        "int8-weights": [("weights", {"form": "int8"})],
        "int4-weights": [("weights", {"form": "int4", "block": "32", "rounding": "learned"})],
    }
    return [_FUSE, *steps[job.variant]]


def make(job: Job) -> list[Path]:
    """Apply what stands behind the variant, as the planner does."""
    graph, samples = load(job.model), Samples(job.arrays())
    for name, asked in _steps(job):
        settings = dict(asked)
        if name == "quantize" and (bad := known_bad(graph, samples)):
            settings["skip"] = ",".join(sorted(bad))
        graph = load_technique(name).apply(graph, settings, samples).graph
    path = job.out / "model.onnx"
    path.write_bytes(graph.to_bytes())
    return [path]


MAKERS = dict.fromkeys(("int8", "int8-smooth", "fp16", "int8-weights", "int4-weights"), make)

if __name__ == "__main__":
    sys.exit(carry_out(MAKERS, ["edgewright", "onnxruntime", "onnx"]))
