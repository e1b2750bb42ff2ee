"""pack: a bundle a device can trust, the same bytes every time, and no silent exception."""

import json
import resource
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from tests.sim.models import quarters, samples, write_data, write_model

from edgewright import runtime
from edgewright.bundle.archive import Archive
from edgewright.bundle.manifest import CLOSE, TOP1
from edgewright.core import digest, stats
from edgewright.core.errors import (
    BundleError,
    ContractError,
    GoldenError,
    InconclusiveError,
    UsageError,
)
from edgewright.toolchain.pack import REFERENCE, VERDICT, Wish, pack
from edgewright.toolchain.planner.workspace import REPORT
from edgewright.toolchain.recipe import carry_out

pytestmark = pytest.mark.slow

WISH = Wish("quarters", 1)


def test_a_packed_bundle_verifies_and_answers(made, tmp_path):
    """Every byte is named, and the runtime answers what the optimised file answered."""
    order, report, _ = made
    images, labels = samples(20, seed=5, blur=2)

    packed = pack(order.folder, tmp_path / "q.ewb", WISH)

    with Archive(packed.path) as archive:
        archive.verify()
        assert archive.digest() == packed.digest
        assert archive.manifest == packed.manifest
    with runtime.load(packed.path) as model:
        found = np.concatenate([model.predict(image[None]) for image in images])
    assert (found.argmax(axis=1) == labels).all()
    assert [variant.name for variant in packed.manifest.variants] == [report.chosen]


def test_what_the_manifest_says(made, tmp_path):
    """Golden sets, policy, baselines, sizes and provenance are those of the report."""
    order, report, _ = made

    packed = pack(order.folder, tmp_path / "q.ewb", replace(WISH, label="first"))

    manifest = packed.manifest
    (variant,) = manifest.variants
    (own,) = manifest.golden.variants
    figures = {e.name: e for e in variant.evidence}
    assert manifest.label == "first"
    assert manifest.verdict == "pass"
    assert manifest.overrides == ()
    assert manifest.golden.reference.count == 32
    assert manifest.golden.reference.tolerance.kind == TOP1
    assert manifest.golden.reference.tolerance.min_agree_bp == 9400
    assert own.tolerance.kind == CLOSE
    assert own.tolerance.atol_micro > 0
    assert manifest.policy.max_p95_us == order.contract.p99_us
    assert manifest.baselines.p50_us == report.shipped.figure("p50_us").value
    assert manifest.provenance.source_sha256 == digest.of_file(order.model)
    assert manifest.provenance.evidence_sha256 == digest.of_file(order.folder / REPORT)
    assert manifest.provenance.tools == report.recipe.tools
    assert figures["transport_bytes"].value == packed.path.stat().st_size
    assert figures["storage_bytes"].value == packed.storage_bytes
    assert figures["accuracy_drop_bp"].n == 400
    counts = next(c for c in report.candidates if c.name == report.chosen).counts[0]
    loss = stats.paired_loss(counts.lost, counts.gained, counts.n)
    assert figures["accuracy_drop_bp"].low <= loss.low * 10_000
    assert figures["accuracy_drop_bp"].high >= loss.high * 10_000
    assert all(e.lower <= e.value <= e.upper for e in variant.evidence)
    assert variant.precision == report.shipped.precision


def test_a_slot_takes_what_was_said(made, tmp_path):
    """``storage_bytes`` is the sum of the files an installed slot has."""
    order, _, _ = made
    packed = pack(order.folder, tmp_path / "q.ewb", WISH)

    with Archive(packed.path) as archive:
        archive.extract(tmp_path / "slot")

    files = [path for path in (tmp_path / "slot").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) == packed.storage_bytes


def test_packing_twice_gives_the_same_bytes(made, tmp_path):
    """Same folder, same name, same number."""
    order, _, _ = made

    first, second = (pack(order.folder, tmp_path / f"{n}.ewb", WISH) for n in range(2))

    assert first.path.read_bytes() == second.path.read_bytes()


def test_the_float_may_travel_along(made, tmp_path):
    """As a second variant, with golden answers of its own."""
    order, report, _ = made

    packed = pack(order.folder, tmp_path / "q.ewb", replace(WISH, with_float=True))

    narrow = report.shipped.precision
    assert narrow != "float32"
    assert [v.precision for v in packed.manifest.variants] == [narrow, "float32"]
    assert [g.variant for g in packed.manifest.golden.variants] == [report.chosen, "float"]
    with runtime.load(packed.path, variant="float") as model:
        assert model.variant == "float"


def test_a_verdict_that_is_not_a_pass_is_not_packed(made, folder, tmp_path):
    """Exit 3 with what was missed; with a reason it travels as an override."""
    order, _, _ = made
    contract = replace(order.contract, file_bytes=1000)
    with pytest.raises(ContractError):
        carry_out(replace(order, out=folder, contract=contract))

    with pytest.raises(ContractError, match="verdict fail: file_bytes") as caught:
        pack(folder, tmp_path / "q.ewb", WISH)
    packed = pack(folder, tmp_path / "q.ewb", replace(WISH, override="it is only a test"))

    (override,) = packed.manifest.overrides
    assert caught.value.exit_code == 3
    assert "--override" in caught.value.hint
    assert (override.refusal, override.reason) == (VERDICT, "it is only a test")
    assert "at most 1.00 kB is asked" in override.finding
    assert packed.manifest.verdict == "fail"


def test_a_model_that_became_useless_is_refused_for_both_reasons(made, tmp_path):
    """Its answers are wrong and the contract is missed; each is recorded when overruled."""
    order, _, _ = made
    wrong = write_model(tmp_path / "wrong.onnx", quarters(gain=-1.0))
    order = replace(order, model=wrong, reference=order.model, out=tmp_path / "out")
    with pytest.raises(ContractError):
        carry_out(order)

    with pytest.raises(GoldenError, match="of 32 answers agree"):
        pack(order.folder, tmp_path / "q.ewb", WISH)
    packed = pack(order.folder, tmp_path / "q.ewb", replace(WISH, override="a test"))

    overrides = {o.refusal: o.finding for o in packed.manifest.overrides}
    assert set(overrides) == {VERDICT, REFERENCE}
    assert "accuracy_drop" in overrides[VERDICT]
    assert "of 32 answers agree" in overrides[REFERENCE]


def test_an_undecided_verdict_is_not_packed(made, tmp_path):
    """Exit 4: more samples might make it a pass."""
    order, _, _ = made
    few = write_data(tmp_path / "few.npz", evaluate=40)
    order = replace(order, contract=replace(order.contract, file_bytes=100_000))
    order = replace(order, data=few, quantization="fp16", out=tmp_path / "out")
    with pytest.raises(InconclusiveError):
        carry_out(order)

    with pytest.raises(InconclusiveError, match="verdict inconclusive"):
        pack(order.folder, tmp_path / "q.ewb", WISH)

    assert not (tmp_path / "q.ewb").exists()


def test_golden_answers_that_are_not_reproduced_stop_it(folder, tmp_path):
    """A reference that answers otherwise: exit 1, unless overruled."""
    path = folder / "golden" / "output-0.bin"
    answers = np.fromfile(path, np.float32).reshape(-1, 4)
    path.write_bytes((-answers).tobytes())
    _correct_report(folder, "output-0.bin", path)

    with pytest.raises(GoldenError, match="like the reference: 0 of 32") as caught:
        pack(folder, tmp_path / "q.ewb", WISH)
    packed = pack(folder, tmp_path / "q.ewb", replace(WISH, override="a test"))

    assert caught.value.exit_code == 1
    assert [o.refusal for o in packed.manifest.overrides] == [REFERENCE]


@pytest.mark.parametrize("limit", ["transport_bytes", "storage_bytes"])
def test_a_bundle_larger_than_the_contract_is_refused(made, folder, tmp_path, limit):
    """Judged on the bundle itself; an override is recorded with the figure."""
    order, _, _ = made
    contract = replace(order.contract, **{limit: 1000})
    carry_out(replace(order, out=folder, contract=contract))

    with pytest.raises(ContractError, match=r"at most 1\.00 kB is asked"):
        pack(folder, tmp_path / "q.ewb", WISH)
    packed = pack(folder, tmp_path / "q.ewb", replace(WISH, override="a test"))

    assert packed.manifest.verdict == "fail"
    assert "at most 1.00 kB" in packed.manifest.overrides[0].finding


def test_limits_of_the_bundle_that_hold_are_a_pass(made, folder, tmp_path):
    """What optimize left open, pack decides."""
    order, _, _ = made
    contract = replace(order.contract, transport_bytes=100_000, storage_bytes=100_000)
    carry_out(replace(order, out=folder, contract=contract))

    packed = pack(folder, tmp_path / "q.ewb", WISH)

    assert packed.manifest.verdict == "pass"
    assert packed.manifest.contract.transport_bytes == 100_000


def test_a_policy_of_its_own_goes_before_the_contract(made, folder, tmp_path):
    """A p95 limit in the project file is the trial's limit."""
    order, _, _ = made
    policy = replace(order.policy, max_p95_us=777, min_inferences=9)
    carry_out(replace(order, out=folder, policy=policy))

    packed = pack(folder, tmp_path / "q.ewb", WISH)

    assert packed.manifest.policy == policy


@pytest.mark.parametrize("name", ["candidates/{chosen}/model.onnx", "golden/input-0.bin"])
def test_an_altered_folder_is_refused(made, folder, tmp_path, name):
    """One bit of a model or of a golden input: the file is named."""
    path = folder / name.format(chosen=made[1].chosen)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))

    with pytest.raises(BundleError, match="is not the file the report was made of"):
        pack(folder, tmp_path / "q.ewb", WISH)

    assert not (tmp_path / "q.ewb").exists()


def test_a_missing_file_is_refused(folder, tmp_path):
    """The file is named, by its place in the folder."""
    shutil.rmtree(folder / "golden")

    with pytest.raises(BundleError, match=r"cannot read golden/input-0\.bin"):
        pack(folder, tmp_path / "q.ewb", WISH)


def test_a_folder_of_something_else_is_a_usage_error(tmp_path):
    """Nothing was optimised there."""
    with pytest.raises(UsageError, match=r"holds no report\.json"):
        pack(tmp_path, tmp_path / "q.ewb", WISH)


@pytest.mark.parametrize(("name", "version"), [("Quarters", 1), ("", 1), ("q", 0), ("q", -1)])
def test_a_name_no_release_can_have_is_a_usage_error(name, version):
    """Refused before anything is read."""
    with pytest.raises(UsageError):
        Wish(name, version)


def test_a_full_disk_leaves_nothing(folder, tmp_path):
    """The bundle that was there stays; no temporary file is left beside it."""
    (tmp_path / "q.ewb").write_text("the one before")

    done = subprocess.run(
        [
            sys.executable, "-m", "edgewright.cli.main", "pack", str(folder),
            "--name", "quarters", "--version", "1", "-o", str(tmp_path / "q.ewb"),
        ],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )  # fmt: skip

    assert done.returncode == 1
    assert "cannot write q.ewb" in done.stderr
    assert "Free some space" in done.stderr
    assert (tmp_path / "q.ewb").read_text() == "the one before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "q.ewb"]


def _correct_report(folder, name, path):
    """Make the report name the file as it is now."""
    report = json.loads((folder / REPORT).read_text())
    report["golden"]["files"][name] = digest.of_file(path)
    (folder / REPORT).write_text(json.dumps(report))
