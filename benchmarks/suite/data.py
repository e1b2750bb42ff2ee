"""The data sets of the suite, computed when they are needed, the same on every run.

Each public function makes one part of one data set. The parts are drawn from streams
of their own, so no sample is in two of them, and whoever needs one part does not pay
for the others. What is being measured, like where a class lies, comes from a third
stream that all parts share.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from zlib import crc32

import numpy as np
import numpy.typing as npt
from benchmarks.suite import pictures, signals

Array = npt.NDArray[Any]
Generator = np.random.Generator
Part = Literal["train", "calibrate", "evaluate"]

CALIBRATE, EVALUATE = 512, 5_000
# As many are drawn at a time; pictures take some hundred bytes a pixel while drawn.
_BLOCK = 1_000

NOTHING = -1
PHRASE_LENGTH, PHRASE_SHORTEST = 40, 10
PADDING, NOT = 0, 1


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Samples of one part; the first dimension of every array is the sample.

    Attributes:
        inputs: What is fed to the model, by the name of its input.
        targets: What is right, by what it is: ``label``, ``boxes`` or ``mask``.
    """

    inputs: dict[str, Array]
    targets: dict[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


Draw = Callable[[Generator, int], Samples]


def tabular(part: Part) -> Samples:
    """Return readings of 24 sensors, units from milli to kilo; which of 6 states it is."""
    return _made("tabular", part, _tabular, train=20_000)


def glyphs(part: Part) -> Samples:
    """Return digits in unsteady handwriting, uint8 ``(n, 1, 28, 28)``."""
    return _made("glyphs", part, _glyphs, train=12_000)


def figures(part: Part) -> Samples:
    """Return one coloured figure of 8 before clutter, uint8 ``(n, 3, 32, 32)``."""
    return _made("figures", part, _figures, train=20_000)


def textures(part: Part) -> Samples:
    """Return one texture of 8 in poor light, uint8 ``(n, 3, 32, 32)``."""
    return _made("textures", part, _textures, train=20_000)


def scenes(part: Part) -> Samples:
    """Return one to three figures of 3 kinds on noise, uint8 ``(n, 1, 64, 64)``.

    Targets: ``boxes`` ``(n, 3, 4)``, corners x0 y0 x1 y1 in pixels, and ``label``
    ``(n, 3)``; a place without a figure has the label ``NOTHING``.
    """
    return _made("scenes", part, _scenes, train=10_000)


def regions(part: Part) -> Samples:
    """Return two figures of 3 kinds, uint8 ``(n, 1, 32, 32)``.

    The target ``mask`` ``(n, 32, 32)`` is 0 for ground and else the kind from 1.
    """
    return _made("regions", part, _regions, train=10_000)


def keywords(part: Part) -> Samples:
    """Return a quarter of a second at 4 kHz with one of 7 words or none, in noise."""
    return _made("keywords", part, _labelled("audio", signals.keyword, 8), train=24_000)


def heartbeats(part: Part) -> Samples:
    """Return 2 seconds of an electrocardiogram at 128 Hz with one of 5 rhythms."""
    return _made("heartbeats", part, _labelled("lead", signals.heartbeat, 5), train=16_000)


def motion(part: Part) -> Samples:
    """Return 64 steps of an accelerometer and a gyroscope: one of 6 activities."""
    return _made("motion", part, _labelled("motion", signals.motion, 6), train=12_000)


def vibration(part: Part) -> Samples:
    """Return spectra of a machine; ``label`` is 1 for a fault.

    There are faults in ``evaluate`` only: nobody has them when the model is made.
    """
    draw = _labelled("spectrum", signals.vibration, 2 if part == "evaluate" else 1)
    return _made("vibration", part, draw, train=20_000)


def phrases(part: Part) -> Samples:
    """Return phrases of 40 words, about one of 4 topics; nothing is padded."""
    return _made("phrases", part, partial(_phrases, shortest=PHRASE_LENGTH), train=12_000)


def phrases_padded(part: Part) -> Samples:
    """Return phrases of 10 to 40 words, padded to 40; ``mask`` is 1 on words, 0 beyond."""
    draw = partial(_phrases, shortest=PHRASE_SHORTEST)
    return _made("phrases_padded", part, draw, train=24_000)


def _made(name: str, part: Part, draw: Draw, *, train: int) -> Samples:
    count = {"train": train, "calibrate": CALIBRATE, "evaluate": EVALUATE}[part]
    rng = _stream(name, part)
    blocks = [draw(rng, min(_BLOCK, count - start)) for start in range(0, count, _BLOCK)]
    return Samples(
        {key: np.concatenate([b.inputs[key] for b in blocks]) for key in blocks[0].inputs},
        {key: np.concatenate([b.targets[key] for b in blocks]) for key in blocks[0].targets},
    )


def _stream(*words: str) -> Generator:
    return np.random.default_rng([crc32(word.encode()) for word in words])


def _labelled(
    name: str, of: Callable[[Generator, npt.NDArray[np.int64]], Array], classes: int
) -> Draw:
    """Return a draw of signals with equally many of each class."""

    def draw(rng: Generator, count: int) -> Samples:
        label = rng.permutation(np.arange(count) % classes).astype(np.int64)
        return Samples({name: of(rng, label)}, {"label": label})

    return draw


def _tabular(rng: Generator, count: int) -> Samples:
    world = _stream("tabular", "world")
    centres = world.normal(0, 1, (6, 4, 10))
    mix = world.normal(0, 0.45, (2, 24, 10))
    unit, zero = 10 ** world.uniform(-3, 3, 24), world.normal(0, 3, 24)

    label = rng.integers(6, size=count)
    hidden = centres[label, rng.integers(4, size=count)]
    hidden = hidden + rng.normal(0, 0.48, hidden.shape)
    seen = np.tanh(hidden @ mix[0].T) + 0.5 * hidden @ mix[1].T
    seen = seen + rng.normal(0, 0.1, seen.shape)
    return Samples({"sensors": ((seen + zero) * unit).astype(np.float32)}, {"label": label})


def _glyphs(rng: Generator, count: int) -> Samples:
    digit = rng.integers(10, size=count)
    ink = pictures.handwriting(rng, digit, side=28)
    ink = ink * pictures.column(rng.uniform(0.6, 1, count))
    return Samples({"image": _grey(rng, ink, noise=0.09)}, {"label": digit})


def _grey(rng: Generator, level: Array, *, noise: float) -> Array:
    """Return levels from 0 to 1 as a noisy camera gives them, uint8 ``(n, 1, s, s)``."""
    seen = level + rng.normal(0, noise, level.shape)
    return (seen[:, None] * 255).clip(0, 255).astype(np.uint8)


def _placed(
    rng: Generator, kind: npt.NDArray[np.int64], *, side: int, radius: tuple[float, float]
) -> Array:
    """Return the cover of one figure each, somewhere and somehow turned."""
    count = len(kind)
    size = rng.uniform(*radius, count)
    x, y = rng.uniform(0, 1, (2, count)) * (side - 1 - 2 * size) + size
    angle = rng.uniform(0, 2 * np.pi, count)
    return pictures.figures(kind, side=side, x=x, y=y, radius=size, angle=angle)


def _figures(rng: Generator, count: int) -> Samples:
    kind = rng.integers(len(pictures.FIGURES), size=count)
    ground = rng.uniform(0, 1, (count, 3, 1, 1)).astype(np.float32)
    image = ground + np.zeros((count, 3, 32, 32), np.float32)
    for _ in range(3):
        blot = _placed(rng, np.zeros_like(kind), side=32, radius=(1.5, 4))[:, None]
        image += blot * (rng.uniform(0, 1, (count, 3, 1, 1)) - image)
    cover = _placed(rng, kind, side=32, radius=(6, 12))[:, None]
    # Ink that is too near the ground in every colour could not be seen by anyone.
    ink = np.mod(ground + rng.uniform(0.2, 0.8, ground.shape), 1)
    image += cover * (ink - image)
    image += rng.normal(0, 0.1, image.shape)
    return Samples({"image": (image * 255).clip(0, 255).astype(np.uint8)}, {"label": kind})


def _textures(rng: Generator, count: int) -> Samples:
    kind = rng.integers(len(pictures.TEXTURES), size=count)
    x, y = rng.uniform(0, 32, (2, count))
    level = pictures.textures(
        kind, side=32, x=x, y=y,
        period=rng.uniform(5, 11, count), angle=rng.uniform(0, np.pi, count),
    )  # fmt: skip
    contrast = pictures.column(rng.uniform(0.06, 0.3, count))
    light = pictures.turned(32, x, y, rng.uniform(0, 6.3, count))[0] * 0.008
    colour = rng.uniform(-1, 1, (count, 3, 1, 1)) * 0.3 + 1
    image = 0.5 + colour * (level * contrast)[:, None] + light[:, None]
    image += rng.normal(0, 0.12, image.shape)
    return Samples({"image": (image * 255).clip(0, 255).astype(np.uint8)}, {"label": kind})


def _scenes(rng: Generator, count: int) -> Samples:
    image = np.full((count, 64, 64), 0.25, np.float32)
    boxes, labels = np.zeros((count, 3, 4), np.float32), np.full((count, 3), NOTHING)
    present = np.arange(3) < rng.integers(1, 4, (count, 1))
    for place in range(3):
        kind = rng.integers(3, size=count)
        cover = _placed(rng, kind, side=64, radius=(5, 13))
        cover *= pictures.column(present[:, place])
        image += cover * (pictures.column(rng.uniform(0.45, 0.9, count)) - image)
        boxes[:, place] = _around(cover)
        labels[:, place] = np.where(present[:, place], kind, NOTHING)
    boxes *= present[..., None]
    return Samples({"image": _grey(rng, image, noise=0.15)}, {"boxes": boxes, "label": labels})


def _around(cover: Array) -> Array:
    """Return the smallest box around each cover, corners x0 y0 x1 y1 in pixels."""
    edges = []
    for across in (1, 2):
        held: Array = np.any(cover > 0.5, axis=across)
        edges.append((held.argmax(axis=1), held.shape[1] - held[:, ::-1].argmax(axis=1)))
    (left, right), (top, bottom) = edges
    return np.stack([left, top, right, bottom], axis=1).astype(np.float32)


def _regions(rng: Generator, count: int) -> Samples:
    image = np.full((count, 32, 32), 0.3, np.float32)
    mask = np.zeros((count, 32, 32), np.int64)
    for _ in range(2):
        kind = rng.integers(3, size=count)
        cover = _placed(rng, kind, side=32, radius=(5, 9))
        image += cover * (pictures.column(rng.uniform(0.5, 0.9, count)) - image)
        mask = np.where(cover > 0.5, pictures.column(kind + 1).astype(np.int64), mask)
    return Samples({"image": _grey(rng, image, noise=0.12)}, {"mask": mask})


def _phrases(rng: Generator, count: int, *, shortest: int) -> Samples:
    """Return phrases whose topic is the one most words are of that no NOT stands before.

    Words 2 to 15 are of no topic, 16 to 63 of topics 0 to 3, twelve of each. A phrase in
    which two topics lead has none; the first of them is then given one word more.
    """
    length = rng.integers(shortest, PHRASE_LENGTH + 1, count)
    favoured = rng.integers(4, size=(count, 1))
    shape = (count, PHRASE_LENGTH)
    topic = np.where(rng.random(shape) < 0.2, favoured, rng.integers(4, size=shape))
    words = 16 + 12 * topic + rng.integers(12, size=shape)
    plain = rng.random(shape)
    words = np.where(plain < 0.35, rng.integers(2, 16, shape), words)
    words = np.where(plain > 0.85, NOT, words)
    mask = np.arange(PHRASE_LENGTH) < length[:, None]
    words = np.where(mask, words, PADDING)

    leads = _topic_counts(words)
    label = leads.argmax(axis=1)
    tied = (leads == leads.max(axis=1, keepdims=True)).sum(axis=1) > 1
    words[tied, :2] = 16 + 12 * label[tied, None] + rng.integers(12, size=(tied.sum(), 2))
    label = _topic_counts(words).argmax(axis=1)
    return Samples(
        {"words": words.astype(np.int64), "mask": mask.astype(np.int64)}, {"label": label}
    )


def _topic_counts(words: Array) -> Array:
    """Return how many words of each topic count in each phrase, ``(n, 4)``."""
    refused = np.zeros(words.shape, bool)
    refused[:, 1:] = words[:, :-1] == NOT
    topic = np.where((words >= 16) & ~refused, (words - 16) // 12, NOTHING)
    return np.stack([(topic == index).sum(axis=1) for index in range(4)], axis=1)
