"""Edgewright itself, one technique after the other; here the planner will be asked."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from job import Job, carry_out

from edgewright.runtime.engines import load_engine
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.load import load
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.planner.ledger import Ledger
from edgewright.toolchain.planner.patterns import known_bad
from edgewright.toolchain.planner.stem import Stem
from edgewright.toolchain.planner.values import Step
from edgewright.toolchain.targets import load_target
from edgewright.toolchain.techniques import load_technique

_FUSE = ("fuse", {"level": "aggressive"})
_TARGET = "onnxruntime"


def _steps(job: Job) -> list[tuple[str, dict[str, str]]]:
    bits, signs = ("7", "unsigned") if job.pairs_overflow else ("8", "signed")
    steps: dict[str, list[tuple[str, dict[str, str]]]] = {
        "int8": [("quantize", {"granularity": "channel", "bits": bits})],
        "int8-smooth": [("smooth", {}), ("dynamic", {"signs": signs})],
        "fp16": [("weights", {"form": "float16"})],
        "int8-weights": [("weights", {"form": "int8"})],
        "int8-codes": [("weights", {"form": "int8", "memory": "codes"})],
        "int4-weights": [("weights", {"form": "int4", "block": "32", "rounding": "learned"})],
    }
    return [_FUSE, *steps[job.variant]]


def _in_floats(job: Job, graph: Graph, samples: Samples, settings: dict[str, str]) -> set[str]:
    """Return the nodes the planner leaves in floats."""
    data = SimpleNamespace(sha256="", calibrate=samples, evaluate=samples)
    engine = load_engine(_TARGET)
    bench = SimpleNamespace(elsewhere=None, data=data, engine=engine, machine="", tools={})
    ledger = Ledger(folder=job.out.parent / f"{job.out.name}-evidence")
    probes = job.out.parent / f"{job.out.name}-probe"
    stem = Stem(cast("Any", bench), ledger, _TARGET, probes, lambda *_: None)
    measured = stem.nodes(graph, Step("quantize", settings, ""))
    return {*known_bad(graph, samples), *measured}


def make(job: Job) -> list[Path]:
    """Apply what stands behind the variant, as the planner does, and write what ships."""
    graph, samples = load(job.model), Samples(job.arrays())
    for name, asked in _steps(job):
        settings = dict(asked)
        if name == "quantize" and (floats := _in_floats(job, graph, samples, settings)):
            settings["skip"] = ",".join(sorted(floats))
        graph = load_technique(name).apply(graph, settings, samples).graph
    files = load_target(_TARGET).lower(graph)
    for file, data in files.items():
        (job.out / file).write_bytes(data)
    return [job.out / file for file in sorted(files)]


VARIANTS = ("int8", "int8-smooth", "fp16", "int8-weights", "int8-codes", "int4-weights")
MAKERS = dict.fromkeys(VARIANTS, make)

if __name__ == "__main__":
    sys.exit(carry_out(MAKERS, ["edgewright", "onnxruntime", "onnx"]))
