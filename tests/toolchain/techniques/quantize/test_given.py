"""Inputs of bytes are codes already: nothing folds or unfolds them again."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tests.sim.models import model

from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques.quantize import quantize
from edgewright.toolchain.techniques.quantize.given import codes_given

node = helper.make_node
NONE: frozenset[str] = frozenset()
PICTURES = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8)).astype(np.uint8)


def _draw(*shape):
    return np.random.default_rng(sum(shape)).normal(0.0, 0.2, shape).astype(np.float32)


def _graph(*steps, dtype=TensorProto.UINT8, pads=1):
    """Return a convolution of a picture of bytes after ``steps``, operator and constant."""
    nodes, weights, last = [node("Cast", ["x"], ["c"], to=TensorProto.FLOAT)], {}, "c"
    for number, (kind, value) in enumerate(steps):
        weights[f"k{number}"] = np.asarray(value, np.float32)
        nodes.append(node(kind, [last, f"k{number}"], [f"t{number}"]))
        last = f"t{number}"
    weights |= {"w": _draw(6, 3, 3, 3), "b": _draw(6)}
    conv = node("Conv", [last, "w", "b"], ["y"], name="conv", pads=[pads] * 4)
    side = 6 + 2 * pads
    return check(
        model(
            [*nodes, conv], weights, inputs={"x": (dtype, ["n", 3, 8, 8])},
            outputs={"y": (TensorProto.FLOAT, ["n", 6, side, side])},
        ),
        "m",
    )  # fmt: skip


def _run(graph, x=PICTURES):
    return onnxruntime.InferenceSession(graph.to_bytes()).run(None, {"x": x})[0]


def _quantized(graph):
    return quantize(graph, Samples({"x": PICTURES})).graph


WHOLE = [
    (),
    (("Add", -128.0),),
    (("Sub", 100.0),),
    (("Mul", 1 / 255),),
    (("Div", 255.0),),
    (("Add", -100.0), ("Mul", 0.02)),
    (("Mul", 0.5), ("Sub", 64.0)),
    (("Add", np.full((1, 3, 1, 1), -90.0)),),
]


@pytest.mark.parametrize("steps", WHOLE)
def test_a_picture_of_bytes_is_read_as_it_is(steps):
    """The first layer unfolds the input itself; no Cast and no arithmetic is left."""
    graph = _graph(*steps)

    made = _quantized(graph)

    kinds = made.operators
    assert not {"Cast", "Add", "Sub", "Mul", "Div"} & set(kinds)
    readers = [n.op_type for n in made.proto.graph.node if "x" in n.input]
    assert readers == ["DequantizeLinear"]
    before, after = _run(graph), _run(made)
    assert np.abs(before - after).mean() < 0.02 * np.abs(before).mean()


def test_a_shift_by_half_a_step_goes_into_the_biases():
    """Inside the picture nothing changes; at its border the padding moves by half a step."""
    graph = _graph(("Add", -127.5))

    given = codes_given(graph, NONE)

    assert given.inputs == {"c": "x", "t0": "x"}
    before, after = _run(graph), _run(given.graph)
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    assert np.abs(before - after)[inside].max() < 1e-3
    border = np.abs(before - after).max()
    weights = _draw(6, 3, 3, 3)
    assert 0 < border <= 0.5 * np.abs(weights).sum(axis=(1, 2, 3)).max()
    assert "Add" not in _quantized(graph).operators


def test_one_shift_a_channel_stays_and_reads_the_bytes():
    """One zero cannot be three; the sum is computed, but of the input's own codes."""
    graph = _graph(("Add", np.array([-120.0, -116.0, -104.0]).reshape(1, 3, 1, 1)))

    made = _quantized(graph)

    assert made.operators["Add"] == 1
    assert "Cast" not in made.operators
    before, after = _run(graph), _run(made)
    assert np.abs(before - after).mean() < 0.02 * np.abs(before).mean()


@pytest.mark.parametrize(
    "steps", [(("Add", 3.0),), (("Add", -300.0),), (("Mul", -1.0),)], ids=str
)
def test_what_bytes_cannot_stand_for_is_folded_as_before(steps):
    """Their zero lies outside of a byte, or the line falls."""
    graph = _graph(*steps)

    assert set(codes_given(graph, NONE).inputs) == {"c"}
    before, after = _run(graph), _run(_quantized(graph))
    assert np.abs(before - after).mean() < 0.02 * np.abs(before).mean()


def test_a_layer_in_floats_keeps_its_shift():
    """What is left out of quantizing is left as it was, to the last bit."""
    graph = _graph(("Add", -127.5))

    given = codes_given(graph, frozenset({"conv"}))

    assert given.graph is graph
    assert "t0" not in given.inputs


def test_bytes_that_were_moved_about_are_codes_too():
    """Of what is made of them the moved bytes are the codes, not the input."""
    nodes = [
        node("Transpose", ["x"], ["last"], perm=[0, 2, 3, 1]),
        node("Reshape", ["last", "s"], ["rows"]),
        node("Cast", ["rows"], ["c"], to=TensorProto.FLOAT),
        node("Add", ["c", "k"], ["y"]),
    ]
    weights = {"s": np.array([0, 8, 2, 12], np.int64), "k": np.float32(-100)}
    graph = check(
        model(
            nodes, weights, inputs={"x": (TensorProto.UINT8, ["n", 3, 8, 8])},
            outputs={"y": (TensorProto.FLOAT, ["n", 8, 2, 12])},
        ),
        "m",
    )  # fmt: skip

    given = codes_given(graph, NONE)

    assert given.inputs == {"c": "rows", "y": "rows"}
    assert (given.ranges["y"].low, given.ranges["y"].high) == (-100, 155)


def test_other_inputs_are_not_codes():
    """Signed bytes and floats are folded as before."""
    assert codes_given(_graph(dtype=TensorProto.INT8), NONE).inputs == {}
