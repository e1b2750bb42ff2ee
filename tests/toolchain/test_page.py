"""What the page draws, from reports written by hand."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim import reports

from edgewright.core.contract import Contract
from edgewright.core.evidence import Evidence
from edgewright.toolchain.planner.values import Price
from edgewright.toolchain.report import headline, page
from edgewright.toolchain.report.data import lacking
from edgewright.toolchain.report.layers import height_of
from edgewright.toolchain.report.pareto import dominated, frontier, measures
from edgewright.toolchain.report.waterfall import falls

POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12)


def _text(report):
    """Return the words of a page, without its markup."""
    inside = page(report).split("</style>")[1]
    return " ".join(re.sub(r"<[^>]*>", " ", inside).split())


def _plots(report):
    return re.findall(r'aria-label="(\w+ against \w+) of each candidate"', page(report))


@given(points=POINTS)
def test_nothing_is_better_than_the_frontier(points):
    """Every point has one of the frontier at least as good on both sides, and no two tie."""
    best = frontier(points)

    assert all(any(a <= x and b <= y for a, b in best) for x, y in points)
    assert not any(a <= x and b <= y for a, b in best for x, y in best if (a, b) != (x, y))


def test_every_pair_of_measures_has_its_plot():
    """Size, latency and accuracy make three; the page says that energy was not measured."""
    report = reports.report()

    assert _plots(report) == [
        "Size against latency", "Size against accuracy", "Latency against accuracy",
    ]  # fmt: skip
    assert "Energy: not measured." in _text(report)


def test_energy_is_drawn_where_it_was_measured():
    """Three more plots, and nothing says that it is missing."""
    report = reports.report()
    figure = Evidence("energy_uj", 1_200, 9, "some-0001", "measured on host", 1_100, 1_300)
    measured = tuple(
        replace(one, evidence=(*one.evidence, figure)) for one in report.candidates
    )
    report = replace(report, candidates=measured)

    assert len(_plots(report)) == 6
    assert "Energy: not measured" not in _text(report)
    assert "1200 uJ" in _text(report)


def test_latency_is_what_the_contract_limits_or_a_ratio():
    """p99 where a limit on it can be seen, else what was measured in turns."""
    near, far = reports.report(), reports.report(contract=Contract(p99_us=90_000))

    assert [one.axis.label for one in measures(near)][1] == "p99 latency"
    assert [one.axis.label for one in measures(far)][1] == "latency, times float's"
    assert "p99 limit 90 ms \u2191" in page(far)


def test_what_was_left_out_for_its_cost_is_drawn_where_its_cost_is():
    """A small square in size against latency only, no part of the frontier; said below."""
    answers = reports.report(contract=Contract(), goal="")
    priced = replace(answers, prices={"int4-weights": Price(150_000, 9_900)})

    bare, drawn = page(answers), page(priced)

    square = '<g class="priced"><title>'
    assert square not in bare
    assert "left out for their cost" not in _text(answers)
    assert drawn.count(square) == 1
    assert f"{square}int4-weights. bytes of the files: 150 kB" in drawn
    assert drawn.index("Size against accuracy") > drawn.index(square)
    paths = [re.findall(r'<path d="[^"]*" class="frontier"', one) for one in (bare, drawn)]
    assert paths[0] == paths[1]
    assert "left out for their cost" in _text(priced)


def test_what_is_beaten_in_everything_is_pale():
    """int8 weights are smaller, int8 is faster; the float is no better in anything."""
    report = reports.report()

    assert dominated(report, measures(report)) == {"float"}


def test_steps_add_up_to_what_ships():
    """From the float file down to the shipped one, nothing left over."""
    report = reports.report()
    found = falls(report, report.candidate("int8-per-channel"))

    assert [fall.label for fall in found] == ["fuse", "quantize channel"]
    assert [(fall.before, fall.after) for fall in found] == [
        (1_000_000, 990_000), (990_000, 270_000),
    ]  # fmt: skip


def test_a_step_of_unknown_bytes_is_told_with_the_next():
    """Reports of older runs say nothing of them."""
    report = reports.report()
    shipped = report.candidate("int8-per-channel")
    silent = replace(
        shipped, steps=tuple(replace(step, bytes_after=0) for step in shipped.steps)
    )

    (fall,) = falls(report, silent)

    assert fall.label == "fuse, quantize channel"
    assert (fall.before, fall.after) == (1_000_000, 270_000)


def test_layers_are_drawn_where_they_were_looked_at():
    """A cell each, what did not become int8 with its reason; no strip without layers."""
    seen = reports.report(goal="speed")
    unseen = reports.report(goal="size")

    assert seen.chosen == "int8-per-channel"
    assert page(seen).count('<span class="cell ') == len(reports.LAYERS)
    assert "alone it moves the answers by 5.2 %" in _text(seen)
    assert "stayed float (1 layer, 9.41 kB)" in _text(seen)
    assert "Layer by layer" not in _text(unseen)


@given(drift=st.integers(0, 10**6), most=st.integers(1, 10**6))
def test_a_cell_is_never_empty_nor_overfull(drift, most):
    """Its height is a share, however small the drift."""
    assert 0 < height_of(min(drift, most), most) <= 1


def test_classes_that_calibration_lacks_are_named():
    """What is judged by and was not calibrated on; nothing where nothing was calibrated."""
    assert lacking(reports.COVERAGE) == ["owl"]
    assert lacking([replace(line, calibrate=0) for line in reports.COVERAGE]) == []
    assert "Not calibrated on: class owl ." in _text(reports.report())


def test_doubts_are_listed_the_accepted_ones_called_so():
    """By name, with their numbers."""
    text = _text(reports.report())

    assert "accepted calibration-size : 60 calibration samples" in text
    assert "note class-shares : 12 % to 40 %" in text


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("accuracy", ("Points of accuracy", "accuracy lost", "Right answers")),
        ("top-3", ("Points of top-3 accuracy", "top-3 accuracy lost")),
        ("map", ("Points of mAP", "mAP lost", "by mAP (map)")),
        ("auc", ("Points of area under the curve", "Area under the curve")),
        ("mae", ("Points of 1-error", "1-error lost")),
        ("cosine", ("Points of cosine", "without labels")),
        ("fidelity", ("Points of fidelity", "without labels")),
        ("own:score", ("Points of the score own:score",)),
    ],
)
def test_words_fit_the_metric(metric, words):
    """A detector loses mAP, not right answers."""
    made = reports.report()
    if metric in {"map", "auc", "mae", "cosine", "own:score"}:
        judged = [replace(one, counts=reports.scores(1_000)) for one in made.candidates]
        made = replace(made, candidates=tuple(judged))
    report = replace(made, recipe=replace(made.recipe, metric=metric))

    text = _text(report)

    assert all(word in text for word in words)
    if metric not in {"accuracy", "top-3"}:
        assert "accuracy lost" not in text
        assert "right answer" not in headline(report)


def test_made_up_inputs_are_shouted():
    """The first thing on the page, and only there where it is so."""
    report = reports.report()
    made_up = replace(report, recipe=replace(report.recipe, synthetic=True))

    assert _text(made_up).startswith("The inputs were made up.")
    assert "made up" not in _text(report)


def test_many_classes_do_not_make_an_endless_page():
    """The worst are drawn, the rest is counted, and all are in a table to open."""
    report = reports.report()
    overall, one, *_ = report.shipped.counts
    counts = (overall, *(replace(one, label=f"class {n}") for n in range(300)))
    shipped = replace(report.shipped, counts=counts)
    others = [c for c in report.candidates if c.name != shipped.name]
    text = _text(replace(report, candidates=(*others, shipped)))

    assert "And 280 classes that lost less." in text
    assert "All 300 classes" in text
