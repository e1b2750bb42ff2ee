"""Bytes of the files a target wrote."""

from pathlib import Path

from edgewright.core.evidence import Evidence


def file_bytes(folder: Path, machine: str) -> Evidence:
    """Return the size of all files in ``folder`` together; it is exact."""
    names = " + ".join(path.name for path in _files(folder))
    return Evidence("file_bytes", size_of(folder), 1, machine, "parsed", how=names)


def size_of(folder: Path) -> int:
    """Return the bytes of all files in ``folder`` together."""
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())
