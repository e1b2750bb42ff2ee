"""Models of TensorFlow and Keras, through ``tf2onnx`` in an environment of its own.

TensorFlow is not installed beside the rest: it pins libraries that others need in other
versions. The interpreter of an environment that has it is named by ``--tf-python`` or
``EDGEWRIGHT_TF_PYTHON``, and runs ``script.py`` of this folder, which uses nothing of
edgewright's.
"""

import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgewright.core import digest
from edgewright.core.errors import ModelError, UsageError
from edgewright.toolchain.sources.process import framework
from edgewright.toolchain.sources.values import Converted, Wish

VARIABLE = "EDGEWRIGHT_TF_PYTHON"
# tf2onnx writes none newer.
_OPSET = 18
_SCRIPT = Path(__file__).with_name("script.py")
_MAKE = (
    "python3 -m venv tf && tf/bin/pip install tensorflow-cpu tf2onnx && "
    f"export {VARIABLE}=$PWD/tf/bin/python"
)
_ROUTE = (
    "or write ONNX where the model was trained (python -m tf2onnx.convert) and import that."
)


class _TensorFlow:
    """The source."""

    @contextmanager
    def convert(
        self, kind: str, model: str, wish: Wish, folder: Path, /
    ) -> Iterator[Converted]:
        """Yield what the process wrote; it answers until the context ends."""
        path = Path(model)
        _check_wish(kind, path, wish)
        if kind == "keras" and not wish.trust_pickle:
            _check_keras(path)
        python = _interpreter(kind, wish)
        command = [str(python), "-I", "-W", "ignore", str(_SCRIPT)]
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        with framework(
            command, folder, timeout_s=wish.timeout_s, environment=quiet
        ) as running:
            told = running.ask(
                {
                    "do": "convert",
                    "kind": kind,
                    "model": str(path.resolve()),
                    "opset": min(wish.opset or _OPSET, _OPSET),
                    "trusted": wish.trust_pickle,
                    "folder": str(folder),
                }
            )
            yield Converted(
                Path(told["model"]), _digest(path), told["exporter"], (), running.answer
            )


SOURCE = _TensorFlow()


def _check_wish(kind: str, path: Path, wish: Wish) -> None:
    if wish.weights or wish.inputs:
        raise UsageError(
            f"{path.name} ({kind}) brings its own weights and inputs",
            hint="Leave out --weights and --input; axes are fixed with --freeze.",
        )


def _interpreter(kind: str, wish: Wish) -> Path:
    named = str(wish.tf_python or os.environ.get(VARIABLE, ""))
    if not named:
        raise ModelError(
            f"a {kind} model needs TensorFlow in an environment of its own, and none is named",
            hint=f"{_MAKE}; {_ROUTE}",
        )
    python = Path(named)
    if not os.access(python, os.X_OK) or python.is_dir():
        raise ModelError(
            f"the interpreter for TensorFlow cannot be run: there is no program {python.name} "
            "at its path",
            hint=f"{_MAKE}; {_ROUTE}",
        )
    return python


def _check_keras(path: Path) -> None:
    """Refuse a Keras file with code in it, by reading its configuration.

    Lambda layers keep marshalled Python code, which loading would run. Files in HDF5 are
    looked at by the script, which has a library for them.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            config: Any = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise ModelError(
            f"{path.name} is no Keras file: {error}",
            hint="Save it again with model.save, as .keras.",
        ) from error
    if '"__lambda__"' in json.dumps(config):
        raise ModelError(
            f"{path.name} holds a Lambda layer: loading it would run code from the file",
            hint="Replace the Lambda by a layer class, export a SavedModel, or give "
            "--trust-pickle if you made the file yourself.",
        )


def _digest(path: Path) -> str:
    if path.is_file():
        return digest.of_file(path)
    files = sorted(one for one in path.rglob("*") if one.is_file())
    lines = (f"{one.relative_to(path)} {digest.of_file(one)}" for one in files)
    return digest.of_bytes("\n".join(lines).encode())
