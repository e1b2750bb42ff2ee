"""What is asked of an import, what a source gives back, and what comes of it."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgewright.core.errors import UsageError
from edgewright.core.tensors import ITEM_BYTES
from edgewright.toolchain.ir.answers import Array, Feeds
from edgewright.toolchain.ir.axes import BATCH, Axes
from edgewright.toolchain.ir.load import MIN_OPSET

TIMEOUT_S = 600.0
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_AXIS = re.compile(r"[a-wyz_][a-wyz_0-9]*")


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """What an import is asked for beside the model itself.

    Attributes:
        weights: Weights for a factory, ``.safetensors`` or a state dict.
        inputs: What the model is fed, where its source does not say.
        freeze: Sizes of free axes, by the axis' name, ``INPUT:AXIS``, or ``batch``.
        keep_dynamic: Whether axes other than the batch may stay free.
        opset: The opset to write; that of the exporter, or of the model, when None.
        trust_pickle: Whether files that may run any code are loaded.
        samples: Real inputs by name, first axis the sample; None when there are none.
        timeout_s: After which a framework's process is ended.
        tf_python: The interpreter of an environment with TensorFlow and tf2onnx.
    """

    weights: Path | None = None
    inputs: tuple[Axes, ...] = ()
    freeze: Mapping[str, int] = field(default_factory=dict)
    keep_dynamic: bool = False
    opset: int | None = None
    trust_pickle: bool = False
    samples: Mapping[str, Array] | None = None
    timeout_s: float = TIMEOUT_S
    tf_python: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for axis, size in self.freeze.items():
            if size < 1:
                raise UsageError(
                    f"axis {axis!r} cannot be frozen at {size}",
                    hint="Give a size of 1 or more, like --freeze batch=1.",
                )
        if self.opset is not None and self.opset < MIN_OPSET:
            raise UsageError(
                f"opset {self.opset} is too old, {MIN_OPSET} is the oldest that is written",
                hint="Per-channel quantization begins with opset 13.",
            )
        names = [one.name for one in self.inputs]
        if twice := {name for name in names if names.count(name) > 1}:
            raise UsageError(
                f"input {min(twice)!r} is given twice", hint="Give each input once."
            )
        if self.samples is not None and not self.samples:
            raise UsageError("the samples hold no array", hint="Give an array for each input.")


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """What a source gives back: an ONNX file and a way to ask the source itself.

    Attributes:
        model: The file, nothing checked.
        sha256: Digest of what was given, weights included.
        exporter: What wrote the file.
        notes: What a reader should know, one sentence each.
        answer: Asks the source itself; outputs in order, for each set of inputs.
        frozen: Keys of ``Wish.freeze`` that the exporter was told already.
        within: Ranges of whole-number inputs, as ``ir.feeds`` takes them.
        keeps_dynamic: Whether other axes than the batch are free on purpose.
    """

    model: Path
    sha256: str
    exporter: str
    notes: tuple[str, ...]
    answer: Callable[[Sequence[Feeds]], list[list[Array]]]
    frozen: frozenset[str] = frozenset()
    within: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    keeps_dynamic: bool = False


@dataclass(frozen=True, slots=True)
class Brought:
    """A model that was brought in and answers like its source.

    Attributes:
        path: The ONNX file.
        sha256: Digest of the source as it was given, weights included.
        kind: The row of ``SOURCES``.
        exporter: What wrote it.
        notes: What a reader should know, one sentence each.
        parity: Largest difference from the source as a share of the largest answer.
        rows: How many rows both answered.
        real: Whether these were real inputs.
    """

    path: Path
    sha256: str
    kind: str
    exporter: str
    notes: tuple[str, ...]
    parity: float
    rows: int
    real: bool


class Source(Protocol):
    """One way to read a model."""

    def convert(
        self, kind: str, model: str, wish: Wish, folder: Path, /
    ) -> AbstractContextManager[Converted]:
        """Write ``model`` as ONNX somewhere below ``folder``, which is scratch.

        What is yielded can answer until the context ends.

        Raises:
            ModelError: It cannot be read, or not be exported.
            UsageError: The wish means nothing for this kind of model.
            DataError: The samples do not fit.
        """


def parse_input(text: str) -> Axes:
    """Return the input that ``NAME:TYPE:SHAPE`` describes, like ``image:float32:-1x3x32x32``.

    A size is a number, -1 for a free axis, or the name of a free axis (without an x).

    Raises:
        UsageError: It does not say that.
    """
    name, _, rest = text.partition(":")
    dtype, _, sizes = rest.partition(":")
    how = "Write it like image:float32:-1x3x224x224, or ids:int64:batchxseq."
    if not _WORD.fullmatch(name) or dtype not in ITEM_BYTES:
        known = ", ".join(sorted(ITEM_BYTES))
        raise UsageError(f"{text!r} names no input of a known type ({known})", hint=how)
    shape: list[int | str] = []
    for axis, size in enumerate(filter(None, sizes.split("x"))):
        if size == "-1":
            shape.append(BATCH if axis == 0 else f"{name}_{axis}")
        elif size.isdigit() and int(size) > 0:
            shape.append(int(size))
        elif _AXIS.fullmatch(size):
            shape.append(size)
        else:
            raise UsageError(f"{size!r} in {text!r} is no size of an axis", hint=how)
    return Axes(name, dtype, tuple(shape))


def parse_freeze(text: str) -> dict[str, int]:
    """Return the sizes that ``batch=1,seq=128`` gives.

    Raises:
        UsageError: It does not say that.
    """
    sizes: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        axis, equals, size = part.rpartition("=")
        if not equals or not axis or not size.isdigit() or int(size) < 1 or axis in sizes:
            raise UsageError(
                f"{part!r} freezes no axis",
                hint="Write it like batch=1 or seq=128,image:2=224.",
            )
        sizes[axis] = int(size)
    return sizes
