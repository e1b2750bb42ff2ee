"""Latency of several models, measured so that they can be compared.

They take turns in short blocks on one core, one sample at a time, so that whatever
the machine does meanwhile happens to all of them. A block begins with a call that is
not counted: it pays for the caches its neighbour filled. A candidate is compared with
the baseline block by block, by the ratio of the two medians.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, floor
from statistics import median
from time import perf_counter_ns

from edgewright.core import stats
from edgewright.core.evidence import Evidence
from edgewright.runtime.engines import Session
from edgewright.toolchain.ir.samples import Samples

_BLOCK = 9
_WARM_UP = 20
MIN_CALLS = 306
MAX_CALLS = 1998
_NS_PER_US = 1000
RATIO, RATE = "latency_ratio_bp", "rate_hz"
_BP = 10_000


@dataclass(frozen=True, slots=True)
class Budget:
    """How long measuring may take.

    Attributes:
        seconds: For all models of a session together.
        max_calls: Of each model; more would not narrow the bounds that matter.
        min_calls: Of each, however long they take; fewer tell nothing of a p99.
    """

    seconds: float = 1.0
    max_calls: int = MAX_CALLS
    min_calls: int = MIN_CALLS


def measure(
    sessions: Mapping[str, Session],
    samples: Samples,
    *,
    baseline: str,
    machine: str,
    budget: Budget | None = None,
) -> dict[str, tuple[Evidence, ...]]:
    """Return latency figures of every session, batch 1, one thread, one core.

    Args:
        sessions: Loaded models by name, all with the same inputs.
        samples: Real inputs; they are gone through in turn.
        baseline: Which of ``sessions`` the others are compared with.
        machine: Fingerprint of the machine this runs on.
        budget: When to stop.
    """
    budget = budget or Budget()
    blocks: dict[str, list[list[int]]] = {name: [] for name in sessions}
    names = list(sessions)
    with one_core():
        for session in sessions.values():
            _calls(session, samples, 0, _WARM_UP)
        started = perf_counter_ns()
        while not _done(blocks[baseline], started, budget):
            place = len(blocks[baseline])
            # Each goes first in turn: the first of a round follows the longest pause.
            turn = place % len(names)
            for name in names[turn:] + names[:turn]:
                times = _calls(sessions[name], samples, place * _BLOCK, _BLOCK + 1)
                blocks[name].append(times[1:])
    return {
        name: (
            *_quantiles(blocks[name], machine),
            _rate(blocks[name], machine),
            _ratio(blocks[name], blocks[baseline], machine),
        )
        for name in sessions
    }


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread on one of the cores it may use."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _done(blocks: list[list[int]], started: int, budget: Budget) -> bool:
    calls = len(blocks) * _BLOCK
    if calls < budget.min_calls:
        return False
    spent = (perf_counter_ns() - started) / 1e9
    return calls + _BLOCK > budget.max_calls or spent > budget.seconds


def _calls(session: Session, samples: Samples, first: int, count: int) -> list[int]:
    """Return nanoseconds of ``count`` calls, beginning with sample ``first``."""
    times = []
    for number in range(first, first + count):
        index = number % len(samples)
        feeds = {name: array[index : index + 1] for name, array in samples.arrays.items()}
        before = perf_counter_ns()
        session.run(feeds)
        times.append(perf_counter_ns() - before)
    return times


def _quantiles(blocks: list[list[int]], machine: str) -> list[Evidence]:
    times = [time for block in blocks for time in block]
    found = []
    for name, q in (("p50_us", 0.50), ("p95_us", 0.95), ("p99_us", 0.99)):
        bounds = stats.quantile_interval(times, q)
        # Outwards: a bound that rounding moved inwards would be none.
        low, high = floor(bounds.low / _NS_PER_US), ceil(bounds.high / _NS_PER_US)
        value = round(bounds.estimate / _NS_PER_US)
        found.append(
            Evidence(
                name, value, len(times), machine, "measured on host", low, high,
                how="batch 1, one thread on one core, taking turns with the others",
            )
        )  # fmt: skip
    return found


def _rate(blocks: list[list[int]], machine: str) -> Evidence:
    """Return answers a second, one after the other, by the blocks' own."""
    rates = [len(block) * 1e9 / max(sum(block), 1) for block in blocks]
    bounds = stats.quantile_interval(rates, 0.5)
    return Evidence(
        RATE, round(bounds.estimate), len(rates), machine, "measured on host",
        floor(bounds.low), ceil(bounds.high), how="one after the other on one core",
    )  # fmt: skip


def _ratio(blocks: list[list[int]], baseline: list[list[int]], machine: str) -> Evidence:
    """Return the median over rounds of the candidate's median over the baseline's."""
    ratios = [
        median(mine) / median(theirs) for mine, theirs in zip(blocks, baseline, strict=True)
    ]
    bounds = stats.quantile_interval(ratios, 0.5)
    low, high = floor(bounds.low * _BP), ceil(bounds.high * _BP)
    value = round(bounds.estimate * _BP)
    return Evidence(
        RATIO, value, len(ratios), machine, "measured on host", low, high,
        how="medians of blocks that follow each other, over the float baseline's",
    )  # fmt: skip
