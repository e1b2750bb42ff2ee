"""One connection of the worker: reads requests, writes answers, in a thread of its own."""

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import gmtime, monotonic, strftime
from typing import Protocol

from edgewright.runtime.requests import Limits, Reader, Refusal, Request
from edgewright.runtime.service import Response, refuse

# Words of RFC 9110, section 15, for the codes that occur.
_REASONS = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 411: "Length Required", 413: "Content Too Large",
    417: "Expectation Failed", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 501: "Not Implemented", 503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}  # fmt: skip
_BLOCK_BYTES = 64 << 10
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Answers(Protocol):
    """What answers requests; any number of threads ask at once."""

    def answer(self, request: Request) -> Response:
        """Return the response, whatever the request is."""

    def failed(self, error: Exception) -> Response:
        """Return the response when ``answer`` raised what it should not."""

    def drain(self) -> None:
        """Say from now on that this worker is no longer ready."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long a connection may take, in seconds.

    Attributes:
        idle_s: Between two requests.
        request_s: From the first byte of a request to its last.
        send_s: For the peer to take an answer.
        linger_s: For the peer to read the last answer before the end.
        silent_s: Of silence, once stopping, before a connection is closed.
        drain_s: For all connections to end, once stopping.
    """

    idle_s: float = 75.0
    request_s: float = 10.0
    send_s: float = 10.0
    linger_s: float = 1.0
    silent_s: float = 0.5
    drain_s: float = 8.0


class Connection:
    """One peer.

    Attributes:
        idle_since: Since when no request is under way; None while one is.
    """

    def __init__(
        self,
        peer: socket.socket,
        service: Answers,
        *,
        limits: Limits,
        times: Times,
        stopping: Callable[[], bool],
    ) -> None:
        self.idle_since: float | None = monotonic()
        self._peer = peer
        self._service = service
        self._reader = Reader(limits)
        self._times = times
        self._stopping = stopping

    def converse(self) -> None:
        """Answer requests until either side has had enough; close the connection."""
        with self._peer, suppress(OSError):  # the peer may leave at any moment
            while (asked := self._next()) is not None:
                if not self._respond(asked):
                    self._linger()
                    return

    def hang_up(self) -> None:
        """End an idle connection from another thread; what has arrived is still read."""
        with suppress(OSError):  # it has ended by itself
            self._peer.shutdown(socket.SHUT_RD)

    def _next(self) -> Request | Refusal | None:
        """Return what the peer asks, or None when it is gone or silent for too long."""
        begun = monotonic()
        while (asked := self._reader.next()) is None:
            if self._reader.take_expectation():
                self._send(_CONTINUE)
            idle = self._reader.idle
            if idle:
                self.idle_since = begun = monotonic()
                left = self._times.idle_s
            else:
                self.idle_since = None
                left = begun + self._times.request_s - monotonic()
            try:
                self._peer.settimeout(max(left, 0.001))
                data = self._peer.recv(_BLOCK_BYTES)
            except TimeoutError:
                late = f"the request did not arrive within {self._times.request_s:g} s"
                return None if idle else Refusal(408, late)
            if not data:
                return None
            if idle:
                begun = monotonic()
            self._reader.feed(data)
        self.idle_since = None
        return asked

    def _respond(self, asked: Request | Refusal) -> bool:
        """Answer; return whether the connection goes on."""
        if isinstance(asked, Refusal):
            self._write(refuse(asked.status, asked.reason), close=True)
            return False
        try:
            response = self._service.answer(asked)
        except Exception as error:  # noqa: BLE001  one request must not end the worker
            response = self._service.failed(error)
        close = asked.close or self._stopping()
        self._write(response, close=close, body=asked.method != "HEAD")
        return not close

    def _write(self, response: Response, *, close: bool, body: bool = True) -> None:
        lines = [
            f"HTTP/1.1 {response.status} {_REASONS[response.status]}",
            strftime("Date: %a, %d %b %Y %H:%M:%S GMT", gmtime()),
            *(f"{name}: {value}" for name, value in response.headers.items()),
            f"Content-Length: {len(response.body)}",
            f"Connection: {'close' if close else 'keep-alive'}",
        ]
        head = "\r\n".join((*lines, "", "")).encode()
        self._send(head + response.body if body else head)

    def _send(self, data: bytes) -> None:
        self._peer.settimeout(self._times.send_s)
        self._peer.sendall(data)

    def _linger(self) -> None:
        """Let the peer read to the end: closing over unread bytes would reset it."""
        self._peer.shutdown(socket.SHUT_WR)
        end = monotonic() + self._times.linger_s
        while (left := end - monotonic()) > 0:
            self._peer.settimeout(left)
            if not self._peer.recv(_BLOCK_BYTES):
                return
