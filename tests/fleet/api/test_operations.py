"""Publishing, rolling out and looking, over HTTP: access, one answer per question, audit."""

import pytest
from tests.sim.plane import (
    FakeRelease,
    SimDevice,
    hand_out,
    offer,
    publish,
    roll_out,
    running,
    signed_set,
    until,
)

from edgewright.core.errors import (
    AccessError,
    ConflictError,
    NotFoundError,
    RollbackError,
    StorageError,
    TransportError,
    UsageError,
)
from edgewright.fleet.api import plane
from edgewright.fleet.api.devices import DeviceCalls
from edgewright.fleet.api.files import Files
from edgewright.fleet.api.operations import Operations
from edgewright.wire.checkin import Serving
from edgewright.wire.feedback import CONFIRMED, REFUSED

CANARY = {"labels": {"canary": "yes"}}
ALL = {"bp": 10_000}
READING = ("/v1/releases", "/v1/rollouts", "/v1/devices", "/v1/audit", "/v1/tokens")


@pytest.fixture
def server(tmp_path):
    """Give a control plane of its own."""
    with running(tmp_path) as made:
        yield made


@pytest.fixture
def fleet(server, tmp_path):
    """Give a canary and two others, enrolled."""
    canary = SimDevice.make(server, tmp_path, "canary", labels={"canary": "yes"})
    others = [SimDevice.make(server, tmp_path, name) for name in ("second", "third")]
    return [canary, *others]


def show(server, rollout):
    """Return a rollout as operators see it."""
    return server.client().call("GET", f"/v1/rollouts/{rollout}")


def test_every_change_is_audited(server, tmp_path):
    """Each mutating route adds a row of its own in the name of its caller."""
    client, rows = server.client(), len(server.audit())
    fake = FakeRelease("digits@1", b"bundle of digits@1")
    signed = signed_set(server.keys, hand_out(server), fake)
    asked = {"channel": "stable", "release": "digits@1", "waves": [CANARY, ALL]}
    device = None
    rollout = token = ""

    def enrol():
        nonlocal device
        device = SimDevice.make(server, tmp_path, "canary", labels={"canary": "yes"})

    def start():
        nonlocal rollout
        rollout = client.call("POST", "/v1/rollouts", asked)["rollout"]

    def refresh():
        files = signed_set(server.keys, hand_out(server))
        body = {"metadata": offer(fake, files)["metadata"]}
        client.call("POST", "/v1/trust/artefacts", body)

    def create():
        nonlocal token
        token = client.call("POST", "/v1/tokens", {"scope": "operate"})["token"]

    def check_in():
        device.serving = Serving(digest=fake.digest, release="digits@1", variant="v")
        device.check_in(device.tells(CONFIRMED, "digits@1", fake.digest))

    changes = (
        (enrol, "device.enrol"),
        (
            lambda: client.request("PUT", f"/v1/blobs/{fake.hex}", body=fake.body),
            "blob.upload",
        ),
        (lambda: client.call("POST", "/v1/releases", offer(fake, signed)), "release.publish"),
        (refresh, "trust.refresh"),
        (start, "rollout.start"),
        (lambda: client.call("POST", f"/v1/rollouts/{rollout}/pause"), "rollout.pause"),
        (lambda: client.call("POST", f"/v1/rollouts/{rollout}/resume"), "rollout.resume"),
        (check_in, "device.confirmed"),
        (lambda: client.call("POST", f"/v1/rollouts/{rollout}/abort"), "rollout.abort"),
        (create, "token.create"),
        (lambda: client.call("POST", f"/v1/tokens/{token}/revoke"), "token.revoke"),
    )
    for change, action in changes:
        change()
        new = server.audit()[rows:]
        rows += len(new)
        mine = [row for row in new if row["action"] == action]
        assert len(mine) == 1, action
        assert mine[0]["actor"].startswith(("operate:tok_", "enrol:tok_", "dev-"))
    # Pausing, resuming and aborting share one route.
    assert len(changes) == len(mutating_routes(server)) + 2


def mutating_routes(server):
    """Return the routes that change something, as the application has them."""
    parts = (Operations(server.plane), DeviceCalls(server.plane), Files(server.plane))
    routes = [route for part in parts for route in part.routes()]
    return [route.path for route in routes if route.methods & {"POST", "PUT", "DELETE"}]


@pytest.mark.parametrize("path", READING)
@pytest.mark.parametrize("scope", ["", "enrol"])
def test_looking_needs_operate(server, path, scope):
    """Nothing but metadata, blobs and health is for everyone."""
    with pytest.raises(AccessError):
        server.client(scope).call("GET", path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/releases"),
        ("POST", "/v1/rollouts"),
        ("POST", "/v1/trust/artefacts"),
        ("POST", "/v1/rollouts/rol_x/abort"),
        ("POST", "/v1/tokens"),
        ("POST", "/v1/tokens/tok_x/revoke"),
        ("GET", "/v1/rollouts/rol_x"),
        ("GET", "/v1/devices/dev-x"),
    ],
)
def test_changing_needs_operate(server, method, path):
    """A device's enrolment token opens nothing else."""
    assert server.client("enrol").request(method, path, body=b"{}").status == 403
    assert server.client("").request(method, path, body=b"{}").status == 401


def test_a_whole_rollout(server, fleet):
    """From publishing to done, as operators see it."""
    first = publish(server, "digits@1")
    rollout = roll_out(server, "digits@1", CANARY, ALL, min_inferences=10)
    fleet[0].confirm("digits@1", first.digest)
    until(lambda: show(server, rollout)["open_waves"] == 2)
    for device in fleet[1:]:
        device.confirm("digits@1", first.digest)
    document = until(lambda: (d := show(server, rollout))["state"] == "done" and d)

    assert [wave["state"] for wave in document["waves"]] == ["passed", "passed"]
    assert [wave["confirmed"] for wave in document["waves"]] == [1, 2]
    assert [row["decision"] for row in document["decisions"]] == ["continue", "continue"]
    assert {one["phase"] for one in document["devices"]} == {"confirmed"}
    assert {one["assigned"] for one in document["devices"]} == {"digits@1"}
    assert document["now"] is None
    device = server.client().call("GET", f"/v1/devices/{fleet[0].id}")
    assert device["assigned"] == "digits@1"
    assert [row["what"] for row in device["feedback"]] == ["activated", "confirmed"]


def test_a_rollout_that_is_refused(server, fleet):
    """One refusal sends everyone back, with the reason for people to read."""
    fake = publish(server, "digits@1")
    rollout = roll_out(server, "digits@1", CANARY, ALL)
    fleet[0].check_in(fleet[0].tells(REFUSED, "digits@1", fake.digest, reason="golden 0/16"))

    document = until(lambda: (d := show(server, rollout))["state"] == "halted" and d)

    assert document["reason"].startswith("1 device refused")
    assert document["reason"].endswith("canary refused it: golden 0/16")
    assert document["open_waves"] == 0
    assert {wave["state"] for wave in document["waves"]} == {"closed"}
    (canary,) = (one for one in document["devices"] if one["name"] == "canary")
    assert (canary["phase"], canary["reason"]) == ("refused", "golden 0/16")


@pytest.mark.usefixtures("fleet")
def test_while_it_runs_the_gate_says_why(server):
    """An active rollout shows what is still missing."""
    publish(server, "digits@1")
    rollout = roll_out(server, "digits@1", CANARY, ALL)

    now = show(server, rollout)["now"]

    assert now["decision"] == "hold"
    assert now["reason"] == "0 of 1 devices confirmed"
    assert now["observation"]["devices"] == 1


@pytest.mark.usefixtures("fleet")
def test_pausing_and_aborting(server):
    """Each verb answers with the rollout as it then stands, and only where it can."""
    publish(server, "digits@1")
    rollout, client = roll_out(server, "digits@1", CANARY, ALL), server.client()
    place = f"/v1/rollouts/{rollout}"

    assert client.call("POST", f"{place}/pause")["state"] == "paused"
    with pytest.raises(ConflictError, match="paused"):
        client.call("POST", f"{place}/pause")
    assert client.call("POST", f"{place}/resume")["state"] == "running"
    document = client.call("POST", f"{place}/abort")
    assert (document["state"], document["reason"]) == ("halted", "aborted by operator")
    with pytest.raises(ConflictError, match="halted"):
        client.call("POST", f"{place}/resume")
    with pytest.raises(UsageError, match="cannot explode"):
        client.call("POST", f"{place}/explode")
    with pytest.raises(NotFoundError):
        client.call("POST", "/v1/rollouts/rol_x/abort")


@pytest.mark.usefixtures("fleet")
def test_an_answer_comes_again_under_its_key(server):
    """The same question under the same key is answered once; another one is refused."""
    fake = publish(server, "digits@1")
    client, key = server.client(), {"Idempotency-Key": "k1"}
    asked = {"channel": "stable", "release": fake.release, "waves": [CANARY, ALL]}

    first = client.call("POST", "/v1/rollouts", asked, headers=key)
    again = client.call("POST", "/v1/rollouts", asked, headers=key)

    assert again == first
    assert len(client.call("GET", "/v1/rollouts")["rollouts"]) == 1
    with pytest.raises(ConflictError, match="another request"):
        client.call("POST", "/v1/rollouts", {**asked, "channel": "beta"}, headers=key)
    with pytest.raises(ConflictError, match="has the rollout"):
        client.call("POST", "/v1/rollouts", asked)
    with pytest.raises(UsageError, match="200 characters"):
        client.call("POST", "/v1/rollouts", asked, headers={"Idempotency-Key": "k" * 201})


def test_a_release_is_answered_again_after_others(server):
    """A lost answer can be asked for even when the metadata has moved on since."""
    fake, client = FakeRelease("digits@1", b"bundle of digits@1"), server.client()
    client.refuse_failure(client.request("PUT", f"/v1/blobs/{fake.hex}", body=fake.body))
    asked = offer(fake, signed_set(server.keys, hand_out(server), fake))
    first = client.call("POST", "/v1/releases", asked, headers={"Idempotency-Key": "a"})
    publish(server, "digits@2")

    again = client.call("POST", "/v1/releases", asked, headers={"Idempotency-Key": "a"})

    assert again == first
    assert first["release"] == "digits@1"
    with pytest.raises(RollbackError, match="older"):
        client.call("POST", "/v1/releases", asked)


def test_a_publication_cut_short_is_finished_by_asking_again(server, monkeypatch):
    """Recorded but not handed out yet, a release is when its answer is asked for again."""
    fake, client = FakeRelease("digits@1", b"bundle of digits@1"), server.client()
    client.refuse_failure(client.request("PUT", f"/v1/blobs/{fake.hex}", body=fake.body))
    asked = offer(fake, signed_set(server.keys, hand_out(server), fake))
    before = hand_out(server)["timestamp.json"]

    def full(_folder, _files, **_):
        raise StorageError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(plane, "mirror", full)
        with pytest.raises(TransportError, match="no space left"):
            client.call("POST", "/v1/releases", asked, headers={"Idempotency-Key": "a"})
    assert hand_out(server)["timestamp.json"] == before

    client.call("POST", "/v1/releases", asked, headers={"Idempotency-Key": "a"})

    assert hand_out(server)["timestamp.json"] != before


def test_what_was_published_is_handed_out(server):
    """When the answer has come, the folder devices read from has the new set."""
    before = server.client("").request("GET", "/v1/trust/artefacts/timestamp.json").body

    publish(server, "digits@1")

    after = server.client("").request("GET", "/v1/trust/artefacts/timestamp.json").body
    assert after != before
    (row,) = server.client().call("GET", "/v1/releases")["releases"]
    assert row["release"] == "digits@1"
    assert row["published_by"].startswith("operate:tok_")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "dict"),
        (b"[]", "dict"),
        (b'{"channel":"stable"}', "release is missing"),
        (b'{"channel":"s","release":"a@1","waves":[{"label":{"a":"b"}}]}', "'label'"),
        (
            b'{"channel":"s","release":"a@1","waves":[],"gate":{"max_eror_bp":1}}',
            "max_error_bp",
        ),
        (
            b'{"channel":"s","release":"a@1","waves":[],"gate":{"min_inferences":0}}',
            "at least",
        ),
        (b'{"channel":"s","release":"a@1","waves":[]}', "1 to 100 waves"),
        (b'{"channel":"s","release":"a@1","waves":[{"bp":5}]}', "every device"),
        (b'{"channel":"S!","release":"a@1","waves":[{}]}', "cannot name a channel"),
        (b'{"channel":"s","release":"a","waves":[{}]}', "not a release"),
    ],
)
def test_a_rollout_that_makes_no_sense(server, body, says):
    """What cannot be meant is refused, an unknown limit too, with the place named."""
    response = server.client().request("POST", "/v1/rollouts", body=body)

    assert response.status == 400
    assert says in response.body.decode()


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"release":3}', b'{"metadata":{"x":"!"}}', b"\xff\xfe"]
)
@pytest.mark.parametrize("path", ["/v1/releases", "/v1/trust/artefacts"])
def test_a_publication_that_is_none(server, path, body):
    """Whatever is posted, the answer is an error of ours."""
    response = server.client().request("POST", path, body=body)

    assert response.status == 400
    assert b'"code":"wire_error"' in response.body


@pytest.mark.usefixtures("fleet")
def test_a_wave_without_devices_is_warned_of(server):
    """A label nobody carries is allowed, and probably a mistake."""
    publish(server, "digits@1")
    asked = {
        "channel": "stable",
        "release": "digits@1",
        "waves": [{"labels": {"canari": "yes"}}, ALL],
    }

    document = server.client().call("POST", "/v1/rollouts", asked)

    assert document["warnings"] == ["wave 1 has no devices, so nothing is learnt from it"]


@pytest.mark.usefixtures("fleet")
def test_listings_come_in_pages(server):
    """``after`` goes on where a page ended, and the last page says so."""
    client = server.client()
    first = client.call("GET", "/v1/devices?limit=2")
    rest = client.call("GET", f"/v1/devices?limit=2&after={first['next']}")

    assert len(first["devices"]) == 2
    assert len(rest["devices"]) == 1
    assert rest["next"] is None
    rows = client.call("GET", "/v1/audit?limit=3")
    assert [row["seq"] for row in rows["audit"]] == [1, 2, 3]
    for wrong in ("limit=0", "limit=1001", "limit=x", "limit=" + "9" * 5000):
        with pytest.raises(UsageError, match="limit"):
            client.call("GET", f"/v1/devices?{wrong}")
    with pytest.raises(UsageError, match="number"):
        client.call("GET", "/v1/audit?after=x")


def test_what_is_not_there(server):
    """A rollout or a device nobody knows is a 404 of ours."""
    for path in ("/v1/rollouts/rol_x", "/v1/devices/dev-x"):
        with pytest.raises(NotFoundError):
            server.client().call("GET", path)


def test_health_is_for_everyone(server):
    """It says that the database answers, and the version."""
    assert server.client("").call("GET", "/v1/health")["status"] == "ok"
