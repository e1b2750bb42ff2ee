"""A set of signed files in a folder, the way any file server can hand it out.

The database says what the set is; the folder follows. ``timestamp.json`` is
written last, because it is what makes a device look for the others, and what
was replaced stays a while for devices that are in the middle of a refresh: they
hold the old timestamp, so the while begins when the new one took its place, however
old the file is. ``FOLDER.replaced`` beside the folder remembers since when, across
restarts. A crash in between leaves the old set whole; the next call finishes the work.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from edgewright.core import durable
from edgewright.core.errors import StorageError

TIMESTAMP = "timestamp.json"

_GRACE_S = 3600
_RECORD = ".replaced"


def mirror(
    folder: Path, files: Mapping[str, bytes], *, now: datetime, grace_s: int = _GRACE_S
) -> list[str]:
    """Let ``folder`` hold ``files``; return the names that were written, in order.

    Args:
        folder: Owned by this process.
        files: The whole set by relative path; roots once written are never removed.
        now: The server's time.
        grace_s: How long a file stays after it was first seen not to be of the set.

    Raises:
        StorageError: The disk refused; call it again.
    """
    written = []
    for name in sorted(files, key=lambda name: (name == TIMESTAMP, name)):
        path = folder / name
        if not path.is_file() or path.read_bytes() != files[name]:
            durable.replace_file(path, files[name])
            written.append(name)
    _drop_replaced(folder, set(files), int(now.timestamp()), grace_s)
    return written


def stored(folder: Path) -> dict[str, bytes]:
    """Return every file in ``folder`` by relative path; empty when there is no folder."""
    paths = (path for path in folder.rglob("*.json") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _drop_replaced(folder: Path, kept: set[str], now_s: int, grace_s: int) -> None:
    record = folder.with_name(folder.name + _RECORD)
    known = _read(record)
    since = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name in kept or name.endswith(".root.json"):
            continue
        # Never later than now: a clock that was once ahead keeps nothing for ever.
        replaced_s = min(known.get(name, now_s), now_s)
        if replaced_s + grace_s <= now_s:
            durable.remove(path)
        else:
            since[name] = replaced_s
    if since != known:
        durable.replace_file(record, json.dumps(since, indent=1).encode())


def _read(record: Path) -> dict[str, int]:
    """Return since when each file is replaced, in seconds since 1970.

    What cannot be read counts from now on, which only keeps it longer.
    """
    try:
        found = json.loads(record.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    except OSError as error:
        raise StorageError(f"cannot read {record.name}: {error.strerror}") from error
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: since for name, since in pairs if type(since) is int}
