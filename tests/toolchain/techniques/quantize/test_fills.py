"""fills: the fill of a mask never becomes a range, and masks still hide what they hid."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantType
from onnxruntime.quantization import quantize_static as ort_quantize_static
from tests.sim.models import model

from edgewright.core.errors import QuantizeError
from edgewright.toolchain.ir import ort
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.techniques.quantize.choose import CHOOSERS, Range
from edgewright.toolchain.techniques.quantize.fills import Spread, choose_ranges
from edgewright.toolchain.techniques.quantize.given import Given
from edgewright.toolchain.techniques.quantize.histogram import Histogram
from edgewright.toolchain.techniques.quantize.static import Method, quantize_static

LENGTH, WIDTH = 12, 16
FILLS = [-1e4, -65504.0, -1e9, float(np.finfo(np.float32).min)]


def masking(how):
    """Return the nodes from ``products`` and ``kept`` to ``masked``, as exporters do it."""
    node = helper.make_node
    mask = [
        node("Sub", ["one", "kept"], ["hidden"]),
        node("Mul", ["hidden", "fill"], ["flat"]),
        node("Unsqueeze", ["flat", "axes"], ["mask"]),
    ]
    scaled = node("Div", ["products", "root"], ["scores"])
    return {
        "added": [scaled, *mask, node("Add", ["scores", "mask"], ["masked"])],
        "added before the scale": [
            *mask,
            node("Add", ["products", "mask"], ["large"]),
            node("Div", ["large", "root"], ["masked"]),
        ],
        "chosen": [
            scaled,
            node("Cast", ["kept"], ["seen"], to=TensorProto.BOOL),
            node("Unsqueeze", ["seen", "axes"], ["mask"]),
            node("Where", ["mask", "scores", "fill"], ["masked"]),
        ],
    }[how]


def attention(fill=-1e9, *, how="added"):
    """Return one head of attention, from ``x`` and which of its places are ``kept``."""
    draw = np.random.default_rng(5)
    weights = {
        name: (draw.normal(size=(WIDTH, WIDTH)) * gain / WIDTH**0.5).astype(np.float32)
        for name, gain in {"wq": 1.5, "wk": 1.5, "wv": 1.0, "wo": 1.0}.items()
    }
    weights |= {
        "root": np.array(WIDTH**0.5, np.float32),
        "one": np.array(1, np.float32),
        "fill": np.array(fill, np.float32),
        "axes": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q"]),
        helper.make_node("MatMul", ["x", "wk"], ["k"]),
        helper.make_node("MatMul", ["x", "wv"], ["v"]),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["products"]),
        *masking(how),
        helper.make_node("Softmax", ["masked"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "v"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "wo"], ["y"]),
    ]
    return check(
        model(
            nodes,
            weights,
            inputs={
                "x": (TensorProto.FLOAT, ["n", LENGTH, WIDTH]),
                "kept": (TensorProto.FLOAT, ["n", LENGTH]),
            },
            outputs={"y": (TensorProto.FLOAT, ["n", LENGTH, WIDTH])},
            opset=21,
        ),
        "attention",
    )


def padded(seed, count=32):
    """Return sequences of 4 to 12 real places, noise behind them, and which are real."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(4, LENGTH + 1, count)
    kept = (np.arange(LENGTH) < lengths[:, None]).astype(np.float32)
    x = draw.normal(size=(count, LENGTH, WIDTH)).astype(np.float32)
    return {"x": x, "kept": kept}


FEEDS = [padded(seed) for seed in range(3)]
TEST = padded(9)


@pytest.mark.parametrize("ranges", CHOOSERS)
@pytest.mark.parametrize("fill", FILLS)
def test_a_mask_leaves_the_answer_alone(fill, ranges):
    """Whatever a mask is filled with, 8 bits keep the answer of attention."""
    graph = attention(fill)

    quantized, _ = quantize_static(Given(graph), FEEDS, Method(bits=7, ranges=ranges))

    assert cosine(answer(graph.proto, TEST), answer(quantized.proto, TEST)) > 0.998


@pytest.mark.parametrize("how", ["added before the scale", "chosen"])
def test_masks_of_other_shapes_leave_it_alone_too(how):
    """Room is left on the scale a tensor has, and a Where needs no more than an Add."""
    graph = attention(how=how)

    quantized, _ = quantize_static(Given(graph), FEEDS, Method(bits=7))

    assert cosine(answer(graph.proto, TEST), answer(quantized.proto, TEST)) > 0.998


def test_the_extremes_alone_ruin_it(tmp_path):
    """What is mended: the quantizer's own ranges from the same samples lose the answer."""
    onnx.save(attention().proto, tmp_path / "float.onnx")

    with ort.quiet("quantize", QuantizeError):
        ort_quantize_static(
            tmp_path / "float.onnx",
            tmp_path / "int8.onnx",
            Batches(FEEDS),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            extra_options={"QuantizeBias": False},
        )

    quantized = onnx.load(tmp_path / "int8.onnx")
    assert cosine(answer(attention().proto, TEST), answer(quantized, TEST)) < 0.6


def test_what_is_masked_stays_hidden():
    """Other values behind the end of a sequence do not change what is before it."""
    graph = attention()
    quantized, _ = quantize_static(Given(graph), FEEDS, Method(bits=7))
    other = {"x": TEST["x"].copy(), "kept": TEST["kept"]}
    other["x"][TEST["kept"] == 0] *= -1

    first, second = (answer(quantized.proto, feed) for feed in (TEST, other))

    looked_at = TEST["kept"] == 1
    np.testing.assert_array_equal(first[looked_at], second[looked_at])


def test_the_notes_name_tensor_fill_and_share():
    """One for the mask as it is made, one as it is shaped, one for the masked scores."""
    _, notes = quantize_static(Given(attention()), FEEDS, Method())

    share = 100 * np.mean([feed["kept"] == 0 for feed in FEEDS])
    assert [note.split("'")[1] for note in notes] == ["flat", "mask", "masked"]
    assert all(f"{share:.1f} % of its values are the fill -1e+09" in note for note in notes)


def test_a_range_leaves_room_below_what_is_looked_at():
    """8 below the least score, and for the mask as much more as the scores reach up."""
    graph = attention()
    spreads = {
        "scores": spread([-5, 3]),
        "mask": spread([0, -1e9]),
        "masked": spread([-5, 3, -1e9 + 3, -1e9 - 5]),
        "flat": spread([0, -1e9]),
    }

    ranges, _ = choose_ranges(graph, spreads, CHOOSERS["minmax"])

    assert ranges["scores"] == Range(-5, 3)
    assert ranges["masked"] == Range(-13, 3)
    assert ranges["mask"] == ranges["flat"] == Range(-16, 0)


@pytest.mark.parametrize(
    ("values", "filled"),
    [
        ([-1, 2, -1e4], True),
        ([-1, 2, -1e4 + 40], False),
        ([-1, 99, -1e4 - 1, -1e4 + 90], True),
        ([-1, 101, -1e4], False),
        ([-200, 3, -1e9, -2e9], True),
        ([-3e4, -1e4, -5e3, 0], False),
        ([-1e9, -1e9], False),
        ([1e9, 0, 1], False),
        ([], False),
    ],
    ids=str,
)
def test_a_fill_is_far_below_all_the_rest(values, filled):
    """At or below -1e4 and a hundred times as large as anything else; else it is a value."""
    found = spread(values)

    assert found.filled is filled
    counted = [v for v in values if not filled or v > -8192]
    assert found.values.count == len(counted)
    assert found.values.low == np.float32(min(counted, default=np.inf))


@given(
    values=hnp.arrays(np.float32, st.integers(0, 30), elements=st.floats(-1e5, 1e5, width=32)),
    cut=st.integers(0, 30),
)
def test_large_values_that_are_no_fill_are_counted_as_all_others(values, cut):
    """Kept apart until all was seen, then put back without a trace."""
    found = spread(values[:cut]).merge(spread(values[cut:]))

    whole = found.rest.merge(found.deep)
    expected = Histogram.of(values, bins=64)
    np.testing.assert_array_equal(whole.counts, expected.counts)
    assert (whole.low, whole.high) == (expected.low, expected.high)


def spread(values):
    """Return the spread of a few values."""
    return Spread.of(np.asarray(values, np.float32), bins=64)


class Batches(CalibrationDataReader):
    """Feeds, as onnxruntime's own calibration reads them."""

    def __init__(self, feeds):
        self.feeds = iter(feeds)

    def get_next(self):
        """Return the next, None after the last."""
        return next(self.feeds, None)


def answer(proto, feed):
    """Return what the engine answers, (count, LENGTH, WIDTH)."""
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feed)[0]


def cosine(one, other):
    """Return the cosine of the angle between two answers."""
    one, other = one.ravel(), other.ravel()
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
