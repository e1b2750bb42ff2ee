"""Load a model of torch's, and know how to feed it and what it answers.

A file is loaded as weights or as a program, never as a pickle that may import what it
likes, unless the request says so: torch is told, and Python's own unpickler is watched
while it loads, since a program file may hold a pickle torch reads without being asked.
"""

import importlib
import inspect
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgewright.core.errors import DataError, ModelError, UsageError
from edgewright.toolchain.ir.answers import Array, Feeds
from edgewright.toolchain.ir.axes import BATCH, Axes, freeze
from edgewright.toolchain.ir.feeds import matched
from edgewright.toolchain.sources.torch import folders, weights

# What code of others and torch itself raise; neither has a root of its own.
REFUSALS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A model that can be exported and asked.

    Attributes:
        call: Takes the inputs in order, answers what the model answers.
        module: What an exporter takes; the same for every kind.
        program: An exported program, where that is what was loaded.
        inputs: What it is fed, in order.
        samples: Real inputs by name; None when there are none.
        notes: What a reader should know.
        frozen: Keys of the request's ``freeze`` that ``inputs`` already follow.
        within: Ranges of whole-number inputs.
        code: The file with the code of a factory; empty for other kinds.
        scripted: Whether the module is TorchScript.
    """

    call: Callable[..., Any]
    module: Any
    inputs: tuple[Axes, ...]
    samples: Mapping[str, Array] | None
    notes: tuple[str, ...] = ()
    program: Any = None
    frozen: frozenset[str] = frozenset()
    within: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    code: str = ""
    scripted: bool = False

    def answer(self, feeds: Feeds) -> list[Array]:
        """Return every output, in order.

        Raises:
            ModelError: The model fails on these inputs, or answers no tensors.
        """
        return [array for _, array in self.named(feeds)]

    def named(self, feeds: Feeds) -> list[tuple[str, Array]]:
        """Return every output with its name; see ``answer``."""
        lost = [one.name for one in self.inputs if one.name not in feeds]
        if lost:
            raise ModelError(
                f"the exported model has no input {lost[0]!r}: it does not read it",
                hint="Leave it out of --input, or give it a default in forward.",
            )
        arguments = [torch.from_numpy(np.array(feeds[one.name])) for one in self.inputs]
        shapes = ", ".join(f"{one.name} {list(feeds[one.name].shape)}" for one in self.inputs)
        try:
            with torch.no_grad():
                told = self.call(*arguments)
        except REFUSALS as error:
            raise ModelError(
                f"the model itself cannot answer {shapes}: {first_line(error)}",
                hint="Check --input; where it takes one size of batch only, --freeze batch=1.",
            ) from error
        return [(name, _array(name, tensor)) for name, tensor in flatten(told)]


def load(request: Mapping[str, Any]) -> Loaded:
    """Return the model that ``request`` names.

    Raises:
        ModelError: It cannot be loaded.
        UsageError: The inputs that were asked for are not its own.
        DataError: The samples do not fit.
    """
    torch.manual_seed(0)  # a factory without weights makes the same ones each time
    return _LOADERS[request["kind"]](request)


def flatten(told: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the tensors in what a model answered, with names.

    Raises:
        ModelError: There is something else in it.
    """
    if isinstance(told, torch.Tensor):
        yield name or "output", told
    elif isinstance(told, Mapping):
        for key, value in told.items():
            yield from flatten(value, f"{name}_{key}" if name else str(key))
    elif isinstance(told, tuple | list):
        keys = getattr(told, "_fields", range(len(told)))
        for key, value in zip(keys, told, strict=True):
            yield from flatten(value, f"{name or 'output'}_{key}")
    elif told is not None:
        raise ModelError(
            f"the model answers a {type(told).__name__} ({name or 'its only output'}), "
            "which is no tensor",
            hint="Let forward return tensors, or a tuple or dict of them.",
        )


def first_line(error: BaseException) -> str:
    """Return what is most telling of an error of torch's, on one line.

    An exporter says what it was about in general and quotes the cause below.
    """
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__


# --- the kinds


def _load_factory(request: Mapping[str, Any]) -> Loaded:
    name, _, attribute = request["model"].partition(":")
    sys.path.insert(0, str(Path.cwd()))  # as Python itself would
    try:
        made: Any = importlib.import_module(name)
        for part in attribute.split("."):
            made = getattr(made, part)
        code = inspect.getsourcefile(inspect.unwrap(made)) or ""
        module = made()
    except REFUSALS as error:
        raise ModelError(
            f"{request['model']} makes no module: {first_line(error)}",
            hint="Run where `import` finds it, and name a callable that takes no arguments.",
        ) from error
    notes: tuple[str, ...] = ("The factory has the weights it makes itself: no --weights.",)
    if request["weights"]:
        path = Path(request["weights"])
        with watched(trusted=request["trust_pickle"]):
            notes = weights.fill(
                _module(module, request["model"]), path, trusted=request["trust_pickle"]
            )
    return _from_module(module, request, notes, code=code)


def _load_pickle(request: Mapping[str, Any]) -> Loaded:
    sys.path.insert(0, str(Path.cwd()))  # where the classes it names are looked for
    with watched(trusted=request["trust_pickle"]):
        try:
            module = torch.load(request["model"], map_location="cpu", weights_only=False)
        except REFUSALS as error:
            raise _unreadable(request, error) from error
    note = "A whole module was unpickled, as asked: that runs what the file names."
    return _from_module(module, request, (note,))


def _load_torchscript(request: Mapping[str, Any]) -> Loaded:
    """Load TorchScript; the one place that knows it, since torch has deprecated it."""
    try:
        module = torch.jit.load(request["model"], map_location="cpu")
        parameters = [a.name for a in module.forward.schema.arguments][1:]
    except REFUSALS as error:
        raise _unreadable(request, error) from error
    note = (
        "TorchScript is deprecated by torch, and the one exporter that takes it is announced "
        "for removal: save the model with torch.export.save."
    )
    module.eval()
    return _with_inputs(module, module, request, (note,), parameters, scripted=True)


def _load_program(request: Mapping[str, Any]) -> Loaded:
    with watched(trusted=request["trust_pickle"]):
        try:
            program = torch.export.load(request["model"])
        except REFUSALS as error:
            raise _unreadable(request, error) from error
    names = list(program.graph_signature.user_inputs)
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    try:
        inputs = tuple(
            Axes(str(name), _dtype(values[name]), _shape(values[name])) for name in names
        )
    except (KeyError, AttributeError, ValueError) as error:
        raise ModelError(
            f"{Path(request['model']).name} is fed something else than tensors: {error}",
            hint="Export a program whose inputs are all tensors.",
        ) from error
    positional = len((program.example_inputs or (names, {}))[0])
    keywords = list((program.example_inputs or ((), {}))[1])
    ready = program.module()

    def call(*arguments: Any) -> Any:
        by_name = dict(zip(keywords, arguments[positional:], strict=True))
        return ready(*arguments[:positional], **by_name)

    notes = () if any(one.batch for one in inputs) else (_FIXED_BATCH,)
    # Its axes are fixed in the exported file; here they only say what it is tried with.
    inputs, _ = freeze(inputs, request["freeze"])
    return Loaded(call, ready, inputs, _samples(request, inputs), notes, program=program)


def _load_folder(request: Mapping[str, Any]) -> Loaded:
    with watched(trusted=False):
        try:
            found = folders.load(Path(request["model"]))
        except REFUSALS as error:
            raise _unreadable(request, error) from error
    inputs, frozen = freeze(found.inputs, request["freeze"])
    adapted = Adapted(found.module, [one.name for one in inputs])
    return Loaded(
        adapted, adapted, inputs, _samples(request, inputs), found.notes,
        frozen=frozen, within=found.within,
    )  # fmt: skip


_LOADERS: Mapping[str, Callable[[Mapping[str, Any]], Loaded]] = {
    "factory": _load_factory,
    "torch-pickle": _load_pickle,
    "torchscript": _load_torchscript,
    "torch-export": _load_program,
    "transformers": _load_folder,
}
_FIXED_BATCH = (
    "The batch is fixed in the program: torch.export.export with dynamic_shapes keeps it free."
)


class Adapted(torch.nn.Module):  # type: ignore[misc]  # without torch its type is unknown
    """A module that takes its inputs in one order and answers a tuple of tensors."""

    def __init__(self, module: Any, keywords: Sequence[str] = ()) -> None:
        super().__init__()
        self.module = module
        self.keywords = tuple(keywords)
        self.eval()

    def forward(self, *arguments: Any) -> Any:
        """Hand the inputs on, by name where names are known."""
        if self.keywords:
            told = self.module(**dict(zip(self.keywords, arguments, strict=True)))
        else:
            told = self.module(*arguments)
        return told if isinstance(told, torch.Tensor) else dict(flatten(told))


@contextmanager
def watched(*, trusted: bool) -> Iterator[None]:
    """Let no pickle import anything while the context lasts, unless it is trusted."""
    _WATCH["on"] = not trusted
    try:
        yield
    finally:
        _WATCH["on"] = False


_WATCH = {"on": False}


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    if _WATCH["on"] and event == "pickle.find_class":
        raise ModelError(
            f"loading the file would run what it names: {'.'.join(map(str, arguments[:2]))}",
            hint="Give --trust-pickle if you made the file yourself.",
        )


sys.addaudithook(_look)


# --- what the kinds share


def _from_module(
    module: Any, request: Mapping[str, Any], notes: tuple[str, ...], *, code: str = ""
) -> Loaded:
    module = _module(module, request["model"])
    parameters = list(inspect.signature(module.forward).parameters)
    return _with_inputs(module, None, request, notes, parameters, code=code)


def _module(module: Any, name: str) -> Any:
    if not isinstance(module, torch.nn.Module):
        raise ModelError(
            f"{name} gives a {type(module).__name__}, not a torch.nn.Module",
            hint="Weights alone are no model: name a callable that makes the module.",
        )
    return module


def _with_inputs(
    module: Any,
    scripted_module: Any,
    request: Mapping[str, Any],
    notes: tuple[str, ...],
    parameters: Sequence[str],
    *,
    code: str = "",
    scripted: bool = False,
) -> Loaded:
    inputs, frozen = freeze(_asked(request, parameters), request["freeze"])
    names = [one.name for one in inputs]
    by_name = not scripted and set(names) <= set(parameters)
    adapted = scripted_module or Adapted(module, names if by_name else ())
    return Loaded(
        adapted, adapted, inputs, _samples(request, inputs), notes, frozen=frozen, code=code,
        scripted=scripted,
    )  # fmt: skip


def _asked(request: Mapping[str, Any], parameters: Sequence[str]) -> tuple[Axes, ...]:
    """Return the inputs that were asked for, or those that the samples are for."""
    if request["inputs"]:
        return tuple(
            Axes(name, dtype, tuple(shape)) for name, dtype, shape in request["inputs"]
        )
    arrays = _arrays(request)
    names = list(arrays)
    if set(names) <= set(parameters):
        names = [name for name in parameters if name in arrays]
    elif len(names) == 1:
        arrays = {parameters[0]: arrays[names[0]]}
        names = [parameters[0]]
    else:
        raise DataError(
            f"the samples are called {', '.join(names)}, the model takes "
            f"{', '.join(parameters)}",
            hint="Name each array like the input it is for, or give --input.",
        )
    return tuple(
        Axes(name, str(arrays[name].dtype), (BATCH, *arrays[name].shape[1:])) for name in names
    )


def _arrays(request: Mapping[str, Any]) -> dict[str, Array]:
    with np.load(request["samples"], allow_pickle=False) as held:
        return {name: held[str(i)] for i, name in enumerate(request["sample_names"])}


def _samples(request: Mapping[str, Any], inputs: Sequence[Axes]) -> Mapping[str, Array] | None:
    return matched(inputs, _arrays(request)) if request["samples"] else None


def _unreadable(request: Mapping[str, Any], error: BaseException) -> ModelError:
    return ModelError(
        f"torch {torch.__version__} cannot load {Path(request['model']).name}: "
        f"{first_line(error)}",
        hint="The file may be damaged, or of another version of torch.",
    )


def _array(name: str, tensor: Any) -> Array:
    try:
        return np.asarray(tensor.detach().cpu().numpy())
    except TypeError as error:
        raise ModelError(
            f"the model answers {name!r} as {tensor.dtype}, which ONNX Runtime does not",
            hint="Convert the model with .float() before it is saved.",
        ) from error


def _dtype(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def _shape(value: Any) -> tuple[int | str, ...]:
    return tuple(size if isinstance(size, int) else str(size) for size in value.shape)


__all__ = ["REFUSALS", "Adapted", "Loaded", "UsageError", "first_line", "flatten", "load"]
