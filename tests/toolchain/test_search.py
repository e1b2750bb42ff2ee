"""The search: when it stops, and that the best so far is whole however it ends."""

import json
import random
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from tests.sim.interrupted import interrupted
from tests.sim.models import write_data, write_model

from edgewright.core import digest
from edgewright.toolchain.planner.workspace import REPORT, read_report
from edgewright.toolchain.recipe import Order, carry_out

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


def test_without_limits_everything_is_tried(made, tmp_path):
    """There is nothing that a first candidate could hold, so balance is the goal."""
    order, _, _ = made
    free = replace(order.contract, file_bytes=None, p99_us=None)

    report = carry_out(replace(order, goal="auto", contract=free, out=tmp_path / "out"))

    assert report.recipe.goal == "balanced"
    assert [one.name for one in report.candidates] == NAMES
    assert report.stopped == "all were tried"


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


def test_killed_again_and_again_it_comes_to_its_end(tmp_path):
    """SIGKILL at random moments: a whole best or none, and nothing is measured twice."""
    draw = random.Random(5)  # noqa: S311  moments, not secrets
    order = Order(model=write_model(tmp_path / "m.onnx"), data=write_data(tmp_path / "d.npz"))
    out = tmp_path / "out"
    measured, best = [], 0
    for _ in range(40):
        lines, code = _run(_command(order, out), kill_after_s=draw.uniform(1.5, 4.0))
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
    assert [one.name for one in _whole(out).candidates] == NAMES
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
