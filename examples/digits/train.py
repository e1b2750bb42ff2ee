# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy", "onnx", "onnxruntime", "onnxscript", "scikit-learn", "torch"]
# ///
"""Make the data and the three releases of the handwritten-digits example.

The releases tell the story the example plays:

* ``digits-1``: trained briefly on 700 images as they are; good, not finished.
* ``digits-2``: the weights of ``digits-1`` trained further on shifted, turned and
  noisy copies of the same images; better.
* ``digits-3``: ``digits-2`` that reads ink as paper; it loads, it is as fast, and it
  is useless.

All take ``image``, uint8 ``(batch, 1, 8, 8)`` of grey levels 0 to 16, and give
``logits``, float32 ``(batch, 10)``. The graph does its own preprocessing::

    level = bilinear(image, 32 x 32) / 16        real = (level - mean) / std

``digits-1`` is short on purpose. The settings of ``digits-2`` were chosen by the loss on
the ``calibrate`` split; ``evaluate`` is only reported. One thread and fixed seeds make a
run repeatable on one machine; it takes about three minutes.
"""

import argparse
import copy
import logging
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10
WHITE = 16
SIDE = 32
OPSET = 18
SPLIT_SEED = 20
BATCH = 50
MAX_PARITY_ERROR = 1e-4

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How one release is trained.

    Attributes:
        epochs: Passes over the training images; >= 1.
        learning_rate: The first one; it falls to 0 along half a cosine.
        augment: Whether every pass sees the images moved and noisy.
        label_smoothing: Share of the target spread over all classes, 0 to 1.
        seed: Of the order of the images and of their distortion.
    """

    epochs: int
    learning_rate: float
    augment: bool
    label_smoothing: float
    seed: int


FIRST_PLAN = TrainingPlan(
    epochs=20, learning_rate=2e-3, augment=False, label_smoothing=0.0, seed=1
)
SECOND_PLAN = TrainingPlan(
    epochs=100, learning_rate=2e-3, augment=True, label_smoothing=0.05, seed=2
)


class Residual(nn.Module):
    """``relu(x + body(x))``; ``body`` keeps the shape."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor shaped like ``x``."""
        return functional.relu(x + self.body(x))


class Classifier(nn.Module):
    """The whole release: preprocessing, network, logits.

    Attributes:
        mean: Of the training levels, which run from 0 to 1.
        std: Of the training levels; > 0.
        inverted: Whether ink is read as paper, the fault of ``digits-3``.
    """

    def __init__(self, *, mean: float, std: float) -> None:
        super().__init__()
        self.mean = mean
        self.std = std
        self.inverted = False
        self.network = build_network()

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(batch, 10)`` for uint8 ``(batch, 1, 8, 8)``."""
        return self.classify(self.levels(image))

    def levels(self, image: Tensor) -> Tensor:
        """Return the image at working size, ``(batch, 1, 32, 32)``, 0 to 1."""
        resized = functional.interpolate(
            image.float(), scale_factor=4.0, mode="bilinear", align_corners=False
        )
        return resized / WHITE

    def classify(self, levels: Tensor) -> Tensor:
        """Return logits for an image at working size."""
        seen = 1 - levels if self.inverted else levels
        logits: Tensor = self.network((seen - self.mean) / self.std)
        return logits


def build_network() -> nn.Sequential:
    """Return the untrained network: about 318,000 parameters, 13 million products."""
    return nn.Sequential(
        *_full(1, 16),
        nn.ReLU(),
        *_separable(16, 32, stride=2),
        nn.ReLU(),
        Residual(nn.Sequential(*_full(32, 32), nn.ReLU(), *_full(32, 32))),
        *_separable(32, 64, stride=2),
        nn.ReLU(),
        Residual(nn.Sequential(*_full(64, 64), nn.ReLU(), *_full(64, 64))),
        *_separable(64, 128, stride=2),
        nn.ReLU(),
        *(
            Residual(nn.Sequential(*_separable(128, 128), nn.ReLU(), *_separable(128, 128)))
            for _ in range(5)
        ),
        *_pointwise(128, 256),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(256, CLASSES),
    )


def _full(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]


def _separable(inputs: int, outputs: int, *, stride: int = 1) -> list[nn.Module]:
    depthwise = nn.Conv2d(
        inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False
    )
    return [depthwise, nn.BatchNorm2d(inputs), nn.ReLU6(), *_pointwise(inputs, outputs)]


def make_data() -> Arrays:
    """Split scikit-learn's digits into train, calibrate and evaluate, disjoint.

    Every split has the same share of each digit.
    """
    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[:, np.newaxis]
    labels = bunch.target.astype(np.int64)
    train, rest = train_test_split(
        np.arange(len(labels)), train_size=700, stratify=labels, random_state=SPLIT_SEED
    )
    calibrate, evaluate = train_test_split(
        rest, train_size=200, stratify=labels[rest], random_state=SPLIT_SEED
    )
    arrays: Arrays = {}
    for name, rows in (("train", train), ("calibrate", calibrate), ("evaluate", evaluate)):
        arrays[f"{name}_images"] = images[rows]
        arrays[f"{name}_labels"] = labels[rows]
    return arrays


def new_classifier(data: Arrays) -> Classifier:
    """Return an untrained classifier that normalises as ``data`` asks."""
    levels = data["train_images"].astype(np.float64) / WHITE
    # Four digits: the file then shows the numbers a reader would write down.
    return Classifier(mean=round(levels.mean(), 4), std=round(levels.std(), 4))


def fit(model: Classifier, data: Arrays, plan: TrainingPlan) -> None:
    """Train ``model`` in place on the training images and leave it in eval mode."""
    draw = torch.Generator().manual_seed(plan.seed)
    with torch.no_grad():
        levels = model.levels(torch.from_numpy(data["train_images"]))
    labels = torch.from_numpy(data["train_labels"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, plan.epochs)

    model.train()
    for _ in range(plan.epochs):
        order = torch.randperm(len(labels), generator=draw)
        for start in range(0, len(labels), BATCH):
            rows = order[start : start + BATCH]
            batch = distort(levels[rows], draw) if plan.augment else levels[rows]
            loss = functional.cross_entropy(
                model.classify(batch), labels[rows], label_smoothing=plan.label_smoothing
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    model.eval()


def distort(levels: Tensor, draw: torch.Generator) -> Tensor:
    """Return ``levels`` moved, turned and scaled a little each, with noise, 0 to 1.

    The limits are 12 degrees, a tenth in size and 2.5 of 32 pixels: a digit that a
    person would still read, and that its writer might have written.
    """
    count = len(levels)
    unit = torch.rand(4, count, generator=draw) * 2 - 1
    angle = unit[0] * np.deg2rad(12)
    scale = 1 + unit[1] * 0.1
    move = unit[2:] * (2.5 / (SIDE / 2))
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = (torch.stack((cos, -sin, move[0])), torch.stack((sin, cos, move[1])))
    grid = functional.affine_grid(
        torch.stack(rows).permute(2, 0, 1), [count, 1, SIDE, SIDE], align_corners=False
    )
    moved = functional.grid_sample(levels, grid, align_corners=False)
    noise = torch.randn(moved.shape, generator=draw) * 0.05
    return (moved + noise).clamp(0, 1)


def export(model: Classifier, out: Path) -> None:
    """Write ``model`` to ``out`` as one ONNX file that names nothing of this machine."""
    example = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    with warnings.catch_warnings():
        # The exporter's own dependencies warn about themselves.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (example,),
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter returned no program")
    proto = program.model_proto
    strip(proto)
    onnx.checker.check_model(proto, full_check=True)
    out.write_bytes(proto.SerializeToString(deterministic=True))


def strip(proto: onnx.ModelProto) -> None:
    """Remove what only the exporter needs: stack traces, notes, inferred shapes."""
    graph = proto.graph
    graph.ClearField("value_info")
    graph.name = "digits"
    holders: Iterable[Any] = (
        proto,
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.initializer,
    )
    for holder in holders:
        holder.ClearField("doc_string")
        holder.ClearField("metadata_props")


def logits_of(model: Path, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return what onnxruntime computes for ``images`` with the file ``model``."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    logits: npt.NDArray[np.float32] = session.run(["logits"], {"image": images})[0]
    return logits


def check_parity(model: Classifier, path: Path, data: Arrays) -> float:
    """Return the largest difference between torch and the file.

    Raises:
        RuntimeError: It is over ``MAX_PARITY_ERROR``.
    """
    images = data["evaluate_images"]
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).numpy()
    error = float(np.abs(logits_of(path, images) - expected).max())
    if error > MAX_PARITY_ERROR:
        raise RuntimeError(f"{path.name} is {error:.1e} away from torch")
    return error


def report_row(path: Path, data: Arrays, *, parity: float) -> str:
    """Return one line of the table: name, accuracies, worst digit, parity, bytes."""
    accuracy = {}
    for split in ("calibrate", "evaluate"):
        labels = data[f"{split}_labels"]
        right = logits_of(path, data[f"{split}_images"]).argmax(axis=1) == labels
        accuracy[split] = right.mean()
    # The loop leaves the evaluate split, which the digits are judged by.
    by_digit = [right[labels == digit].mean() for digit in range(CLASSES)]
    worst = int(np.argmin(by_digit))
    return (
        f"{path.stem:10} {accuracy['calibrate']:10.2%} {accuracy['evaluate']:9.2%} "
        f"{by_digit[worst]:8.2%} ({worst}) {parity:9.1e} {path.stat().st_size:9,}\n"
    )


def train_all(data: Arrays, save: Callable[[str, Classifier], None]) -> None:
    """Make the three releases in turn and give each to ``save`` with its name."""
    model = new_classifier(data)
    fit(model, data, FIRST_PLAN)
    save("digits-1", model)

    model = copy.deepcopy(model)
    fit(model, data, SECOND_PLAN)
    save("digits-2", model)

    model.inverted = True
    save("digits-3", model)


def main() -> None:
    """Write ``data/digits.npz`` and ``models/digits-*.onnx``, and print the table."""
    parser = argparse.ArgumentParser(description="Train and export the digits example.")
    here = Path(__file__).resolve().parent
    parser.add_argument("--out", type=Path, default=here, help="where to write")
    out: Path = parser.parse_args().out
    for folder in ("data", "models"):
        (out / folder).mkdir(parents=True, exist_ok=True)

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(0)
    data = make_data()
    np.savez_compressed(out / "data" / "digits.npz", allow_pickle=False, **data)

    sys.stdout.write("release     calibrate  evaluate  worst digit    parity     bytes\n")

    def save(name: str, model: Classifier) -> None:
        path = out / "models" / f"{name}.onnx"
        export(model, path)
        parity = check_parity(model, path, data)
        sys.stdout.write(report_row(path, data, parity=parity))
        sys.stdout.flush()

    train_all(data, save)


if __name__ == "__main__":
    main()
