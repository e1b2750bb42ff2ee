"""Blocks of calls that take turns, and what they say of two models.

Every round each model has one block, another one first each time; two models are
compared round by round, by the ratio of the medians of their blocks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from benchmarks.peers.engines import Model, one_core

from edgewright.core import stats

_BLOCK_NS = 15_000_000
_MIN_CALLS, _MAX_CALLS = 3, 200

Rounds = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast, with one-sided 95 % bounds of the median over rounds."""

    value: float
    low: float
    high: float


def rounds_of(models: Mapping[str, Model], *, rounds: int) -> Rounds:
    """Return the median nanoseconds of each model's block in each round."""
    found: Rounds = {name: [] for name in models}
    names = list(models)
    with one_core():
        for model in models.values():
            model.block(_MIN_CALLS)
        calls = {name: _fitting(model) for name, model in models.items()}
        for place in range(rounds):
            turn = place % len(names)
            for name in names[turn:] + names[:turn]:
                found[name].append(median(models[name].block(calls[name])))
    return found


def _fitting(model: Model) -> int:
    """Return how many calls of ``model`` make a block."""
    first = median(model.block(_MIN_CALLS))
    return min(max(round(_BLOCK_NS / first), _MIN_CALLS), _MAX_CALLS)


def faster(rounds: Rounds, name: str, than: str) -> Ratio:
    """Return how many times as fast ``name`` is."""
    ratios = [b / a for a, b in zip(rounds[name], rounds[than], strict=True)]
    bounds = stats.quantile_interval(ratios, 0.5)
    return Ratio(bounds.estimate, bounds.low, bounds.high)
