"""A framework in a process of its own: it converts, then answers, then ends.

The process is told by lines of JSON what to do and says by lines of JSON what came of it,
on the pipe that was its standard output; whatever else it prints goes to a log. Its
arrays travel as npz files. It gets no keyboard interrupt of its own: who waits for it
ends it, with all it started.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Any, cast

import numpy as np

from edgewright.core import errors
from edgewright.core.errors import EdgewrightError, ModelError
from edgewright.toolchain.ir.answers import Array, Feeds

_KNOWN: dict[str, type[EdgewrightError]] = {
    kind("").code: kind
    for kind in (errors.ModelError, errors.ParityError, errors.UsageError, errors.DataError)
}


class Framework:
    """The process, once it runs."""

    def __init__(self, popen: "subprocess.Popen[str]", folder: Path, timeout_s: float) -> None:
        self._popen = popen
        self._folder = folder
        self._timeout_s = timeout_s
        self._timed_out = False

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request and return what came of it.

        Raises:
            ModelError: It ended, said something else, or took too long.
            EdgewrightError: What it says went wrong.
        """
        timer = Timer(self._timeout_s, self._expire)
        timer.daemon = True
        timer.start()
        try:
            line = self._exchange(json.dumps(request))
        finally:
            timer.cancel()
        if not line:
            raise self._ended()
        told: dict[str, Any] = json.loads(line)
        if wrong := told.get("error"):
            kind = _KNOWN.get(wrong["code"], ModelError)
            raise kind(wrong["message"], hint=wrong["hint"])
        return told

    def answer(self, tried: Sequence[Feeds]) -> list[list[Array]]:
        """Return what the source itself answers to each set, outputs in order."""
        names = sorted(tried[0])
        feeds = {
            f"{s}.{i}": feeds[name]
            for s, feeds in enumerate(tried)
            for i, name in enumerate(names)
        }
        path = self._folder / "feeds.npz"
        np.savez(path, **cast("dict[str, Any]", feeds))
        told = self.ask(
            {"do": "answer", "feeds": str(path), "names": names, "sets": len(tried)}
        )
        with np.load(told["answers"], allow_pickle=False) as held:
            return [
                [np.asarray(held[f"{s}.{i}"]) for i in range(count)]
                for s, count in enumerate(told["counts"])
            ]

    def end(self) -> None:
        """End it and all it started; twice is fine."""
        for pipe in (self._popen.stdin, self._popen.stdout):
            with suppress(OSError):
                if pipe:
                    pipe.close()
        self._kill()
        self._popen.wait()

    def _exchange(self, line: str) -> str:
        stdin, stdout = self._popen.stdin, self._popen.stdout
        if stdin is None or stdout is None:
            raise ValueError("the process was started without pipes")
        try:
            stdin.write(line + "\n")
            stdin.flush()
        except BrokenPipeError:
            return ""
        return stdout.readline()

    def _expire(self) -> None:
        self._timed_out = True
        self._kill()

    def _kill(self) -> None:
        # A group of its own: what the framework started ends too.
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)

    def _ended(self) -> ModelError:
        if self._timed_out:
            return ModelError(
                f"the framework's process was ended after {self._timeout_s:g} s",
                hint="Give it more time with --timeout, or a smaller example.",
            )
        code = self._popen.wait()
        lines = (self._folder / "log.txt").read_text(errors="replace").strip().splitlines()
        said = lines[-1].strip() if lines else "nothing was said"
        how = f"signal {-code}" if code < 0 else f"exit {code}"
        hint = "Load and run the model with the framework alone; it says more there."
        if code == -signal.SIGKILL:
            hint = "It may have run out of memory: end other programs."
        return ModelError(f"the framework's process ended ({how}): {said}", hint=hint)


@contextmanager
def framework(
    command: Sequence[str], folder: Path, *, timeout_s: float, environment: Mapping[str, str]
) -> Iterator[Framework]:
    """Yield the process that ``command`` starts; it has ended when the context ends.

    Args:
        command: What to start.
        folder: Scratch, for its log and the arrays.
        timeout_s: The longest that one answer may take.
        environment: Variables beside those of this process.

    Raises:
        ModelError: It cannot be started.
    """
    with (folder / "log.txt").open("wb") as log:
        try:
            popen = subprocess.Popen(  # noqa: S603  the command is made here
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                text=True, start_new_session=True, env={**os.environ, **environment},
            )  # fmt: skip
        except OSError as error:
            raise ModelError(
                f"cannot start {Path(command[0]).name}: {error.strerror}",
                hint="Name an interpreter that can be run.",
            ) from error
    running = Framework(popen, folder, timeout_s)
    try:
        yield running
    finally:
        running.end()
