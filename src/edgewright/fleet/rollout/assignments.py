"""The signed documents: what the database wants, made so in a folder that devices read.

The folder is compared with what is wanted and signed anew only when they differ
or when half of the timestamp's life is over. Nothing is remembered in between,
so a process killed at any point is followed by one that sees what is missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from edgewright.bundle import metadata, signing, trust
from edgewright.bundle.keys import PrivateKey
from edgewright.bundle.trust import ASSIGNMENTS, TIMESTAMP, Trusted
from edgewright.core import clock, digest
from edgewright.core.errors import TrustError, WireError
from edgewright.fleet.rollout.ledger import Rollout
from edgewright.fleet.store.mirror import mirror, stored
from edgewright.wire import assignment

_HALF_LIFE = timedelta(days=metadata.LIFETIME_DAYS[ASSIGNMENTS]["timestamp"]) / 2


@dataclass(frozen=True, slots=True)
class Signed:
    """What lies in the folder.

    Attributes:
        version: Of the timestamp; 0 when there is none.
        documents: By target path; only those whose bytes are the signed ones.
        renew_at: When it should be signed anew; None when it is not a whole set.
    """

    version: int
    documents: dict[str, bytes]
    renew_at: datetime | None


class Assignments:
    """The assignments repository of one control plane.

    Args:
        folder: ``trust/assignments/``.
        roots: Its root metadata by file name.
        key: The online key that the newest root names.
    """

    def __init__(self, folder: Path, roots: Mapping[str, bytes], key: PrivateKey) -> None:
        newest = trust.newest_root(roots)[1]
        if newest is None:
            raise TrustError("the assignments have no root")
        self._folder = folder
        self._roots = dict(roots)
        self._repository = signing.AssignmentRepository(newest, key)

    def signed(self) -> Signed:
        """Return what lies in the folder now."""
        files = stored(self._folder)
        version = _version(files)
        try:
            listed = trust.read(self._roots["1.root.json"], files)
            stamp = trust.signed_part(files[TIMESTAMP], TIMESTAMP)
            expires = clock.parse(stamp["expires"])
        except (TrustError, WireError, KeyError):
            return Signed(version, {}, None)
        return Signed(version, _whole_documents(files, listed), expires - _HALF_LIFE)

    def due(self, wanted: Mapping[str, bytes], *, now: datetime) -> str:
        """Return why the folder must be signed anew; empty when it need not be."""
        found = self.signed()
        if found.renew_at is None:
            return "nothing whole is signed yet"
        if found.documents != dict(wanted):
            return "the documents changed"
        if now >= found.renew_at:
            return "half of the timestamp's life is over"
        return ""

    def write(self, wanted: Mapping[str, bytes], *, version: int, now: datetime) -> None:
        """Sign ``wanted`` as ``version``, which is higher than any before.

        Raises:
            TrustError: The root names another key.
            StorageError: The disk refused; call it again with the next version.
        """
        files = self._repository.sign(wanted, version=version, now=now)
        mirror(self._folder, {**self._roots, **files}, now=now)


def documents(rollouts: list[Rollout]) -> dict[str, bytes]:
    """Return the document of each channel by target path, from its newest rollout."""
    return {
        f"rollouts/{rollout.channel}.json": assignment.encode(rollout.document())
        for rollout in rollouts
    }


def _version(files: Mapping[str, bytes]) -> int:
    try:
        version = trust.signed_part(files[TIMESTAMP], TIMESTAMP)["version"]
    except (TrustError, KeyError):
        return 0
    return version if isinstance(version, int) else 0


def _whole_documents(files: Mapping[str, bytes], listed: Trusted) -> dict[str, bytes]:
    found = {}
    for path, target in listed.targets.items():
        data = files.get(f"targets/{trust.target_file(target)}")
        if data is not None and digest.of_bytes(data) == target.sha256:
            found[path] = data
    return found
