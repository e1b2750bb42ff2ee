"""The ``.ewb`` file and the slot it becomes on a device: layout, reading, verifying.

::

    "EWBUNDLE" | format u16 | 0 u16 | header_length u32 | manifest | zeros to 4096 | body

The body holds the entries sorted by path, weights aligned to 4096 bytes and the
rest to 64, zeros between, nothing after the last. Integers are little-endian.
There is one layout for one set of files, so the digest of the archive can be
worked out again from a slot: that is how a slot is verified, and no other record
of what it should hold is kept.

What is not there, or is a folder where a file should be, is the bundle's fault; what is
there and cannot be read is the disk's, and says nothing about the bundle.
"""

import errno
import hashlib
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from edgewright.bundle import manifest as manifests
from edgewright.bundle.manifest import CHUNK_BYTES, FORMAT, Entry, Manifest
from edgewright.core import digest
from edgewright.core.errors import BundleError, StorageError, UsageError

MAGIC = b"EWBUNDLE"
MANIFEST = "manifest.json"

_HEAD = struct.Struct("<8sHHI")
_PAGE = 4096
_LINE = 64
_WEIGHTS = "weights.bin"
# A manifest of 16 MiB names 40 GB of weights; a chunk is held in memory whole.
_MAX_HEADER_BYTES = 16 << 20
_MAX_CHUNK_BYTES = 4 << 20
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}

Content = Path | bytes


@dataclass(frozen=True, slots=True)
class Header:
    """The authenticated beginning of an archive.

    Attributes:
        length: Bytes up to and including the manifest; ``sha256`` is their digest.
        body_offset: Where ``Entry.offset`` counts from, in bytes.
    """

    manifest: Manifest
    length: int
    sha256: str
    body_offset: int

    @property
    def archive_bytes(self) -> int:
        """The exact length of the archive."""
        return self.body_offset + _end(self.manifest.entries)


def plan(contents: Mapping[str, Content]) -> tuple[Entry, ...]:
    """Return the entries of an archive of ``contents``, by path: offsets and digests.

    Raises:
        BundleError: A file is missing, or two paths cannot lie in one folder.
        StorageError: A file cannot be read.
    """
    entries: list[Entry] = []
    for path in sorted(contents):
        hasher = hashlib.sha256()
        length, chunks = 0, []
        for block in _content_blocks(contents[path], CHUNK_BYTES):
            hasher.update(block)
            chunks.append(digest.of_bytes(block))
            length += len(block)
        entries.append(
            Entry(
                path=path,
                offset=_next_offset(path, _end(entries)),
                length=length,
                sha256=digest.PREFIX + hasher.hexdigest(),
                chunk_bytes=CHUNK_BYTES,
                chunks=tuple(chunks),
            )
        )
    _check_layout(entries)
    return tuple(entries)


def write(path: Path, manifest: Manifest, contents: Mapping[str, Content]) -> str:
    """Write the archive at ``path``, durably and in one step; return its digest.

    Raises:
        BundleError: ``contents`` are not what ``manifest.entries`` name.
        StorageError: The disk refused to write or to read; ``path`` is as it was.
    """
    # Opening SQLite's library, which this import does, costs 2 MiB in every
    # process that only reads bundles.
    from edgewright.core import durable  # noqa: PLC0415

    if plan(contents) != manifest.entries:
        raise BundleError(f"the files given are not the entries {manifest.release} names")
    hasher = hashlib.sha256()

    def blocks() -> Iterator[bytes]:
        def content(entry: Entry) -> Iterator[bytes]:
            return _content_blocks(contents[entry.path], entry.chunk_bytes)

        for block in _layout(manifest.to_bytes(), manifest.entries, content):
            hasher.update(block)
            yield block

    durable.replace_file(path, blocks())
    return digest.PREFIX + hasher.hexdigest()


def read_header(data: bytes) -> Header:
    """Return the header at the beginning of ``data``, a prefix of an archive.

    Raises:
        BundleError: Too short, another kind of file, a higher format, or a
            manifest that does not hold together.
    """
    length = header_length(data)
    if len(data) < length:
        raise BundleError(f"the header is {length} bytes long, got {len(data)}")
    try:
        manifest = manifests.from_bytes(data[_HEAD.size : length])
    except UsageError as error:  # a name nobody may give a bundle
        raise BundleError(str(error), hint=error.hint) from error
    _check_layout(manifest.entries)
    return Header(
        manifest=manifest,
        length=length,
        sha256=digest.of_bytes(data[:length]),
        body_offset=_align(length, _PAGE),
    )


def header_length(data: bytes) -> int:
    """Return the length of the header that begins with ``data``, at least 16 bytes of it.

    Raises:
        BundleError: Not the beginning of an archive this program reads.
    """
    if len(data) < _HEAD.size:
        raise BundleError(f"a bundle begins with {_HEAD.size} bytes, got {len(data)}")
    magic, major, reserved, length = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise BundleError("not a bundle: it does not begin with EWBUNDLE")
    if major > FORMAT:
        raise BundleError(
            f"bundle format {major} is newer than {FORMAT}, which this program reads",
            hint="Update edgewright on this machine.",
        )
    if major != FORMAT or reserved != 0 or not 2 <= length <= _MAX_HEADER_BYTES:
        raise BundleError(f"bundle header is damaged: {major}, {reserved}, {length}")
    return _HEAD.size + int(length)


class Archive:
    """An archive on disk, open for reading; nothing it returns is unverified.

    Every method that reads raises ``StorageError`` where the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path`` and check its header and its length.

        Raises:
            BundleError: It is not there, or is not a whole bundle.
            StorageError: It is there and cannot be read.
        """
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _unreadable(str(path), error) from error
        try:
            start = self._at(0, _HEAD.size)
            self.header = read_header(self._at(0, header_length(start)))
            self._check_length()
        except StorageError:
            os.close(self._descriptor)
            raise
        except BundleError as error:
            os.close(self._descriptor)
            hint = error.hint or "Was it copied or downloaded to its end?"
            raise BundleError(f"{path.name}: {error}", hint=hint) from error

    def _check_length(self) -> None:
        found, length = os.fstat(self._descriptor).st_size, self.header.archive_bytes
        if found != length:
            raise BundleError(
                f"{self._path.name} is {found} bytes, its manifest says {length}"
            )

    @property
    def manifest(self) -> Manifest:
        """What the archive says about itself."""
        return self.header.manifest

    def digest(self) -> str:
        """Return the digest of the whole file, which is the bundle's."""
        hasher = hashlib.sha256()
        for block in self._blocks(0, self.header.archive_bytes, CHUNK_BYTES):
            hasher.update(block)
        return digest.PREFIX + hasher.hexdigest()

    def read(self, path: str) -> bytes:
        """Return one entry.

        Raises:
            BundleError: No such entry, or it is damaged.
        """
        return b"".join(self._verified(self.manifest.entry(path)))

    def verify(self) -> None:
        """Check every byte: chunks, whole entries, and that padding is zeros.

        Raises:
            BundleError: Naming the first entry that is damaged.
        """
        padding = self._at(self.header.length, self.header.body_offset - self.header.length)
        _check_zeros(padding, "the manifest")
        position = 0
        for entry in self.manifest.entries:
            gap = self._at(self.header.body_offset + position, entry.offset - position)
            _check_zeros(gap, f"the entry before {entry.path!r}")
            for _ in self._verified(entry):
                pass
            position = entry.offset + entry.length

    def extract(self, folder: Path) -> None:
        """Make ``folder``, which must not exist, a slot: the manifest and every entry.

        What is written is not yet synced; ``bundle.install`` does that.

        Raises:
            BundleError: An entry is damaged.
            StorageError: The disk refused.
        """
        try:
            folder.mkdir(parents=True)
            for entry in self.manifest.entries:
                _stage(folder / entry.path, self._verified(entry))
            _stage(folder / MANIFEST, [self._at(_HEAD.size, self.header.length - _HEAD.size)])
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
            hint = "Free some space and try again." if full else ""
            raise StorageError(
                f"cannot unpack {self._path.name}: {error}", hint=hint
            ) from error

    def close(self) -> None:
        """Close the file; twice is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _verified(self, entry: Entry) -> Iterator[bytes]:
        start = self.header.body_offset + entry.offset
        return _verified(entry, self._blocks(start, entry.length, entry.chunk_bytes))

    def _blocks(self, start: int, length: int, size: int) -> Iterator[bytes]:
        for offset in range(start, start + length, size):
            yield self._at(offset, min(size, start + length - offset))

    def _at(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, fewer only at the end of the file."""
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise _unreadable(self._path.name, error) from error


def slot_digest(folder: Path) -> tuple[Manifest, str]:
    """Return what a slot says about itself, and the digest of the archive it came from.

    The digest is worked out from the files as they are; it is the caller who
    knows which one it should be.

    Raises:
        BundleError: A file is missing, has another length, or is not named in the
            manifest; or the manifest does not hold together.
        StorageError: The disk refused to read one.
    """
    header = _slot_header(folder)
    manifest = header.manifest
    _check_names(folder, manifest)
    raw = manifest.to_bytes()
    hasher = hashlib.sha256()
    for block in _layout(raw, manifest.entries, lambda entry: _slot_blocks(folder, entry)):
        hasher.update(block)
    return manifest, digest.PREFIX + hasher.hexdigest()


def verify_slot(folder: Path, expected: str) -> Manifest:
    """Return the manifest of a slot that is, byte for byte, the bundle ``expected``.

    Raises:
        BundleError: It is not; the message names the damaged entry if one is.
        StorageError: The disk refused to read it.
    """
    digest.check(expected)
    manifest, found = slot_digest(folder)
    if found != expected:
        check_entries(folder, manifest)
        raise BundleError(
            f"{MANIFEST} of slot {digest.short(expected)} is that of "
            f"{digest.short(found)}: {manifest.release}"
        )
    return manifest


def check_entries(folder: Path, manifest: Manifest) -> None:
    """Check every file of a slot against its own manifest.

    Raises:
        BundleError: Naming the first entry that is damaged.
        StorageError: The disk refused to read one.
    """
    for entry in manifest.entries:
        for _ in _verified(entry, _slot_blocks(folder, entry)):
            pass


def _slot_header(folder: Path) -> Header:
    path = folder / MANIFEST
    try:
        size = path.stat().st_size
        if size > _MAX_HEADER_BYTES:
            raise BundleError(f"{MANIFEST} of slot {folder.name[:12]} has {size} bytes")
        raw = path.read_bytes()
    except OSError as error:
        raise _unreadable(f"{MANIFEST} of slot {folder.name[:12]}", error) from error
    return read_header(_HEAD.pack(MAGIC, FORMAT, 0, len(raw)) + raw)


def _slot_blocks(folder: Path, entry: Entry) -> Iterator[bytes]:
    path = folder / entry.path
    try:
        found = path.lstat()
    except OSError as error:
        raise _unreadable(repr(entry.path), error) from error
    if not stat.S_ISREG(found.st_mode) or found.st_size != entry.length:
        raise BundleError(
            f"{entry.path!r} has {found.st_size} bytes, its manifest says {entry.length}"
        )
    return _content_blocks(path, entry.chunk_bytes)


def _check_names(folder: Path, manifest: Manifest) -> None:
    """Refuse a file in a slot that the manifest does not name."""
    named = {MANIFEST, *(entry.path for entry in manifest.entries)}

    def refuse(error: OSError) -> None:
        raise _unreadable(f"slot {folder.name[:12]}", error) from error

    for place, _, names in os.walk(folder, onerror=refuse):
        for name in names:
            path = Path(place, name).relative_to(folder).as_posix()
            if path not in named:
                raise BundleError(
                    f"slot {folder.name[:12]} holds {path!r}, which is not its own"
                )


def _layout(
    raw: bytes, entries: Iterable[Entry], blocks: Callable[[Entry], Iterator[bytes]]
) -> Iterator[bytes]:
    """Yield an archive from its first byte to its last."""
    head = _HEAD.pack(MAGIC, FORMAT, 0, len(raw)) + raw
    yield head + bytes(_align(len(head), _PAGE) - len(head))
    position = 0
    for entry in entries:
        yield bytes(entry.offset - position)
        yield from blocks(entry)
        position = entry.offset + entry.length


def _verified(entry: Entry, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks of an entry, each only after its digest is found right."""
    hasher = hashlib.sha256()
    count = 0
    for index, block in enumerate(blocks):
        if index >= len(entry.chunks) or digest.of_bytes(block) != entry.chunks[index]:
            raise BundleError(f"{entry.path!r} is damaged in chunk {index}")
        hasher.update(block)
        count += 1
        yield block
    if count != len(entry.chunks) or digest.PREFIX + hasher.hexdigest() != entry.sha256:
        raise BundleError(f"{entry.path!r} is not what its digest says")


def _content_blocks(content: Content, size: int) -> Iterator[bytes]:
    if isinstance(content, bytes):
        for start in range(0, len(content), size):
            yield content[start : start + size]
        return
    try:
        with content.open("rb", buffering=0) as file:
            while block := _whole(file.read, size):
                yield block
    except OSError as error:
        raise _unreadable(str(content), error) from error


def _unreadable(what: str, error: OSError) -> BundleError | StorageError:
    """Return the error that blames who is to blame for what cannot be read."""
    message = f"cannot read {what}: {error.strerror}"
    if error.errno in _NOT_THERE:
        return BundleError(message)
    return StorageError(message, hint="It is the disk, or the rights to it: try again.")


def _whole(read: Callable[[int], bytes | None], size: int) -> bytes:
    """Return ``size`` bytes, fewer only at the end: the kernel may give less at a time."""
    block = read(size) or b""
    while len(block) < size and (more := read(size - len(block))):
        block += more
    return block


def _stage(path: Path, blocks: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:  # staging: hashed again before use
        for block in blocks:
            file.write(block)


def _check_layout(entries: Iterable[Entry]) -> None:
    """Refuse entries that do not lie where the one layout puts them."""
    before = ""
    end = 0
    folders: set[str] = set()
    paths: set[str] = set()
    for entry in entries:
        if entry.path <= before or entry.offset != _next_offset(entry.path, end):
            raise BundleError(f"entry {entry.path!r} does not lie where it should")
        if entry.chunk_bytes > _MAX_CHUNK_BYTES:
            raise BundleError(f"entry {entry.path!r} has chunks of {entry.chunk_bytes} bytes")
        before, end = entry.path, entry.offset + entry.length
        paths.add(entry.path)
        parts = entry.path.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    if clash := sorted((paths & folders) | ({MANIFEST} & (paths | folders))):
        raise BundleError(f"entry {clash[0]!r} would lie where another file or folder lies")


def _check_zeros(data: bytes, after: str) -> None:
    if data.strip(b"\0"):
        raise BundleError(f"the padding after {after} is not zeros")


def _next_offset(path: str, end: int) -> int:
    return _align(end, _PAGE if path.rpartition("/")[2] == _WEIGHTS else _LINE)


def _end(entries: tuple[Entry, ...] | list[Entry]) -> int:
    return entries[-1].offset + entries[-1].length if entries else 0


def _align(length: int, to: int) -> int:
    return -(-length // to) * to
