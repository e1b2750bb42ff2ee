"""TUF metadata the way both our repositories write it.

| repository  | root     | targets     | snapshot, timestamp | lives, in days     |
|-------------|----------|-------------|---------------------|--------------------|
| artefacts   | root-1.. | releases    | freshness           | 365, 90, 30 and 30 |
| assignments | root-1.. | assignments | assignments         | 365, 7, 7 and 1    |

Equal keys, contents and time give equal bytes. Every file names its repository in
a signed field, every snapshot and targets file is named with length and digest,
and every key carries the name its file has.
"""

import copy
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import (  # type: ignore[attr-defined]  # it has no __all__
    Signature,
    SSlibKey,
)
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # its __all__ is computed
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from edgewright.bundle.keys import PrivateKey
from edgewright.bundle.trust import (
    ARTEFACTS,
    ASSIGNMENTS,
    REPOSITORY_FIELD,
    TIMESTAMP,
    check_time,
)
from edgewright.core import digest
from edgewright.core.errors import TrustError

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)

LIFETIME_DAYS = {
    ARTEFACTS: {"root": 365, "targets": 90, "snapshot": 30, "timestamp": 30},
    ASSIGNMENTS: {"root": 365, "targets": 7, "snapshot": 7, "timestamp": 1},
}

# Beside the root keys: the name of the key that signs each role.
SIGNERS = {
    ARTEFACTS: {"targets": "releases", "snapshot": "freshness", "timestamp": "freshness"},
    ASSIGNMENTS: dict.fromkeys(("targets", "snapshot", "timestamp"), "assignments"),
}

_KEY_FIELD = "x-edgewright-key"


def public_key(public: bytes, name: str) -> SSlibKey:
    """Return a raw ed25519 key as TUF lists it; its id is made from its content alone."""
    key = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(public))
    key.unrecognized_fields[_KEY_FIELD] = name
    return key


def key_ids(root: Root) -> dict[str, str]:
    """Return the id of every key in ``root`` by its name, in the order of the names."""
    named = {
        str(k.unrecognized_fields.get(_KEY_FIELD, i[:12])): i for i, k in root.keys.items()
    }
    return dict(sorted(named.items()))


def new_root(
    repository: str,
    root_keys: Mapping[str, bytes],
    others: Mapping[str, bytes],
    threshold: int,
) -> Metadata[Root]:
    """Return an unsigned first root.

    Args:
        repository: ``artefacts`` or ``assignments``.
        root_keys: Raw public keys by name.
        others: Raw public keys by name; those ``SIGNERS`` names are needed.
        threshold: How many of ``root_keys`` must sign the next root.
    """
    root = Root(version=1, unrecognized_fields={REPOSITORY_FIELD: repository})
    for name, public in root_keys.items():
        root.add_key(public_key(public, name), "root")
    root.roles["root"].threshold = threshold
    for role, name in SIGNERS[repository].items():
        root.add_key(public_key(others[name], name), role)
    return Metadata(root)


def next_root(
    root: Metadata[Root],
    name: str,
    public: bytes,
    signers: Sequence[PrivateKey],
    now: datetime,
) -> Metadata[Root]:
    """Return the root after ``root``, in which the key ``name`` is ``public``.

    When it is that already, an interrupted rotation goes on: ``root`` is returned.

    Args:
        root: The newest root.
        name: Of a key in it.
        public: Raw public key to take its place.
        signers: Of them, root keys of either root sign.
        now: When the new root begins to live.

    Raises:
        TrustError: The threshold of either root is not met.
    """
    old, key = root.signed, public_key(public, name)
    old_id = key_ids(old)[name]
    if old_id == key.keyid:
        return root
    new = copy.deepcopy(old)
    new.version += 1
    renew(new, repository_of(old), now)
    for role, users in old.roles.items():
        if old_id in users.keyids:
            new.revoke_key(old_id, role)
            new.add_key(key, role)
    made: Metadata[Root] = Metadata(new)
    payload = made.signed_bytes
    allowed = {*old.roles["root"].keyids, *new.roles["root"].keyids}
    for signer in signers:
        key_id = public_key(signer.public, "").keyid
        if key_id in allowed:
            made.signatures[key_id] = Signature(key_id, signer.sign(payload).hex())
    for judge in (old, new):
        result = judge.get_verification_result("root", payload, made.signatures)
        if not result:
            raise TrustError(
                f"{len(result.signed)} of {result.threshold} root keys that root "
                f"{judge.version} asks for are here",
                hint="Put the files of more root keys into private/.",
            )
    return made


def repository_of(signed: Signed) -> str:
    """Return the repository a file of ours says it belongs to.

    Raises:
        TrustError: It does not say.
    """
    name = signed.unrecognized_fields.get(REPOSITORY_FIELD)
    if name not in LIFETIME_DAYS:
        raise TrustError(f"{signed.type} metadata names no repository of ours: {name!r}")
    return str(name)


def parse(kind: type[S], data: bytes | None, name: str) -> Metadata[S]:
    """Return a metadata file as tuf reads it; its signatures are not judged.

    Raises:
        TrustError: There is none, or it is something else.
    """
    if data is None:
        raise TrustError(f"{name} is missing")
    try:
        found: Metadata[S] = Metadata.from_bytes(data)
    except RepositoryError as error:
        raise TrustError(f"{name} is not metadata: {error}") from error
    if not isinstance(found.signed, kind):
        raise TrustError(f"{name} is {found.signed.type} metadata, not {kind.type}")
    return found


def renew(signed: Signed, repository: str, now: datetime) -> None:
    """Let ``signed`` live from ``now`` on for as long as its role does."""
    days = LIFETIME_DAYS[repository][signed.type]
    signed.expires = check_time(now).replace(microsecond=0) + timedelta(days=days)


def sign(metadata: Metadata[S], root: Root, role: str, *keys: PrivateKey) -> None:
    """Sign with ``keys``, which replaces the signatures there were.

    Raises:
        TrustError: ``root`` does not name one of the keys for ``role``.
    """
    payload = metadata.signed_bytes
    made = [(check_signer(root, role, key), key.sign(payload)) for key in keys]
    metadata.signatures.clear()
    metadata.signatures.update({i: Signature(i, signed.hex()) for i, signed in made})


def check_signer(root: Root, role: str, key: PrivateKey) -> str:
    """Return the id of ``key`` if ``root`` lets it sign ``role``.

    Raises:
        TrustError: It does not.
    """
    key_id = public_key(key.public, "").keyid
    allowed = root.roles[role].keyids
    if key_id not in allowed:
        raise TrustError(
            f"key {key_id[:12]} may not sign {role}: root {root.version} names "
            f"{', '.join(known[:12] for known in allowed)}",
            hint="If a rotation was interrupted, run edgewright keys rotate again.",
        )
    return key_id


def finish(
    root: Root,
    listing: tuple[int, bytes],
    key: PrivateKey,
    *,
    snapshot: int,
    timestamp: int,
    now: datetime,
) -> dict[str, bytes]:
    """Return the complete set around a signed targets file.

    Args:
        root: Whose snapshot and timestamp role ``key`` has.
        listing: Version and bytes of the targets file.
        key: Signs both other files.
        snapshot: Version of the snapshot.
        timestamp: Version of the timestamp.
        now: When they begin to live.
    """
    repository = repository_of(root)
    field = {REPOSITORY_FIELD: repository}
    top: Metadata[Snapshot] = Metadata(
        Snapshot(
            snapshot, meta={"targets.json": _meta(*listing)}, unrecognized_fields=dict(field)
        )
    )
    renew(top.signed, repository, now)
    sign(top, root, "snapshot", key)
    stamp: Metadata[Timestamp] = Metadata(
        Timestamp(
            timestamp,
            snapshot_meta=_meta(snapshot, top.to_bytes()),
            unrecognized_fields=dict(field),
        )
    )
    renew(stamp.signed, repository, now)
    sign(stamp, root, "timestamp", key)
    return {
        f"{listing[0]}.targets.json": listing[1],
        f"{snapshot}.snapshot.json": top.to_bytes(),
        TIMESTAMP: stamp.to_bytes(),
    }


def new_targets(repository: str) -> Metadata[Targets]:
    """Return an empty, unsigned list of targets, version 0 in all but name.

    Signing counts a version up, and tuf knows no version below 1.
    """
    targets = Targets(unrecognized_fields={REPOSITORY_FIELD: repository})
    targets.version = 0
    return Metadata(targets)


def target_entry(
    path: str, length: int, sha256: str, custom: Mapping[str, int | str]
) -> TargetFile:
    """Return one line of the list of targets.

    Raises:
        BundleError: ``sha256`` is not a digest.
        TypeError: ``custom`` holds what signed JSON cannot (a caller's mistake).
    """
    for name, value in custom.items():
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise TypeError(f"custom {name!r} must be an integer or a string, got {value!r}")
    fields = {"custom": dict(custom)} if custom else {}
    return TargetFile(length, {"sha256": digest.hex_of(sha256)}, path, fields)


def _meta(version: int, data: bytes) -> MetaFile:
    hashes = {"sha256": digest.hex_of(digest.of_bytes(data))}
    return MetaFile(version, len(data), hashes)
