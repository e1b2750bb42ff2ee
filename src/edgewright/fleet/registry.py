"""What is published: releases, and the signed metadata that vouches for them.

The server cannot sign a release; it can only refuse a set of metadata that does
not verify, goes backwards, or names bytes that are not here. What it accepted
is in the database; the folder devices read from is a mirror of that.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from edgewright.bundle import signing, trust
from edgewright.bundle.trust import ARTEFACTS, TIMESTAMP, Trusted, TrustedTarget
from edgewright.core import digest
from edgewright.core.errors import ConflictError, NotFoundError, TrustError
from edgewright.core.names import parse_release
from edgewright.fleet.store import Blobs
from edgewright.fleet.store.tables import releases, trust_files

_ROOT = ".root.json"
_FIRST_ROOT = "1.root.json"


@dataclass(frozen=True, slots=True)
class Offer:
    """A release someone wants published.

    Attributes:
        release: ``name@N``.
        digest: Of the bundle; its bytes are uploaded already.
        length: Of the bundle, in bytes.
        path: Its target path, ``name/N.ewb``.
        files: The complete set of metadata that names it.
    """

    release: str
    digest: str
    length: int
    path: str
    files: Mapping[str, bytes]


def held(connection: Connection, repository: str) -> dict[str, bytes]:
    """Return the set of metadata that is handed out now, every root included."""
    wanted = select(trust_files).where(trust_files.c.repository == repository)
    return {row.filename: row.body.encode() for row in connection.execute(wanted)}


def replace_held(connection: Connection, repository: str, files: Mapping[str, bytes]) -> None:
    """Let ``files`` be the set that is handed out; roots there were before stay."""
    table = trust_files
    mine = table.c.repository == repository
    connection.execute(delete(table).where(mine & ~table.c.filename.like(f"%{_ROOT}")))
    roots = set(connection.scalars(select(table.c.filename).where(mine)))
    rows = [
        {"repository": repository, "filename": name, "body": data.decode()}
        for name, data in files.items()
        if name not in roots
    ]
    if rows:
        connection.execute(insert(table), rows)


def adopt(
    connection: Connection, repository: str, offered: Mapping[str, bytes], *, now: datetime
) -> bool:
    """Take what a keys folder says at start; return whether anything was new.

    The first start takes the whole set. Later ones take new roots of the assignments
    only, which are signed anew here; new roots of the artefacts come with the set
    that goes with them.

    Raises:
        TrustError: The folder belongs to other keys than the database does, has no
            root to begin with, or its set does not verify.
    """
    known, first = held(connection, repository), offered.get(_FIRST_ROOT)
    if first is None:
        raise TrustError(f"there is no {repository}/{_FIRST_ROOT} among the public keys")
    if trust.repository_of(first) != repository:
        raise TrustError(f"{repository}/{_FIRST_ROOT} is the root of the other repository")
    if known.get(_FIRST_ROOT, first) != first:
        raise TrustError(
            f"this state belongs to other keys: its {repository} root is another one",
            hint="Start with the keys it was made with, or with a new state folder.",
        )
    if not known and TIMESTAMP in offered:
        rest = {name: data for name, data in offered.items() if name != _FIRST_ROOT}
        signing.verify_set(rest, first, now=now)
    if known and repository == ARTEFACTS:
        return False
    new = {name: data for name, data in offered.items() if name not in known}
    if new:
        replace_held(connection, repository, {**known, **new})
    return bool(new)


def replace_if_unchanged(
    connection: Connection, new: Mapping[str, bytes], *, expected_version: int
) -> None:
    """Let ``new``, verified against the set of ``expected_version``, be the artefacts.

    Raises:
        ConflictError: Someone published in between.
    """
    if version_of(held(connection, ARTEFACTS)) != expected_version:
        raise ConflictError(
            "someone else published in the meantime",
            hint="Fetch what they published and sign again.",
        )
    if new:
        replace_held(connection, ARTEFACTS, new)


def version_of(files: Mapping[str, bytes]) -> int:
    """Return the version of a set's timestamp; 0 when it has none.

    Raises:
        TrustError: It is not metadata.
    """
    if TIMESTAMP not in files:
        return 0
    version = trust.signed_part(files[TIMESTAMP], TIMESTAMP).get("version")
    if not isinstance(version, int):
        raise TrustError(f"{TIMESTAMP} has no version")
    return version


def newest_root(files: Mapping[str, bytes]) -> bytes:
    """Return the newest root of a set.

    Raises:
        TrustError: It has none.
    """
    root = trust.newest_root(files)[1]
    if root is None:
        raise TrustError("there is no root among the metadata")
    return root


def verify(
    offered: Mapping[str, bytes], now_held: Mapping[str, bytes], *, now: datetime
) -> dict[str, bytes]:
    """Return the part of ``offered`` that becomes the new set, once it verifies.

    Raises:
        ConflictError: It has the version that is held, but other bytes.
        TrustError: It does not verify against the newest root that is held.
    """
    if offered.get(TIMESTAMP) == now_held.get(TIMESTAMP):
        return {}
    new = {
        name: data
        for name, data in offered.items()
        if not name.endswith(_ROOT) or now_held.get(name) != data
    }
    signing.verify_set(
        new,
        newest_root(now_held),
        now=now,
        previous_version=version_of(now_held),
        held={n: data for n, data in now_held.items() if not n.endswith(_ROOT)},
    )
    return new


def check_offer(offer: Offer, files: Mapping[str, bytes], blobs: Blobs) -> None:
    """Refuse an offer unless the signed set, the bytes and what is said of them agree.

    Raises:
        TrustError: The set does not name this release with these bytes.
        NotFoundError: The bytes are not here.
    """
    release = parse_release(offer.release)
    target = trusted(files).targets.get(offer.path)
    if target is None:
        raise TrustError(f"the signed metadata does not name {offer.path}")
    said = (target.custom.get("release"), target.sha256, target.length)
    if said != (str(release), offer.digest, offer.length):
        raise TrustError(
            f"{offer.path} is signed as {said[0]} with {digest.short(target.sha256)} and "
            f"{target.length} bytes, offered as {release} with {offer.digest[:19]} and "
            f"{offer.length} bytes"
        )
    _check_blob(target, blobs)


def publish(
    connection: Connection, offer: Offer, *, actor: str, at_ms: int
) -> tuple[dict[str, Any], bool]:
    """Record a release whose metadata is in place; return it, and whether it was new.

    Raises:
        ConflictError: The number is taken by other bytes, or is not the highest.
    """
    known = _is_known(connection, offer)
    if not known:
        release = parse_release(offer.release)
        row = {
            "release": offer.release,
            "name": release.name,
            "version": release.version,
            "digest": offer.digest,
            "length": offer.length,
            "path": offer.path,
        }
        connection.execute(
            insert(releases).values(**row, published_by=actor, published_ms=at_ms)
        )
    return get(connection, offer.release), not known


def get(connection: Connection, release: str) -> dict[str, Any]:
    """Return one release.

    Raises:
        NotFoundError: There is no such release.
    """
    wanted = select(releases).where(releases.c.release == release)
    row = connection.execute(wanted).one_or_none()
    if row is None:
        raise NotFoundError(
            f"there is no release {release:.80}", hint="Publish it first: edgewright publish."
        )
    return dict(row._mapping)  # noqa: SLF001  SQLAlchemy's documented name


def signed_release(connection: Connection, release: str) -> dict[str, Any]:
    """Return one release that the metadata handed out now still names.

    Raises:
        NotFoundError: There is no such release.
        ConflictError: It is no longer signed, so no device would take it.
    """
    row = get(connection, release)
    target = trusted(held(connection, ARTEFACTS)).targets.get(row["path"])
    if target is None or target.sha256 != row["digest"]:
        raise ConflictError(
            f"{release} is no longer named by the signed metadata",
            hint="Sign it again, or roll out another release.",
        )
    return row


def all_releases(
    connection: Connection, *, after: str = "", limit: int = 500
) -> list[dict[str, Any]]:
    """Return up to ``limit`` releases with names above ``after``."""
    table = releases
    wanted = select(table).where(table.c.release > after).order_by(table.c.release)
    return [
        dict(row._mapping)  # noqa: SLF001  SQLAlchemy's documented name
        for row in connection.execute(wanted.limit(limit))
    ]


def trusted(files: Mapping[str, bytes]) -> Trusted:
    """Return what a set says that has been verified before."""
    return trust.read(newest_root(files), files)


def _is_known(connection: Connection, offer: Offer) -> bool:
    """Return whether exactly this is published; refuse other bytes and older numbers."""
    release, table = parse_release(offer.release), releases
    known = connection.execute(
        select(table).where(table.c.release == offer.release)
    ).one_or_none()
    if known is not None and (known.digest, known.length) != (offer.digest, offer.length):
        raise ConflictError(
            f"{release} is published as {digest.short(known.digest)} already",
            hint="A published number keeps its bytes for ever; pack a higher version.",
        )
    newest = connection.scalar(
        select(func.max(table.c.version)).where(table.c.name == release.name)
    )
    if known is None and newest is not None and release.version < newest:
        raise ConflictError(
            f"{release} is older than {release.name}@{newest}, which is published",
            hint=f"Pack it as version {newest + 1}.",
        )
    return known is not None


def _check_blob(target: TrustedTarget, blobs: Blobs) -> None:
    """Refuse a release whose bytes are missing, or do not begin as its signer said."""
    name = digest.hex_of(target.sha256)
    length = blobs.length(name)
    if length is None:
        raise NotFoundError(
            f"the bytes of {target.path} are not here",
            hint=f"Upload them first: PUT /v1/blobs/{name}.",
        )
    header = target.custom.get("header_length")
    if length != target.length or not isinstance(header, int) or not 0 < header <= length:
        raise TrustError(
            f"{target.path} is signed with {target.length} bytes and a header of {header!r}, "
            f"the upload has {length} bytes"
        )
    with blobs.open(name) as file:
        found = hashlib.sha256(file.read(header)).hexdigest()
    if digest.PREFIX + found != target.custom.get("header_sha256"):
        raise TrustError(f"the header of {target.path} is not the one that was signed")
