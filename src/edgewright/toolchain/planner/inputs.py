"""Read and check what a run is given, and write down what was asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgewright.bundle.manifest import Policy
from edgewright.core import probe, profile
from edgewright.core.contract import Contract
from edgewright.core.errors import DataError, ModelError, UsageError
from edgewright.core.profile import DeviceProfile
from edgewright.core.records import nearest
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain import sources
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.load import load as load_graph
from edgewright.toolchain.ir.load import source_digest
from edgewright.toolchain.measure import doubts, forms, metrics
from edgewright.toolchain.measure.data import DataKeys, Dataset, Given, assemble
from edgewright.toolchain.measure.forms import Form, Pictures
from edgewright.toolchain.planner.plan import PRECISIONS, make_plan
from edgewright.toolchain.planner.values import (
    COSINE,
    FIDELITY,
    FORMAT,
    GOALS,
    QUANTIZATIONS,
    Machine,
    Plan,
    Recipe,
)
from edgewright.toolchain.sources import Wish
from edgewright.toolchain.targets import TARGETS
from edgewright.toolchain.techniques import TECHNIQUES

HOST, AUTO = "host", "auto"
_VECTORS = ("embed", "pooler", "feature", "hidden_state", "sentence")
_CLOSE = 5  # nodes before the answer
_SYNTHETIC = {"calibrate": 128, "evaluate": 256}
_TOOLS = ("edgewright", "numpy", "onnx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Order:
    """What ``optimize`` is called with.

    Attributes:
        model: The ONNX model, or anything that ``sources.bring`` makes ONNX of.
        data: Real inputs: an npz file, a folder of pictures by class, a csv, tsv or
            parquet table, or ``module:callable``; None with ``allow_synthetic`` only.
        device: ``host`` for this machine, or a name in the catalogue.
        reference: The model whose answers count; the model itself when None.
        contract: What must hold; None where nobody asked, which means the default.
        out: The folder to make; ``out/<stem of the model>`` when None.
        quantization: ``auto``, ``none``, or ``int8``, ``int4``, ``fp16`` or an error.
        goal: ``size``, ``speed``, ``battery`` or ``balanced``; ``auto`` is none of them
            where there is a contract, and the first that holds it ships: the cheapest where
            it limits answers only, else the gentlest. Where there is none, it is
            ``balanced``.
        budget_s: Seconds after which no other candidate is begun; 0 for no end.
        policy: Limits for the trial on a device.
        keys: What the arrays of ``data`` are called.
        pictures: How pictures of ``data`` become numbers.
        classes: Names of the classes; their numbers when empty.
        metric: What answers are judged by, one of ``metrics.METRICS`` or
            ``module:callable``; ``auto`` takes what the data call for.
        trust: Doubts about the data that are accepted, by name.
        allow_synthetic: Make inputs up where there are none; stays on the record.
        wish: How the model is brought in, where it is not plain ONNX.
        precision: What layers are pinned to, by a node's name or a pattern like ``head*``:
            one of ``plan.PRECISIONS``.
        target: A name in ``targets``; ``auto`` takes the first the device runs.
        graph_level: How far nodes are fused: ``aggressive``, ``balanced``, ``fast`` or
            ``none``.
        allow_slower: Let a candidate that is slower than the original ship.
        accept_estimates: Let figures that were not measured decide.
    """

    model: str | Path
    data: str | Path | None
    device: str = HOST
    reference: Path | None = None
    contract: Contract | None = None
    out: Path | None = None
    quantization: str = "auto"
    goal: str = AUTO
    budget_s: int = 0
    policy: Policy = field(default_factory=Policy)
    keys: DataKeys = field(default_factory=DataKeys)
    pictures: Pictures = field(default_factory=Pictures)
    classes: tuple[str, ...] = ()
    metric: str = AUTO
    trust: tuple[str, ...] = ()
    allow_synthetic: bool = False
    wish: Wish = field(default_factory=Wish)
    precision: Mapping[str, str] = field(default_factory=dict)
    target: str = AUTO
    graph_level: str = "aggressive"
    allow_slower: bool = False
    accept_estimates: bool = False

    def __post_init__(self) -> None:
        """Refuse a wish we have no word for."""
        _known("quantization", self.quantization, QUANTIZATIONS)
        _known("goal", self.goal, (AUTO, *GOALS))
        _known("target", self.target, (AUTO, *TARGETS))
        _known("graph level", self.graph_level, TECHNIQUES["fuse"].settings["level"])
        for name in self.trust:
            _known("trust", name, tuple(doubts.KINDS))
        for layer, form in self.precision.items():
            if not layer or "," in layer:
                raise UsageError(
                    f"there is no layer {layer!r} to pin to {form}",
                    hint="Pin one layer a line, by a name or a pattern like head*.",
                )
            _known(f"precision of {layer}", form, PRECISIONS)
        if self.budget_s < 0:
            raise UsageError(
                f"budget must be at least 0 s, got {self.budget_s}",
                hint="Give seconds, or leave it out for no end.",
            )
        if self.metric != AUTO:
            metrics.parse(self.metric)
        if self.data is None and not self.allow_synthetic:
            raise UsageError(
                "no data: real inputs are needed to calibrate and to judge",
                hint="Give --data, or --allow-synthetic, which proves nothing of accuracy.",
            )

    @property
    def folder(self) -> Path:
        """The folder to make."""
        return self.out or Path("out") / self.stem

    @property
    def stem(self) -> str:
        """What the model is called: its file's stem, or its callable's module."""
        text = str(self.model)
        if ":" in text and not Path(text).exists():
            return text.partition(":")[0].rpartition(".")[2] or "model"
        return Path(text).stem


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What a run works with, all of it checked.

    Attributes:
        model: The file the graph is from; made by ``sources`` where it was not ONNX.
        brought: What bringing it in came to, one sentence each.
        graph: The model.
        reference: The file whose answers count.
        data: What candidates are calibrated on and judged by.
        device: What the contract is about.
        host: This machine.
        kind: The device's profile.
        recipe: What was asked.
        plan: What is tried.
    """

    model: Path
    brought: tuple[str, ...]
    graph: Graph
    reference: Path
    data: Dataset
    device: Machine
    host: Machine
    kind: DeviceProfile
    recipe: Recipe
    plan: Plan


def _known(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"{what} cannot be {value!r}", hint=nearest(value, list(known)))


def read(order: Order) -> Inputs:
    """Return everything ``order`` names, checked against each other.

    Raises:
        ModelError: The model or the reference cannot be used, or they do not agree.
        DataError: The samples cannot be used.
        UsageError: No such device.
        TargetError: No engine of ours runs on the device.
    """
    host = probe.probe()
    device = host if order.device == HOST else profile.find(order.device)
    model, sha256, brought = _bring(order)
    graph = load_graph(model)
    _check_interface(graph, Path(order.model).name)
    reference = order.reference or model
    if reference != model:
        _check_alike(graph, load_graph(reference), reference.name)
    data = _data(order, graph)
    recipe = Recipe(
        format=FORMAT,
        model=order.stem,
        model_sha256=sha256,
        reference_sha256=sha256 if reference == model else source_digest(reference),
        data_sha256=data.sha256,
        device=order.device,
        contract=order.contract or Contract(),
        policy=order.policy,
        classes=data.classes,
        tools={name: version(name) for name in _TOOLS},
        quantization=order.quantization,
        goal=_goal(order),
        budget_s=order.budget_s,
        metric=_metric(order, data, graph),
        trusted=tuple(sorted(order.trust)),
        synthetic=data.synthetic,
        precision=dict(order.precision),
        graph_level=order.graph_level,
        target="" if order.target == AUTO else order.target,
        allow_slower=order.allow_slower,
        accept_estimates=order.accept_estimates,
    )
    if order.quantization != "none" and not len(data.calibrate):
        raise DataError(
            f"{order.data} holds no calibration samples",
            hint="Add a few hundred real inputs (calibrate_images in an npz file), or ask for "
            "--quantization none.",
        )
    machines = _machine(order.device, device), _machine(HOST, host)
    plan = make_plan(recipe, device, graph)
    return Inputs(model, brought, graph, reference, data, *machines, device, recipe, plan)


def _bring(order: Order) -> tuple[Path, str, tuple[str, ...]]:
    """Return the ONNX file, the digest of what was given, and what is to be said of it."""
    path = Path(order.model)
    wish = order.wish
    asked = (wish.weights, wish.inputs, wish.freeze, wish.keep_dynamic, wish.opset)
    if path.suffix.lower() == ".onnx" and not any(asked):
        return path, source_digest(path), ()
    data = Path(str(order.data)) if order.data is not None else None
    if wish.samples is None and data is not None and data.suffix == ".npz":
        wish = replace(wish, samples=_parity_samples(data, order.keys.evaluate_inputs))
    folder = order.folder.with_name(f"{order.folder.name}.source")
    found = sources.bring(str(order.model), wish, folder)
    said = (
        f"{found.kind} by {found.exporter}: within {found.parity:.1e} of its source on "
        f"{found.rows} {'real' if found.real else 'made-up'} rows"
    )
    return found.path, found.sha256, (said, *found.notes)


def _parity_samples(path: Path, key: str) -> Mapping[str, npt.NDArray[np.generic]]:
    """Return the evaluation inputs of a data file by the model's names, where it has them."""
    arrays = sources.load_samples(path)
    if key in arrays:
        return {key: arrays[key]}
    part = "evaluate_"
    truth = {"evaluate_labels", "evaluate_targets", "evaluate_boxes"}
    named = {
        name.removeprefix(part): array
        for name, array in arrays.items()
        if name.startswith(part) and name not in truth
    }
    return named or arrays


def _goal(order: Order) -> str:
    """Return what is searched for; nothing where a contract says it all."""
    if order.goal != AUTO:
        return order.goal
    return "balanced" if order.contract is None else ""


def _machine(name: str, kind: DeviceProfile) -> Machine:
    return Machine(name, kind.title, kind.fingerprint, kind.resource_class)


def _check_interface(graph: Graph, name: str) -> None:
    """Refuse a model that does not answer samples one by one."""
    if not graph.inputs or not graph.outputs:
        raise ModelError(
            f"{name} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs",
            hint="Export it with at least one input and one output.",
        )
    for kind, specs in (("input", graph.inputs), ("output", graph.outputs)):
        for spec in specs:
            if spec.shape[:1] not in {(-1,), (1,)}:
                raise ModelError(
                    f"{kind} {spec.name!r} of {name} has shape {list(spec.shape)}; the first "
                    "dimension must be the sample, free or 1",
                    hint="Export it with a free batch dimension.",
                )


def _check_alike(graph: Graph, reference: Graph, name: str) -> None:
    _check_interface(reference, name)
    mine, theirs = (
        [[(spec.dtype, spec.shape[1:]) for spec in specs] for specs in (g.inputs, g.outputs)]
        for g in (graph, reference)
    )
    names = [[spec.name for spec in g.inputs] for g in (graph, reference)]
    if mine != theirs or names[0] != names[1]:
        raise ModelError(
            f"the reference {name} takes {_said(reference.inputs)} and answers "
            f"{_said(reference.outputs)}, the model takes {_said(graph.inputs)} and answers "
            f"{_said(graph.outputs)}",
            hint="Give a reference that answers the same question.",
        )


def _said(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape[1:])}" for spec in specs)


def _data(order: Order, graph: Graph) -> Dataset:
    """Return what the order's data hold, or what is made up in their place."""
    if order.data is None:
        return _synthetic(graph)
    form = Form(keys=order.keys, pictures=order.pictures)
    given = forms.read(str(order.data), graph.inputs, form)
    if order.allow_synthetic and not given.calibrate:
        made = _synthetic(graph)
        whole = assemble(given, graph.inputs, _classes(order, given, graph))
        return replace(whole, calibrate=made.calibrate, synthetic=True)
    return assemble(given, graph.inputs, _classes(order, given, graph))


def _synthetic(graph: Graph) -> Dataset:
    """Return made-up inputs: floats around 0, bytes of all values, whole numbers 0 and 1."""
    parts = {}
    for seed, (part, count) in enumerate(_SYNTHETIC.items()):
        rng = np.random.default_rng(seed)
        parts[part] = {spec.name: _made_up(spec, count, rng) for spec in graph.inputs}
    place = metrics.scores_of(graph.outputs)
    count = graph.outputs[place].shape[1] if place is not None else 0
    given = Given("made-up inputs", parts["evaluate"], parts["calibrate"])
    found = assemble(given, graph.inputs, tuple(map(str, range(max(count, 0)))))
    return replace(found, synthetic=True)


def _made_up(
    spec: TensorSpec, count: int, rng: np.random.Generator
) -> npt.NDArray[np.generic]:
    shape = (count, *spec.shape[1:])
    if -1 in shape:
        raise DataError(
            f"input {spec.name!r} has a free size in {list(spec.shape)}: nothing can be made "
            "up for it",
            hint="Freeze it when the model is imported, or give real inputs.",
        )
    if spec.dtype.startswith("float"):
        return rng.normal(size=shape).astype(spec.dtype)
    most = 256 if spec.dtype == "uint8" else 2
    return rng.integers(0, most, shape).astype(spec.dtype)


def _classes(order: Order, given: Given, graph: Graph) -> tuple[str, ...]:
    """Return the names of the classes, as many as the model answers."""
    place = metrics.scores_of(graph.outputs)
    if order.metric == AUTO and metrics.restores(graph.inputs, graph.outputs):
        place = None
    count = graph.outputs[place].shape[1] if place is not None else -1
    names = order.classes or given.classes
    if names and count > 0 and len(names) != count:
        who = "named" if order.classes else "in the data"
        raise UsageError(
            f"{len(names)} classes are {who}, the model answers {count}",
            hint="Name the classes in the order the model answers them, all of them.",
        )
    if names:
        return names
    return tuple(str(number) for number in range(max(count, 0)))


def _metric(order: Order, data: Dataset, graph: Graph) -> str:
    if order.metric != AUTO:
        return order.metric
    found = metrics.fitting(data, graph.inputs, graph.outputs)
    return COSINE if found == FIDELITY and _embeds(graph) else found


def _embeds(graph: Graph) -> bool:
    """Return whether the answer is a vector rather than a row of class scores.

    By what it is called, or because it is brought to length 1 at the end: the largest
    number of a vector means nothing.
    """
    (output,) = graph.outputs
    if any(word in output.name.lower() for word in _VECTORS):
        return True
    writers = {name: node for node in graph.proto.graph.node for name in node.output}
    left, seen = [(output.name, 0)], set()
    while left:
        name, depth = left.pop()
        node = writers.get(name)
        if node is None or name in seen or depth > _CLOSE:
            continue
        if node.op_type in {"LpNormalization", "ReduceL2"}:
            return True
        seen.add(name)
        left += [(source, depth + 1) for source in node.input]
    return False
