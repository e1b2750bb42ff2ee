"""measure: turns are fair, bounds enclose, and a slower model is found slower."""

import os
import time

import numpy as np
import pytest

from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure import latency
from edgewright.toolchain.measure.latency import (
    MIN_CALLS,
    RATE,
    RATIO,
    Budget,
    measure,
    one_core,
)

SAMPLES = Samples({"x": np.arange(10, dtype=np.uint8).reshape(5, 2)})


class Spinning:
    """A session whose answer takes a known time of pure computing."""

    inputs = outputs = (TensorSpec("x", "uint8", (-1, 2)),)

    def __init__(self, name, spin_us, log):
        self._name, self._spin_us, self._log = name, spin_us, log

    def run(self, feeds, *, deadline=None):
        """Compute for as long as asked; remember what came in."""
        del deadline
        self._log.append((self._name, feeds["x"].tolist()))
        end = time.perf_counter_ns() + self._spin_us * 1000
        while time.perf_counter_ns() < end:
            pass
        return [feeds["x"]]

    def close(self):
        """Nothing is held."""


def _measure(log, budget, **spins):
    sessions = {name: Spinning(name, spin, log) for name, spin in spins.items()}
    found = measure(sessions, SAMPLES, baseline="a", machine="here", budget=budget)
    return {name: {e.name: e for e in evidence} for name, evidence in found.items()}


def test_figures_are_bounded_and_belong_to_the_machine():
    """The median of a 50 us spin is 50 us; each bound lies on its side."""
    found = _measure([], Budget(0.05, 198), a=50)["a"]

    assert set(found) == {"p50_us", "p95_us", "p99_us", RATE, RATIO}
    assert 10_000 < found[RATE].value <= 20_000
    assert 50 <= found["p50_us"].value < 100
    for figure in found.values():
        assert figure.lower <= figure.value <= figure.upper
        assert (figure.machine, figure.method) == ("here", "measured on host")
    assert found["p50_us"].n == MIN_CALLS
    assert found[RATIO].value == 10_000


def test_bounds_are_rounded_outwards():
    """Calls of 1400 ns each: at least 1 us, at most 2 us, never at most 1 us."""
    for figure in latency._quantiles([[1400] * 300], "here"):
        assert (figure.lower, figure.value, figure.upper) == (1, 1, 2)


def test_a_model_twice_as_slow_is_found_twice_as_slow():
    """By the ratio of blocks that follow each other, with bounds that enclose it."""
    ratio = _measure([], Budget(0.1, 198), a=60, b=120)["b"][RATIO]

    assert 17_000 < ratio.lower <= ratio.value <= ratio.upper < 22_000


def test_everyone_gets_as_many_turns_and_goes_first_as_often():
    """The same calls for each, the same samples, in a rotating order."""
    log = []

    _measure(log, Budget(0.0, 270), a=1, b=1, c=1)

    warm_up = 20 * 3
    rounds = [
        log[warm_up + start : warm_up + start + 30]
        for start in range(0, len(log) - warm_up, 30)
    ]
    first = [turn[0][0] for turn in rounds]
    fed = {name: [x for who, x in log if who == name] for name in "abc"}
    assert fed["a"] == fed["b"] == fed["c"]
    assert first[:6] == ["a", "b", "c", "a", "b", "c"]


def test_one_sample_at_a_time():
    """Batch 1, and every sample has its turn."""
    log = []

    _measure(log, Budget(0.0, 198), a=0)

    assert {len(x) for _, x in log} == {1}
    assert len({str(x) for _, x in log}) == len(SAMPLES)


@pytest.mark.parametrize(
    ("budget", "calls"), [(Budget(0.0, 1998), 306), (Budget(9.0, 400), 396)]
)
def test_it_stops_when_it_should(budget, calls):
    """At least 306 calls however little time, never more than asked however much."""
    found = _measure([], budget, a=1)["a"]

    assert found["p99_us"].n == calls


def test_the_thread_keeps_to_one_core_and_is_let_go():
    """Also when what is measured fails."""
    before = os.sched_getaffinity(0)

    inside = set()

    def fail():
        inside.update(os.sched_getaffinity(0))
        raise RuntimeError

    with pytest.raises(RuntimeError), one_core():
        fail()

    assert len(inside) == 1
    assert inside <= before
    assert os.sched_getaffinity(0) == before
