"""identity: enrolment, signatures, and numbers that only grow."""

import base64

import pytest

from edgewright.bundle.keys import PrivateKey
from edgewright.core.errors import AccessError, ConflictError, UsageError, WireError
from edgewright.core.names import device_id
from edgewright.fleet import identity
from edgewright.fleet.store import Database, tables
from edgewright.wire.checkin import CheckIn, Enrol, Serving

KEY = bytes(range(32))
DEVICE = device_id(KEY)
ENROL = Enrol(public_key=base64.b64encode(KEY).decode(), name="one", channel="stable")


@pytest.fixture
def database(tmp_path):
    """Give an empty database."""
    opened = Database(f"sqlite:///{tmp_path}/fleet.db")
    yield opened
    opened.close()


def enrol(database, message=ENROL, at_ms=1):
    """Enrol and return what the database says."""
    return database.write(lambda c: identity.enrol(c, message, at_ms=at_ms)).result()


def advance(database, at_ms=2, **fields):
    """Check in and return what changed."""
    message = CheckIn(
        **{
            "device": DEVICE,
            "sequence": 1,
            "at": "2026-01-31T12:00:00Z",
            "boot_id": "b",
            "monotonic_s": 1.0,
            "agent_version": "0.1.0",
            "channel": "stable",
            **fields,
        }
    )
    return database.write(lambda c: identity.advance(c, message, at_ms=at_ms)).result()


def row(database):
    """Return the one device."""
    with database.read() as connection:
        return connection.execute(tables.devices.select()).one()


def test_the_id_is_made_from_the_key(database):
    """Enrolling gives the id that belongs to the key, and the key can be asked for."""
    device, changed = enrol(database)

    assert device == DEVICE
    assert changed == {"name": "one", "channel": "stable"}
    with database.read() as connection:
        assert identity.public_key(connection, DEVICE) == KEY


def test_enrolling_again_changes_only_what_is_new(database):
    """The same words change nothing; others are taken and named."""
    enrol(database)

    assert enrol(database) == (DEVICE, {})
    moved = Enrol(public_key=ENROL.public_key, name="one", channel="beta")
    assert enrol(database, moved) == (DEVICE, {"channel": "beta"})
    assert row(database).enrolled_ms == 1


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"channel": "No Name"}, UsageError),
        ({"name": "x" * 201}, WireError),
        ({"labels": {str(number): "x" for number in range(65)}}, WireError),
        ({"labels": {"x": "y" * 201}}, WireError),
        ({"profile": {"x": "y" * 70_000}}, WireError),
    ],
)
def test_words_that_are_too_long_are_refused(database, fields, error):
    """What a device says of itself has limits."""
    message = Enrol(**{"public_key": ENROL.public_key, "name": "n", "channel": "c", **fields})

    with pytest.raises(error):
        enrol(database, message)


def test_numbers_only_grow(database):
    """A check-in that is not newer than the last one is refused, and changes nothing."""
    enrol(database)
    advance(database, sequence=5, boot_id="b5")

    for old in (5, 4, 0, -1, 1 << 60):
        with pytest.raises(ConflictError, match="is not after 5") as caught:
            advance(database, sequence=old, boot_id="again")
        assert "from 6" in caught.value.hint

    assert row(database).boot_id == "b5"
    assert advance(database, sequence=7) == {}


def test_what_is_worth_telling(database):
    """Channel, labels and what is served are changes; time and counters are not."""
    enrol(database)
    serving = Serving(digest="sha256:" + "a" * 64, release="digits@1", variant="int8")

    first = advance(database, sequence=1, serving=serving, at_ms=10)
    same = advance(database, sequence=2, serving=serving, at_ms=20)
    labelled = advance(database, sequence=3, serving=serving, labels={"site": "lab"}, at_ms=30)
    gone = advance(database, sequence=4, labels={"site": "lab"}, at_ms=40)

    assert first["serving_release"] == "digits@1"
    assert same == {}
    assert labelled == {"labels_json": '{"site":"lab"}'}
    assert gone["serving_digest"] == ""
    assert row(database).serving_since_ms == 40
    assert row(database).seen_ms == 40


def test_strangers_are_refused(database):
    """Who is not enrolled has no key and cannot check in."""
    with pytest.raises(AccessError, match="not enrolled"):
        advance(database)
    with (
        pytest.raises(AccessError, match="not enrolled"),
        database.read() as connection,
    ):
        identity.public_key(connection, DEVICE)


def test_only_the_owner_of_a_key_signs(tmp_path):
    """A signature holds for one body under one key, and in no other form."""
    key, other = (PrivateKey.create(tmp_path / f"{n}.key") for n in "ab")
    signed = base64.b64encode(key.sign(b"body")).decode()

    identity.verify(key.public, signed, b"body")

    for public, signature, body in (
        (key.public, signed, b"other body"),
        (other.public, signed, b"body"),
        (key.public, "", b"body"),
        (key.public, "not base64!", b"body"),
        (key.public, signed[:-8], b"body"),
    ):
        with pytest.raises(AccessError, match="signature"):
            identity.verify(public, signature, body)


@pytest.mark.parametrize(
    ("public_key", "device", "error", "says"),
    [
        ("!", DEVICE, WireError, "base64"),
        (base64.b64encode(KEY[:31]).decode(), DEVICE, WireError, "31 bytes"),
        (ENROL.public_key, "dev-another", AccessError, "belongs to"),
    ],
)
def test_an_id_needs_its_key(public_key, device, error, says):
    """A device can only enrol under the id that its key gives."""
    message = Enrol(public_key=public_key, name="one", channel="stable")

    with pytest.raises(error, match=says):
        identity.public_key_of(message, device)
