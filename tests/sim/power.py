"""What a disk may hold after the power was cut: a model, so that missing syncs show.

Killing a process does not lose what it wrote without syncing, so it cannot tell whether
an fsync is missing. This model can. It records what a program does below a folder and
says, for a cut after any call, every state the disk may be found in:

- the bytes of a file are those of its last fsync, or any later version, or of what was
  added since only half, or zeros in its place (delayed allocation);
- a name (created, renamed, removed) is there for sure once its folder was synced; names
  not yet synced may have arrived or not, in order within one folder, renames whole.

Source: T. S. Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014, from
which the rules are the weak ones that common file systems keep.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, combinations, product
from pathlib import Path
from typing import TypeAlias
from unittest.mock import patch

# Path below the folder -> the bytes of a file, or None for a folder.
State: TypeAlias = dict[str, bytes | None]


@dataclass(frozen=True)
class _Names:
    """One change of names, which arrives whole: (folder, name, inode or None) each."""

    changes: tuple[tuple[int, str, int | None], ...]

    @property
    def folders(self) -> set[int]:
        return {folder for folder, _, _ in self.changes}


@dataclass
class Disk:
    """What is durable, and what is only in memory."""

    root: int
    names: dict[int, dict[str, int]] = field(default_factory=dict)
    synced: dict[int, bytes] = field(default_factory=dict)
    versions: dict[int, list[bytes]] = field(default_factory=dict)
    waiting: list[_Names] = field(default_factory=list)

    def states(self) -> list[State]:
        """Return every state the disk may be found in if the power is cut now."""
        found: list[State] = []
        for names in self._namings():
            files = self._files(names, self.root, "")
            options = [self._contents(inode) for inode in files.values()]
            for contents in product(*options):
                state = dict(zip(files, contents, strict=True))
                if state not in found:
                    found.append(state)
        return found

    def write(self, inode: int, change: Callable[[bytes], bytes]) -> None:
        """Give a file new bytes, in memory."""
        versions = self.versions.setdefault(inode, [])
        versions.append(change(versions[-1] if versions else self.synced[inode]))

    def rename(self, *changes: tuple[int, str, int | None]) -> None:
        """Change names, in memory."""
        self.waiting.append(_Names(changes))

    def sync(self, inode: int) -> None:
        """Make a file's bytes, or a folder's names, durable."""
        if inode not in self.names:
            if versions := self.versions.pop(inode, []):
                self.synced[inode] = versions[-1]
            return
        folders, durable = {inode}, []
        for names in reversed(self.waiting):
            if names.folders & folders:
                folders |= names.folders
                durable.append(names)
        self.waiting = [names for names in self.waiting if names not in durable]
        for names in reversed(durable):
            _apply(names, self.names)

    def _namings(self) -> Iterator[dict[int, dict[str, int]]]:
        count = len(self.waiting)
        chosen = chain.from_iterable(combinations(range(count), k) for k in range(count + 1))
        for some in chosen:
            if self._in_order(some):
                names = {folder: dict(inside) for folder, inside in self.names.items()}
                for index in some:
                    _apply(self.waiting[index], names)
                yield names

    def _in_order(self, some: tuple[int, ...]) -> bool:
        return all(
            earlier in some
            for index in some
            for earlier in range(index)
            if self.waiting[earlier].folders & self.waiting[index].folders
        )

    def _files(self, names: dict[int, dict[str, int]], folder: int, at: str) -> dict[str, int]:
        found = {}
        for name, inode in names[folder].items():
            found[f"{at}{name}"] = inode
            if inode in names:
                found.update(self._files(names, inode, f"{at}{name}/"))
        return found

    def _contents(self, inode: int) -> list[bytes | None]:
        if inode in self.names:
            return [None]
        kept = self.synced[inode]
        options = [kept]
        for version in self.versions.get(inode, []):
            added = version.removeprefix(kept)
            whole = kept if version.startswith(kept) else b""
            options += [version, whole + added[: len(added) // 2], whole + b"\0" * len(added)]
        return list(dict.fromkeys(options))


@contextmanager
def recording(folder: Path, after_each: Callable[[Disk], None]) -> Iterator[Disk]:
    """Record what is done below ``folder``; ``after_each`` sees the disk after each call."""
    disk = _found(folder)
    calls = {
        "open": _open, "write": _write, "fsync": _fsync, "ftruncate": _ftruncate,
        "mkdir": _mkdir, "rename": _rename, "replace": _rename, "unlink": _unlink,
        "rmdir": _unlink,
    }  # fmt: skip
    originals = {name: getattr(os, name) for name in calls}

    def wrapped(name: str) -> Callable:
        def call(*args, **kwargs):
            result = calls[name](disk, originals[name], *args, **kwargs)
            after_each(disk)
            return result

        return call

    after_each(disk)
    with patch.multiple(os, **{name: wrapped(name) for name in calls}):
        yield disk


def lay_out(state: State, folder: Path) -> None:
    """Make ``folder`` hold what ``state`` says."""
    folder.mkdir(parents=True)
    for path, content in state.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


def _found(folder: Path) -> Disk:
    """Return a disk on which all that is below ``folder`` is durable."""
    disk = Disk(root=folder.stat().st_ino)
    for place, folders, files in os.walk(folder):
        inside = {name: Path(place, name).stat().st_ino for name in (*folders, *files)}
        disk.names[Path(place).stat().st_ino] = inside
        for name in files:
            disk.synced[inside[name]] = Path(place, name).read_bytes()
    return disk


def _apply(names: _Names, where: dict[int, dict[str, int]]) -> None:
    for folder, name, inode in names.changes:
        if inode is None:
            where[folder].pop(name, None)
        else:
            where[folder][name] = inode


def _place(path: str | os.PathLike[str], below: int | None = None) -> tuple[int, str]:
    """Return the inode of the folder a name is in, and the name."""
    text = os.fspath(path)
    if below is not None:
        return os.fstat(below).st_ino, text
    return Path(text).absolute().parent.stat().st_ino, Path(text).name


def _open(disk: Disk, real: Callable, path, flags, *args, **kwargs) -> int:
    known = Path(path).exists() if "dir_fd" not in kwargs else True
    descriptor = real(path, flags, *args, **kwargs)
    inode = os.fstat(descriptor).st_ino
    if not known:
        disk.synced[inode] = b""
        disk.versions.pop(inode, None)  # the number may have been another file's
        folder, name = _place(path)
        disk.rename((folder, name, inode))
    elif flags & os.O_TRUNC:
        disk.write(inode, lambda _: b"")
    return descriptor


def _write(disk: Disk, real: Callable, descriptor: int, data) -> int:
    count = real(descriptor, data)
    # Every file here is written from its end: appended, or new.
    if (inode := os.fstat(descriptor).st_ino) in disk.synced:
        disk.write(inode, lambda old: old + bytes(data[:count]))
    return count


def _ftruncate(disk: Disk, real: Callable, descriptor: int, size: int) -> None:
    real(descriptor, size)
    inode = os.fstat(descriptor).st_ino
    disk.write(inode, lambda old: old[:size].ljust(size, b"\0"))


def _fsync(disk: Disk, real: Callable, descriptor: int) -> None:
    real(descriptor)
    disk.sync(os.fstat(descriptor).st_ino)


def _mkdir(disk: Disk, real: Callable, path, *args, **kwargs) -> None:
    real(path, *args, **kwargs)
    inode = Path(path).stat().st_ino
    disk.names[inode] = {}
    disk.rename((*_place(path), inode))


def _rename(disk: Disk, real: Callable, source, target) -> None:
    inode = Path(source).stat().st_ino
    here, there = _place(source), _place(target)
    real(source, target)
    disk.rename((*here, None), (*there, inode))


def _unlink(disk: Disk, real: Callable, path, *, dir_fd=None) -> None:
    place = _place(path, dir_fd)
    real(path, dir_fd=dir_fd)
    disk.rename((*place, None))
