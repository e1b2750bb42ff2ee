"""What was asked, what was decided and what happened: three documents.

All are frozen dataclasses that ``core.records`` turns into JSON and back; numbers are
integers with their unit in the name, and there are no times, so that the same inputs
and the same evidence give the same bytes.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from edgewright.bundle.manifest import Policy
from edgewright.core import digest, records
from edgewright.core.contract import Contract, Verdict
from edgewright.core.evidence import Evidence, Paired
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.techniques import TECHNIQUES

FORMAT = 1

# Metrics that more than their own module knows of: where nobody says what is right,
# answers are compared with the reference's.
ACCURACY, FIDELITY, COSINE = "accuracy", "fidelity", "cosine"

# What may be chosen: everything, one form of weights or an error, floats only.
QUANTIZATIONS = ("auto", "int8", "int4", "fp16", "none")

# What is searched for among the candidates that hold the contract. Without a goal the
# first that holds it ships, or the cheapest, and nothing else is tried (``decide.aim_of``).
GOALS = ("balanced", "battery", "size", "speed")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What was asked; files are named by digest.

    Attributes:
        model: The stem of the model's file, for people.
        device: ``host``, or a name in the catalogue.
        quantization: One of ``QUANTIZATIONS``.
        allow_slower: Whether a candidate slower than the float baseline may be chosen.
        accept_estimates: Whether figures that were not measured may decide.
        classes: Names of the classes, one an output.
        tools: Versions that decide bytes.
        goal: One of ``GOALS``, or empty: the first or the cheapest that holds ships.
        budget_s: Seconds after which no other candidate is begun; 0 for no end.
        metric: What answers are judged by, as ``measure.metrics`` names it.
        trusted: Doubts about the data that were accepted, by name.
        synthetic: Whether inputs were made up; then nothing is known of accuracy.
        precision: What layers are pinned to, by name or pattern.
        target: A name in ``targets``; empty for the first the device runs.
        graph_level: How far nodes are fused, as the technique ``fuse`` names it.
    """

    format: int
    model: str
    model_sha256: str
    reference_sha256: str
    data_sha256: str
    device: str
    contract: Contract
    policy: Policy
    classes: tuple[str, ...]
    tools: dict[str, str]
    quantization: str = "auto"
    allow_slower: bool = False
    accept_estimates: bool = False
    goal: str = ""
    budget_s: int = 0
    metric: str = ACCURACY
    trusted: tuple[str, ...] = ()
    synthetic: bool = False
    precision: dict[str, str] = field(default_factory=dict)
    target: str = ""
    graph_level: str = "aggressive"

    def __post_init__(self) -> None:
        """Refuse a wish we have no word for."""
        if self.goal not in {"", *GOALS}:
            raise ValueError(f"goal must be one of {', '.join(GOALS)}, got {self.goal!r}")
        if self.quantization not in QUANTIZATIONS:
            known = ", ".join(QUANTIZATIONS)
            raise ValueError(f"quantization must be one of {known}, got {self.quantization!r}")


@dataclass(frozen=True, slots=True)
class Step:
    """One technique of a candidate.

    Attributes:
        technique: A name in ``techniques``.
        settings: Its settings, those left out having their default.
        reason: Why it is tried.
    """

    technique: str
    settings: dict[str, str]
    reason: str


@dataclass(frozen=True, slots=True)
class CandidatePlan:
    """A candidate to make; ``choosable`` says whether the recipe lets it ship."""

    name: str
    steps: tuple[Step, ...]
    choosable: bool

    def __post_init__(self) -> None:
        """Refuse a step that keeps the answers after one that rounds.

        Fused afterwards, a batch norm would meet weights that are rounded already, and
        what is equalised or smoothed then was rounded badly before.
        """
        rounded = ""
        for step in self.steps:
            info = TECHNIQUES.get(step.technique)
            if info is not None and info.exact and rounded:
                raise ValueError(
                    f"{self.name}: {step.technique} comes after {rounded}, which rounds"
                )
            if info is not None and not info.exact:
                rounded = step.technique


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided to try.

    Attributes:
        target: What candidates are lowered to, a name in ``targets``.
        engine: What loads them.
        baseline: The candidate the others may not be slower than.
        left_out: Techniques not tried, each with the reason.
    """

    format: int
    target: str
    engine: str
    baseline: str
    candidates: tuple[CandidatePlan, ...]
    left_out: dict[str, str]


@dataclass(frozen=True, slots=True)
class DoneStep:
    """A technique as it was applied.

    Attributes:
        technique: A name in ``techniques``.
        settings: Its settings, those left out having their default.
        reason: Why it was tried.
        applied: Whether it found anything to do.
        notes: What it did, with the numbers.
        bytes_after: Of the files, were they written right after it; 0 where it did nothing,
            or nobody looked.
    """

    technique: str
    settings: dict[str, str]
    reason: str
    applied: bool
    notes: tuple[str, ...]
    bytes_after: int = 0


@dataclass(frozen=True, slots=True)
class FindingLine:
    """``core.contract.Finding`` with its outcome as text."""

    limit: str
    outcome: str
    reason: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class DoubtLine:
    """``measure.doubts.Doubt`` as it stands in a report."""

    name: str
    detail: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class CoverageLine:
    """How many samples of a class there are to calibrate on and to judge by.

    Attributes:
        label: The class.
        calibrate: Calibration samples of it, by labels or by what the reference answers.
        evaluate: Evaluation samples of it, likewise.
    """

    label: str
    calibrate: int
    evaluate: int


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What became of a layer where layers were looked at one by one.

    Attributes:
        name: The node's.
        operator: Its kind, like ``Conv``.
        weight_bytes: Of its float weights.
        drift_micro: How far the answers move when this layer alone is rounded: the mean
            distance over the mean size of the answers, in millionths.
        form: What it is in the candidate, one of ``plan.PRECISIONS``.
        reason: Why, one sentence.
    """

    name: str
    operator: str
    weight_bytes: int
    drift_micro: int
    form: str
    reason: str


@dataclass(frozen=True, slots=True)
class CandidateReport:
    """A candidate with everything known of it.

    Attributes:
        steps: What was done to make it.
        precision: What the bulk of its weights is.
        files: Digest of each of its files by name.
        outcome: Of the contract: pass, fail or inconclusive.
        findings: What each limit came to.
        chosen: Whether this one ships.
        reason: Why it was chosen, or why not.
        evidence: What was measured of it.
        counts: How its answers compare with the reference's.
        layers: What became of each layer, where they were looked at one by one.
    """

    name: str
    steps: tuple[DoneStep, ...]
    precision: str
    files: dict[str, str]
    outcome: str
    findings: tuple[FindingLine, ...]
    chosen: bool
    reason: str
    evidence: tuple[Evidence, ...]
    counts: tuple[Paired, ...]
    layers: tuple[LayerReport, ...] = ()

    def figure(self, name: str) -> Evidence | None:
        """Return what was measured under ``name``, None if nothing was."""
        return next((e for e in self.evidence if e.name == name), None)

    @property
    def file_bytes(self) -> int:
        """Bytes of all its files."""
        figure = self.figure("file_bytes")
        return figure.value if figure else 0

    @property
    def overall(self) -> Paired:
        """How it compares over all samples."""
        return self.counts[0]


@dataclass(frozen=True, slots=True)
class Nearest:
    """The contract closest to the one asked that a candidate would meet for certain.

    Attributes:
        candidate: Which one.
        contract: What was asked, with the limits it misses moved to where it stands.
        moved: The limits that were moved.
    """

    candidate: str
    contract: Contract
    moved: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GoldenIndex:
    """The golden inputs beside this report, and the reference's answers to them.

    Attributes:
        samples: Which evaluation samples they are.
        inputs: One file a tensor.
        outputs: One file a tensor.
        files: Digest of each of those files.
    """

    samples: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of machine: ``name`` as it was asked for, and how it is known in evidence."""

    name: str
    title: str
    fingerprint: str
    resource_class: str


@dataclass(frozen=True, slots=True)
class Price:
    """What a candidate costs that was not asked for its answers.

    Attributes:
        file_bytes: Of its files.
        latency_ratio_bp: Its time over the baseline's, from a short run; 10,000 is equal.
    """

    file_bytes: int
    latency_ratio_bp: int


@dataclass(frozen=True, slots=True)
class Report:
    """What happened, and what it means.

    Attributes:
        recipe_sha256: Digest of ``recipe.json``.
        plan_sha256: Digest of ``plan.json``.
        device: What the contract is about.
        host: What was measured on.
        outcome: pass, fail or inconclusive.
        chosen: Name of the candidate that ships; empty unless one passes.
        missed: What was missed or is undecided, one sentence each.
        nearest: Where the contract would have to be; None when it is met.
        candidates: In the order of the plan.
        left_out: What was not judged, and why.
        evidence_files: The evidence files of ``evidence/`` by what they are about.
        changed: Decisions that new measurements changed, one sentence each.
        stopped: Why no other candidate was tried; empty while a run goes on.
        samples: How many samples there were to evaluate and to calibrate on.
        doubts: What is doubtful about the data, accepted or merely told.
        coverage: Samples of each class, where answers are classes.
        brought: What bringing the model in came to, where it was not ONNX.
        prices: Of what was left out for its cost, by name.
    """

    format: int
    recipe: Recipe
    recipe_sha256: str
    plan_sha256: str
    device: Machine
    host: Machine
    outcome: str
    chosen: str
    missed: tuple[str, ...]
    candidates: tuple[CandidateReport, ...]
    left_out: dict[str, str]
    evidence_files: dict[str, str]
    golden: GoldenIndex
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    samples: dict[str, int]
    engine: str
    baseline: str
    nearest: Nearest | None = None
    changed: tuple[str, ...] = field(default=())
    stopped: str = ""
    doubts: tuple[DoubtLine, ...] = ()
    coverage: tuple[CoverageLine, ...] = ()
    brought: tuple[str, ...] = ()
    prices: dict[str, Price] = field(default_factory=dict)

    def candidate(self, name: str) -> CandidateReport:
        """Return the candidate called ``name``; a ValueError when there is none."""
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate
        raise ValueError(f"no candidate {name!r} in this report")

    @property
    def shipped(self) -> CandidateReport:
        """The chosen candidate, or the nearest where none was chosen."""
        return self.candidate(self.chosen or (self.nearest.candidate if self.nearest else ""))


def lines(verdict: Verdict) -> tuple[FindingLine, ...]:
    """Return the findings of a verdict as plain data."""
    return tuple(
        FindingLine(f.limit, f.outcome.value, f.reason, f.remedy) for f in verdict.findings
    )


def written(limit: str, value: int) -> str:
    """Return a limit as it stands in a project file: ``accuracy_drop_points = 1.0``."""
    if limit == "min_retention_bp":
        return f"min_retention = {value / 10_000:g}"
    if limit.endswith("_bp"):
        return f"{limit.removesuffix('_bp')}_points = {value / 100:g}"
    return f"{limit} = {value}"


def to_bytes(document: Any) -> bytes:
    """Return a document as JSON a person can read; the same value, the same bytes."""
    text = json.dumps(records.encode(document), indent=2, sort_keys=True, ensure_ascii=False)
    return f"{text}\n".encode()


def sha256(document: Any) -> str:
    """Return the digest of ``to_bytes``."""
    return digest.of_bytes(to_bytes(document))
