"""Models of torch: what is checked before a process with torch in it is started.

That process is ``edgewright.toolchain.sources.torch.child``; nothing here imports torch.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.core import digest
from edgewright.core.errors import ModelError, UsageError
from edgewright.toolchain.sources import archives
from edgewright.toolchain.sources.process import framework
from edgewright.toolchain.sources.values import Converted, Wish

_CHILD = "edgewright.toolchain.sources.torch.child"
_NEEDED = ("torch", "onnxscript")
_ASKS_INPUTS = frozenset({"factory", "torchscript", "torch-pickle"})


class _Torch:
    """The source."""

    @contextmanager
    def convert(
        self, kind: str, model: str, wish: Wish, folder: Path, /
    ) -> Iterator[Converted]:
        """Yield what the process wrote; it answers until the context ends."""
        _check_pickles(kind, model, wish)
        _check_installed(kind, wish)
        _check_wish(kind, model, wish)
        command = [sys.executable, "-P", "-W", "ignore", "-m", _CHILD]
        with framework(
            command, folder, timeout_s=wish.timeout_s, environment=_environment(wish)
        ) as running:
            told = running.ask(_request(kind, model, wish, folder))
            yield Converted(
                Path(told["model"]),
                _digest(kind, model, wish, told["code"]),
                told["exporter"],
                tuple(told["notes"]),
                running.answer,
                frozenset(told["frozen"]),
                {name: (low, end) for name, (low, end) in told["within"].items()},
                keeps_dynamic=kind == "transformers",
            )


SOURCE = _Torch()


def _check_installed(kind: str, wish: Wish) -> None:
    needed = list(_NEEDED)
    if kind == "transformers":
        needed += ["transformers", "safetensors"]
    if wish.weights is not None and wish.weights.suffix == ".safetensors":
        needed.append("safetensors")
    extra = "transformers" if kind == "transformers" else "torch"
    for library in needed:
        if find_spec(library) is None:
            raise ModelError(
                f"this kind of model ({kind}) needs {library}, which is not installed",
                hint=f'pip install "edgewright[{extra}]", or export the model to ONNX where '
                "it was trained and import that.",
            )


def _check_wish(kind: str, model: str, wish: Wish) -> None:
    if wish.weights is not None and kind != "factory":
        raise UsageError(
            f"{Path(model).name} ({kind}) brings its own weights",
            hint="--weights goes with package.module:callable.",
        )
    if wish.inputs and kind not in _ASKS_INPUTS:
        raise UsageError(
            f"{Path(model).name} ({kind}) says itself what it is fed",
            hint="Leave out --input; axes are fixed with --freeze.",
        )
    if not wish.inputs and wish.samples is None and kind in _ASKS_INPUTS:
        raise UsageError(
            f"{model} ({kind}) does not say what it is fed",
            hint="Give --input NAME:TYPE:SHAPE, like image:float32:-1x3x224x224, or --data "
            "with an array for each input.",
        )


def _check_pickles(kind: str, model: str, wish: Wish) -> None:
    """Refuse what would run code of its file, by reading its names and loading nothing."""
    asked = [Path(model)] if kind in {"torch-export", "torch-pickle"} else []
    if wish.weights is not None:
        if not wish.weights.is_file():
            raise ModelError(
                f"there are no weights {wish.weights.name}",
                hint="Give the path of a .safetensors file, or of a state dict.",
            )
        if wish.weights.suffix != ".safetensors":
            asked.append(wish.weights)
    for path in asked:
        if not wish.trust_pickle and (names := archives.imports(path)):
            raise archives.refuse(path, names)


def _environment(wish: Wish) -> dict[str, str]:
    quiet = {
        "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }  # fmt: skip
    # Torch itself falls back from weights to whole pickles in places; not with this.
    return quiet if wish.trust_pickle else {**quiet, "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}


def _request(kind: str, model: str, wish: Wish, folder: Path) -> dict[str, Any]:
    samples = None
    if wish.samples is not None:
        samples = str(folder / "samples.npz")
        held: dict[str, Any] = {str(i): array for i, array in enumerate(wish.samples.values())}
        np.savez(samples, **held)
    return {
        "do": "convert",
        "kind": kind,
        "model": model,
        "weights": str(wish.weights) if wish.weights else None,
        "inputs": [[one.name, one.dtype, list(one.shape)] for one in wish.inputs],
        "freeze": dict(wish.freeze),
        "opset": wish.opset,
        "trust_pickle": wish.trust_pickle,
        "samples": samples,
        "sample_names": list(wish.samples or ()),
        "folder": str(folder),
    }


def _digest(kind: str, model: str, wish: Wish, code: str) -> str:
    """Return the digest of what was given: a file, a folder, or code with its weights."""
    if kind == "factory":
        files = [Path(code), *([wish.weights] if wish.weights else [])]
    elif Path(model).is_dir():
        files = sorted(path for path in Path(model).rglob("*") if path.is_file())
    else:
        return digest.of_file(Path(model))
    return digest.of_bytes("\n".join(f"{p.name} {digest.of_file(p)}" for p in files).encode())
