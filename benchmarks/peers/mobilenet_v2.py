"""MobileNetV2 at 224 x 224 with random weights: as large as the real one, nothing fetched.

Normalisation is folded already; weights are drawn so that activations keep their size.

Source: M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
CVPR 2018, table 2: expansion, channels, repeats and stride of each stage.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

SIDE, CLASSES = 224, 1000
_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
    (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
_FIRST, _LAST = 32, 1280


class _Net:
    """The nodes and weights so far, and where the last one ends."""

    def __init__(self) -> None:
        self._draw = np.random.default_rng(2018)
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.end, self.channels = "scaled", 3

    def constant(self, name: str, array: np.ndarray) -> str:
        """Keep ``array`` under ``name``."""
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, inputs: list[str], **attributes: object) -> str:
        """Add a node and go on behind it."""
        self.end = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [self.end], **attributes))
        return self.end

    def conv(
        self, out: int, side: int, *, stride: int = 1, groups: int = 1, clip: bool = True
    ) -> None:
        """Add a convolution with its bias, and ReLU6 where ``clip``."""
        fan = side * side * self.channels // groups
        shape = (out, self.channels // groups, side, side)
        number = len(self.nodes)
        weight = self._draw.standard_normal(shape) * ((2 if clip else 1) / fan) ** 0.5
        bias = self._draw.standard_normal(out) * 0.1
        held = [
            self.constant(f"{name}{number}", array.astype(np.float32))
            for name, array in (("weight", weight), ("bias", bias))
        ]
        pad = side // 2
        self.add("Conv", [self.end, *held], strides=[stride] * 2, group=groups, pads=[pad] * 4)
        self.channels = out
        if clip:
            self.add("Clip", [self.end, "zero", "six"])

    def block(self, expand: int, out: int, stride: int) -> None:
        """Add an inverted residual."""
        before, inputs = self.end, self.channels
        if expand > 1:
            self.conv(inputs * expand, 1)
        self.conv(self.channels, 3, stride=stride, groups=self.channels)
        self.conv(out, 1, clip=False)
        if stride == 1 and inputs == out:
            self.add("Add", [before, self.end])


def build(path: Path) -> None:
    """Write the model, from uint8 pictures ``(n, 3, 224, 224)`` to logits."""
    net = _Net()
    net.nodes.append(helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT))
    net.nodes.append(helper.make_node("Div", ["real", "most"], ["scaled"]))
    for name, value in (("zero", 0), ("six", 6), ("most", 127.5)):
        net.constant(name, np.array(value, np.float32))
    net.conv(_FIRST, 3, stride=2)
    for expand, out, repeats, stride in _STAGES:
        for place in range(repeats):
            net.block(expand, out, stride if place == 0 else 1)
    net.conv(_LAST, 1)
    net.add("GlobalAveragePool", [net.end])
    net.add("Flatten", [net.end])
    weight = np.random.default_rng(1).standard_normal((CLASSES, _LAST)) * _LAST**-0.5
    held = net.constant("classes", weight.astype(np.float32))
    net.nodes.append(helper.make_node("Gemm", [net.end, held], ["logits"], transB=1))
    graph = helper.make_graph(
        net.nodes,
        "mobilenet_v2",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        net.weights,
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
