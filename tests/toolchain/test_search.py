"""The search: when it stops, and that the best so far is whole however it ends."""

import json
import random
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
from onnx import helper
from tests.sim.interrupted import interrupted
from tests.sim.models import write_data, write_model

from edgewright.core import digest
from edgewright.core.contract import Contract
from edgewright.core.errors import ContractError, EngineError
from edgewright.core.evidence import Evidence
from edgewright.toolchain.measure.latency import RATIO
from edgewright.toolchain.planner import glance, search, steps
from edgewright.toolchain.planner.gather import gather
from edgewright.toolchain.planner.plan import ROUNDING
from edgewright.toolchain.planner.workspace import REPORT, read_report
from edgewright.toolchain.recipe import Order, carry_out
from edgewright.toolchain.techniques import Applied, load_technique

pytestmark = pytest.mark.slow

NAMES = [
    "float",
    "fused",
    "fp16-weights",
    "int8-weights",
    "int8-smooth",
    "int8-dynamic",
    "int8-per-channel",
    "int8-per-tensor",
    "int4-weights",
    "int4-learned",
]


# Of what ``made`` asks, the part about answers.
ANSWERS = Contract(accuracy_drop_bp=200, worst_class_drop_bp=600)


def _command(order, out, *more):
    return [
        sys.executable, "-m", "edgewright.cli.main", "optimize", str(order.model),
        "--data", str(order.data), "-o", str(out), "--events", "--allow-slower",
        "--accuracy-drop", "2", "--worst-class-drop", "6", "--goal", "size", *more,
    ]  # fmt: skip


def _whole(folder):
    """Check that every file a report names is there, by its digest; return the report."""
    report = read_report(folder)
    for one in report.candidates:
        for name, sha256 in one.files.items():
            assert digest.of_file(folder / "candidates" / one.name / name) == sha256
    for name, sha256 in report.golden.files.items():
        assert digest.of_file(folder / "golden" / name) == sha256
    for name in report.evidence_files.values():
        assert digest.hex_of(digest.of_file(folder / "evidence" / name)) == name[:-5]
    return report


def test_without_a_goal_it_stops_at_the_first_that_holds(made, tmp_path):
    """Limits that the float meets: it ships, and what was not tried is named."""
    order, _, _ = made
    loose = replace(order.contract, file_bytes=2_000_000)

    report = carry_out(replace(order, goal="auto", contract=loose, out=tmp_path / "out"))

    assert report.recipe.goal == ""
    assert report.chosen == "float"
    assert [one.name for one in report.candidates] == ["float"]
    assert report.stopped == f"the first that holds; not tried: {', '.join(NAMES[1:])}"


def test_without_a_contract_everything_is_tried(made, tmp_path):
    """There is nothing that a first candidate could hold, so balance is the goal."""
    order, _, _ = made

    report = carry_out(replace(order, goal="auto", contract=None, out=tmp_path / "out"))

    assert report.recipe.goal == "balanced"
    assert [one.name for one in report.candidates] == NAMES
    assert report.stopped == "all were tried"


@pytest.fixture(scope="module")
def cheapest(made, tmp_path_factory):
    """Return an order that limits answers only, and the report of it."""
    folder = tmp_path_factory.mktemp("cheapest")
    data = write_data(folder / "d.npz", evaluate=700)
    order = replace(made[0], goal="auto", contract=ANSWERS, data=data, out=folder / "out")
    return order, carry_out(order)


def test_where_only_answers_are_limited_the_cheapest_that_holds_ships(cheapest):
    """It and the float model answer all samples; the others cost more, which is told."""
    order, report = cheapest

    asked = [what for what in report.evidence_files if what.startswith("accuracy of ")]
    cost = {
        one.name: one.file_bytes * one.figure(RATIO).value for one in report.candidates
    }  # of what was asked
    assert report.recipe.goal == ""
    assert report.stopped.startswith("the cheapest that holds; not tried: ")
    assert [one.name for one in report.candidates] == ["float", report.chosen]
    assert sorted(asked) == sorted(f"accuracy of {name}" for name in cost)
    assert 2 * cost[report.chosen] < cost["float"]
    assert report.shipped.reason == "the least bytes times latency of 2 that pass"
    left = set(NAMES) - set(cost)
    assert left <= set(report.left_out)
    assert {n for n in left if "are no less by" in report.left_out[n]} == set(report.prices)
    assert all(one.file_bytes > 0 < one.latency_ratio_bp for one in report.prices.values())
    assert any(
        f"{report.chosen} holds, and its bytes times latency" in report.left_out[n]
        for n in left
    )
    assert [path.name for path in sorted((order.folder / "candidates").iterdir())] == sorted(
        cost
    )
    _whole(order.folder)


def test_the_same_evidence_makes_the_same_folder_by_cost_too(cheapest, tmp_path):
    """Prices are evidence: a second run takes nothing anew and comes to the same bytes."""
    order, _ = cheapest
    again, events = replace(order, out=tmp_path / "out"), []
    (again.folder / "evidence").mkdir(parents=True)
    for path in (order.folder / "evidence").iterdir():
        (again.folder / "evidence" / path.name).write_bytes(path.read_bytes())

    carry_out(again, observe=events.append)

    said = [e.fields["what"] for e in events if e.fields.get("stage") == "measure"]
    assert said
    assert all(what.endswith("from stored evidence") for what in said)
    assert _state(again.folder) == _state(order.folder)


EIGHT = ("int8-per-channel", "int8-per-tensor")


def _refuse_eight(one, *given, **more):
    if one.plan.name in EIGHT:
        raise EngineError("not now", hint="Later.")
    return gather(one, *given, **more)


def _told(one, _baseline, bench, _budget, *, eight=5000, other=10_000):
    """Return that what computes in 8 bits takes half the time."""
    ratio = eight if one.plan.name in EIGHT else other
    return (Evidence(RATIO, ratio, 9, bench.machine, "measured on host", ratio, ratio),)


class Spoilt:
    """A technique, and a model that answers the same to everything."""

    def __init__(self, name):
        """Do what the technique does first."""
        self.name = name

    def apply(self, graph, settings, samples=None):
        """Do it, and take all answers from themselves."""
        done = load_technique(self.name).apply(graph, settings, samples)
        proto = done.graph.copy()
        before = f"before_{len(proto.graph.node)}"
        for node in proto.graph.node:
            node.output[:] = [before if n == "logits" else n for n in node.output]
        proto.graph.node.append(helper.make_node("Sub", [before, before], ["logits"]))
        return Applied(type(graph)(proto), changed=True, notes=done.notes)


@pytest.mark.parametrize("broken", [False, True])
def test_what_surely_misses_at_a_glance_is_not_asked_all(made, tmp_path, monkeypatch, broken):
    """All that rounds is spoilt: cheap, and wrong at once; what is left holds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        steps, "load_technique", lambda n: Spoilt(n) if n in ROUNDING else load_technique(n)
    )
    monkeypatch.setattr(glance, "in_turns", _told)
    if broken:
        monkeypatch.setattr(search, "gather", _refuse_eight)
    data = write_data(tmp_path / "d.npz", evaluate=700)

    report = carry_out(
        replace(made[0], goal="auto", contract=ANSWERS, data=data, out=tmp_path / "out")
    )

    missed = {n for n, why in report.left_out.items() if why.startswith("surely misses")}
    assert "int4-weights" in missed
    assert report.chosen in {"float", "fused"}
    assert not {f"accuracy of {name}" for name in missed} & set(report.evidence_files)
    # One is asked all the same: of the best in 8 bits, layers could be taken out.
    judged = {one.name for one in report.candidates} & set(EIGHT)
    dropped = {n for n, why in report.left_out.items() if "cannot be used: not now" in why}
    assert (len(judged), len(dropped)) == ((0, 1) if broken else (1, 0))
    assert missed >= set(EIGHT) - judged - dropped


def test_what_a_short_run_finds_slower_is_judged_where_nothing_else_holds(
    made, tmp_path, monkeypatch
):
    """Without a glance too, since 400 samples are too few for one: nothing is lost."""
    monkeypatch.setattr(glance, "in_turns", partial(_told, eight=20_000, other=20_000))
    order = replace(
        made[0], goal="auto", contract=ANSWERS, quantization="int8", allow_slower=False,
        out=tmp_path / "out",
    )  # fmt: skip

    with suppress(ContractError):  # the times themselves are those of this machine
        carry_out(order)

    report = _whole(order.folder)
    assert {one.name for one in report.candidates} >= set(EIGHT)
    assert report.stopped == "all were tried"


def test_half_a_budget_goes_into_prices_and_the_cheap_are_asked_then(
    made, tmp_path, monkeypatch
):
    """Each look takes 100 s of 400: after three the cheapest is asked, after five it ends."""
    clock = [0.0]

    def slow(*args):
        clock[0] += 100
        return _told(*args)

    monkeypatch.setattr(glance, "in_turns", slow)
    monkeypatch.setattr(search, "monotonic", lambda: clock[0])
    order = replace(made[0], goal="auto", contract=ANSWERS, out=tmp_path / "out")

    report = carry_out(replace(order, budget_s=400))

    assert clock[0] == 500
    assert report.stopped.startswith("the budget of 400 s is spent; not tried: ")
    assert "int4-weights" in report.stopped
    assert report.chosen not in {"float", "fused"}
    assert "accuracy of int8-weights" in report.evidence_files
    assert "accuracy of fp16-weights" not in report.evidence_files


def test_a_spent_budget_ends_it_with_the_best_so_far(made, tmp_path):
    """What was tried is judged; what was not is named."""
    order, _, _ = made

    report = carry_out(
        replace(
            order, goal="size", budget_s=1, out=tmp_path / "out",
            contract=replace(order.contract, file_bytes=2_000_000),
        )
    )  # fmt: skip

    assert report.outcome == "pass"
    assert len(report.candidates) < len(NAMES)
    assert report.stopped.startswith("the budget of 1 s is spent; not tried: ")
    assert NAMES[-1] in report.stopped


@pytest.mark.parametrize("goal", ["size", "auto"])
def test_killed_again_and_again_it_comes_to_its_end(tmp_path, goal):
    """SIGKILL at random moments: a whole best or none, and nothing is measured twice."""
    draw = random.Random(5)  # noqa: S311  moments, not secrets
    order = Order(model=write_model(tmp_path / "m.onnx"), data=write_data(tmp_path / "d.npz"))
    out = tmp_path / "out"
    measured, best = [], 0
    for _ in range(40):
        command = _command(order, out, "--goal", goal)
        lines, code = _run(command, kill_after_s=draw.uniform(1.5, 4.0))
        said = [line["what"] for line in lines if line.get("stage") == "measure"]
        taken = [what for what in said if not what.endswith("from stored evidence")]
        # The last one may have been under way.
        measured += taken if code == 0 else taken[:-1]
        if (out / REPORT).exists():
            report = _whole(out)
            assert len(report.candidates) >= best
            best = len(report.candidates)
        if code == 0:
            break

    assert code == 0
    tried = [one.name for one in _whole(out).candidates]
    assert tried == NAMES if goal == "size" else tried[0] == "float" and len(tried) >= 2
    assert len(measured) == len(set(measured))
    assert set(measured) <= set(read_report(out).evidence_files)
    assert not (out / ".work").exists()


def test_the_evidence_decides_the_bytes_however_often_it_was_killed(tmp_path):
    """The folder of a killed and resumed run is that of one run with the same evidence."""
    order = Order(model=write_model(tmp_path / "m.onnx"), data=write_data(tmp_path / "d.npz"))
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    _run(_command(order, killed), kill_after_s=4.0)
    _, code = _run(_command(order, killed))
    assert code == 0
    (whole / "evidence").mkdir(parents=True)
    for path in (killed / "evidence").iterdir():
        (whole / "evidence" / path.name).write_bytes(path.read_bytes())

    _, code = _run(_command(order, whole))

    assert code == 0
    assert _state(whole) == _state(killed)


def test_the_first_interrupt_keeps_the_best_so_far(tmp_path):
    """Ctrl-C after the first candidate: exit 130, and a whole report that says so."""
    order = Order(model=write_model(tmp_path / "m.onnx"), data=write_data(tmp_path / "d.npz"))

    code, said = interrupted(
        _command(order, tmp_path / "out"),
        lambda line: line.get("what") == "latency of fused",
    )

    report = _whole(tmp_path / "out")
    assert code == 130
    assert "Traceback" not in said
    assert report.stopped == "it was interrupted"
    assert [one.name for one in report.candidates] == ["float"]


def _run(command, *, kill_after_s=None):
    """Return the events of a run and its exit code; negative when it was killed."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    started = time.monotonic()
    try:
        said, _ = process.communicate(timeout=kill_after_s)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        assert time.monotonic() - started < kill_after_s + 5
    whole = [line for line in said.splitlines() if line.endswith("}")]
    return [json.loads(line) for line in whole], process.returncode


def _state(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
