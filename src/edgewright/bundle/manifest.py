"""The manifest: everything a bundle says about itself, in canonical JSON.

It is the first thing in an ``.ewb`` and the only thing one must trust: every
other byte is named here with its digest. Numbers are integers with their unit
in the name, because the manifest is signed.
"""

from dataclasses import dataclass, field

from edgewright.core import canonical, digest, records
from edgewright.core.contract import Contract
from edgewright.core.errors import BundleError
from edgewright.core.evidence import Evidence
from edgewright.core.names import Release, check_name
from edgewright.core.tensors import TensorSpec

FORMAT = 1
CHUNK_BYTES = 256 * 1024

# How two answers to the same golden input are compared.
TOP1, CLOSE = "top1", "close"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file inside the bundle.

    Attributes:
        path: Relative, ``/`` between parts, no ``..``; also its path in a slot.
        offset: From the first byte after the manifest, in bytes.
        length: In bytes.
        sha256: Digest of the whole entry.
        chunk_bytes: Size of a chunk; the last may be shorter.
        chunks: Digest of each chunk, so that a download verifies as it arrives.
    """

    path: str
    offset: int
    length: int
    sha256: str
    chunk_bytes: int
    chunks: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a path that could leave its folder, and sizes that do not add up."""
        parts = self.path.split("/")
        if any(part in {"", ".", ".."} for part in parts) or "\\" in self.path:
            raise ValueError(f"path {self.path!r} is not a plain relative path")
        if self.offset < 0 or self.length < 0 or self.chunk_bytes < 1:
            raise ValueError(f"entry {self.path!r} has a negative offset or length")
        if len(self.chunks) != -(-self.length // self.chunk_bytes):
            raise ValueError(f"entry {self.path!r} has {len(self.chunks)} chunk digests")
        for text in (self.sha256, *self.chunks):
            digest.check(text)


@dataclass(frozen=True, slots=True)
class Variant:
    """One lowered model.

    Attributes:
        name: Unique in the bundle, like ``int8-per-channel``.
        engine: The engine that loads it, a name in ``runtime.engines``.
        precision: What the bulk of the weights is: ``float32``, ``int8``.
        model: Path of the graph's entry; its external data lies beside it.
        isa: CPU features without which its answers or speed are not these.
        evidence: What was measured of it.
    """

    name: str
    engine: str
    precision: str
    model: str
    isa: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Tolerance:
    """When two sets of answers count as the same.

    Attributes:
        kind: ``top1``: the index of the largest output agrees on at least
            ``min_agree_bp`` of the inputs; ``close``: every number differs by at
            most ``atol_micro / 1e6``.
    """

    kind: str
    min_agree_bp: int = 10_000
    atol_micro: int = 0

    def __post_init__(self) -> None:
        """Refuse a comparison nobody can make."""
        if self.kind not in {TOP1, CLOSE}:
            raise ValueError(f"unknown tolerance {self.kind!r}")


@dataclass(frozen=True, slots=True)
class GoldenReference:
    """Answers of the declared source model; catches a wrong model.

    ``inputs`` and ``outputs`` name one entry a tensor, in the order of
    ``Manifest.inputs`` and ``Manifest.outputs``: the raw little-endian values of
    all ``count`` samples, C order, first dimension ``count``.
    """

    count: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tolerance: Tolerance
    source_sha256: str


@dataclass(frozen=True, slots=True)
class GoldenVariant:
    """This variant's answers on the build host; catches a wrong device."""

    variant: str
    outputs: tuple[str, ...]
    tolerance: Tolerance


@dataclass(frozen=True, slots=True)
class Golden:
    """Both golden sets; the variants answer the inputs of ``reference``."""

    reference: GoldenReference
    variants: tuple[GoldenVariant, ...]


@dataclass(frozen=True, slots=True)
class Transforms:
    """Where preprocessing happens; ``graph``: inside it, so raw inputs go in."""

    preprocess: str = "graph"
    postprocess: str = "none"


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits for the trial on a device, from the contract.

    Attributes:
        min_inferences: Answers attempted before any limit is judged; >= 1.
        max_error_bp: Failed over attempted answers since activation.
        max_p95_us: 95th percentile of an answer; None where the contract asks none.
        max_slowdown_bp: p95 over that of the slot it replaces, measured on the
            same device; 30000 is three times as slow.
        deadline_s: Seconds after activation at which an undecided trial reverts.
    """

    min_inferences: int = 50
    max_error_bp: int = 200
    max_p95_us: int | None = None
    max_slowdown_bp: int = 30_000
    deadline_s: int = 300

    def __post_init__(self) -> None:
        """Refuse a policy that would keep a slot on no evidence."""
        if self.min_inferences < 1 or self.deadline_s < 1:
            raise ValueError("min_inferences and deadline_s must be at least 1")


@dataclass(frozen=True, slots=True)
class Override:
    """A refusal someone overruled; it travels signed, and devices still refuse it.

    Attributes:
        refusal: What was overruled: ``golden-reference`` or ``verdict``.
        reason: What the person gave as the reason.
        finding: The numbers of the refusal.
    """

    refusal: str
    reason: str
    finding: str


@dataclass(frozen=True, slots=True)
class Baselines:
    """What later measurements are compared with: the build host's latency."""

    p50_us: int
    p99_us: int
    machine: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the bundle came from, by digest; no host names, no times.

    Attributes:
        source_sha256: The model as the user gave it.
        reference_sha256: The model whose answers counted as right.
        data_sha256: The evaluation and calibration data.
        recipe_sha256: What was asked.
        evidence_sha256: What was measured, the whole report.
        tools: Versions that decide bytes: ``{"onnxruntime": "1.31.1"}``.
    """

    source_sha256: str
    reference_sha256: str
    data_sha256: str
    recipe_sha256: str
    evidence_sha256: str
    tools: dict[str, str]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a bundle says about itself.

    Attributes:
        format: Major format; a reader refuses a higher one.
        name: The release's name.
        version: The release's number.
        label: Free text for people.
        inputs: Raw inputs, before any preprocessing.
        outputs: What the model answers.
        classes: Names of the classes, where the answer is one.
        verdict: Outcome of the contract when packed.
    """

    format: int
    name: str
    version: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    variants: tuple[Variant, ...]
    golden: Golden
    contract: Contract
    baselines: Baselines
    policy: Policy
    provenance: Provenance
    entries: tuple[Entry, ...]
    transforms: Transforms = field(default_factory=Transforms)
    label: str = ""
    classes: tuple[str, ...] = ()
    verdict: str = "pass"
    overrides: tuple[Override, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a manifest whose parts do not fit together."""
        check_name(self.name, "bundle")
        if self.version < 1:
            raise ValueError(f"version must be at least 1, got {self.version}")
        if not self.variants:
            raise ValueError("a bundle needs at least one variant")
        paths = {entry.path for entry in self.entries}
        if len(paths) != len(self.entries):
            raise ValueError("two entries have the same path")
        reference = self.golden.reference
        named = {*reference.inputs, *reference.outputs, *(v.model for v in self.variants)}
        named.update(path for v in self.golden.variants for path in v.outputs)
        if missing := sorted(named - paths):
            raise ValueError(f"no entry {missing[0]!r}")

    @property
    def release(self) -> Release:
        """The name and number under which it is published."""
        return Release(self.name, self.version)

    def entry(self, path: str) -> Entry:
        """Return the entry at ``path``.

        Raises:
            BundleError: There is none.
        """
        for entry in self.entries:
            if entry.path == path:
                return entry
        raise BundleError(f"{self.release} has no entry {path!r}")

    def to_bytes(self) -> bytes:
        """Return the canonical JSON of this manifest."""
        return canonical.encode(records.encode(self))


def from_bytes(data: bytes) -> Manifest:
    """Return the manifest that ``data`` encodes.

    Raises:
        BundleError: Not canonical, a higher format, or parts that do not fit.
    """
    value = canonical.decode(data)
    found = value.get("format") if isinstance(value, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise BundleError(
            f"bundle format {found} is newer than {FORMAT}, which this program reads",
            hint="Update edgewright on this machine.",
        )
    return records.decode(Manifest, value, error=BundleError)
