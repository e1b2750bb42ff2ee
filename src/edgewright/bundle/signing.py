"""The side that signs: a folder of keys, and the two repositories as files.

A repository is a mapping from file names to bytes, as a server hands them out.
Whatever is signed here comes with a new timestamp: devices take an unchanged one
to mean that nothing has changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tuf.api.metadata import (  # type: ignore[attr-defined]  # its __all__ is computed
    Metadata,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)

from edgewright.bundle import metadata, trust, workflow
from edgewright.bundle.keys import PrivateKey
from edgewright.bundle.trust import ARTEFACTS, ASSIGNMENTS, TIMESTAMP, Trusted
from edgewright.core import digest, durable
from edgewright.core.errors import ConflictError, RollbackError, TrustError, UsageError

_MAX_ROOT_KEYS = 32
_OTHERS = ("releases", "freshness", "assignments")
_NEXT = ".next.key"
_MAKING = ".new~"


class ArtefactRepository:
    """The releases that may be installed anywhere.

    Attributes:
        version: Of the timestamp; 0 before the first.
    """

    def __init__(
        self, root: Metadata[Root], targets: Metadata[Targets], listing: bytes = b""
    ) -> None:
        self._root = root.signed
        self._targets = targets
        self._listing = listing
        self._snapshot = 0
        self.version = 0

    @classmethod
    def load(cls, files: Mapping[str, bytes]) -> "ArtefactRepository":
        """Return what ``files`` hold: the newest root, and the set with the timestamp.

        Nothing is verified here; ``verify_set`` does.

        Raises:
            TrustError: A file is missing, or is not metadata.
        """
        root = metadata.parse(Root, trust.newest_root(files)[1], "root.json")
        stamp, snapshot, targets = _set_of(files)
        listing = files[f"{targets.signed.version}.targets.json"]
        found = cls(root, targets, listing)
        found.version = stamp.signed.version
        found._snapshot = snapshot.signed.version
        return found

    def add_target(
        self, path: str, length: int, sha256: str, custom: Mapping[str, int | str]
    ) -> bool:
        """Name one more file; return False when these bytes have that name already.

        Args:
            path: ``<name>/<version>.ewb``.
            length: In bytes.
            sha256: Digest of the whole file, ``sha256:...``.
            custom: Integers and strings; signed JSON has no floats.

        Raises:
            ConflictError: ``path`` names other bytes already; a release never changes.
        """
        made = metadata.target_entry(path, length, sha256, custom)
        known = self._targets.signed.targets.setdefault(path, made)
        if known.hashes != made.hashes or known.length != length:
            old = str(known.hashes.get("sha256"))[:12]
            raise ConflictError(
                f"{path} is published as {old}, and cannot become {digest.short(sha256)}",
                hint="A published number keeps its bytes for ever; pack a higher version.",
            )
        return known is made

    def sign(
        self, releases_key: PrivateKey, freshness_key: PrivateKey, now: datetime
    ) -> dict[str, bytes]:
        """Sign all of it anew; return the complete set, every version one higher.

        Raises:
            TrustError: The newest root names other keys than these.
        """
        metadata.check_signer(self._root, "targets", releases_key)
        metadata.check_signer(self._root, "timestamp", freshness_key)
        self._targets.signed.version += 1
        metadata.renew(self._targets.signed, ARTEFACTS, now)
        metadata.sign(self._targets, self._root, "targets", releases_key)
        self._listing = self._targets.to_bytes()
        return self._finish(freshness_key, now)

    def refresh_freshness(self, freshness_key: PrivateKey, now: datetime) -> dict[str, bytes]:
        """Sign snapshot and timestamp anew; return the complete set.

        Raises:
            TrustError: The newest root names another freshness key, or a releases key
                that did not sign the targets.
        """
        if not self.targets_signed():
            raise TrustError(
                "the targets are not signed by the releases key of the newest root",
                hint="Sign them again with it: edgewright keys refresh --targets.",
            )
        metadata.check_signer(self._root, "timestamp", freshness_key)
        return self._finish(freshness_key, now)

    def targets_signed(self) -> bool:
        """Return whether the releases key of the newest root signed the targets."""
        signed = self._targets
        result = self._root.get_verification_result(
            "targets", signed.signed_bytes, signed.signatures
        )
        return bool(result)

    def _finish(self, key: PrivateKey, now: datetime) -> dict[str, bytes]:
        self._snapshot += 1
        self.version += 1
        listing = (self._targets.signed.version, self._listing)
        versions = {"snapshot": self._snapshot, "timestamp": self.version}
        return metadata.finish(self._root, listing, key, **versions, now=now)


class AssignmentRepository:
    """What devices should run; signed online, every time it changes."""

    def __init__(self, root: bytes, key: PrivateKey) -> None:
        self._root = metadata.parse(Root, root, "root.json").signed
        self._key = key

    def sign(
        self, targets: Mapping[str, bytes], *, version: int, now: datetime
    ) -> dict[str, bytes]:
        """Return every file to be handed out below ``/v1/trust/assignments/``.

        Args:
            targets: Documents by path, ``rollouts/stable.json``; all there are.
            version: Of all three roles; one higher than ever signed before.
            now: When they begin to live.

        Returns:
            The complete set, and each document at ``targets/<dir>/<hex>.<name>``.

        Raises:
            TrustError: The root names another assignments key.
        """
        listing = metadata.new_targets(ASSIGNMENTS)
        listing.signed.version = version
        for path, data in targets.items():
            listing.signed.targets[path] = metadata.target_entry(
                path, len(data), digest.of_bytes(data), {}
            )
        metadata.renew(listing.signed, ASSIGNMENTS, now)
        metadata.sign(listing, self._root, "targets", self._key)
        versions = {"snapshot": version, "timestamp": version}
        pair = (version, listing.to_bytes())
        files = metadata.finish(self._root, pair, self._key, **versions, now=now)
        for path, data in targets.items():
            target = trust.TrustedTarget(path, len(data), digest.of_bytes(data))
            files[f"targets/{trust.target_file(target)}"] = data
        return files


def verify_set(
    files: Mapping[str, bytes],
    root: bytes,
    *,
    now: datetime,
    previous_version: int = 0,
    held: Mapping[str, bytes] | None = None,
) -> Trusted:
    """Return what an uploaded set says, once all of it verifies like on a device.

    Args:
        files: ``timestamp.json``, the snapshot and the targets it stands for, and any
            roots after ``root``; nothing else.
        root: The newest root trusted so far.
        now: The time expiry is judged at.
        previous_version: Of the timestamp that is handed out now.
        held: The set that is handed out now; when given, snapshot and targets may not
            go back behind it either.

    Raises:
        ConflictError: Someone else signed this version in the meantime.
        RollbackError: It is older than what is handed out now.
        ExpiredError: A file of it has expired.
        TrustError: It does not verify, a file is missing, or one too many is there.
    """
    if missing := {TIMESTAMP} - set(files):
        raise TrustError(f"the set has no {missing.pop()}")
    version = metadata.parse(Timestamp, files[TIMESTAMP], TIMESTAMP).signed.version
    if version == previous_version:
        raise ConflictError(
            f"timestamp {version} was signed by someone else in the meantime",
            hint="Fetch what they published and sign again.",
        )
    if version < previous_version:
        raise RollbackError(f"timestamp {version} is older than {previous_version}")
    with TemporaryDirectory(prefix="edgewright-") as scratch:
        found = workflow.verified(
            root, held or {}, files.get, now=now, scratch=Path(scratch, "set")
        )
    if extra := sorted(set(files) - set(found)):
        raise TrustError(f"{extra[0]} does not belong to the set")
    return trust.read(root, found)


def init(
    keys_dir: Path, *, root_keys: int = 5, root_threshold: int = 3, now: datetime
) -> None:
    """Make all keys and both repositories, or nothing.

    Writes ``private/{root-1..,releases,freshness,assignments}.key`` and
    ``public/{artefacts,assignments}/``; who gets ``public`` can verify, no more.

    Raises:
        UsageError: A threshold that cannot be met.
        TrustError: The folder holds something already.
        StorageError: The disk refused.
    """
    if not 1 <= root_threshold <= root_keys <= _MAX_ROOT_KEYS:
        raise UsageError(
            f"{root_threshold} of {root_keys} root keys is not a threshold",
            hint=f"Use 1 <= threshold <= root keys <= {_MAX_ROOT_KEYS}.",
        )
    keys_dir = keys_dir.resolve()
    if keys_dir.exists():
        if not keys_dir.is_dir() or any(keys_dir.iterdir()):
            raise TrustError(f"{keys_dir} is not empty", hint="Keys are never overwritten.")
        durable.remove(keys_dir)
    making = keys_dir.with_name(keys_dir.name + _MAKING)
    durable.remove(making)
    roots = {
        name: PrivateKey.create(making / "private" / f"{name}.key")
        for name in (f"root-{number}" for number in range(1, root_keys + 1))
    }
    others = {n: PrivateKey.create(making / "private" / f"{n}.key") for n in _OTHERS}
    for repository in trust.REPOSITORIES:
        root = metadata.new_root(
            repository,
            {name: key.public for name, key in roots.items()},
            {name: key.public for name, key in others.items()},
            root_threshold,
        )
        metadata.renew(root.signed, repository, now)
        metadata.sign(root, root.signed, "root", *roots.values())
        files = {"1.root.json": root.to_bytes()}
        if repository == ARTEFACTS:
            empty = ArtefactRepository(root, metadata.new_targets(ARTEFACTS))
            files |= empty.sign(others["releases"], others["freshness"], now)
        write_public(making / "public" / repository, files)
    durable.replace_tree(making, keys_dir)


def tidy(keys_dir: Path) -> None:
    """Remove what killed commands left: half-made folders, and copies of private keys.

    Nothing of it is in use; a key that a rotation has begun with stays, to finish it.

    Raises:
        StorageError: The disk refused.
    """
    keys_dir = keys_dir.resolve()
    for path in keys_dir.parent.glob(f"*{_MAKING}"):
        # One ending more for every time that removing it was interrupted.
        if path.name.replace(_MAKING, "") == keys_dir.name:
            durable.remove(path)
    private = keys_dir / "private"
    for folder in (private, *(keys_dir / "public" / name for name in trust.REPOSITORIES)):
        durable.sweep(folder)
    for upcoming in private.glob(f"*{_NEXT}"):
        if _same(upcoming, _key_file(keys_dir, upcoming.name.removesuffix(_NEXT))):
            durable.remove(upcoming)


def read_public(folder: Path) -> dict[str, bytes]:
    """Return the files of ``public/<repository>/``.

    Raises:
        TrustError: There is no such folder, or a file in it cannot be read.
    """
    if not folder.is_dir():
        raise TrustError(
            f"there is no {folder}", hint="Make keys first: edgewright keys init DIR."
        )
    try:
        found = sorted(path for path in folder.iterdir() if trust.is_metadata(path.name))
        return {path.name: path.read_bytes() for path in found}
    except OSError as error:
        raise TrustError(f"cannot read {error.filename}: {error.strerror}") from error


def write_public(folder: Path, files: Mapping[str, bytes]) -> None:
    """Store a set durably, its timestamp last, and drop what it replaces; roots stay."""
    for name in sorted(files, key=lambda name: (name == TIMESTAMP, name)):
        durable.replace_file(folder / name, files[name])
    for path in folder.iterdir():
        superseded = trust.is_metadata(path.name) and not path.name.endswith(".root.json")
        if superseded and path.name not in files:
            durable.remove(path)


@dataclass(frozen=True, slots=True)
class Rotation:
    """A key that has been replaced.

    Attributes:
        name: Of the key, ``releases`` or ``root-2``.
        key_id: Of the key that is called so now.
        roots: Version of the root that says so, by repository.
    """

    name: str
    key_id: str
    roots: dict[str, int]


def rotate(keys_dir: Path, name: str, *, now: datetime) -> Rotation:
    """Replace one key by a new one, in a new root of every repository that knows it.

    The artefacts in ``public`` are signed anew as well. The file of the old key, which
    need not be there, is overwritten: whoever has a copy can do nothing with it once a
    device has seen the new root. Interrupted, it is finished by calling it again.

    Raises:
        UsageError: No key is called ``name``.
        TrustError: Too few root keys are here, or a key to sign the artefacts with is
            not; nothing was changed.
        StorageError: The disk refused; call it again.
    """
    roots = {r: _newest_root(keys_dir, r) for r in trust.REPOSITORIES}
    upcoming = keys_dir / "private" / f"{name}{_NEXT}"
    _check_rotation(name, roots, upcoming)
    resumed = upcoming.exists()
    key = PrivateKey.load(upcoming) if resumed else PrivateKey.create(upcoming)
    try:
        made = _replace_key(keys_dir, name, key, roots, now)
    except TrustError:
        if not resumed:
            durable.remove(upcoming)
        raise
    for repository, files in made.items():
        write_public(keys_dir / "public" / repository, files)
    durable.replace_file(_key_file(keys_dir, name), upcoming.read_bytes(), mode=0o600)
    durable.remove(upcoming)
    return Rotation(
        name,
        metadata.public_key(key.public, name).keyid,
        {repository: trust.newest_root(files)[0] for repository, files in made.items()},
    )


def _replace_key(
    keys_dir: Path,
    name: str,
    key: PrivateKey,
    roots: Mapping[str, Metadata[Root]],
    now: datetime,
) -> dict[str, dict[str, bytes]]:
    """Return the new files of each repository that knows ``name``; nothing is written."""
    signers = [key, *_root_keys(keys_dir)]
    made = {}
    for repository, root in roots.items():
        if name not in metadata.key_ids(root.signed):
            continue
        new = metadata.next_root(root, name, key.public, signers, now)
        made[repository] = {f"{new.signed.version}.root.json": new.to_bytes()}
    if ARTEFACTS in made:
        held = read_public(keys_dir / "public" / ARTEFACTS)
        artefacts = ArtefactRepository.load(held | made[ARTEFACTS])
        freshness = key if name == "freshness" else load_key(keys_dir, "freshness")
        made[ARTEFACTS] |= (
            artefacts.sign(key, freshness, now)
            if name == "releases"
            else artefacts.refresh_freshness(freshness, now)
        )
    return made


@dataclass(frozen=True, slots=True)
class RoleState:
    """Who may sign what, and how long the file in ``public`` still lives.

    Attributes:
        repository: ``artefacts`` or ``assignments``.
        role: ``root``, ``targets``, ``snapshot`` or ``timestamp``.
        threshold: How many of ``keys`` must sign.
        keys: Key id by name.
        version: Of the file in ``public``; 0 where it is signed elsewhere.
        expires: Of that file.
    """

    repository: str
    role: str
    threshold: int
    keys: dict[str, str]
    version: int = 0
    expires: datetime | None = None


def describe(keys_dir: Path) -> list[RoleState]:
    """Return every role of both repositories, as the files in ``public`` say.

    Raises:
        TrustError: A file is missing, or is not metadata.
    """
    states = []
    for repository in trust.REPOSITORIES:
        files = read_public(keys_dir / "public" / repository)
        root = _newest_root(keys_dir, repository).signed
        names = {key_id: name for name, key_id in metadata.key_ids(root).items()}
        parts: dict[str, Root | Timestamp | Snapshot | Targets] = {"root": root}
        if TIMESTAMP in files:
            parts |= {part.signed.type: part.signed for part in _set_of(files)}
        for role in ("root", "targets", "snapshot", "timestamp"):
            who = root.roles[role]
            keys = {names[key_id]: key_id for key_id in who.keyids}
            part = parts.get(role)
            found = (part.version, part.expires) if part else (0, None)
            states.append(RoleState(repository, role, who.threshold, keys, *found))
    return states


def load_key(keys_dir: Path, name: str) -> PrivateKey:
    """Return the private key called ``name``.

    Raises:
        TrustError: It is not there, or others may read it.
    """
    return PrivateKey.load(_key_file(keys_dir, name))


def _set_of(
    files: Mapping[str, bytes],
) -> tuple[Metadata[Timestamp], Metadata[Snapshot], Metadata[Targets]]:
    """Return the timestamp in ``files``, the snapshot it names, and the targets that names.

    Raises:
        TrustError: One of them is missing, or is not metadata.
    """
    stamp = metadata.parse(Timestamp, files.get(TIMESTAMP), TIMESTAMP)
    name = f"{stamp.signed.snapshot_meta.version}.snapshot.json"
    snapshot = metadata.parse(Snapshot, files.get(name), name)
    meta = snapshot.signed.meta.get("targets.json")
    name = f"{meta.version if meta else 0}.targets.json"
    return stamp, snapshot, metadata.parse(Targets, files.get(name), name)


def _key_file(keys_dir: Path, name: str) -> Path:
    return keys_dir / "private" / f"{name}.key"


def _root_keys(keys_dir: Path) -> list[PrivateKey]:
    """Return the root keys that are here; in a ceremony not all need be."""
    found = sorted((keys_dir / "private").glob("root-*.key"))
    return [PrivateKey.load(path) for path in found if not path.name.endswith(_NEXT)]


def _same(one: Path, other: Path) -> bool:
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:
        return False


def _newest_root(keys_dir: Path, repository: str) -> Metadata[Root]:
    files = read_public(keys_dir / "public" / repository)
    return metadata.parse(Root, trust.newest_root(files)[1], f"root.json of {repository}")


def _check_rotation(name: str, roots: Mapping[str, Metadata[Root]], upcoming: Path) -> None:
    known = sorted({n for root in roots.values() for n in metadata.key_ids(root.signed)})
    if name not in known:
        raise UsageError(f"no key is called {name!r}", hint=f"Known: {', '.join(known)}.")
    for path in upcoming.parent.glob(f"*{_NEXT}"):
        if path != upcoming:
            begun = path.name.removesuffix(_NEXT)
            raise TrustError(
                f"the rotation of {begun} was interrupted",
                hint=f"Finish it first: edgewright keys rotate DIR {begun}.",
            )
