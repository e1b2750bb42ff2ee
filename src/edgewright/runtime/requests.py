"""HTTP/1.1 requests out of bytes, however the network cut them.

No socket and no clock in here: bytes go in, requests or a refusal come out. What
is not plainly a request is refused, since two readings of one message are how
requests are smuggled: no folded or bare-LF lines, one Content-Length, no transfer
codings. After a refusal nothing more is read from that peer.

Source: RFC 9112, sections 2.2, 3, 5, 6 and 11.2.
"""

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) (/[\x21-\x7e]*) HTTP/(\d)\.(\d)")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of one request is held in memory."""

    head_bytes: int = 16 << 10
    fields: int = 64
    body_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """One whole request.

    Attributes:
        path: Of the target, without its query.
        headers: By lower-case name; several of one name are joined by commas.
        close: Whether the peer wants the connection closed afterwards.
    """

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    close: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the bytes are no request we answer; the connection ends with it."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Head:
    """A request whose body may still be on its way."""

    request: Request
    length: int
    body_bytes: int
    expects: bool


class Reader:
    """Collects the bytes of one connection."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._refusal: Refusal | None = None
        self._expects = False

    @property
    def idle(self) -> bool:
        """Whether no request has begun."""
        return not self._buffer and self._head is None

    def feed(self, data: bytes) -> None:
        """Add what the network gave."""
        self._buffer += data

    def next(self) -> Request | Refusal | None:
        """Return the next request, a refusal, or None while more bytes are needed."""
        if self._refusal is None and self._head is None:
            self._begin()
        if self._refusal is not None:
            return self._refusal
        head = self._head
        if head is None or len(self._buffer) < head.length + head.body_bytes:
            return None
        end = head.length + head.body_bytes
        body = bytes(memoryview(self._buffer)[head.length : end])
        del self._buffer[:end]
        self._head, self._expects = None, False
        whole = head.request
        return Request(whole.method, whole.path, whole.headers, body, whole.close)

    def take_expectation(self) -> bool:
        """Return, once per request, whether the peer waits for ``100 Continue``."""
        expects, self._expects = self._expects, False
        return expects

    def _begin(self) -> None:
        """Read the head if all of it is here; fill ``_head`` or ``_refusal``."""
        while self._buffer.startswith(b"\r\n"):  # RFC 9112, 2.2: before a request line
            del self._buffer[:2]
        limit = self._limits.head_bytes
        end = self._buffer.find(_END, 0, limit)
        if end < 0:
            if len(self._buffer) >= limit:
                self._refusal = Refusal(431, f"the head is longer than {limit} bytes")
            return
        try:
            head = _parse_head(bytes(self._buffer[:end]), self._limits)
        except _RefusedError as error:
            self._refusal = error.refusal
            return
        self._head = head
        self._expects = head.expects and len(self._buffer) == head.length


class _RefusedError(Exception):
    """Carries a refusal out of the parser; never leaves this module."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(status, reason)


def _parse_head(data: bytes, limits: Limits) -> _Head:
    """Return what the head of a request says; ``data`` ends before its empty line."""
    first, *lines = data.split(b"\r\n")
    match = _LINE.fullmatch(first)
    if match is None:
        raise _RefusedError(400, "not a request line like: GET /v2 HTTP/1.1")
    if match[3] != b"1":
        raise _RefusedError(505, "HTTP/1.1 is spoken here")
    headers = _fields(lines, limits)
    method, current = match[1].decode(), match[4] != b"0"
    if current and "host" not in headers:
        raise _RefusedError(400, "a request needs a Host")
    length = _body_length(method, headers, limits)
    expects = headers.get("expect", "").lower()
    if expects not in {"", "100-continue"}:
        raise _RefusedError(417, "only 100-continue may be expected")
    wishes = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    request = Request(
        method=method,
        path=match[2].decode().partition("?")[0],
        headers=headers,
        close="close" in wishes or not current,
    )
    return _Head(request, len(data) + len(_END), length, bool(expects) and current)


def _fields(lines: list[bytes], limits: Limits) -> dict[str, str]:
    if len(lines) > limits.fields:
        raise _RefusedError(431, f"{len(lines)} header fields, at most {limits.fields} may be")
    headers: dict[str, str] = {}
    for line in lines:
        raw, colon, rest = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(raw) or not _VALUE.fullmatch(rest):
            raise _RefusedError(400, "a header field is malformed")
        name, value = raw.decode().lower(), rest.strip(b" \t").decode("latin-1")
        if name in headers:
            if name in {"host", "content-length"}:
                raise _RefusedError(400, f"{name} stands there twice")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


def _body_length(method: str, headers: dict[str, str], limits: Limits) -> int:
    text = headers.get("content-length")
    if "transfer-encoding" in headers:
        if text is not None:
            raise _RefusedError(400, "Content-Length beside Transfer-Encoding")
        raise _RefusedError(501, "transfer codings are not taken: send a Content-Length")
    if text is None:
        if method in {"POST", "PUT", "PATCH"}:
            raise _RefusedError(411, "a body needs a Content-Length")
        return 0
    if not (text.isascii() and text.isdigit()):
        raise _RefusedError(400, "Content-Length is not a number")
    if len(text) > 18 or int(text) > limits.body_bytes:
        raise _RefusedError(413, f"the body is longer than {limits.body_bytes} bytes")
    return int(text)
