"""Who may call what: bearer tokens with one scope each.

A token is 32 random bytes; the database keeps only its sha256, so reading the
database lets nobody in. ``operate`` publishes and rolls out, ``enrol`` lets a
new device introduce itself; neither includes the other.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from edgewright.core.errors import AccessError
from edgewright.core.names import new_id
from edgewright.fleet.store.tables import tokens

OPERATE, ENROL = "operate", "enrol"
SCOPES = (OPERATE, ENROL)

_SCHEME = "bearer"


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
    for row in connection.execute(select(tokens).where(tokens.c.revoked_ms.is_(None))):
        if hmac.compare_digest(row.sha256, hashed):
            found = Caller(row.id, row.scope)
    if found is None:
        raise AccessError("this token is not known", hint="It may have been revoked.")
    if found.scope != scope:
        raise AccessError(f"this token may {found.scope}, and this needs one that may {scope}")
    return found


def exists(connection: Connection) -> bool:
    """Return whether any token was ever made here."""
    return connection.scalar(select(tokens.c.id).limit(1)) is not None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
