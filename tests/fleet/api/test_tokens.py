"""Tokens over HTTP: told once, and good until they are revoked, not a call longer."""

import socket
import sqlite3
from contextlib import closing

import pytest
from tests.sim.plane import Bench, SimDevice, running

from edgewright.core.errors import AccessError, ConflictError, NotFoundError, UsageError
from edgewright.fleet import access
from edgewright.wire.http import Client


@pytest.fixture
def server(tmp_path):
    """Give a control plane of its own."""
    with running(tmp_path) as made:
        yield made


def create(server, scope="operate"):
    """Create a token; return its id and a client that has it."""
    made = server.client().call("POST", "/v1/tokens", {"scope": scope})
    client = Client(server.url, token=made["secret"])
    server.clients.append(client)
    return made["token"], client


def revoke(server, token, **how):
    """Revoke a token as the operator the server began with."""
    return server.client().call("POST", f"/v1/tokens/{token}/revoke", how or None)


def mine(server):
    """Return the id of the token the server began with."""
    listed = server.client().call("GET", "/v1/tokens")["tokens"]
    (token,) = (one["token"] for one in listed if one["yours"])
    return token


def test_a_token_is_good_until_it_is_revoked(server):
    """The next call with it is refused, and so are those of nobody else."""
    token, client = create(server)
    assert client.call("GET", "/v1/releases")["releases"] == []

    done = revoke(server, token)

    assert (done["token"], done["scope"]) == (token, "operate")
    assert done["revoked_at"]
    with pytest.raises(AccessError, match="not known"):
        client.call("GET", "/v1/releases")
    assert server.client().call("GET", "/v1/releases")["releases"] == []
    assert revoke(server, token) == done
    actions = [row["action"] for row in server.audit()]
    assert actions.count("token.revoke") == 1


def test_a_change_under_way_is_refused(server):
    """A call that was let in before the revocation changes nothing after it."""
    made = server.client().call("POST", "/v1/tokens", {"scope": "operate"})
    body = b'{"scope": "operate"}'
    head = (
        f"POST /v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {made['secret']}\r\n"
        f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n"
        "Connection: close\r\n\r\n"
    )
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode())
        # The server asks for the body only once it has let the caller in.
        assert b" 100 " in connection.recv(4096)
        revoke(server, made["token"])
        connection.sendall(body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert b" 403 " in answer.splitlines()[0]
    assert b"revoked while" in answer
    assert len(server.client().call("GET", "/v1/tokens")["tokens"]) == 3


def test_a_device_outlives_its_enrol_token(server, tmp_path):
    """An enrol token lets devices in by name; they stay when it goes, and no more come."""
    token, client = create(server, "enrol")
    device = SimDevice.make(server, tmp_path, "one")
    device.client = client
    device.enrol()

    revoke(server, token)

    assert device.check_in().interval_s > 0
    with pytest.raises(AccessError, match="not known"):
        device.enrol()


def test_the_last_operator_stays(server):
    """Refused with a way out; with force it is done, and the next start writes a new one."""
    token = mine(server)
    with pytest.raises(ConflictError, match="last token that may operate"):
        revoke(server, token)

    assert revoke(server, token, force=True)["revoked_at"]

    with pytest.raises(AccessError):
        server.client().call("GET", "/v1/tokens")


def test_a_start_without_an_operator_writes_a_token(tmp_path):
    """Only then, and only that one: a revoked enrol token does not come back."""
    bench = Bench(tmp_path)
    folder = bench.plane.settings.state / "tokens"
    before = {path.name: path.read_text() for path in folder.iterdir()}
    bench.restart()
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    for row in bench.read(access.page):
        bench.write(lambda c, t=row.id: access.revoke(c, t, at_ms=1, force=True))

    bench.restart()

    assert (folder / "enrol.token").read_text() == before["enrol.token"]
    secret = (folder / "operate.token").read_text().strip()
    assert secret != before["operate.token"].strip()
    bench.read(lambda c: access.check(c, f"Bearer {secret}", "operate"))
    assert [row.scope for row in bench.read(access.page) if row.revoked_ms is None] == [
        "operate"
    ]
    assert bench.actions()[-1] == "token.create"
    bench.close()


def test_a_secret_is_told_once_and_stored_nowhere(server):
    """Neither the listing, nor the audit, nor the database holds it, key or no key."""
    headers = {"Idempotency-Key": "once"}
    asked = {"scope": "operate"}
    made = server.client().call("POST", "/v1/tokens", asked, headers=headers)
    response = server.client().request("POST", "/v1/tokens", body=b'{"scope": "enrol"}')

    listed = str(server.client().call("GET", "/v1/tokens"))
    database = server.plane.settings.state / "fleet.db"
    with closing(sqlite3.connect(database)) as connection:
        dump = "\n".join(connection.iterdump())

    assert response.headers["cache-control"] == "no-store"
    assert made["token"] in listed
    assert made["token"] in dump
    for place in (listed, dump, str(server.audit())):
        assert made["secret"] not in place


def test_pages_of_tokens(server):
    """In the order they were made, page by page; one of them is the caller's."""
    made = [create(server)[0] for _ in range(3)]
    client = server.client()

    first = client.call("GET", "/v1/tokens?limit=2")
    second = client.call("GET", f"/v1/tokens?limit=4&after={first['next']}")

    tokens = [one["token"] for one in first["tokens"] + second["tokens"]]
    assert tokens == sorted(tokens)
    assert set(made) < set(tokens)
    assert len(tokens) == 5
    assert second["next"] is None
    assert mine(server) in tokens


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/v1/tokens", {"scope": "enroll"}, UsageError),
        ("/v1/tokens", {}, UsageError),
        ("/v1/tokens/tok_x/revoke", None, NotFoundError),
        ("/v1/tokens/tok_x/revoke", {"forse": True}, UsageError),
    ],
)
def test_what_nobody_can_mean(server, path, body, error):
    """Nothing is made and nothing revoked."""
    with pytest.raises(error):
        server.client().call("POST", path, body)

    assert len(server.client().call("GET", "/v1/tokens")["tokens"]) == 2
