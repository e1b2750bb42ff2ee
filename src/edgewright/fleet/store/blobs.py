"""Bytes by their digest: a folder by default, an object store behind the same protocol.

``blobs/ab/abcdef...``: the name is the sha256 of the bytes, so a blob is never
changed, only written once, and whoever reads it can tell whether it is right.
"""

import hashlib
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from edgewright.core import durable
from edgewright.core.errors import BundleError, ConflictError, NotFoundError, UsageError

_HEX = re.compile(r"[0-9a-f]{64}")


class Blobs(Protocol):
    """Where blobs lie. A name that is not 64 hexadecimal digits is a ``UsageError``."""

    def put(self, name: str, blocks: Iterable[bytes]) -> int:
        """Store what ``blocks`` give under ``name`` and return its length in bytes.

        Raises:
            BundleError: The bytes do not hash to ``name``; nothing is kept.
            ConflictError: Another upload of the same blob is going on.
            StorageError: The disk refused; nothing is kept.
        """

    def length(self, name: str) -> int | None:
        """Return its length in bytes; None when there is no such blob."""

    def open(self, name: str) -> BinaryIO:
        """Return the blob open for reading.

        Raises:
            NotFoundError: There is no such blob.
        """


class FolderBlobs:
    """Blobs as files; one object serves all threads, one process owns the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._arriving: set[str] = set()
        for place in folder.glob("??"):
            durable.sweep(place)

    def put(self, name: str, blocks: Iterable[bytes]) -> int:
        """Store what ``blocks`` give under ``name`` and return its length in bytes."""
        path = self._path(name)
        with self._lock:
            if name in self._arriving:
                raise ConflictError(
                    f"blob {name[:12]} is being uploaded by someone else",
                    hint="Wait for it to end, then look whether it is there.",
                )
            self._arriving.add(name)
        try:
            durable.replace_file(path, _checked(name, blocks), mode=0o444)
        finally:
            with self._lock:
                self._arriving.discard(name)
        return path.stat().st_size

    def length(self, name: str) -> int | None:
        """Return its length in bytes; None when there is no such blob."""
        try:
            return self._path(name).stat().st_size
        except FileNotFoundError:
            return None

    def open(self, name: str) -> BinaryIO:
        """Return the blob open for reading."""
        try:
            return self._path(name).open("rb")
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no blob {name[:12]}") from error

    def _path(self, name: str) -> Path:
        if not _HEX.fullmatch(name):
            raise UsageError(f"{name[:80]!r} is not a blob's name", hint="64 hex digits.")
        return self._folder / name[:2] / name


def _checked(name: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass ``blocks`` on; end with an error when they were not what ``name`` says."""
    hasher, length = hashlib.sha256(), 0
    for block in blocks:
        hasher.update(block)
        length += len(block)
        yield block
    if hasher.hexdigest() != name:
        raise BundleError(
            f"{length} bytes hash to {hasher.hexdigest()[:12]}, not to {name[:12]}",
            hint="The upload was damaged or cut; send it again.",
        )
