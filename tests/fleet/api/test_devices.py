"""Enrol and check in over HTTP, signed, in order, applied once."""

import base64

import pytest
from tests.sim.plane import SimDevice, running, summary

from edgewright.bundle.keys import PrivateKey
from edgewright.core.errors import AccessError, ConflictError, WireError
from edgewright.fleet.api.devices import least, stretched
from edgewright.wire import version
from edgewright.wire.checkin import DEVICE_HEADER, SIGNATURE_HEADER, Serving
from edgewright.wire.telemetry import SUMMARY, Batch

DIGEST = "sha256:" + "a" * 64


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Give a control plane that tells devices to come every 7 seconds."""
    with running(tmp_path_factory.mktemp("plane"), interval_s=7.0) as made:
        yield made


@pytest.fixture
def device(server, tmp_path):
    """Give a device with a key of its own, enrolled."""
    return SimDevice.make(server, tmp_path, "one", labels={"site": "lab"})


def shown(server, device):
    """Return what the fleet knows of a device."""
    return server.client().call("GET", f"/v1/devices/{device.id}")


def test_a_device_enrols_once(server, device):
    """Enrolling again is the same device and changes nothing."""
    before = len(server.audit())

    again = device.enrol()

    assert device.id.encode() in again
    assert len(server.audit()) == before
    known = shown(server, device)
    assert (known["name"], known["channel"]) == ("one", "stable")
    assert known["labels"] == {"site": "lab"}
    assert known["seen_at"] is None


def test_what_a_device_says_is_known(server, device):
    """A check-in moves what it serves, its slots and its counters."""
    device.serving = Serving(digest=DIGEST, release="digits@1", variant="int8")

    reply = device.check_in((SUMMARY, summary("digits@1", DIGEST, answered=60, failed=2)))

    assert (reply.interval_s, reply.least_s) == (7.0, 1.0)
    assert (reply.ack.queue_id, reply.ack.high) == ("q-1", 1)
    known = shown(server, device)
    assert known["serving"]["release"] == "digits@1"
    assert (known["answered"], known["failed"]) == (60, 2)
    assert known["bundles"][0]["p99_us"] > 0
    (queue,) = known["queues"]
    assert (queue["high"], queue["applied"], queue["lost"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("waiting", "interval_s"), [(0, 30.0), (511, 30.0), (512, 60.0), (5120, 330.0)]
)
def test_a_busy_server_is_asked_less_often(waiting, interval_s):
    """Devices are told to come later while many changes wait to be written."""
    assert stretched(30.0, waiting) == interval_s


@pytest.mark.parametrize(("waiting", "least_s"), [(0, 1.0), (511, 1.0), (512, 0.0)])
def test_only_a_calm_server_lets_a_rollout_hurry(waiting, least_s):
    """While many changes wait to be written, nobody is let in more often."""
    assert least(waiting) == least_s


def test_a_check_in_is_not_played_again(device):
    """The same bytes with the same signature are refused the second time."""
    body = version.encode(device.message())
    first, second = (device.post("/v1/device/checkin", body) for _ in range(2))

    assert first.status == 200
    assert second.status == 409
    assert b"is not after 1" in second.body


def test_a_batch_is_applied_once(server, device):
    """Sent again under a new check-in, events count once; a gap names what is expected."""
    batch = device.batch(*[(SUMMARY, summary("digits@1", DIGEST, answered=1))] * 3)
    for _ in range(3):
        device.send("/v1/device/checkin", device.message(batch=batch))

    gap = Batch(queue_id="q-1", low=9, high=8)
    with pytest.raises(ConflictError, match="begins at 9, expected 4"):
        device.send("/v1/device/checkin", device.message(batch=gap))

    known = shown(server, device)
    assert known["answered"] == 3
    assert known["queues"][0]["applied"] == 3


def test_a_refused_batch_refuses_the_check_in(server, device):
    """Both are one transaction: after a gap the number may be used again."""
    gap = Batch(queue_id="q-1", low=1, high=2)
    sequence = device.sequence + 1
    with pytest.raises(WireError):
        device.send("/v1/device/checkin", device.message(batch=gap))

    device.check_in(sequence=sequence)

    assert shown(server, device)["sequence"] == sequence


def test_a_queue_reborn_begins_anew(server, device):
    """A wiped queue has another id, and its numbers mean other events."""
    event = (SUMMARY, summary("digits@1", DIGEST, answered=5))
    device.check_in(event)
    device.queue_id, device.seq = "q-2", 0

    device.check_in(event)

    known = shown(server, device)
    assert known["answered"] == 10
    assert {queue["queue_id"] for queue in known["queues"]} == {"q-1", "q-2"}


@pytest.mark.parametrize("scope", ["", "operate"])
def test_enrolling_needs_its_token(server, tmp_path, scope):
    """Neither anyone nor an operator enrols devices."""
    key = PrivateKey.create(tmp_path / "x.key")
    device = SimDevice(server.client(scope), key)

    with pytest.raises(AccessError):
        device.enrol()


def test_a_device_speaks_for_itself_alone(server, device, tmp_path):
    """A body signed by one device cannot speak for another."""
    other = SimDevice.make(server, tmp_path, "two")
    body = version.encode(device.message())
    signature = base64.b64encode(other.key.sign(body)).decode()

    for sender in (device, other):
        headers = {DEVICE_HEADER: sender.id, SIGNATURE_HEADER: signature}
        response = other.client.request(
            "POST", "/v1/device/checkin", body=body, headers=headers
        )
        assert response.status == 403


def test_a_stranger_is_refused(server, tmp_path):
    """A device that never enrolled is told to."""
    device = SimDevice(server.client(""), PrivateKey.create(tmp_path / "x.key"))

    with pytest.raises(AccessError, match="not enrolled") as caught:
        device.check_in()
    assert "Enrol" in caught.value.hint


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"\xff", b'{"device": 3}'])
def test_a_body_that_is_no_check_in(device, body):
    """Whatever a device signs, the answer is an error of ours."""
    response = device.post("/v1/device/checkin", body)

    assert response.status == 400
    assert b"wire_error" in response.body
