"""What a device should run: one small signed document for a whole channel.

The server signs the document; each device works out for itself which of its two
releases is meant for it. A device in one of the first ``open_waves`` waves runs
``next``, every other device runs ``base``. Opening waves is the way forward;
closing them all is the way back.
"""

from typing import Any

import msgspec

from edgewright.core import canonical, names
from edgewright.core.errors import WireError
from edgewright.wire.version import FORMAT

RUNNING = "running"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A release a device may be told to run.

    Attributes:
        release: ``name@N``.
        digest: Of the whole ``.ewb``; must be signed in the artefact repository.
        path: Its target path in the artefact repository.
        length: In bytes.
    """

    release: str
    digest: str
    path: str
    length: int


class Wave(msgspec.Struct, frozen=True, kw_only=True):
    """One stage: devices that carry all ``labels`` and stand below ``bp``."""

    labels: dict[str, str] = {}
    bp: int = 10_000


class RolloutDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What a channel's devices should run.

    Attributes:
        rollout: Id of the rollout that wrote it.
        salt: Of the cohorts; a device keeps its place for one salt.
        next: The release being rolled out.
        base: What devices outside the open waves run; None before the first.
        open_waves: How many of ``waves`` are open, from the first.
        state: ``running``, ``paused``, ``halted``, ``done``; says nothing of who runs
            what, but while it is ``running`` devices come more often.
    """

    rollout: str
    channel: str
    salt: str
    next: Target
    base: Target | None
    waves: tuple[Wave, ...]
    open_waves: int
    state: str
    format: int = FORMAT


def in_wave(wave: Wave, salt: str, device: str, labels: dict[str, str]) -> bool:
    """Return whether ``device`` belongs to ``wave``."""
    carries = all(labels.get(key) == value for key, value in wave.labels.items())
    return carries and names.cohort(salt, device) < wave.bp


def wave_of(document: RolloutDocument, device: str, labels: dict[str, str]) -> int | None:
    """Return the first wave ``device`` belongs to, or None."""
    for index, wave in enumerate(document.waves):
        if in_wave(wave, document.salt, device, labels):
            return index
    return None


def assigned(document: RolloutDocument, device: str, labels: dict[str, str]) -> Target | None:
    """Return what ``device`` should run; None where nothing is meant for it yet."""
    wave = wave_of(document, device, labels)
    if wave is not None and wave < document.open_waves:
        return document.next
    return document.base


def encode(document: RolloutDocument) -> bytes:
    """Return the canonical JSON that is signed."""
    return canonical.encode(msgspec.to_builtins(document))


def decode(data: bytes) -> RolloutDocument:
    """Return the document; unknown fields are ignored.

    Raises:
        WireError: Not such a document, or of a higher format.
    """
    value: Any = canonical.decode(data)
    try:
        document = msgspec.convert(value, RolloutDocument)
    except msgspec.ValidationError as error:
        raise WireError(f"not a rollout document: {error}") from error
    if document.format > FORMAT:
        raise WireError(
            f"rollout document format {document.format} is newer than {FORMAT}",
            hint="Update edgewright on this device.",
        )
    return document
