"""Download one bundle in as many contacts as it takes, trusting nothing but digests.

The signed target names the digest of the archive's header, the header names the
digest of every chunk. So each part is checked as it arrives, what lies on the disk
already is checked again before it is kept, and only what is missing or wrong is
asked for. The last word has the digest of the whole file.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from edgewright.bundle import archive
from edgewright.bundle.archive import Header
from edgewright.bundle.trust import TrustedTarget
from edgewright.core import digest
from edgewright.core.errors import BundleError, StorageError, TransportError, TrustError
from edgewright.wire.http import Client, open_partial, put

# Left free for everything else a device writes while a bundle is on its way.
RESERVE_BYTES = 4 << 20

_MAX_HEADER_BYTES = 16 << 20
_PASSES = 3


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive bytes of an archive with one digest; empty for zeros between entries."""

    offset: int
    length: int
    sha256: str

    @property
    def end(self) -> int:
        """Offset of the first byte after it."""
        return self.offset + self.length

    def holds(self, data: bytes) -> bool:
        """Whether ``data`` are the bytes of this piece."""
        if len(data) != self.length:
            return False
        return digest.of_bytes(data) == self.sha256 if self.sha256 else not any(data)


def pieces(header: Header) -> list[Piece]:
    """Return the pieces after the header that an archive is made of, in order."""
    found, place = [], header.length
    for entry in header.manifest.entries:
        start = header.body_offset + entry.offset
        if start > place:
            found.append(Piece(place, start - place, ""))
        place = start
        for chunk in entry.chunks:
            length = min(entry.chunk_bytes, start + entry.length - place)
            found.append(Piece(place, length, chunk))
            place += length
    return found


class Download:
    """One bundle on its way into a file of ``staging/``.

    Args:
        client: Of the server that has it.
        target: What is signed about it.
        file: Where it goes; what is there already is used as far as it is right.
        check_time: Called with every block; raises when the contact must end.

    Attributes:
        wire_bytes: What came over the network, also when ``run`` raised.
    """

    def __init__(
        self,
        client: Client,
        target: TrustedTarget,
        file: Path,
        *,
        check_time: Callable[[], None],
    ) -> None:
        self._client, self._target, self._path = client, target, file
        self._check_time = check_time
        self._url = f"/v1/blobs/{digest.hex_of(target.sha256)}"
        self.wire_bytes = 0

    def run(self) -> None:
        """Complete the file and verify it.

        Raises:
            TrustError: What the server has is not what is signed.
            TransportError: It did not arrive whole; what is right of it is kept.
            StorageError: The disk refused, or has not the space for it.
        """
        with open_partial(self._path) as file:
            self._check_space(file)
            parts = pieces(self._header(file))
            missing = _missing(file, parts)
            for _ in range(_PASSES):
                if not missing:
                    break
                for first, last in _runs(missing, parts):
                    self._receive(file, first, last)
                missing = _missing(file, missing)
            if missing:
                count = f"{len(missing)} of {len(parts)} chunks"
                raise TransportError(f"{count} of {self._target.path} arrived wrong")
            file.truncate(self._target.length)
            self._check_whole(file)

    def _header(self, file: FileIO) -> Header:
        """Return the signed header, fetched if it is not there.

        Raises:
            TrustError: The header is not the signed one, or does not fit the target.
        """
        length, expected = _signed_header(self._target)
        have = file.seek(0, 2)
        # What is there may be right but short; if it is wrong, begin at the beginning.
        for start in (length, have if have < length else 0, 0):
            if start < length:
                self._fetch(file, start, length)
            data = _read(file, 0, length)
            if digest.of_bytes(data) == expected:
                break
        else:
            file.truncate(0)
            raise TrustError(
                f"the header of {self._target.path} is not the one that is signed"
            )
        try:
            header = archive.read_header(data)
        except BundleError as error:
            raise TrustError(f"{self._target.path}: {error}", hint=error.hint) from error
        if header.archive_bytes != self._target.length:
            raise TrustError(
                f"{self._target.path} is {header.archive_bytes} bytes by its header, "
                f"{self._target.length} as signed"
            )
        return header

    def _receive(self, file: FileIO, first: Piece, last: Piece) -> None:
        """Fetch ``first`` to ``last``; where the file ends within ``first``, from there."""
        have = file.seek(0, 2)
        start = have if first.offset < have < first.end else first.offset
        self._fetch(file, start, last.end)

    def _fetch(self, file: FileIO, start: int, stop: int) -> None:
        def sink(offset: int, block: bytes) -> None:
            self.wire_bytes += len(block)
            self._check_time()
            # A server that ignores ranges sends what is here and right already.
            skip = max(0, start - offset)
            if skip < len(block):
                put(file, offset + skip, block[skip:])

        self._client.receive(
            self._url,
            sink,
            start=start,
            stop=stop,
            length=self._target.length,
            etag=digest.hex_of(self._target.sha256),
        )

    def _check_space(self, file: FileIO) -> None:
        """Refuse to begin what would fill the disk: the rest of the file, and its slot."""
        have = file.seek(0, 2)
        disk = os.statvfs(self._path.parent)
        free = disk.f_bavail * disk.f_frsize
        needed = max(0, self._target.length - have) + self._target.length + RESERVE_BYTES
        if free < needed:
            raise StorageError(
                f"{self._target.path} needs {needed} bytes of disk, {free} are free",
                hint="Free some space; the download begins by itself then.",
            )

    def _check_whole(self, file: FileIO) -> None:
        hasher = hashlib.sha256()
        file.seek(0)
        while block := file.read(1 << 20):
            hasher.update(block)
        found = digest.PREFIX + hasher.hexdigest()
        if found != self._target.sha256:
            file.truncate(0)
            raise TrustError(
                f"{self._target.path} has digest {digest.short(found)}, "
                f"signed is {digest.short(self._target.sha256)}"
            )


def _signed_header(target: TrustedTarget) -> tuple[int, str]:
    """Return length and digest of the header, as signed beside the target."""
    custom = target.custom
    length, sha256 = custom.get("header_length"), custom.get("header_sha256")
    most = min(target.length, _MAX_HEADER_BYTES)
    if not isinstance(length, int) or not 0 < length <= most or not isinstance(sha256, str):
        raise TrustError(f"{target.path} is signed without the digest of its header")
    return length, sha256


def _missing(file: FileIO, parts: list[Piece]) -> list[Piece]:
    """Return the pieces that are not in the file, or not as they should be."""
    return [
        piece for piece in parts if not piece.holds(_read(file, piece.offset, piece.length))
    ]


def _runs(missing: list[Piece], parts: list[Piece]) -> Iterator[tuple[Piece, Piece]]:
    """Return first and last of each stretch of missing pieces, zeros in between included."""
    wanted = {piece.offset for piece in missing}
    first = last = None
    for piece in parts:
        if piece.offset in wanted:
            first, last = first or piece, piece
        elif first is not None and last is not None and piece.sha256:
            yield first, last
            first = last = None
    if first is not None and last is not None:
        yield first, last


def _read(file: FileIO, offset: int, length: int) -> bytes:
    """Return up to ``length`` bytes at ``offset``; fewer at the end of the file."""
    file.seek(offset)
    data = bytearray()
    while len(data) < length and (block := file.read(length - len(data))):
        data += block
    return bytes(data)
