"""The server: one socket, many peers, and none of them can hurt the others."""

import http.client
import json
import socket
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from tests.sim.bundles import golden_images, make_slot

from edgewright.runtime import load
from edgewright.runtime.connection import Times
from edgewright.runtime.requests import Limits
from edgewright.runtime.server import Server
from edgewright.runtime.service import Service, refuse

INFER = "/v2/models/digits/infer"
QUICK = Times(idle_s=5, request_s=0.3, send_s=0.3, linger_s=0.3, silent_s=0.2, drain_s=5)


@pytest.fixture(scope="module")
def slot(tmp_path_factory):
    """Return a slot of the small model."""
    return make_slot(tmp_path_factory.mktemp("slot"))[0]


@pytest.fixture(scope="module")
def slow_slot(tmp_path_factory):
    """Return a slot of a model that takes some ten milliseconds at least."""
    return make_slot(tmp_path_factory.mktemp("slow"), slow=40, count=2)[0]


class Running:
    """A server at work in a thread, and what a test does with it."""

    def __init__(self, service, model=None, **options):
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        self.model = model
        options = {"limits": Limits(body_bytes=10_000), "times": QUICK, **options}
        self.server = Server([listener], service, **options)
        self.thread = threading.Thread(target=self.server.serve)
        self.thread.start()

    def stop(self):
        """Stop and wait for the end."""
        self.server.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()

    @contextmanager
    def client(self):
        """Give a keep-alive client."""
        client = http.client.HTTPConnection(*self.address, timeout=5)
        try:
            yield client
        finally:
            client.close()

    @contextmanager
    def raw(self):
        """Give a bare socket."""
        with socket.create_connection(self.address, timeout=5) as peer:
            yield peer

    def counts(self):
        """Return answered, failed, late, refused."""
        seen = self.model.monitor.snapshot()
        return seen.answered, seen.failed, seen.late, seen.refused


@contextmanager
def running(slot, *, deadline_s=5.0, **options):
    """Serve a slot."""
    with load(slot) as model:
        server = Running(Service(model, deadline_s=deadline_s), model, **options)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def served(slot):
    """Return the small model being served."""
    with running(slot) as server:
        yield server


def body(images, **parameters):
    """Return a JSON request for these images."""
    tensor = {
        "name": "image",
        "shape": list(images.shape),
        "datatype": "UINT8",
        "data": images.ravel().tolist(),
    }
    return json.dumps({"inputs": [tensor], "parameters": parameters})


def call(client, method, path, content=None, headers=None):
    """Return the status, the headers and the document of an answer."""
    client.request(method, path, content, headers or {})
    response = client.getresponse()
    data = response.read()
    return response.status, response.headers, json.loads(data) if data else None


def post(content):
    """Return an inference request as bytes."""
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content.encode()


def until_end(peer):
    """Return all that comes until the other side ends."""
    data = b""
    while more := peer.recv(65536):
        data += more
    return data


def test_the_routes_of_the_protocol(served):
    """Server, health, metadata and readiness, on one connection."""
    with served.client() as client:
        answers = {
            path: call(client, "GET", path)
            for path in (
                "/v2",
                "/v2/health/live",
                "/v2/health/ready",
                "/v2/models/digits",
                "/v2/models/digits/ready",
                "/v2/models/digits/versions/1",
                "/v2/models/digits/versions/1/ready",
            )
        }

    assert {status for status, _, _ in answers.values()} == {200}
    assert answers["/v2"][2]["name"] == "edgewright"
    assert answers["/v2/health/ready"][2] == {"ready": True}
    model = answers["/v2/models/digits"][2]
    assert model["versions"] == ["1"]
    assert model["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 1, 8, 8]}]
    assert model["parameters"]["digest"] == served.model.digest


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/models/other", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/digits/versions/2/infer", 404),
        ("GET", INFER, 405),
        ("POST", "/v2/health/live", 405),
        ("DELETE", "/v2/models/digits", 405),
    ],
)
def test_what_there_is_not_is_told(served, method, path, status):
    """404 and 405, in the protocol's words, and the connection goes on."""
    with served.client() as client:
        found, headers, document = call(client, method, path, "{}")

        assert found == status
        assert isinstance(document["error"], str)
        assert headers["Connection"] == "keep-alive"
        assert call(client, "GET", "/v2")[0] == 200


def test_head_has_no_body(served):
    """Its length is told all the same, and the next answer is not swallowed."""
    with served.client() as client:
        status, headers, document = call(client, "HEAD", "/v2")

        assert (status, document) == (200, None)
        assert int(headers["Content-Length"]) > 0
        assert call(client, "GET", "/v2")[0] == 200


def test_an_answer_is_the_models(served):
    """The numbers, their shape, and which bytes gave them."""
    images = golden_images(2)
    with served.client() as client:
        status, _, document = call(client, "POST", INFER, body(images))

    (output,) = document["outputs"]
    assert status == 200
    assert output["shape"] == [2, 10]
    assert output["data"] == served.model.predict(images).ravel().tolist()
    assert document["parameters"] == {
        "digest": served.model.digest,
        "release": "digits@1",
        "variant": "float32",
    }


def test_raw_tensors_in_and_out(served):
    """The binary extension gives the same numbers without their decimals."""
    images = golden_images(2)
    tensor = {
        "name": "image",
        "shape": [2, 1, 8, 8],
        "datatype": "UINT8",
        "parameters": {"binary_data_size": 128},
    }
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    with served.client() as client:
        headers = {"Inference-Header-Content-Length": str(len(text))}
        client.request("POST", INFER, text.encode() + images.tobytes(), headers)
        response = client.getresponse()
        data = response.read()

    size = int(response.headers["Inference-Header-Content-Length"])
    assert response.status == 200
    assert json.loads(data[:size])["outputs"][0]["parameters"] == {"binary_data_size": 80}
    assert data[size:] == served.model.predict(images).tobytes()


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        ("{", {}),
        ('{"inputs":[]}', {}),
        (body(np.zeros((1, 8, 8), np.uint8)), {}),
        (body(np.zeros((1, 1, 8, 8), np.uint8), deadline_ms=-1), {}),
        ("{}", {"Inference-Header-Content-Length": "3"}),
        ("{}", {"Inference-Header-Content-Length": "x"}),
    ],
    ids=["no JSON", "no input", "shape", "deadline", "longer", "no number"],
)
def test_a_request_that_does_not_fit_is_counted_refused(served, content, headers):
    """400 with the reason; the model is not run, and the connection goes on."""
    with served.client() as client:
        status, _, document = call(client, "POST", INFER, content, headers)

        assert status == 400
        assert document["error"]
        assert served.counts() == (0, 0, 0, 1)
        assert call(client, "POST", INFER, body(golden_images(1)))[0] == 200
    assert served.counts() == (1, 0, 0, 1)


def test_a_failing_engine_is_counted_failed(served):
    """500 in the protocol's words."""
    served.model.close()
    with served.client() as client:
        status, _, document = call(client, "POST", INFER, body(golden_images(1)))

    assert status == 500
    assert "closed" in document["error"]
    assert served.counts() == (0, 1, 0, 0)


@pytest.mark.slow
def test_a_late_answer_is_refused_and_counted(slow_slot):
    """408 near the deadline asked for; without it the answer comes, and is right."""
    images = golden_images(1)
    with running(slow_slot, deadline_s=30) as served, served.client() as client:
        expected = served.model.predict(images).ravel().tolist()
        start = time.monotonic()
        status, _, document = call(client, "POST", INFER, body(images, deadline_ms=20))
        late_s = time.monotonic() - start

        right = call(client, "POST", INFER, body(images))

    assert status == 408
    assert "no answer within 20 ms" in document["error"]
    assert late_s < 1.0
    assert right[0] == 200
    assert right[2]["outputs"][0]["data"] == expected
    assert served.counts() == (2, 0, 0, 0)
    assert served.model.monitor.snapshot().impatient == 1


def test_a_caller_cannot_make_the_model_late(served):
    """Deadlines nobody could meet are refused like any, and are not the model's fault."""
    impossible = body(golden_images(1), deadline_ms=0.001)
    with served.client() as client:
        statuses = [call(client, "POST", INFER, impossible)[0] for _ in range(20)]
        right = call(client, "POST", INFER, body(golden_images(1)))[0]

    assert (statuses, right) == ([408] * 20, 200)
    assert served.counts() == (1, 0, 0, 0)
    assert served.model.monitor.snapshot().impatient == 20


@pytest.mark.parametrize(
    ("asked", "late", "impatient"),
    [
        ({}, 1, 0),
        ({"deadline_ms": 0.002}, 1, 0),
        ({"deadline_ms": 0.001}, 1, 0),
        ({"deadline_ms": 0.0005}, 0, 1),
    ],
    ids=["none", "further", "the same", "nearer"],
)
def test_only_a_nearer_deadline_is_the_callers_own(slot, asked, late, impatient):
    """What misses the worker's own deadline is late, whatever the caller asked."""
    with running(slot, deadline_s=1e-6) as served, served.client() as client:
        status, _, _ = call(client, "POST", INFER, body(golden_images(1), **asked))
        seen = served.model.monitor.snapshot()

    assert status == 408
    assert (seen.late, seen.impatient) == (late, impatient)


@pytest.mark.slow
def test_waiting_for_ones_turn_counts(slow_slot):
    """Of many requests at once those that would come too late are refused in time."""
    statuses, times = [], []
    content = body(golden_images(1))

    def ask():
        with served.client() as client:
            start = time.monotonic()
            statuses.append(call(client, "POST", INFER, content)[0])
            times.append(time.monotonic() - start)

    with running(slow_slot, deadline_s=0.2) as served:
        with served.client() as client:
            patient = body(golden_images(1), deadline_ms=60_000)
            assert call(client, "POST", INFER, patient)[0] == 200
        threads = [threading.Thread(target=ask) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        answered, failed, late, refused = served.counts()

    assert set(statuses) <= {200, 408}
    assert late == statuses.count(408) > 0
    assert answered == 1 + statuses.count(200)
    assert failed == refused == 0
    assert max(times) < 5.0


def test_requests_in_a_row_are_answered_in_order(served):
    """Three sent at once, the middle one wrong: three answers, then the end as asked."""
    requests = post(body(golden_images(1))) + post("{") + b"GET /v2 HTTP/1.0\r\n\r\n"
    with served.raw() as peer:
        peer.sendall(requests)

        data = until_end(peer)

    codes = [line.split()[1] for line in data.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    codes += [part.split()[0] for part in data.split(b"}HTTP/1.1 ")[1:]]
    assert codes == [b"200", b"400", b"200"]


def test_a_request_may_come_in_drops(served):
    """Byte by byte it is the same request."""
    request = b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with served.raw() as peer:
        for index in range(len(request)):
            peer.sendall(request[index : index + 1])

        assert until_end(peer).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (post("x" * 10_001), 413),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 411),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nHo", 408),
        (post("{}")[:-1], 408),
    ],
    ids=["malformed", "too long", "chunked", "no length", "head", "cut head", "cut body"],
)
def test_what_is_no_request_ends_its_connection(served, data, status):
    """The refusal is read to its end by the peer, then the connection is closed."""
    with served.raw() as peer:
        peer.sendall(data)

        answer = until_end(peer)

    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in head
    assert json.loads(content)["error"]
    with served.client() as client:
        assert call(client, "GET", "/v2")[0] == 200


def test_who_waits_for_a_continue_gets_one(served):
    """The body is sent after it."""
    content = body(golden_images(1))
    request = post(content).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n", 1)
    head, _, rest = request.partition(b"\r\n\r\n")
    with served.raw() as peer:
        peer.sendall(head + b"\r\n\r\n")
        assert peer.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"

        peer.sendall(rest)

        assert peer.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_a_peer_that_leaves_hurts_nobody(served):
    """In the middle of a head, of a body, or before its answer."""
    for data in (b"GET / HT", post("{}")[:-1], post(body(golden_images(1)))):
        with served.raw() as peer:
            peer.sendall(data)

    with served.client() as client:
        assert call(client, "GET", "/v2")[0] == 200


def test_a_silent_connection_is_closed(slot):
    """After the idle time the worker ends it without a word."""
    times = Times(idle_s=0.1, request_s=5)
    with running(slot, times=times) as served, served.raw() as peer:
        assert until_end(peer) == b""


def test_at_the_limit_the_longest_idle_makes_room(slot):
    """A third peer is served although two were allowed and neither has left."""
    with (
        running(slot, connections=2) as served,
        served.client() as one,
        served.client() as two,
        served.client() as three,
    ):
        assert call(one, "GET", "/v2")[0] == 200
        assert call(two, "GET", "/v2")[0] == 200

        assert call(three, "GET", "/v2")[0] == 200
        assert call(two, "GET", "/v2")[0] == 200
        assert one.sock.recv(1) == b""


def test_a_fault_of_ours_is_one_answer_not_the_end():
    """What no one foresaw is a 500, and the next request is answered."""

    class Faulty:
        def answer(self, request):
            if request.path == "/fault":
                raise ZeroDivisionError("unforeseen")
            return refuse(404, "nothing here")

        def failed(self, error):
            return refuse(500, type(error).__name__)

        def drain(self):
            pass

    served = Running(Faulty())
    with served.client() as client:
        assert call(client, "GET", "/fault")[2] == {"error": "ZeroDivisionError"}
        assert call(client, "GET", "/other")[0] == 404
    served.stop()


@pytest.mark.slow
def test_stopping_finishes_what_is_under_way(slow_slot):
    """The running answer is given and its connection closed; no new one is accepted."""
    found = []

    def ask():
        with served.client() as client:
            found.append(call(client, "POST", INFER, body(golden_images(1))))

    with running(slow_slot, deadline_s=30) as served:
        asking = threading.Thread(target=ask)
        asking.start()
        while not any(one.idle_since is None for one in served.server._left()):
            time.sleep(0.001)
        served.server.stop()
        served.thread.join(10)
        asking.join(10)

        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(served.address, timeout=1)

    ((status, headers, _),) = found
    assert status == 200
    assert headers["Connection"] == "close"


def test_while_stopping_a_keep_alive_peer_is_answered_once_more(slot):
    """It hears Connection: close and that the worker is not ready, and loses nothing."""
    with running(slot) as served, served.client() as client:
        assert call(client, "GET", "/v2/health/ready")[0] == 200

        served.server.stop()
        status, headers, document = call(client, "GET", "/v2/health/ready")

        assert headers["Connection"] == "close"
        assert (status, document["ready"]) in {(503, False), (200, True)}
        served.thread.join(5)
        assert not served.thread.is_alive()


def test_stopping_does_not_wait_for_the_silent(slot):
    """Idle connections are closed after a moment; stop may be called twice."""
    with running(slot) as served, served.raw() as peer:
        start = time.monotonic()

        served.server.stop()
        served.server.stop()

        assert until_end(peer) == b""
        served.thread.join(5)
        assert time.monotonic() - start < 2.0


def test_two_servers_share_one_socket(slot):
    """Each request is answered once, whoever accepts it, and either may leave."""
    with load(slot) as model:
        service = Service(model, deadline_s=5)
        first = Running(service, model)
        shared = socket.create_server(("127.0.0.1", 0))
        pair = [
            Server([shared.dup()], service, limits=Limits(), times=QUICK) for _ in range(2)
        ]
        threads = [threading.Thread(target=server.serve) for server in pair]
        for thread in threads:
            thread.start()
        first.stop()
        first.address = shared.getsockname()
        for index in range(60):
            if index == 30:
                pair[0].stop()
            with first.client() as client:
                assert call(client, "GET", "/v2")[0] == 200
        pair[1].stop()
        for thread in threads:
            thread.join(5)
        shared.close()
