"""A disk that fails, or a machine that stops, at the n-th call that changes what is stored.

Counted are the calls of ``os`` that change files below one folder: open (for writing),
write, fsync, ftruncate, fchmod, chmod, mkdir, rename, replace, unlink, rmdir; pathlib and
shutil go through them. SQLite does not: its own writes are not counted.

``failing`` makes the n-th call raise, in this process. ``stopped`` runs a program in a
process of its own that is killed at the n-th call. In both a write stores half of its
bytes first, which is what a full disk and a power cut do.
"""

import argparse
import errno
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

REPOSITORY = Path(__file__).resolve().parents[2]
CALLS = (
    "open", "write", "fsync", "ftruncate", "fchmod", "chmod", "mkdir", "rename", "replace",
    "unlink", "rmdir",
)  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class Calls:
    """What was asked of the disk below ``folder``, in order."""

    folder: Path
    names: list[str] = field(default_factory=list)


@contextmanager
def watching(folder: Path, before: Callable[[Calls, str, tuple], None]) -> Iterator[Calls]:
    """Let ``before(calls, name, arguments)`` see every counted call before it is made."""
    calls = Calls(folder.resolve())
    with ExitStack() as stack:
        for name in CALLS:
            real = getattr(os, name)
            stack.enter_context(patch.object(os, name, _wrapped(name, real, calls, before)))
        yield calls


@contextmanager
def failing(
    folder: Path, at: int, *, error: int = errno.ENOSPC, from_then_on: bool = False
) -> Iterator[Calls]:
    """Make the call number ``at`` (from 1) fail with ``error``, or every one from it on."""
    real_write = os.write

    def before(calls: Calls, name: str, arguments: tuple) -> None:
        count = len(calls.names)
        if count == at or (from_then_on and count > at):
            if name == "write" and count == at:
                real_write(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            raise OSError(error, os.strerror(error))

    with watching(folder, before) as calls:
        yield calls


@dataclass(frozen=True)
class Stopped:
    """How a program ended: killed at the call asked for, or by itself before it."""

    killed: bool
    returncode: int
    calls: tuple[str, ...]
    output: str


def stopped(program: list[str], folder: Path, at: int, *, trace: Path) -> Stopped:
    """Run ``program`` (``["-c", code]`` or ``["-m", module, ...]``), killed at call ``at``.

    ``trace`` is a file outside ``folder`` that receives the name of each call.
    """
    trace.write_text("")
    own = ["--folder", str(folder), "--at", str(at), "--trace", str(trace)]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.sim.disk", *own, "--", *program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Stopped(
        killed=ran.returncode == -signal.SIGKILL,
        returncode=ran.returncode,
        calls=tuple(trace.read_text().split()),
        output=ran.stdout + ran.stderr,
    )


def _wrapped(name: str, real: Callable, calls: Calls, before: Callable) -> Callable:
    def call(*args, **kwargs):
        if _counts(name, calls.folder, args, kwargs):
            calls.names.append(name)
            before(calls, name, args)
        return real(*args, **kwargs)

    return call


def _counts(name: str, folder: Path, args: tuple, kwargs: dict) -> bool:
    flags = kwargs.get("flags", args[1] if len(args) > 1 else 0)
    if name == "open" and not flags & _WRITING:
        return False
    first = args[0]
    if isinstance(first, int):
        path = _of_descriptor(first)
    else:
        below = kwargs.get("dir_fd", kwargs.get("src_dir_fd"))
        path = Path(os.fsdecode(first))
        path = _of_descriptor(below) / path if below is not None else path.absolute()
    return path == folder or folder in path.parents


def _of_descriptor(number: int) -> Path:
    return Path(f"/proc/self/fd/{number}").readlink()


def _run_stopping() -> None:
    """Run the program named after ``--`` and kill this process at the call asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.disk")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--at", type=int, required=True)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("program", nargs="+")
    asked = parser.parse_args()
    real_write = os.write
    trace = os.open(asked.trace, os.O_WRONLY | os.O_APPEND)

    def before(calls: Calls, name: str, arguments: tuple) -> None:
        real_write(trace, f"{name}\n".encode())
        if len(calls.names) == asked.at:
            if name == "write":
                real_write(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    how, what, *rest = asked.program
    with watching(asked.folder, before):
        sys.argv = [what, *rest]
        if how == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<program>", "exec"), {"__name__": "__main__"})  # noqa: S102  a test's own program


if __name__ == "__main__":
    _run_stopping()
