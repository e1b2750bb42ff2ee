"""Limits alone: whether they are met, how closely, and after how many full evaluations.

Each model of the suite is optimized for an accuracy to keep, alone or with at most so many
bytes, and no goal: the first candidate that holds ships. A full evaluation is one candidate
answering every evaluation sample, the float model included, which the others are compared
with; candidates that are too large are not asked. Where the float model has a class that it
hardly ever answers, nothing could hold a limit on the worst class, so none is set.
"""

import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from benchmarks.peers.results import Row, row
from benchmarks.suite import ROWS
from benchmarks.suite import Row as Held

from edgewright.core.contract import Contract
from edgewright.core.errors import ContractError, DataError
from edgewright.toolchain.measure import doubts
from edgewright.toolchain.planner.sized import SIZED
from edgewright.toolchain.planner.workspace import read_report
from edgewright.toolchain.recipe import optimize

EVALUATIONS, NEAR = 2, 0.03
# Of the float model's bytes, from above half precision to next to the smallest form.
SHARES = (0.6, 0.4, 0.3, 0.2)
_QUICK = frozenset({"mobilenet", "transformer", "keyword"})
_CALIBRATE, _EVALUATE = 256, 2_000


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of one model and one limit.

    Attributes:
        name: The model and the share of its bytes that were allowed.
        limit: In bytes; 0 for an accuracy alone.
        bytes: Of what ships, or is nearest.
        evaluations: Candidates that answered all evaluation samples.
        held: Whether a candidate held the contract.
        chosen: Its name, or the nearest's.
        loss: Points lost by it.
    """

    name: str
    limit: int
    bytes: int
    evaluations: int
    held: bool
    chosen: str
    loss: float


def measure(*, quick: bool) -> list[Row]:
    """Return what limits come to over the suite."""
    ran = []
    for held in ROWS:
        if not quick or held.name in _QUICK:
            ran += _of_model(held)
    alone = [one for one in ran if not one.limit]
    return [*_alone(alone), *_sized([one for one in ran if one.limit]), *map(_row, ran)]


def _alone(ran: list[Ran]) -> list[Row]:
    """Return how soon an accuracy to keep is met where nothing else is asked."""
    return _soon("accuracy alone", "models", ran)


def _soon(what: str, of: str, ran: list[Ran]) -> list[Row]:
    """Return how many were met, and after how many full evaluations."""
    asked = [one.evaluations for one in ran if one.held]
    found = [row(f"{what}: met", len(asked), of, goal=f"{len(ran)}",
                 met=len(asked) == len(ran), n=len(ran))]  # fmt: skip
    if asked:
        few = sum(count <= EVALUATIONS for count in asked)
        found.append(
            row(f"{what}: full evaluations until the contract is met, median",
                median(asked), "evaluations", goal=f"<= {EVALUATIONS}",
                met=median(asked) <= EVALUATIONS, n=len(asked),
                spread=f"{min(asked)} to {max(asked)}, {few} of {len(asked)} within the goal")
        )  # fmt: skip
    return found


def _sized(ran: list[Ran]) -> list[Row]:
    """Return what limits on size come to."""
    found = _soon("size limits", "limits", ran)
    mixed = [1 - one.bytes / one.limit for one in ran if one.held and one.chosen == SIZED]
    if mixed:
        near = sum(gap <= NEAR for gap in mixed)
        found.append(
            row("size limits: left unused by weights put together for the limit, median",
                100 * median(mixed), "%", goal=f"<= {100 * NEAR:.0f}",
                met=median(mixed) <= NEAR, n=len(mixed),
                spread=f"{100 * min(mixed):.2f} to {100 * max(mixed):.2f}, {near} of "
                f"{len(mixed)} within the goal")
        )  # fmt: skip
    return found


def _row(one: Ran) -> Row:
    told = f"{one.chosen}, {one.loss:.2f} points lost"
    if not one.limit:
        return row(
            f"accuracy alone: {one.name}", one.evaluations, "evaluations", met=one.held,
            spread=told, bytes=one.bytes,
        )  # fmt: skip
    return row(
        f"size limit: {one.name}", 100 * (1 - one.bytes / one.limit), "% unused",
        met=one.held, spread=told,
        evaluations=one.evaluations, bytes=one.bytes, limit=one.limit,
    )  # fmt: skip


def _of_model(held: Held) -> list[Ran]:
    calibrate, evaluate = held.samples("calibrate").inputs, held.samples("evaluate").inputs
    parts = {f"calibrate_{name}": array[:_CALIBRATE] for name, array in calibrate.items()}
    parts |= {f"evaluate_{name}": array[:_EVALUATE] for name, array in evaluate.items()}
    ran = []
    with TemporaryDirectory(prefix="limits-") as folder:
        work = Path(folder)
        np.savez(work / "data.npz", **parts)
        for share in (None, *SHARES):
            try:
                ran.append(_once(held, share, work))
            except DataError as error:
                print(f"{held.name}: {error}", file=sys.stderr, flush=True)
                break
            print(ran[-1], file=sys.stderr, flush=True)
    return ran


def _once(held: Held, share: float | None, work: Path) -> Ran:
    limit, out = round(held.model.stat().st_size * (share or 0)), work / f"out-{share}"
    kept = Contract(accuracy_drop_bp=200, worst_class_drop_bp=10_000, min_retention_bp=0)
    contract = replace(kept, file_bytes=limit) if limit else kept
    with suppress(ContractError):  # its report tells
        optimize(
            held.model, data=work / "data.npz", out=out, contract=contract, allow_slower=True,
            trust=tuple(doubts.KINDS),
        )  # fmt: skip
    report = read_report(out)
    shipped = report.shipped
    return Ran(
        name=f"{held.name} to {share:.0%}" if share else held.name,
        limit=limit,
        bytes=shipped.file_bytes,
        evaluations=sum(what.startswith("accuracy of ") for what in report.evidence_files),
        held=bool(report.chosen),
        chosen=shipped.name,
        loss=100 * shipped.overall.loss().estimate,
    )
