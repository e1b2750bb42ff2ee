"""A model that tells coloured halves, so that every mistake in preparing inputs shows.

A class is a colour in the left or the top half, brighter or dimmer by colour; the model
answers the nearest class mean. Scale, order of colours, layout, height and width all
matter to it.
"""

import numpy as np
from onnx import TensorProto, helper
from tests.sim.models import model

SIDE, COLOURS = 8, 3
NAMES = ("left red", "left green", "left blue", "top red", "top green", "top blue")
_BRIGHT = (0.9, 0.6, 0.45)


def means():
    """Return what each class looks like without noise, float32 (6, 3, 8, 8)."""
    found = np.full((len(NAMES), COLOURS, SIDE, SIDE), 0.2, np.float32)
    half = SIDE // 2
    for label in range(len(NAMES)):
        place, colour = divmod(label, COLOURS)
        rows, columns = (
            (slice(None), slice(half)) if place == 0 else (slice(half), slice(None))
        )
        found[label, colour, rows, columns] = _BRIGHT[colour]
    return found


def classifier(*, bias=0.0, wide=1.0):
    """Return the model: float32 (n, 3, 8, 8) to six scores.

    Args:
        bias: Added to the score of the last class; far below zero makes it a dead one.
        wide: What one weight of the convolution, on a channel nothing reads, is.
    """
    templates = means().reshape(len(NAMES), -1)
    kernel = np.zeros((4, COLOURS, 1, 1), np.float32)
    for colour in range(COLOURS):
        kernel[colour, colour] = 1.0
    kernel[3, 0] = wide
    first = np.zeros((4 * SIDE * SIDE, 64), np.float32)
    first[: COLOURS * SIDE * SIDE, : len(NAMES)] = templates.T
    draw = np.random.default_rng(0)
    first[: COLOURS * SIDE * SIDE, len(NAMES) :] = draw.normal(size=(192, 58)) * 0.05
    last = np.zeros((64, len(NAMES)), np.float32)
    last[: len(NAMES)] = np.eye(len(NAMES))
    offset = -np.square(templates).sum(axis=1) / 2
    offset[-1] += bias
    return model(
        [
            helper.make_node("Conv", ["image", "kernel"], ["map"]),
            helper.make_node("Relu", ["map"], ["colours"]),
            helper.make_node("Flatten", ["colours"], ["flat"]),
            helper.make_node("MatMul", ["flat", "first"], ["alike"]),
            helper.make_node("Relu", ["alike"], ["hidden"]),
            helper.make_node("Gemm", ["hidden", "last", "offset"], ["scores"]),
        ],
        {"kernel": kernel, "first": first, "last": last, "offset": offset.astype(np.float32)},
        inputs={"image": (TensorProto.FLOAT, ["n", COLOURS, SIDE, SIDE])},
        outputs={"scores": (TensorProto.FLOAT, ["n", len(NAMES)])},
    )


def pictures(count, *, seed=0):
    """Return images in 0..1, float32 (count, 3, 8, 8), and their labels."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % len(NAMES)
    noisy = means()[labels] + draw.normal(size=(count, COLOURS, SIDE, SIDE)) * 0.25
    return noisy.clip(0, 1).astype(np.float32), labels.astype(np.int64)
