"""What was measured of one variant of one model, and the rows it is written as."""

from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.peers import OURS, Variant
from benchmarks.peers.judging import Drop
from benchmarks.peers.timing import Ratio, Rounds, faster

Row = dict[str, Any]


# Five of 5,000 samples; a drop that is no larger than that is as good.
EQUAL_POINTS = 0.1


@dataclass(frozen=True, slots=True)
class Result:
    """One variant of one model.

    Attributes:
        variant: Of which tool.
        bytes: Of its files; 0 when there are none.
        saved: How much smaller that is than the float file, in percent.
        seconds: How long the tool worked.
        drop: What its answers lose.
        speedup: How many times as fast as the same engine's float model.
        absolute: How many times as fast as ONNX Runtime's float model.
        reason: Why something is missing; empty when nothing is.
    """

    variant: Variant
    bytes: int = 0
    saved: float = 0.0
    seconds: float = 0.0
    drop: Drop | None = None
    speedup: Ratio | None = None
    absolute: Ratio | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """One model with everything that was made of it.

    Attributes:
        name: Of the subject.
        family: ``dense``, ``depthwise``, ``recurrent`` or ``transformer``.
        metric: What points are of.
        mflop: For one sample; 0 where nobody counted.
        in_suite: Whether goals for the suite count it.
        float_bytes: Of the float file.
        results: A result for each variant.
        rounds: Medians of blocks by the variant's title, as they took turns.
        versions: Of every tool that was used.
        notes: Anything else a reader should know.
    """

    name: str
    family: str
    metric: str
    mflop: float
    in_suite: bool
    float_bytes: int
    results: tuple[Result, ...]
    rounds: Rounds = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def ours(self, form: str) -> Result | None:
        """Return our result of ``form``, None when there are no figures.

        Of several it is the one the planner ships: the fastest of those that lose as little.
        """
        found = [
            (result.drop.points, result)
            for result in self.results
            if result.variant.tool == OURS and result.variant.form == form and result.drop
        ]
        least = max(min((points for points, _ in found), default=0.0), 0.0)
        equal = [one for points, one in found if points <= least + EQUAL_POINTS]
        speeds = [(one.speedup.value if one.speedup else 0.0, one) for one in equal]
        return max(speeds, key=lambda pair: pair[0])[1] if speeds else None

    def peers(self, form: str) -> list[Result]:
        """Return the results of others of ``form`` that have figures."""
        return [
            result
            for result in self.results
            if result.variant.tool != OURS and result.variant.form == form and result.drop
        ]

    def faster(self, mine: Result, than: Result) -> Ratio:
        """Return how many times as fast ``mine`` is, by blocks that took turns."""
        return faster(self.rounds, mine.variant.title, than.variant.title)


def row(
    name: str,
    value: float | str,
    unit: str,
    *,
    goal: str = "",
    met: bool | None = None,
    peers: dict[str, float] | None = None,
    spread: str = "",
    n: int = 1,
    **more: Any,
) -> Row:
    """Return one row as every area writes them, with whatever else it says."""
    shown = value if isinstance(value, str) else round(value, 3)
    told = {k: round(v, 3) for k, v in (peers or {}).items()}
    return {
        "name": name, "value": shown, "unit": unit, "goal": goal, "met": met,
        "peers": told, "spread": spread, "n": n, **more,
    }  # fmt: skip


def detail(measured: Measured, result: Result) -> Row:
    """Return the row of one variant of one model: how much smaller, and all its figures."""
    name = f"{measured.name}, {result.variant.title}"
    if not result.bytes:
        return row(name, "refused", "", reason=result.reason)
    figures = asdict(result)
    return row(
        name,
        result.saved,
        "% smaller",
        reason=result.reason,
        figures={
            key: _rounded(figures[key])
            for key in ("bytes", "seconds", "drop", "speedup", "absolute")
        },
    )


def _rounded(figure: Any) -> Any:
    if isinstance(figure, dict):
        return {key: round(value, 3) for key, value in figure.items()}
    return figure if figure is None else round(figure, 3)
