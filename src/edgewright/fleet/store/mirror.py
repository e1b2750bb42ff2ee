"""A set of signed files in a folder, the way any file server can hand it out.

The database says what the set is; the folder follows. ``timestamp.json`` is
written last, because it is what makes a device look for the others, and what
was replaced stays a while for devices that are in the middle of a refresh. A
crash in between leaves the old set whole; the next call finishes the work.
"""

import time
from collections.abc import Mapping
from pathlib import Path

from edgewright.core import durable

TIMESTAMP = "timestamp.json"

_GRACE_S = 3600.0


def mirror(
    folder: Path, files: Mapping[str, bytes], *, grace_s: float = _GRACE_S
) -> list[str]:
    """Let ``folder`` hold ``files``; return the names that were written, in order.

    Args:
        folder: Owned by this process.
        files: The whole set by relative path; roots once written are never removed.
        grace_s: How long after its writing a file that is no longer of the set stays.

    Raises:
        StorageError: The disk refused; call it again.
    """
    written = []
    for name in sorted(files, key=lambda name: (name == TIMESTAMP, name)):
        path = folder / name
        if not path.is_file() or path.read_bytes() != files[name]:
            durable.replace_file(path, files[name])
            written.append(name)
    if written:
        _drop_replaced(folder, set(files), time.time() - grace_s)
    return written


def stored(folder: Path) -> dict[str, bytes]:
    """Return every file in ``folder`` by relative path; empty when there is no folder."""
    paths = (path for path in folder.rglob("*.json") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _drop_replaced(folder: Path, kept: set[str], before: float) -> None:
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name in kept or name.endswith(".root.json"):
            continue
        if path.stat().st_mtime <= before:
            durable.remove(path)
