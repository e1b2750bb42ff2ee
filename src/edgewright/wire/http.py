"""HTTP as the courier, the commands and the tests speak it: strict, small, standard library.

Whatever a network can do becomes a ``TransportError``: no answer, a cut answer,
more bytes than were allowed, a page of someone's hotel instead of JSON. No
redirect is followed, nothing is retried here: who calls knows whether to.

Source: RFC 9110, section 14 (range requests) and 13.1.5 (If-Range).
"""

import http.client
import re
import select
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import SplitResult, urlsplit

import msgspec

from edgewright import __version__
from edgewright.core.errors import (
    AccessError,
    ConfigError,
    ConflictError,
    EdgewrightError,
    FleetError,
    NotFoundError,
    StorageError,
    TransportError,
)
from edgewright.wire.checkin import ErrorBody, ErrorReply

_BLOCK_BYTES = 64 * 1024
_REFUSAL_BYTES = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_BY_STATUS: dict[int, type[EdgewrightError]] = {
    401: AccessError,
    403: AccessError,
    404: NotFoundError,
    409: ConflictError,
}

# Receives where in the file a block belongs, and the block.
Sink = Callable[[int, bytes], None]


@dataclass(frozen=True, slots=True)
class Response:
    """One whole answer, whatever its status; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One kept-alive connection to one server, for one thread.

    Args:
        base_url: ``http://host:port`` or ``https://...``, with or without a path.
        token: Sent as a bearer token when not empty.
        timeout_s: Longest silence on the connection; an answer held in memory
            must be whole within six times as long.

    Raises:
        ConfigError: ``base_url`` is not such an address.
    """

    def __init__(self, base_url: str, *, token: str = "", timeout_s: float = 10.0) -> None:
        parts, port = _address(base_url)
        self._name = f"{parts.scheme}://{parts.netloc}"
        self._prefix = parts.path.rstrip("/")
        self._timeout_s = timeout_s
        self._headers = {"User-Agent": f"edgewright/{__version__}"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        kind = (
            http.client.HTTPSConnection
            if parts.scheme == "https"
            else http.client.HTTPConnection
        )
        self._connection = kind(parts.hostname or "", port, timeout=timeout_s)

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self._connection.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        limit_bytes: int = 16 << 20,
    ) -> Response:
        """Return the whole answer to one request, whatever its status.

        Raises:
            TransportError: No answer, a cut one, or one over ``limit_bytes``.
        """
        with self._exchange(method, path, body or None, headers) as answer:
            return self._whole(answer, limit_bytes)

    def call(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send ``document`` as JSON and return the JSON answered; None for an empty body.

        Raises:
            TransportError: As ``request``, a status of 500 or more, a redirect, or a
                success that is not JSON.
            EdgewrightError: The server refused; of the class its code names.
        """
        body = b"" if document is None else msgspec.json.encode(document)
        kinds = {"Accept": "application/json"}
        if body:
            kinds["Content-Type"] = "application/json"
        response = self.request(method, path, body=body, headers={**kinds, **(headers or {})})
        self.refuse_failure(response)
        if not response.body:
            return None
        try:
            return msgspec.json.decode(response.body)
        except msgspec.DecodeError as error:
            raise TransportError(
                f"{self._name} answered {len(response.body)} bytes that are not JSON",
                hint="Something between here and the server may be answering in its place.",
            ) from error

    def upload(self, path: str, file: Path) -> None:
        """PUT ``file`` without holding it in memory.

        Raises:
            StorageError: ``file`` cannot be opened.
            TransportError: The connection failed before the server had answered.
            EdgewrightError: The server refused; of the class its code names.
        """
        with _disk(file):
            source = file.open("rb")
        with source:
            length = {"Content-Length": str(source.seek(0, 2))}
            source.seek(0)
            with self._exchange("PUT", path, source, length) as answer:
                response = self._whole(answer, _REFUSAL_BYTES)
        self.refuse_failure(response)

    def download(self, path: str, target: Path, *, length: int, etag: str) -> int:
        """Bring ``target``, in a staging folder, to ``length`` bytes; resume what is there.

        Args:
            path: Of the file on the server.
            target: Holds the first part of the file already, or does not exist.
            length: Bytes of the whole file; never more are written.
            etag: The strong ETag under which those bytes are known, without quotes.

        Returns:
            Bytes that came over the wire.

        Raises:
            TransportError: It stopped early or sent another file; what arrived of
                the right file is kept for the next attempt.
            StorageError: The disk refused.
        """
        with open_partial(target) as file:
            have = file.seek(0, 2)
            if have > length:
                have = file.truncate(0)
            if have == length:
                return 0

            def write(offset: int, block: bytes) -> None:
                if offset != file.tell():
                    file.truncate(offset)
                put(file, offset, block)

            return self.receive(path, write, start=have, stop=length, length=length, etag=etag)

    def receive(
        self, path: str, sink: Sink, *, start: int, stop: int, length: int, etag: str
    ) -> int:
        """Pass bytes ``start`` to ``stop`` of a file to ``sink`` as they arrive, in order.

        A server that ignores the range sends the file from its first byte; then
        ``sink`` gets it from there. Bytes from ``stop`` on are never read.

        Returns:
            Bytes that came over the wire.

        Raises:
            TransportError: It stopped early, or this is not the file that was meant.
        """
        if not 0 <= start < stop <= length:
            raise ValueError(f"need 0 <= {start} < {stop} <= {length}")
        headers = {"Range": f"bytes={start}-{stop - 1}", "If-Range": f'"{etag}"'}
        came = 0
        with self._exchange("GET", path, None, headers) as answer:
            if answer.status >= 300:
                self.refuse_failure(self._whole(answer, _REFUSAL_BYTES))
            place = _first_byte(answer, _Span(path, start, stop, length, etag))
            while place < stop:
                block = self._read(answer, min(_BLOCK_BYTES, stop - place))
                if not block:
                    raise TransportError(f"{path} was cut at byte {place} of {length}")
                came += len(block)
                sink(place, block)
                place += len(block)
        return came

    def refuse_failure(self, response: Response) -> None:
        """Return when ``response`` is a success, else raise what the server meant.

        Raises:
            TransportError: A redirect, or a status of 500 or more.
            EdgewrightError: The server refused; of the class its code names.
        """
        if response.status < 300:
            return
        body = _error_body(response)
        message = body.message or f"{self._name} answered {response.status}"
        if response.status >= 500 or response.status < 400:
            raise TransportError(message, hint=body.hint)
        kind = _by_code().get(body.code) or _BY_STATUS.get(response.status, FleetError)
        raise kind(message, hint=body.hint)

    def _whole(self, answer: http.client.HTTPResponse, limit_bytes: int) -> Response:
        """Read the rest of an answer, at most ``limit_bytes``, within a bounded time."""
        declared, body = answer.length, bytearray()
        if declared is None and not answer.chunked:
            raise TransportError(f"{self._name} did not say how long its answer is")
        due = time.monotonic() + 6 * self._timeout_s
        if (declared or 0) <= limit_bytes:
            while block := self._read(answer, _BLOCK_BYTES):
                body += block
                if len(body) > limit_bytes:
                    break
                if time.monotonic() > due:
                    raise TransportError(f"{self._name} sent {len(body)} bytes, too slowly")
        if max(declared or 0, len(body)) > limit_bytes:
            raise TransportError(f"{self._name} answered more than {limit_bytes} bytes")
        if declared is not None and len(body) < declared:
            raise TransportError(
                f"{self._name} cut its answer at byte {len(body)} of {declared}"
            )
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Response(answer.status, headers, bytes(body))

    @contextmanager
    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None,
        headers: Mapping[str, str] | None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send one request, hand out its answer, and keep the connection if it can be kept."""
        answer, whole = None, False
        try:
            with self._network(f"{method} {path}"):
                answer = self._send(
                    method, self._prefix + path, body, {**self._headers, **(headers or {})}
                )
            yield answer
            whole = answer.isclosed() or answer.length == 0
        finally:
            if answer is not None:
                answer.close()
            # What was not read to its end would be taken for the next answer.
            if not whole:
                self._connection.close()

    def _send(
        self, method: str, path: str, body: bytes | BinaryIO | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        sock = self._connection.sock
        if sock is not None and select.select([sock], [], [], 0)[0]:
            self._connection.close()  # the server closed it while it was idle
        try:
            self._connection.request(method, path, body, headers)
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses an upload answers before it has read it all.
            if body is None or self._connection.sock is None:
                raise
        return self._connection.getresponse()

    def _read(self, answer: http.client.HTTPResponse, size: int) -> bytes:
        with self._network("reading the answer"):
            return answer.read1(size)

    @contextmanager
    def _network(self, what: str) -> Iterator[None]:
        """Turn whatever a connection raises into ``TransportError``."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            raise TransportError(
                f"{self._name}, {what}: {error or type(error).__name__}",
                hint="Is the server running, and is the address right?",
            ) from error


def open_partial(target: Path) -> FileIO:
    """Open a download in a staging folder for reading and writing, as it stands.

    Unbuffered, so that a full disk shows at the write and not at the close.

    Raises:
        StorageError: The disk refused.
    """
    with _disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()  # staging: hashed again before use
        return target.open("r+b", buffering=0)  # staging: hashed again before use


def put(file: FileIO, offset: int, block: bytes) -> None:
    """Write ``block`` at ``offset`` of a download.

    Raises:
        StorageError: The disk refused; a part of ``block`` may be there.
    """
    with _disk(Path(str(file.name))):
        file.seek(offset)
        rest = memoryview(block)
        while rest:
            rest = rest[file.write(rest) :]


def _address(base_url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(
            f"{base_url!r} is not the address of a server",
            hint="Write it like http://127.0.0.1:8600.",
        )
    return parts, port


@dataclass(frozen=True, slots=True)
class _Span:
    """Which bytes of which file were asked for."""

    path: str
    start: int
    stop: int
    length: int
    etag: str


def _first_byte(answer: http.client.HTTPResponse, asked: _Span) -> int:
    """Return where the body begins in the file.

    Raises:
        TransportError: It is not the file, or not the part, that was asked for.
    """
    tag = answer.headers.get("ETag", f'"{asked.etag}"')
    if tag != f'"{asked.etag}"':
        raise TransportError(f"{asked.path} is another file now: ETag {tag:.80}")
    if answer.status == 200:
        if answer.length not in {None, asked.length}:
            raise TransportError(f"{asked.path} has {answer.length} bytes, not {asked.length}")
        return 0
    said = answer.headers.get("Content-Range", "no range")
    found = _CONTENT_RANGE.fullmatch(said)
    wanted = (asked.start, asked.stop - 1, asked.length)
    if answer.status != 206 or found is None or tuple(map(int, found.groups())) != wanted:
        raise TransportError(
            f"{asked.path}: asked for bytes {asked.start}-{asked.stop - 1}/{asked.length}, "
            f"got status {answer.status} and {said:.80}"
        )
    return asked.start


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Turn what a file raises into ``StorageError``."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path.name}: {error.strerror or error}") from error


def _error_body(response: Response) -> ErrorBody:
    """Return the error a refusal carries; an empty one when it carries none of ours."""
    try:
        return msgspec.json.decode(response.body, type=ErrorReply).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ErrorBody(code="", message="")


def _by_code() -> dict[str, type[EdgewrightError]]:
    """Return every error of our tree by its name on the wire."""
    found: dict[str, type[EdgewrightError]] = {}
    waiting: list[type[EdgewrightError]] = [EdgewrightError]
    while waiting:
        kind = waiting.pop()
        found[kind("").code] = kind
        waiting.extend(kind.__subclasses__())
    return found
