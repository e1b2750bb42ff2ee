"""How long the variants of a bundle took on this machine, kept from one start to the next.

Only times are kept, never a choice: which variants are sound is found anew at every
start, and the choice is made among those. A time belongs to the bundle, the version of
the engine, the processor and the threads it was measured with. The file tells its own
digest; one that is damaged, or that something else wrote, is as good as none.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgewright.core import canonical, digest, records
from edgewright.core.errors import BundleError, StorageError

FORMAT = 1

# Bundles remembered; a device holds three, whoever develops tries some dozens.
_REMEMBERED = 64
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Timed:
    """What one variant took.

    Attributes:
        engine: Name and version.
        p50_ns: Median of one golden input; more than 0.
    """

    engine: str
    p50_ns: int

    def __post_init__(self) -> None:
        """Refuse a time that nothing takes."""
        if self.p50_ns <= 0:
            raise ValueError(f"p50_ns must be more than 0, got {self.p50_ns}")


@dataclass(frozen=True, slots=True)
class Measured:
    """What the variants of one bundle took, measured in turns with each other."""

    bundle: str
    machine: str
    threads: int
    variants: dict[str, Timed]


@dataclass(frozen=True, slots=True)
class Kept:
    """What the file holds, oldest first."""

    format: int
    measured: tuple[Measured, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class Timings:
    """The kept times of one bundle, run on so many threads.

    Attributes:
        path: Of the file, which may hold those of others.
        bundle: Digest.
    """

    path: Path
    bundle: str
    threads: int

    def recall(self, engines: Mapping[str, str]) -> list[float] | None:
        """Return the median of each variant in us; None where they must be measured.

        Args:
            engines: By variant, the name and version of what runs it.
        """
        machine = _machine()
        for one in _read(self.path):
            known = {name: one.variants[name] for name in engines if name in one.variants}
            same = {name: timed.engine for name, timed in known.items()} == dict(engines)
            if same and self._mine(one, machine):
                return [known[name].p50_ns / 1000 for name in engines]
        return None

    def keep(self, engines: Mapping[str, str], times_us: Sequence[float]) -> None:
        """Keep what was measured; a disk that refuses costs the next start its time."""
        from edgewright.core import durable  # noqa: PLC0415  most bundles have one variant

        machine = _machine()
        variants = {
            name: Timed(engine, max(1, round(time_us * 1000)))
            for (name, engine), time_us in zip(engines.items(), times_us, strict=True)
        }
        mine = Measured(self.bundle, machine, self.threads, variants)
        others = [one for one in _read(self.path) if not self._mine(one, machine)]
        measured = tuple([*others, mine][-_REMEMBERED:])
        kept = Kept(FORMAT, measured, _sum(measured))
        with suppress(StorageError):
            durable.replace_file(self.path, canonical.encode(records.encode(kept)))

    def _mine(self, one: Measured, machine: str) -> bool:
        return (one.bundle, one.machine, one.threads) == (self.bundle, machine, self.threads)


def user_file() -> Path | None:
    """Return where applications of this user keep times; None for one without a home."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        folder = named if named.is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    return folder / "edgewright" / "variants.json"


def _read(path: Path) -> tuple[Measured, ...]:
    """Return what is kept; nothing where that is not certain."""
    try:
        with path.open("rb") as file:
            data = canonical.decode(file.read(_MAX_BYTES))
        kept = records.decode(Kept, data, error=BundleError)
    except (OSError, BundleError):
        return ()
    whole = kept.format == FORMAT and kept.sha256 == _sum(kept.measured)
    return kept.measured if whole else ()


def _sum(measured: tuple[Measured, ...]) -> str:
    return digest.of_bytes(canonical.encode(records.encode(measured)))


def _machine() -> str:
    from edgewright.core.probe import probe  # noqa: PLC0415  as for ``durable``

    return probe().fingerprint
