"""Child processes that are spoken to in lines of JSON, without ever waiting for one.

The supervisor reads what has come and writes what fits; nothing a child does, not
even silence, can hold it up. A child that outlives the supervisor sees the end of
its standard input.
"""

import os
import signal
import subprocess
from collections.abc import Sequence

from edgewright.core import log
from edgewright.core.errors import UpdateError

_BLOCK_BYTES = 64 << 10
_MAX_LINE_BYTES = 4 << 20


class Child:
    """One child process.

    Args:
        argv: What to run.
        stdin: Sent as it is read; standard input stays open until ``close``.
        pass_fds: File descriptors it inherits under the same numbers.

    Raises:
        UpdateError: It cannot be started.
    """

    def __init__(
        self, argv: Sequence[str], *, stdin: bytes = b"", pass_fds: Sequence[int] = ()
    ) -> None:
        self._unsent = memoryview(stdin)
        self._partial = bytearray()
        try:
            self._popen = subprocess.Popen(  # noqa: S603  argv is made here, not received
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=pass_fds,
                bufsize=0,
            )
        except OSError as error:
            raise UpdateError(f"cannot start {argv[0]}: {error.strerror}") from error
        self._in, self._out = self._popen.stdin, self._popen.stdout
        for pipe in (self._in, self._out):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
        self._pump()

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._popen.pid

    @property
    def output(self) -> int | None:
        """Descriptor that becomes readable when there is something to do; None at its end."""
        return self._out.fileno() if self._out is not None else None

    @property
    def ended(self) -> int | None:
        """Exit status once it has ended and all it wrote was read; negative is a signal."""
        return None if self._out is not None else self._popen.poll()

    def say(self, line: bytes) -> None:
        """Send one line."""
        self._unsent = memoryview(bytes(self._unsent) + line + b"\n")
        self._pump()

    def lines(self) -> list[bytes]:
        """Return the whole lines that have come since the last call."""
        self._pump()
        while self._out is not None:
            try:
                block = os.read(self._out.fileno(), _BLOCK_BYTES)
            except BlockingIOError:
                break
            if not block:
                self._out.close()
                self._out = None
            self._partial += block
            if len(self._partial) > _MAX_LINE_BYTES:
                log.event("supervisor", "child says too much", pid=self.pid)
                self.kill()
                self._partial.clear()
        *whole, rest = self._partial.split(b"\n")
        self._partial = rest
        return [bytes(line) for line in whole]

    def terminate(self) -> None:
        """Ask it to end."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        if self._popen.poll() is None:
            self._popen.kill()

    def close(self) -> None:
        """Close its standard input, kill it if it still runs, and wait for its end."""
        self.kill()
        for pipe in (self._in, self._out):
            if pipe is not None:
                pipe.close()
        self._in = self._out = None
        self._popen.wait()

    def _pump(self) -> None:
        """Write what fits into the pipe."""
        while self._unsent and self._in is not None:
            try:
                self._unsent = self._unsent[os.write(self._in.fileno(), self._unsent) :]
            except BlockingIOError:
                return
            except BrokenPipeError:
                # It has ended, or is about to; ``ended`` tells.
                self._unsent = memoryview(b"")


def fate(status: int) -> str:
    """Return in words how a process ended: ``exit 1`` or ``signal 9``."""
    return f"signal {-status}" if status < 0 else f"exit {status}"
