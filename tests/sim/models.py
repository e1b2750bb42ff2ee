"""Small models and samples to build, break and compress; no training, no files of others.

The question they answer is which quarter of an 8 x 8 image is bright. ``quarters`` makes
a network that answers it by construction, ``samples`` the images with their labels.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 8
CLASSES = 4
OPSET = 18


def quarters(*, hidden=64, seed=3, batch="n", opset=OPSET, gain=1.0):
    """Return a float model from ``image`` uint8 (batch, 1, 8, 8) to ``logits``.

    Args:
        hidden: Units of the hidden layer, a multiple of 4; 64 make 132 kB of weights.
        seed: Of the small random weights beside those that do the work.
        batch: Name of the free first dimension, or a fixed size.
        opset: What it says it is written in.
        gain: Scale of the answer; negative turns every answer into a wrong one.
    """
    draw = np.random.default_rng(seed)
    kernel = (draw.normal(size=(8, 1, 3, 3)) * 0.05).astype(np.float32)
    kernel[0, 0, 1, 1] = 1.0
    first = (draw.normal(size=(hidden, 8, SIDE, SIDE)) * 0.002).astype(np.float32)
    last = (draw.normal(size=(CLASSES, hidden)) * 0.01).astype(np.float32)
    half = SIDE // 2
    for unit in range(hidden):
        row, column = divmod(unit % CLASSES, 2)
        place = np.s_[row * half : (row + 1) * half, column * half : (column + 1) * half]
        first[(unit, 0, *place)] += 1 / half**2
        last[unit % CLASSES, unit] += gain * CLASSES / hidden
    weights = {
        "scale": np.array(16.0, np.float32),
        "mean": np.array(0.25, np.float32),
        "kernel": kernel,
        "gamma": np.linspace(0.8, 1.2, 8).astype(np.float32),
        "beta": np.full(8, 0.1, np.float32),
        "running_mean": np.linspace(-0.1, 0.1, 8).astype(np.float32),
        "running_var": np.linspace(0.5, 1.5, 8).astype(np.float32),
        "first": first.reshape(hidden, -1).T.copy(),
        "first_bias": np.full(hidden, 0.05, np.float32),
        "last": last.T.copy(),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["real", "scale"], ["level"]),
        helper.make_node("Sub", ["level", "mean"], ["centred"]),
        helper.make_node("Conv", ["centred", "kernel"], ["map"], pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization",
            ["map", "gamma", "beta", "running_mean", "running_var"],
            ["normal"],
        ),
        helper.make_node("Relu", ["normal"], ["bright"]),
        helper.make_node("Flatten", ["bright"], ["flat"]),
        helper.make_node("Gemm", ["flat", "first", "first_bias"], ["mixed"]),
        helper.make_node("Relu", ["mixed"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "last"], ["logits"]),
    ]
    return model(
        nodes,
        weights,
        inputs={"image": (TensorProto.UINT8, [batch, 1, SIDE, SIDE])},
        outputs={"logits": (TensorProto.FLOAT, [batch, CLASSES])},
        opset=opset,
    )


def model(nodes, weights, *, inputs, outputs, opset=OPSET):
    """Return a model of ``nodes``; ``weights`` are arrays by name."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    proto.ir_version = 10
    return proto


def samples(count, *, seed=0, blur=9.0):
    """Return ``count`` images, uint8 (count, 1, 8, 8), and their labels, int64.

    ``blur`` is how far noise reaches, of 16 levels; a bright quarter is 5 above it.
    """
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    images = draw.uniform(0, blur, size=(count, 1, SIDE, SIDE))
    half = SIDE // 2
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[0, row * half : (row + 1) * half, column * half : (column + 1) * half] += 5
    return np.clip(images, 0, 16).astype(np.uint8), labels.astype(np.int64)


def write_model(path, proto=None):
    """Write a model, ``quarters`` unless another is given; return the path."""
    onnx.save(proto or quarters(), path)
    return Path(path)


def write_data(path, *, calibrate=60, evaluate=400, **arrays):
    """Write a data file; ``arrays`` replace what it would hold, None leaves one out."""
    inputs, labels = samples(calibrate + evaluate)
    held = {
        "calibrate_images": inputs[:calibrate],
        "calibrate_labels": labels[:calibrate],
        "evaluate_images": inputs[calibrate:],
        "evaluate_labels": labels[calibrate:],
        **arrays,
    }
    np.savez(path, **{name: array for name, array in held.items() if array is not None})
    return Path(path)
