"""A folder that ``transformers`` saved: the model its own config names, never other code."""

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from edgewright.core.errors import ModelError
from edgewright.toolchain.ir.axes import BATCH, Axes

SEQUENCE = "sequence"
# What a text encoder is fed, each batch x sequence, and whether all of them need it.
_TEXT = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True, slots=True, eq=False)
class Folder:
    """What a folder held.

    Attributes:
        module: The model, in float32, ready to answer.
        inputs: What it is fed, batch and sequence free.
        within: Ranges of whole-number inputs.
        notes: What a reader should know.
    """

    module: Any
    inputs: tuple[Axes, ...]
    within: Mapping[str, tuple[int, int]]
    notes: tuple[str, ...]


def load(path: Path) -> Folder:
    """Return the model in ``path``.

    Raises:
        ModelError: It wants code of its own, has no safetensors weights, or is fed
            something else than text or one picture.
    """
    config = _config(path)
    kind = transformers.AutoConfig.from_pretrained(
        path, local_files_only=True, trust_remote_code=False
    )
    name = (config.get("architectures") or [""])[0]
    maker = getattr(transformers, name, None) if name else None
    notes: tuple[str, ...] = ()
    if maker is None:
        maker = transformers.AutoModel
        notes = (
            f"transformers has no {name or 'architecture named'}: the bare model was taken.",
        )
    told = {} if maker is not transformers.AutoModel else {"trust_remote_code": False}
    module, report = maker.from_pretrained(
        path, config=kind, local_files_only=True, use_safetensors=True, dtype=torch.float32,
        output_loading_info=True, **told,
    )  # fmt: skip
    if report["missing_keys"]:
        raise ModelError(
            f"the weights in {path.name} have no {min(report['missing_keys'])!r}, which "
            f"{type(module).__name__} needs",
            hint="Save the model again with save_pretrained.",
        )
    module.config.use_cache = False
    module.config.return_dict = True
    saved = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    if saved != "float32":
        notes += (f"The weights were saved as {saved} and are exported as float32.",)
    inputs = _inputs(module.eval(), kind, path)
    # Made-up masks hide nothing: a row with nothing to see has no answer.
    within = {
        "input_ids": (0, int(getattr(kind, "vocab_size", 2))),
        "attention_mask": (1, 2),
        "token_type_ids": (0, max(1, int(getattr(kind, "type_vocab_size", 1)))),
    }
    held = {one.name: within[one.name] for one in inputs if one.name in within}
    return Folder(module, inputs, held, notes)


def _config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((path / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot read config.json of {path.name}: {error}",
            hint="Give the folder that save_pretrained wrote, whole.",
        ) from error
    if "auto_map" in config:
        raise ModelError(
            f"the model in {path.name} brings code of its own ({config['auto_map']})",
            hint="Give package.module:callable instead, so that the code is yours to name.",
        )
    if not any(path.glob("*.safetensors")):
        raise ModelError(
            f"{path.name} has no .safetensors weights",
            hint="Save it again with save_pretrained, which writes them.",
        )
    return config


def _inputs(module: Any, config: Any, path: Path) -> tuple[Axes, ...]:
    takes = list(inspect.signature(module.forward).parameters)
    if "input_ids" in takes and not getattr(config, "is_encoder_decoder", False):
        typed = int(getattr(config, "type_vocab_size", 0) or 0) > 1
        names = [n for n in _TEXT if n in takes and (n != "token_type_ids" or typed)]
        return tuple(Axes(name, "int64", (BATCH, SEQUENCE)) for name in names)
    side, channels = getattr(config, "image_size", None), getattr(config, "num_channels", None)
    if "pixel_values" in takes and isinstance(side, int) and isinstance(channels, int):
        return (Axes("pixel_values", "float32", (BATCH, channels, side, side)),)
    raise ModelError(
        f"{type(module).__name__} in {path.name} is fed {', '.join(takes[:4])}, which is "
        "neither text for an encoder nor one picture of a known size",
        hint="Write a callable that returns a module with the inputs you want, and give "
        "package.module:callable with --input.",
    )
