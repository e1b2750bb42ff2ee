"""weights: half a step at most, a stated share of the bytes, and floats at run time."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper
from tests.sim.models import model, quarters, samples

from edgewright.core.errors import QuantizeError, UsageError
from edgewright.toolchain.ir.codes import (
    CODERS,
    binary,
    by_block,
    by_channel,
    by_input_block,
    integers,
    ternary,
)
from edgewright.toolchain.ir.linear import layers_of
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.ir.store import files_of
from edgewright.toolchain.techniques import load_technique
from edgewright.toolchain.techniques.weights import narrow
from edgewright.toolchain.techniques.weights.unfold import folded, packed

IMAGES, _ = samples(100)
WEIGHTS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=4, max_side=8),
    elements=st.floats(-1e6, 1e6, width=32),
)
FORMS = ["float16", "int8", "int4", "ternary", "binary"]


@pytest.fixture(scope="module")
def graph():
    """Return a float graph with a convolution, a batch norm and two matrices."""
    return check(quarters(), "m")


def _within_half_a_step(codes, weight):
    error = np.abs(codes.real().astype(np.float64) - weight)
    step = np.broadcast_to(codes.scale.astype(np.float64), codes.values.shape)
    slack = 1e-6 * np.abs(weight) + np.finfo(np.float32).tiny
    return (error <= step.reshape(weight.shape) / 2 + slack).all()


@given(weight=WEIGHTS, bits=st.integers(2, 8))
def test_no_weight_moves_by_more_than_half_a_step(weight, bits):
    """Whatever axis was chosen, and the most negative code is never used."""
    codes = by_channel(weight, integers(bits))

    assert _within_half_a_step(codes, weight)
    assert np.abs(codes.values.astype(int)).max() <= 2 ** (bits - 1) - 1
    assert codes.scale.size * 16 <= weight.size or codes.scale.size == 1


@given(
    rows=st.integers(1, 6),
    size=st.sampled_from([2, 4, 8]),
    bits=st.integers(2, 8),
    data=st.data(),
)
def test_no_weight_of_a_block_moves_by_more(rows, size, bits, data):
    """The same with a scale for each few weights that follow each other."""
    held = st.floats(-1e6, 1e6, width=32)
    weight = data.draw(hnp.arrays(np.float32, (rows, size), elements=held))

    codes = by_block(weight.reshape(size, rows), integers(bits), size)

    assert codes.values.shape == (rows, size)
    assert _within_half_a_step(codes, weight.reshape(size, rows))


def test_known_values():
    """Columns of 12.7 and 0.0127 at most: a scale a column, 0.1 and 0.0001."""
    weight = np.tile(np.array([[12.7, 0.0127], [-6.35, 0.00635]], np.float32), (10, 1))

    codes = by_channel(weight, integers(8))

    np.testing.assert_allclose(codes.scale, [[0.1, 0.0001]], rtol=1e-6)
    assert codes.values[:2].tolist() == [[127, 127], [-64, 64]]


def test_the_axis_that_loses_least_is_the_channel():
    """Rows of a hundred sizes: one scale a row, along whichever axis the rows lie."""
    draw = np.random.default_rng(1)
    rows = draw.normal(size=(20, 30)).astype(np.float32)
    rows *= np.logspace(-3, 3, 20, dtype=np.float32)[:, None]

    assert by_channel(rows, integers(4)).scale.shape == (20, 1)
    assert by_channel(rows.T.copy(), integers(4)).scale.shape == (1, 20)


def test_a_channel_that_is_known_is_taken():
    """Whatever axis has the finer steps; where its slices are too small it is not."""
    rows = np.random.default_rng(1).normal(size=(20, 30)).astype(np.float32)
    rows *= np.logspace(-3, 3, 20, dtype=np.float32)[:, None]

    assert by_channel(rows, integers(4), 1).scale.shape == (1, 30)
    assert by_channel(rows[:, :15].copy(), integers(4), 0).scale.shape == (1, 15)


def test_zeros_keep_a_usable_scale():
    """A pruned tensor quantizes to zeros, and its scale stays positive."""
    codes = by_channel(np.zeros((20, 20), np.float32), integers(8))

    assert (codes.scale > 0).all()
    assert not codes.values.any()


def test_blocks_that_are_not_full_are_a_value_error():
    """The caller's mistake; the technique falls back to channels and is not asked."""
    with pytest.raises(ValueError, match="10 weights do not fill blocks of 4"):
        by_block(np.ones(10, np.float32), integers(8), 4)


@given(values=hnp.arrays(np.int8, st.integers(1, 33), elements=st.integers(-7, 7)))
def test_packed_codes_are_those_of_onnx(values):
    """ONNX reads from our bytes what we wrote, an odd one at the end as well."""
    tensor = TensorProto(
        name="t", data_type=TensorProto.INT4, dims=values.shape, raw_data=packed(values)
    )

    assert numpy_helper.to_array(tensor).astype(np.int8).tolist() == values.tolist()


@pytest.mark.parametrize(
    ("form", "block", "smaller"),
    [
        ("float16", "channel", 0.48),
        ("int8", "channel", 0.70),
        ("int4", "channel", 0.78),
        ("int4", "32", 0.78),
        ("ternary", "channel", 0.89),
        ("binary", "channel", 0.92),
    ],
)
def test_the_file_shrinks_by_what_the_form_promises(graph, form, block, smaller):
    """All files together, scales and names counted."""
    before = sum(map(len, files_of(graph).values()))

    after = sum(map(len, files_of(narrow(graph, form=form, block=block).graph).values()))

    assert 1 - after / before >= smaller


@pytest.mark.parametrize("form", FORMS)
def test_the_engine_computes_with_floats(graph, form, tmp_path):
    """After loading, no node is left that was not there before: all is folded at once."""
    kinds = []
    for number, one in enumerate((graph, narrow(graph, form=form).graph)):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{number}.onnx")
        options.log_severity_level = 4
        options.graph_optimization_level = (
            onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        )
        onnxruntime.InferenceSession(one.to_bytes(), options)
        nodes = _kinds(tmp_path / f"{number}.onnx")
        kinds.append(nodes)

    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("form", FORMS)
def test_answers_are_those_of_the_rounded_weights(graph, form):
    """By the engine, the same as a float graph that holds the rounded weights."""
    after = narrow(graph, form=form).graph

    found = _run(after)
    rounded = _rounded(graph, form)

    np.testing.assert_allclose(found, _run(rounded), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", ["channel", "32"])
@pytest.mark.parametrize("form", ["int8", "int4", "ternary"])
def test_learned_weights_answer_closer(graph, form, block):
    """With samples the answers lose less, in as many bytes; the note says so."""
    before = _run(graph)

    plain, learned = (
        narrow(graph, form=form, block=block, samples=given)
        for given in (None, Samples({"image": IMAGES}))
    )

    lost = [np.square(_run(made.graph) - before).mean() for made in (plain, learned)]
    assert lost[1] < lost[0] * 0.8
    assert learned.graph.weight_bytes == plain.graph.weight_bytes
    assert "weights are rounded by what answers lose" in learned.notes[1]


# Below the smallest normal number float32 itself has no steps left to round to.
ORDINARY = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


@given(weight=hnp.arrays(np.float32, (3, 7), elements=ORDINARY))
def test_three_values_lose_least(weight):
    """No other number of weights kept, with their mean, leaves a smaller squared error."""
    codes = ternary(weight, 0)

    error = np.square(codes.real().astype(np.float64) - weight).sum(axis=1)
    for row, found in zip(weight.astype(np.float64), error, strict=True):
        sizes = np.sort(np.abs(row))[::-1]
        least = min(
            np.square(sizes[:k] - sizes[:k].mean()).sum() + np.square(sizes[k:]).sum()
            for k in range(1, 8)
        )
        assert found <= least * (1 + 1e-5) + 1e-5 * np.square(row).max()
    assert np.isin(codes.values, (-1, 0, 1)).all()


def test_known_values_of_three_and_two():
    """Of 4, -3 and 1 the two largest are kept with 3.5; with signs alone all have 8/3."""
    weight = np.array([[4.0, -3.0, 1.0]], np.float32)

    assert ternary(weight, 0).values.tolist() == [[1, -1, 0]]
    assert ternary(weight, 0).scale.tolist() == [[3.5]]
    assert binary(weight, None).values.tolist() == [[1, -1, 1]]
    np.testing.assert_allclose(binary(weight, None).scale, [[8 / 3]], rtol=1e-6)


@pytest.mark.parametrize(("form", "digits", "base"), [("ternary", 5, 3), ("binary", 8, 2)])
@given(data=st.data(), size=st.integers(1, 23))
def test_digits_are_taken_apart_again(form, digits, base, data, size):
    """As division and remainder do it, the last byte not full."""
    held = st.sampled_from([-1, 0, 1] if base == 3 else [-1, 1])
    values = data.draw(hnp.arrays(np.int8, size, elements=held))

    numbers = folded(values, form)

    found = (numbers // base ** np.arange(digits)) % base
    used = found.ravel()[:size].astype(int)
    codes = used - 1 if base == 3 else used * 2 - 1
    assert numbers.shape == (-(-size // digits), 1)
    assert codes.tolist() == values.tolist()


def test_vectors_stay_floats_unless_halved():
    """A bias of a thousand values is as it was and counted; as float16 it is halved."""
    proto = model(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        {"w": np.ones((8, 1000), np.float32), "b": np.ones(1000, np.float32)},
        inputs={"x": (TensorProto.FLOAT, ["n", 8])},
        outputs={"y": (TensorProto.FLOAT, ["n", 1000])},
    )
    graph = check(proto, "m")

    kept, halved = (narrow(graph, form=form) for form in ("int8", "float16"))

    assert "1 vectors of 4000 bytes in all stay floats" in kept.notes[1]
    assert "b" in {t.name for t in kept.graph.proto.graph.initializer}
    assert halved.graph.precision == "float16"
    assert "2 of 2 float weights" in halved.notes[0]


def test_what_is_beyond_float16_stays_and_is_named():
    """70000 has no float16: that weight is left as it is, and the note says why."""
    first = np.full((32, 32), 7e4, np.float32)
    second = np.ones((32, 32), np.float32)
    graph = _two_matrices(first, second)

    applied = narrow(graph, form="float16")

    kept = [t for t in applied.graph.proto.graph.initializer if t.data_type == 1]
    assert [t.name for t in kept] == ["first"]
    assert "'first', 70000 is beyond float16" in applied.notes[1]


def test_what_is_too_small_is_left_and_named(graph):
    """A mean of four bytes costs more as codes; where nothing pays it is an error."""
    assert "'mean', 4 bytes are too few to pay" in narrow(graph, form="int8").notes[2]
    tiny = _two_matrices(np.eye(4, dtype=np.float32), np.eye(4, dtype=np.float32) * 2)

    with pytest.raises(QuantizeError, match="none of 2 float weights could be stored"):
        narrow(tiny, form="int8")


def test_what_is_narrow_already_is_refused(graph):
    """Rounding twice would lose twice."""
    with pytest.raises(QuantizeError, match="fewer bits already"):
        narrow(narrow(graph, form="float16").graph, form="int8")


@pytest.mark.parametrize("opset", [13, 17, 18])
def test_int4_raises_the_opset(opset):
    """Cast knows int4 since 21; the answers are those of an int8 file with int4's codes."""
    graph = check(quarters(opset=opset), "m")

    after = narrow(graph, form="int4").graph

    assert after.opset == 21
    assert after.precision == "int4"
    assert np.abs(_run(after) - _run(graph)).max() < 0.15 * np.abs(_run(graph)).max()


@pytest.mark.parametrize(
    ("kind", "weights", "shapes"),
    [
        ("Gather", {"w": (200, 16)}, ("indices",)),
        ("ConvTranspose", {"w": (8, 4, 3, 3)}, (1, 8, 5, 5)),
        ("LSTM", {"w": (1, 32, 16), "r": (1, 32, 8)}, (3, 1, 16)),
    ],
)
def test_every_operator_is_reached(kind, weights, shapes):
    """Tables, transposed convolutions and recurrent cells, not only matrices."""
    draw = np.random.default_rng(2)
    held = {
        name: (draw.normal(size=shape) / 4).astype(np.float32)
        for name, shape in weights.items()
    }
    indices = shapes == ("indices",)
    shape, dtype = ([5], TensorProto.INT64) if indices else (list(shapes), TensorProto.FLOAT)
    names = [*held, "x"] if indices else ["x", *held]
    more = {"hidden_size": 8} if kind == "LSTM" else {}
    rank = {"Gather": 2, "ConvTranspose": 4, "LSTM": 4}[kind]
    proto = model(
        [helper.make_node(kind, names, ["y"], **more)],
        held,
        inputs={"x": (dtype, shape)},
        outputs={"y": (TensorProto.FLOAT, [f"d{n}" for n in range(rank)])},
    )
    graph = check(proto, "m")
    feed = np.arange(5) if indices else draw.normal(size=shape).astype(np.float32)

    after = narrow(graph, form="int8").graph

    before, found = (
        onnxruntime.InferenceSession(g.to_bytes()).run(None, {"x": feed})[0]
        for g in (graph, after)
    )
    assert after.precision == "int8"
    assert np.abs(found - before).max() < 0.05 * np.abs(before).max()


def test_settings_are_those_of_the_table(graph):
    """A block nobody offered is refused by name."""
    with pytest.raises(UsageError, match=r"weights\.block cannot be '48'"):
        load_technique("weights").apply(graph, {"block": "48"})


@given(seed=st.integers(0, 100))
@settings(max_examples=5)
def test_the_same_graph_gives_the_same_bytes(seed):
    """Twice the same, to the byte."""
    graph = check(quarters(seed=seed), "m")

    first, second = (narrow(graph, form="int4", block="32").graph for _ in range(2))

    assert first.to_bytes() == second.to_bytes()


def _kinds(path):
    """Return how many nodes of each kind a model file has."""
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def _rounded(graph, form):
    """Return the float graph with each weight that is narrowed rounded in place."""
    proto = graph.copy()
    stored = {t.name for t in narrow(graph, form=form).graph.proto.graph.initializer}
    channels = {name: layer.channel for name, layer in layers_of(graph).items()}
    for tensor in proto.graph.initializer:
        if tensor.name in stored or tensor.data_type != TensorProto.FLOAT:
            continue
        weight = numpy_helper.to_array(tensor)
        real = (
            weight.astype(np.float16).astype(np.float32)
            if form == "float16"
            else by_channel(weight, CODERS[form], channels.get(tensor.name)).real()
        )
        tensor.CopyFrom(numpy_helper.from_array(real, tensor.name))
    return check(proto, "rounded")


def _two_matrices(first, second):
    side = first.shape[0]
    return check(
        model(
            [
                helper.make_node("MatMul", ["x", "first"], ["h"]),
                helper.make_node("MatMul", ["h", "second"], ["y"]),
            ],
            {"first": first, "second": second},
            inputs={"x": (TensorProto.FLOAT, ["n", side])},
            outputs={"y": (TensorProto.FLOAT, ["n", side])},
        ),
        "m",
    )


def _run(graph):
    return onnxruntime.InferenceSession(graph.to_bytes()).run(None, {"image": IMAGES})[0]


@given(
    weight=hnp.arrays(np.float32, (64, 5), elements=st.floats(-1e6, 1e6, width=32)),
    transposed=st.booleans(),
)
def test_a_block_of_inputs_shares_a_scale(weight, transposed):
    """Whichever way the matrix lies, its codes and scales are those of its transpose."""
    given_as = np.ascontiguousarray(weight.T) if transposed else weight

    codes = by_input_block(given_as, integers(8), 32, transposed=transposed)

    assert codes.scale.size == 2 * 5
    assert _within_half_a_step(codes, given_as)
    other = by_input_block(
        np.ascontiguousarray(given_as.T), integers(8), 32, transposed=not transposed
    )
    assert (codes.real() == other.real().T).all()


def _matrices(*, transposed=False, alpha=1.0, inputs=256):
    """Return a Gemm of some size and a MatMul behind it, and inputs for both."""
    draw = np.random.default_rng(0)
    first = draw.normal(0, 0.1, (inputs, 128)).astype(np.float32)
    weights = {
        "v": np.ascontiguousarray(first.T) if transposed else first,
        "b": draw.normal(size=128).astype(np.float32),
        "w": draw.normal(0, 0.1, (128, 256)).astype(np.float32),
    }
    nodes = [
        helper.make_node(
            "Gemm", ["x", "v", "b"], ["h"], name="first", transB=int(transposed), alpha=alpha
        ),
        helper.make_node("MatMul", ["h", "w"], ["y"], name="last"),
    ]
    graph = check(
        model(
            nodes, weights, inputs={"x": (TensorProto.FLOAT, ["n", inputs])},
            outputs={"y": (TensorProto.FLOAT, ["n", 256])}, opset=18,
        ),
        "m",
    )  # fmt: skip
    return graph, draw.normal(size=(9, inputs)).astype(np.float32)


def _answers_and_kinds(graph, x, folder):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "run.onnx")
    session = onnxruntime.InferenceSession(graph.to_bytes(), options)
    kinds = [node.op_type for node in onnx.load(folder / "run.onnx").graph.node]
    return session.run(None, {"x": x})[0], kinds


@pytest.mark.parametrize("rounding", ["nearest", "learned"])
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize(("form", "apart"), [("int8", 0.02), ("int4", 0.2)])
def test_codes_stay_codes_in_memory(form, apart, transposed, rounding, tmp_path):
    """The engine multiplies with them: no float of a matrix is left when it has loaded."""
    graph, x = _matrices(transposed=transposed)

    applied = load_technique("weights").apply(
        graph, {"form": form, "memory": "codes", "rounding": rounding}, Samples({"x": x})
    )

    before, _ = _answers_and_kinds(graph, x, tmp_path)
    after, kinds = _answers_and_kinds(applied.graph, x, tmp_path)
    assert kinds == ["MatMulNBits", "MatMulNBits"]
    assert np.abs(after - before).mean() < apart * np.abs(before).mean()
    assert any("2 of them" in n and "stay codes in memory" in n for n in applied.notes)


def test_what_no_product_of_codes_takes_is_unfolded(tmp_path):
    """A product with a factor, or of a size no block divides; the file is as small."""
    for graph, x in (_matrices(alpha=0.5), _matrices(inputs=272)):
        applied = narrow(graph, form="int8", memory="codes")

        after, kinds = _answers_and_kinds(applied.graph, x, tmp_path)
        before, _ = _answers_and_kinds(graph, x, tmp_path)
        assert kinds.count("MatMulNBits") == 1
        assert np.abs(after - before).mean() < 0.02 * np.abs(before).mean()
        assert applied.graph.weight_bytes < 0.27 * graph.weight_bytes


def test_other_forms_say_that_they_are_unfolded():
    """Halves, three values and two are no codes an engine multiplies with."""
    graph, _ = _matrices()

    applied = narrow(graph, form="float16", memory="codes")

    assert applied.graph.digest == narrow(graph, form="float16").graph.digest
    assert applied.notes[-1] == "float16 is unfolded to floats when the model is loaded"


def test_codes_in_memory_are_not_stored_twice():
    """What was stored in fewer bits is refused a second time, however it was stored."""
    graph, _ = _matrices()
    once = narrow(graph, form="int8", memory="codes").graph

    with pytest.raises(QuantizeError, match="stored in fewer bits already"):
        narrow(once, form="int8")
