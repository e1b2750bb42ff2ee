"""The state folder: one server at a time, and all of it or nothing after a first start.

A start is the first where there is no database yet. One that ends before it answers
requests, for whatever reason, takes back what it made: neither tokens nor trusted
roots of a start that failed are in the way of the next. A later start changes
the folder only in whole steps, each of which the next one goes on from.
"""

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgewright.core import durable
from edgewright.core.errors import ConflictError, StorageError

DATABASE = "fleet.db"
ADDRESS = "server.json"

_LOCK = "lock"
# The lock goes last: until then nobody else begins.
_NAMES = (
    *(DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"),
    *("blobs", "trust", "tokens", ADDRESS, _LOCK),
)


@contextmanager
def held(state: Path) -> Iterator[Callable[[], None]]:
    """Hold ``state``; the kernel lets go of it however this process ends.

    Gives what is to be called once requests are answered: from then on it is kept.

    Raises:
        ConflictError: Another server has it.
        StorageError: It cannot be made, read or locked.
    """
    with _storage(state):
        missing = [folder for folder in (state, *state.parents) if not folder.exists()]
        there = {name for name in _NAMES if (state / name).exists()}
        mode = None if missing else stat.S_IMODE(state.stat().st_mode)
    kept = DATABASE in there

    def keep() -> None:
        nonlocal kept
        kept = True

    try:
        with _locked(state):
            try:
                yield keep
            finally:
                if not kept:
                    _take_back(state, [name for name in _NAMES if name not in there], mode)
    finally:
        if not kept:
            for folder in missing:
                # Not empty when someone else has put something there meanwhile.
                with suppress(OSError):
                    folder.rmdir()


def _take_back(state: Path, names: list[str], mode: int | None) -> None:
    # The error that ended the start is the one worth telling.
    with suppress(OSError, StorageError):
        for name in names:
            durable.remove(state / name)
        if mode is not None:
            state.chmod(mode)


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    path = state / _LOCK
    with _storage(state):
        durable.make_folder(state)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with _storage(state):
            mine = _lock(descriptor, path)
        if not mine:
            raise ConflictError(
                f"another server uses {state}",
                hint="Its address is in server.json there; stop it first.",
            )
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> bool:
    """Lock an open file; return whether that is the lock others will meet at ``path``."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A start that failed removes its lock: one opened before then holds nothing.
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


@contextmanager
def _storage(state: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot use {state}: {error.strerror}",
            hint="Name a folder with --state that this user may make and write.",
        ) from error
