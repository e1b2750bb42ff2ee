"""Crew: what workers deliver is what would be done here; what they do not, is."""

import functools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim.crew import SimCrew
from tests.sim.models import quarters, samples

from edgewright.core.errors import TransportError, UsageError
from edgewright.runtime.engines import load_engine
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure import accuracy
from edgewright.toolchain.planner import worker
from edgewright.toolchain.planner.ahead import Crew, meet
from edgewright.toolchain.planner.cache import StepCache
from edgewright.toolchain.planner.parcels import opened, parcel
from edgewright.toolchain.planner.perform import Workshop
from edgewright.toolchain.planner.values import CandidatePlan, Plan, Step

TOOLS = {"onnx": "1"}
GRAPH = check(quarters(), "m")
CALIBRATE, EVALUATE = (Samples({"image": samples(n)[0]}) for n in (40, 90))
FUSE = Step("fuse", {"level": "aggressive"}, "because")
CHANNEL = Step("quantize", {"granularity": "channel", "skip": "@known-bad"}, "because")
STORED = Step("weights", {"form": "int8", "block": "channel"}, "because")
IMPOSSIBLE = Step("weights", {"form": "int8", "only": "no such layer"}, "because")
PLANS = tuple(
    CandidatePlan(name, held, choosable=True)
    for name, held in {
        "float": (), "fused": (FUSE,), "stored": (FUSE, STORED), "int8": (FUSE, CHANNEL),
    }.items()
)  # fmt: skip
PLAN = Plan(1, "onnxruntime", "onnxruntime", "float", PLANS, {})
ENGINE = load_engine("onnxruntime")


@functools.cache
def _expected():
    """Return what the candidates come to without workers."""
    workshop = Workshop(PLAN, GRAPH, CALIBRATE, Path())
    return [workshop.files(workshop.build(one.steps)[0]) for one in PLANS]


class Bench:
    """A workshop with workers, and what they said."""

    def __init__(self, folder, workers, *, known=(), **more):
        """Make both, with a step cache of their own."""
        self.cache = StepCache(folder / "steps", TOOLS)
        self.workshop = Workshop(PLAN, GRAPH, CALIBRATE, folder / "out", cache=self.cache)
        self.said = []
        self.crew = Crew(
            workers, self.workshop, EVALUATE, TOOLS,
            measured=lambda name, _: name in known, tell=self.said.append, **more,
        )  # fmt: skip

    def make(self, *plans):
        """Make candidates as a search would, and return them with their answers."""
        found = []
        for place, plan in enumerate(plans):
            self.crew.look(plans[place:])
            self.crew.bring(plan)
            made = self.workshop.make(plan)
            found.append((made, self.crew.answers(made.sha256, EVALUATE)))
        return found


def _do_nothing_here(monkeypatch):
    """Let steps be done by workers only, which have the function from elsewhere."""
    monkeypatch.setattr(
        "edgewright.toolchain.planner.perform.applied",
        lambda _graph, step, _samples: pytest.fail(f"{step.technique} was done here"),
    )


def test_all_is_done_by_workers_and_is_what_would_be_done_here(tmp_path, monkeypatch):
    """The same files, steps and notes, and the same answers, without a step done here."""
    alone = Workshop(PLAN, GRAPH, CALIBRATE, tmp_path / "alone")
    expected = [alone.make(plan) for plan in PLANS]
    _do_nothing_here(monkeypatch)
    bench = Bench(tmp_path, SimCrew())

    found = bench.make(*PLANS)
    bench.crew.close()

    for (made, answered), one in zip(found, expected, strict=True):
        assert made.files == one.files
        assert made.steps == one.steps
        mine = accuracy.answers(ENGINE, one.model, EVALUATE)
        assert [a.tobytes() for a in answered] == [a.tobytes() for a in mine]
    assert bench.said == ["workers delivered 3 steps and 4 answers"]


def test_a_shared_step_is_asked_for_once_and_so_is_what_all_are_given(tmp_path):
    """One fuse for three candidates; the graph and both parts of the data travel once."""
    workers = SimCrew()
    bench = Bench(tmp_path, workers)

    bench.make(*PLANS)

    asked = [head.get("technique", head["do"]) for head in workers.asked]
    assert sorted(asked) == ["answers"] * 4 + ["fuse", "quantize", "weights"]
    given = len(GRAPH.to_bytes()) + CALIBRATE.nbytes + EVALUATE.nbytes
    assert given < workers.put_bytes < given + 1000


def test_no_more_is_begun_than_workers_can_do(tmp_path):
    """As many candidates as there are workers and one more; the rest when their turn nears."""
    workers = SimCrew(workers=1, late=True)
    bench = Bench(tmp_path, workers)

    bench.crew.look(PLANS)
    first = [head["do"] for head in workers.asked]
    bench.crew.look(PLANS[1:])

    assert first == ["answers", "step", "answers"]
    assert len(workers.asked) == 5


def test_what_was_done_before_is_not_asked_for(tmp_path):
    """Steps of a run that was killed, and answers that were measured."""
    Bench(tmp_path, SimCrew()).make(*PLANS)
    workers = SimCrew()
    bench = Bench(tmp_path, workers, known=("float", "int8"))

    bench.make(*PLANS[:1], *PLANS[2:])

    assert [head["do"] for head in workers.asked] == ["answers"]


@pytest.mark.parametrize("technique", ["fuse", "quantize", None])
def test_what_a_worker_does_not_deliver_is_done_here(tmp_path, technique):
    """It is said once, with the reason; the files are the same; the rest still comes."""

    def spoil(head, data):
        if head.get("technique") == technique:
            raise TransportError("the worker died")
        return data

    bench = Bench(tmp_path, SimCrew(spoil=spoil))
    whole = Bench(tmp_path / "whole", SimCrew())

    found = bench.make(*PLANS)

    assert [made.files for made, _ in found] == [m.files for m, _ in whole.make(*PLANS)]
    name = {"fuse": "fused", "quantize": "int8", None: "float"}[technique]
    what = f"{technique} of {name}" if technique else "answers of float"
    assert bench.said[0] == (
        f"{what} did not come from a worker (the worker died); it is done here"
    )
    assert len(bench.said) == (1 if technique else 4)
    assert bench.crew.steps == (2 if technique else 3)


def test_a_cluster_that_is_gone_is_told_once(tmp_path):
    """Everything else is done here, and nothing more is asked."""
    workers = SimCrew(gone_after=2)
    bench = Bench(tmp_path, workers)

    found = bench.make(*PLANS)

    assert len(found) == 4
    assert len(bench.said) == 1
    assert "nobody answers; ray://sim:10001 is gone" in bench.said[0]


def test_what_takes_too_long_is_done_here(tmp_path):
    """After the patience of this run."""
    waited = []

    class Slow(SimCrew):
        def take(self, _token, within_s):
            waited.append(within_s)
            raise TransportError(f"nothing came within {within_s:.0f} s")

    bench = Bench(tmp_path, Slow(late=True), patience_s=3.0)

    ((_, answered),) = bench.make(PLANS[1])

    assert answered is None
    assert set(waited) == {3.0}
    assert bench.said == [
        "fuse of fused did not come from a worker (nothing came within 3 s); it is done here"
    ]


@pytest.mark.slow
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), what=st.integers(0, 3))
@settings(max_examples=40)
def test_a_flipped_bit_changes_nothing_that_is_made(tmp_path_factory, place, bit, what):
    """Anywhere in a result: it is done here instead, and said, and no error escapes."""

    def spoil(head, data):
        asked = head.get("technique", "answers")
        if asked == ("fuse", "weights", "quantize", "answers")[what]:
            held = bytearray(data)
            held[int(place * len(held))] ^= 1 << bit
            return bytes(held)
        return data

    bench = Bench(tmp_path_factory.mktemp("flip"), SimCrew(spoil=spoil))

    found = bench.make(*PLANS)

    assert [made.sha256 for made, _ in found] == _expected()
    assert bench.said
    assert all(" is damaged" in said for said in bench.said)


@pytest.mark.parametrize(
    ("kind", "arrays", "body", "why"),
    [
        ("answers", [["0", "float32", [90]]], b"", "not what their parcel says"),
        ("answers", [["0", "float32", [90]]], bytes(361), "361"),
        ("answers", [["0", "float32", [89]]], bytes(356), "answers of shape [89] to 90"),
        ("answers", [["0", "float32", [90]]], b"\xff" * 360, "no numbers"),
        ("answers", [["0", "object", [90]]], bytes(720), "not what their parcel says"),
        ("answers", [], b"", "no answers"),
        ("joke", [], b"", "a parcel of kind 'joke'"),
    ],
)
def test_answers_that_are_none_are_refused(tmp_path, kind, arrays, body, why):
    """Too few bytes, too many, other samples, NaN, a type that runs code, nothing."""

    def spoil(_head, data):
        head, _ = opened(data)
        return parcel({**head, "kind": kind, "arrays": arrays}, body)

    bench = Bench(tmp_path, SimCrew(spoil=spoil))

    ((_, answered),) = bench.make(PLANS[0])

    assert answered is None
    assert why in bench.said[0]


def test_answers_to_other_files_or_samples_are_not_taken(tmp_path):
    """They are found by what was asked what, as it is made here."""

    def spoil(_head, data):
        head, body = opened(data)
        return parcel({**head, "files": "sha256:other"}, body)

    bench = Bench(tmp_path, SimCrew(spoil=spoil))

    ((_, answered),) = bench.make(PLANS[0])

    assert answered is None


def test_a_step_that_cannot_be_done_is_refused_here_as_without_workers(tmp_path):
    """By the same error; nothing is said of workers, who did their part."""
    bench = Bench(tmp_path, SimCrew())
    wrong = CandidatePlan("wrong", (FUSE, IMPOSSIBLE), choosable=True)

    bench.crew.look([wrong])
    bench.crew.bring(wrong)

    with pytest.raises(UsageError, match="no node"):
        bench.workshop.make(wrong)
    assert bench.said == []


def test_other_versions_are_refused_by_name():
    """At the greeting, with both versions and what to do."""
    assert worker.likeness()["onnxruntime"] != "1.0"

    with pytest.raises(UsageError, match=r"onnxruntime 1\.0 there, .* here") as caught:
        meet(SimCrew(like={"onnxruntime": "1.0"}))

    assert "same versions" in caught.value.hint
    with pytest.raises(UsageError, match="processor Z80 there") as caught:
        meet(SimCrew(like={"processor": "Z80"}))
    assert "processors round differently" in caught.value.hint


def test_a_worker_that_joins_later_with_other_versions_delivers_nothing(tmp_path):
    """Its machine says so by itself, and everything is done here."""
    bench = Bench(tmp_path, SimCrew(like={"numpy": "1.0"}))

    found = bench.make(*PLANS)

    assert [answered for _, answered in found] == [None] * 4
    assert "numpy 1.0 there" in bench.said[0]
    assert bench.crew.steps == 0


@pytest.mark.parametrize("elsewhere", [False, True])
def test_nothing_runs_on_this_machine_while_something_is_timed(tmp_path, elsewhere):
    """All that is under way is waited for where a worker is here; others go on."""
    workers = SimCrew(late=True, elsewhere=elsewhere)
    bench = Bench(tmp_path, workers, near=meet(workers))
    bench.crew.look(PLANS[:3])
    begun = len(workers.asked)

    bench.crew.rest()

    assert begun == 5
    assert len(bench.crew._jobs) == (5 if elsewhere else 0)


def test_probes_are_asked_calibration_samples(tmp_path):
    """What a mixed candidate is put together by: the first samples, without its evaluation."""
    workers = SimCrew()
    bench = Bench(tmp_path, workers)
    bench.make(PLANS[1])

    bench.crew.probe(PLANS[2:3], 8)
    bench.crew.bring(PLANS[2])
    made = bench.workshop.make(PLANS[2])
    answered = bench.crew.answers(made.sha256, CALIBRATE[:8])

    mine = accuracy.answers(ENGINE, made.model, CALIBRATE[:8])
    assert np.array_equal(answered[0], mine[0])
    assert [head["first"] for head in workers.asked if head["do"] == "answers"] == [0, 8]
