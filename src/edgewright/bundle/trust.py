"""What a device trusts: one set of TUF metadata, verified as a whole, kept as a whole.

A folder holds ``root.json``, the root it was born with, and ``current.json``, the
last set that verified: one file, so that a crash leaves the old set or the new
one. A refresh works on a copy in ``staging/`` and touches ``current.json`` only
when everything has been verified.

The common case costs little: when the server's ``timestamp.json`` is the one
held, every file it stands for is held too, and neither tuf nor cryptography is
imported. That is enough because every signer here, whatever it signs, signs a new
timestamp with it; who withholds that withholds everything, for as long as the
timestamp lives, with or without this short cut.

Source: The Update Framework specification 1.0.34, section 5.3.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from edgewright.core import clock, digest, durable, log
from edgewright.core.errors import (
    BundleError,
    ExpiredError,
    TransportError,
    TrustError,
    WireError,
)

ARTEFACTS, ASSIGNMENTS = "artefacts", "assignments"
REPOSITORIES = (ARTEFACTS, ASSIGNMENTS)

# Both repositories have the same root keys, so without this signed field in every
# file a root of one would be a valid root of the other, and the online key of the
# assignments could sign artefacts.
REPOSITORY_FIELD = "x-edgewright-repository"

TIMESTAMP = "timestamp.json"

Fetch = Callable[[str], bytes | None]

_CURRENT, _ROOT, _STAGING = "current.json", "root.json", "staging"
_FORMAT = 1
_LIMITS = {"root": 512_000, "timestamp": 16_384, "snapshot": 2_000_000, "targets": 5_000_000}
_NAME = re.compile(r"(?:([1-9][0-9]{0,14})\.)?(root|timestamp|snapshot|targets)\.json")


@dataclass(frozen=True, slots=True)
class TrustedTarget:
    """A file that a trusted set names.

    Attributes:
        path: Its name in the repository, ``digits/1.ewb``.
        length: In bytes.
        sha256: Digest of its bytes, ``sha256:`` and 64 hexadecimal digits.
        custom: What the signer says beside it: integers and strings.
    """

    path: str
    length: int
    sha256: str
    custom: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trusted:
    """A set of metadata that has been verified.

    Attributes:
        repository: ``artefacts`` or ``assignments``, as its root says.
        version: Of the timestamp; it only grows.
        targets: By path.
        expires: When the first of its files does.
    """

    repository: str
    version: int
    targets: dict[str, TrustedTarget]
    expires: datetime


def refresh(folder: Path, fetch: Fetch, *, now: datetime | None = None) -> Trusted:
    """Bring ``folder`` to what the server has, if all of it can be trusted.

    Args:
        folder: ``trust/<repository>/``, with the embedded ``root.json``.
        fetch: Returns a file of the repository by name, None where the server has
            none (404); it should stop at ``limit_bytes(name)``. When the server
            says that ``timestamp.json`` has not changed, return ``timestamp(folder)``.
        now: The time to judge expiry at; the machine's own by default.

    Raises:
        ExpiredError: A file is too old to act on.
        RollbackError: The server offers less than what was trusted before.
        TrustError: A wrong signature, a file of another set, too many bytes.
        TransportError: The server has no such file, or ``fetch`` raised it.
        StorageError: The disk refused.

        After each of them ``folder`` trusts what it trusted before.
    """
    moment = _moment(now)
    root = _embedded(folder)
    held = _held_or_nothing(folder)
    durable.sweep(folder)
    durable.remove(folder / _STAGING)
    offered = fetch(TIMESTAMP)
    if offered is None:
        raise TransportError(f"the server has no {repository_of(root)} {TIMESTAMP}")
    if held.get(TIMESTAMP) == offered:
        known = read(root, held)
        if moment < known.expires:
            return known

    # Imported here so that an unchanged set costs neither the time nor the memory.
    from edgewright.bundle import workflow  # noqa: PLC0415

    try:
        files = workflow.verified(
            root,
            held,
            lambda name: offered if name == TIMESTAMP else fetch(name),
            now=moment,
            scratch=folder / _STAGING,
        )
    finally:
        durable.remove(folder / _STAGING)
    trusted = read(root, files)
    if files != held:
        durable.replace_file(folder / _CURRENT, _pack(files))
    return trusted


def load(folder: Path, *, now: datetime | None = None) -> Trusted:
    """Return the last good set without asking anyone; nothing of tuf is imported.

    Raises:
        ExpiredError: A file of it is too old to act on.
        TrustError: Nothing was trusted yet, or ``current.json`` is damaged.
    """
    moment = _moment(now)
    root = _embedded(folder)
    trusted = read(root, _held(folder))
    if moment >= trusted.expires:
        raise ExpiredError(
            f"the {trusted.repository} metadata expired at {clock.show(trusted.expires)}",
            hint="Refresh it, and check this machine's clock.",
        )
    return trusted


def timestamp(folder: Path) -> bytes | None:
    """Return the ``timestamp.json`` that is held, for a conditional GET; None if none is."""
    return _held_or_nothing(folder).get(TIMESTAMP)


def limit_bytes(name: str) -> int:
    """Return how long the metadata file ``name`` may be, before anything is known of it.

    Raises:
        ValueError: Metadata files are not called so.
    """
    return _LIMITS[split_name(name)[1]]


def is_metadata(name: str) -> bool:
    """Return whether a metadata file may be called ``name``."""
    match = _NAME.fullmatch(name)
    return match is not None and (match[1] is None) == (match[2] == "timestamp")


def split_name(name: str) -> tuple[int | None, str]:
    """Return version and role of a file name: ``3.root.json`` is ``(3, "root")``.

    Raises:
        ValueError: Metadata files are not called so.
    """
    match = _NAME.fullmatch(name)
    if match is None or not is_metadata(name):
        raise ValueError(f"{name!r} is not the name of a metadata file")
    return (int(match[1]) if match[1] else None), match[2]


def target_file(target: TrustedTarget) -> str:
    """Return where a target lies below ``targets/``: its name behind its digest."""
    head, slash, name = target.path.rpartition("/")
    return f"{head}{slash}{digest.hex_of(target.sha256)}.{name}"


def repository_of(root: bytes) -> str:
    """Return which repository a root belongs to, as it says itself.

    Raises:
        TrustError: It does not say.
    """
    name = signed_part(root, _ROOT).get(REPOSITORY_FIELD)
    if name not in REPOSITORIES:
        raise TrustError(f"the root names the repository {name!r}, not one of {REPOSITORIES}")
    return cast("str", name)


def signed_part(data: bytes, name: str) -> dict[str, Any]:
    """Return what is signed in a metadata file, without judging the signatures.

    Raises:
        TrustError: It is not such a file.
    """
    try:
        signed = json.loads(data.decode())["signed"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrustError(f"{name} is not metadata: {error}") from error
    if not isinstance(signed, dict):
        raise TrustError(f"{name} is not metadata: nothing is signed")
    return signed


def newest_root(files: Mapping[str, bytes]) -> tuple[int, bytes | None]:
    """Return version and bytes of the newest root in ``files``; ``(0, None)`` without one."""
    versions = [version for name in files if (version := _root_version(name))]
    newest = max(versions, default=0)
    return newest, files.get(f"{newest}.root.json")


def read(root: bytes, files: Mapping[str, bytes]) -> Trusted:
    """Return what a set says that has been verified before; nothing is verified here.

    Args:
        root: The root to begin with, used where ``files`` has no newer one.
        files: ``timestamp.json``, the snapshot it names, the targets that names.

    Raises:
        TrustError: A file is missing, or does not say what ours always say.
    """
    repository = repository_of(root)
    newest = newest_root(files)[1] or root
    try:
        stamp = signed_part(files[TIMESTAMP], TIMESTAMP)
        snapshot = _named(files, "snapshot", stamp["meta"]["snapshot.json"])
        listing = _named(files, "targets", snapshot["meta"]["targets.json"])
        parts = (signed_part(newest, _ROOT), stamp, snapshot, listing)
        return Trusted(
            repository=repository,
            version=int(stamp["version"]),
            targets={path: _target(path, item) for path, item in listing["targets"].items()},
            expires=min(clock.parse(part["expires"]) for part in parts),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TrustError(f"the {repository} set is incomplete: {error!r}") from error
    except (BundleError, WireError) as error:
        raise TrustError(f"the {repository} set is not one of ours: {error}") from error


def check_time(moment: datetime) -> datetime:
    """Return ``moment`` if it says its time zone.

    Raises:
        ValueError: It does not (a caller's mistake).
    """
    if moment.utcoffset() is None:
        raise ValueError(f"{moment} has no time zone; expiry is judged in UTC")
    return moment


def _moment(now: datetime | None) -> datetime:
    return clock.SystemClock().now() if now is None else check_time(now)


def _embedded(folder: Path) -> bytes:
    try:
        return (folder / _ROOT).read_bytes()
    except OSError as error:
        raise TrustError(
            f"there is no root to begin with in {folder}: {error.strerror}",
            hint="Enrol the device again; its root.json is what all trust rests on.",
        ) from error


def _held_or_nothing(folder: Path) -> dict[str, bytes]:
    """Return the set that is held; a missing or damaged one is as good as none.

    A set that bit rot has reached is fetched anew rather than keeping a device
    from all updates for ever; who can write here needs no such detour.
    """
    if not (folder / _CURRENT).exists():
        return {}
    try:
        return _held(folder)
    except TrustError as error:
        log.event("trust", "damaged set dropped", folder=folder.name, reason=str(error))
        return {}


def _held(folder: Path) -> dict[str, bytes]:
    path = folder / _CURRENT
    try:
        document = json.loads(path.read_bytes())
        files = {str(name): text.encode() for name, text in document["files"].items()}
        whole = document["format"] == _FORMAT and document["sha256"] == _checksum(files)
    except FileNotFoundError as error:
        raise TrustError(
            f"nothing was trusted in {folder.name} yet", hint="Refresh it first."
        ) from error
    except OSError as error:
        raise TrustError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TrustError(f"{path} is damaged: {error!r}") from error
    if not whole:
        raise TrustError(f"{path} is damaged: its checksum does not hold")
    return files


def _pack(files: Mapping[str, bytes]) -> bytes:
    document = {
        "files": {name: data.decode() for name, data in files.items()},
        "format": _FORMAT,
        "sha256": _checksum(files),
    }
    return json.dumps(document, sort_keys=True, indent=1).encode()


def _checksum(files: Mapping[str, bytes]) -> str:
    """Return a digest against bit rot; what protects from people is the signatures."""
    lines = [f"{name} {digest.of_bytes(files[name])}\n" for name in sorted(files)]
    return digest.of_bytes("".join(lines).encode())


def _root_version(name: str) -> int:
    match = _NAME.fullmatch(name)
    return int(match[1]) if match and match[1] and match[2] == "root" else 0


def _named(files: Mapping[str, bytes], role: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    name = f"{int(meta['version'])}.{role}.json"
    return signed_part(files[name], name)


def _target(path: str, item: Mapping[str, Any]) -> TrustedTarget:
    if any(part in {"", ".", ".."} for part in path.split("/")) or "\\" in path:
        raise ValueError(f"target {path!r} is not a plain relative path")
    custom = item.get("custom", {})
    return TrustedTarget(
        path=path,
        length=int(item["length"]),
        sha256=digest.check(digest.PREFIX + item["hashes"]["sha256"]),
        custom=dict(custom),
    )
