"""Metrics: numbers worked by hand, definitions counted out, and refusals."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgewright.core.errors import DataError, ModelError, UsageError
from edgewright.core.evidence import PairedCounts
from edgewright.core.tensors import TensorSpec
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure import metrics
from edgewright.toolchain.measure.data import Dataset
from edgewright.toolchain.measure.metrics.pool import spread
from edgewright.toolchain.measure.metrics.vectors import cosines

CLASSES = ("a", "b", "c")
SCORES = [TensorSpec("scores", "float32", (-1, 3))]
ANSWERS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.just(3)),
    elements=st.floats(-5, 5, width=32),
)


def _data(labels=None, *, classes=CLASSES, inputs=None, n=None, **more):
    count = n or len(labels if labels is not None else inputs)
    x = np.zeros((count, 1), np.float32) if inputs is None else inputs
    some = Samples({"x": x})
    right = None if labels is None else np.asarray(labels, np.int64)
    return Dataset(some[:0], some, right, classes, "sha256:" + "0" * 64, **more)


def _scores(named, classes=3):
    return np.eye(classes, dtype=np.float32)[np.asarray(named)]


def test_hand_counted_pairs():
    """Two of six lost, one gained, told by class; a class without samples is left out."""
    data = _data([0, 0, 0, 2, 2, 2])
    reference, candidate = _scores([0, 0, 1, 2, 2, 0]), _scores([0, 1, 0, 2, 0, 1])

    metric = metrics.make("accuracy", data, SCORES, (reference,))

    assert metric.compare((candidate,)) == (
        PairedCounts("overall", 6, 4, 2, 1),
        PairedCounts("a", 3, 2, 1, 1),
        PairedCounts("c", 3, 2, 1, 0),
    )


def test_fidelity_calls_right_what_the_reference_answers():
    """All its own answers are, and a candidate's unlike answer is lost."""
    reference, candidate = _scores([0, 1, 2, 2]), _scores([0, 1, 2, 0])

    overall, *classes = metrics.make("fidelity", _data(n=4), SCORES, (reference,)).compare(
        (candidate,)
    )

    assert overall == PairedCounts("overall", 4, 4, 1, 0)
    assert [c.label for c in classes] == ["a", "b", "c"]


def test_the_right_class_may_be_among_the_likeliest():
    """Of equal scores the class with the smaller number stands before."""
    reference = np.array([[3, 2, 1], [3, 2, 1], [1, 1, 1], [1, 1, 1]], np.float32)

    metric = metrics.make("top-2", _data([1, 2, 1, 2]), SCORES, (reference,))

    assert metric.compare((reference,))[0] == PairedCounts("overall", 4, 2, 0, 0)


def test_a_top_that_is_always_right_is_refused():
    """Three of three classes."""
    with pytest.raises(UsageError, match="top-3 of 3 classes is always right"):
        metrics.make("top-3", _data([1]), SCORES, (_scores([1]),))


def test_a_hand_worked_choice_of_golden_samples():
    """One of each class in turn, the largest margin first, wrong answers never."""
    answers = np.array(
        [[3, 0, 0], [9, 0, 0], [0, 2, 0], [5, 0, 0], [0, 0, 1], [0, 7, 6]], np.float32
    )
    data = _data([0, 0, 1, 2, 2, 1])

    chosen = metrics.make("accuracy", data, SCORES, (answers,)).golden()

    assert chosen.tolist() == [1, 2, 4, 0, 5]


def test_equal_margins_go_by_place():
    """The earlier sample first, so that two runs agree."""
    answers = np.tile(np.array([1, 0, 0], np.float32), (5, 1))

    metric = metrics.make("accuracy", _data([0] * 5), SCORES, (answers,))

    assert metric.golden()[:3].tolist() == [0, 1, 2]


@given(answers=ANSWERS, data=st.data())
def test_every_golden_sample_is_right_and_there_once(answers, data):
    """Never one twice, never one the reference gets wrong."""
    labels = data.draw(hnp.arrays(np.int64, len(answers), elements=st.integers(0, 2)))
    labels[0] = answers[0].argmax()

    chosen = metrics.make("accuracy", _data(labels), SCORES, (answers,)).golden()

    right = answers.argmax(axis=1) == labels
    assert right[chosen].all()
    assert len(set(chosen.tolist())) == len(chosen) == right.sum()


def test_a_reference_that_is_never_right_is_refused():
    """There is nothing to compare a device with."""
    metric = metrics.make("accuracy", _data([1]), SCORES, (_scores([0]),))

    with pytest.raises(DataError, match="no evaluation sample rightly"):
        metric.golden()


def test_f1_is_what_its_definition_says():
    """Harmonic mean of precision and recall, counted out, the mean over classes first."""
    rng = np.random.default_rng(0)
    labels, one, other = rng.integers(0, 3, (3, 200))

    def by_hand(named):
        found = []
        for kind in range(3):
            both = sum(1 for a, b in zip(labels, named, strict=True) if a == b == kind)
            precision, recall = both / list(named).count(kind), both / list(labels).count(kind)
            found.append(2 * precision * recall / (precision + recall))
        return found

    metric = metrics.make("f1", _data(labels), SCORES, (_scores(one),))
    rows = metric.compare((_scores(other),))

    assert rows[0].reference == pytest.approx(np.mean(by_hand(one)), abs=1e-6)
    assert rows[0].candidate == pytest.approx(np.mean(by_hand(other)), abs=1e-6)
    assert [r.candidate for r in rows[1:]] == pytest.approx(by_hand(other), abs=1e-6)


@given(st.integers(0, 99))
@settings(max_examples=10)
def test_the_area_is_the_share_of_pairs_in_order(seed):
    """Counted pair by pair; equal scores count half."""
    rng = np.random.default_rng(seed)
    labels = np.array([0, 1, *rng.integers(0, 2, 50)])
    one, other = rng.integers(0, 8, (2, 52, 1)).astype(np.float32)
    outputs = [TensorSpec("y", "float32", (-1, 1))]

    def by_hand(scores):
        pairs = [
            (p > q) + (p == q) / 2
            for p in scores[labels == 1, 0]
            for q in scores[labels == 0, 0]
        ]
        return float(np.mean(pairs))

    (row,) = metrics.make("auc", _data(labels), outputs, (one,)).compare((other,))

    assert row.reference == pytest.approx(by_hand(one), abs=1e-6)
    assert row.candidate == pytest.approx(by_hand(other), abs=1e-6)


def test_what_answers_its_own_input_is_judged_by_how_far_it_is_off():
    """The samples with the larger error are the positive ones."""
    inputs = np.zeros((4, 2), np.float32)
    again = np.array([[0, 0.1], [0, 0.2], [0, 3], [0, 4]], np.float32)
    outputs = [TensorSpec("again", "float32", (-1, 2, 1))]
    data = _data([0, 0, 1, 1], inputs=inputs.reshape(4, 2, 1))

    (row,) = metrics.make("auc", data, outputs, (again.reshape(4, 2, 1),)).compare(
        (again[::-1].reshape(4, 2, 1),)
    )

    assert (row.reference, row.candidate) == (1.0, 0.0)


def test_a_mean_error_is_told_against_the_spread_of_the_targets():
    """Targets 0 and 2 lie 1 from their median; an error of 0.1 costs ten points."""
    targets = np.array([0.0, 2.0] * 50)
    outputs = [TensorSpec("y", "float32", (-1, 1))]
    data = _data(n=100, targets=targets)

    (row,) = metrics.make("mae", data, outputs, (targets[:, None],)).compare(
        (targets[:, None] + 0.1,)
    )

    assert row.reference == 1.0
    assert row.candidate == pytest.approx(0.9)
    assert row.loss().low == pytest.approx(0.1, abs=0.031)
    assert row.loss().high == pytest.approx(0.1, abs=0.031)


def test_average_precision_worked_by_hand():
    """One object found first, one missed after a false one: an area of one half."""
    boxes = np.array([[[0, 0, 1, 1], [4, 4, 5, 5]], [[0, 0, 1, 1], [8, 8, 9, 9]]], np.float32)
    scores = np.array([[[0.9], [0.0]], [[0.0], [0.8]]], np.float32)
    truth = np.array([[[0, 0, 1, 1]], [[0, 0, 1, 1]]], np.float32)
    outputs = [
        TensorSpec("boxes", "float32", (-1, 2, 4)), TensorSpec("scores", "float32", (-1, 2, 1))
    ]  # fmt: skip
    data = _data(np.zeros((2, 1), int), classes=("a",), boxes=truth)
    better = scores.copy()
    better[1] = [[0.7], [0.0]]

    rows = metrics.make("map", data, outputs, (boxes, scores)).compare((boxes, better))

    assert [(r.label, r.reference, r.candidate) for r in rows] == [
        ("overall", 0.5, 1.0), ("a", 0.5, 1.0)
    ]  # fmt: skip


def test_overlap_by_place_worked_by_hand():
    """Four places: two of class 0 and two of class 1, one of which is missed."""
    targets = np.array([[[0, 0], [1, 1]]])
    right = np.stack([targets == 0, targets == 1], axis=1).astype(np.float32)
    named = np.array([[[0, 0], [1, 0]]])
    other = np.stack([named == 0, named == 1], axis=1).astype(np.float32)
    outputs = [TensorSpec("logits", "float32", (-1, 2, 2, 2))]
    data = _data(n=1, targets=targets)

    rows = metrics.make("iou", data, outputs, (right,)).compare((other,))

    assert [r.reference for r in rows] == [1, 1, 1]
    assert [r.candidate for r in rows] == pytest.approx([7 / 12, 2 / 3, 1 / 2], abs=1e-6)
    assert metrics.fitting(data, [], outputs) == "iou"


def test_boxes_that_cannot_be_told_are_refused():
    """Both heads are named with their shapes."""
    outputs = [TensorSpec("a", "float32", (-1, 8, 4)), TensorSpec("b", "float32", (-1, 8, 4))]
    data = _data(np.zeros((2, 1), int), boxes=np.zeros((2, 1, 4)))

    with pytest.raises(ModelError, match=r"a \[-1, 8, 4\], b \[-1, 8, 4\]"):
        metrics.make("map", data, outputs, (np.zeros((2, 8, 4)),) * 2)


def test_the_cosine_is_the_worst_output_of_each_sample():
    """An output that is lost is not made up for by the other."""
    one = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    turned = np.array([[1.0, 1.0], [0.0, 5.0]], np.float32)
    outputs = [TensorSpec("p", "float32", (-1, 2)), TensorSpec("q", "float32", (-1, 2))]

    rows = metrics.make("cosine", _data(n=2), outputs, (one, one)).compare((one, turned))

    assert [r.label for r in rows] == ["overall", "p", "q"]
    assert (
        rows[0].candidate
        == rows[2].candidate
        == pytest.approx((np.sqrt(0.5) + 1) / 2, abs=1e-6)
    )
    assert rows[1].candidate == 1.0


def test_rows_of_zeros_are_alike():
    """And a row of zeros is unlike any other."""
    zeros, ones = np.zeros((1, 3)), np.ones((1, 3))

    assert cosines(zeros, zeros) == 1
    assert cosines(zeros, ones) == 0


def each_sample(answers, known):
    """Return a score of each sample."""
    return 1 - np.abs(answers[0][:, 0] - known["x"][:, 0])


def all_samples(answers, known):
    """Return one score."""
    return 1 - float(np.abs(answers[0][:, 0] - known["x"][:, 0]).mean())


def too_much(answers, known):
    """Return what is no score."""
    return answers[0][:, 0] + 2 * np.ones(len(known["x"]))


@pytest.mark.parametrize("name", ["each_sample", "all_samples"])
def test_a_function_of_ones_own_judges(name):
    """By sample or over all: the same estimate, bounds on either side."""
    x = np.linspace(0, 1, 100, dtype=np.float32)[:, None]
    outputs = [TensorSpec("y", "float32", (-1, 1))]

    (row,) = metrics.make(f"{__name__}:{name}", _data(inputs=x), outputs, (x,)).compare(
        (x * 0.9,)
    )

    assert row.reference == 1
    assert row.candidate == pytest.approx(0.95)
    assert row.loss().low < 0.05 < row.loss().high


def test_a_function_that_returns_no_score_is_refused():
    """Scores are 0 to 1, one a sample."""
    x = np.zeros((3, 1), np.float32)

    with pytest.raises(DataError, match="from 2 to 2 for 3 samples"):
        metrics.make(f"{__name__}:too_much", _data(inputs=x), SCORES, (x,))


def test_the_identity_of_a_function_is_its_code(tmp_path, monkeypatch):
    """Evidence of another version of it is never taken for this one's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_for_identity.py").write_text("def score(a, k): return 1.0\n")
    x = np.zeros((3, 1), np.float32)
    metrics.make("mine_for_identity:score", _data(inputs=x), SCORES, (x,))

    first = metrics.identity("mine_for_identity:score")
    (tmp_path / "mine_for_identity.py").write_text("def score(a, k): return 0.9\n")

    assert metrics.identity("mine_for_identity:score") != first
    del sys.modules["mine_for_identity"]


@pytest.mark.parametrize(
    ("name", "match"), [("acuracy", "no metric 'acuracy'"), ("own", "no metric 'own'")]
)
def test_an_unknown_metric_is_refused(name, match):
    """The nearest is named."""
    with pytest.raises(UsageError, match=match):
        metrics.parse(name)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("accuracy", "needs the right class"),
        ("f1", "needs the right class"),
        ("auc", "needs the right class"),
        ("mae", "needs the right numbers"),
        ("map", "needs the boxes"),
    ],
)
def test_a_metric_says_what_it_needs(name, match):
    """Nothing is made up where nobody said what is right."""
    with pytest.raises(DataError, match=match):
        metrics.make(name, _data(n=3), SCORES, (_scores([0, 1, 2]),))


@given(st.integers(1, 300))
def test_samples_are_spread_and_there_once(n):
    """The first few of them lie far apart."""
    order = spread(n)

    assert sorted(order.tolist()) == list(range(n))
