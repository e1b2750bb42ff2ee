"""Export a loaded model: one exporter after another, each held to what was asked.

An exporter that ends without an error has not shown anything yet. Its file counts when
the axes that should be free are free in it and it answers like the module at two sizes;
otherwise the next one is tried, and what was wrong with the first is told.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from edgewright.core.errors import EdgewrightError, ModelError
from edgewright.toolchain.ir.answers import Array, Feeds, answers, apart
from edgewright.toolchain.ir.axes import Axes, inputs_of
from edgewright.toolchain.ir.feeds import BATCHES, made_up, sets
from edgewright.toolchain.ir.load import load
from edgewright.toolchain.sources.torch.loading import REFUSALS, Loaded, first_line

DYNAMO, LEGACY = "torch.onnx (torch.export)", "torch.onnx (TorchScript, deprecated)"
# Neither size that is tried afterwards.
_EXAMPLE_ROWS = 2
_LEGACY_OPSET = 17
_Outputs = Sequence[tuple[str, Array]]


def export(loaded: Loaded, out: Path, opset: int | None) -> tuple[str, tuple[str, ...]]:
    """Write ``loaded`` as ONNX; return which exporter did, and why not those before it.

    Raises:
        ModelError: The module itself cannot answer, or no exporter's file holds.
    """
    tried = sets(loaded.inputs, loaded.samples, loaded.within)[: len(BATCHES)]
    told = [loaded.named(feeds) for feeds in tried]
    wrong: dict[str, str] = {}
    hint = "Fix what the first one names."
    for name, write in _exporters(loaded).items():
        try:
            write(loaded, out, opset, told)
            _hold(loaded, out, opset, tried, told)
        except EdgewrightError as error:
            wrong[name] = str(error)
            # What a file was refused for has a remedy of its own, the first one's counts.
            hint = error.hint if error.hint and len(wrong) == 1 else hint
        except REFUSALS as error:
            wrong[name] = first_line(error)
        else:
            notes = tuple(f"{other} was tried first: {why}" for other, why in wrong.items())
            return f"{name} {torch.__version__}", notes
    raise ModelError(
        "no exporter can write the model: "
        + "; ".join(f"{name}: {why}" for name, why in wrong.items()),
        hint=f"{hint} Where it is the batch: --freeze batch=1.",
    )


def _exporters(loaded: Loaded) -> Mapping[str, Callable[..., None]]:
    if loaded.scripted:
        return {LEGACY: _legacy}
    if loaded.program is not None:
        return {DYNAMO: _program, LEGACY: _legacy}
    return {DYNAMO: _dynamo, LEGACY: _legacy}


def _dynamo(loaded: Loaded, out: Path, opset: int | None, told: Sequence[_Outputs]) -> None:
    free = {str(s) for one in loaded.inputs for s in one.shape if isinstance(s, str)}
    dims = {name: torch.export.Dim(_word(name), min=1) for name in free}
    shapes = tuple(
        {axis: dims[s] for axis, s in enumerate(one.shape) if isinstance(s, str)}
        for one in loaded.inputs
    )
    written = torch.onnx.export(
        loaded.module, _example(loaded), dynamo=True, dynamic_shapes=(shapes,), verbose=False,
        input_names=[one.name for one in loaded.inputs],
        output_names=[name for name, _ in told[0]], opset_version=opset,
    )  # fmt: skip
    written.save(str(out))


def _program(loaded: Loaded, out: Path, opset: int | None, told: Sequence[_Outputs]) -> None:
    written = torch.onnx.export(
        loaded.program, dynamo=True, verbose=False, opset_version=opset,
        input_names=[one.name for one in loaded.inputs],
        output_names=[name for name, _ in told[0]],
    )  # fmt: skip
    written.save(str(out))


def _legacy(loaded: Loaded, out: Path, opset: int | None, told: Sequence[_Outputs]) -> None:
    names = [name for name, _ in told[0]]
    axes: dict[str, dict[int, str]] = {
        one.name: {axis: s for axis, s in enumerate(one.shape) if isinstance(s, str)}
        for one in loaded.inputs
    }
    for index, name in enumerate(names):
        axes[name] = _moving(name, [outputs[index][1] for outputs in told], loaded.inputs)
    torch.onnx.export(
        loaded.module, _example(loaded), str(out), dynamo=False,
        input_names=[one.name for one in loaded.inputs], output_names=names,
        dynamic_axes={name: moving for name, moving in axes.items() if moving},
        opset_version=opset or _LEGACY_OPSET,
    )  # fmt: skip


def _moving(name: str, seen: Sequence[Array], inputs: Sequence[Axes]) -> dict[int, str]:
    """Return the axes of an output whose size was not the same each time, with names."""
    batch = next((one.batch for one in inputs if one.batch), "")
    sizes = list(zip(*(array.shape for array in seen), strict=True))
    return {
        axis: batch if axis == 0 and batch else f"{name}_{axis}"
        for axis, size in enumerate(sizes)
        if len(set(size)) > 1
    }


def _example(loaded: Loaded) -> tuple[Any, ...]:
    if loaded.samples is None:
        feeds: Feeds = made_up(loaded.inputs, batch=_EXAMPLE_ROWS, within=loaded.within)
    else:
        feeds = sets(loaded.inputs, loaded.samples)[-1]
        if any(one.batch for one in loaded.inputs):
            feeds = {
                one.name: feeds[one.name][:_EXAMPLE_ROWS] if one.batch else feeds[one.name]
                for one in loaded.inputs
            }
    return tuple(torch.from_numpy(feeds[one.name].copy()) for one in loaded.inputs)


def _hold(
    loaded: Loaded,
    out: Path,
    opset: int | None,
    tried: Sequence[Feeds],
    told: Sequence[_Outputs],
) -> None:
    """Refuse a file with other axes, another opset or other answers than were asked for."""
    graph = load(out)
    if opset is not None and graph.opset != opset:
        raise ModelError(
            f"it wrote opset {graph.opset}, {opset} was asked for",
            hint="Leave out --opset, or ask for the one it wrote.",
        )
    written = {one.name: one for one in inputs_of(graph)}
    for one in loaded.inputs:
        if one.name not in written:
            raise ModelError(
                f"it left out input {one.name!r}, which the model does not read",
                hint="Leave it out of --input.",
            )
        for axis, size in enumerate(one.shape):
            got = written[one.name].shape[axis]
            if isinstance(size, str) and isinstance(got, int):
                raise ModelError(
                    f"it fixed axis {axis} ({size!r}) of input {one.name!r} at {got}, which "
                    "was to be free: something in forward depends on its size",
                    hint=f"Give --freeze {size}=N, or let forward not depend on it.",
                )
    answered = answers(out, tried)
    names = [name for name, _ in told[0]]
    for source, file in zip(told, answered, strict=True):
        apart([array for _, array in source], file, names)


def _word(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)
