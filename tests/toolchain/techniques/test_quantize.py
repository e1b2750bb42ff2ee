"""quantize: int8 or an error, close to the float answers, the same bytes every time."""

import json
import logging
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import CalibrationDataReader, QuantType
from onnxruntime.quantization import quantize_static as ort_quantize_static
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from tests.sim.models import model, quarters, samples

from edgewright.core.errors import DataError, QuantizeError, StorageError
from edgewright.toolchain.ir import ort
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.ir.tidy import tidy
from edgewright.toolchain.techniques import TECHNIQUES
from edgewright.toolchain.techniques.quantize import quantize as quantize_samples

IMAGES, LABELS = samples(200)


def quantize(graph, images, **how):
    """Return what ``quantize`` makes of the only input's samples."""
    return quantize_samples(graph, Samples({graph.inputs[0].name: images}), **how)


@pytest.fixture(scope="module")
def graph():
    """Return a float graph, of an opset whose quantization ONNX's reference knows."""
    return check(quarters(opset=21), "m")


@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_become_a_quarter(graph, per_channel):
    """Nearly all weight bytes are int8 afterwards, and there are about a quarter of them."""
    applied = quantize(graph, IMAGES, per_channel=per_channel)

    assert applied.graph.precision == "int8"
    assert graph.weight_bytes / applied.graph.weight_bytes > 3.8
    assert "bytes of weights are int8" in applied.notes[0]


@pytest.mark.parametrize(("bits", "share"), [(8, 0.03), (7, 0.05)])
@pytest.mark.parametrize("per_channel", [True, False])
def test_answers_stay_close(graph, per_channel, bits, share):
    """By ONNX's own arithmetic: within a few percent, and the same class nearly always."""
    before = _run(graph)

    quantized = quantize(graph, IMAGES, per_channel=per_channel, bits=bits).graph

    after = _by_definition(quantized)
    assert np.abs(after - before).max() < share * np.abs(before).max()
    assert (after.argmax(axis=1) == before.argmax(axis=1)).mean() > 0.98


@pytest.mark.parametrize("per_channel", [True, False])
def test_narrow_weights_answer_by_definition_on_every_processor(graph, per_channel):
    """On x86 without VNNI full weights are off by a fifth; narrow ones overflow nowhere."""
    narrow = quantize(graph, IMAGES, per_channel=per_channel, bits=7).graph

    found, expected = _run(narrow), _by_definition(narrow)

    # Two roundings of an activation to the other side, as the engine fuses them.
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_narrow_weights_use_half_the_range(graph):
    """None is beyond -64 to 64, and some come near."""
    proto = quantize(graph, IMAGES, bits=7).graph.proto

    weights = [
        np.frombuffer(t.raw_data, np.int8).astype(int)
        for t in proto.graph.initializer
        if t.data_type == TensorProto.INT8 and len(t.raw_data) > 1000
    ]
    assert weights
    assert all(60 <= abs(w).max() <= 64 for w in weights)


def test_bits_between_are_a_value_error(graph):
    """The calling programmer's mistake; a recipe is refused by the table."""
    with pytest.raises(ValueError, match="bits must be 7 or 8, got 5"):
        quantize(graph, IMAGES, bits=5)


@pytest.mark.parametrize("ranges", TECHNIQUES["quantize"].settings["ranges"])
def test_ranges_are_what_was_asked_for(graph, ranges):
    """Each way gives its own scales, stays close on average, and is named in the note."""
    applied = quantize(graph, IMAGES, ranges=ranges)

    before, after = _run(graph), _by_definition(applied.graph)
    assert np.abs(after - before).mean() < 0.01 * np.abs(before).max()
    assert f"{ranges} ranges from 200 samples" in applied.notes[0]
    others = set(TECHNIQUES["quantize"].settings["ranges"]) - {ranges, "percentile"}
    assert all(
        quantize(graph, IMAGES, ranges=o).graph.digest != applied.graph.digest for o in others
    )


def test_the_extremes_are_those_of_the_quantizers_own(graph, tmp_path):
    """Codes, scales and zeros are what onnxruntime writes, which keeps all samples' ranges."""
    onnx.save(graph.proto, tmp_path / "float.onnx")
    with ort.quiet("quantize", QuantizeError):
        ort_quantize_static(
            tmp_path / "float.onnx",
            tmp_path / "int8.onnx",
            _Reader(),
            op_types_to_quantize=sorted({*QLinearOpsRegistry, *QDQRegistry}),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            extra_options={"QuantizeBias": False},
        )

    theirs = _held(tidy(onnx.load(tmp_path / "int8.onnx")))
    ours = _held(quantize(graph, IMAGES).graph)
    shared = set(theirs) & set(ours)
    assert sum(len(ours[name]) for name in shared) > 0.97 * sum(map(len, theirs.values()))
    # The picture of bytes has the scale of bytes, not that of the brightest sample.
    other = {name for name in shared if ours[name] != theirs[name]}
    assert other == {"centred_scale", "centred_zero_point"}


def _held(graph):
    return {tensor.name: tensor.raw_data for tensor in graph.proto.graph.initializer}


def test_an_unknown_way_to_ranges_is_a_value_error(graph):
    """The calling programmer's mistake; a recipe is refused by the table."""
    with pytest.raises(ValueError, match="ranges must be one of minmax, percentile"):
        quantize(graph, IMAGES, ranges="guess")


def test_fewer_samples_than_a_fixed_batch_are_refused():
    """Nothing could be run, so nothing is guessed."""
    graph = check(quarters(batch=32), "m")

    with pytest.raises(DataError, match="needs a batch of samples"):
        quantize(graph, IMAGES[:31])


def test_activations_are_unsigned_and_weights_signed(graph):
    """Signed activations are several times slower on x86 and are never written."""
    proto = quantize(graph, IMAGES).graph.proto

    zero_points = {
        node.input[2] for node in proto.graph.node if node.op_type == "QuantizeLinear"
    }
    kinds = {t.data_type for t in proto.graph.initializer if t.name in zero_points}
    weights = {t.data_type for t in proto.graph.initializer if len(t.raw_data) > 1000}
    assert kinds == {TensorProto.UINT8}
    assert weights == {TensorProto.INT8}


def test_a_scale_a_channel_keeps_a_small_channel():
    """A channel a thousand times smaller survives per channel and dies per tensor."""
    weight = np.eye(4, dtype=np.float32)
    weight[:, 3] *= 1e-3
    proto = model(
        [helper.make_node("Gemm", ["x", "w"], ["y"])],
        {"w": weight},
        inputs={"x": (TensorProto.FLOAT, ["n", 4])},
        outputs={"y": (TensorProto.FLOAT, ["n", 4])},
    )
    graph = check(proto, "m")
    inputs = np.random.default_rng(0).uniform(0, 1, (50, 4)).astype(np.float32)

    channel, tensor = (
        quantize(graph, inputs, per_channel=flag).graph.proto.graph for flag in (True, False)
    )

    def stored(part):
        held = next(t for t in part.initializer if t.data_type == TensorProto.INT8)
        return np.abs(np.frombuffer(held.raw_data, np.int8)).reshape(4, 4)[:, 3].max()

    assert stored(channel) == 127
    assert stored(tensor) == 0


def test_nothing_to_quantize_is_an_error():
    """A graph without constant weights comes back as an error, never as float."""
    proto = model(
        [helper.make_node("Relu", ["x"], ["y"])],
        {},
        inputs={"x": (TensorProto.FLOAT, ["n", 4])},
        outputs={"y": (TensorProto.FLOAT, ["n", 4])},
    )

    with pytest.raises(QuantizeError, match="none of the 1 nodes could be quantized"):
        quantize(check(proto, "m"), np.ones((4, 4), np.float32))


def _with_a_cell(kind, gates, *, head):
    """Return a recurrent cell, with or without a matrix after it, and inputs for it."""
    draw = np.random.default_rng(6)
    weights = {
        "w": draw.normal(size=(1, gates * 32, 16)),
        "r": draw.normal(size=(1, gates * 32, 32)),
        "m": draw.normal(size=(32, 60)),
    }
    nodes = [
        helper.make_node(kind, ["x", "w", "r"], ["", "h"], name="cell", hidden_size=32),
        helper.make_node("Squeeze", ["h", "first"], ["s" if head else "y"]),
        *([helper.make_node("MatMul", ["s", "m"], ["y"], name="head")] if head else []),
    ]
    proto = model(
        nodes,
        {
            **{name: array.astype(np.float32) for name, array in weights.items()},
            "first": np.array([0]),
        },
        inputs={"x": (TensorProto.FLOAT, [5, 1, 16])},
        outputs={"y": (TensorProto.FLOAT, [1, 60 if head else 32])},
    )
    return check(proto, "m"), draw.normal(size=(10, 1, 16)).astype(np.float32)


@pytest.mark.parametrize(("kind", "gates"), [("GRU", 3), ("LSTM", 4), ("RNN", 1)])
def test_a_cell_that_stays_in_floats_is_named(kind, gates):
    """Beside what was quantized: its name, its bytes and why; with nothing else an error."""
    graph, x = _with_a_cell(kind, gates, head=True)
    alone, _ = _with_a_cell(kind, gates, head=False)
    size = gates * 32 * (16 + 32) * 4
    said = f"{kind} 'cell' with {size} bytes, {kind} has no 8-bit form"

    applied = quantize(graph, x)

    assert applied.notes[-1] == f"left as floats: {said}"
    with pytest.raises(QuantizeError, match="none of the 2 nodes could be quantized") as told:
        quantize(alone, x)
    assert said in str(told.value)
    assert told.value.hint


def test_a_weight_of_a_type_nobody_takes_is_named():
    """float64 is passed over by the quantizer without a word."""
    proto = quarters()
    proto.graph.node[-1].name = "double"
    proto.graph.node[-1].input[:] = ["wide", "last"]
    proto.graph.node[-1].output[:] = ["sum"]
    proto.graph.node.insert(
        len(proto.graph.node) - 1,
        helper.make_node("Cast", ["hidden"], ["wide"], to=TensorProto.DOUBLE),
    )
    proto.graph.node.append(
        helper.make_node("Cast", ["sum"], ["logits"], to=TensorProto.FLOAT)
    )
    last = next(t for t in proto.graph.initializer if t.name == "last")
    last.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(last).astype(float), "last")
    )

    applied = quantize(check(proto, "m"), IMAGES)

    assert "MatMul 'double' with 2048 bytes, the quantizer does not take" in applied.notes[-1]
    assert "float64 weights" in applied.notes[-1]


def test_a_node_that_was_skipped_is_told_once(graph):
    """As asked, and not as if the quantizer had refused it."""
    name = next(n.name for n in graph.proto.graph.node if n.op_type == "Gemm")

    applied = quantize(graph, IMAGES, skip=frozenset({name}))

    assert [note for note in applied.notes if name in note] == [
        f"left as floats, as asked: {name}"
    ]


def test_a_quantized_graph_is_refused(graph):
    """Quantizing twice would lose twice."""
    once = quantize(graph, IMAGES).graph

    with pytest.raises(QuantizeError, match="quantized already"):
        quantize(once, IMAGES)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (IMAGES.astype(np.float32), "must be uint8, got float32"),
        (IMAGES[:, :, :4], "must have shape Nx1x8x8|must have shape 1x1x8x8"),
    ],
    ids=["dtype", "shape"],
)
def test_samples_that_do_not_fit_are_refused(graph, given, match):
    """The difference is named."""
    with pytest.raises(DataError, match=match):
        quantize(graph, given)


def test_samples_that_are_not_finite_are_refused():
    """One NaN would become the range."""
    proto = model(
        [helper.make_node("Gemm", ["x", "w"], ["y"])],
        {"w": np.eye(4, dtype=np.float32)},
        inputs={"x": (TensorProto.FLOAT, ["n", 4])},
        outputs={"y": (TensorProto.FLOAT, ["n", 4])},
    )
    inputs = np.ones((4, 4), np.float32)
    inputs[1, 2] = np.nan

    with pytest.raises(DataError, match="not finite"):
        quantize(check(proto, "m"), inputs)


def test_a_fixed_batch_of_one_is_calibrated_one_by_one():
    """A model that takes only single samples gives the same weights."""
    free, fixed = (check(quarters(batch=batch), "m") for batch in ("n", 1))

    first, second = (quantize(g, IMAGES[:40]).graph for g in (free, fixed))

    assert second.precision == "int8"
    assert [t.raw_data for t in first.proto.graph.initializer] == [
        t.raw_data for t in second.proto.graph.initializer
    ]


def test_a_tiny_channel_keeps_its_bias():
    """A channel with next to no weight answers its bias, though its scale is tiny."""
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    weight[0] *= 1e-9
    proto = model(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"])],
        {"w": weight, "b": np.array([0.5, -0.7, 0.1, 0.2], np.float32)},
        inputs={"x": (TensorProto.FLOAT, ["n", 3, 3, 3])},
        outputs={"y": (TensorProto.FLOAT, ["n", 4, 1, 1])},
    )
    x = np.random.default_rng(1).normal(size=(50, 3, 3, 3)).astype(np.float32)

    quantized = quantize(check(proto, "m"), x).graph

    found = onnxruntime.InferenceSession(quantized.to_bytes()).run(None, {"x": x})[0]
    np.testing.assert_allclose(found[:, 0], 0.5, atol=0.2)


def test_the_root_logger_is_left_as_it_was(graph):
    """The quantizer's own logging adds no channel and stays silent."""
    before = list(logging.getLogger().handlers), logging.root.manager.disable

    quantize(graph, IMAGES)

    assert (list(logging.getLogger().handlers), logging.root.manager.disable) == before


def test_a_refusal_inside_the_tools_becomes_ours():
    """Whatever they raise, the caller gets the error it asked for, in one line."""
    with (
        pytest.raises(QuantizeError, match=r"cannot quantize: first line$"),
        ort.quiet("quantize", QuantizeError),
    ):
        raise RuntimeError("first line\nsecond line")


def test_a_full_temporary_folder_is_a_storage_error():
    """No space for intermediate files is not a property of the model."""
    with (
        pytest.raises(StorageError, match="No space left"),
        ort.quiet("quantize", QuantizeError),
    ):
        raise OSError(28, "No space left on device")


@pytest.mark.slow
@pytest.mark.parametrize("per_channel", [True, False])
def test_another_process_writes_the_same_bytes(graph, per_channel):
    """Whatever order its sets have: two processes with different hash seeds agree."""
    code = (
        "import json, sys; from edgewright.toolchain.ir.load import check\n"
        "from edgewright.toolchain.ir.samples import Samples\n"
        "from edgewright.toolchain.techniques.quantize import quantize\n"
        "from tests.sim.models import quarters, samples\n"
        "graph = check(quarters(opset=21), 'm')\n"
        "images = Samples({graph.inputs[0].name: samples(200)[0]})\n"
        f"q = quantize(graph, images, per_channel={per_channel})\n"
        "print(json.dumps(q.graph.digest))"
    )

    digests = {
        json.loads(
            subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                check=True,
                env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin", "PYTHONPATH": "."},
            ).stdout
        )
        for seed in ("1", "2")
    }

    assert digests == {quantize(graph, IMAGES, per_channel=per_channel).graph.digest}


class _Reader(CalibrationDataReader):
    """All samples at once, as onnxruntime's own calibration reads them."""

    def __init__(self):
        self.feeds = iter([{"image": IMAGES}])

    def get_next(self):
        """Return the next batch, None after the last."""
        return next(self.feeds, None)


def _by_definition(graph):
    """Answer by ONNX's reference implementation, which overflows nowhere."""
    return ReferenceEvaluator(graph.proto).run(None, {"image": IMAGES})[0]


def _run(graph):
    return onnxruntime.InferenceSession(graph.to_bytes()).run(None, {"image": IMAGES})[0]
