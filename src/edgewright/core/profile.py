"""What kind of device this is, as data: from the catalogue, or from a probe.

Every figure of the catalogue carries its source. Resource classes are the
mission's: ultra-low (< 100 MB of memory and < 500 MHz), low (< 1 GB, < 1 GHz),
medium (< 4 GB, < 2 GHz), high; a device belongs to the lowest class that either
its memory or its clock puts it in.
"""

import tomllib
from dataclasses import dataclass, field
from importlib import resources

from edgewright.core import digest, records
from edgewright.core.errors import ConfigError, UsageError

PLATFORMS = (
    "android",
    "ios",
    "raspberry-pi",
    "jetson",
    "intel-nuc",
    "cortex-m",
    "esp32",
    "arduino",
    "browser",
    "linux",
)

_CLASSES = (("ultra-low", 100 * 10**6, 500), ("low", 10**9, 1000), ("medium", 4 * 10**9, 2000))


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """A kind of device; None where a figure is not known, never a guess.

    Attributes:
        title: As its maker calls it.
        platform: One of ``PLATFORMS``.
        isa: Instruction sets that matter for inference, lower case.
        cores: CPU cores an application may use.
        clock_mhz: Highest sustained clock of a core.
        memory_bytes: RAM.
        storage_bytes: Flash or disk where it is fixed.
        tops_int8_milli: int8 operations per second, in 10**9.
        engines: Which engines of ours could run there.
        sources: For each figure, where it is from.
    """

    title: str
    platform: str
    isa: tuple[str, ...] = ()
    cores: int | None = None
    clock_mhz: int | None = None
    memory_bytes: int | None = None
    storage_bytes: int | None = None
    gpu: str | None = None
    npu: str | None = None
    tops_int8_milli: int | None = None
    power_min_mw: int | None = None
    power_max_mw: int | None = None
    price_min_usd_cents: int | None = None
    price_max_usd_cents: int | None = None
    connectivity: tuple[str, ...] = ()
    use: str = ""
    engines: tuple[str, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a platform we have no word for."""
        if self.platform not in PLATFORMS:
            raise ValueError(f"unknown platform {self.platform!r}")

    @property
    def resource_class(self) -> str:
        """ultra-low, low, medium or high; ``unknown`` without memory and clock."""
        if self.memory_bytes is None and self.clock_mhz is None:
            return "unknown"
        for name, memory, clock in _CLASSES:
            little = self.memory_bytes is not None and self.memory_bytes < memory
            slow = self.clock_mhz is not None and self.clock_mhz < clock
            if little or slow:
                return name
        return "high"

    @property
    def pairs_overflow(self) -> bool:
        """Whether 8-bit kernels add two products in 16 bits, where full weights overflow.

        255 * 127 * 2 is beyond int16: x86 without VNNI or AMX (``vpmaddubsw``). Other
        processors widen first. Unknown instruction sets are not suspected.
        """
        isa = set(self.isa)
        return bool(isa & {"sse4.2", "avx", "avx2"}) and not isa & {"vnni", "amx-int8"}

    @property
    def fingerprint(self) -> str:
        """A short name for machines alike in what decides speed: ``linux-3fa94c1b``."""
        facts = (self.title, self.platform, *sorted(self.isa), self.cores, self.memory_bytes)
        hashed = digest.of_bytes(repr(facts).encode())
        return f"{self.platform}-{digest.short(hashed)[:8]}"


def catalogue() -> dict[str, DeviceProfile]:
    """Return every kind of device we know, by name."""
    folder = resources.files("edgewright.core") / "catalogue"
    names = sorted(f.name for f in folder.iterdir() if f.name.endswith(".toml"))
    return {name.removesuffix(".toml"): _read(name) for name in names}


def find(name: str) -> DeviceProfile:
    """Return the kind of device called ``name`` in the catalogue.

    Raises:
        UsageError: There is no such kind.
    """
    known = catalogue()
    if name not in known:
        raise UsageError(f"no device {name!r}", hint=records.nearest(name, ["host", *known]))
    return known[name]


def _read(name: str) -> DeviceProfile:
    text = (resources.files("edgewright.core") / "catalogue" / name).read_text()
    return records.decode(DeviceProfile, tomllib.loads(text), error=ConfigError, where=name)
