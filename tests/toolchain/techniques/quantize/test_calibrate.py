"""calibrate: the statistics of every activation, in pieces or at once, from any inputs."""

import weakref

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tests.sim.models import model, quarters, samples

from edgewright.core.errors import DataError, QuantizeError
from edgewright.toolchain.ir import observe as observing
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.observe import activation_bytes, groups
from edgewright.toolchain.techniques.quantize.calibrate import calibrate
from edgewright.toolchain.techniques.quantize.given import Given
from edgewright.toolchain.techniques.quantize.static import (
    Method,
    activations,
    quantize_static,
)

IMAGES, _ = samples(60)
FLOAT = TensorProto.FLOAT


@pytest.fixture(scope="module")
def graph():
    """Return a float graph with eight activations."""
    return check(quarters(), "m")


def batches(size):
    """Return the images in batches."""
    return [{"image": IMAGES[start : start + size]} for start in range(0, 60, size)]


def two_inputs():
    """Return a graph that multiplies ``a`` by weights and adds ``b``."""
    return check(
        model(
            [
                helper.make_node("MatMul", ["a", "w"], ["product"]),
                helper.make_node("Add", ["product", "b"], ["y"]),
            ],
            {"w": np.eye(4, dtype=np.float32) * 2},
            inputs={"a": (FLOAT, ["n", 4]), "b": (FLOAT, ["n", 4])},
            outputs={"y": (FLOAT, ["n", 4])},
        ),
        "two",
    )


def test_every_activation_is_seen_in_full(graph):
    """Extremes and counts are those of the tensors themselves."""
    names = activations(graph)

    found = calibrate(graph, batches(20), names, bins=64)

    proto = graph.copy()
    proto.graph.output.extend(
        helper.make_tensor_value_info(name, FLOAT, None) for name in names if name != "logits"
    )
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    expected = dict(zip(names, session.run(names, {"image": IMAGES}), strict=True))
    assert list(found) == names
    assert {"centred", "map", "hidden", "logits"} <= set(names)
    for name, values in expected.items():
        seen = found[name].values
        assert seen.count == seen.counts.sum() == values.size
        np.testing.assert_allclose((seen.low, seen.high), (values.min(), values.max()), 1e-5)


@pytest.mark.parametrize("budget", [1, 20_000, 1 << 30])
def test_a_budget_decides_nothing(graph, budget):
    """One activation at a time, a few, or all at once: the same ranges."""
    names = activations(graph)

    found = calibrate(graph, batches(20), names, bins=64, budget_bytes=budget)

    expected = calibrate(graph, batches(20), names, bins=64)
    for name in names:
        np.testing.assert_array_equal(
            found[name].rest.counts, expected[name].rest.counts, err_msg=name
        )


def test_at_most_a_group_is_held(graph, monkeypatch):
    """Each run asks for no more than fits the budget, and before that only for sizes."""
    names, asked = activations(graph), []
    real = onnxruntime.InferenceSession

    class Watched(real):
        def run(self, outputs, *rest):
            found = super().run(outputs, *rest)
            asked.append(sum(array.size * 4 for array in found))
            return found

    monkeypatch.setattr(observing.onnxruntime, "InferenceSession", Watched)

    calibrate(graph, batches(20), names, bins=0, budget_bytes=41_000)

    assert asked[0] == 4 * len(names)
    assert max(asked[1:]) <= 41_000
    assert len(asked) > 1 + 2 * len(batches(20))


@pytest.mark.parametrize("bins", [0, 64])
def test_no_activation_outlives_its_batch(graph, monkeypatch, bins):
    """When the next batch is run nothing is left of the last, so memory cannot grow."""
    names, given, alive = activations(graph), [], []
    real = onnxruntime.InferenceSession

    class Watched(real):
        def run(self, outputs, *rest):
            alive.append(sum(reference() is not None for reference in given))
            found = super().run(outputs, *rest)
            given.extend(map(weakref.ref, found))
            return found

    monkeypatch.setattr(observing.onnxruntime, "InferenceSession", Watched)

    calibrate(graph, batches(10), names, bins=bins)

    assert alive == [0] * (1 + len(batches(10)))


def test_bytes_are_known_before_anything_is_held(graph):
    """By tensor, as float32, for the batch at hand."""
    found = activation_bytes(graph, {"image": IMAGES[:3]}, ["centred", "map", "logits"])

    assert found == {"centred": 3 * 64 * 4, "map": 3 * 8 * 64 * 4, "logits": 3 * 4 * 4}


def test_groups_fit_or_are_of_one():
    """In order; what is larger than the budget goes alone."""
    sizes = {"a": 4, "b": 5, "c": 20, "d": 1, "e": 9}

    assert groups(sizes, 10) == [["a", "b"], ["c"], ["d", "e"]]


def test_several_inputs_are_calibrated():
    """Every input is fed by name, and a float input has a range of its own."""
    feeds = [
        {"a": np.full((2, 4), value, np.float32), "b": np.full((2, 4), -value, np.float32)}
        for value in (1, 3)
    ]

    found = calibrate(two_inputs(), feeds, ["a", "b", "product", "y"], bins=0)

    extremes = {name: (s.values.low, s.values.high) for name, s in found.items()}
    assert extremes == {"a": (1, 3), "b": (-3, -1), "product": (2, 6), "y": (1, 3)}
    assert quantize_static(Given(two_inputs()), feeds, Method())[0].operators["QuantizeLinear"]


def test_an_infinite_activation_is_refused_by_name():
    """It would be the whole range; the tensor is named."""
    feeds = [
        {"a": np.full((1, 4), 3e38, np.float32), "b": np.zeros((1, 4), np.float32)},
    ]

    with pytest.raises(QuantizeError, match="activation 'product' is not finite") as caught:
        calibrate(two_inputs(), feeds, ["product"], bins=0)

    assert "-1e4" in caught.value.hint


@pytest.mark.parametrize(
    ("feeds", "match"),
    [
        ([], "needs a batch of samples and got none"),
        ([{"a": np.ones((1, 4), np.float32)}], "lack the input 'b'"),
        (
            [{"a": np.ones((1, 4), np.float32), "b": np.ones((1, 5), np.float32)}],
            "do not fit: .*must have shape",
        ),
    ],
    ids=["none", "missing", "shape"],
)
def test_feeds_that_do_not_fit_are_refused(feeds, match):
    """The difference is named before anything is run."""
    with pytest.raises(DataError, match=match):
        calibrate(two_inputs(), feeds, ["product"], bins=0)


def test_feeds_that_end_after_one_walk_are_a_value_error():
    """A second group of activations would see nothing of them."""
    with pytest.raises(ValueError, match="not an iterator"):
        calibrate(two_inputs(), iter([]), ["product"], bins=0)
