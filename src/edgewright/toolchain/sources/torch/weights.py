"""Fill a module with weights from a file, and name the tensor that does not fit."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgewright.core.errors import ModelError

# Where training frameworks put the weights inside what they save.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PARALLEL = "module."


def fill(module: Any, path: Path, *, trusted: bool) -> tuple[str, ...]:
    """Load the weights in ``path`` into ``module``; return what a reader should know.

    Raises:
        ModelError: The file cannot be read, or a tensor is missing, left over, or of
            another shape than in the model.
    """
    state, notes = _unwrapped(_read(path, trusted=trusted), path)
    own = module.state_dict()
    for name, tensor in own.items():
        if name in state and state[name].shape != tensor.shape:
            raise ModelError(
                f"weight {name!r} is {_shape(state[name])} in {path.name} and "
                f"{_shape(tensor)} in the model",
                hint="Make the model with the settings these weights were trained with.",
            )
    # Two names for one tensor: a file keeps it once.
    held = {tensor.data_ptr() for name, tensor in own.items() if name in state}
    missing = [n for n, t in own.items() if n not in state and t.data_ptr() not in held]
    if missing:
        raise ModelError(
            f"{path.name} has no weight {missing[0]!r}{_more(missing)} of the model",
            hint="Make the model with the settings these weights were trained with.",
        )
    left = [name for name in state if name not in own]
    if left:
        raise ModelError(
            f"{path.name} holds weight {left[0]!r}{_more(left)}, which the model has not",
            hint="Make the model with the settings these weights were trained with.",
        )
    module.load_state_dict(state, strict=False)
    return notes


def _read(path: Path, *, trusted: bool) -> Any:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError  # noqa: PLC0415  only who gives such a file needs it
        from safetensors.torch import load_file  # noqa: PLC0415

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"cannot read the weights {path.name}: {error}",
                hint="Save them again: safetensors, or torch.save of a state dict.",
            ) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=not trusted)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"cannot read the weights {path.name}: {first}",
            hint="Save them again, as safetensors or with torch.save(module.state_dict()).",
        ) from error


def _unwrapped(state: Any, path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the tensors by name, taken out of what training wrapped around them."""
    notes: tuple[str, ...] = ()
    key = next((k for k in _WRAPPERS if isinstance(state, Mapping) and k in state), "")
    if key and isinstance(state[key], Mapping):
        state, notes = state[key], (f"The weights are those under {key!r} in {path.name}.",)
    if isinstance(state, torch.nn.Module):
        state = state.state_dict()
    tensors = isinstance(state, Mapping) and all(
        isinstance(value, torch.Tensor) for value in state.values()
    )
    if not tensors or not state:
        raise ModelError(
            f"{path.name} holds no table of tensors by name",
            hint="Save module.state_dict(), or a .safetensors file of it.",
        )
    if all(name.startswith(_PARALLEL) for name in state):
        state = {name.removeprefix(_PARALLEL): tensor for name, tensor in state.items()}
    return dict(state), notes


def _shape(tensor: Any) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
