"""What a model may be brought in from, and how: the table, and ``bring``.

Nothing here imports a framework. A framework runs in a process of its own, which loads the
model, exports it and answers inputs; this side runs the exported file on the engine a
device uses and holds its answers against those::

    brought = bring("models.net:make", Wish(weights=Path("net.safetensors"), ...), folder)
"""

import re
import tempfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from edgewright.core.errors import ModelError
from edgewright.toolchain.sources import archives
from edgewright.toolchain.sources.samples import load_samples
from edgewright.toolchain.sources.settle import settle
from edgewright.toolchain.sources.values import (
    Brought,
    Source,
    Wish,
    parse_freeze,
    parse_input,
)

__all__ = [
    "SOURCES",
    "Brought",
    "SourceInfo",
    "Wish",
    "bring",
    "load_samples",
    "parse_freeze",
    "parse_input",
    "recognise",
]


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A row of the table.

    Attributes:
        name: What this kind of model is called.
        summary: What it is, one sentence.
        given: How it is written on a command line.
        module: The sibling that holds ``SOURCE``.
        needs: What has to be installed beside edgewright; empty if nothing.
        runs_code: Whether bringing it in runs code that comes with the model.
    """

    name: str
    summary: str
    given: str
    module: str
    needs: str
    runs_code: bool = False


SOURCES = {
    info.name: info
    for info in (
        SourceInfo(
            "onnx", "ONNX, opset 11 or later, with external data.", "model.onnx", "onnx", ""
        ),
        SourceInfo(
            "torch-export",
            "A program saved by torch.export.",
            "model.pt2",
            "torch",
            "edgewright[torch]",
        ),
        SourceInfo(
            "factory",
            "A Python callable that returns a torch module, and its weights.",
            "package.module:callable",
            "torch",
            "edgewright[torch]",
            runs_code=True,
        ),
        SourceInfo(
            "transformers",
            "A folder that save_pretrained wrote, with safetensors weights.",
            "folder with config.json",
            "torch",
            "edgewright[transformers]",
        ),
        SourceInfo(
            "torchscript",
            "TorchScript, which torch has deprecated.",
            "model.pt",
            "torch",
            "edgewright[torch]",
        ),
        SourceInfo(
            "torch-pickle",
            "A whole module that torch.save pickled; only with --trust-pickle.",
            "model.pt",
            "torch",
            "edgewright[torch]",
            runs_code=True,
        ),
        SourceInfo(
            "saved-model",
            "A TensorFlow SavedModel.",
            "folder with saved_model.pb",
            "tensorflow",
            "an environment with tensorflow and tf2onnx",
        ),
        SourceInfo(
            "keras",
            "A Keras model.",
            "model.keras, model.h5",
            "tensorflow",
            "an environment with tensorflow and tf2onnx",
        ),
        SourceInfo(
            "tflite",
            "A TensorFlow Lite model.",
            "model.tflite",
            "tensorflow",
            "an environment with tensorflow and tf2onnx",
        ),
    )
}

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_SUFFIXES = {
    ".onnx": "onnx", ".pt2": "torch-export", ".keras": "keras", ".h5": "keras",
    ".hdf5": "keras", ".tflite": "tflite",
}  # fmt: skip
_TORCH_FILES = frozenset({".pt", ".pth", ".ckpt", ".bin"})


def bring(model: str, wish: Wish, folder: Path) -> Brought:
    """Write ``model`` as ``folder/model.onnx`` and show that it answers like its source.

    Raises:
        ModelError: It cannot be read, exported or checked; its free axes are not what
            they say, or are not wanted.
        ParityError: The written model answers otherwise than its source.
        UsageError: The wish means nothing for this kind of model.
        DataError: The samples do not fit.
        StorageError: The disk refused.
    """
    info = recognise(model)
    source = cast("Source", import_module(f"{__name__}.{info.module}").SOURCE)
    with (
        tempfile.TemporaryDirectory(prefix="edgewright-") as scratch,
        source.convert(info.name, model, wish, Path(scratch)) as converted,
    ):
        return settle(converted, info.name, wish, folder)


def recognise(model: str) -> SourceInfo:
    """Return the kind of model that ``model`` names, from its name and its first bytes.

    Raises:
        ModelError: There is nothing there, or nothing that could be brought in.
    """
    path = Path(model)
    if path.is_dir():
        return SOURCES[_folder_kind(path)]
    if not path.exists():
        if _FACTORY.fullmatch(model):
            return SOURCES["factory"]
        raise ModelError(
            f"there is no model {path.name}",
            hint="Give a file, a folder, or package.module:callable.",
        )
    suffix = path.suffix.lower()
    if suffix in _TORCH_FILES:
        return SOURCES[_torch_kind(path)]
    if suffix in _SUFFIXES:
        return SOURCES[_SUFFIXES[suffix]]
    if suffix == ".safetensors":
        raise _weights_only(path)
    known = ", ".join(info.given for info in SOURCES.values())
    raise ModelError(
        f"{path.name} is no kind of model that can be brought in", hint=f"Known: {known}."
    )


def _folder_kind(path: Path) -> str:
    if (path / "saved_model.pb").exists():
        return "saved-model"
    if (path / "config.json").exists():
        return "transformers"
    raise ModelError(
        f"the folder {path.name} holds neither config.json (transformers) nor "
        "saved_model.pb (TensorFlow)",
        hint="Give the file of the model, or a folder that one of the two wrote.",
    )


def _torch_kind(path: Path) -> str:
    content = archives.kind_of(path)
    if content == archives.WEIGHTS:
        raise _weights_only(path)
    return content


def _weights_only(path: Path) -> ModelError:
    return ModelError(
        f"{path.name} holds weights without the model they are for",
        hint=f"Give package.module:callable --weights {path.name}, or the folder that "
        "save_pretrained wrote.",
    )
