"""The three doors through which state reaches a disk, and nothing else does.

``replace_file`` and ``replace_tree`` swap a whole thing at once, ``Journal``
appends records that are either whole or absent, ``open_database`` opens SQLite
with the settings durability needs. Every write is: temporary name beside the
target, fsync, rename, fsync the folder. What is torn by a power cut is either
the temporary name, which the next start removes, or the last journal record,
which its checksum betrays.

Source: the order of calls in SQLite's "Atomic Commit In SQLite", section 3.
"""

import errno
import json
import os
import shutil
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgewright.core.errors import StorageError

_TEMPORARY = ".new~"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def replace_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Make ``path`` hold ``data``; a reader sees the old bytes or the new, never less.

    Raises:
        StorageError: The disk refused; ``path`` is as it was.
    """
    temporary = path.with_name(path.name + _TEMPORARY)
    with _storage(path, undo=temporary):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
        sync_folder(path.parent)


def replace_tree(source: Path, target: Path) -> None:
    """Move a finished folder to a name that does not exist yet, durably.

    ``source`` lies on the same file system (``staging/``). Every file below it
    is synced first, so that the name never points at half a tree.

    Raises:
        StorageError: The disk refused, or ``target`` exists; it is as it was.
    """
    with _storage(target):
        if target.exists():
            raise StorageError(
                f"{target.name} exists already", hint="A finished folder is never replaced."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        for folder, _, names in os.walk(source):
            for name in names:
                _sync_file(Path(folder, name))
            sync_folder(Path(folder))
        source.rename(target)
        sync_folder(target.parent)
        sync_folder(source.parent)


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there, and make its absence durable.

    A folder disappears at once: it is first renamed to a temporary name.

    Raises:
        StorageError: The disk refused.
    """
    if not path.exists() and not path.is_symlink():
        return
    with _storage(path):
        if path.is_dir() and not path.is_symlink():
            doomed = path.with_name(path.name + _TEMPORARY)
            shutil.rmtree(doomed, ignore_errors=True)
            path.chmod(0o755)
            path.rename(doomed)
            sync_folder(path.parent)
            _unlock(doomed)
            shutil.rmtree(doomed)
        else:
            path.unlink(missing_ok=True)
        sync_folder(path.parent)


def sweep(folder: Path) -> list[str]:
    """Remove what an interrupted write left in ``folder``; return the names."""
    swept = []
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name.endswith(_TEMPORARY):
                swept.append(path.name)
                if path.is_dir() and not path.is_symlink():
                    _unlock(path)
                    shutil.rmtree(path)
                else:
                    path.unlink()
    return sorted(swept)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Journal:
    """An append-only file of JSON records, one a line, each with its CRC-32.

    A torn last line is what a power cut leaves; it is cut off at the next open.
    A bad line before a good one is damage, and is refused.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: list[dict[str, Any]] = []
        with _storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            good = self._read() if path.exists() else 0
            self._file = path.open("ab")
            if self._file.tell() != good:
                self._file.truncate(good)
            os.fsync(self._file.fileno())
            sync_folder(path.parent)

    @property
    def records(self) -> list[dict[str, Any]]:
        """Every record, oldest first."""
        return list(self._records)

    def append(self, record: dict[str, Any]) -> None:
        """Add ``record`` and return once it is durable.

        Raises:
            StorageError: The disk refused; the journal holds what it held before.
        """
        body = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
        start = self._file.tell()
        try:
            self._file.write(b"%08x %s\n" % (zlib.crc32(body), body))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            # Whatever part of the line arrived is cut off again, so that a
            # later record does not follow a torn one.
            os.ftruncate(self._file.fileno(), start)
            self._file = self._path.open("ab")
            raise _refused(self._path, error) from error
        self._records.append(record)

    def close(self) -> None:
        """Close the file; records already appended are durable."""
        self._file.close()

    def _read(self) -> int:
        """Fill ``_records``; return the length of the good prefix in bytes."""
        data = self._path.read_bytes()
        good = 0
        while good < len(data):
            end = data.find(b"\n", good)
            record = _parse(data[good:end]) if end >= 0 else None
            if record is None:
                if end >= 0 and end + 1 < len(data):
                    raise StorageError(
                        f"{self._path.name} is damaged at byte {good} of {len(data)}",
                        hint="Restore it from a copy, or remove it to start anew.",
                    )
                break
            self._records.append(record)
            good = end + 1
        return good


def open_database(path: Path) -> sqlite3.Connection:
    """Open SQLite so that a commit is durable when it returns.

    WAL with ``synchronous=FULL``; one connection is one writer. The caller
    commits explicitly (``BEGIN IMMEDIATE`` ... ``COMMIT``).

    Raises:
        StorageError: The file cannot be opened or is not a database.
    """
    with _storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.execute("PRAGMA foreign_keys=ON")
        except sqlite3.Error:
            database.close()
            raise
    return database


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the record of one line, or None when its checksum does not hold."""
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    record = json.loads(body)
    return record if isinstance(record, dict) else None


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlock(folder: Path) -> None:
    """Give the owner the right to remove what lies in a read-only tree."""
    for place, _, _ in os.walk(folder):
        Path(place).chmod(0o755)


def _refused(path: Path, error: Exception) -> StorageError:
    number = error.errno if isinstance(error, OSError) else None
    hint = "Free some space and try again." if number in _FULL else ""
    return StorageError(f"cannot write {path.name}: {error}", hint=hint)


@contextmanager
def _storage(path: Path, *, undo: Path | None = None) -> Iterator[None]:
    """Turn what the operating system or SQLite raises into ``StorageError``."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if undo is not None:
            undo.unlink(missing_ok=True)
        raise _refused(path, error) from error
