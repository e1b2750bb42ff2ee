"""Calibration: what ranges of activations cost in memory, by number of samples.

Each figure is of a process of its own, which has quantized something small before: its
peak of resident memory less what was resident when the quantizer was called, the samples
included. The model is random; what it answers is not looked at.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from benchmarks.whole_way import row
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    quantize_static,
)

from edgewright.core.errors import QuantizeError
from edgewright.toolchain.ir import ort
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques.quantize import quantize

Row = dict[str, Any]

FEW, MANY, PEER_MANY = 32, 4096, 512
SIDE = 32
MIB = 1 << 20


def measure(*, quick: bool) -> list[Row]:
    """Return every row of this area."""
    rounds = 1 if quick else 3
    theirs = {
        method: _growth(f"onnxruntime-{method}", PEER_MANY, 1)[0][0]
        for method in ("MinMax", "Percentile")
    }
    rows = []
    for ranges, method in {"minmax": "MinMax", "entropy": "Percentile"}.items():
        growth, last = _growth(ranges, MANY, rounds)
        met = max(growth) <= 1.2
        peers = {f"onnxruntime {method}, {FEW} to {PEER_MANY} samples": theirs[method]}
        name = f"{ranges}: peak memory, {FEW} to {MANY} samples"
        rows += [
            row(name, growth, "x", goal="<= 1.2", met=met, peers=peers),
            row(f"{ranges}: peak memory of {MANY} samples", [last / MIB], "MiB"),
        ]
    return rows


def _growth(ranges: str, many: int, rounds: int) -> tuple[list[float], int]:
    """Return the peak of ``many`` samples over that of few, each round, and the last peak."""
    growth, last = [], 0
    for _ in range(rounds):
        few, last = _alone(ranges, FEW), _alone(ranges, many)
        growth.append(round(last / few, 3))
    return growth, last


def _alone(ranges: str, count: int) -> int:
    """Run ``main`` in a process of its own and return the peak it printed."""
    argv = [sys.executable, "-m", "benchmarks.calibration", ranges, str(count)]
    root = Path(__file__).parent.parent
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def main(ranges: str, count: int) -> int:
    """Calibrate once and print the bytes it took at its peak."""
    work = _peer if ranges.startswith("onnxruntime-") else _ours
    work(_network(4, width=2), _images(2, side=4), ranges)
    graph, images = _network(SIDE, width=32), _images(count, side=SIDE)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = _resident("VmRSS")
    work(graph, images, ranges)
    print(_resident("VmHWM") - before)
    return 0


def _ours(graph: Graph, images: npt.NDArray[np.float32], ranges: str) -> None:
    quantize(graph, Samples({graph.inputs[0].name: images}), ranges=ranges)


def _peer(graph: Graph, images: npt.NDArray[np.float32], ranges: str) -> None:
    method = CalibrationMethod[ranges.removeprefix("onnxruntime-")]
    with ort.quiet("quantize the graph", QuantizeError) as folder:
        onnx.save(graph.proto, folder / "float.onnx")
        quantize_static(
            folder / "float.onnx",
            folder / "int8.onnx",
            _Reader(images),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            calibrate_method=method,
        )


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """The images in batches, as onnxruntime's own calibration reads them."""

    def __init__(self, images: npt.NDArray[np.float32]) -> None:
        self._batches = iter(np.split(images, range(FEW, len(images), FEW)))

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """Return the next batch, None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


def _images(count: int, *, side: int) -> npt.NDArray[np.float32]:
    draw = np.random.default_rng(0)
    return draw.standard_normal((count, 3, side, side), dtype=np.float32)


def _network(side: int, *, width: int) -> Graph:
    """Return four convolutions with ReLU, 1.3 MB of activations a sample at width 32."""
    draw = np.random.default_rng(1)
    nodes, weights, seen, depth = [], {}, "image", 3
    for layer in range(4):
        out = width * (1 + layer // 2)
        kernel = draw.standard_normal((out, depth, 3, 3)) * (2 / (9 * depth)) ** 0.5
        weights[f"w{layer}"] = kernel.astype(np.float32)
        wired = [seen, f"w{layer}"], [f"conv{layer}"]
        nodes.append(helper.make_node("Conv", *wired, pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"conv{layer}"], [f"relu{layer}"]))
        seen, depth = f"relu{layer}", out
    nodes.append(helper.make_node("GlobalAveragePool", [seen], ["y"]))
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "network",
            [_float("image", ["n", 3, side, side])],
            [_float("y", ["n", depth, 1, 1])],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    return check(proto, "network")


def _float(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _resident(field: str) -> int:
    """Return ``VmRSS``, or ``VmHWM`` for its peak, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no {field} in /proc/self/status")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
