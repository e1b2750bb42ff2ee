"""Small valid bundles made in a moment, and the ones a test wants to see refused.

The model is one linear layer over 8x8 images: ``image`` uint8 (N, 1, 8, 8) to
``logits`` float32 (N, 10), weights beside the graph in ``weights.bin``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgewright.bundle import archive
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
from edgewright.core.contract import Contract
from edgewright.core.tensors import TensorSpec
from edgewright.runtime import selftest
from edgewright.runtime.engines import load_engine

INPUT = TensorSpec("image", "uint8", (-1, 1, 8, 8))
OUTPUT = TensorSpec("logits", "float32", (-1, 10))


def weights(*, seed: int = 7, scale: float = 1.0, bias: float = 0.0) -> Any:
    """Return float32 (65, 10): 64 rows of weights, then the bias of each class."""
    drawn = np.random.default_rng(seed).normal(size=(65, 10)) * scale / 64
    drawn[64] += bias
    return drawn.astype(np.float32)


def make_model(
    folder: Path,
    values: Any,
    *,
    slow: int = 0,
    nan_on_black: bool = False,
    external: bool = True,
) -> Path:
    """Write ``model.onnx`` (and ``weights.bin``) into ``folder``; return the model's path.

    Args:
        folder: Made if it is not there.
        values: What ``weights`` returns.
        slow: Products of two 512x512 matrices done for nothing, 1 to 5 ms each.
        nan_on_black: Answer NaN to an image of zeros, and rightly to any other.
        external: Keep the weights in ``weights.bin`` beside the graph.
    """
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["real"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["scores"]),
    ]
    last = "scores"
    if slow:
        nodes += _waste(slow)
        last = "wasted"
    if nan_on_black:
        nodes += _trap(last)
        last = "trapped"
    nodes.append(helper.make_node("Identity", [last], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        [
            numpy_helper.from_array(values[:64], "weight"),
            numpy_helper.from_array(values[64], "bias"),
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path = folder / "model.onnx"
    onnx.save_model(
        model,
        path,
        save_as_external_data=external,
        location="weights.bin",
        size_threshold=0,
    )
    return path


def _waste(times: int) -> list[Any]:
    """Return nodes that multiply matrices and add nothing (0 times their mean) to scores.

    The matrices are made from the scores, so that no optimiser folds them away.
    """
    shape = helper.make_tensor("side", TensorProto.INT64, [2], [512, 512])
    zero = helper.make_tensor("nothing", TensorProto.FLOAT, [], [0.0])
    nodes = [
        helper.make_node("Constant", [], ["side"], value=shape),
        helper.make_node("Constant", [], ["nothing"], value=zero),
        helper.make_node("ReduceMax", ["scores"], ["seed"], keepdims=0),
        helper.make_node("Sigmoid", ["seed"], ["small"]),
        helper.make_node("Expand", ["small", "side"], ["m0"]),
    ]
    for index in range(times):
        nodes.append(helper.make_node("MatMul", ["m0", f"m{index}"], [f"p{index}"]))
        nodes.append(helper.make_node("Sigmoid", [f"p{index}"], [f"m{index + 1}"]))
    nodes += [
        helper.make_node("ReduceMean", [f"m{times}"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
        helper.make_node("Add", ["scores", "zero"], ["wasted"]),
    ]
    return nodes


def _trap(scores: str) -> list[Any]:
    """Return nodes that add 0 * log(sum of the image): nothing, unless the sum is 0."""
    zero = helper.make_tensor("none", TensorProto.FLOAT, [], [0.0])
    return [
        helper.make_node("Constant", [], ["none"], value=zero),
        helper.make_node("ReduceMean", ["flat"], ["light"], axes=[1], keepdims=1),
        helper.make_node("Log", ["light"], ["depth"]),
        helper.make_node("Mul", ["depth", "none"], ["trap"]),
        helper.make_node("Add", [scores, "trap"], ["trapped"]),
    ]


def golden_images(count: int = 16) -> Any:
    """Return uint8 (count, 1, 8, 8), the same ones every time."""
    return np.random.default_rng(11).integers(0, 17, (count, 1, 8, 8), np.uint8)


def make_bundle(
    path: Path,
    *,
    name: str = "digits",
    version: int = 1,
    seed: int = 7,
    scale: float = 1.0,
    bias: float = 0.0,
    invert: bool = False,
    wrong_variant: bool = False,
    slow: int = 0,
    nan_on_black: bool = False,
    count: int = 16,
    variants: Sequence[str] = ("float32",),
    isa: Sequence[str] = (),
    engine: str = "onnxruntime",
    override: str = "",
    policy: Policy | None = None,
    verdict: str = "pass",
) -> str:
    """Write a bundle at ``path`` and return its digest; the model files lie beside it.

    Args:
        path: Of the ``.ewb``.
        name: Of the release.
        version: Of the release.
        seed: Other seeds are other models.
        scale: Of the weights.
        bias: Added to every class.
        invert: The model answers the opposite of its reference: golden.reference
            fails on every machine (packed as if overridden when ``override``).
        wrong_variant: golden.variant holds answers no machine gives.
        slow: Matrix products done for nothing in every answer, 1 to 5 ms each.
        nan_on_black: Golden answers are right, yet a black image is answered with NaN.
        count: Golden inputs.
        variants: Their names; each is the same model.
        isa: CPU features every variant asks for.
        engine: The engine every variant asks for.
        override: Reason given for overruling a failed golden.reference.
        policy: Of the trial.
        verdict: On the contract.
    """
    values = weights(seed=seed, scale=scale, bias=bias)
    work = path.parent / f".{path.name}.parts"
    truth = make_model(work / "reference", values)
    images = golden_images(count)
    contents: dict[str, Path | bytes] = {
        "golden/reference/input-0.bin": images.tobytes(),
        "golden/reference/output-0.bin": _answers(truth, images),
    }
    for variant in variants:
        folder = f"variants/{variant}"
        model = make_model(
            work / variant,
            -values if invert else values,
            slow=slow,
            nan_on_black=nan_on_black,
        )
        contents[f"{folder}/model.onnx"] = model
        contents[f"{folder}/weights.bin"] = model.parent / "weights.bin"
        raw = _answers(model, images)
        wrong = (np.frombuffer(raw, np.float32) + 1).tobytes()
        contents[f"golden/{variant}/output-0.bin"] = wrong if wrong_variant else raw
    refused = Override("golden-reference", override, "0 of 16 answers agree")
    manifest = Manifest(
        format=FORMAT,
        name=name,
        version=version,
        inputs=(INPUT,),
        outputs=(OUTPUT,),
        variants=tuple(
            Variant(v, engine, "float32", f"variants/{v}/model.onnx", tuple(isa))
            for v in variants
        ),
        golden=_golden(variants, len(images)),
        contract=Contract(),
        baselines=Baselines(p50_us=20, p99_us=60, machine="linux-00000000"),
        policy=policy or Policy(),
        provenance=_provenance(truth),
        entries=archive.plan(contents),
        classes=tuple("0123456789"),
        verdict=verdict,
        overrides=(refused,) if override else (),
    )
    return archive.write(path, manifest, contents)


def bare_manifest(contents: dict[str, Path | bytes], **changes: Any) -> Manifest:
    """Return a manifest of ``contents`` that no engine has to load.

    What the manifest itself needs (a model and golden answers) is added to
    ``contents`` where it is missing.
    """
    named = ("variants/v/model.onnx", "golden/in.bin", "golden/out.bin", "golden/own.bin")
    for path in named:
        contents.setdefault(path, path.encode())
    reference = GoldenReference(1, named[1:2], named[2:3], Tolerance(TOP1), _digest("source"))
    own = GoldenVariant("v", named[3:4], Tolerance(CLOSE))
    fields: dict[str, Any] = {
        "format": FORMAT,
        "name": "bare",
        "version": 1,
        "inputs": (INPUT,),
        "outputs": (OUTPUT,),
        "variants": (Variant("v", "onnxruntime", "float32", named[0]),),
        "golden": Golden(reference, (own,)),
        "contract": Contract(),
        "baselines": Baselines(p50_us=20, p99_us=60, machine="linux-00000000"),
        "policy": Policy(),
        "provenance": Provenance(*(_digest(str(i)) for i in range(5)), {"onnx": "1"}),
        "entries": archive.plan(contents),
    }
    return Manifest(**{**fields, **changes})


def make_bare(path: Path, contents: dict[str, Path | bytes] | None = None) -> str:
    """Write an archive of ``contents`` and what a manifest needs; return its digest."""
    contents = contents if contents is not None else {}
    manifest = bare_manifest(contents)
    return archive.write(path, manifest, contents)


def make_slot(folder: Path, **options: Any) -> tuple[Path, str]:
    """Return an installed slot below ``folder`` and its digest; options of ``make_bundle``."""
    bundle = folder / f"made-{len(list(folder.glob('*.ewb')))}.ewb"
    made = make_bundle(bundle, **options)
    slot = folder / "slots" / digest.hex_of(made)
    with archive.Archive(bundle) as opened:
        opened.extract(slot)
    return slot, made


def _digest(text: str) -> str:
    return digest.of_bytes(text.encode())


def _answers(model: Path, images: Any) -> bytes:
    engine = load_engine("onnxruntime")
    session = engine.load(model)
    feeds = selftest.samples((INPUT,), (images.tobytes(),), len(images), engine)
    (raw,) = selftest.answers(session, feeds)
    session.close()
    return raw


def _golden(variants: Sequence[str], count: int) -> Golden:
    reference = GoldenReference(
        count=count,
        inputs=("golden/reference/input-0.bin",),
        outputs=("golden/reference/output-0.bin",),
        tolerance=Tolerance(TOP1, min_agree_bp=9500),
        source_sha256=digest.of_bytes(b"source"),
    )
    own = tuple(
        GoldenVariant(v, (f"golden/{v}/output-0.bin",), Tolerance(CLOSE, atol_micro=1000))
        for v in variants
    )
    return Golden(reference, own)


def _provenance(model: Path) -> Provenance:
    source = digest.of_file(model)
    some = digest.of_bytes(b"none")
    tools = {"onnx": onnx.__version__}
    return Provenance(source, source, some, some, some, tools)
