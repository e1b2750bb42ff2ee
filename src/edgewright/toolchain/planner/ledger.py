"""What was measured, kept in files that are named by their own digest.

Measurements are inputs: the same inputs and the same evidence give the same report. A
measurement is found again by its key, which says what was measured of which files on
which machine with which tools; the second run reuses it. One that is taken again
carries the figures it replaces, so that what changed with it can be told ever after.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgewright.core import canonical, digest, durable, records
from edgewright.core.errors import DataError
from edgewright.core.evidence import Evidence, Paired
from edgewright.toolchain.planner.values import to_bytes

# What candidates are made by: measured again, it would be of other candidates.
DECIDES = frozenset({"stem"})

Figures = dict[str, tuple[Evidence, ...]]
Counts = dict[str, tuple[Paired, ...]]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One thing measured of one candidate.

    Attributes:
        kind: accuracy, latency or footprint.
        key: Digest of what decides the figures, apart from chance.
        figures: By candidate.
        counts: By candidate, for accuracy.
        previous: The figures this one replaced, by candidate.
    """

    kind: str
    key: str
    figures: Figures = field(default_factory=dict)
    counts: Counts = field(default_factory=dict)
    previous: Figures = field(default_factory=dict)


class Ledger:
    """The evidence folder of one run.

    ``used`` names the file of each measurement this run relies on, by kind and candidate:
    ``latency of fused``.
    """

    def __init__(self, *before: Path, folder: Path, again: bool = False) -> None:
        """Read what earlier runs left.

        Args:
            before: Their evidence folders, which need not exist.
            folder: Where this run's evidence is written.
            again: Measure even what is there, unless this run took it before it ended.
        """
        self._known = {key: one for place in before for key, one in read_all(place).items()}
        self._mine = read_all(folder)
        self._known.update(self._mine)
        self._folder = folder
        self._again = again
        self.used: dict[str, str] = {}

    def obtain(
        self,
        kind: str,
        about: Mapping[str, object],
        take: Callable[[], Measurement],
        *,
        of: str,
        observe: Callable[[str], None],
    ) -> Measurement:
        """Return the measurement about ``about``, taken now unless it was before.

        Args:
            kind: accuracy, latency or footprint.
            about: Everything that decides the figures: digests, machine, versions.
            take: Measures; ``kind`` and ``key`` are filled in here.
            of: The candidate's name.
            observe: Is told first what is done.
        """
        key = _key(kind, about)
        known = self._known.get(key)
        what = f"{kind} of {of}"
        if known is not None and self.known(kind, about):
            observe(f"{what}, from stored evidence")
            self._write(what, known)
            return known
        observe(what)
        taken = replace(take(), kind=kind, key=key)
        if known is not None:
            taken = replace(taken, previous=known.figures)
        self._write(what, taken)
        self._known[key] = self._mine[key] = taken
        return taken

    def known(self, kind: str, about: Mapping[str, object]) -> bool:
        """Return whether the measurement about ``about`` need not be taken."""
        key = _key(kind, about)
        again = self._again and kind not in DECIDES
        return key in self._mine or (key in self._known and not again)

    def peek(self, kind: str, about: Mapping[str, object]) -> Measurement | None:
        """Return the measurement about ``about`` if it need not be taken; nothing is kept."""
        return self._known[_key(kind, about)] if self.known(kind, about) else None

    def _write(self, what: str, measurement: Measurement) -> None:
        data = to_bytes(measurement)
        name = f"{digest.hex_of(digest.of_bytes(data))}.json"
        durable.replace_file(self._folder / name, data)
        self.used[what] = name


def _key(kind: str, about: Mapping[str, object]) -> str:
    return digest.of_bytes(canonical.encode({"kind": kind, **about}))


def read_all(folder: Path) -> dict[str, Measurement]:
    """Return every measurement of a folder by key; a file that was altered is ignored."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        data = path.read_bytes()
        if digest.hex_of(digest.of_bytes(data)) == path.stem:
            known = records.decode(Measurement, json.loads(data), error=DataError)
            found[known.key] = known
    return found
