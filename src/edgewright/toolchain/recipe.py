"""``optimize``: from a model, real inputs and a contract to a candidate that is proven.

It loads and checks, makes candidates one by one, writes them, measures what was written
on the engine a device runs, and chooses by evidence; the best so far is always on disk.
The folder it leaves holds what was asked (``recipe.json``), what was decided
(``plan.json``), what happened (``report.json``), the evidence, the candidates and the
golden answers.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from edgewright.bundle.manifest import Policy
from edgewright.core import config
from edgewright.core.contract import Contract, Outcome
from edgewright.core.errors import ContractError, InconclusiveError
from edgewright.runtime.engines import Engine, load_engine
from edgewright.toolchain.measure import energy, metrics
from edgewright.toolchain.measure.data import DataKeys
from edgewright.toolchain.measure.forms import Pictures
from edgewright.toolchain.measure.latency import Budget
from edgewright.toolchain.planner import cache, cluster, inputs, outcome, workspace
from edgewright.toolchain.planner.ahead import Crew, Workers, meet
from edgewright.toolchain.planner.cache import StepCache
from edgewright.toolchain.planner.decide import Rules
from edgewright.toolchain.planner.gather import Bench, judged
from edgewright.toolchain.planner.ground import Ground, lay
from edgewright.toolchain.planner.inputs import Inputs, Order
from edgewright.toolchain.planner.ledger import Ledger
from edgewright.toolchain.planner.perform import Workshop
from edgewright.toolchain.planner.plan import SLOW_STEM
from edgewright.toolchain.planner.progress import Progress
from edgewright.toolchain.planner.search import INTERRUPTED, Search
from edgewright.toolchain.planner.stem import Stem
from edgewright.toolchain.planner.values import (
    FORMAT,
    CandidateReport,
    Plan,
    Recipe,
    Report,
    sha256,
    to_bytes,
    written,
)
from edgewright.toolchain.report import page
from edgewright.toolchain.sources import Wish

__all__ = ["Event", "Order", "Plan", "Project", "Recipe", "Report", "carry_out", "optimize"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something a watcher may want to show.

    ``stage`` says what begins: ``stage``, ``what``, ``elapsed_ms``, and in a search
    ``index`` of ``count`` candidates and ``eta_ms``, about how long it still takes.
    ``candidate`` says what is known of one, by ``outcome.summary``, and the ``best`` so far:
    with ``provisional`` true as soon as it is judged, and once more with false when the
    search has ended, since measuring again and later candidates may change a decision.
    ``workers`` says ``what`` is to be said of those who work ahead, how many ``steps`` and
    ``answers`` they delivered and what was ``lost``, so far. ``left_out`` says why a
    candidate was not judged; ``done`` how it all ended.

    Attributes:
        kind: stage, candidate, workers, left_out or done.
        fields: As above.
    """

    kind: str
    fields: Mapping[str, Any]


Observer = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class ModelTable:
    """``[model]`` of a project file.

    Attributes:
        reference: The model whose answers count, relative to the project file; the
            optimised model itself when empty.
    """

    reference: str = ""


@dataclass(frozen=True, slots=True)
class DataTable:
    """``[data]`` of a project file.

    Attributes:
        path: Real inputs, relative to the project file: an npz file, a folder of pictures
            by class, a csv, tsv or parquet table; or ``module:callable``.
        keys: What its arrays and columns are called.
        pictures: How pictures become numbers.
        classes: Names of the classes; their numbers when empty.
        metric: What answers are judged by; ``auto`` takes what the data call for.
        trust: Doubts about the data that are accepted, by name.
        allow_synthetic: Make inputs up where there are none; stays on the record.
    """

    path: str = ""
    keys: DataKeys = field(default_factory=DataKeys)
    pictures: Pictures = field(default_factory=Pictures)
    classes: tuple[str, ...] = ()
    metric: str = inputs.AUTO
    trust: tuple[str, ...] = ()
    allow_synthetic: bool = False


@dataclass(frozen=True, slots=True)
class RecipeTable:
    """``[recipe]`` of a project file.

    Attributes:
        quantization: ``auto``, ``none``, or ``int8``, ``int4``, ``fp16`` or an error.
        goal: ``size``, ``speed``, ``balanced`` or ``auto``.
        budget: How long to search, like ``"10m"``; no end when empty.
        precision: What layers are pinned to, by a node's name or a pattern.
        target: What is compiled for; ``auto`` takes the first the device runs.
        graph_level: ``aggressive``, ``balanced``, ``fast`` or ``none``.
        allow_slower: Let a candidate that is slower than the original ship.
        accept_estimates: Let figures that were not measured decide.
    """

    quantization: str = "auto"
    goal: str = inputs.AUTO
    budget: str = ""
    precision: dict[str, str] = field(default_factory=dict)
    target: str = inputs.AUTO
    graph_level: str = "aggressive"
    allow_slower: bool = False
    accept_estimates: bool = False


@dataclass(frozen=True, slots=True)
class Project:
    """An ``edgewright.toml``.

    Attributes:
        model: The model whose answers count.
        data: Real inputs with labels.
        contract: What must hold; the keys of ``core.contract.from_table``.
        policy: Limits for the trial on a device.
        recipe: How to go about it.
    """

    model: ModelTable = field(default_factory=ModelTable)
    data: DataTable = field(default_factory=DataTable)
    contract: dict[str, Any] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    recipe: RecipeTable = field(default_factory=RecipeTable)


def load_project(path: Path) -> Project:
    """Return the project file at ``path``.

    Raises:
        ConfigError: No such file, not TOML, an unknown key, or a wrong value.
    """
    return config.load(Project, path)


class Wishes(TypedDict, total=False):
    """What ``optimize`` may be told besides: the attributes of ``Order``."""

    device: str
    quantization: str
    goal: str
    budget_s: int
    keys: DataKeys
    pictures: Pictures
    classes: tuple[str, ...]
    metric: str
    trust: tuple[str, ...]
    allow_synthetic: bool
    wish: Wish
    precision: Mapping[str, str]
    target: str
    graph_level: str
    allow_slower: bool
    accept_estimates: bool
    policy: Policy


def optimize(
    model: str | Path,
    *,
    data: str | Path | None = None,
    reference: str | Path | None = None,
    contract: Contract | None = None,
    out: str | Path | None = None,
    force: bool = False,
    measure_again: bool = False,
    workers: str = "",
    observe: Observer | None = None,
    **wishes: Unpack[Wishes],
) -> Report:
    """Return the report on the best candidate that meets ``contract``.

    Args:
        model: An ONNX model, or anything ``sources.bring`` makes ONNX of.
        data: Real inputs, in a form that ``Order`` names.
        reference: The model whose answers count; ``model`` itself when None.
        contract: What must hold; the default limits only the accuracy lost, and everything
            is tried, while one that is given ends the search at the first that holds it.
        out: The folder to make; ``out/<stem of the model>`` when None.
        force: Overwrite what was made from other inputs.
        measure_again: Take measurements anew that an earlier run left in ``out``.
        workers: Who does work ahead: ``ray://HOST:PORT``, ``ray`` for the cluster that this
            machine is part of, or nobody. What comes out is the same.
        observe: Is told what goes on.
        wishes: What else ``Order`` says.

    Raises:
        ContractError: It is not met, or not decided by evidence; the report is written.
        EdgewrightError: Whatever else ``carry_out`` raises.
    """
    order = Order(
        model=model,
        data=data,
        reference=Path(reference) if reference is not None else None,
        contract=contract,
        out=Path(out) if out is not None else None,
        **wishes,
    )
    return carry_out(
        order, force=force, measure_again=measure_again, workers=workers, observe=observe
    )


def carry_out(
    order: Order,
    *,
    force: bool = False,
    measure_again: bool = False,
    workers: str = "",
    observe: Observer | None = None,
) -> Report:
    """Do what ``optimize`` says, for an order.

    Raises:
        ContractError: No candidate meets the contract; the report is written.
        InconclusiveError: The evidence does not decide; the report is written.
        ModelError: The model cannot be used.
        DataError: The samples cannot be used.
        UsageError: What is asked cannot mean anything, or would overwrite.
        StorageError: The disk refused; a report that was there still has its files.
        TransportError: The workers cannot be reached when the run begins.
        KeyboardInterrupt: It was interrupted; if anything was tried by then, and there
            was no finished run in the folder, the best so far is written.
    """
    cluster.check(workers)
    run = _Run(order, observe or _unseen)
    run.stage("load", "the model and the samples")
    given = inputs.read(order)
    workspace.check_free(order.folder, given.recipe, force=force)
    # What an earlier run finished is replaced by a finished run only.
    finished = workspace.finished(order.folder)
    with cluster.hired(workers) as crew, workspace.workspace(order.folder) as work:
        before = order.folder / workspace.EVIDENCE
        ledger = Ledger(before, folder=work / workspace.EVIDENCE, again=measure_again)
        plan, report = run.perform(given, work, ledger, crew, keep=finished)
        if report.stopped == INTERRUPTED and finished:
            raise KeyboardInterrupt
        run.stage("write", "the report")
        _write(work, order.folder, given, plan, report)
    run.say("done", outcome=report.outcome, chosen=report.chosen, folder=str(order.folder))
    if report.stopped == INTERRUPTED:
        raise KeyboardInterrupt
    _raise_unless_met(report, order.folder)
    return report


def _write(work: Path, folder: Path, given: Inputs, plan: Plan, report: Report) -> None:
    """Bring ``folder`` to what ``report`` says."""
    documents = {
        workspace.RECIPE: to_bytes(given.recipe),
        workspace.PLAN: to_bytes(plan),
        workspace.PAGE: page(report).encode(),
        workspace.REPORT: to_bytes(report),
    }
    workspace.commit(work, folder, documents, workspace.files_of(report))


def _unseen(_event: Event) -> None:
    """Let an event pass."""


@dataclass(frozen=True, slots=True)
class _Run:
    """One performance of an order, and who watches it."""

    order: Order
    observe: Observer
    progress: Progress = field(default_factory=Progress)

    def say(self, kind: str, **fields: Any) -> None:
        """Tell the watcher."""
        self.observe(Event(kind, fields))

    def stage(self, name: str, what: str) -> None:
        """Tell the watcher that a stage begins."""
        self.say("stage", stage=name, what=what, **self.progress.fields())

    def perform(
        self, given: Inputs, work: Path, ledger: Ledger, crew: Workers | None, *, keep: bool
    ) -> tuple[Plan, Report]:
        """Make, measure and judge candidates; return what was tried and what came of it.

        Args:
            given: What to work with.
            work: Where files are made.
            ledger: Keeps measurements.
            crew: Who works ahead, if anybody.
            keep: Leave the folder as it is until the search has stopped.
        """
        near = meet(crew) if crew is not None else False
        engine = load_engine(given.plan.engine)
        ground = lay(given, engine, work, self.stage)
        search = self._search(given, _bench(given, engine, ground), work, ledger)
        search.glance = ground.glance
        # A run that was killed had come further for a while: it is not taken back.
        before = workspace.tried(self.order.folder, given.recipe)

        def better() -> None:
            if not keep and len(search.made) >= before:
                report = _report(given, search, ground)
                _write(work, self.order.folder, given, search.plan, report)

        self.progress.begin(len(given.plan.candidates), given.recipe.budget_s)
        with self._helped(search, crew, near=near):
            search.run(better, lambda name: self._tried(search, name))
        self.progress.end()
        report = _report(given, search, ground)
        for candidate in report.candidates:
            self._tell(candidate, best=report.shipped.name, provisional=False)
        return search.plan, report

    def _search(self, given: Inputs, bench: Bench, work: Path, ledger: Ledger) -> Search:
        probes, pinned = work / "probe", frozenset(given.recipe.precision)
        stem = Stem(bench, ledger, given.plan.target, probes, self.stage, pinned)
        return Search(
            plan=given.plan,
            workshop=Workshop(
                given.plan, given.graph, given.data.calibrate, work / workspace.CANDIDATES,
                cache=StepCache(cache.home(), given.recipe.tools),
                meanings={SLOW_STEM: stem},
            ),
            bench=bench,
            ledger=ledger,
            rules=_rules(given),
            source=given.model,
            budget_s=given.recipe.budget_s,
            say=self.stage,
            folder=probes,
            pinned=pinned,
        )  # fmt: skip

    @contextmanager
    def _helped(
        self, search: Search, workers: Workers | None, *, near: bool
    ) -> Iterator[None]:
        """Let ``workers`` work ahead of a search."""
        if workers is None:
            yield
            return
        crew = Crew(
            workers,
            search.workshop,
            search.bench.data.evaluate,
            dict(search.bench.tools),
            measured=lambda name, files: judged(name, files, search.bench, search.ledger),
            tell=lambda what: self.say(
                "workers", what=what, steps=crew.steps, answers=crew.answered,
                lost=list(crew.lost),
            ),
            near=near,
        )  # fmt: skip
        search.bench = replace(search.bench, ahead=crew)
        search.workshop.helped = True
        for meaning in search.workshop.meanings.values():
            meaning.rest_by(crew.rest)
        crew.begin()
        try:
            yield
        finally:
            crew.close()

    def _tried(self, search: Search, name: str) -> None:
        """Tell what came of a candidate, as far as it is known."""
        self.progress.step()
        if name in search.workshop.left_out:
            self.say("left_out", name=name, reason=search.workshop.left_out[name])
            return
        decision = search.so_far()
        best = decision.chosen or (decision.nearest.candidate if decision.nearest else "")
        reports = outcome.candidate_reports(search.made, search.now, decision, search.layers)
        (one,) = (one for one in reports if one.name == name)
        self._tell(one, best=best, provisional=True)

    def _tell(self, one: CandidateReport, *, best: str, provisional: bool) -> None:
        self.say("candidate", **outcome.summary(one), best=best, provisional=provisional)


def _bench(given: Inputs, engine: Engine, ground: Ground) -> Bench:
    """Return what candidates are measured with."""
    here = given.device.fingerprint == given.host.fingerprint
    return Bench(
        engine=engine,
        data=given.data,
        metric=ground.metric,
        metric_name=metrics.identity(given.recipe.metric),
        reference_sha256=given.recipe.reference_sha256,
        machine=given.host.fingerprint,
        tools=given.recipe.tools,
        budget=Budget(),
        elsewhere=None if here else given.kind,
        meter=_meter(given.recipe),
        rate_hz=given.recipe.contract.rate_hz,
    )


def _meter(recipe: Recipe) -> energy.Meter | None:
    """Return the machine's meter where energy decides something: reading it takes seconds."""
    if recipe.contract.power_mw is None and recipe.goal != "battery":
        return None
    return energy.find()


def _rules(given: Inputs) -> Rules:
    return Rules(
        contract=given.recipe.contract,
        machine=given.device.fingerprint,
        host=given.host.fingerprint,
        allow_slower=given.recipe.allow_slower,
        accept_estimates=given.recipe.accept_estimates,
        goal=given.recipe.goal,
    )


def _report(given: Inputs, search: Search, ground: Ground) -> Report:
    """Return the report on what a search has found so far."""
    decision = search.decision()
    return Report(
        format=FORMAT,
        recipe=given.recipe,
        recipe_sha256=sha256(given.recipe),
        plan_sha256=sha256(search.plan),
        device=given.device,
        host=given.host,
        outcome=decision.outcome.value,
        chosen=decision.chosen,
        missed=outcome.missed(decision),
        candidates=outcome.candidate_reports(search.made, search.now, decision, search.layers),
        left_out={**search.plan.left_out, **search.workshop.left_out},
        evidence_files=dict(search.ledger.used),
        golden=ground.golden,
        inputs=given.graph.inputs,
        outputs=given.graph.outputs,
        samples={
            "calibrate": len(given.data.calibrate),
            "evaluate": len(given.data.evaluate),
        },
        engine=given.plan.engine,
        baseline=given.plan.baseline,
        nearest=decision.nearest,
        changed=search.changed(decision),
        stopped=search.stopped,
        doubts=ground.doubts,
        brought=given.brought,
        prices=search.left_for_cost(),
        coverage=ground.coverage,
    )


def _raise_unless_met(report: Report, folder: Path) -> None:
    """Raise what the outcome of ``report`` means for the caller."""
    if report.outcome == Outcome.PASS.value or report.nearest is None:
        return
    near = report.nearest
    missed = [f"{f.limit}: {f.reason}" for f in report.shipped.findings if f.outcome != "pass"]
    listed = "; ".join(missed or report.missed)
    hint = f"The report is {folder / workspace.PAGE}."
    if near.moved:
        limits = ", ".join(written(name, getattr(near.contract, name)) for name in near.moved)
        hint = f"{near.candidate} would meet {limits}. {hint}"
    if report.outcome == Outcome.INCONCLUSIVE.value:
        raise InconclusiveError(
            f"the evidence does not decide the contract; {near.candidate} comes nearest: "
            f"{listed}",
            hint=hint,
        )
    raise ContractError(
        f"no candidate meets the contract; {near.candidate} comes nearest: {listed}", hint=hint
    )
