"""Reports written by hand: three candidates of one model, with everything a page can show."""

from dataclasses import replace

from edgewright.bundle.manifest import Policy
from edgewright.core.contract import Contract
from edgewright.core.evidence import Evidence, PairedCounts, PairedScores
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.planner.decide import Known, Rules, decide
from edgewright.toolchain.planner.outcome import missed
from edgewright.toolchain.planner.values import (
    FORMAT,
    CandidateReport,
    CoverageLine,
    DoneStep,
    DoubtLine,
    GoldenIndex,
    LayerReport,
    Machine,
    Recipe,
    Report,
    lines,
)

HOST = Machine("host", "Some Processor", "some-0001", "high")
DIGEST = "sha256:" + "0" * 64
CONTRACT = Contract(
    accuracy_drop_bp=100, worst_class_drop_bp=600, file_bytes=400_000, p99_us=2_000
)


def step(technique, settings, note, bytes_after):
    """Return a step that was applied."""
    return DoneStep(
        technique,
        settings,
        "it is tried",
        applied=True,
        notes=(note,),
        bytes_after=bytes_after,
    )


FUSE = step("fuse", {"level": "aggressive"}, "26 nodes became 20", 990_000)
WEIGHTS = step(
    "weights", {"block": "channel", "form": "int8"}, "14 of 20 weights are int8", 260_000
)
QUANTIZE = step(
    "quantize", {"bits": "8", "granularity": "channel", "ranges": "minmax"},
    "20 of 22 layers are computed in int8", 270_000,
)  # fmt: skip
LAYERS = (
    LayerReport("stem", "Conv", 9_408, 52_000, "float", "alone it moves the answers by 5.2 %"),
    LayerReport("body", "Conv", 600_000, 900, "int8", "quantized"),
    LayerReport("head", "Gemm", 40_000, 21_000, "int8-weights", "its inputs spread too far"),
)
DOUBTS = (
    DoubtLine("calibration-size", "60 calibration samples", accepted=True),
    DoubtLine("class-shares", "12 % to 40 %", accepted=False),
)
COVERAGE = (
    CoverageLine("cat", 30, 200),
    CoverageLine("dog", 30, 200),
    CoverageLine("owl", 0, 200),
)


def figures(size, ratio, p99):
    """Return the evidence of a candidate; ``ratio`` and ``p99`` as low, value and high."""
    return (
        Evidence("file_bytes", size, 1, HOST.fingerprint, "parsed"),
        _measured("p50_us", (980, 1_000, 1_020)),
        _measured("p99_us", p99),
        _measured("latency_ratio_bp", ratio),
        _measured("peak_memory_bytes", (60_000_000, 61_000_000, 62_000_000)),
    )


def counts(lost, gained, *, right=540, n=600):
    """Return counts overall and for three equal classes; the first takes the losses."""
    each = n // 3
    of_class = [
        PairedCounts(name, each, right // 3, lost if first else 0, gained if first else 0)
        for first, name in ((True, "cat"), (False, "dog"), (False, "owl"))
    ]
    return (PairedCounts("overall", n, right, lost, gained), *of_class)


def scores(loss_micro, *, width=4_000):
    """Return scores overall, as a detector or a regression has them."""
    low, high = loss_micro - width, loss_micro + width
    return (PairedScores("overall", 600, 800_000, 800_000 - loss_micro, low, high),)


def report(*, contract=CONTRACT, goal="size", **changes):
    """Return a report on float, int8 weights and int8, decided by the rules of the planner."""
    made = (
        _candidate(
            "float", (), figures(1_000_000, (10_000,) * 3, (1_400, 1_500, 1_600)), counts(0, 0)
        ),
        _candidate(
            "int8-weights", (FUSE, WEIGHTS),
            figures(260_000, (9_950, 10_000, 10_050), (1_400, 1_480, 1_590)), counts(1, 1),
        ),
        _candidate(
            "int8-per-channel", (FUSE, QUANTIZE),
            figures(270_000, (4_800, 5_000, 5_100), (700, 800, 900)), counts(1, 2),
            layers=LAYERS,
        ),
    )  # fmt: skip
    found = Report(
        format=FORMAT,
        recipe=Recipe(
            FORMAT, "animals", DIGEST, DIGEST, DIGEST, "host", contract, Policy(),
            ("cat", "dog", "owl"), {"onnxruntime": "1"}, goal=goal,
        ),
        recipe_sha256=DIGEST, plan_sha256=DIGEST, device=HOST, host=HOST, outcome="pass",
        chosen="", missed=(), candidates=made,
        left_out={"int4-weights": "came out as the same files as int8-weights"},
        evidence_files={"latency of float": f"{'0' * 64}.json"},
        golden=GoldenIndex((0,), ("input-0.bin",), ("output-0.bin",), {}),
        inputs=(TensorSpec("image", "uint8", (-1, 1, 8, 8)),),
        outputs=(TensorSpec("logits", "float32", (-1, 3)),),
        samples={"calibrate": 60, "evaluate": 600}, engine="onnxruntime", baseline="float",
        stopped="all were tried", doubts=DOUBTS, coverage=COVERAGE,
    )  # fmt: skip
    return decided(replace(found, **changes))


def decided(given):
    """Return ``given`` with verdicts and a choice as the planner comes to them."""
    recipe = given.recipe
    known = [
        Known(one.name, choosable=True, evidence=one.evidence, counts=one.counts)
        for one in given.candidates
    ]
    decision = decide(
        known,
        Rules(recipe.contract, given.device.fingerprint, given.host.fingerprint,
              recipe.allow_slower, recipe.accept_estimates, recipe.goal),
    )  # fmt: skip
    candidates = tuple(
        replace(
            one,
            outcome=decision.verdicts[one.name].outcome.value,
            findings=lines(decision.verdicts[one.name]),
            chosen=one.name == decision.chosen,
            reason=decision.reasons[one.name],
        )
        for one in given.candidates
    )
    return replace(
        given, candidates=candidates, outcome=decision.outcome.value,
        chosen=decision.chosen, nearest=decision.nearest, missed=missed(decision),
    )  # fmt: skip


def _candidate(name, steps, evidence, compared, *, layers=()):
    return CandidateReport(
        name=name, steps=steps, precision="int8" if steps else "float32",
        files={"model.onnx": DIGEST}, outcome="pass", findings=(), chosen=False, reason="",
        evidence=evidence, counts=compared, layers=layers,
    )  # fmt: skip


def _measured(name, three):
    low, value, high = three
    return Evidence(name, value, 300, HOST.fingerprint, "measured on host", low, high, "turns")
