"""Guard: one shape for every refusal, and nothing of the inside in it."""

import json

import pytest
from tests.sim.plane import running

from edgewright.fleet.api.operations import Operations


@pytest.fixture
def server(tmp_path):
    """Give a control plane of its own."""
    with running(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found_error"),
        ("GET", "/v1/health/", 404, "not_found_error"),
        ("GET", "/v1/nothing", 404, "not_found_error"),
        ("DELETE", "/v1/health", 405, "usage_error"),
        ("PUT", "/v1/releases", 405, "usage_error"),
        ("GET", "/v1/releases", 401, "access_error"),
        ("GET", f"/v1/blobs/{'0' * 64}", 404, "not_found_error"),
        ("GET", "/v1/blobs/x", 400, "usage_error"),
        ("POST", "/v1/device/checkin", 401, "access_error"),
    ],
)
def test_every_refusal_has_one_shape(server, method, path, status, code):
    """Code, message, hint and the request's id, also where the router refuses."""
    response = server.client("").request(method, path)

    body = json.loads(response.body)
    assert response.status == status
    assert response.headers["content-type"] == "application/json"
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "hint", "request_id"}
    assert body["error"]["code"] == code
    assert body["error"]["message"]
    assert body["error"]["request_id"] == response.headers["x-request-id"]


def test_a_fault_inside_tells_nothing(tmp_path, monkeypatch, capfd):
    """An error nobody expected is a 500 with an id; the log has the rest under it."""

    async def fail(_self, _request):
        raise RuntimeError("password is swordfish")

    monkeypatch.setattr(Operations, "health", fail)
    with running(tmp_path) as server:
        response = server.client("").request("GET", "/v1/health")

    body = json.loads(response.body)["error"]
    assert response.status == 500
    assert "swordfish" not in response.body.decode()
    assert "RuntimeError" not in response.body.decode()
    assert body["request_id"] in body["hint"]
    (line,) = (line for line in capfd.readouterr().err.splitlines() if "swordfish" in line)
    assert json.loads(line)["request_id"] == body["request_id"]


def test_a_body_over_the_limit(server):
    """A body of JSON has a limit too, said beforehand or not."""
    client = server.client()

    said = client.request("POST", "/v1/rollouts", body=bytes((16 << 20) + 1))
    unsaid = client.request("POST", "/v1/rollouts", body=iter([bytes((16 << 20) + 1)]))

    assert (said.status, unsaid.status) == (413, 413)
    assert b"longer than 16777216 bytes" in unsaid.body


def test_a_missing_token_says_how_to_bring_one(server):
    """401 names the scheme; a token that is not enough is 403."""
    missing = server.client("").request("GET", "/v1/audit")
    wrong = server.client("enrol").request("GET", "/v1/audit")

    assert (missing.status, missing.headers["www-authenticate"]) == (401, "Bearer")
    assert wrong.status == 403
