"""Read and check what a run is given, and write down what was asked."""

from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from edgewright.bundle.manifest import Policy
from edgewright.core import probe, profile
from edgewright.core.contract import Contract
from edgewright.core.errors import DataError, ModelError, UsageError
from edgewright.core.profile import DeviceProfile
from edgewright.core.records import nearest
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.load import load as load_graph
from edgewright.toolchain.ir.load import source_digest
from edgewright.toolchain.measure.data import DataKeys, Dataset
from edgewright.toolchain.measure.data import load as load_data
from edgewright.toolchain.planner.plan import make_plan
from edgewright.toolchain.planner.values import (
    ACCURACY,
    FIDELITY,
    FORMAT,
    GOALS,
    QUANTIZATIONS,
    Machine,
    Plan,
    Recipe,
)

HOST, AUTO = "host", "auto"
_TOOLS = ("edgewright", "numpy", "onnx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Order:
    """What ``optimize`` is called with.

    Attributes:
        model: The ONNX model.
        data: The npz file with real inputs.
        device: ``host`` for this machine, or a name in the catalogue.
        reference: The model whose answers count; the model itself when None.
        contract: What must hold.
        out: The folder to make; ``out/<stem of the model>`` when None.
        quantization: ``auto``, ``none``, or ``int8``, ``int4``, ``fp16`` or an error.
        goal: ``size``, ``speed`` or ``balanced``; ``auto`` is ``balanced`` where the
            contract limits no quantity, and else the first candidate that holds it.
        budget_s: Seconds after which no other candidate is begun; 0 for no end.
        policy: Limits for the trial on a device.
        keys: What the arrays of ``data`` are called.
        classes: Names of the classes; their numbers when empty.
        allow_slower: Let a candidate that is slower than the original ship.
        accept_estimates: Let figures that were not measured decide.
    """

    model: Path
    data: Path
    device: str = HOST
    reference: Path | None = None
    contract: Contract = field(default_factory=Contract)
    out: Path | None = None
    quantization: str = "auto"
    goal: str = AUTO
    budget_s: int = 0
    policy: Policy = field(default_factory=Policy)
    keys: DataKeys = field(default_factory=DataKeys)
    classes: tuple[str, ...] = ()
    allow_slower: bool = False
    accept_estimates: bool = False

    def __post_init__(self) -> None:
        """Refuse a wish we have no word for."""
        if self.quantization not in QUANTIZATIONS:
            raise UsageError(
                f"quantization cannot be {self.quantization!r}",
                hint=nearest(self.quantization, list(QUANTIZATIONS)),
            )
        if self.goal not in {AUTO, *GOALS}:
            raise UsageError(
                f"goal cannot be {self.goal!r}", hint=nearest(self.goal, [AUTO, *GOALS])
            )
        if self.budget_s < 0:
            raise UsageError(f"budget must be at least 0 s, got {self.budget_s}")

    @property
    def folder(self) -> Path:
        """The folder to make."""
        return self.out or Path("out") / self.model.stem


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What a run works with, all of it checked.

    Attributes:
        graph: The model.
        reference: The file whose answers count.
        data: Real inputs with labels.
        device: What the contract is about.
        host: This machine.
        recipe: What was asked.
        plan: What is tried.
    """

    graph: Graph
    reference: Path
    data: Dataset
    device: Machine
    host: Machine
    recipe: Recipe
    plan: Plan


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
    graph = load_graph(order.model)
    _check_interface(graph, order.model.name)
    reference = order.reference or order.model
    if reference != order.model:
        _check_alike(graph, load_graph(reference), reference.name)
    data = load_data(order.data, graph.inputs[0], _classes(order, graph), keys=order.keys)
    recipe = Recipe(
        format=FORMAT,
        model=order.model.stem,
        model_sha256=source_digest(order.model),
        reference_sha256=source_digest(reference),
        data_sha256=data.sha256,
        device=order.device,
        contract=order.contract,
        policy=order.policy,
        classes=data.classes,
        tools={name: version(name) for name in _TOOLS},
        quantization=order.quantization,
        goal=_goal(order),
        budget_s=order.budget_s,
        metric=FIDELITY if data.labels is None else ACCURACY,
        allow_slower=order.allow_slower,
        accept_estimates=order.accept_estimates,
    )
    if order.quantization != "none" and not len(data.calibrate):
        raise DataError(
            f"{order.data.name} holds no calibration samples ({order.keys.calibrate_inputs})",
            hint="Add a few hundred real inputs, or ask for --quantization none.",
        )
    machines = _machine(order.device, device), _machine(HOST, host)
    return Inputs(graph, reference, data, *machines, recipe, make_plan(recipe, device))


def _goal(order: Order) -> str:
    """Return what is searched for; nothing where a contract's limits say it all."""
    if order.goal != AUTO:
        return order.goal
    return "" if order.contract.limits() else "balanced"


def _machine(name: str, kind: DeviceProfile) -> Machine:
    return Machine(name, kind.title, kind.fingerprint, kind.resource_class)


def _check_interface(graph: Graph, name: str) -> None:
    """Refuse a model that does not answer one row of class scores to one input."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ModelError(
            f"{name} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; "
            "one of each can be judged",
            hint="Export a model from one input to one row of class scores.",
        )
    source, answer = graph.inputs[0], graph.outputs[0]
    if source.shape[:1] not in {(-1,), (1,)} or -1 in source.shape[1:]:
        raise ModelError(
            f"input {source.name!r} of {name} has shape {list(source.shape)}; only the "
            "first dimension may vary, and it must be free or 1",
            hint="Export it with a free batch dimension and fixed other sizes.",
        )
    if len(answer.shape) != 2 or answer.shape[1] < 2 or not answer.dtype.startswith("float"):
        raise ModelError(
            f"output {answer.name!r} of {name} is {answer.dtype} of shape "
            f"{list(answer.shape)}; a row of at least two float scores can be judged",
            hint="Export the class scores, before any argmax.",
        )


def _check_alike(graph: Graph, reference: Graph, name: str) -> None:
    _check_interface(reference, name)
    mine, theirs = (
        (g.inputs[0].dtype, g.inputs[0].shape[1:], g.outputs[0].dtype, g.outputs[0].shape[1:])
        for g in (graph, reference)
    )
    if mine != theirs:
        raise ModelError(
            f"the reference {name} takes {theirs[0]} {list(theirs[1])} and answers "
            f"{list(theirs[3])}, the model takes {mine[0]} {list(mine[1])} and answers "
            f"{list(mine[3])}",
            hint="Give a reference that answers the same question.",
        )


def _classes(order: Order, graph: Graph) -> tuple[str, ...]:
    count = graph.outputs[0].shape[1]
    if order.classes and len(order.classes) != count:
        raise UsageError(f"{len(order.classes)} classes are named, the model answers {count}")
    return order.classes or tuple(str(number) for number in range(count))
