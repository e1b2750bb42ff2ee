"""Device → fleet: who I am, what I run, what happened.

Every body is signed with the device's own key: ``Edgewright-Device`` names the
device, ``Edgewright-Signature`` is the base64 ed25519 signature of the body.
"""

import msgspec

from edgewright.wire.telemetry import Ack, Batch

DEVICE_HEADER = "Edgewright-Device"
SIGNATURE_HEADER = "Edgewright-Signature"

# Seconds; a running rollout makes no device come more often.
LEAST_S = 1.0


class Enrol(msgspec.Struct, frozen=True, kw_only=True):
    """A device's first words, sent with an enrolment token.

    Attributes:
        public_key: base64 of the 32 raw bytes of its ed25519 key.
        name: For people.
        labels: What waves select by.
        channel: The line of releases it follows.
        profile: Its ``DeviceProfile`` as data.
    """

    public_key: str
    name: str
    channel: str
    labels: dict[str, str] = {}
    profile: dict[str, object] = {}


class Enrolled(msgspec.Struct, frozen=True, kw_only=True):
    """The fleet knows the device."""

    device: str


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker really loaded and answers with, as the worker said it."""

    digest: str
    release: str
    variant: str


class SlotState(msgspec.Struct, frozen=True, kw_only=True):
    """One installed slot: ``staged``, ``on trial``, ``good`` or ``bad``."""

    digest: str
    release: str
    state: str


class CheckIn(msgspec.Struct, frozen=True, kw_only=True):
    """One contact with the fleet.

    Attributes:
        sequence: Grows with every contact of this device; an older one is refused.
        at: Wall time of the device.
        serving: None while no worker is ready.
        batch: Telemetry, None when there is nothing.
        trust: Version of the metadata last trusted, by repository.
    """

    device: str
    sequence: int
    at: str
    boot_id: str
    monotonic_s: float
    agent_version: str
    channel: str
    labels: dict[str, str] = {}
    serving: Serving | None = None
    slots: tuple[SlotState, ...] = ()
    conditions: dict[str, float] = {}
    trust: dict[str, int] = {}
    batch: Batch | None = None


class CheckInReply(msgspec.Struct, frozen=True, kw_only=True):
    """What the fleet answers: what is durable, and when to come again.

    Attributes:
        interval_s: Seconds until the next contact; a device may take longer.
        least_s: Least seconds until it while the device's rollout is running; 0 when
            ``interval_s`` holds then too.
    """

    at: str
    interval_s: float
    ack: Ack | None = None
    least_s: float = 0.0


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """Inside ``{"error": ...}``: the one shape of every refusal."""

    code: str
    message: str
    hint: str = ""
    request_id: str = ""


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer that is not a success."""

    error: ErrorBody
