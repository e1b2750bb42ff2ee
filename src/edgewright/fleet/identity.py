"""Devices: who they are, and that what arrives in their name is theirs and new.

A device's id is made from its public key, so it cannot be claimed without the
private one. Every body it sends is signed, and every check-in has a number that
grows, so an old one cannot be played again.
"""

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, insert, select, update

from edgewright.bundle import keys
from edgewright.core.errors import AccessError, ConflictError, TrustError, WireError
from edgewright.core.names import check_name, device_id
from edgewright.fleet.store.tables import devices
from edgewright.wire.checkin import CheckIn, Enrol, Serving

# 2**53 - 1: what every JSON reader keeps exactly; also well within 64 bits.
MAX_COUNT = (1 << 53) - 1

_MAX_LABELS = 64
_MAX_TEXT = 200
_MAX_PROFILE_BYTES = 64 * 1024
_NOTHING = Serving(digest="", release="", variant="")

_BY_ID = select(devices).where(devices.c.id == bindparam("device"))
_ADVANCE = (
    update(devices)
    .where(devices.c.id == bindparam("device"))
    .values(
        {
            name: bindparam(name)
            for name in (
                "channel", "labels_json", "seen_ms", "sequence", "boot_id", "agent_version",
                "serving_digest", "serving_release", "serving_variant", "serving_since_ms",
                "slots_json", "conditions_json", "trust_json",
            )
        }
    )
)  # fmt: skip


def verify(public_key: bytes, signature: str, body: bytes) -> None:
    """Return if ``body`` was signed by the device that owns ``public_key``.

    Args:
        public_key: Raw, 32 bytes.
        signature: base64, as in the ``Edgewright-Signature`` header.
        body: The request's body as it arrived.

    Raises:
        AccessError: It was not.
    """
    try:
        keys.verify(public_key, base64.b64decode(signature, validate=True), body)
    except (TrustError, ValueError) as error:
        raise AccessError("the device's signature does not fit the body") from error


def public_key_of(message: Enrol, device: str) -> bytes:
    """Return the raw key an enrolment brings, if it is the one ``device`` is named after.

    Raises:
        WireError: It is not the base64 of 32 bytes.
        AccessError: ``device`` is another key's id.
    """
    try:
        public = base64.b64decode(message.public_key, validate=True)
    except ValueError as error:
        raise WireError("public_key is not base64") from error
    if len(public) != 32:
        raise WireError(f"public_key has {len(public)} bytes, ed25519 keys have 32")
    if device_id(public) != device:
        raise AccessError(f"the key sent belongs to {device_id(public)}, not to {device:.40}")
    return public


def public_key(connection: Connection, device: str) -> bytes:
    """Return the raw key of an enrolled device.

    Raises:
        AccessError: It is not enrolled.
    """
    text = connection.scalar(select(devices.c.public_key).where(devices.c.id == device))
    if text is None:
        raise AccessError(
            f"device {device:.40} is not enrolled here",
            hint="Enrol it with an enrol token first.",
        )
    return base64.b64decode(text)


def enrol(connection: Connection, message: Enrol, *, at_ms: int) -> tuple[str, dict[str, Any]]:
    """Make the device known, or note what it says anew about itself.

    Returns:
        Its id, and what changed; nothing when the same was said before.

    Raises:
        WireError: Its words are not usable.
        UsageError: Its channel is not a name.
    """
    check_name(message.channel, "channel")
    _check_labels(message.labels)
    profile = msgspec.json.encode(message.profile, order="deterministic").decode()
    if len(profile) > _MAX_PROFILE_BYTES or len(message.name) > _MAX_TEXT:
        raise WireError(
            f"name of {len(message.name)} characters and profile of {len(profile)} bytes; "
            f"{_MAX_TEXT} and {_MAX_PROFILE_BYTES} are the limits"
        )
    device = device_id(base64.b64decode(message.public_key))
    said = {
        "name": message.name,
        "channel": message.channel,
        "labels_json": encode(message.labels),
        "profile_json": profile,
    }
    known = connection.execute(_BY_ID, {"device": device}).one_or_none()
    if known is None:
        connection.execute(
            insert(devices).values(
                {**_newborn(), **said, "id": device, "public_key": message.public_key}
                | {"enrolled_ms": at_ms}
            )
        )
        return device, {"name": message.name, "channel": message.channel}
    changed = {name: value for name, value in said.items() if getattr(known, name) != value}
    if changed:
        connection.execute(update(devices).where(devices.c.id == device).values(changed))
    return device, changed


def advance(connection: Connection, message: CheckIn, *, at_ms: int) -> dict[str, Any]:
    """Take a check-in as the newest word of its device.

    Returns:
        What changed in a way worth auditing: channel, labels, what it serves.

    Raises:
        AccessError: The device is not enrolled.
        ConflictError: The sequence number is not above the last one.
        WireError: Its words are not usable.
        UsageError: Its channel is not a name.
    """
    known = connection.execute(_BY_ID, {"device": message.device}).one_or_none()
    if known is None:
        raise AccessError(f"device {message.device:.40} is not enrolled here")
    if not known.sequence < message.sequence <= MAX_COUNT:
        raise ConflictError(
            f"check-in {message.sequence} of {message.device} is not after {known.sequence}",
            hint=f"Count on from {known.sequence + 1}.",
        )
    _check_labels(message.labels)
    check_name(message.channel, "channel")
    serving = message.serving or _NOTHING
    said = {
        "channel": message.channel,
        "labels_json": encode(message.labels),
        "serving_digest": serving.digest,
        "serving_release": serving.release,
        "serving_variant": serving.variant,
    }
    changed = {name: value for name, value in said.items() if getattr(known, name) != value}
    moved = "serving_digest" in changed
    connection.execute(
        _ADVANCE,
        {
            **said,
            "device": message.device,
            "seen_ms": at_ms,
            "sequence": message.sequence,
            "boot_id": message.boot_id[:_MAX_TEXT],
            "agent_version": message.agent_version[:_MAX_TEXT],
            "serving_since_ms": at_ms if moved else known.serving_since_ms,
            "slots_json": encode(message.slots),
            "conditions_json": encode(message.conditions),
            "trust_json": encode(message.trust),
        },
    )
    return changed


def encode(value: Any) -> str:
    """Return ``value`` as JSON text with sorted keys, as the tables hold it."""
    return msgspec.json.encode(value, order="deterministic").decode()


def _check_labels(labels: Mapping[str, str]) -> None:
    longest = max((len(text) for pair in labels.items() for text in pair), default=0)
    if len(labels) > _MAX_LABELS or longest > _MAX_TEXT:
        raise WireError(
            f"{len(labels)} labels, the longest text {longest} characters; "
            f"{_MAX_LABELS} and {_MAX_TEXT} are the limits"
        )


def _newborn() -> dict[str, Any]:
    """Return the columns of a device that has not checked in yet."""
    return {
        "sequence": 0,
        "boot_id": "",
        "agent_version": "",
        "serving_digest": "",
        "serving_release": "",
        "serving_variant": "",
        "slots_json": "[]",
        "conditions_json": "{}",
        "trust_json": "{}",
    }
