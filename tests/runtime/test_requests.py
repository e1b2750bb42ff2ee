"""HTTP requests out of bytes: the same ones however they are cut, and refusals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.requests import Limits, Reader, Refusal, Request

LIMITS = Limits(head_bytes=1024, fields=8, body_bytes=1000)
GET = b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"


def read(*pieces, limits=LIMITS):
    """Return everything a reader makes of bytes that arrive in these pieces."""
    reader = Reader(limits)
    found = []
    for piece in pieces:
        reader.feed(piece)
        while (one := reader.next()) is not None:
            found.append(one)
            if isinstance(one, Refusal):
                return found
    return found


def head(*lines, method="GET", body=b""):
    """Return a request with these header lines."""
    first = f"{method} /v2 HTTP/1.1".encode()
    return b"\r\n".join((first, b"Host: x", *lines, b"", b"")) + body


TOKENS = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=10)
VALUES = st.text("abc XYZ09,;=", max_size=20).map(str.strip)
HEADERS = st.dictionaries(TOKENS.map(lambda t: f"x-{t}"), VALUES, max_size=4)
REQUESTS = st.builds(
    Request,
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    path=st.text("abc/._~-", max_size=20).map(lambda p: f"/{p}"),
    headers=HEADERS,
    body=st.binary(max_size=100),
)


def written(request):
    """Return a request as bytes."""
    lines = [f"{request.method} {request.path} HTTP/1.1", "Host: x"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    lines += [f"Content-Length: {len(request.body)}", "", ""]
    return "\r\n".join(lines).encode() + request.body


@given(st.lists(REQUESTS, min_size=1, max_size=3), st.lists(st.integers(1, 40), min_size=1))
def test_requests_are_the_same_however_they_are_cut(requests, sizes):
    """Pipelined requests come out whole and in order, at any cut of the stream."""
    stream = b"".join(map(written, requests))
    pieces, start = [], 0
    while start < len(stream):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(stream[start : start + size])
        start += size

    found = read(*pieces)

    assert found == read(stream)
    assert [(r.method, r.path, r.body) for r in found] == [
        (r.method, r.path, r.body) for r in requests
    ]
    for got, sent in zip(found, requests, strict=True):
        assert sent.headers.items() <= got.headers.items()


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_no_bytes_bring_out_a_foreign_error(pieces):
    """Whatever arrives is a request, a refusal, or not yet enough."""
    for found in read(*pieces) + read(GET[:-2], *pieces):
        assert isinstance(found, Request | Refusal)


def test_a_known_request():
    """Names in lower case, values stripped, the query cut off."""
    (request,) = read(
        b"POST /v2/models/m/infer?x=1 HTTP/1.1\r\nHost:  h:80 \r\nX-A: 1\r\nx-a: 2\r\n"
        b"Content-Length: 2\r\nConnection: Keep-Alive, Close\r\n\r\n{}"
    )

    assert request == Request(
        method="POST",
        path="/v2/models/m/infer",
        headers={
            "host": "h:80",
            "x-a": "1, 2",
            "content-length": "2",
            "connection": "Keep-Alive, Close",
        },
        body=b"{}",
        close=True,
    )


def test_empty_lines_before_a_request_are_skipped():
    """Some clients end a body with a line too many."""
    assert read(b"\r\n\r\n" + GET + b"\r\n", GET) == read(GET, GET)


def test_http_1_0_ends_its_connection():
    """It needs no Host, and is answered once."""
    (request,) = read(b"GET / HTTP/1.0\r\n\r\n")

    assert request.close


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"G\xc3\xa9T / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (head(b"Host: y"), 400),
        (head(b"X : 1"), 400),
        (head(b"X"), 400),
        (head(b": 1"), 400),
        (head(b"X: 1", b" folded"), 400),
        (head(b"X: 1\nY: 2"), 400),
        (head(b"X: a\x00b"), 400),
        (head(b"Content-Length: 5", b"Content-Length: 5", method="POST", body=b"hello"), 400),
        (head(b"Content-Length: 5, 5", method="POST", body=b"hello"), 400),
        (head(b"Content-Length: +5", method="POST", body=b"hello"), 400),
        (head(b"Content-Length: -1", method="POST"), 400),
        (head(b"Content-Length: \xd9\xa5", method="POST"), 400),
        (head(b"Content-Length:", method="POST"), 400),
        (head(b"Content-Length: 1001", method="POST"), 413),
        (head(b"Content-Length: " + b"9" * 30, method="POST"), 413),
        (head(method="POST"), 411),
        (head(b"Transfer-Encoding: chunked", method="POST", body=b"0\r\n\r\n"), 501),
        (head(b"Transfer-Encoding: chunked", b"Content-Length: 5", method="POST"), 400),
        (head(b"Expect: gold"), 417),
        (head(*(b"X-%d: 1" % i for i in range(9))), 431),
        (head(b"X: " + b"a" * 1024), 431),
        (b"GET /" + b"a" * 2000, 431),
        (b"\x16\x03\x01\x02\x00" + b"\r\n\r\n", 400),
    ],
)
def test_what_is_not_plainly_a_request_is_refused(data, status):
    """Each is one refusal with its code, and nothing after it is read."""
    found = read(data + GET)

    assert [one.status for one in found] == [status]
    assert isinstance(found[0], Refusal)
    assert found[0].reason


def test_a_refusal_is_the_last_word():
    """Good bytes after bad ones change nothing."""
    reader = Reader(LIMITS)
    reader.feed(b"nonsense\r\n\r\n")
    first = reader.next()

    reader.feed(GET)

    assert reader.next() is first


def test_a_body_is_waited_for():
    """One byte short is no request yet, and the reader is not idle."""
    reader = Reader(LIMITS)
    assert reader.idle

    reader.feed(POST[:-1])

    assert reader.next() is None
    assert not reader.idle
    reader.feed(POST[-1:])
    assert reader.next().body == b"hello"
    assert reader.idle


def test_who_waits_for_a_continue_is_told_once():
    """Only while the body has not begun to arrive."""
    expecting = head(b"Content-Length: 5", b"Expect: 100-Continue", method="POST")
    reader = Reader(LIMITS)
    reader.feed(expecting)
    assert reader.next() is None

    assert reader.take_expectation()
    assert not reader.take_expectation()
    reader.feed(b"hello")
    assert reader.next().body == b"hello"

    reader.feed(expecting + b"h")
    assert reader.next() is None
    assert not reader.take_expectation()


def test_a_field_of_blanks_is_read_in_no_time():
    """Stripping does not take longer than the field is long."""
    blanks = b" " * 900

    (request,) = read(head(b"X:" + blanks + b"y" + blanks[:50]))

    assert request.headers["x"] == "y"
