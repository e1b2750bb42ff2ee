"""Bytes of the files a target wrote."""

from pathlib import Path

from edgewright.core.evidence import Evidence


def file_bytes(folder: Path, machine: str) -> Evidence:
    """Return the size of all files in ``folder`` together; it is exact."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    total = sum(path.stat().st_size for path in files)
    names = " + ".join(path.name for path in files)
    return Evidence("file_bytes", total, 1, machine, "parsed", how=names)
