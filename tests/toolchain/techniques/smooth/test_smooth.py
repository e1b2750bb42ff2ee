"""smooth: the same answers to rounding, closer ones once they are int8, nodes if asked."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import quantize_dynamic
from tests.sim.models import model

from edgewright.core.errors import DataError
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques.smooth import smooth

FLOAT = TensorProto.FLOAT
SIDE = 64
# A few channels thirty times the others, as transformers have them.
LOUD = np.where(np.arange(SIDE) % 16 == 3, 30.0, 1.0).astype(np.float32)
X = np.random.default_rng(5).normal(size=(200, SIDE)).astype(np.float32)


def _draw(*shape, seed):
    return (np.random.default_rng(seed).normal(size=shape) / 8).astype(np.float32)


def network(*kinds, residual=False, transposed=False):
    """Return a graph that makes loud channels by each of ``kinds`` and multiplies them."""
    nodes, held, last = [], {}, "x"
    for number, kind in enumerate(kinds):
        loud, out = f"loud{number}", f"out{number}"
        if kind == "norm":
            held |= {f"gamma{number}": LOUD, f"beta{number}": LOUD / 4}
            names = [last, f"gamma{number}", f"beta{number}"]
            nodes.append(helper.make_node("LayerNormalization", names, [loud]))
        elif kind == "linear":
            held |= {f"v{number}": _draw(SIDE, SIDE, seed=number) * LOUD, f"c{number}": LOUD}
            nodes.append(helper.make_node("MatMul", [last, f"v{number}"], [f"p{number}"]))
            names = [f"c{number}", f"p{number}"]
            nodes.append(helper.make_node("Add", names, [f"s{number}"]))
            nodes.append(helper.make_node("Relu", [f"s{number}"], [loud]))
        else:
            held[f"factor{number}"] = LOUD
            nodes.append(helper.make_node("Mul", [last, f"factor{number}"], [f"m{number}"]))
            nodes.append(helper.make_node("Tanh", [f"m{number}"], [f"t{number}"]))
            nodes.append(helper.make_node("Mul", [f"t{number}", f"factor{number}"], [loud]))
        weight = _draw(SIDE, SIDE, seed=10 + number)
        held |= {f"w{number}": weight, f"b{number}": _draw(SIDE, seed=20 + number)}
        names = [loud, f"w{number}", f"b{number}"]
        nodes.append(helper.make_node("Gemm", names, [out], transB=int(transposed)))
        last = out
        if residual:
            nodes.append(helper.make_node("Add", [out, loud], [f"sum{number}"]))
            last = f"sum{number}"
    nodes.append(helper.make_node("Identity", [last], ["y"]))
    proto = model(
        nodes,
        held,
        inputs={"x": (FLOAT, ["n", SIDE])},
        outputs={"y": (FLOAT, ["n", SIDE])},
    )
    return check(proto, "m")


def _run(graph):
    return onnxruntime.InferenceSession(graph.to_bytes()).run(None, {"x": X})[0]


def _int8_error(graph, folder):
    """Return how far ORT's own dynamic int8 moves the answer of ``graph``."""
    (folder / "float.onnx").write_bytes(graph.to_bytes())
    quantize_dynamic(folder / "float.onnx", folder / "int8.onnx", per_channel=True)
    found = onnxruntime.InferenceSession(folder / "int8.onnx").run(None, {"x": X})[0]
    return np.square(found - _run(graph)).mean()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    "kinds", [("norm",), ("linear",), ("mul",), ("linear", "norm", "mul")]
)
def test_answers_stay_and_int8_gets_closer(kinds, transposed, tmp_path):
    """The float answers are the same to rounding, the int8 ones a third closer or more."""
    graph = network(*kinds, transposed=transposed)

    applied = smooth(graph, Samples({"x": X}))

    before = _run(graph)
    assert applied.changed
    assert np.abs(_run(applied.graph) - before).max() < 1e-4 * np.abs(before).max()
    assert _int8_error(applied.graph, tmp_path) < _int8_error(graph, tmp_path) / 1.5


@pytest.mark.parametrize(("kind", "put"), [("norm", 0), ("linear", 0), ("mul", 1)])
def test_a_node_is_put_in_only_where_nothing_takes_the_scale(kind, put):
    """A layer norm takes it, a product with its bias too, another node does not."""
    graph = network(kind)

    after = smooth(graph, Samples({"x": X})).graph

    assert after.operators.total() - graph.operators.total() == put


def test_what_is_read_elsewhere_is_not_scaled():
    """The sum around a block still gets the activation as it was, so a node is put in."""
    graph = network("norm", residual=True)

    after = smooth(graph, Samples({"x": X})).graph

    assert after.operators["Mul"] == graph.operators["Mul"] + 1


def test_without_nodes_what_takes_no_scale_stays():
    """Asked to put in none, it changes nothing and says so."""
    graph = network("mul")

    applied = smooth(graph, Samples({"x": X}), insert=False)

    assert not applied.changed
    assert applied.graph is graph
    assert "none of 1 activations" in applied.notes[0]


@pytest.mark.parametrize("strength", [None, 0.5, 0.8])
def test_smoothing_again_changes_nothing(strength):
    """Also where one product takes the scale of the next."""
    graph = network("linear", "linear", "mul")

    once = smooth(graph, Samples({"x": X}), strength=strength)

    assert once.changed
    assert not smooth(once.graph, Samples({"x": X}), strength=strength).changed


def test_a_weight_that_others_read_stays():
    """Two activations with one weight cannot both scale it."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    proto = model(
        nodes,
        {"w": _draw(SIDE, SIDE, seed=1) * LOUD},
        inputs={"x": (FLOAT, ["n", SIDE])},
        outputs={"y": (FLOAT, ["n", SIDE])},
    )

    applied = smooth(check(proto, "m"), Samples({"x": X}))

    assert not applied.changed
    assert "no MatMul or Gemm has a constant weight of its own" in applied.notes[0]


def test_strength_is_a_share():
    """More than all cannot be moved: the calling programmer's mistake."""
    with pytest.raises(ValueError, match="strength must be 0 to 1"):
        smooth(network("norm"), Samples({"x": X}), strength=1.5)


def test_no_samples_are_refused():
    """Scales are never guessed."""
    with pytest.raises(DataError, match="smooth needs calibration samples"):
        smooth(network("norm"), Samples({"x": X[:0]}))
