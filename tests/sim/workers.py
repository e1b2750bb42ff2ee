"""Real worker processes, started and asked as the supervisor does it."""

import http.client
import json
import select
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from edgewright.wire.local import WorkerMessage
from edgewright.wire.version import decode


class Worker:
    """One worker on a socket that is not its own."""

    def __init__(self, slot: Path, digest: str, listener: socket.socket, *more: str) -> None:
        places = ["--digest", digest, "--listen-fd", str(listener.fileno())]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "edgewright.runtime.worker",
                "serve",
                str(slot),
                *places,
                *more,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[listener.fileno(), *descriptors(more)],
        )
        self._buffer = b""

    def line(self, within_s: float = 20.0) -> WorkerMessage:
        """Return the next line it prints."""
        end = time.monotonic() + within_s
        out = self.process.stdout
        while b"\n" not in self._buffer:
            left = end - time.monotonic()
            if left <= 0 or not select.select([out], [], [], left)[0]:
                raise AssertionError(f"no line within {within_s} s")
            data = out.read1(65536)
            if not data:
                raise AssertionError(f"it ended: {self.process.stderr.read().decode()}")
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\n")
        return decode(WorkerMessage, text)

    def ask(self, op: str) -> None:
        """Write one question."""
        self.process.stdin.write(json.dumps({"op": op}).encode() + b"\n")
        self.process.stdin.flush()

    def end(self, within_s: float = 20.0) -> int:
        """Close its input; return its exit code."""
        if not self.process.stdin.closed:
            self.process.stdin.close()
        return self.process.wait(within_s)

    def smaps(self) -> dict[str, int]:
        """Return its memory in bytes: Rss, Pss."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        fields = (line.split() for line in text.splitlines()[1:])
        return {f[0].rstrip(":"): int(f[1]) * 1024 for f in fields}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


def descriptors(arguments: tuple[str, ...]) -> list[int]:
    """Return the descriptors that follow ``--unix-fd``."""
    return [int(value) for name, value in pairwise(arguments) if name == "--unix-fd"]


def listening() -> socket.socket:
    """Return a listening socket as the supervisor makes it."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    listener.set_inheritable(True)
    return listener


def infer_body(images: Any, **parameters: Any) -> str:
    """Return an inference request for these images."""
    tensor = {
        "name": "image",
        "shape": list(images.shape),
        "datatype": "UINT8",
        "data": images.ravel().tolist(),
    }
    return json.dumps({"inputs": [tensor], "parameters": parameters})


def infer(client: http.client.HTTPConnection, content: str) -> tuple[int, dict[str, Any]]:
    """Ask ``digits`` over an open client; return the status and the document."""
    client.request("POST", "/v2/models/digits/infer", content)
    response = client.getresponse()
    return response.status, json.loads(response.read())
