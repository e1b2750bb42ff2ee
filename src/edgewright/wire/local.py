"""Messages between the processes of one device: JSON, one line each, over pipes.

The supervisor starts the worker, the courier and the installer; it reads what
they print and imports nothing of theirs.
"""

import msgspec

from edgewright.wire.assignment import Target
from edgewright.wire.checkin import CheckIn, ErrorBody, Serving
from edgewright.wire.telemetry import Ack


class GoldenCheck(msgspec.Struct, frozen=True, kw_only=True):
    """How one golden set came out.

    Attributes:
        passed: Within its tolerance.
        count: Inputs compared.
        detail: One sentence with the numbers, for the audit.
    """

    passed: bool
    count: int
    detail: str


class SelfTest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``python -m edgewright.runtime.worker selftest`` prints.

    Attributes:
        error: Set when the slot could not even be loaded; the rest is then empty.
        p50_us: Of one golden input at a time, as is p95.
        load_us: From process start to the first answer.
        peak_bytes: Peak resident memory of the process.
    """

    digest: str
    variant: str = ""
    reference: GoldenCheck | None = None
    golden: GoldenCheck | None = None
    p50_us: int = 0
    p95_us: int = 0
    load_us: int = 0
    peak_bytes: int = 0
    error: ErrorBody | None = None


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Supervisor → worker: ``stats`` or ``stop`` (finish what runs, then exit 0)."""

    op: str


class WorkerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Worker → supervisor: exactly one of the two is set.

    Attributes:
        ready: Once, when the worker has verified its slot and listens.
        stats: Answer to ``stats``, and once more as the last word before it exits, so
            that nothing goes uncounted.
    """

    ready: Serving | None = None
    stats: "WorkerStats | None" = None


class WorkerStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the worker started, which only grow.

    Attributes:
        late: Refused at the deadline of the device.
        impatient: Refused at a nearer deadline, which the caller had set itself; no
            fault of the model.
        latency: Latency sketch, bucket index -> answers.
        completed_monotonic_s: When the last answer was given; 0 before the first.
    """

    answered: int
    failed: int
    late: int
    refused: int
    latency: dict[str, int]
    p50_us: int
    p95_us: int
    p99_us: int
    resident_bytes: int
    completed_monotonic_s: float = 0.0
    impatient: int = 0


class CourierJob(msgspec.Struct, frozen=True, kw_only=True):
    """Supervisor → courier, on its standard input.

    Attributes:
        home: State folder of the device.
        checkin: To be signed and sent as it stands.
        have: Digests that are installed; nothing is downloaded for them.
        bad: Digests this device refused; never downloaded again.
        update: False to send and fetch metadata only.
    """

    home: str
    server: str
    checkin: CheckIn
    have: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    update: bool = True


class CourierReport(msgspec.Struct, frozen=True, kw_only=True):
    """Courier → supervisor, its last line.

    Attributes:
        ack: What the server made durable; None when it could not be reached.
        interval_s: When to come again; 0 when the server did not say.
        least_s: How soon at least while ``running``; 0 when ``interval_s`` holds then.
        running: Whether the rollout of this device's channel is under way.
        wanted: What this device should run by the trusted documents; None when
            they do not say, or could not be trusted.
        rollout: Which rollout says so.
        archive: Path of the complete, verified download of ``wanted``; empty
            when it is installed already, bad, or not yet complete.
        downloaded_bytes: Over the network in this run.
        peak_bytes: Peak resident memory of the courier.
        problems: What went wrong, in order; an empty list is a clean run.
    """

    ack: Ack | None = None
    interval_s: float = 0.0
    least_s: float = 0.0
    running: bool = False
    wanted: Target | None = None
    rollout: str = ""
    archive: str = ""
    downloaded_bytes: int = 0
    peak_bytes: int = 0
    trust: dict[str, int] = {}
    problems: tuple[ErrorBody, ...] = ()


class InstallReport(msgspec.Struct, frozen=True, kw_only=True):
    """What ``python -m edgewright.bundle.install`` prints.

    Attributes:
        slot: Folder of the installed slot; empty when refused.
        error: Why it was refused; nothing is left behind then.
        unreadable: The disk cannot give back what it was given: the archive is of no
            use any more, though nothing is wrong with the bundle.
    """

    digest: str
    slot: str = ""
    release: str = ""
    peak_bytes: int = 0
    error: ErrorBody | None = None
    unreadable: bool = False
