"""Pack: from an optimised folder to the bundle that ships.

The bundle carries the chosen candidate, both golden sets, what was measured and where
it all came from. A candidate the contract refuses, or that does not answer like the
reference, is not packed unless someone gives a reason, which then travels signed in
the manifest. The same folder gives the same bytes, every time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor
from pathlib import Path
from typing import Any

from edgewright.bundle import archive, golden
from edgewright.bundle.manifest import (
    CLOSE,
    FORMAT,
    TOP1,
    Baselines,
    Golden,
    GoldenReference,
    GoldenVariant,
    Manifest,
    Override,
    Policy,
    Provenance,
    Tolerance,
    Variant,
)
from edgewright.core import digest
from edgewright.core.contract import Outcome, judge
from edgewright.core.errors import (
    BundleError,
    ContractError,
    GoldenError,
    InconclusiveError,
    UsageError,
)
from edgewright.core.evidence import Evidence, Paired
from edgewright.core.names import check_name
from edgewright.runtime import selftest
from edgewright.runtime.engines import load_engine
from edgewright.toolchain.planner import workspace
from edgewright.toolchain.planner.decide import PACKED
from edgewright.toolchain.planner.values import ACCURACY, FIDELITY, CandidateReport, Report
from edgewright.toolchain.targets import TARGETS

_BP = 10_000
_MICRO = 1_000_000
# Of the largest golden answer: kernels of another CPU round differently, and less.
_CLOSE_SHARE = 0.01
# Without classes: room for another machine's kernels beyond what was measured here.
_MARGIN = 1.25
_ROUNDING = 1e-4
_BY_CLASS = frozenset({ACCURACY, FIDELITY, "f1"})
_ROUNDS = 8
# Of the archive's layout; what was written is compared with what they promise.
_HEAD_BYTES, _PAGE_BYTES = 16, 4096

_DEFECT = "Pack it again; if it is the same, report it with the folder."
_OVERRULE = 'Optimise again, or overrule it with --override "reason", which is signed.'

VERDICT, REFERENCE = "verdict", "golden-reference"


@dataclass(frozen=True, slots=True)
class Wish:
    """How a bundle is to be called, and what it may carry.

    Attributes:
        name: The release's name.
        version: The release's number.
        label: Free text for people.
        with_float: Carry the float candidate as a second variant.
        override: A reason to pack what would be refused; empty for none.
    """

    name: str
    version: int
    label: str = ""
    with_float: bool = False
    override: str = ""

    def __post_init__(self) -> None:
        """Refuse a name or a number no release can have."""
        check_name(self.name, "bundle")
        if self.version < 1:
            raise UsageError(
                f"version must be at least 1, got {self.version}",
                hint="Count releases from 1.",
            )


@dataclass(frozen=True, slots=True)
class Packed:
    """A bundle on disk.

    Attributes:
        path: The file.
        digest: Of the whole file.
        manifest: What it says about itself.
        transport_bytes: What one device downloads.
        storage_bytes: What an installed slot takes.
    """

    path: Path
    digest: str
    manifest: Manifest
    transport_bytes: int
    storage_bytes: int


def pack(folder: Path, out: Path, wish: Wish) -> Packed:
    """Write the bundle of the optimised ``folder`` at ``out``.

    Raises:
        UsageError: ``folder`` was not made by ``optimize``, or was not finished.
        ContractError: The contract is not met, by the candidate or by the bundle.
        InconclusiveError: The evidence does not decide the contract.
        GoldenError: The candidate does not answer the golden inputs like the reference.
        BundleError: A file of ``folder`` was altered since.
        StorageError: The disk refused; nothing is left at ``out`` that was not before.
    """
    parcel = _Parcel(folder, workspace.read_report(folder), wish)
    refusals = [*parcel.golden_reference(), *parcel.verdict()]
    manifest, transport, storage = parcel.manifest(refusals)
    written = archive.write(out, manifest, parcel.contents)
    if out.stat().st_size != transport:
        raise BundleError(
            f"{out.name} is {out.stat().st_size} bytes, not {transport}", hint=_DEFECT
        )
    return Packed(out, written, manifest, transport, storage)


class _Parcel:
    """Gathers what a bundle is made of."""

    def __init__(self, folder: Path, report: Report, wish: Wish) -> None:
        """Read and check the files of ``folder``."""
        self._folder = folder
        self._report = report
        self._wish = wish
        self._engine = load_engine(report.engine)
        shipped = report.shipped
        self._shipped = shipped
        self._variants = [shipped]
        if wish.with_float and shipped.precision != "float32":
            floats = [one for one in report.candidates if one.precision == "float32"]
            self._variants.append(floats[-1])
        self.contents: dict[str, Path | bytes] = {}
        self._answers: dict[str, tuple[bytes, ...]] = {}
        self._read()

    def _read(self) -> None:
        index = self._report.golden
        for name in (*index.inputs, *index.outputs):
            data = self._checked(Path(workspace.GOLDEN) / name, index.files[name])
            self.contents[f"golden/reference/{name}"] = data
        raw = [self._bytes(f"golden/reference/{name}") for name in index.inputs]
        feeds = selftest.samples(self._report.inputs, raw, len(index.samples), self._engine)
        entry = next(t.entry for t in TARGETS.values() if t.engine == self._report.engine)
        for one in self._variants:
            for name, expected in one.files.items():
                place = Path(workspace.CANDIDATES) / one.name / name
                self._checked(place, expected)
                self.contents[f"variants/{one.name}/{name}"] = self._folder / place
            session = self._engine.load(self._folder / workspace.CANDIDATES / one.name / entry)
            try:
                answered = selftest.answers(session, feeds)
            finally:
                session.close()
            self._answers[one.name] = answered
            for path, data in zip(_own_places(one, answered), answered, strict=True):
                self.contents[path] = data

    def _checked(self, place: Path, expected: str) -> bytes:
        """Return a file's bytes, which must be those the report names."""
        try:
            data = (self._folder / place).read_bytes()
        except OSError as error:
            raise BundleError(
                f"cannot read {place}: {error.strerror}", hint="Run edgewright optimize again."
            ) from error
        if digest.of_bytes(data) != expected:
            raise BundleError(
                f"{place} is not the file the report was made of",
                hint="Run edgewright optimize again.",
            )
        return data

    def _bytes(self, path: str) -> bytes:
        content = self.contents[path]
        return content if isinstance(content, bytes) else content.read_bytes()

    def verdict(self) -> list[Override]:
        """Return the refusal of the verdict that is overruled; none where it passes.

        Raises:
            ContractError: It is not a pass and there is no reason to overrule it.
        """
        report = self._report
        if report.outcome == Outcome.PASS.value:
            return []
        finding = "; ".join(report.missed)
        if self._wish.override:
            return [Override(VERDICT, self._wish.override, finding)]
        unsure = report.outcome == Outcome.INCONCLUSIVE.value
        kind = InconclusiveError if unsure else ContractError
        raise kind(
            f"not packed: {self._shipped.name} has the verdict {report.outcome}: {finding}",
            hint=_OVERRULE,
        )

    def golden_reference(self) -> list[Override]:
        """Return the refusal of the golden reference that is overruled; none where it holds.

        Raises:
            GoldenError: A variant answers differently and there is no reason to pack it.
        """
        tolerance = self._reference.tolerance
        for one in self._variants:
            for place, (expected, got) in enumerate(self._pairs(one)):
                found = golden.compare(
                    tolerance, self._rows(expected, place), self._rows(got, place)
                )
                if found.passed:
                    continue
                if self._wish.override:
                    return [Override(REFERENCE, self._wish.override, found.detail)]
                raise GoldenError(
                    f"not packed: {one.name} does not answer like the reference: "
                    f"{found.detail}",
                    hint=_OVERRULE,
                )
        return []

    def manifest(self, overrides: list[Override]) -> tuple[Manifest, int, int]:
        """Return the manifest with the bundle's own sizes in it, and those sizes.

        The sizes stand in the manifest and count its bytes, so they are worked out
        until they stay the same.

        Raises:
            ContractError: The bundle is larger than the contract allows.
        """
        entries = archive.plan(self.contents)
        transport = storage = 0
        for _ in range(_ROUNDS):
            sizes = (
                self._exact("transport_bytes", transport, "the bundle"),
                self._exact("storage_bytes", storage, "manifest and entries in a slot"),
            )
            refused = self._judge_sizes(sizes)
            manifest = Manifest(
                **self._said(),
                entries=entries,
                variants=self._described(sizes),
                overrides=(*overrides, *refused),
                verdict=Outcome.FAIL.value if refused else self._report.outcome,
            )
            before = transport, storage
            transport = _archive_bytes(manifest)
            storage = sum(e.length for e in entries) + len(manifest.to_bytes())
            if before == (transport, storage):
                return manifest, transport, storage
        raise BundleError(
            f"the sizes of the bundle did not settle in {_ROUNDS} rounds", hint=_DEFECT
        )

    def _judge_sizes(self, sizes: tuple[Evidence, ...]) -> list[Override]:
        contract = self._report.recipe.contract
        missed = [
            f
            for f in judge(contract, sizes, self._shipped.counts).findings
            if f.limit in PACKED and f.outcome is not Outcome.PASS
        ]
        if not missed:
            return []
        finding = "; ".join(f.reason for f in missed)
        if self._wish.override:
            return [Override(VERDICT, self._wish.override, finding)]
        raise ContractError(
            f"not packed: {finding}",
            hint="Pack without --with-float, or relax the limit.",
        )

    def _pairs(self, one: CandidateReport) -> Iterator[tuple[bytes, bytes]]:
        """Yield the reference's golden answers with the variant's, output by output."""
        names = self._report.golden.outputs
        expected = (self._bytes(f"golden/reference/{name}") for name in names)
        return zip(expected, self._answers[one.name], strict=True)

    @property
    def _reference(self) -> GoldenReference:
        index = self._report.golden
        return GoldenReference(
            count=len(index.samples),
            inputs=tuple(f"golden/reference/{name}" for name in index.inputs),
            outputs=tuple(f"golden/reference/{name}" for name in index.outputs),
            tolerance=self._tolerance(),
            source_sha256=self._report.recipe.reference_sha256,
        )

    def _tolerance(self) -> Tolerance:
        """Return how far a device may be from the reference.

        By the class where classes are judged; else a quarter farther than the variants are
        on this machine, which the metric has judged.
        """
        if self._report.recipe.metric in _BY_CLASS:
            agree = _BP - self._report.recipe.contract.worst_class_drop_bp
            return Tolerance(TOP1, min_agree_bp=agree)
        farthest = 0
        for one in self._variants:
            for place, (expected, got) in enumerate(self._pairs(one)):
                rows = self._rows(expected, place), self._rows(got, place)
                found = golden.compare(Tolerance(CLOSE, atol_micro=0), *rows)
                farthest = max(farthest, found.worst_micro, self._largest(expected, place))
        return Tolerance(CLOSE, atol_micro=ceil(farthest * _MARGIN))

    def _largest(self, data: bytes, place: int) -> int:
        """Return a ten-thousandth of the largest golden answer, in millionths."""
        largest: float = max(abs(v) for row in self._rows(data, place) for v in row)
        return ceil(largest * _ROUNDING * _MICRO)

    def _said(self) -> dict[str, Any]:
        """Return everything of the manifest that does not depend on its size."""
        report, wish = self._report, self._wish
        return {
            "format": FORMAT,
            "name": wish.name,
            "version": wish.version,
            "label": wish.label,
            "inputs": report.inputs,
            "outputs": report.outputs,
            "golden": Golden(self._reference, tuple(map(self._own, self._variants))),
            "contract": report.recipe.contract,
            "baselines": self._baselines(),
            "policy": _policy(report),
            "provenance": self._provenance(),
            "classes": report.recipe.classes,
        }

    def _own(self, one: CandidateReport) -> GoldenVariant:
        answered = self._answers[one.name]
        largest = max(
            abs(value)
            for place, data in enumerate(answered)
            for row in self._rows(data, place)
            for value in row
        )
        atol = round(_CLOSE_SHARE * largest * _MICRO)
        return GoldenVariant(
            variant=one.name,
            outputs=_own_places(one, answered),
            tolerance=Tolerance(CLOSE, atol_micro=atol),
        )

    def _described(self, sizes: tuple[Evidence, ...]) -> tuple[Variant, ...]:
        entry = next(t.entry for t in TARGETS.values() if t.engine == self._report.engine)
        return tuple(
            Variant(
                name=one.name,
                engine=self._report.engine,
                precision=one.precision,
                model=f"variants/{one.name}/{entry}",
                evidence=(*one.evidence, *self._losses(one), *sizes),
            )
            for one in self._variants
        )

    def _losses(self, one: CandidateReport) -> tuple[Evidence, ...]:
        overall, *classes = one.counts
        found = [self._loss("accuracy_drop_bp", overall)]
        if classes:
            losses = [self._loss("worst_class_drop_bp", counts) for counts in classes]
            found.append(max(losses, key=lambda e: e.high or 0))
        return tuple(found)

    def _judged(self) -> str:
        if self._report.recipe.synthetic:
            return "made-up inputs, paired with the reference"
        if self._report.recipe.metric == FIDELITY:
            return "answers unlike the reference's, no labels"
        if self._report.recipe.metric != ACCURACY:
            return f"{self._report.recipe.metric}, paired with the reference"
        return "paired with the reference"

    def _loss(self, name: str, counts: Paired) -> Evidence:
        loss = counts.loss()
        # Outwards: a bound that rounding moved inwards would be none.
        low, high = floor(loss.low * _BP), ceil(loss.high * _BP)
        value = round(loss.estimate * _BP)
        return Evidence(
            name, value, counts.n, self._report.host.fingerprint, "measured on host",
            low, high, how=f"{self._judged()}, {counts.label}",
        )  # fmt: skip

    def _exact(self, name: str, value: int, how: str) -> Evidence:
        return Evidence(name, value, 1, self._report.host.fingerprint, "parsed", how=how)

    def _baselines(self) -> Baselines:
        p50, p99 = self._shipped.figure("p50_us"), self._shipped.figure("p99_us")
        if p50 is None or p99 is None:
            raise UsageError(
                "the report holds no latency", hint="Run edgewright optimize again."
            )
        return Baselines(p50.value, p99.value, p50.machine)

    def _provenance(self) -> Provenance:
        recipe = self._report.recipe
        return Provenance(
            source_sha256=recipe.model_sha256,
            reference_sha256=recipe.reference_sha256,
            data_sha256=recipe.data_sha256,
            recipe_sha256=self._report.recipe_sha256,
            evidence_sha256=digest.of_file(self._folder / workspace.REPORT),
            tools=recipe.tools,
        )

    def _rows(self, data: bytes, place: int) -> Any:
        count = len(self._report.golden.samples)
        return selftest.rows(data, self._report.outputs[place].dtype, count)


def _own_places(one: CandidateReport, answered: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(f"golden/{one.name}/output-{place}.bin" for place in range(len(answered)))


def _archive_bytes(manifest: Manifest) -> int:
    """Return the length of the archive of ``manifest``: head, manifest, page, body."""
    head = _HEAD_BYTES + len(manifest.to_bytes())
    body = max(entry.offset + entry.length for entry in manifest.entries)
    return -(-head // _PAGE_BYTES) * _PAGE_BYTES + body


def _policy(report: Report) -> Policy:
    """Return the policy asked for; without a p95 limit of its own it has the contract's."""
    policy = report.recipe.policy
    if policy.max_p95_us is None and report.recipe.contract.p99_us is not None:
        return replace(policy, max_p95_us=report.recipe.contract.p99_us)
    return policy
