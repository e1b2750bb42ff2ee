"""The messages: a newer peer is understood, a wrong one refused, cohorts are as documented."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core import digest, names
from edgewright.core.errors import BundleError, WireError
from edgewright.wire import assignment, version
from edgewright.wire.assignment import RolloutDocument, Target, Wave, assigned, wave_of
from edgewright.wire.checkin import CheckIn, CheckInReply, Serving
from edgewright.wire.local import SelfTest, WorkerMessage
from edgewright.wire.telemetry import Batch, Event

OLD = Target(release="a@1", digest=digest.of_bytes(b"1"), path="a/1.ewb", length=1)
NEW = Target(release="a@2", digest=digest.of_bytes(b"2"), path="a/2.ewb", length=2)
WAVES = (Wave(labels={"canary": "yes"}), Wave(bp=2_500), Wave(bp=5_000), Wave())
DEVICES = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=26, max_size=26).map(
    lambda text: f"dev-{text}"
)


def _document(**changes):
    fields = {
        "rollout": "rol_1",
        "channel": "stable",
        "salt": "s",
        "next": NEW,
        "base": OLD,
        "waves": WAVES,
        "open_waves": 0,
        "state": "running",
    }
    return RolloutDocument(**{**fields, **changes})


@pytest.mark.parametrize(
    ("salt", "device", "place"),
    [
        ("a", "dev-x", 9668),
        ("2026-spring", "dev-aaaaaaaaaaaaaaaaaaaaaaaaaa", 3960),
        ("", "dev-zzzzzzzzzzzzzzzzzzzzzzzzzz", 3867),
    ],
)
def test_cohorts_are_the_documented_ones(salt, device, place):
    """The three places in the protocol's documentation."""
    assert names.cohort(salt, device) == place


@given(device=DEVICES, canary=st.booleans())
def test_opening_waves_only_adds_devices(device, canary):
    """Who runs the next release goes on doing so as further waves open."""
    labels = {"canary": "yes"} if canary else {}

    runs = [
        assigned(_document(open_waves=count), device, labels) is NEW
        for count in range(len(WAVES) + 1)
    ]

    assert runs == sorted(runs)
    assert (runs[0], runs[-1]) == (False, True)


@given(device=DEVICES)
def test_a_device_outside_the_open_waves_runs_the_base(device):
    """Closing all waves is the way back, and before the first release there is nothing."""
    assert assigned(_document(open_waves=0), device, {}) == OLD
    assert assigned(_document(open_waves=0, base=None), device, {}) is None


def test_a_wave_needs_all_its_labels():
    """A device belongs to the first wave whose labels it carries."""
    document = _document(waves=(Wave(labels={"a": "1", "b": "2"}), Wave(labels={"a": "1"})))

    assert wave_of(document, "dev-x", {"a": "1", "b": "2"}) == 0
    assert wave_of(document, "dev-x", {"a": "1"}) == 1
    assert wave_of(document, "dev-x", {"b": "2"}) is None


def test_a_rollout_document_survives_the_wire():
    """What is signed decodes to what was encoded, and to the same bytes again."""
    data = assignment.encode(_document(open_waves=2))

    assert assignment.decode(data) == _document(open_waves=2)
    assert assignment.encode(assignment.decode(data)) == data


def test_a_newer_field_is_ignored_and_a_newer_format_is_not():
    """Additions are understood without being known; another format says what to do."""
    data = assignment.encode(_document())
    added = b'{"added":1,' + data[1:]
    newer = data.replace(b'"format":1', b'"format":2')

    assert assignment.decode(added) == _document()
    with pytest.raises(WireError, match="newer") as caught:
        assignment.decode(newer)
    assert "Update" in caught.value.hint


@given(data=st.binary(max_size=60))
def test_garbage_is_an_error_of_ours(data):
    """Whatever bytes come, no foreign error does."""
    with pytest.raises((WireError, BundleError)):
        assignment.decode(b"{" + data)
    with pytest.raises(WireError):
        version.decode(CheckIn, b"[" + data)


@pytest.mark.parametrize(
    "message",
    [
        CheckInReply(at="2026-01-01T00:00:00Z", interval_s=30.0),
        Batch(queue_id="q", low=1, high=2, events=(Event(seq=1, kind="summary", body={}),)),
        WorkerMessage(ready=Serving(digest="d", release="a@1", variant="v")),
        SelfTest(digest="d"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_messages_survive_the_wire(message):
    """Encoded and decoded, a message is what it was; unknown fields change nothing."""
    data = version.encode(message)

    assert version.decode(type(message), data) == message
    assert version.decode(type(message), data[:-1] + b',"new":1}') == message


def test_a_missing_field_is_named():
    """The error says which message and what is wrong with it."""
    with pytest.raises(WireError, match=r"not a CheckInReply: .*interval_s"):
        version.decode(CheckInReply, b'{"at": "x"}')
