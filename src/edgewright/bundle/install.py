"""The installer: an archive becomes a slot, or nothing is left of the attempt.

``python -m edgewright.bundle.install ARCHIVE --digest D --slots DIR --staging DIR``
prints one line of JSON and exits 0 when the slot is there, 1 when the archive was
refused. The archive is checked against its digest before anything is written, every
chunk as it is unpacked, and the finished folder once more as a whole; only then is
it synced and moved to its name. Both folders lie on one file system.
"""

import argparse
import errno
import json
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgewright.bundle.archive import Archive, verify_slot
from edgewright.bundle.manifest import Manifest
from edgewright.core import digest, durable, log, process
from edgewright.core.errors import BundleError, EdgewrightError, StorageError

_MIB = 1 << 20


def install(archive: Path, *, expected: str, slots: Path, staging: Path) -> Manifest:
    """Make ``slots/<hex of expected>`` the contents of ``archive``; return its manifest.

    A slot that is there and sound is left alone. One that is damaged, or that the
    disk cannot read again, is removed and installed anew.

    Raises:
        BundleError: The archive is not ``expected``, or is damaged.
        StorageError: The disk refused. In both cases nothing is left behind, but
            for the archive, which is the caller's.
    """
    name = digest.hex_of(expected)
    slot, work = slots / name, staging / f"{name}.slot"
    durable.remove(work)
    if slot.exists() and (sound := _sound(slot, expected)):
        _seal(slot)
        return sound
    with Archive(archive) as opened:
        found = opened.digest()
        if found != expected:
            raise BundleError(
                f"{archive.name} is {digest.short(found)}, not {digest.short(expected)}",
                hint="Download it again.",
            )
        try:
            opened.extract(work)
            manifest = verify_slot(work, expected)
            _seal(work)
            durable.remove(slot)
            durable.replace_tree(work, slot)
        except (EdgewrightError, MemoryError):
            durable.remove(work)
            raise
    return manifest


def main(argv: Sequence[str] | None = None) -> int:
    """Run the installer; return its exit code."""
    args = _parser().parse_args(argv)
    limit = args.memory_mb * _MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    report: dict[str, Any] = {"digest": args.digest}
    try:
        manifest = install(
            args.archive, expected=args.digest, slots=args.slots, staging=args.staging
        )
        report["slot"] = str(args.slots / digest.hex_of(args.digest))
        report["release"] = str(manifest.release)
    except (EdgewrightError, MemoryError) as error:
        report["error"] = _told(error, args)
        report["unreadable"] = _lost(error)
        log.event("installer", "refused", digest=args.digest, **report["error"])
    report["peak_bytes"] = process.peak_bytes()
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()
    return 1 if "error" in report else 0


def _sound(slot: Path, expected: str) -> Manifest | None:
    """Return the manifest of a slot that is whole, None for one that is not known to be."""
    try:
        return verify_slot(slot, expected)
    except (BundleError, StorageError) as error:
        log.event("installer", "slot is damaged", slot=slot.name, message=str(error))
        return None


def _seal(folder: Path) -> None:
    """Let nobody write into a finished slot by mistake."""
    try:
        for place, _, names in os.walk(folder, topdown=False):
            for name in names:
                Path(place, name).chmod(0o444)
            Path(place).chmod(0o555)
    except OSError as error:
        raise StorageError(f"cannot seal {folder.name}: {error.strerror}") from error


def _lost(error: EdgewrightError | MemoryError) -> bool:
    """Whether the disk has lost what it was given, which no second try brings back."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno == errno.EIO


def _told(error: EdgewrightError | MemoryError, args: argparse.Namespace) -> dict[str, str]:
    if isinstance(error, EdgewrightError):
        return {"code": error.code, "message": str(error), "hint": error.hint}
    return {
        "code": StorageError("").code,
        "message": f"unpacking {args.archive.name} needs more than {args.memory_mb} MiB",
        "hint": "Allow more with --memory-mb.",
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgewright.bundle.install", description=__doc__)
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="the .ewb to install")
    parser.add_argument("--digest", required=True, help="what the archive must be")
    parser.add_argument("--slots", required=True, type=Path, help="where slots live")
    parser.add_argument("--staging", required=True, type=Path, help="where slots are made")
    parser.add_argument("--memory-mb", type=int, default=512, help="address space allowed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
