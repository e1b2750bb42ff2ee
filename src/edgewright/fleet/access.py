"""Who may call what: bearer tokens with one scope each.

A token is 32 random bytes; the database keeps only its sha256, so reading the
database lets nobody in. ``operate`` publishes and rolls out, ``enrol`` lets a
new device introduce itself; neither includes the other. A revoked token stays a
row, so that the audit's names have a meaning for ever.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from edgewright.core.errors import AccessError, ConflictError, NotFoundError
from edgewright.core.names import new_id
from edgewright.fleet.store.tables import tokens

OPERATE, ENROL = "operate", "enrol"
SCOPES = (OPERATE, ENROL)

_SCHEME = "bearer"
_LIVE = tokens.c.revoked_ms.is_(None)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a token belongs to, as the audit names it: ``operate:tok_...``."""

    token: str
    scope: str

    def __str__(self) -> str:
        return f"{self.scope}:{self.token}"


def new_secret(scope: str) -> str:
    """Return a token no one else has; it becomes one when it is added.

    Raises:
        ValueError: There is no such scope (a caller's mistake).
    """
    if scope not in SCOPES:
        raise ValueError(f"no scope {scope!r}; there are {', '.join(SCOPES)}")
    return f"ew_{scope}_{secrets.token_urlsafe(32)}"


def add(connection: Connection, scope: str, secret: str, *, at_ms: int) -> Caller:
    """Let whoever holds ``secret`` call what ``scope`` allows; return how they are named."""
    token = new_id("tok")
    row = {"id": token, "scope": scope, "sha256": _hash(secret), "created_ms": at_ms}
    connection.execute(insert(tokens).values(**row))
    return Caller(token, scope)


def check(connection: Connection, authorization: str, scope: str) -> Caller:
    """Return who holds the token in an ``Authorization`` header.

    Every stored hash is compared, in constant time each, so that how long a
    refusal takes tells nothing.

    Raises:
        AccessError: No token, an unknown or revoked one, or one of another scope.
    """
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != _SCHEME or not secret.strip():
        raise AccessError(
            "this needs a bearer token",
            hint=f"Send the {scope} token that the server wrote at its first start.",
        )
    hashed, found = _hash(secret.strip()), None
    for row in connection.execute(select(tokens).where(_LIVE)):
        if hmac.compare_digest(row.sha256, hashed):
            found = Caller(row.id, row.scope)
    if found is None:
        raise AccessError("this token is not known", hint="It may have been revoked.")
    if found.scope != scope:
        raise AccessError(f"this token may {found.scope}, and this needs one that may {scope}")
    return found


def confirm(connection: Connection, caller: Caller) -> None:
    """Return if the caller's token is still good: it may have been revoked since ``check``.

    Raises:
        AccessError: It was.
    """
    still = select(tokens.c.id).where(tokens.c.id == caller.token, _LIVE)
    if connection.scalar(still) is None:
        raise AccessError("this token was revoked while the call was under way")


def revoke(connection: Connection, token: str, *, at_ms: int, force: bool = False) -> bool:
    """Let nobody in with a token any more; return False where that was so already.

    Args:
        connection: The writer's.
        token: Its id, ``tok_...``.
        at_ms: Now.
        force: Also when nobody else may operate; the next start writes a new token then.

    Raises:
        NotFoundError: There is no such token.
        ConflictError: It is the last that may operate, and ``force`` was not given.
    """
    row = get(connection, token)
    if row.revoked_ms is not None:
        return False
    if row.scope == OPERATE and not force and _count(connection, OPERATE) == 1:
        raise ConflictError(
            f"{token} is the last token that may operate",
            hint="Create another first, or use --force: the next start writes a new one.",
        )
    connection.execute(update(tokens).where(tokens.c.id == token).values(revoked_ms=at_ms))
    return True


def get(connection: Connection, token: str) -> "Row[Any]":
    """Return the row of a token.

    Raises:
        NotFoundError: There is no such token.
    """
    row = connection.execute(select(tokens).where(tokens.c.id == token)).one_or_none()
    if row is None:
        raise NotFoundError(
            f"there is no token {token:.40}", hint="edgewright fleet tokens list"
        )
    return row


def page(connection: Connection, *, after: str = "", limit: int = 500) -> "list[Row[Any]]":
    """Return up to ``limit`` tokens with ids above ``after``, in the order they were made."""
    wanted = select(tokens).where(tokens.c.id > after).order_by(tokens.c.id).limit(limit)
    return list(connection.execute(wanted))


def wanting(connection: Connection) -> tuple[str, ...]:
    """Return the scopes a server that starts must write a token of.

    Both at its first start; later only ``operate``, where none is left that may.
    """
    if not exists(connection):
        return SCOPES
    return () if _count(connection, OPERATE) else (OPERATE,)


def exists(connection: Connection) -> bool:
    """Return whether any token was ever made here."""
    return connection.scalar(select(tokens.c.id).limit(1)) is not None


def _count(connection: Connection, scope: str) -> int:
    wanted = select(func.count()).select_from(tokens).where(_LIVE, tokens.c.scope == scope)
    return connection.scalar(wanted) or 0


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
