"""``edgewright optimize --ask``: questions to a newcomer that end in the plain command."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from edgewright.core.errors import EdgewrightError, UsageError
from edgewright.core.units import parse_bytes, parse_duration_us

# Reads one answer to a question.
Read = Callable[[str], str]

_GOALS = {
    "balanced": "the least bytes times latency",
    "size": "the smallest file",
    "speed": "the fastest answers",
    "battery": "the least energy an answer",
}


def ask(*, read: Read = input) -> list[str]:
    """Return the arguments of ``optimize`` that the answers come to.

    Args:
        read: Asks one question and returns what was typed.

    Raises:
        UsageError: Nobody is there to be asked.
    """
    if not sys.stdin.isatty():
        raise UsageError(
            "--ask asks questions, and nobody is at the other end",
            hint="Give the arguments themselves: edgewright optimize --help.",
        )
    print("An empty answer takes what stands in brackets; Ctrl-C ends it.\n")
    model = _until(read, "The model: ONNX, .pt2, a folder, module:callable", "", _model)
    arguments = [model, *_data(read)]
    device = _until(read, "The device, or host for this machine", "host", _device)
    goal = _until(read, f"What matters most ({', '.join(_GOALS)})", "balanced", _goal)
    arguments += ["--device", device, "--goal", goal]
    for flag, what, check in (
        ("--max-size", "The most the files may take, like 350KB", parse_bytes),
        ("--max-latency", "The longest one answer in a hundred may take, like 20ms",
         parse_duration_us),
        ("--accuracy-drop", "How many points may be lost, 1 if you do not say", float),
    ):  # fmt: skip
        given = _until(read, f"{what} [no limit]", "", _optional(check))
        if given:
            arguments += [flag, given]
    stem = Path(model).stem if ":" not in model else model.partition(":")[0]
    out = _until(read, "The folder to write", f"out/{stem}", _named)
    return [*arguments, "--out", out]


def command(arguments: list[str]) -> str:
    """Return the plain command with ``arguments``, to be typed in a shell."""
    return shlex.join(["edgewright", "optimize", *arguments])


def agreed(*, read: Read = input) -> bool:
    """Return whether the command is to be run now."""
    return read("\nRun it now? [Y/n] ").strip().lower() in {"", "y", "yes"}


def _data(read: Read) -> list[str]:
    print("Real inputs: an npz file, a folder of pictures by class, a table, module:callable.")
    data = _until(read, "The data, or nothing to make inputs up", "", _there)
    if data:
        return ["--data", data]
    print("  Made-up inputs prove nothing of accuracy; the report will say so.")
    return ["--allow-synthetic"]


def _until(read: Read, question: str, default: str, check: Callable[[str], object]) -> str:
    """Return the first answer that ``check`` bears; it raises at what it does not."""
    shown = f"{question} [{default}]: " if default else f"{question}: "
    while True:
        given = read(shown).strip() or default
        try:
            check(given)
        except (EdgewrightError, ValueError) as error:
            hint = getattr(error, "hint", "")
            print(f"  {error}. {hint}".rstrip())
            continue
        return given


def _model(given: str) -> None:
    from edgewright.toolchain.sources import recognise

    if not given:
        raise ValueError("a model is needed")
    recognise(given)


def _there(given: str) -> None:
    if given and ":" not in given and not Path(given).exists():
        raise ValueError(f"there is no {given}")


def _device(given: str) -> None:
    from edgewright.core import profile

    if given != "host":
        profile.find(given)


def _goal(given: str) -> None:
    if given not in _GOALS:
        raise ValueError("; ".join(f"{name}: {what}" for name, what in _GOALS.items()))


def _named(given: str) -> None:
    if not given or Path(given).is_file():
        raise ValueError(f"{given or 'nothing'} cannot be a folder")


def _optional(check: Callable[[str], object]) -> Callable[[str], object]:
    return lambda given: check(given) if given else None
