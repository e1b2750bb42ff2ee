"""Ledger: measured once, found again, and never trusted when it was altered."""

from edgewright.core.evidence import Evidence
from edgewright.toolchain.planner.ledger import Ledger, Measurement

ABOUT = {"models": {"a": "sha256:1"}, "machine": "here"}


def _figures(value):
    return {"a": (Evidence("p50_us", value, 10, "here", "measured on host"),)}


class Stopwatch:
    """Takes a measurement, a larger one each time, and counts how often."""

    def __init__(self):
        self.taken = 0

    def __call__(self):
        """Measure."""
        self.taken += 1
        return Measurement("", "", figures=_figures(100 + self.taken))


def _obtain(ledger, watch, about=ABOUT, said=None):
    observe = said.append if said is not None else lambda _: None
    return ledger.obtain("latency", about, watch, of="a", observe=observe)


def test_the_second_run_measures_nothing(tmp_path):
    """Same models, same machine: the figures of the first run, in a file of the same name."""
    watch, said = Stopwatch(), []
    first = Ledger(tmp_path / "none", folder=tmp_path / "one")
    found = _obtain(first, watch, said=said)

    second = Ledger(tmp_path / "one", folder=tmp_path / "two")
    again = _obtain(second, watch, said=said)

    assert again == found
    assert watch.taken == 1
    assert second.used == first.used
    assert said == ["latency of a", "latency of a, from stored evidence"]
    name = first.used["latency of a"]
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_another_machine_measures_anew(tmp_path):
    """A figure belongs to a machine, and to the files it was taken of."""
    watch = Stopwatch()
    _obtain(Ledger(tmp_path / "none", folder=tmp_path / "one"), watch)
    second = Ledger(tmp_path / "one", folder=tmp_path / "two")

    _obtain(second, watch, {**ABOUT, "machine": "there"})
    _obtain(second, watch, {**ABOUT, "models": {"a": "sha256:2"}})

    assert watch.taken == 3


def test_measured_again_keeps_what_it_replaced(tmp_path):
    """The new file carries the old figures, so that a change can be told ever after."""
    watch = Stopwatch()
    _obtain(Ledger(tmp_path / "none", folder=tmp_path / "one"), watch)

    anew = _obtain(Ledger(tmp_path / "one", folder=tmp_path / "two", again=True), watch)
    later = _obtain(Ledger(tmp_path / "two", folder=tmp_path / "three"), watch)

    assert anew.figures == _figures(102)
    assert anew.previous == _figures(101)
    assert later == anew


def test_an_altered_file_is_no_evidence(tmp_path):
    """Its name no longer is its digest; what it says is measured instead."""
    watch = Stopwatch()
    first = Ledger(tmp_path / "none", folder=tmp_path / "one")
    _obtain(first, watch)
    path = tmp_path / "one" / first.used["latency of a"]
    path.write_text(path.read_text().replace("101", "001"))

    found = _obtain(Ledger(tmp_path / "one", folder=tmp_path / "two"), watch)

    assert found.figures == _figures(102)


def test_a_run_that_was_killed_measures_nothing_twice(tmp_path):
    """What it had taken is found where it was writing, even when all is measured again."""
    watch = Stopwatch()
    _obtain(Ledger(tmp_path / "none", folder=tmp_path / "work", again=True), watch)

    resumed = Ledger(tmp_path / "none", folder=tmp_path / "work", again=True)

    assert _obtain(resumed, watch).figures == _figures(101)
    assert watch.taken == 1


def test_one_run_measures_nothing_twice(tmp_path):
    """Asked again within a run, even one that measures all anew, it is the same figure."""
    watch = Stopwatch()
    ledger = Ledger(tmp_path / "none", folder=tmp_path / "one", again=True)

    assert _obtain(ledger, watch) == _obtain(ledger, watch)
    assert watch.taken == 1


def test_what_decided_a_model_is_not_measured_again(tmp_path):
    """Asked to measure again, figures are taken of the same candidates as before."""
    watch = Stopwatch()

    def obtain(ledger, kind):
        return ledger.obtain(kind, ABOUT, watch, of="a", observe=lambda _: None)

    first = Ledger(folder=tmp_path / "one")
    before = [obtain(first, kind) for kind in ("stem", "latency")]
    again = Ledger(tmp_path / "one", folder=tmp_path / "two", again=True)
    after = [obtain(again, kind) for kind in ("stem", "latency")]

    assert after[0] == before[0]
    assert after[1] != before[1]
    assert watch.taken == 3
