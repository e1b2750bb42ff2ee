"""Client: what a network can do to it, and what it makes of the answers."""

import contextlib
import json
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim.control_plane import ControlPlane, running

from edgewright.core import digest
from edgewright.core.errors import (
    AccessError,
    ConfigError,
    ConflictError,
    EdgewrightError,
    FleetError,
    NotFoundError,
    StorageError,
    TransportError,
    TrustError,
)
from edgewright.wire.http import Client

DATA = bytes(range(256)) * 40
ETAG = digest.of_bytes(DATA)[7:]
PATH = f"/v1/blobs/{ETAG}"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A control plane that holds one blob, for all of these tests."""
    made = ControlPlane(tmp_path_factory.mktemp("plane"))
    made.blobs[ETAG] = DATA
    with running(made):
        yield made


@pytest.fixture
def plane(served):
    """That plane, which behaves until it is told otherwise, whatever ran before."""
    served.behave()
    return served


@pytest.fixture
def client(plane):
    """A client of that plane."""
    made = Client(plane.url, timeout_s=2.0)
    yield made
    made.close()


class OneShot:
    """A server that reads one request and answers the bytes it was given, then hangs up."""

    def __init__(self, answer, *, drip_s=0.0):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._answer, self._drip_s = answer, drip_s
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._socket.close()
        self._thread.join()

    def _serve(self):
        connection, _ = self._socket.accept()
        with connection:
            connection.recv(65536)
            step = 1 if self._drip_s else len(self._answer) or 1
            try:
                for start in range(0, len(self._answer), step):
                    connection.sendall(self._answer[start : start + step])
                    time.sleep(self._drip_s)
            except OSError:
                return


def _get(answer, **options):
    with OneShot(answer, **options) as server:
        client = Client(server.url, timeout_s=0.5)
        try:
            return client.request("GET", "/x", limit_bytes=1000)
        finally:
            client.close()


def test_an_answer_is_whole():
    """Status, headers in lower case and the body come back, whatever the status."""
    answer = _get(b"HTTP/1.1 418 No\r\nContent-Length: 3\r\nX-Kind: a\r\n\r\npot")

    assert (answer.status, answer.headers["x-kind"], answer.body) == (418, "a", b"pot")


def test_a_chunked_answer_is_whole():
    """A body of declared chunks is put together."""
    answer = _get(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )

    assert answer.body == b"abc"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed"),
        (b"HELLO\r\n\r\n", "HELLO"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour", "cut its answer at byte 4 of 9"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n", "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\nendless", "how long"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
            "IncompleteRead",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000,
            "more than 1000 bytes",
        ),
    ],
    ids=["silence", "not http", "cut", "too long", "no length", "cut chunk", "long chunks"],
)
def test_a_bad_answer_is_a_transport_error(answer, words):
    """Whatever arrives instead of an answer becomes one kind of error, and may be retried."""
    with pytest.raises(TransportError, match=words) as caught:
        _get(answer)

    assert caught.value.retry


@given(answer=st.binary(max_size=200))
def test_no_foreign_error_escapes(answer):
    """Any bytes at all give an answer or an error of our tree."""
    with contextlib.suppress(EdgewrightError):
        _get(b"HTTP/1.1 " + answer)


@pytest.mark.slow
def test_a_peer_that_drips_is_given_up():
    """An answer that never pauses and never ends is refused after six times the patience."""
    begun = time.monotonic()

    with pytest.raises(TransportError, match="too slowly"):
        _get(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b"x" * 900, drip_s=0.01)

    assert time.monotonic() - begun < 6


def test_a_silent_peer_is_given_up():
    """A server that accepts and says nothing is an error after the time-out."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = Client(f"http://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.2)

        with pytest.raises(TransportError, match="timed out"):
            client.request("GET", "/")

        client.close()


def test_nobody_there_is_a_transport_error():
    """A refused connection says where it went."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    client = Client(f"http://127.0.0.1:{port}")

    with pytest.raises(TransportError, match=f"127.0.0.1:{port}"):
        client.request("GET", "/")


@pytest.mark.parametrize("url", ["ftp://x", "localhost:8600", "http://", "http://x:port", ""])
def test_what_is_not_an_address_is_refused(url):
    """A wrong address is a mistake in the settings, seen before anything is sent."""
    with pytest.raises(ConfigError, match="not the address"):
        Client(url)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "not_found_error", NotFoundError),
        (409, "conflict_error", ConflictError),
        (403, "access_error", AccessError),
        (400, "trust_error", TrustError),
        (404, "something_new", NotFoundError),
        (401, "", AccessError),
        (418, "something_new", FleetError),
        (500, "trust_error", TransportError),
        (302, "", TransportError),
    ],
)
def test_a_refusal_becomes_the_error_its_code_names(status, code, kind):
    """The server's code decides the class, its status where the code says nothing."""
    error = {"code": code, "message": "because", "hint": "do", "request_id": "r"}
    body = json.dumps({"error": error}).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    with OneShot(head + body) as server:
        client = Client(server.url)
        with pytest.raises(kind, match="because") as caught:
            client.call("GET", "/x")
        client.close()

    assert type(caught.value) is kind
    assert caught.value.hint == "do"


def test_a_login_page_is_not_an_answer(plane, client):
    """A success that is not JSON is refused rather than believed."""
    plane.misbehave("/v1/health", "page")

    with pytest.raises(TransportError, match="not JSON"):
        client.call("GET", "/v1/health")


def test_call_sends_and_returns_json(plane, client):
    """A document goes out as JSON with its type, and JSON comes back."""
    answer = client.call("GET", "/v1/health", {"a": [1]}, headers={"Idempotency-Key": "k"})

    sent = plane.asked("/v1/health")[-1]
    assert answer["status"] == "ok"
    assert (json.loads(sent.body), sent.headers["idempotency-key"]) == ({"a": [1]}, "k")
    assert sent.headers["content-type"] == "application/json"


def test_a_token_is_sent(plane):
    """A client with a token authorises itself with every request."""
    client = Client(plane.url, token="t")  # noqa: S106  of no one

    client.call("GET", "/v1/health")

    client.close()
    assert plane.asked("/v1/health")[-1].headers["authorization"] == "Bearer t"


def test_a_connection_is_kept_and_replaced(plane):
    """Requests share a connection; one the server has closed meanwhile is opened anew."""
    client = Client(plane.url)
    client.call("GET", "/v1/health")
    first = client._connection.sock
    client.call("GET", "/v1/health")
    kept = client._connection.sock is first

    plane.stop()
    plane.start()
    again = client.call("GET", "/v1/health")

    client.close()
    assert kept
    assert again["status"] == "ok"


def test_an_upload_arrives(plane, client, tmp_path):
    """A file is sent as it is, with its length."""
    file = tmp_path / "file"
    file.write_bytes(DATA * 3)

    client.upload("/v1/blobs/new", file)

    assert plane.blobs["new"] == DATA * 3


def test_a_refused_upload_is_the_servers_error(plane, client, tmp_path):
    """The server's refusal comes through, not the broken connection."""
    file = tmp_path / "file"
    file.write_bytes(DATA)
    plane.misbehave("/v1/blobs/", "status", 409)

    with pytest.raises(ConflictError, match="as told"):
        client.upload("/v1/blobs/new", file)


def test_a_missing_file_is_not_uploaded(client, tmp_path):
    """A file that cannot be opened is our kind of error too."""
    with pytest.raises(StorageError, match="absent"):
        client.upload("/v1/blobs/x", tmp_path / "absent")


def _download(client, target):
    return client.download(PATH, target, length=len(DATA), etag=ETAG)


@pytest.mark.parametrize("tenth", range(10))
def test_a_cut_download_goes_on_where_it_stopped(plane, client, tmp_path, tenth):
    """Cut at any tenth, the second attempt asks for the rest only."""
    cut = len(DATA) * tenth // 10
    plane.misbehave("/v1/blobs/", "cut", cut, times=1)
    target = tmp_path / "staging" / "file"

    with pytest.raises(TransportError):
        _download(client, target)
    kept = target.stat().st_size
    rest = _download(client, target)

    assert (kept, rest) == (cut, len(DATA) - cut)
    assert target.read_bytes() == DATA


def test_a_complete_file_costs_nothing(plane, client, tmp_path):
    """What is there already is not asked for."""
    target = tmp_path / "file"
    target.write_bytes(DATA)
    before = len(plane.requests)

    assert _download(client, target) == 0
    assert len(plane.requests) == before


@pytest.mark.parametrize("have", [0, 100])
def test_a_server_without_ranges_is_tolerated(plane, client, tmp_path, have):
    """An answer of 200 to a range starts the file again."""
    target = tmp_path / "file"
    target.write_bytes(b"\xff" * have)
    plane.misbehave("/v1/blobs/", "no_range")

    came = _download(client, target)

    assert (came, target.read_bytes()) == (len(DATA), DATA)


def test_a_file_that_is_too_long_starts_again(client, tmp_path):
    """More bytes than the file has cannot be the beginning of it."""
    target = tmp_path / "file"
    target.write_bytes(DATA + b"more")

    _download(client, target)

    assert target.read_bytes() == DATA


def test_another_file_is_refused(plane, client, tmp_path):
    """Bytes under another ETag are never appended to ours."""
    target = tmp_path / "file"
    target.write_bytes(DATA[:100])
    plane.misbehave("/v1/blobs/", "etag")

    with pytest.raises(TransportError, match="another file"):
        _download(client, target)

    assert target.read_bytes() == DATA[:100]


@pytest.mark.parametrize(
    ("misbehaviour", "words"),
    [(("slow", 0), f"bytes 0-10239/{2 * len(DATA)}"), (("no_range",), f"not {len(DATA)}")],
    ids=["ranged", "whole"],
)
def test_a_longer_file_than_declared_is_refused(plane, client, tmp_path, misbehaviour, words):
    """Never a byte beyond the declared length is written, whatever the server has."""
    plane.blobs["long"] = DATA * 2
    plane.misbehave("/v1/blobs/", *misbehaviour)
    target = tmp_path / "file"

    with pytest.raises(TransportError, match=words):
        client.download("/v1/blobs/long", target, length=len(DATA), etag="long")

    assert target.stat().st_size <= len(DATA)


def test_an_endless_download_stops_at_its_length(tmp_path):
    """A body without a declared end is cut off where the file must end."""
    answer = b"HTTP/1.1 200 OK\r\n\r\n" + DATA * 3
    target = tmp_path / "file"

    with OneShot(answer) as server:
        client = Client(server.url)
        client.download("/x", target, length=len(DATA), etag=ETAG)
        client.close()

    assert target.read_bytes() == DATA


def test_a_missing_blob_is_not_found(client, tmp_path):
    """The server's word comes through for downloads too."""
    with pytest.raises(NotFoundError):
        client.download("/v1/blobs/none", tmp_path / "file", length=5, etag="none")


def test_a_full_disk_is_a_storage_error(client):
    """What the disk refuses is not blamed on the network."""
    with pytest.raises(StorageError):
        client.receive(
            PATH,
            _full_disk,
            start=0,
            stop=len(DATA),
            length=len(DATA),
            etag=ETAG,
        )

    assert client.call("GET", "/v1/health")["status"] == "ok"


def _full_disk(_offset, _block):
    raise StorageError("no space left")
