"""The comparison with other tools: its tables agree, and its arithmetic is right."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.peers import MAKERS, OURS, REQUIREMENTS, TOOLS, Variant, environments
from benchmarks.peers.engines import OnnxRuntime, RefusedError, joined
from benchmarks.peers.goals import SIZES, goal_rows
from benchmarks.peers.judging import Drop, drop, of_groups
from benchmarks.peers.makers.job import cut
from benchmarks.peers.making import make, variants_of
from benchmarks.peers.results import Measured, Result, detail
from benchmarks.peers.subjects import Subject, mean_cosine, names
from benchmarks.peers.tables import of_goals, of_model
from benchmarks.peers.timing import Ratio, faster, rounds_of
from benchmarks.suite import ROWS
from benchmarks.suite.answers import answers_of
from benchmarks.suite.data import Samples

ROOT = Path(__file__).resolve().parents[2]
MLP = next(row for row in ROWS if row.name == "mlp")
OURS_INT8 = Variant(OURS, "int8", "int8")
PEER_INT8 = Variant("onnxruntime", "static", "int8")


@pytest.fixture(params=TOOLS, ids=lambda tool: tool.name)
def tool(request):
    """One tool after the other."""
    return request.param


def test_the_table_loads_nothing_heavy():
    """Whoever lists the tools pays for no numpy, onnx or library of theirs."""
    code = (
        "import sys, benchmarks.peers;"
        "print({'numpy', 'onnx', 'onnxruntime', 'nncf', 'olive'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "set()"


def test_a_maker_knows_every_variant_of_its_tool(tool):
    """What the table promises, the script names; variants bear the tool's name."""
    code = ast.parse((MAKERS / tool.maker).read_text())
    named = {node.value for node in ast.walk(code) if isinstance(node, ast.Constant)}

    assert {variant.name for variant in tool.variants} <= named
    assert {variant.tool for variant in tool.variants} == {tool.name}
    assert len({variant.name for variant in tool.variants}) == len(tool.variants)


def test_an_environment_is_exact(tool):
    """Every line of its file is one package at one version; our own tool has none."""
    if tool.name == OURS:
        assert not tool.environment
        return
    lines = environments.pins(tool.environment).read_text().split()

    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line) for line in lines)
    packages = [line.partition("==")[0].lower() for line in lines]
    assert len(packages) == len(set(packages))


def test_every_file_of_versions_is_used():
    """A tool stands behind each, or MiniLM."""
    used = {tool.environment for tool in TOOLS if tool.environment} | {"minilm"}

    assert {path.stem for path in REQUIREMENTS.iterdir()} == used


def test_an_environment_is_known_by_its_versions(tmp_path):
    """Two files differ, and what was not finished counts as made from nothing."""
    assert environments.digest("nncf") != environments.digest("olive")
    assert environments.made_from(tmp_path) == ""


def test_only_transformers_are_smoothed():
    """A variant that means nothing for a model is not asked for."""
    usual = variants_of(["inc"], transformer=False)

    assert {v.name for v in variants_of(["inc"], transformer=True)} - {
        v.name for v in usual
    } == {"smooth"}


def test_every_row_of_the_suite_is_compared():
    """No model is left out of the comparison."""
    assert names()[: len(ROWS)] == [row.name for row in ROWS]


def _mlp(count=40):
    samples = MLP.samples("calibrate")
    few = Samples(
        {k: v[:count] for k, v in samples.inputs.items()},
        {k: v[:count] for k, v in samples.targets.items()},
    )
    return Subject(
        name="mlp", model=MLP.model, family="dense", metric="accuracy", mflop=0.06,
        calibrate=few, evaluate=few, points=lambda a, _r, s: MLP.points(a, s),
        calibration="few",
    )  # fmt: skip


def test_our_tool_is_asked_like_the_others(tmp_path):
    """The process leaves a file that answers nearly as the float model, and its time."""
    subject = _mlp()

    made = make(OURS_INT8, subject, tmp_path)

    assert made.reason == ""
    assert made.seconds > 0
    assert 0 < made.bytes < subject.model.stat().st_size / 3
    model = OnnxRuntime(made.files[0], subject.timed())
    reference = answers_of(subject.model, subject.evaluate)
    assert drop(subject, reference, model.answers(subject.evaluate, "")).points < 10
    assert len(model.block(5)) == 5


def test_a_tool_that_fails_says_why(tmp_path):
    """What goes wrong in its process is a reason in words, and no figures."""
    made = make(Variant(OURS, "int3", "int8"), _mlp(), tmp_path)

    assert made.files == ()
    assert "int3" in made.reason
    told = detail(_measured([]), Result(made.variant, reason=made.reason))
    assert (told["value"], told["reason"]) == ("refused", made.reason)


def test_a_file_that_does_not_load_is_refused(tmp_path):
    """Whatever the engine raises comes as one error."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")

    with pytest.raises(RefusedError, match="onnxruntime: "):
        OnnxRuntime(path, [{}])


def test_a_sample_is_cut_where_its_words_end():
    """Two words of four stay, in every input; without a mask all four do."""
    feed = {"ids": np.array([[5, 6, 0, 0]]), "mask": np.array([[1, 1, 0, 0]])}

    assert cut(feed, "mask")["ids"].tolist() == [[5, 6]]
    assert cut(feed, "")["ids"].shape == (1, 4)


def test_answers_of_other_lengths_are_joined():
    """The shorter is filled up with what is no number."""
    parts = [{"y": np.ones((1, 2, 1))}, {"y": np.ones((1, 3, 1))}]

    whole = joined(parts)["y"]

    assert whole.shape == (2, 3, 1)
    assert np.isnan(whole[0, 2]).all()


def test_mean_cosine_by_hand():
    """One vector is the same, one at a right angle: 50; what is padded counts nothing."""
    samples = Samples({"attention_mask": np.array([[1, 0], [1, 1]])}, {})
    theirs = np.array([[[1.0, 0], [9, 9]], [[1, 0], [1, 0]]])
    mine = np.array([[[2.0, 0], [np.nan, 0]], [[0, 1], [0, 1]]])

    points = mean_cosine({"states": mine}, {"states": theirs}, samples)

    assert points == pytest.approx(50)


def test_the_bound_of_groups_by_hand():
    """Groups that lose 0 and 2 in turn: s is 1.0206 of 25, t s / 5 is 0.349."""
    groups = [0.0, 2.0] * 12 + [1.0]

    found = of_groups(1.0, groups)

    assert found.points == pytest.approx(1.0)
    assert found.high - 1 == pytest.approx(1.7109 * 1.0 / 5, abs=1e-6)
    assert 1 - found.low == pytest.approx(found.high - 1)


class _Steady:
    """A model whose calls take equally long."""

    def __init__(self, ns):
        self.ns = ns

    def block(self, calls):
        return [self.ns] * calls


def test_models_are_compared_by_rounds():
    """Half the time is twice as fast, every round, whoever goes first."""
    rounds = rounds_of({"a": _Steady(2_000_000), "b": _Steady(1_000_000)}, rounds=7)

    assert [len(times) for times in rounds.values()] == [7, 7]
    assert faster(rounds, "b", "a") == Ratio(2.0, 2.0, 2.0)


def _result(variant, *, saved=75.0, lost=0.2, speed=3.0):
    ratio = Ratio(speed, speed, speed)
    return Result(
        variant, bytes=1000, saved=saved, seconds=1.0, drop=Drop(lost, lost, lost + 0.2),
        speedup=ratio, absolute=ratio,
    )  # fmt: skip


def _measured(results, *, name="resnet", mflop=20.0, family="dense", metric="accuracy"):
    rounds = {r.variant.title: [1e6 / r.absolute.value] * 5 for r in results if r.absolute}
    return Measured(
        name=name, family=family, metric=metric, mflop=mflop, in_suite=True,
        float_bytes=800_000, results=tuple(results), rounds=rounds,
    )  # fmt: skip


def _met(models):
    return {row["name"].rpartition(",")[0] or row["name"]: row for row in goal_rows(models)}


def test_goals_by_hand():
    """Two models: the least saved, the median and the most lost, the median speed-up."""
    one = _measured([_result(OURS_INT8, saved=75, lost=0.1, speed=2.0)])
    other = _measured([_result(OURS_INT8, saved=69, lost=0.7, speed=3.0)], name="keyword")

    rows = _met([one, other])

    size = rows["int8: least saved over models of 100 kB"]
    assert (size["value"], size["met"]) == (69, False)
    assert size["name"].endswith(", keyword")
    middle = rows["int8: median points lost"]
    assert (middle["value"], middle["met"]) == (pytest.approx(0.4), False)
    worst = rows["int8: worst points lost"]
    assert (worst["value"], worst["met"]) == (0.7, True)
    speed = next(row for name, row in rows.items() if "median speed-up" in name)
    assert (speed["value"], speed["met"]) == (2.5, True)


def test_what_was_refused_meets_no_goal():
    """A model without our figures leaves the goal unmet, and is named."""
    good = _measured([_result(OURS_INT8)])
    refused = _measured([Result(OURS_INT8, reason="two inputs")], name="transformer")

    row = _met([good, refused])["int8: least saved over models of 100 kB"]

    assert row["met"] is False
    assert row["spread"] == "refused: transformer"


@pytest.mark.parametrize(
    ("lost", "speed", "chosen"), [(0.25, 4.0, 1), (0.25, 2.0, 0), (0.9, 4.0, 0)],
    ids=["faster", "slower", "faster but worse"],
)  # fmt: skip
def test_of_our_own_the_one_that_would_ship_counts(lost, speed, chosen):
    """The fastest of those that lose as little, as the planner chooses."""
    smooth = Variant(OURS, "int8-smooth", "int8")
    results = [_result(OURS_INT8), _result(smooth, lost=lost, speed=speed)]

    assert _measured(results).ours("int8") is results[chosen]
    assert _measured([]).ours("int8") is None


@pytest.mark.parametrize(
    ("peer", "lost", "met"), [(2.9, 0.2, True), (3.1, 0.2, False), (9.0, 1.5, None)],
    ids=["slower", "faster", "faster but worse"],
)  # fmt: skip
def test_the_best_peer_is_one_that_loses_no_more(peer, lost, met):
    """Only who loses as little is a rival; the fastest of those is the measure."""
    model = _measured([_result(OURS_INT8), _result(PEER_INT8, lost=lost, speed=peer)])

    row = _met([model]).get("int8: speed over the best peer")

    assert (row and row["met"]) is met


def test_every_goal_has_a_place_in_the_text():
    """The table shows each goal and who does best; a model's table each tool and reason."""
    refused = Result(Variant("inc", "dynamic", "int8"), reason="KeyError: 'Gru'")
    results = [_result(OURS_INT8), _result(PEER_INT8, speed=3.5), refused]
    model = _measured(results)

    text = of_goals(goal_rows([model]))

    assert len(text.splitlines()) == 1 + len(goal_rows([model]))
    assert "3.5 onnxruntime static" in text
    assert set(SIZES) == {"fp16", "int8", "int4-weights"}
    page = of_model(model)
    assert "inc dynamic: KeyError: 'Gru'" in page
    assert "edgewright int8" in page
