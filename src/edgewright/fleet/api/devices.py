"""What devices call: enrol, check in. Both bodies are signed by the device's own key."""

from functools import partial

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewright.core import clock
from edgewright.core.errors import AccessError
from edgewright.fleet import access, audit, identity, ingest
from edgewright.fleet.access import Caller
from edgewright.fleet.api.answers import reply
from edgewright.fleet.api.guard import read_body
from edgewright.fleet.api.plane import ControlPlane
from edgewright.fleet.audit import Entry
from edgewright.wire import version
from edgewright.wire.checkin import (
    DEVICE_HEADER,
    LEAST_S,
    SIGNATURE_HEADER,
    CheckIn,
    CheckInReply,
    Enrol,
    Enrolled,
)
from edgewright.wire.telemetry import Ack

_MAX_ENROL_BYTES = 256 * 1024
_MAX_CHECKIN_BYTES = 8 << 20
# Changes that may wait without anyone noticing: two batches of the writer.
_CALM = 512


class DeviceCalls:
    """Handlers of ``/v1/device/``."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/device/enrol", self.enrol, methods=["POST"]),
            Route("/v1/device/checkin", self.check_in, methods=["POST"]),
        ]

    async def enrol(self, request: Request) -> Response:
        """Make a device known; saying the same again changes nothing."""
        caller = await self._plane.caller(
            request.headers.get("authorization", ""), access.ENROL
        )
        body = await read_body(request, limit_bytes=_MAX_ENROL_BYTES)
        message = version.decode(Enrol, body)
        device = request.headers.get(DEVICE_HEADER, "")
        key = identity.public_key_of(message, device)
        identity.verify(key, request.headers.get(SIGNATURE_HEADER, ""), body)
        enrol = partial(_enrol, message=message, caller=caller, at_ms=self._plane.now_ms())
        return reply(Enrolled(device=await self._plane.change(enrol, caller)))

    async def check_in(self, request: Request) -> Response:
        """Take what a device tells, once, and say when to come again."""
        device = request.headers.get(DEVICE_HEADER, "")
        key = await self._plane.public_key(device)
        body = await read_body(request, limit_bytes=_MAX_CHECKIN_BYTES)
        identity.verify(key, request.headers.get(SIGNATURE_HEADER, ""), body)
        message = version.decode(CheckIn, body)
        if message.device != device:
            raise AccessError(f"the body speaks for {message.device:.40}, signed by {device}")
        take = partial(_take, message=message, at_ms=self._plane.now_ms())
        ack = await self._plane.write(take)
        self._plane.nudge()
        waiting = self._plane.waiting
        return reply(
            CheckInReply(
                at=clock.show(self._plane.clock.now()),
                interval_s=stretched(self._plane.settings.interval_s, waiting),
                least_s=least(waiting),
                ack=ack,
            )
        )


def stretched(interval_s: float, waiting: int) -> float:
    """Return when a device should come again, later the more changes wait to be written."""
    return interval_s * (1 + waiting // _CALM)


def least(waiting: int) -> float:
    """Return how soon a device of a running rollout may come, 0 for not before the others."""
    return LEAST_S if waiting < _CALM else 0.0


def _enrol(
    connection: Connection, *, message: Enrol, caller: Caller, at_ms: int
) -> tuple[str, Entry | None]:
    device, changed = identity.enrol(connection, message, at_ms=at_ms)
    entry = Entry(str(caller), "device.enrol", device, changed)
    return device, entry if changed else None


def _take(connection: Connection, *, message: CheckIn, at_ms: int) -> Ack | None:
    """Apply a check-in; what it changes about the device is audited with it."""
    changed = identity.advance(connection, message, at_ms=at_ms)
    if changed:
        entry = Entry(message.device, "device.change", message.device, changed)
        audit.append(connection, entry, at_ms=at_ms)
    if message.batch is None:
        return None
    return ingest.apply(connection, message.device, message.batch, at_ms=at_ms)
