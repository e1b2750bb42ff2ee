"""Comparing: what differs is told, noise is not a difference, machines are not mixed."""

import json
from dataclasses import replace

import pytest
from tests.sim import reports

from edgewright.cli import main
from edgewright.core.contract import Contract
from edgewright.toolchain.planner.values import to_bytes
from edgewright.toolchain.report import compare as rules
from edgewright.toolchain.report.compare import compare


def _verdicts(rows):
    return {row.name: row.verdict for row in rows}


def test_a_run_is_like_itself():
    """Nothing was asked differently and no difference is beyond noise."""
    report = reports.report()

    found = compare(report, report)

    assert found.asked == ()
    assert set(_verdicts(found.figures).values()) <= {rules.EQUAL, rules.WITHIN}
    assert set(_verdicts(found.losses).values()) == {rules.EQUAL}


def test_bounds_that_do_not_overlap_are_a_difference():
    """int8 is surely faster than int8 weights; their memory may be the same."""
    found = compare(reports.report(goal="size"), reports.report(goal="speed"))

    verdicts = _verdicts(found.figures)
    assert (found.first.candidate, found.second.candidate) == (
        "int8-weights", "int8-per-channel",
    )  # fmt: skip
    assert verdicts["p99_us"] == verdicts["latency_ratio_bp"] == rules.BEYOND
    assert verdicts["peak_memory_bytes"] == verdicts["p50_us"] == rules.WITHIN
    assert verdicts["file_bytes"] == rules.DIFFERENT
    assert _verdicts(found.losses)["overall"] == rules.WITHIN
    ratios = {row.name: row.ratio for row in found.figures}
    assert ratios["latency_ratio_bp"] == pytest.approx(0.5)


def test_figures_of_two_machines_are_not_compared():
    """Bytes are; times are not, and there is no ratio of them either."""
    report = reports.report()
    elsewhere = replace(report.host, fingerprint="other-0002", title="Other")
    moved = tuple(
        replace(
            one,
            evidence=tuple(replace(e, machine="other-0002") for e in one.evidence),
        )
        for one in report.candidates
    )
    other = replace(report, host=elsewhere, device=elsewhere, candidates=moved)

    found = compare(report, other)

    by_name = {row.name: row for row in found.figures}
    assert by_name["file_bytes"].verdict == rules.EQUAL
    assert by_name["p99_us"].verdict == rules.MACHINES
    assert by_name["p99_us"].ratio is None
    assert found.remarks[0].startswith("The two were measured on different machines")
    assert [one.what for one in found.asked] == ["measured on"]


def test_losses_on_other_samples_are_not_compared():
    """The same numbers by other data mean nothing beside each other."""
    report = reports.report()
    other = replace(report, recipe=replace(report.recipe, data_sha256="sha256:" + "1" * 64))

    found = compare(report, other)

    assert set(_verdicts(found.losses).values()) == {rules.JUDGED}
    assert [one.what for one in found.asked] == ["data"]


def test_what_was_asked_differently_is_told():
    """Limits with their direction, wishes, versions."""
    one = reports.report(contract=Contract(file_bytes=400_000))
    two = reports.report(contract=Contract(p99_us=2_000, accuracy_drop_bp=50), goal="speed")
    two = replace(two, recipe=replace(two.recipe, tools={"onnxruntime": "2"}))

    asked = {one.what: (one.first, one.second) for one in compare(one, two).asked}

    assert asked == {
        "goal": ("size", "speed"),
        "file size": ("at most 400.0 kB", "not limited"),
        "p99 latency": ("not limited", "at most 2.00 ms"),
        "accuracy lost": ("at most 1 points", "at most 0.5 points"),
        "onnxruntime": ("1", "2"),
    }


def test_it_is_printed_side_by_side_or_as_one_document(tmp_path, capsys):
    """``edgewright compare``, exit 0 whatever differs."""
    for name, goal in (("a", "size"), ("b", "speed")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_bytes(to_bytes(reports.report(goal=goal)))
    words = ["compare", str(tmp_path / "a"), str(tmp_path / "b")]

    assert main.main(words) == 0
    said = capsys.readouterr().out
    assert main.main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)

    assert "speed beside its float" in said
    assert "2.00x (1.96x to 2.08x)" in said
    assert "beyond noise" in said
    assert document["second"]["candidate"] == "int8-per-channel"
    assert {row["name"] for row in document["losses"]} == {"overall", "cat", "dog", "owl"}
