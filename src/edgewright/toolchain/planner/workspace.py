"""The folder of a run: made beside, moved in at once, other files in it untouched.

Everything is written under ``.work`` in the folder and takes its place only when it is
whole. ``report.json`` goes first and comes back last: a folder that has one is finished.
"""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgewright.core import durable, records
from edgewright.core.errors import ConfigError, UsageError
from edgewright.toolchain.planner.values import Recipe, Report

RECIPE, PLAN, REPORT, PAGE = "recipe.json", "plan.json", "report.json", "report.html"
EVIDENCE, CANDIDATES, GOLDEN = "evidence", "candidates", "golden"
_FOLDERS = (EVIDENCE, CANDIDATES, GOLDEN)
_FILES = (RECIPE, PLAN, PAGE, REPORT)
_WORK = ".work"

# What makes a finished folder the work of other inputs.
_INPUTS = ("model_sha256", "reference_sha256", "data_sha256", "device")


def read_report(folder: Path) -> Report:
    """Return the report of a finished folder.

    Raises:
        UsageError: There is none, or it cannot be read.
    """
    try:
        return records.decode(
            Report, json.loads((folder / REPORT).read_text()), error=ConfigError
        )
    except FileNotFoundError as error:
        raise UsageError(
            f"{folder} holds no {REPORT}", hint="Make one with edgewright optimize."
        ) from error
    except (OSError, ValueError, ConfigError) as error:
        raise UsageError(f"{folder / REPORT} cannot be read: {error}") from error


def check_free(folder: Path, recipe: Recipe, *, force: bool) -> None:
    """Refuse to overwrite what was made from other inputs, unless ``force``.

    Raises:
        UsageError: ``folder`` is a file, or finished and made from other inputs.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", hint="Name a folder with -o.")
    if force or not (folder / REPORT).exists():
        return
    try:
        made_from = json.loads((folder / RECIPE).read_text())
        asked = records.encode(recipe)
        other = [name for name in _INPUTS if made_from.get(name) != asked[name]]
    except (OSError, ValueError, AttributeError):
        other = [RECIPE]
    if other:
        names = ", ".join(name.removesuffix("_sha256") for name in other)
        raise UsageError(
            f"{folder} was made from other inputs ({names})",
            hint="Name another folder with -o, or overwrite it with --force.",
        )


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write into; it is removed whatever happens.

    Raises:
        StorageError: The disk refused.
    """
    fresh = not folder.exists()
    work = folder / _WORK
    durable.remove(work)
    durable.replace_file(work / ".keep", b"")
    try:
        yield work
    finally:
        durable.remove(work)
        if fresh and not any(folder.iterdir()):
            durable.remove(folder)


def commit(work: Path, folder: Path) -> None:
    """Move what ``work`` holds into ``folder``; an interrupt waits until it is done.

    Raises:
        StorageError: The disk refused; ``folder`` then has no report.
    """
    with _uninterrupted():
        durable.remove(folder / REPORT)
        for name in _FOLDERS:
            durable.remove(folder / name)
            durable.replace_tree(work / name, folder / name)
        for name in _FILES:
            durable.replace_file(folder / name, (work / name).read_bytes())


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait; only the main thread hears of them at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    before = {
        number: signal.signal(number, lambda n, _frame: heard.append(n))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)
    if heard:
        signal.raise_signal(heard[0])
