"""The folder of a run: made beside, whole whenever it has a report, other files untouched.

Everything is written under ``.work`` in the folder and then takes its place, the files
first and ``report.json`` last: whenever there is a report, every file it names is there.
That may be while a search still goes on; its report then says that it has not stopped.
What a killed run had measured is found again in its ``.work``.
"""

import json
import signal
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edgewright.core import durable, records
from edgewright.core.errors import ConfigError, UsageError
from edgewright.toolchain.planner.values import Recipe, Report, sha256

RECIPE, PLAN, REPORT, PAGE = "recipe.json", "plan.json", "report.json", "report.html"
EVIDENCE, CANDIDATES, GOLDEN = "evidence", "candidates", "golden"
_FOLDERS = (EVIDENCE, CANDIDATES, GOLDEN)
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
        raise UsageError(
            f"{folder / REPORT} cannot be read: {error}",
            hint="Make it anew with edgewright optimize --force.",
        ) from error


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
    """Yield a folder to write into; it is removed whatever happens, short of a kill.

    It is empty but for the evidence that a killed run left.

    Raises:
        StorageError: The disk refused.
    """
    fresh = not folder.exists()
    work = folder / _WORK
    for left in sorted(work.iterdir()) if work.is_dir() else ():
        if left.name != EVIDENCE:
            durable.remove(left)
    durable.replace_file(work / ".keep", b"")
    try:
        yield work
    finally:
        durable.remove(work)
        if fresh and not any(folder.iterdir()):
            durable.remove(folder)


def finished(folder: Path) -> bool:
    """Return whether ``folder`` has the report of a search that came to its end."""
    try:
        return bool(json.loads((folder / REPORT).read_text()).get("stopped"))
    except (OSError, ValueError, AttributeError):
        return False


def tried(folder: Path, recipe: Recipe) -> int:
    """Return how many candidates an unfinished report of the same recipe has."""
    try:
        held = json.loads((folder / REPORT).read_text())
        same = held["recipe_sha256"] == sha256(recipe) and not held["stopped"]
        return len(held["candidates"]) if same else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def files_of(report: Report) -> set[str]:
    """Return the files that a report relies on, by their path from its folder."""
    named = {f"{EVIDENCE}/{name}" for name in report.evidence_files.values()}
    named |= {f"{GOLDEN}/{name}" for name in report.golden.files}
    for one in report.candidates:
        named |= {f"{CANDIDATES}/{one.name}/{name}" for name in one.files}
    return named


def commit(
    work: Path, folder: Path, documents: Mapping[str, bytes], named: Collection[str]
) -> None:
    """Copy what ``work`` holds into ``folder``; an interrupt waits until it is done.

    Killed at any moment, ``folder`` has no report, or one whose files are all there.

    Args:
        work: As ``workspace`` yields it.
        folder: The folder of the run.
        documents: Files beside those of ``work``; the report is written last.
        named: What the report relies on, see ``files_of``; others in ``work``, like
            evidence that a killed run left, are of use to a later candidate at most.

    Raises:
        StorageError: The disk refused.
    """
    made = [name for name in _files(work) if name in named]
    with _uninterrupted():
        there = _files(folder)
        clash = [name for name in made if name in there and not _same(work, folder, name)]
        if clash:
            durable.remove(folder / REPORT)
        for name in made:
            if name in clash or name not in there:
                durable.replace_file(folder / name, (work / name).read_bytes())
        for name in sorted(documents, key=lambda name: name == REPORT):
            durable.replace_file(folder / name, documents[name])
        _sweep(folder, [name for name in there if name not in made])


def _files(root: Path) -> list[str]:
    """Return the files of a run below ``root``, by their path from there."""
    return sorted(
        path.relative_to(root).as_posix()
        for name in _FOLDERS
        for path in (root / name).rglob("*")
        if path.is_file()
    )


def _same(work: Path, folder: Path, name: str) -> bool:
    return (work / name).read_bytes() == (folder / name).read_bytes()


def _sweep(folder: Path, names: list[str]) -> None:
    """Remove files no report names, and the folders they leave empty."""
    for name in names:
        durable.remove(folder / name)
        parent = (folder / name).parent
        if parent.parent != folder and not any(parent.iterdir()):
            durable.remove(parent)


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
