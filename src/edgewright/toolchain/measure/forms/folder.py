"""A folder of pictures, one folder a class.

``calibrate/`` and ``evaluate/`` in it hold the classes; where they are missing, the classes
lie in it directly and a quarter of the pictures, told by their own bytes, calibrates.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgewright.core.errors import DataError
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.measure.data import Given, split
from edgewright.toolchain.measure.forms import Form, Pictures, only_input

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
_PARTS = ("calibrate", "evaluate")
_COLOURS = {1: "L", 3: "RGB", 4: "RGBA"}
_BYTE = 255.0

_Listed = list[tuple[Path, int]]


def read(path: Path, inputs: Sequence[TensorSpec], form: Form) -> Given:
    """Return the pictures of a folder as the model's only input takes them.

    Raises:
        DataError: There are none, one cannot be read, or the input is no picture.
    """
    spec = only_input(inputs, "a folder of pictures")
    places = [path / part for part in _PARTS]
    if all(place.is_dir() for place in places):
        names = _classes(places[1])
        calibrate, evaluate = (_listed(place, names) for place in places)
    else:
        names = _classes(path)
        every = _listed(path, names)
        chosen = split(file.read_bytes() for file, _ in every)
        calibrate = [one for one, mine in zip(every, chosen, strict=True) if mine]
        evaluate = [one for one, mine in zip(every, chosen, strict=True) if not mine]
    pillow = _pillow()
    pictures, labels = {}, {}
    for part, listed in zip(_PARTS, (calibrate, evaluate), strict=True):
        read_one = [_picture(pillow, file, spec, form.pictures) for file, _ in listed]
        pictures[part] = np.stack(read_one) if read_one else np.zeros((0, 0))
        labels[part] = np.array([label for _, label in listed], np.int64)
    return Given(
        where=path.name,
        evaluate={spec.name: pictures["evaluate"]},
        calibrate={spec.name: pictures["calibrate"]} if calibrate else {},
        labels=labels["evaluate"],
        calibrate_labels=labels["calibrate"] if calibrate else None,
        classes=names,
    )


def _classes(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(place.name for place in folder.iterdir() if place.is_dir()))
    if not names:
        raise DataError(
            f"{folder.name} holds no folders of pictures",
            hint="Put the pictures of each class into a folder of its name.",
        )
    return names


def _listed(folder: Path, names: tuple[str, ...]) -> _Listed:
    strange = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name not in names)
    if strange:
        raise DataError(
            f"{folder.name} holds the class {strange[0]!r}, evaluation does not",
            hint="Give both parts the same folders, one a class.",
        )
    return [
        (file, label)
        for label, name in enumerate(names)
        if (folder / name).is_dir()
        for file in sorted((folder / name).iterdir())
        if file.suffix.lower() in _SUFFIXES
    ]


def _pillow() -> ModuleType:
    try:
        return import_module("PIL.Image")
    except ImportError as error:
        raise DataError(
            "pictures are read with Pillow, which is not installed",
            hint='Install it: pip install "edgewright[pictures]".',
        ) from error


def _picture(
    pillow: ModuleType, file: Path, spec: TensorSpec, how: Pictures
) -> npt.NDArray[Any]:
    """Return one picture in the layout the input has, told by where 1, 3 or 4 stands."""
    if len(spec.shape) != 4:
        raise DataError(
            f"input {spec.name!r} has shape {list(spec.shape)}, a picture needs four sizes",
            hint="Give arrays instead, or import the model with a picture as its input.",
        )
    first = spec.shape[1] in _COLOURS and spec.shape[3] not in _COLOURS
    channels = spec.shape[1] if first else spec.shape[3]
    height, width = spec.shape[2:] if first else spec.shape[1:3]
    if channels not in _COLOURS or height < 1 or width < 1:
        raise DataError(
            f"input {spec.name!r} has shape {list(spec.shape)}: no 1, 3 or 4 channels of a "
            "known height and width",
            hint="Freeze the sizes of the input, or give an npz file.",
        )
    try:
        with pillow.open(file) as opened:
            mode = opened.convert(_COLOURS[channels])
            small = mode.resize((width, height), pillow.Resampling.BILINEAR)
            values = np.asarray(small).reshape(height, width, channels)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file.name} is not a picture that can be read: {error}",
            hint="Take the file out of the folder, or save it again as png or jpeg.",
        ) from error
    if how.order == "bgr" and channels >= 3:
        values = np.concatenate([values[..., 2::-1], values[..., 3:]], axis=-1)
    scaled = _scaled(values, spec.dtype, how)
    found: npt.NDArray[Any] = scaled.transpose(2, 0, 1) if first else scaled
    return found


def _scaled(values: npt.NDArray[np.uint8], dtype: str, how: Pictures) -> npt.NDArray[Any]:
    if dtype == "uint8" and how == Pictures(order=how.order):
        return values
    divide = how.divide or (_BYTE if dtype.startswith("float") else 1.0)
    mean, spread = (np.array(one) if one else rest for one, rest in (
        (how.mean, np.zeros(1)), (how.spread, np.ones(1)),
    ))  # fmt: skip
    try:
        return ((values / divide - mean) / spread).astype(dtype)
    except ValueError as error:
        raise DataError(
            f"{len(how.mean)} means and {len(how.spread)} spreads do not fit "
            f"{values.shape[-1]} channels",
            hint="Give data.pictures a mean and a spread for each channel, or one for all.",
        ) from error
