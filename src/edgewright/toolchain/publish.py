"""Publish: sign what may be installed, and hand it to a control plane.

The metadata a server hands out is verified against the roots in ``public`` before
anything is added to it. Its age does not matter there, since it is signed anew. So
a server can refuse to publish, but cannot make the publisher sign what it has not
seen. ``public`` then becomes a copy of what the server took.
"""

import base64
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgewright.bundle import archive, signing, trust, workflow
from edgewright.bundle.trust import ARTEFACTS, Trusted
from edgewright.core import canonical, digest
from edgewright.core.errors import ConflictError, ExpiredError, TrustError
from edgewright.core.names import Release
from edgewright.wire.http import Client

_TRUST = f"/v1/trust/{ARTEFACTS}"

_FIRST_ROOT = "1.root.json"
_OK, _NOT_FOUND = 200, 404

# Before any metadata was signed: nothing has expired then.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# How often to sign again when someone else was faster.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Published:
    """A release that a control plane has taken.

    Attributes:
        release: Name and number.
        digest: Of the whole archive.
        length: In bytes.
        path: Its target path in the artefact repository.
        version: Of the timestamp it stands under.
        expires: When the first file of that set does.
        already: It was published before, with these very bytes.
    """

    release: Release
    digest: str
    length: int
    path: str
    version: int
    expires: datetime
    already: bool


@dataclass(frozen=True, slots=True)
class Refreshed:
    """Metadata that has been signed anew.

    Attributes:
        version: Of the timestamp.
        expires: When the first file of the set does.
        targets: The targets were signed anew too.
        roots: Versions of the roots the server did not have yet.
    """

    version: int
    expires: datetime
    targets: bool
    roots: tuple[int, ...]


def publish(path: Path, *, keys_dir: Path, client: Client, now: datetime) -> Published:
    """Verify an archive, upload it, sign it and have the server take it.

    Args:
        path: An ``.ewb``; all of it is verified first.
        keys_dir: With ``private/{releases,freshness}.key`` and ``public/artefacts/``.
        client: Of a control plane, with a token of scope ``operate``.
        now: When the metadata begins to live.

    Raises:
        BundleError: The archive is damaged.
        ConflictError: The number is published with other bytes; or someone else was
            faster, three times in a row.
        TrustError: A key is missing or was replaced, or what the server hands out does
            not verify.
        TransportError: The server did not answer as it should.
    """
    releases, freshness = (signing.load_key(keys_dir, n) for n in ("releases", "freshness"))
    with archive.Archive(path) as opened:
        opened.verify()
        offer = _Offer(path, opened.header, opened.digest())

    def attempt() -> Published:
        held = _fetch(client, keys_dir)
        repository = signing.ArtefactRepository.load(held.files)
        if not repository.add_target(offer.target, offer.length, offer.digest, offer.custom):
            return offer.published(
                trust.read(held.files[_FIRST_ROOT], held.files), already=True
            )
        _upload(client, offer)
        files = repository.sign(releases, freshness, now)
        taken = _send(client, "/v1/releases", offer.asked, _Signed(held, files, now), keys_dir)
        return offer.published(taken, already=False)

    # Someone else may publish between fetching and sending; the server then refuses.
    for _ in range(_ATTEMPTS - 1):
        with suppress(ConflictError):
            return attempt()
    return attempt()


def refresh(
    keys_dir: Path, client: Client, *, targets: bool = False, now: datetime
) -> Refreshed:
    """Sign the artefacts' snapshot and timestamp anew, and have the server take them.

    New roots go with them, and so do the targets when ``targets`` asks for it or the
    releases key has been replaced.

    Raises:
        As ``publish``; ExpiredError: The targets or the root have expired, which new
        timestamps do not mend.
    """
    freshness = signing.load_key(keys_dir, "freshness")
    held = _fetch(client, keys_dir)
    repository = signing.ArtefactRepository.load(held.files)
    again = targets or not repository.targets_signed()
    files = (
        repository.sign(signing.load_key(keys_dir, "releases"), freshness, now)
        if again
        else repository.refresh_freshness(freshness, now)
    )
    taken = _send(client, _TRUST, {}, _Signed(held, files, now), keys_dir)
    new = sorted(trust.split_name(name)[0] or 0 for name in held.roots(after=held.root))
    return Refreshed(taken.version, taken.expires, again, tuple(new))


@dataclass(frozen=True, slots=True)
class _Offer:
    """What is to be published."""

    file: Path
    header: archive.Header
    digest: str

    @property
    def release(self) -> Release:
        return self.header.manifest.release

    @property
    def length(self) -> int:
        return self.header.archive_bytes

    @property
    def target(self) -> str:
        return f"{self.release.name}/{self.release.version}.ewb"

    @property
    def custom(self) -> dict[str, int | str]:
        """What authenticates the header, and through it every chunk of a download."""
        return {
            "format": self.header.manifest.format,
            "header_length": self.header.length,
            "header_sha256": self.header.sha256,
            "release": str(self.release),
        }

    @property
    def asked(self) -> dict[str, Any]:
        return {
            "release": str(self.release),
            "digest": self.digest,
            "length": self.length,
            "path": self.target,
        }

    def published(self, trusted: Trusted, *, already: bool) -> Published:
        return Published(
            release=self.release,
            digest=self.digest,
            length=self.length,
            path=self.target,
            version=trusted.version,
            expires=trusted.expires,
            already=already,
        )


@dataclass(frozen=True, slots=True)
class _Held:
    """What a server hands out.

    Attributes:
        files: The set, and every root that is known here or there.
        root: Version of the newest root the server has.
    """

    files: dict[str, bytes]
    root: int

    def roots(self, *, after: int = 0) -> dict[str, bytes]:
        """Return the roots whose version is higher than ``after``."""
        found = {}
        for name, data in self.files.items():
            version, role = trust.split_name(name)
            if role == "root" and (version or 0) > after:
                found[name] = data
        return found


@dataclass(frozen=True, slots=True)
class _Signed:
    """A new set, what it replaces, and when it was signed."""

    held: _Held
    files: dict[str, bytes]
    now: datetime


def _fetch(client: Client, keys_dir: Path) -> _Held:
    """Return what the server hands out, verified; the set in ``public`` where it has none."""
    folder = keys_dir / "public" / ARTEFACTS
    known = _Held(signing.read_public(folder), root=1)
    if _FIRST_ROOT not in known.files:
        raise TrustError(
            f"there is no {_FIRST_ROOT} in {folder}",
            hint="Make keys first: edgewright keys init.",
        )

    def fetch(name: str) -> bytes | None:
        limit = trust.limit_bytes(name)
        answer = client.request("GET", f"{_TRUST}/{name}", limit_bytes=limit)
        if answer.status == _NOT_FOUND:
            return None
        client.refuse_failure(answer)
        return answer.body

    if fetch(trust.TIMESTAMP) is None:
        return known
    with TemporaryDirectory(prefix="edgewright-") as scratch:
        found = workflow.verified(
            known.files[_FIRST_ROOT], {}, fetch, now=_EPOCH, scratch=Path(scratch, "set")
        )
    roots = known.roots()
    for name in sorted(roots.keys() & found.keys()):
        if roots[name] != found[name]:
            raise TrustError(
                f"the server's {name} is not the one in {folder}",
                hint="Two people replaced a key at once; one public folder must go.",
            )
    return _Held(roots | found, root=max(trust.newest_root(found)[0], 1))


def _upload(client: Client, offer: _Offer) -> None:
    place = f"/v1/blobs/{digest.hex_of(offer.digest)}"
    if client.request("HEAD", place).status != _OK:
        client.upload(place, offer.file)


def _send(
    client: Client, place: str, document: dict[str, Any], signed: _Signed, keys_dir: Path
) -> Trusted:
    """Check a new set as a device would, send it with the roots that are new, and keep it."""
    held = signed.held
    sent = held.roots(after=held.root) | signed.files
    first = held.files[f"{held.root}.root.json"]
    try:
        trusted = signing.verify_set(sent, first, now=signed.now)
    except ExpiredError as error:
        raise ExpiredError(
            str(error),
            hint="Targets: edgewright keys refresh --targets. Root: edgewright keys rotate.",
        ) from error
    encoded = {name: base64.b64encode(data).decode() for name, data in sorted(sent.items())}
    asked = {**document, "metadata": encoded}
    key = digest.hex_of(digest.of_bytes(canonical.encode(asked)))
    client.call("POST", place, asked, headers={"Idempotency-Key": key})
    signing.write_public(keys_dir / "public" / ARTEFACTS, held.roots() | signed.files)
    return trusted
