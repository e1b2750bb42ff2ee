"""The device's side: one resident supervisor, and the short-lived processes it starts.

``main`` is what a person calls, ``supervisor`` the loop that must never break and
``update`` the way of a release onto the device; ``telemetry`` tells the fleet.
``courier`` is the process that knows network and trust, ``fetch`` its download;
``control`` and ``health`` watch what was started, by way of ``child``; ``gate`` and
``slots`` decide and remember. Settings and places, which all need, are here.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgewright.core import config, digest
from edgewright.core.names import check_name

DEFAULT_CONFIG = Path("/etc/edgewright/device.toml")


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """``device.toml``.

    Attributes:
        server: Address of the control plane, ``https://fleet.example:8600``.
        name: For people.
        enrol_token_file: File with the token that lets this device enrol.
        artefacts_root: The root.json releases are trusted by.
        assignments_root: The root.json rollouts are trusted by.
        channel: The line of releases it follows.
        port: Where the worker answers on the loopback; 0 for any free one.
        check_in_s: Seconds between contacts, unless the fleet asks for more; while a
            rollout is running the smaller of the two counts, but no less than 1.
        report_s: Seconds one summary of answers covers.
        spool_bytes: Disk share of what waits to be told.
        deadline_ms: After which an answer is refused as late.
        threads: Of the inference engine.
        window_s: Longest one contact may take, downloads included.
        install_s: Longest an installation may take.
        selftest_s: Longest a self-test may take.
        hang_s: Silence after which a worker counts as hung.
        labels: What waves select by.
    """

    server: str
    name: str
    enrol_token_file: str
    artefacts_root: str
    assignments_root: str
    channel: str = "stable"
    port: int = 8610
    check_in_s: float = 30.0
    report_s: float = 60.0
    spool_bytes: int = 8 << 20
    deadline_ms: int = 1000
    threads: int = 1
    window_s: float = 600.0
    install_s: float = 600.0
    selftest_s: float = 120.0
    hang_s: float = 10.0
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse settings nothing could run with."""
        check_name(self.channel, "channel")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be 0 to 65535, got {self.port}")
        for name in (
            "check_in_s",
            "report_s",
            "window_s",
            "install_s",
            "selftest_s",
            "hang_s",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0, got {getattr(self, name)}")
        for name, least in (("spool_bytes", 256 << 10), ("deadline_ms", 1), ("threads", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


def load_config(path: Path) -> DeviceConfig:
    """Return the settings in ``path``; files they name are relative to its folder.

    Raises:
        ConfigError: As ``core.config.load``.
    """
    read = config.load(DeviceConfig, path)
    folder = path.absolute().parent
    files = ("enrol_token_file", "artefacts_root", "assignments_root")
    named: dict[str, Any] = {name: str(folder / getattr(read, name)) for name in files}
    return replace(read, **named)


@dataclass(frozen=True, slots=True)
class Home:
    """Where a device keeps what it must not forget."""

    root: Path

    @property
    def identity(self) -> Path:
        """The device's key and id."""
        return self.root / "identity"

    @property
    def trust(self) -> Path:
        """One folder of verified metadata a repository."""
        return self.root / "trust"

    @property
    def slots(self) -> Path:
        """Installed bundles, each a read-only folder named by its digest."""
        return self.root / "slots"

    @property
    def staging(self) -> Path:
        """Downloads and half-made slots; may be torn, is hashed again before use."""
        return self.root / "staging"

    @property
    def pointer(self) -> Path:
        """Which slot is active; the truth after a crash."""
        return self.root / "pointer.json"

    @property
    def journal(self) -> Path:
        """Every transition of every slot."""
        return self.root / "journal.log"

    @property
    def spool(self) -> Path:
        """What waits to be told to the fleet."""
        return self.root / "spool.db"

    @property
    def variants(self) -> Path:
        """What the variants of installed bundles took here; is measured again if lost."""
        return self.root / "variants.json"

    @property
    def run(self) -> Path:
        """Sockets and the status file of the running agent."""
        return self.root / "run"

    @property
    def status(self) -> Path:
        """What the running agent last said of itself."""
        return self.run / "status.json"

    def slot(self, of: str) -> Path:
        """The folder of the slot with digest ``of``."""
        return self.slots / digest.hex_of(of)

    def download(self, of: str) -> Path:
        """The archive with digest ``of``, as far as it has come."""
        return self.staging / f"{digest.hex_of(of)}.part"
