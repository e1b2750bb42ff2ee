"""Answers that are the same when the same question comes again.

A client that lost the answer to a post sends it again under the same
``Idempotency-Key`` and gets the first answer; the answer is stored in the
transaction of the change it tells of.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select
from starlette.requests import Request
from starlette.responses import Response

from edgewright.core.errors import ConflictError, UsageError
from edgewright.fleet.access import Caller
from edgewright.fleet.api.plane import ControlPlane
from edgewright.fleet.audit import Entry
from edgewright.fleet.store.tables import answers

HEADER = "Idempotency-Key"

_CREATED = 201
_MAX_KEY = 200
_KEPT_MS = 7 * 24 * 3600 * 1000

Act = Callable[[Connection], tuple[Any, Entry | None]]


def reply(document: Any, status: int = 200) -> Response:
    """Return ``document`` as JSON."""
    return Response(msgspec.json.encode(document), status, media_type="application/json")


async def earlier_answer(
    plane: ControlPlane, request: Request, caller: Caller, body: bytes
) -> Response | None:
    """Return the answer given to this question before, if its key was used.

    For a change that is checked at length before it reaches the writer: after the
    first time, what it was checked against has moved on.

    Raises:
        ConflictError: The key was used for another body.
    """
    question = _question(request, caller, body)
    if not question.key:
        return None
    known = await plane.read(question.known)
    return _response(*known) if known else None


async def answer_once(
    plane: ControlPlane, request: Request, caller: Caller, body: bytes, act: Act
) -> Response:
    """Run ``act`` unless this question was answered before; return the answer.

    Args:
        plane: Where the change goes.
        request: Its path and its ``Idempotency-Key``; without one ``act`` always runs.
        caller: Keys of two callers are two keys.
        body: Of the request; a key stands for one body.
        act: The change; returns the document to answer with, and the audit row.

    Raises:
        ConflictError: The key was used for another body.
        UsageError: The key is too long.
    """
    question = _question(request, caller, body)
    change, at_ms = plane.audited(act, caller), plane.now_ms()
    if not question.key:
        return reply(await plane.write(change), _CREATED)

    def once(connection: Connection) -> tuple[int, bytes]:
        known = question.known(connection)
        if known is None:
            known = (_CREATED, msgspec.json.encode(change(connection)))
            question.keep(connection, known, at_ms)
        return known

    return _response(*await plane.write(once))


@dataclass(frozen=True, slots=True)
class _Question:
    """What was asked under which key."""

    actor: str
    route: str
    key: str
    sha256: str

    def known(self, connection: Connection) -> tuple[int, bytes] | None:
        row = connection.execute(
            select(answers).where(
                answers.c.actor == self.actor,
                answers.c.route == self.route,
                answers.c.key == self.key,
            )
        ).one_or_none()
        if row is not None and row.request_sha256 != self.sha256:
            raise ConflictError(
                f"{HEADER} {self.key[:40]} was used for another request",
                hint="Use a new key for a new request.",
            )
        return (row.status, row.body.encode()) if row is not None else None

    def keep(self, connection: Connection, answer: tuple[int, bytes], at_ms: int) -> None:
        connection.execute(delete(answers).where(answers.c.at_ms < at_ms - _KEPT_MS))
        connection.execute(
            insert(answers).values(
                actor=self.actor,
                route=self.route,
                key=self.key,
                request_sha256=self.sha256,
                status=answer[0],
                body=answer[1].decode(),
                at_ms=at_ms,
            )
        )


def _question(request: Request, caller: Caller, body: bytes) -> _Question:
    key = request.headers.get(HEADER, "")
    if len(key) > _MAX_KEY:
        raise UsageError(f"an {HEADER} has at most {_MAX_KEY} characters, got {len(key)}")
    return _Question(str(caller), request.url.path, key, hashlib.sha256(body).hexdigest())


def _response(status: int, body: bytes) -> Response:
    return Response(body, status, media_type="application/json")
