"""Explaining: every candidate has its reason, and what would change it really would."""

import json
import shlex
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim import reports

from edgewright.cli import main
from edgewright.cli.explain import text
from edgewright.core.contract import Contract
from edgewright.core.errors import UsageError
from edgewright.toolchain.planner.decide import Known, Rules, decide
from edgewright.toolchain.planner.values import to_bytes
from edgewright.toolchain.report.explain import explain
from edgewright.toolchain.report.next import flag_of

LIMITS = st.builds(
    Contract,
    accuracy_drop_bp=st.integers(0, 300),
    worst_class_drop_bp=st.integers(0, 1_000),
    file_bytes=st.none() | st.integers(100_000, 1_200_000),
    p99_us=st.none() | st.integers(500, 3_000),
    power_mw=st.none() | st.just(500),
)
FEW = settings(max_examples=15, deadline=None)  # each judges every candidate again
GOALS = st.sampled_from(["", "size", "speed", "balanced"])


@pytest.mark.slow
@FEW
@given(contract=LIMITS, goal=GOALS)
def test_every_candidate_is_explained(contract, goal):
    """Whatever was asked: each candidate and each limit once, and always something to do."""
    report = reports.report(contract=contract, goal=goal)

    for name in ("", *(one.name for one in report.candidates)):
        found = explain(report, "out", name)
        told = [found.candidate, *(other.name for other in found.others)]
        assert sorted(told) == sorted(
            [*(one.name for one in report.candidates), *report.left_out]
        )
        assert found.limits == report.candidate(found.candidate).findings
        assert found.verdict
        assert found.advice
        assert text(report, found)


@pytest.mark.slow
@FEW
@given(contract=LIMITS, goal=GOALS)
def test_a_goal_that_would_ship_it_does(contract, goal):
    """The goals named for the runner-up are those under which the planner takes it."""
    report = reports.report(contract=contract, goal=goal)

    rival = explain(report, "out").runner_up

    for other in rival.goals:
        assert reports.report(contract=contract, goal=other).chosen == rival.name


@pytest.mark.slow
@FEW
@given(contract=LIMITS)
def test_a_limit_that_is_moved_as_told_is_held(contract):
    """With the limits at what ``for X to ship`` says, X passes unless one cannot be known."""
    report = reports.report(contract=replace(contract, power_mw=None))
    missing = [one for one in report.candidates if one.outcome != "pass"]
    for one in missing:
        moved = _moved(report, explain(report, "out", one.name).runner_up.needs)
        known = Known(one.name, choosable=True, evidence=one.evidence, counts=one.counts)
        host = report.host.fingerprint

        decision = decide([known], Rules(moved, host, host))

        assert decision.chosen == one.name


def _moved(report, needs):
    """Return the contract with what the sentences say, read back from them."""
    found = {}
    for need in needs:
        name, _, value = need.rpartition(": ")[2].partition(" = ")
        if name.endswith("_points"):
            found[name.replace("_points", "_bp")] = round(float(value) * 100)
        elif name == "min_retention":
            found["min_retention_bp"] = round(float(value) * 10_000)
        elif name in {"file_bytes", "p99_us"}:
            found[name] = int(value)
    return replace(report.recipe.contract, **found)


def test_the_reason_of_the_chosen_one_is_a_sentence():
    """With the goal it was chosen by, and its speed with bounds."""
    found = explain(reports.report(goal="speed"), "out")

    assert found.candidate == "int8-per-channel"
    assert found.verdict[0] == (
        "int8-per-channel ships because it is the fastest of 2 that pass; the goal is speed: "
        "the fastest that holds the contract ships."
    )
    assert "1.96 to 2.08 times float's" in found.verdict[-1]


@pytest.mark.parametrize(
    ("goal", "need"),
    [
        ("size", "its files would have to be 10.0 kB smaller"),
        ("speed", "an answer would have to take 50% less time"),
        ("balanced", "its bytes times latency would have to be 48% less: 135.0 kB"),
        ("", "int8-weights, which the plan has in front, would have to miss a limit"),
    ],
)
def test_the_runner_up_is_told_how_far_it_is_behind(goal, need):
    """In what the goal compares."""
    found = explain(reports.report(goal=goal), "out")

    assert found.runner_up.needs[0].startswith(need)


def test_steps_are_told_with_their_bytes():
    """Before and after, beside what the technique itself says."""
    fuse, quantize = explain(reports.report(goal="speed"), "out").steps

    assert (fuse.bytes_before, fuse.bytes_after) == (1_000_000, 990_000)
    assert (quantize.bytes_before, quantize.bytes_after) == (990_000, 270_000)
    assert quantize.did == ("20 of 22 layers are computed in int8",)


def test_layers_that_stayed_float_say_why():
    """What moves the answers most in front; int8 layers are not mentioned."""
    found = explain(reports.report(goal="speed"), "out")

    assert [line.split(" ")[0] for line in found.layers] == ["stem", "head"]
    assert "stayed float; alone it moves the answers by 5.2 %" in found.layers[0]


def test_doubts_and_allowances_are_what_it_rests_on():
    """Accepted doubts in front, made-up inputs before everything."""
    report = reports.report()
    recipe = replace(
        report.recipe, synthetic=True, accept_estimates=True, allow_slower=True,
        contract=replace(report.recipe.contract, transport_bytes=9_000_000),
    )  # fmt: skip

    lines = explain(replace(report, recipe=recipe), "out").assumed

    assert lines[0].startswith("The inputs were made up.")
    assert lines[1].startswith("Accepted on request: calibration-size")
    assert any("--accept-estimates" in line for line in lines)
    assert any("--allow-slower" in line for line in lines)
    assert any(line.startswith("download: at most 9.00 MB") for line in lines)


@pytest.mark.slow
@FEW
@given(contract=LIMITS, goal=GOALS)
def test_commands_can_be_typed(contract, goal):
    """Every command that is offered is one the command line takes."""
    report = reports.report(contract=contract, goal=goal)

    for one in explain(report, "a folder").advice:
        if one.command:
            words = shlex.split(one.command)
            assert words[0] == "edgewright"
            main.parser().parse_args(words[1:])


def test_a_missed_contract_offers_the_nearest():
    """As the flags that ask for it."""
    report = reports.report(contract=Contract(file_bytes=200_000))

    commands = [one.command for one in explain(report, "out").advice]

    assert any("--max-size 260000" in command for command in commands)


@pytest.mark.parametrize(
    ("field", "value", "flag"),
    [
        ("file_bytes", 9, "--max-size 9"),
        ("p99_us", 9, "--max-latency 9us"),
        ("accuracy_drop_bp", 150, "--accuracy-drop 1.5"),
        ("min_retention_bp", 9_500, "--accuracy-retention 0.95"),
        ("power_mw", 9, "--max-power 9mW"),
        ("burst_hz", 9, ""),
    ],
)
def test_a_limit_is_asked_by_its_flag(field, value, flag):
    """Empty where only a project file can ask for it."""
    assert flag_of(field, value) == flag


def test_what_is_not_there_is_not_explained():
    """The nearest name, or why it was left out."""
    with pytest.raises(UsageError, match="no candidate 'flaot'") as unknown:
        explain(reports.report(), "out", "flaot")
    with pytest.raises(UsageError, match="was left out: came out as the same files"):
        explain(reports.report(), "out", "int4-weights")

    assert "float" in unknown.value.hint


def test_it_is_printed_as_sentences_or_one_document(tmp_path, capsys):
    """``edgewright explain``, for people and for programs."""
    report = reports.report()
    (tmp_path / "report.json").write_bytes(to_bytes(report))

    assert main.main(["explain", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert main.main(["explain", str(tmp_path), "float", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)

    for word in ("why", "the others", "what this rests on", "what to try next"):
        assert f"\n{word}\n" in said
    assert all(len(line) <= 100 for line in said.splitlines() if "edgewright " not in line)
    assert document["candidate"] == "float"
    assert document["chosen"] == report.chosen
