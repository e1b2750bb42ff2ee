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
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.core.errors import StorageError

if TYPE_CHECKING:
    import sqlite3

_TEMPORARY = ".new~"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def replace_file(path: Path, data: bytes | Iterable[bytes], *, mode: int = 0o644) -> None:
    """Make ``path`` hold ``data``; a reader sees the old bytes or the new, never less.

    Args:
        path: The file; folders missing above it are made.
        data: The bytes, or blocks of them for what need not fit in memory; an error
            of ours that ends the blocks leaves ``path`` as it was.
        mode: Permissions of the file, from its first byte on.

    Raises:
        StorageError: The disk refused; ``path`` is as it was. Only when the very
            last sync is what failed it is new already, and not yet durably so.
    """
    temporary = path.with_name(path.name + _TEMPORARY)
    with _storage(path):
        make_folder(path.parent)
        # What an interrupted write left may be read-only, or a link to elsewhere.
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            try:
                os.fchmod(descriptor, mode)
                for block in (data,) if isinstance(data, bytes) else data:
                    _write(descriptor, block)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.replace(path)
        finally:
            with suppress(OSError):  # the first error is the one worth telling
                temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def replace_tree(source: Path, target: Path) -> None:
    """Move a finished folder to a name that does not exist yet, durably.

    ``source`` lies on the same file system (``staging/``). Every file below it
    is synced first, so that the name never points at half a tree.

    Raises:
        StorageError: The disk refused, or ``target`` exists; it is as it was. Only
            when what failed came after the move is it there already, and whole.
    """
    with _storage(target):
        if target.exists():
            raise StorageError(
                f"{target.name} exists already", hint="A finished folder is never replaced."
            )
        make_folder(target.parent)
        for folder, _, names in os.walk(source):
            for name in names:
                _sync_file(Path(folder, name))
            sync_folder(Path(folder))
        # Moving a folder writes its "..", which a read-only one allows only root.
        mode = stat.S_IMODE(source.stat().st_mode)
        source.chmod(mode | stat.S_IWUSR)
        source.rename(target)
        target.chmod(mode)
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
            if doomed.exists():
                _unlock(doomed)
                shutil.rmtree(doomed)
            path.chmod(0o755)
            path.rename(doomed)
            sync_folder(path.parent)
            _unlock(doomed)
            shutil.rmtree(doomed)
        else:
            path.unlink(missing_ok=True)
        sync_folder(path.parent)


def sweep(folder: Path) -> list[str]:
    """Remove what an interrupted write left in ``folder``; return the names.

    Raises:
        StorageError: The disk refused.
    """
    with _storage(folder):
        if not folder.is_dir():
            return []
        swept = sorted(path for path in folder.iterdir() if path.name.endswith(_TEMPORARY))
        for path in swept:
            if path.is_dir() and not path.is_symlink():
                _unlock(path)
                shutil.rmtree(path)
            else:
                path.unlink()
        return [path.name for path in swept]


def make_folder(folder: Path) -> None:
    """Make ``folder`` and what is missing above it, each name durable.

    Raises:
        OSError: As ``os.mkdir`` does; the public functions here turn it into ours.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        sync_folder(each.parent)


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
            make_folder(path.parent)
            self._good = self._read() if path.exists() else 0
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self._file = os.fdopen(descriptor, "ab", buffering=0)
            try:
                self._cut()
                sync_folder(path.parent)
            except OSError:
                self._file.close()
                raise

    @property
    def records(self) -> list[dict[str, Any]]:
        """Every record, oldest first, as reading the file again would give them."""
        return list(self._records)

    def append(self, record: dict[str, Any]) -> None:
        """Add ``record`` and return once it is durable.

        Raises:
            StorageError: The disk refused; the journal holds what it held before.
        """
        body = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
        line = b"%08x %s\n" % (zlib.crc32(body), body)
        descriptor = self._file.fileno()
        try:
            if os.fstat(descriptor).st_size != self._good:
                self._cut()
            _write(descriptor, line)
            os.fsync(descriptor)
        except OSError as error:
            # Whatever part of the line arrived is cut off, so that no later record
            # follows a torn one; where even that fails, the next append cuts first.
            with suppress(OSError):
                self._cut()
            raise _refused(self._path, error) from error
        self._good += len(line)
        self._records.append(json.loads(body))

    def close(self) -> None:
        """Close the file; records already appended are durable. Twice is fine."""
        self._file.close()

    def _cut(self) -> None:
        """Let the file end with its last good record."""
        os.ftruncate(self._file.fileno(), self._good)
        os.fsync(self._file.fileno())

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


def open_database(path: Path) -> "sqlite3.Connection":
    """Open SQLite so that a commit is durable when it returns.

    WAL with ``synchronous=FULL``; one connection is one writer. The caller
    commits explicitly (``BEGIN IMMEDIATE`` ... ``COMMIT``).

    Raises:
        StorageError: The file cannot be opened or is not a database.
    """
    import sqlite3  # noqa: PLC0415  2 MiB that only the owner of a database pays

    try:
        make_folder(path.parent)
        database = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        try:
            mode = database.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode != "wal":
                raise sqlite3.OperationalError(f"journal mode is {mode}, not wal")
            database.execute("PRAGMA synchronous=FULL")
            database.execute("PRAGMA foreign_keys=ON")
        except sqlite3.Error:
            database.close()
            raise
    except (OSError, sqlite3.Error) as error:
        raise _refused(path, error) from error
    return database


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the record of one line, or None when its checksum does not hold."""
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        record = json.loads(body)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _write(descriptor: int, data: bytes) -> None:
    """Write all of ``data``; the system may take it in parts."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


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
def _storage(path: Path) -> Iterator[None]:
    """Turn what the operating system raises into ``StorageError``."""
    try:
        yield
    except OSError as error:
        raise _refused(path, error) from error
