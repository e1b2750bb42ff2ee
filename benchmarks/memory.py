"""Memory: what optimizing a model of 100 MB takes at its peak, all its processes together.

The model is a sentence classifier of random weights: a large table of words, blocks of
attention, a convolution over the words and a head. Nothing has labels and too little
is known for a verdict, so that every candidate of the plan is made.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from benchmarks.peers.results import Row, row
from onnx import NodeProto, TensorProto, helper, numpy_helper

LIMIT_BYTES = 2_000_000_000
_WORDS, _WIDTH, _INNER, _LENGTH, _CLASSES = 50_000, 384, 1536, 2, 16
_BLOCKS = 3
_CALIBRATE, _EVALUATE = 64, 256
_EVERY_S = 0.1


def measure(*, quick: bool) -> list[Row]:
    """Return every row of this area."""
    found = [_once() for _ in range(1 if quick else 3)]
    peaks, seconds = [one[0] for one in found], [one[1] for one in found]
    return [
        row(
            "optimize a model of 100 MB: peak memory of all its processes",
            max(peaks) / 1e6, "MB", goal=f"<= {LIMIT_BYTES / 1e6:.0f}",
            met=max(peaks) <= LIMIT_BYTES, n=len(peaks),
            spread=f"{min(peaks) / 1e6:.0f} to {max(peaks) / 1e6:.0f}",
        ),
        row(
            "optimize a model of 100 MB: time", sorted(seconds)[len(seconds) // 2], "s",
            n=len(seconds), spread=f"{min(seconds):.0f} to {max(seconds):.0f}",
        ),
    ]  # fmt: skip


def _once() -> tuple[int, float]:
    with TemporaryDirectory(prefix="memory-") as folder:
        work = Path(folder)
        write(work)
        began = time.perf_counter()
        peak, code, said = watch(command(work), work)
        if code not in {0, 3, 4}:
            raise RuntimeError(said)
        return peak, time.perf_counter() - began


def command(work: Path) -> list[str]:
    """Return the words that optimize what ``write`` left in ``work``."""
    told = ["optimize", "model.onnx", "--data", "data.npz", "-o", str(work / "out"), "--json"]
    return [sys.executable, "-m", "edgewright.cli.main", *told]


def write(work: Path) -> None:
    """Write ``model.onnx`` of about 100 MB and ``data.npz`` into ``work``."""
    draw = np.random.default_rng(0)
    net = _Net(draw)
    net.add("Gather", net.weight(_WORDS, _WIDTH, scale=1.0), "words", first=False)
    for _ in range(_BLOCKS):
        net.attend()
        net.feed_forward()
    net.add("Transpose", perm=[0, 2, 1])
    kernel = net.weight(_WIDTH, _WIDTH, 3, scale=(3 * _WIDTH) ** -0.5)
    net.add("Conv", kernel, pads=[1, 1])
    net.add("Relu")
    net.add("GlobalAveragePool")
    net.add("Flatten")
    net.add("Gemm", net.weight(_WIDTH, _CLASSES), net.constant(np.zeros(_CLASSES)))
    onnx.save(net.model(), work / "model.onnx")
    counts = {"calibrate_words": _CALIBRATE, "evaluate_words": _EVALUATE}
    parts = {
        name: draw.integers(0, _WORDS, (count, _LENGTH)) for name, count in counts.items()
    }
    np.savez(work / "data.npz", **parts)


class _Net:
    """The nodes and weights so far, and the tensor the last one answers."""

    def __init__(self, draw: np.random.Generator) -> None:
        self._draw = draw
        self._nodes: list[NodeProto] = []
        self._held: list[TensorProto] = []
        self.end = "words"

    def constant(self, array: Any) -> str:
        """Keep ``array`` as float32 and return its name."""
        name = f"w{len(self._held)}"
        self._held.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def weight(self, *shape: int, scale: float = 0.0) -> str:
        """Keep a drawn weight; with ``scale`` 0 answers are as large as what is asked."""
        drawn = self._draw.standard_normal(shape, np.float32)
        return self.constant(drawn * (scale or shape[0] ** -0.5))

    def add(self, kind: str, *inputs: str, first: bool = True, **attributes: Any) -> str:
        """Add a node that reads the last one, ``first`` or not at all, and ``inputs``."""
        wired = [self.end, *inputs] if first else list(inputs)
        name = f"t{len(self._nodes)}"
        node = helper.make_node(kind, wired, [name], name=f"{kind}_{name}", **attributes)
        self._nodes.append(node)
        self.end = name
        return name

    def attend(self) -> None:
        """Add one head of attention with its shortcut and its normalisation."""
        source = self.end
        query, key, value = (
            self.add("MatMul", source, self.weight(_WIDTH, _WIDTH), first=False)
            for _ in range(3)
        )
        turned = self.add("Transpose", key, first=False, perm=[0, 2, 1])
        self.add("MatMul", query, turned, first=False)
        self.add("Mul", self.constant(_WIDTH**-0.5))
        self.add("Softmax", axis=-1)
        self.add("MatMul", value)
        self.add("MatMul", self.weight(_WIDTH, _WIDTH))
        self._normalise(source)

    def feed_forward(self) -> None:
        """Add two wide products with their shortcut and their normalisation."""
        source = self.end
        self.add("MatMul", self.weight(_WIDTH, _INNER))
        self.add("Relu")
        self.add("MatMul", self.weight(_INNER, _WIDTH))
        self._normalise(source)

    def _normalise(self, shortcut: str) -> None:
        self.add("Add", shortcut)
        scale, shift = self.constant(np.ones(_WIDTH)), self.constant(np.zeros(_WIDTH))
        self.add("LayerNormalization", scale, shift, axis=-1)

    def model(self) -> onnx.ModelProto:
        """Return the model."""
        words = helper.make_tensor_value_info("words", TensorProto.INT64, ["n", _LENGTH])
        scores = helper.make_tensor_value_info(self.end, TensorProto.FLOAT, ["n", _CLASSES])
        graph = helper.make_graph(self._nodes, "words", [words], [scores], self._held)
        opset = [helper.make_opsetid("", 18)]
        return helper.make_model(graph, opset_imports=opset, ir_version=10)


def watch(argv: list[str], folder: Path) -> tuple[int, int, str]:
    """Run ``argv`` in ``folder``; return its peak in bytes, its exit code and its last words.

    The peak is of resident memory of the process and of those it started, added up at each
    moment that was looked at, pages that two of them share once. What lay between two
    moments is not missed for any one process, as the kernel keeps its largest.
    """
    said = folder / "said.txt"
    with said.open("w") as out:
        process = subprocess.Popen(
            argv, cwd=folder, stdout=out, stderr=out,
            env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")},
        )  # fmt: skip
        peak, done = 0, 0
        while not done:
            peak = max(peak, sum(map(_resident, _family(process.pid))))
            time.sleep(_EVERY_S)
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    return max(peak, usage.ru_maxrss * 1024), process.returncode, said.read_text()[-2000:]


def _family(pid: int) -> list[int]:
    """Return ``pid`` and everything below it that still runs."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(one for child in children for one in _family(int(child)))]


def _resident(pid: int) -> int:
    """Return resident bytes; a page that others have too counts as the share of one."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
