"""What operators call: publish, roll out, look."""

import base64
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewright import __version__
from edgewright.bundle.trust import ARTEFACTS
from edgewright.core import records
from edgewright.core.errors import UsageError, WireError
from edgewright.fleet import access, audit, registry
from edgewright.fleet.access import Caller
from edgewright.fleet.api import views
from edgewright.fleet.api.answers import answer_once, earlier_answer, reply
from edgewright.fleet.api.guard import read_body
from edgewright.fleet.api.plane import ControlPlane
from edgewright.fleet.audit import Entry
from edgewright.fleet.rollout import ledger, progress
from edgewright.fleet.rollout.gate import GatePolicy
from edgewright.fleet.rollout.observe import parts
from edgewright.fleet.rollout.progress import Progress
from edgewright.wire.assignment import Wave

_MAX_BODY_BYTES = 16 << 20
_PAGE = 500
_MAX_PAGE = 1000

_MOVES: dict[str, Callable[[Progress], Progress]] = {
    "pause": progress.pause,
    "resume": progress.resume,
    "abort": progress.abort,
}


class MetadataAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Body of ``POST /v1/trust/artefacts``: files by name, base64."""

    metadata: dict[str, str]


class ReleaseAsked(MetadataAsked, frozen=True, kw_only=True):
    """Body of ``POST /v1/releases``."""

    release: str
    digest: str
    length: int
    path: str


@dataclass(frozen=True, slots=True)
class WaveAsked:
    """One wave in the body of ``POST /v1/rollouts``."""

    labels: dict[str, str] | None = None
    bp: int = 10_000


@dataclass(frozen=True, slots=True)
class RolloutAsked:
    """Body of ``POST /v1/rollouts``.

    A key that is not known is refused here, unlike elsewhere on the wire: a limit
    that is not understood would be a limit that does not hold.
    """

    channel: str
    release: str
    waves: tuple[WaveAsked, ...]
    gate: GatePolicy = field(default_factory=GatePolicy)


@dataclass(frozen=True, slots=True)
class TokenAsked:
    """Body of ``POST /v1/tokens``."""

    scope: str

    def __post_init__(self) -> None:
        """Refuse a scope there is not."""
        if self.scope not in access.SCOPES:
            hint = records.nearest(self.scope, list(access.SCOPES))
            raise UsageError(f"no scope {self.scope[:40]!r}", hint=hint)


@dataclass(frozen=True, slots=True)
class RevocationAsked:
    """Body of ``POST /v1/tokens/{token}/revoke``; none is an empty one."""

    force: bool = False


class Operations:
    """Handlers of everything that needs the scope ``operate``, and of health."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/health", self.health, methods=["GET"]),
            Route("/v1/releases", self.releases, methods=["GET"]),
            Route("/v1/releases", self.publish, methods=["POST"]),
            Route(f"/v1/trust/{ARTEFACTS}", self.refresh, methods=["POST"]),
            Route("/v1/rollouts", self.rollouts, methods=["GET"]),
            Route("/v1/rollouts", self.start, methods=["POST"]),
            Route("/v1/rollouts/{rollout}", self.rollout, methods=["GET"]),
            Route("/v1/rollouts/{rollout}/{verb}", self.move, methods=["POST"]),
            Route("/v1/devices", self.devices, methods=["GET"]),
            Route("/v1/devices/{device}", self.device, methods=["GET"]),
            Route("/v1/audit", self.audit, methods=["GET"]),
            Route("/v1/tokens", self.tokens, methods=["GET"]),
            Route("/v1/tokens", self.create_token, methods=["POST"]),
            Route("/v1/tokens/{token}/revoke", self.revoke_token, methods=["POST"]),
        ]

    async def health(self, _request: Request) -> Response:
        """Say that the database answers."""
        await self._plane.read(access.exists)
        return reply({"status": "ok", "version": __version__})

    async def releases(self, request: Request) -> Response:
        """List releases by name."""
        await self._caller(request)
        limit, after = _page(request)
        rows = await self._plane.read(partial(registry.all_releases, after=after, limit=limit))
        found = [views.release(row) for row in rows]
        return reply({"releases": found, "next": _next(found, "release", limit)})

    async def publish(self, request: Request) -> Response:
        """Take a release whose signed metadata verifies and whose bytes are here."""
        caller = await self._caller(request)
        body = await read_body(request, limit_bytes=_MAX_BODY_BYTES)
        if earlier := await earlier_answer(self._plane, request, caller, body):
            await self._plane.mirror_artefacts()
            return earlier
        asked = _decode(ReleaseAsked, body)
        offer = registry.Offer(
            asked.release, asked.digest, asked.length, asked.path, _files(asked)
        )
        held = await self._plane.read(lambda c: registry.held(c, ARTEFACTS))
        now, at_ms = self._plane.clock.now(), self._plane.now_ms()

        def check() -> dict[str, bytes]:
            new = registry.verify(offer.files, held, now=now)
            registry.check_offer(offer, {**held, **new}, self._plane.blobs)
            return new

        new = await self._plane.run(check)
        expected = registry.version_of(held)

        def take(connection: Connection) -> tuple[dict[str, Any], Entry | None]:
            registry.replace_if_unchanged(connection, new, expected_version=expected)
            row, added = registry.publish(connection, offer, actor=str(caller), at_ms=at_ms)
            detail = {"digest": offer.digest, "length": offer.length, "files": sorted(new)}
            entry = Entry(str(caller), "release.publish", offer.release, detail)
            return views.release(row), entry if added or new else None

        answer = await answer_once(self._plane, request, caller, body, take)
        await self._plane.mirror_artefacts()
        return answer

    async def refresh(self, request: Request) -> Response:
        """Take metadata that was signed anew, without a release."""
        caller = await self._caller(request)
        body = await read_body(request, limit_bytes=_MAX_BODY_BYTES)
        if earlier := await earlier_answer(self._plane, request, caller, body):
            await self._plane.mirror_artefacts()
            return earlier
        files = _files(_decode(MetadataAsked, body))
        held = await self._plane.read(lambda c: registry.held(c, ARTEFACTS))
        now = self._plane.clock.now()
        new = await self._plane.run(lambda: registry.verify(files, held, now=now))
        expected = registry.version_of(held)
        version = registry.version_of(new or held)

        def take(connection: Connection) -> tuple[dict[str, Any], Entry | None]:
            registry.replace_if_unchanged(connection, new, expected_version=expected)
            entry = Entry(str(caller), "trust.refresh", ARTEFACTS, {"files": sorted(new)})
            return {"version": version}, entry if new else None

        answer = await answer_once(self._plane, request, caller, body, take)
        await self._plane.mirror_artefacts()
        return answer

    async def rollouts(self, request: Request) -> Response:
        """List rollouts in the order they were started."""
        await self._caller(request)
        limit, after = _page(request)
        query = partial(ledger.page, after=_number(after), limit=limit)
        found = [views.rollout(row) for row in await self._plane.read(query)]
        return reply({"rollouts": found, "next": _next(found, "seq", limit)})

    async def rollout(self, request: Request) -> Response:
        """Show one rollout, its waves and devices, and what the gate says now."""
        await self._caller(request)
        return reply(await self._plane.read(self._in_full(request.path_params["rollout"])))

    async def start(self, request: Request) -> Response:
        """Start a rollout; the answer warns of a first wave without devices."""
        caller = await self._caller(request)
        body = await read_body(request, limit_bytes=_MAX_BODY_BYTES)
        asked = records.decode(RolloutAsked, _json(body), error=UsageError)
        waves = tuple(Wave(labels=wave.labels or {}, bp=wave.bp) for wave in asked.waves)
        order = ledger.Order(asked.channel, asked.release, waves, asked.gate)
        at_ms = self._plane.now_ms()

        def begin(connection: Connection) -> tuple[dict[str, Any], Entry]:
            made = ledger.start(connection, order, actor=str(caller), at_ms=at_ms)
            detail = {**made.asked(), "gate": asdict(order.gate)}
            entry = Entry(str(caller), "rollout.start", made.id, detail)
            found = parts(connection, made)
            document = views.rollout_in_full(connection, made, found, now_ms=at_ms)
            return {**document, "warnings": _warnings(document)}, entry

        answer = await answer_once(self._plane, request, caller, body, begin)
        await self._plane.tick()
        return answer

    async def move(self, request: Request) -> Response:
        """Pause, resume or abort; the signed documents say so when the answer comes."""
        caller = await self._caller(request)
        rollout, verb = request.path_params["rollout"], request.path_params["verb"]
        if verb not in _MOVES:
            raise UsageError(
                f"a rollout cannot {verb:.40}", hint=f"Known: {', '.join(_MOVES)}."
            )
        at_ms = self._plane.now_ms()

        def act(connection: Connection) -> tuple[None, Entry]:
            old = ledger.get(connection, rollout)
            new = ledger.move(connection, old, _MOVES[verb](old.progress), at_ms=at_ms)
            detail = {**old.asked(), "was": old.progress.state, "is": new.progress.state}
            return None, Entry(str(caller), f"rollout.{verb}", rollout, detail)

        await self._plane.change(act, caller)
        await self._plane.tick()
        return reply(await self._plane.read(self._in_full(rollout)))

    async def devices(self, request: Request) -> Response:
        """List devices by id."""
        await self._caller(request)
        limit, after = _page(request)
        found = await self._plane.read(partial(views.devices, after=after, limit=limit))
        return reply({"devices": found, "next": _next(found, "device", limit)})

    async def device(self, request: Request) -> Response:
        """Show everything known of one device."""
        await self._caller(request)
        name = request.path_params["device"]
        return reply(await self._plane.read(lambda c: views.device(c, name)))

    async def audit(self, request: Request) -> Response:
        """List the audit, oldest first."""
        await self._caller(request)
        limit, after = _page(request)
        query = partial(audit.rows, after=_number(after), limit=limit)
        found = [views.audit_row(row) for row in await self._plane.read(query)]
        return reply({"audit": found, "next": _next(found, "seq", limit)})

    async def tokens(self, request: Request) -> Response:
        """List tokens in the order they were made, without what would let anyone in."""
        caller = await self._caller(request)
        limit, after = _page(request)
        rows = await self._plane.read(partial(access.page, after=after, limit=limit))
        found = [{**views.token(row), "yours": row.id == caller.token} for row in rows]
        return reply({"tokens": found, "next": _next(found, "token", limit)})

    async def create_token(self, request: Request) -> Response:
        """Make a token; its secret is in this answer, and nowhere else ever after."""
        caller = await self._caller(request)
        body = await read_body(request, limit_bytes=_MAX_BODY_BYTES)
        asked = records.decode(TokenAsked, _json(body), error=UsageError)
        secret, at_ms = access.new_secret(asked.scope), self._plane.now_ms()

        def create(connection: Connection) -> tuple[dict[str, Any], Entry]:
            made = access.add(connection, asked.scope, secret, at_ms=at_ms)
            entry = Entry(str(caller), "token.create", str(made), {"scope": asked.scope})
            return views.token(access.get(connection, made.token)), entry

        # Not through ``answer_once``, which would keep the secret with the answer.
        made = await self._plane.change(create, caller)
        answer = reply({**made, "secret": secret}, 201)
        answer.headers["Cache-Control"] = "no-store"
        return answer

    async def revoke_token(self, request: Request) -> Response:
        """Let nobody in with a token from this moment on; again it changes nothing."""
        caller = await self._caller(request)
        body = await read_body(request, limit_bytes=_MAX_BODY_BYTES)
        asked = records.decode(RevocationAsked, _json(body or b"{}"), error=UsageError)
        token, at_ms = request.path_params["token"], self._plane.now_ms()

        def act(connection: Connection) -> tuple[dict[str, Any], Entry | None]:
            new = access.revoke(connection, token, at_ms=at_ms, force=asked.force)
            row = access.get(connection, token)
            detail = {"scope": row.scope, "force": asked.force}
            entry = Entry(str(caller), "token.revoke", f"{row.scope}:{token}", detail)
            return views.token(row), entry if new else None

        return reply(await self._plane.change(act, caller))

    async def _caller(self, request: Request) -> Caller:
        header = request.headers.get("authorization", "")
        return await self._plane.caller(header, access.OPERATE)

    def _in_full(self, rollout: str) -> Callable[[Connection], dict[str, Any]]:
        now_ms = self._plane.now_ms()

        def query(connection: Connection) -> dict[str, Any]:
            found = ledger.get(connection, rollout)
            seen = parts(connection, found)
            return views.rollout_in_full(connection, found, seen, now_ms=now_ms)

        return query


def _warnings(document: dict[str, Any]) -> list[str]:
    """Return what is allowed and yet probably not meant."""
    waves = document["waves"]
    anyone = sum(wave["devices"] for wave in waves)
    return [
        f"wave {number} has no devices, so nothing is learnt from it"
        for number, wave in enumerate(waves[:-1], start=1)
        if anyone and not wave["devices"]
    ]


def _decode(kind: type[Any], body: bytes) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"not a {kind.__name__}: {error}") from error


def _json(body: bytes) -> Any:
    return _decode(dict, body)


def _files(asked: MetadataAsked) -> dict[str, bytes]:
    try:
        return {
            name: base64.b64decode(text, validate=True)
            for name, text in asked.metadata.items()
        }
    except ValueError as error:
        raise WireError(f"a metadata file is not base64: {error}") from error


def _page(request: Request) -> tuple[int, str]:
    """Return ``limit`` and ``after`` of a listing.

    Raises:
        UsageError: ``limit`` is not 1 to 1000.
    """
    text = request.query_params.get("limit", str(_PAGE))
    if not text.isdecimal() or len(text) > 4 or not 1 <= int(text) <= _MAX_PAGE:
        raise UsageError(f"limit must be 1 to {_MAX_PAGE}, got {text[:40]!r}")
    return int(text), request.query_params.get("after", "")


def _number(after: str) -> int:
    if after and (not after.isdecimal() or len(after) > 15):
        raise UsageError(f"after must be a number here, got {after[:40]!r}")
    return int(after or 0)


def _next(found: list[dict[str, Any]], key: str, limit: int) -> Any:
    """Return what to pass as ``after`` for more; None when this was the last page."""
    return found[-1][key] if len(found) == limit else None
