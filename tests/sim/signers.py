"""Both repositories with every private key at hand, honest and otherwise.

``Signers`` makes real keys and real metadata with ``bundle.signing``; ``resigned``
changes what a file says and signs it again with whatever keys a test gives it,
which is what someone with stolen keys would do.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical

from edgewright.bundle import metadata, signing, trust
from edgewright.bundle.keys import PrivateKey
from edgewright.core import digest

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)


class Signers:
    """A folder of keys, and the artefacts as a server would hand them out.

    Attributes:
        files: Every file of the artefacts that was ever signed here.
        now: When the next file is signed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOW
        self.files = self.public()

    @classmethod
    def make(cls, folder: Path, *, root_keys: int = 3, root_threshold: int = 2) -> "Signers":
        """Return signers with new keys in ``folder``."""
        signing.init(folder, root_keys=root_keys, root_threshold=root_threshold, now=NOW)
        return cls(folder)

    def name(self, role: str) -> str:
        """Return the name of the newest file of ``timestamp``, ``snapshot`` or ``targets``."""
        return set_name(self.files, role)

    def newest(self, role: str) -> bytes:
        """Return the newest file of a role."""
        return self.files[self.name(role)]

    def public(self, repository: str = trust.ARTEFACTS) -> dict[str, bytes]:
        """Return what lies in ``public/<repository>``."""
        return signing.read_public(self.folder / "public" / repository)

    def key(self, name: str) -> PrivateKey:
        """Return a private key by name."""
        return signing.load_key(self.folder, name)

    def release(self, path: str = "digits/1.ewb", data: bytes = b"bundle") -> dict[str, bytes]:
        """Sign a set with one release more; return the complete set."""
        repository = signing.ArtefactRepository.load(self.files)
        repository.add_target(path, len(data), digest.of_bytes(data), {"format": 1})
        made = repository.sign(self.key("releases"), self.key("freshness"), self.now)
        self.files |= made
        return made

    def freshen(self) -> dict[str, bytes]:
        """Sign snapshot and timestamp anew; return the complete set."""
        repository = signing.ArtefactRepository.load(self.files)
        made = repository.refresh_freshness(self.key("freshness"), self.now)
        self.files |= made
        return made

    def rotate(self, name: str) -> None:
        """Replace a key, and sign what a server hands out under the new root."""
        signing.rotate(self.folder, name, now=self.now)
        roots = {n: d for n, d in self.public().items() if n.endswith(".root.json")}
        repository = signing.ArtefactRepository.load(self.files | roots)
        made = repository.sign(self.key("releases"), self.key("freshness"), self.now)
        self.files |= roots | made

    def assign(self, documents: Mapping[str, bytes], *, version: int) -> dict[str, bytes]:
        """Sign assignments; return every file."""
        files = self.public(trust.ASSIGNMENTS)
        root = trust.newest_root(files)[1]
        repository = signing.AssignmentRepository(root or b"", self.key("assignments"))
        return files | repository.sign(documents, version=version, now=self.now)

    def around(self, targets: bytes, *, snapshot: int, timestamp: int) -> dict[str, bytes]:
        """Return a set around any targets file, signed with the freshness key."""
        root = metadata.parse(metadata.Root, trust.newest_root(self.files)[1], "root")
        version = json.loads(targets)["signed"]["version"]
        made = metadata.finish(
            root.signed,
            (version, targets),
            self.key("freshness"),
            snapshot=snapshot,
            timestamp=timestamp,
            now=self.now,
        )
        return self.files | made


class Mirror:
    """What a device fetches from: files that may be swapped, and a list of what was asked."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.asked: list[str] = []

    def __call__(self, name: str) -> bytes | None:
        """Return a file, or None where there is none."""
        self.asked.append(name)
        return self.files.get(name)


def resigned(
    data: bytes, change: Callable[[dict[str, Any]], object], *keys: PrivateKey
) -> bytes:
    """Return a metadata file with ``change`` made to what is signed, signed by ``keys``."""
    signed = json.loads(data)["signed"]
    change(signed)
    payload = encode_canonical(signed).encode()
    signatures = [
        {"keyid": metadata.public_key(key.public, "").keyid, "sig": key.sign(payload).hex()}
        for key in keys
    ]
    return json.dumps({"signatures": signatures, "signed": signed}).encode()


def born(folder: Path, root: bytes) -> Path:
    """Return a trust folder as a device has it when it was just enrolled."""
    folder.mkdir(parents=True)
    (folder / "root.json").write_bytes(root)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below ``folder``, by path."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def set_name(files: Mapping[str, bytes], role: str) -> str:
    """Return the name of the file of a role that the timestamp in ``files`` stands for."""
    meta = json.loads(files["timestamp.json"])["signed"]["meta"]
    snapshot = f"{meta['snapshot.json']['version']}.snapshot.json"
    if role == "targets":
        meta = json.loads(files[snapshot])["signed"]["meta"]
        return f"{meta['targets.json']['version']}.targets.json"
    return {"timestamp": "timestamp.json", "snapshot": snapshot}[role]


def refused(
    folder: Path,
    fetch: trust.Fetch,
    error: type[Exception],
    *,
    match: str,
    now: datetime = NOW,
) -> None:
    """Refresh, and check that it is refused for the reason given and changes nothing."""
    before = contents(folder)
    with pytest.raises(error, match=match) as caught:
        trust.refresh(folder, fetch, now=now)
    assert type(caught.value) is error
    assert contents(folder) == before


def flipped(data: bytes, place: int) -> bytes:
    """Return ``data`` with the bit at ``place``, modulo its length in bits, flipped."""
    changed = bytearray(data)
    changed[place // 8 % len(data)] ^= 1 << place % 8
    return bytes(changed)
