"""The networks of the suite in torch; each does its own preprocessing.

Every ``forward`` takes what the data set feeds, in its order, raw: bytes of pictures,
millivolts, word numbers. What is scaled is scaled in the graph, as a device would have it.
"""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from benchmarks.suite.data import PHRASE_LENGTH, Samples
from torch import Tensor, nn
from torch.nn import functional

_WORDS = 64
_CELL, _CELLS = 8, 8


class Scaled(nn.Module):
    """``body((x - mean) / std)`` with the mean and spread of each training feature.

    Attributes:
        restored: Whether the answer is brought back to the scale of ``x``.
    """

    def __init__(self, body: nn.Module, train: Samples, *, restored: bool = False) -> None:
        super().__init__()
        (values,) = train.inputs.values()
        self.body = body
        self.restored = restored
        self.register_buffer("mean", torch.from_numpy(values.mean(axis=0)))
        self.register_buffer("std", torch.from_numpy(values.std(axis=0)))

    def forward(self, x: Tensor) -> Tensor:
        """Return what ``body`` makes of ``x``, float32 ``(batch, features)``."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        answer: Tensor = self.body((x - mean) / std)
        return answer * std + mean if self.restored else answer


class Picture(nn.Module):
    """``body`` of a uint8 picture brought to -1 to 1."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, image: Tensor) -> Tensor:
        """Return what ``body`` makes of uint8 ``(batch, channels, side, side)``."""
        answer: Tensor = self.body(image.float() / 127.5 - 1)
        return answer


class Residual(nn.Module):
    """``relu(short(x) + body(x))``; ``short`` makes the shapes fit."""

    def __init__(self, body: nn.Module, short: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.short = short

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor shaped like ``body(x)``."""
        return functional.relu(self.short(x) + self.body(x))


class Gated(nn.Module):
    """Squeeze and excite: each channel weighed by what all of them hold."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool1d(1),
            nn.Conv1d(channels, channels // 4, 1),
            nn.ReLU(),
            nn.Conv1d(channels // 4, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` weighed."""
        weighed: Tensor = x * self.weigh(x)
        return weighed


class Detector(nn.Module):
    """One box and one score a class from each of 8 x 8 cells of a 64 x 64 picture."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Picture(
            *conv(1, 16, stride=2), *conv(16, 32, stride=2), *conv(32, 64, stride=2),
            *conv(64, 64), *conv(64, 64),
        )  # fmt: skip
        self.score_head = nn.Conv2d(64, 3, 1)
        self.box_head = nn.Conv2d(64, 4, 1)
        middle = (torch.arange(_CELLS) + 0.5) * _CELL
        y, x = torch.meshgrid(middle, middle, indexing="ij")
        self.register_buffer("middle", torch.stack([x, y, x, y], dim=-1).reshape(-1, 4))
        self.register_buffer("sense", torch.tensor([-1.0, -1.0, 1.0, 1.0]))
        nn.init.constant_(self.score_head.bias, -3.0)  # type: ignore[arg-type]

    def raw(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes in pixels ``(batch, 64, 4)`` and logits ``(batch, 64, 3)``."""
        seen = self.trunk(image)
        reach = functional.softplus(self.box_head(seen).flatten(2).transpose(1, 2)) * _CELL
        boxes = self.get_buffer("middle") + self.get_buffer("sense") * reach
        return boxes, self.score_head(seen).flatten(2).transpose(1, 2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes x0 y0 x1 y1 in pixels and scores from 0 to 1."""
        boxes, logits = self.raw(image)
        return boxes, torch.sigmoid(logits)


class Segmenter(nn.Module):
    """A small U: what is seen coarsely is joined to what is seen finely."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = Picture(*conv(1, 12), *conv(12, 12))
        self.coarse = nn.Sequential(*conv(12, 24, stride=2), *conv(24, 24))
        self.deep = nn.Sequential(*conv(24, 48, stride=2), *conv(48, 48))
        self.up_deep = nn.ConvTranspose2d(48, 24, 2, stride=2)
        self.join = nn.Sequential(*conv(48, 24))
        self.last = nn.Sequential(*conv(36, 12), nn.Conv2d(12, 4, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(batch, 4, 32, 32)``."""
        fine = self.fine(image)
        coarse = self.coarse(fine)
        joined = self.join(torch.cat([self.up_deep(self.deep(coarse)), coarse], dim=1))
        wide = functional.interpolate(joined, scale_factor=2.0, mode="nearest")
        logits: Tensor = self.last(torch.cat([wide, fine], dim=1))
        return logits


class Recurrent(nn.Module):
    """Two layers of gated recurrent units; the last state answers."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.GRU(6, 48, num_layers=2, batch_first=True)
        self.answer = nn.Linear(48, 6)

    def forward(self, motion: Tensor) -> Tensor:
        """Return logits ``(batch, 6)`` of ``(batch, steps, 6)``."""
        states, _ = self.read(motion)
        logits: Tensor = self.answer(states[:, -1])
        return logits


class Attention(nn.Module):
    """Multi-head attention of words to words, then two linear layers, both residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ask = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.mix = nn.Linear(width, width)
        self.before = nn.LayerNorm(width)
        self.between = nn.LayerNorm(width)
        self.think = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Return a tensor like ``x``; ``bias`` is added to every score."""
        seen = self.before(x)
        ask, key, value = (self.split(part(seen)) for part in (self.ask, self.key, self.value))
        scores = ask @ key.transpose(-1, -2) / math.sqrt(ask.shape[-1]) + bias
        heard = (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
        x = x + self.mix(heard)
        thought: Tensor = x + self.think(self.between(x))
        return thought

    def split(self, x: Tensor) -> Tensor:
        """Return ``(batch, heads, words, width of a head)``."""
        _, words, width = x.shape
        return x.reshape(-1, words, self.heads, width // self.heads).transpose(1, 2)


class Transformer(nn.Module):
    """Two layers of attention over words, and the mean over those that are there."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.word = nn.Embedding(_WORDS, width)
        self.place = nn.Parameter(torch.randn(PHRASE_LENGTH, width) * 0.3)
        self.layers = nn.ModuleList(Attention(width, heads=4) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.answer = nn.Linear(width, 4)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """Return logits ``(batch, 4)`` of int64 words and a mask, both ``(batch, 40)``."""
        there = mask.float()
        # The least float, as most published models have it: what a range is taken from
        # must not see it.
        bias = (1 - there)[:, None, None] * float(np.finfo(np.float32).min)
        x = self.word(words) + self.place
        for layer in self.layers:
            x = layer(x, bias)
        kept = there[:, :, None]
        mean = (self.norm(x) * kept).sum(dim=1) / kept.sum(dim=1)
        logits: Tensor = self.answer(mean)
        return logits


def conv(inputs: int, outputs: int, *, stride: int = 1) -> list[nn.Module]:
    """Return a 3 x 3 convolution, its normalisation and a ReLU."""
    inner = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [inner, nn.BatchNorm2d(outputs), nn.ReLU()]


def separable(inputs: int, outputs: int, *, stride: int = 1) -> list[nn.Module]:
    """Return a depthwise and a pointwise convolution, both with ReLU6."""
    return [
        nn.Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU6(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    ]


def conv1d(
    inputs: int, outputs: int, width: int, *, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a 1-D convolution and its normalisation."""
    inner = nn.Conv1d(
        inputs, outputs, width, stride=stride, padding=width // 2, groups=groups, bias=False
    )
    return [inner, nn.BatchNorm1d(outputs)]


def mlp(train: Samples) -> nn.Module:
    """Return three hidden layers for sensors."""
    layers = (nn.Linear(24, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
    return Scaled(
        nn.Sequential(*layers, nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 6)), train
    )


def lenet(_train: Samples) -> nn.Module:
    """Return LeNet-5 with the sizes compression papers report on: 431,000 parameters."""
    return Picture(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip


def resnet(_train: Samples) -> nn.Module:
    """Return three residual blocks that each halve the picture."""
    blocks = []
    for inputs, outputs in ((16, 32), (32, 64), (64, 96)):
        body = [*conv(inputs, outputs, stride=2), *conv(outputs, outputs)[:2]]
        short = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)
        blocks.append(
            Residual(nn.Sequential(*body), nn.Sequential(short, nn.BatchNorm2d(outputs)))
        )
    tail = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 8))
    return Picture(*conv(3, 16), *blocks, *tail)


def mobilenet(_train: Samples) -> nn.Module:
    """Return depthwise separable convolutions after MobileNet."""
    return Picture(
        *conv(3, 24), *separable(24, 48, stride=2), *separable(48, 96), *separable(96, 96),
        *separable(96, 128, stride=2), *separable(128, 128), *separable(128, 128),
        *separable(128, 192, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(192, 8),
    )  # fmt: skip


def detector(_train: Samples) -> nn.Module:
    """Return the detector of figures."""
    return Detector()


def unet(_train: Samples) -> nn.Module:
    """Return the segmenter of figures."""
    return Segmenter()


def keyword_net(_train: Samples) -> nn.Module:
    """Return a 1-D convolutional network over raw audio, to which order matters."""
    return nn.Sequential(
        *conv1d(1, 32, 33, stride=4), nn.ReLU(), *conv1d(32, 64, 5, stride=2), nn.ReLU(),
        *conv1d(64, 64, 5), nn.ReLU(), *conv1d(64, 96, 5, stride=2), nn.ReLU(),
        *conv1d(96, 96, 5, stride=2), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(),
        nn.Linear(96 * 16, 64), nn.ReLU(), nn.Linear(64, 8),
    )  # fmt: skip


def heartbeat_net(_train: Samples) -> nn.Module:
    """Return separable 1-D convolutions with gates and hard swish."""
    layers: list[nn.Module] = [*conv1d(1, 16, 9, stride=2), nn.Hardswish()]
    for inputs, outputs in ((16, 32), (32, 48), (48, 64)):
        layers += [
            *conv1d(inputs, inputs, 9, stride=2, groups=inputs), nn.Hardswish(),
            *conv1d(inputs, outputs, 1), nn.Hardswish(), Gated(outputs),
        ]  # fmt: skip
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, 5))


def autoencoder(train: Samples) -> nn.Module:
    """Return an autoencoder with a waist of 8, which no fault passes unharmed."""
    sizes = (128, 128, 64, 8, 64, 128, 128)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return Scaled(nn.Sequential(*layers[:-1]), train, restored=True)


def gru(_train: Samples) -> nn.Module:
    """Return the recurrent network for motion."""
    return Recurrent()


def transformer(_train: Samples) -> nn.Module:
    """Return the transformer for phrases."""
    return Transformer()


def cross_entropy(
    model: nn.Module, inputs: list[Tensor], targets: dict[str, Tensor]
) -> Tensor:
    """Return the loss of a classifier, or of one that classifies pixels."""
    (wanted,) = targets.values()
    return functional.cross_entropy(model(*inputs), wanted)


def restoring(model: nn.Module, inputs: list[Tensor], _targets: dict[str, Tensor]) -> Tensor:
    """Return the mean squared error of what should come out as it went in."""
    return functional.mse_loss(model(inputs[0]), inputs[0])


def detecting(model: Any, inputs: list[Tensor], targets: dict[str, Tensor]) -> Tensor:
    """Return the loss of scores everywhere and of boxes where a figure's middle is."""
    boxes, logits = model.raw(*inputs)
    row, place = torch.nonzero(targets["label"] >= 0, as_tuple=True)
    true = targets["boxes"][row, place]
    middle = ((true[:, :2] + true[:, 2:]) / 2 / _CELL).long()
    cell = middle[:, 1] * _CELLS + middle[:, 0]
    wanted = torch.zeros_like(logits)
    wanted[row, cell, targets["label"][row, place]] = 1
    score = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
    return (score + (1 - _overlap(boxes[row, cell], true)).sum() * 2) / len(logits)


def _overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the generalised intersection over union of boxes, -1 to 1."""
    inner = torch.minimum(boxes, others)[:, 2:] - torch.maximum(boxes, others)[:, :2]
    outer = torch.maximum(boxes, others)[:, 2:] - torch.minimum(boxes, others)[:, :2]
    shared = inner.clamp(min=0).prod(dim=1)
    sizes = [(b[:, 2:] - b[:, :2]).prod(dim=1) for b in (boxes, others)]
    union = sizes[0] + sizes[1] - shared
    around = outer.prod(dim=1)
    return shared / union - (around - union) / around
