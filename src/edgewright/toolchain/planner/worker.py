"""What is done on a worker: one step of a candidate, or the answers of one.

A task is a function of bytes to bytes. It changes nothing where it runs, and says first
whether that machine comes to the same bytes as the one that asks.
"""

import os
import platform
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edgewright.core import digest, durable, probe
from edgewright.core.errors import EdgewrightError, ModelError, QuantizeError, WireError
from edgewright.runtime.engines import load_engine
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure import accuracy
from edgewright.toolchain.planner.cache import key_of, packed, unpacked
from edgewright.toolchain.planner.parcels import (
    REMEDY,
    array_parcel,
    opened,
    parcel,
    samples_of,
)
from edgewright.toolchain.planner.perform import whole
from edgewright.toolchain.planner.steps import applied, resolved
from edgewright.toolchain.planner.values import Step
from edgewright.toolchain.targets import TARGETS, load_target
from edgewright.toolchain.techniques import TECHNIQUES

# What a parcel is, by the word in its head.
HELLO, STEP, ANSWERS, GRAPH, REFUSED, UNLIKE = (
    "hello", "step", "answers", "graph", "refused", "unlike",
)  # fmt: skip

_LIBRARIES = ("edgewright", "numpy", "onnx", "onnx-ir", "onnxruntime", "protobuf")
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def likeness() -> dict[str, str]:
    """Return all that decides bytes beside what is asked: libraries, processor, threads.

    Sums of floats come out in another order, so in other bits, with another set of
    instructions or another number of threads.
    """
    host = probe.probe()
    return {
        **{name: version(name) for name in _LIBRARIES},
        "libc": " ".join(platform.libc_ver()),
        "processor": f"{host.title} ({' '.join(host.isa)})",
        "threads": str(_threads(host.cores)),
    }


def machine() -> str:
    """Return what tells machines apart until they are started again; empty if unknown."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def answer(order: bytes, *given: bytes) -> bytes:
    """Return the parcel that ``order`` asks for.

    Args:
        order: Its head says what to do, and what the machine that asks is like.
        given: The graph or the step before, and samples, as parcels.

    Raises:
        WireError: A parcel is not what it should be.
    """
    head, _ = opened(order)
    here = likeness()
    if head["do"] == HELLO:
        return parcel({"kind": HELLO, "like": here, "machine": machine()})
    if head["like"] != here:
        return parcel({"kind": UNLIKE, "like": here})
    at, samples = given
    if opened(at)[0]["kind"] == REFUSED:
        return at
    try:
        if head["do"] == STEP:
            return _step(head, at, samples_of(samples))
        return _answers(head, at, samples_of(samples))
    except WireError:
        raise
    except EdgewrightError as error:
        return parcel({"kind": REFUSED, "why": str(error)})


def graph_parcel(graph: Graph) -> bytes:
    """Return a graph that no step has been done to as a parcel."""
    return parcel({"kind": GRAPH}, graph.to_bytes())


def _step(head: Mapping[str, Any], at: bytes, samples: Samples) -> bytes:
    graph = _graph(at)
    step, _ = resolved(graph, Step(head["technique"], head["settings"], ""), samples)
    reads = TECHNIQUES[step.technique].needs_samples(step.settings)
    key = key_of(graph, step, samples.digest if reads else "", head["tools"])
    try:
        done = applied(graph, step, samples)
    except QuantizeError:
        raise
    except ModelError:
        # The steps after it are still worth trying; who asks finds the reason again.
        return graph_parcel(graph)
    return parcel({"kind": STEP, "key": key}, packed(key, done))


def _answers(head: Mapping[str, Any], at: bytes, samples: Samples) -> bytes:
    """Return what the lowered graph answers, and the digests of what was asked what."""
    files = load_target(head["target"]).lower(_graph(at))
    entry = TARGETS[head["target"]].entry
    some = samples[: head["first"]] if head["first"] else samples
    with tempfile.TemporaryDirectory(prefix="edgewright-") as folder:
        for name, data in files.items():
            durable.replace_file(Path(folder) / name, data)
        engine = load_engine(TARGETS[head["target"]].engine)
        found = accuracy.answers(engine, Path(folder) / entry, some)
    about = {
        "kind": ANSWERS,
        "files": whole({name: digest.of_bytes(data) for name, data in files.items()}),
        "samples": some.digest,
    }
    return array_parcel(about, [(str(place), array) for place, array in enumerate(found)])


def _graph(data: bytes) -> Graph:
    head, body = opened(data)
    if head["kind"] == STEP:
        done = unpacked(head["key"], body)
        if done is None:
            raise WireError(f"the step {head['key'][:12]} came damaged", hint=REMEDY)
        return done.graph
    try:
        return Graph(onnx.load_model_from_string(body))
    except (DecodeError, ModelError) as error:
        raise WireError(f"a graph came damaged: {error}", hint=REMEDY) from error


def _threads(cores: int | None) -> int:
    """Return with how many threads numpy multiplies matrices, as its library decides it."""
    for name in ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"):
        said = os.environ.get(name, "")
        if said.isdigit() and int(said):
            return min(int(said), cores or int(said))
    return cores or 1
