"""The passes of fuse: each does what it says, and leaves alone what only looks like it."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.sim.models import model

from edgewright.toolchain.ir.load import check, load
from edgewright.toolchain.techniques.fuse import fuse
from edgewright.toolchain.techniques.fuse.activations import name_activations, name_gelus
from edgewright.toolchain.techniques.fuse.affine import (
    ARITHMETIC,
    BATCH_NORM,
    into_layer_after,
    into_layer_before,
)
from edgewright.toolchain.techniques.fuse.noops import drop_noops
from edgewright.toolchain.techniques.fuse.views import merge_views

MODELS = Path(__file__).parents[3] / "benchmarks/suite/models"
LEVELS = ("fast", "balanced", "aggressive")
node = helper.make_node
MAP = ["n", 4, 6, 6]


def _ints(*values):
    return np.array(values, np.int64)


def _draw(*shape):
    return np.random.default_rng(sum(shape) + 1).uniform(0.5, 1.5, shape).astype(np.float32)


def _norm(channels):
    return {name: _draw(channels) + 0.01 * i for i, name in enumerate("gbmv")}


def _graph(nodes, weights, *, x=MAP, y, more=()):
    """Return a graph from ``x`` to ``y`` and the outputs ``more``, by name."""
    outputs = {"y": (TensorProto.FLOAT, y)}
    outputs |= {name: (TensorProto.FLOAT, shape) for name, shape in more}
    inputs = {"x": (TensorProto.FLOAT, x)}
    return check(model(nodes, weights, inputs=inputs, outputs=outputs), "m")


def _run(graph, x):
    return onnxruntime.InferenceSession(graph.to_bytes()).run(None, {"x": x})


def _same(before, after):
    """Check that two graphs answer the same, on numbers that are not centred."""
    (spec,) = before.inputs
    shape = [3 if size < 0 else size for size in spec.shape]
    x = np.random.default_rng(0).normal(1.0, 2.0, shape).astype(np.float32)
    for old, new in zip(_run(before, x), _run(after, x), strict=True):
        assert old.shape == new.shape
        np.testing.assert_allclose(new, old, atol=1e-5 * max(1.0, np.abs(old).max()))


NOOPS = {
    "transpose": (node("Transpose", ["a"], ["b"], perm=[0, 1, 2, 3]), {}),
    "reshape": (node("Reshape", ["a", "s"], ["b"]), {"s": _ints(-1, 4, 6, 6)}),
    "reshape by zeros": (node("Reshape", ["a", "s"], ["b"]), {"s": _ints(0, 0, -1, 6)}),
    "pad": (node("Pad", ["a", "s"], ["b"]), {"s": _ints(*[0] * 8)}),
    "mul": (node("Mul", ["s", "a"], ["b"]), {"s": np.ones((4, 1, 1), np.float32)}),
    "add": (node("Add", ["a", "s"], ["b"]), {"s": np.zeros((1, 1, 1, 6), np.float32)}),
    "sub": (node("Sub", ["a", "s"], ["b"]), {"s": np.zeros(6, np.float32)}),
    "div": (node("Div", ["a", "s"], ["b"]), {"s": np.ones((4, 1, 1), np.float32)}),
    "concat": (node("Concat", ["a"], ["b"], axis=1), {}),
    "sum": (node("Sum", ["a"], ["b"]), {}),
    "relu again": (node("Relu", ["a"], ["b"]), {}),
}
LOOK_ALIKES = {
    "transpose": (node("Transpose", ["a"], ["b"], perm=[0, 1, 3, 2]), {}),
    "transpose by default": (node("Transpose", ["a"], ["b"]), {}),
    "reshape": (node("Reshape", ["a", "s"], ["b"]), {"s": _ints(-1, 6, 4, 6)}),
    "pad": (node("Pad", ["a", "s"], ["b"]), {"s": _ints(*[0] * 7, 1)}),
    "mul": (node("Mul", ["a", "s"], ["b"]), {"s": _draw(4, 1, 1)}),
    "add that makes larger": (
        node("Add", ["a", "s"], ["b"]), {"s": np.zeros((1, 1, 4, 6, 6), np.float32)},
    ),
    "zero less": (node("Sub", ["s", "a"], ["b"]), {"s": np.zeros(6, np.float32)}),
    "one over": (node("Div", ["s", "a"], ["b"]), {"s": np.ones(6, np.float32)}),
    "concat": (node("Concat", ["a", "a"], ["b"], axis=1), {}),
    "sigmoid again": (node("Sigmoid", ["a"], ["b"]), {}),
}  # fmt: skip


def _between(middle, weights):
    """Return a graph that does ``middle`` between a Relu, plus one, and a Sigmoid."""
    nodes = [node("Relu", ["x"], ["a"]), middle, node("Sigmoid", ["b"], ["y"])]
    if middle.op_type == "Div":
        nodes[0] = node("Exp", ["x"], ["a"])
    shape = [None] * (5 if "s" in weights and weights["s"].ndim > 4 else 4)
    return _graph(nodes, weights, y=shape)


@pytest.mark.parametrize("name", NOOPS)
def test_what_does_nothing_goes_at_every_level(name):
    """One node less, the same answers."""
    graph = _between(*NOOPS[name])

    dropped = drop_noops(graph)

    assert dropped.operators.total() == 2
    _same(graph, dropped)
    for level in LEVELS:
        assert fuse(graph, level=level).graph.operators.total() == 2


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_what_looks_like_nothing_stays(name):
    """The very same graph comes back."""
    graph = _between(*LOOK_ALIKES[name])

    assert drop_noops(graph) is graph


def test_a_noop_that_names_an_output_gives_its_name_away():
    """What wrote its input writes the output; where that is an output too, nothing goes."""
    nodes = [node("Relu", ["x"], ["a"]), node("Concat", ["a"], ["y"], axis=1)]
    graph = _graph([*nodes, node("Neg", ["a"], ["z"])], {}, y=MAP, more=[("z", MAP)])
    both = _graph(nodes, {}, y=MAP, more=[("a", MAP)])
    alone = _graph([node("Concat", ["x"], ["y"], axis=1)], {}, y=MAP)

    dropped = drop_noops(graph)

    assert dropped.operators == {"Relu": 1, "Neg": 1}
    _same(graph, dropped)
    assert drop_noops(both) is both
    assert drop_noops(alone) is alone


def test_axes_that_a_converter_calls_alike_are_not_taken_for_equal():
    """Two question marks are two sizes."""
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Reshape", ["a", "s"], ["b"]),
        node("Sigmoid", ["b"], ["y"]),
    ]
    given = {"s": TensorProto.INT64, "x": TensorProto.FLOAT}
    inputs = {name: (kind, [2] if name == "s" else ["?", "?"]) for name, kind in given.items()}
    proto = model(nodes, {}, inputs=inputs, outputs={"y": (TensorProto.FLOAT, ["?", "?"])})
    graph = check(proto, "m")

    assert drop_noops(graph) is graph
    assert merge_views(graph) is graph


def test_names_that_are_taken_are_not_given_again():
    """An input may be called what a constant would be."""
    nodes = [
        node("Sub", ["x", "k"], ["a"]),
        node("Div", ["a", "k"], ["b"]),
        node("Conv", ["b", "w"], ["t"], pads=[1, 1, 1, 1]),
        node("Add", ["t", "x_offset"], ["x_offset_added"]),
        node("Relu", ["x_offset_added"], ["y"]),
    ]
    weights = {**CONV, "k": np.array(2, np.float32)}
    kind = TensorProto.FLOAT
    inputs = {"x": (kind, MAP), "x_offset": (kind, [1])}
    proto = model(nodes, weights, inputs=inputs, outputs={"y": (kind, ["n", 5, 6, 6])})

    fused = fuse(check(proto, "m")).graph

    assert fused.operators == {"Add": 2, "Conv": 1, "Relu": 1}
    check(fused.copy(), "m")


CONV = {"w": _draw(5, 4, 3, 3)}
GEMM = {"w": _draw(4, 5), "c": _draw(5)}
FLAT = ["n", 4]
PADS = {"pads": [1, 1, 1, 1]}
# Layer, its attributes and weights, shape of its input, of its answer.
LAYERS = {
    "conv": ("Conv", {}, CONV, MAP, ["n", 5, 4, 4]),
    "conv with bias": ("Conv", {}, {**CONV, "c": _draw(5)}, MAP, ["n", 5, 4, 4]),
    "padded conv": ("Conv", PADS, CONV, MAP, ["n", 5, 6, 6]),
    "grouped conv": ("Conv", {"group": 2}, {"w": _draw(6, 2, 3, 3)}, MAP, ["n", 6, 4, 4]),
    "conv of whole patches": (
        "Conv", {"auto_pad": "VALID"}, CONV, MAP, ["n", 5, 4, 4],
    ),
    "padded conv by itself": ("Conv", {"auto_pad": "SAME_UPPER"}, CONV, MAP, ["n", 5, 6, 6]),
    "conv of a line": ("Conv", {}, {"w": _draw(5, 4, 3)}, ["n", 4, 9], ["n", 5, 7]),
    "transposed conv": ("ConvTranspose", {}, {"w": _draw(4, 5, 3, 3)}, MAP, ["n", 5, 8, 8]),
    "grouped transposed conv": (
        "ConvTranspose", {"group": 2}, {"w": _draw(4, 3, 3, 3)}, MAP, ["n", 6, 8, 8],
    ),
    "gemm": ("Gemm", {}, GEMM, FLAT, ["n", 5]),
    "gemm with all": (
        "Gemm", {"transB": 1, "alpha": 0.5, "beta": 2.0}, {"w": _draw(5, 4), "c": _draw(1, 5)},
        FLAT, ["n", 5],
    ),
    "gemm of a scalar bias": (
        "Gemm", {}, {"w": _draw(4, 5), "c": np.float32(3)}, FLAT, ["n", 5],
    ),
}  # fmt: skip
UNPADDED = sorted(n for n in LAYERS if "padded" not in n and "transposed" not in n)


def _layer(name, steps_before=(), steps_after=(), extra=None):
    """Return a graph: ``steps_before``, the layer, ``steps_after``; a step reads ``@``."""
    kind, options, weights, x, y = LAYERS[name]
    layer = (kind, ["@", *weights], options)
    nodes, last = [], "x"
    steps = [*steps_before, layer, *steps_after]
    for number, (operator, names, attributes) in enumerate(steps):
        end = "y" if number == len(steps) - 1 else f"t{number}"
        inputs = [last if name == "@" else name for name in names]
        nodes.append(node(operator, inputs, [end], **attributes))
        last = end
    return _graph(nodes, {**weights, **(extra or {})}, x=x, y=y)


def _wide(name, side, values):
    """Return ``values`` by channel as they meet the input or the answer of a layer."""
    rank = len(LAYERS[name][3 if side == "before" else 4])
    return values.reshape(-1, *[1] * (rank - 2))


NORMALISE = ("BatchNormalization", ["@", *"gbmv"], {})


@pytest.mark.parametrize("name", LAYERS)
def test_a_batch_norm_goes_into_the_layer_before(name):
    """Convolutions, transposed ones and matrices, whatever their groups and factors."""
    graph = _layer(name, steps_after=[NORMALISE], extra=_norm(LAYERS[name][4][1]))

    folded = into_layer_before(graph, BATCH_NORM)

    assert folded.operators == {LAYERS[name][0]: 1}
    _same(graph, folded)


@pytest.mark.parametrize("name", UNPADDED)
def test_a_batch_norm_goes_into_the_layer_after(name):
    """Where nothing is padded."""
    graph = _layer(name, [NORMALISE], extra=_norm(4))

    folded = into_layer_after(graph, BATCH_NORM)

    assert folded.operators == {LAYERS[name][0]: 1}
    _same(graph, folded)


@pytest.mark.parametrize("name", sorted(set(LAYERS) - set(UNPADDED)))
def test_a_batch_norm_before_padding_stays(name):
    """The zeros that are padded were never moved by it."""
    graph = _layer(name, [NORMALISE], extra=_norm(4))

    assert into_layer_after(graph, BATCH_NORM) is graph


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("scalar", [True, False], ids=["scalar", "by channel"])
def test_preprocessing_goes_into_the_first_layer(name, scalar):
    """All of it where nothing is padded; otherwise its factor, and one addition stays."""
    values = {"k": _draw(1 if scalar else 4), "l": _draw(1 if scalar else 4) + 1}
    extra = {key: _wide(name, "before", value) for key, value in values.items()}
    graph = _layer(name, [("Sub", ["@", "k"], {}), ("Div", ["@", "l"], {})], extra=extra)

    folded = into_layer_after(graph, ARITHMETIC)

    left = {} if name in UNPADDED else {"Add": 1}
    assert folded.operators == {LAYERS[name][0]: 1, **left}
    _same(graph, folded)


@pytest.mark.parametrize("name", LAYERS)
def test_a_factor_alone_goes_into_any_layer_after(name):
    """Zero times anything is what is padded."""
    extra = {"l": _wide(name, "before", _draw(4))}
    graph = _layer(name, [("Mul", ["l", "@"], {})], extra=extra)

    folded = into_layer_after(graph, ARITHMETIC)

    assert folded.operators == {LAYERS[name][0]: 1}
    _same(graph, folded)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("left", [True, False], ids=["constant first", "constant second"])
@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div"])
def test_arithmetic_goes_into_the_layer_before(name, operator, left):
    """On either side, but for a division by the answer."""
    extra = {"k": _wide(name, "after", _draw(LAYERS[name][4][1]))}
    step = (operator, ["k", "@"] if left else ["@", "k"], {})
    graph = _layer(name, steps_after=[step], extra=extra)

    folded = into_layer_before(graph, ARITHMETIC)

    if operator == "Div" and left:
        assert folded is graph
        return
    assert folded.operators == {LAYERS[name][0]: 1}
    _same(graph, folded)


def test_a_hand_worked_preprocessing():
    """(x - 1) / 2 before 4 x + 3 is 2 x + 1."""
    weights = {"w": np.array([[4]], np.float32), "c": np.array([3], np.float32)}
    weights |= {"k": np.array([1], np.float32), "l": np.array([2], np.float32)}
    nodes = [
        node("Sub", ["x", "k"], ["a"]),
        node("Div", ["a", "l"], ["b"]),
        node("Gemm", ["b", "w", "c"], ["y"]),
    ]

    folded = into_layer_after(_graph(nodes, weights, x=["n", 1], y=["n", 1]), ARITHMETIC)

    (found,) = _run(folded, np.array([[0], [1]], np.float32))
    assert folded.operators == {"Gemm": 1}
    assert found.tolist() == [[1.0], [3.0]]


REFUSED_BEFORE = {
    "a place, not a channel": _draw(6, 6)[:1, :],
    "every place": _draw(4, 6, 6),
    "a sample": _draw(2, 4, 1, 1),
    "more axes": _draw(1, 1, 1, 1, 1),
    "channels far apart": np.array([1, 1, 1, 100], np.float32).reshape(4, 1, 1),
    "a zero": np.array([1, 1, 1, 0], np.float32).reshape(4, 1, 1),
}


@pytest.mark.parametrize("name", REFUSED_BEFORE)
def test_a_factor_that_is_none_of_channels_stays(name):
    """It would be another computation, or numbers that 8 bits cannot hold."""
    factor = REFUSED_BEFORE[name]
    shape = [None] * max(4, factor.ndim)
    if factor.ndim > 4:
        nodes = [node("Conv", ["x", "w"], ["a"]), node("Mul", ["a", "k"], ["y"])]
        graph = _graph(nodes, {**CONV, "k": factor}, y=shape)
        assert into_layer_before(graph, ARITHMETIC) is graph
        return
    nodes = [node("Mul", ["x", "k"], ["a"]), node("Conv", ["a", "w"], ["y"])]
    graph = _graph(nodes, {**CONV, "k": factor}, y=shape, x=[2, 4, 6, 6])

    assert into_layer_after(graph, ARITHMETIC) is graph


@pytest.mark.parametrize("name", ["gemm", "conv"])
def test_a_mean_far_from_zero_stays(name):
    """What is left of the difference of two large products is mostly rounding."""
    extra = {"k": np.float32(10), "l": np.float32(0.01)}
    graph = _layer(name, [("Sub", ["@", "k"], {}), ("Div", ["@", "l"], {})], extra=extra)

    assert into_layer_after(graph, ARITHMETIC) is graph
    assert not fuse(graph).changed


@pytest.mark.parametrize("name", ["read twice", "an output", "a shared weight", "computed"])
def test_what_somebody_else_needs_stays(name):
    """An answer before the arithmetic, or a weight that is not the layer's alone."""
    weights = {**CONV, "k": _draw(5, 1, 1)}
    nodes = [node("Conv", ["x", "w"], ["a"]), node("Add", ["a", "k"], ["y"])]
    more = [("a", [None] * 4)] if name == "an output" else []
    if name == "read twice":
        nodes.append(node("Neg", ["a"], ["z"]))
        more = [("z", [None] * 4)]
    if name == "a shared weight":
        nodes.append(node("Conv", ["x", "w"], ["z"], pads=[1, 1, 1, 1]))
        more = [("z", [None] * 4)]
    if name == "computed":
        nodes[1:] = [node("ReduceMax", ["a"], ["k2"], keepdims=1)]
        nodes.append(node("Add", ["x", "k2"], ["y"]))
    graph = _graph(nodes, weights, y=[None] * 4, more=more)

    assert into_layer_before(graph, ARITHMETIC) is graph


@pytest.mark.parametrize("more", [[], ["m2", "v2"]], ids=["answers alone", "moments too"])
def test_a_batch_norm_in_training_stays(more):
    """It computes its mean anew."""
    graph = _layer("conv", steps_after=[NORMALISE], extra=_norm(5))
    last = graph.proto.graph.node[-1]
    last.output.extend(more)
    last.attribute.append(helper.make_attribute("training_mode", 1))

    assert into_layer_before(graph, BATCH_NORM) is graph


VIEWS = {
    "two reshapes": ([("Reshape", _ints(-1, 24, 6)), ("Reshape", _ints(-1, 4, 36))], 3),
    "there and back": ([("Unsqueeze", _ints(1)), ("Squeeze", _ints(1))], 4),
    "flat, then not": ([("Flatten", None), ("Reshape", _ints(-1, 9, 16))], 3),
    "three": ([("Unsqueeze", _ints(0)), ("Squeeze", _ints(0)), ("Flatten", None)], 2),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_views_are_one(name):
    """Only the last shape matters, and where that is the first one, none is needed."""
    steps, rank = VIEWS[name]
    nodes, weights = [node("Relu", ["x"], ["v0"])], {}
    for i, (operator, asked) in enumerate(steps):
        names = [f"v{i}"] if asked is None else [f"v{i}", f"s{i}"]
        weights |= {} if asked is None else {f"s{i}": asked}
        nodes.append(node(operator, names, [f"v{i + 1}"]))
    nodes.append(node("Sigmoid", [f"v{len(steps)}"], ["y"]))
    graph = _graph(nodes, weights, y=[None] * rank)

    merged = merge_views(graph)
    fused = fuse(graph).graph

    assert merged.operators == {"Relu": 1, "Reshape": 1, "Sigmoid": 1}
    assert fused.operators.total() == (2 if name == "there and back" else 3)
    _same(graph, merged)
    _same(graph, fused)


def test_a_view_read_twice_or_of_no_shape_to_ask_for_stays():
    """The first is needed anyway; two free axes or an empty one cannot be asked for."""
    nodes = [node("Flatten", ["x"], ["a"]), node("Reshape", ["a", "s"], ["y"])]
    weights = {"s": _ints(-1, 9, 16)}
    twice = _graph(
        [*nodes, node("Neg", ["a"], ["z"])], weights, y=[None] * 3, more=[("z", [None] * 2)]
    )
    free = [
        node("Unsqueeze", ["x", "s"], ["a"]),
        node("Unsqueeze", ["a", "s"], ["y"]),
    ]
    unknown = _graph(free, {"s": _ints(0)}, x=["a", "b"], y=[None] * 4)

    hollow = [
        node("Slice", ["x", "s", "s", "one"], ["e"]),
        node("Unsqueeze", ["e", "s"], ["a"]),
        node("Unsqueeze", ["a", "s"], ["b"]),
        node("ReduceSum", ["b", "three"], ["y"]),
    ]
    numbers = {"s": _ints(0), "one": _ints(1), "three": _ints(3)}
    empty = _graph(hollow, numbers, x=[3, 4, 2], y=[1, 1, 3, 1, 2])

    assert merge_views(empty) is empty
    assert merge_views(twice) is twice
    assert merge_views(unknown) is unknown


SIX = np.float32(6)
WEIGHTS = {"three": np.float32(3), "zero": np.float32(0), "six": SIX, "sixth": 1 / SIX}
GATE = [node("Add", ["x", "three"], ["t0"]), node("Clip", ["t0", "zero", "six"], ["t1"])]
SWISHES = {
    "by its sigmoid": [
        node("HardSigmoid", ["x"], ["t0"], alpha=1 / 6, beta=0.5),
        node("Mul", ["x", "t0"], ["y"]),
    ],
    "gate divided": [
        *GATE, node("Div", ["t1", "six"], ["t2"]), node("Mul", ["t2", "x"], ["y"]),
    ],
    "product divided": [
        *GATE, node("Mul", ["x", "t1"], ["t2"]), node("Div", ["t2", "six"], ["y"]),
    ],
    "product times a sixth": [
        *GATE, node("Mul", ["x", "t1"], ["t2"]), node("Mul", ["sixth", "t2"], ["y"]),
    ],
}  # fmt: skip
NO_SWISHES = {
    "another slope": [
        node("HardSigmoid", ["x"], ["t0"]), node("Mul", ["x", "t0"], ["y"]),
    ],
    "of something else": [
        node("Neg", ["x"], ["other"]),
        node("HardSigmoid", ["x"], ["t0"], alpha=1 / 6, beta=0.5),
        node("Mul", ["other", "t0"], ["y"]),
    ],
    "not divided": [*GATE, node("Mul", ["x", "t1"], ["y"])],
    "six over the gate": [*GATE, node("Div", ["six", "t1"], ["y"])],
    "moved by six": [
        node("Add", ["x", "six"], ["t0"]), node("Clip", ["t0", "zero", "six"], ["t1"]),
        node("Div", ["t1", "six"], ["y"]),
    ],
    "the gate read twice": [
        node("HardSigmoid", ["x"], ["t0"], alpha=1 / 6, beta=0.5),
        node("Mul", ["x", "t0"], ["t1"]), node("Add", ["t1", "t0"], ["y"]),
    ],
    "its sum read twice": [
        *GATE, node("Div", ["t1", "six"], ["t2"]), node("Add", ["t2", "t0"], ["y"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SWISHES)
def test_a_hard_swish_is_one_node(name):
    """However it is written out; and it stays one when fused again."""
    graph = _graph(SWISHES[name], WEIGHTS, y=MAP)

    named = name_activations(graph)
    fused = fuse(graph).graph

    assert named.operators == fused.operators == {"HardSwish": 1}
    _same(graph, named)
    assert not fuse(fused).changed


@pytest.mark.parametrize("name", NO_SWISHES)
def test_what_is_no_hard_swish_stays(name):
    """Another slope, source, factor or shift is another function."""
    graph = _graph(NO_SWISHES[name], WEIGHTS, y=MAP)

    assert name_activations(graph) is graph


def test_a_hard_sigmoid_is_one_node():
    """Where nothing is multiplied by it."""
    graph = _graph([*GATE, node("Mul", ["t1", "sixth"], ["y"])], WEIGHTS, y=MAP)

    named = name_activations(graph)

    assert named.operators == {"HardSigmoid": 1}
    _same(graph, named)


def test_a_hard_swish_hinders_nothing_beside_it():
    """The optimiser takes it apart; the rest of what it does is kept all the same."""
    nodes = [
        node("Identity", ["x"], ["a"]),
        node("HardSwish", ["a"], ["s"]),
        node("Conv", ["s", "w"], ["t"]),
        node("BatchNormalization", ["t", *"gbmv"], ["y"]),
    ]
    graph = _graph(nodes, {**CONV, **_norm(5)}, y=["n", 5, 4, 4])

    fused = fuse(graph).graph

    assert fused.operators == {"HardSwish": 1, "Conv": 1}
    _same(graph, fused)


@pytest.mark.parametrize("name", sorted(path.stem for path in MODELS.glob("*.onnx")))
def test_levels_are_subsets_on_real_models(name):
    """Never more nodes than the level before, the same bytes twice, the same answers."""
    graph = load(MODELS / f"{name}.onnx")
    draw = np.random.default_rng(0)
    feeds = {}
    for spec in graph.inputs:
        shape = [
            2 if axis == 0 else 16 if size < 0 else size
            for axis, size in enumerate(spec.shape)
        ]
        whole = spec.dtype.startswith(("int", "uint"))
        feeds[spec.name] = (
            draw.integers(1, 60, shape) if whole else draw.normal(size=shape)
        ).astype(spec.dtype)
    before = onnxruntime.InferenceSession(graph.to_bytes()).run(None, feeds)
    most = graph.operators.total()
    for level in LEVELS:
        fused = fuse(graph, level=level).graph
        assert fused.operators.total() <= most
        assert fused.to_bytes() == fuse(graph, level=level).graph.to_bytes()
        after = onnxruntime.InferenceSession(fused.to_bytes()).run(None, feeds)
        for old, new in zip(before, after, strict=True):
            np.testing.assert_allclose(new, old, atol=1e-5 * max(1.0, np.abs(old).max()))
        most = fused.operators.total()


STEP = st.tuples(st.sampled_from(["Add", "Sub", "Mul", "Div"]), st.booleans(), st.booleans())


@given(
    name=st.sampled_from(sorted(LAYERS)),
    before=st.lists(STEP, max_size=3),
    after=st.lists(STEP, max_size=3),
    seed=st.integers(0, 99),
)
@pytest.mark.slow
def test_whatever_is_around_a_layer_the_answers_stay(name, before, after, seed):
    """At every level, and each level has no more nodes than the one before."""
    draw, extra, sides = np.random.default_rng(seed), {}, []
    for side, steps, channels in (("before", before, 4), ("after", after, LAYERS[name][4][1])):
        made = []
        for number, (operator, left, scalar) in enumerate(steps):
            key = f"{side}{number}"
            values = draw.uniform(0.5, 2.0, 1 if scalar else channels).astype(np.float32)
            extra[key] = _wide(name, side, values)
            swapped = left and operator != "Div"
            made.append((operator, [key, "@"] if swapped else ["@", key], {}))
        sides.append(made)
    graph = _layer(name, *sides, extra=extra)
    most = graph.operators.total()
    for level in LEVELS:
        fused = fuse(graph, level=level).graph
        assert fused.operators.total() <= most
        most = fused.operators.total()
        _same(graph, fused)


def _chosen(bound, *, swapped=False):
    sides = ["x", "soft"] if not swapped else ["soft", "x"]
    nodes = [
        node("Greater", ["x", "k"], ["large"]),
        node("Softplus", ["x"], ["soft"]),
        node("Where", ["large", *sides], ["y"]),
    ]
    return _graph(nodes, {"k": np.float32(bound)}, y=MAP)


def test_a_softplus_that_is_cut_short_is_one_node():
    """Above 17 a float cannot tell it from its input."""
    graph = _chosen(20.0)
    x = np.linspace(-60, 60, 4 * 36 * 3, dtype=np.float32).reshape(3, 4, 6, 6)

    made = name_activations(graph)

    assert made.operators == {"Softplus": 1}
    (before,), (after,) = _run(graph, x), _run(made, x)
    assert np.abs(before - after).max() <= 1e-6 * np.abs(before).max()


@pytest.mark.parametrize("graph", [_chosen(3.0), _chosen(20.0, swapped=True)])
def test_another_choice_than_a_softplus_stays(graph):
    """It is cut where it shows, or the other way round."""
    assert name_activations(graph) is graph


def _gelu(*, opset, order=0, root=2**0.5, half=0.5):
    """Return GELU written out, its last two products in one of four orders."""
    products = [
        [node("Mul", ["h", "c"], ["d"]), node("Mul", ["x", "d"], ["y"])],
        [node("Mul", ["c", "h"], ["d"]), node("Mul", ["d", "x"], ["y"])],
        [node("Mul", ["x", "c"], ["d"]), node("Mul", ["d", "h"], ["y"])],
        [node("Mul", ["c", "x"], ["d"]), node("Mul", ["h", "d"], ["y"])],
    ][order]
    nodes = [
        node("Div", ["x", "s"], ["a"]),
        node("Erf", ["a"], ["b"]),
        node("Add", ["b", "o"], ["c"]),
        *products,
    ]
    scalars = {"s": root, "o": 1.0, "h": half}
    weights = {name: np.float32(value) for name, value in scalars.items()}
    inputs, outputs = {"x": (TensorProto.FLOAT, MAP)}, {"y": (TensorProto.FLOAT, MAP)}
    return check(model(nodes, weights, inputs=inputs, outputs=outputs, opset=opset), "m")


@pytest.mark.parametrize("order", range(4))
def test_a_gelu_is_one_node_where_there_is_one(order):
    """From operator set 20 on, in whatever order its factors stand."""
    graph = _gelu(opset=20, order=order)

    made = fuse(graph).graph

    assert made.operators == {"Gelu": 1}
    _same(graph, made)


@pytest.mark.parametrize("order", range(4))
def test_a_gelu_is_written_as_engines_know_it(order, tmp_path):
    """Before, the engine makes one node of it when it loads the model."""
    graph = _gelu(opset=18, order=order)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "run.onnx")

    made = fuse(graph).graph

    onnxruntime.InferenceSession(made.to_bytes(), options)
    assert [n.op_type for n in onnx.load(tmp_path / "run.onnx").graph.node] == ["Gelu"]
    _same(graph, made)
    assert not fuse(made).changed


@pytest.mark.parametrize("changed", [{"root": 2.0}, {"half": 0.25}])
def test_what_only_looks_like_a_gelu_stays(changed):
    """Another root or another factor."""
    graph = _gelu(opset=20, **changed)

    assert name_gelus(graph) is graph
