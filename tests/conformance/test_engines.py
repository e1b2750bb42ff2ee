"""Every engine, held to one suite: the right numbers, refusals of ours, deadlines that stop.

A new engine is finished when it is a row of the table, ``MODELS`` can make its files,
and this is green.
"""

import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from tests.sim.bundles import golden_images, make_model, weights

from edgewright.core.errors import DeadlineError, EngineError, InputError
from edgewright.core.tensors import ITEM_BYTES, TensorSpec
from edgewright.runtime.deadline import Deadline
from edgewright.runtime.engines import ENGINES, load_engine

# How the files of each engine are made for these tests: all of ours load ONNX so far.
MODELS = {"onnxruntime": make_model}
ONNX_TYPES = {
    name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in sorted(ITEM_BYTES)
}


@pytest.fixture(params=sorted(ENGINES))
def engine(request):
    """Return each engine of the table."""
    return load_engine(request.param)


@pytest.fixture
def linear(engine, tmp_path):
    """Return a session of a small linear model."""
    session = engine.load(MODELS[engine.name](tmp_path, weights()))
    yield session
    session.close()


@pytest.fixture
def slow(engine, tmp_path):
    """Return a session of a model that takes a good part of a second."""
    session = engine.load(MODELS[engine.name](tmp_path, weights(), slow=150))
    yield session
    session.close()


def feed(engine, images):
    """Return one request for the small model."""
    return {"image": engine.array(images.tobytes(), "uint8", images.shape)}


def identity(path, dtype):
    """Write a model that answers what it is given."""
    tensor = ONNX_TYPES[dtype]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "same",
        [helper.make_tensor_value_info("x", tensor, ["N", 2])],
        [helper.make_tensor_value_info("y", tensor, ["N", 2])],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def test_the_table_names_what_is_there():
    """A row's name is its engine's, and an engine says its version."""
    for name, info in ENGINES.items():
        engine = load_engine(name)

        assert engine.name == name == info.name
        assert engine.version
        assert info.installed
        assert name in MODELS


def test_an_engine_there_is_not_is_refused():
    """The error names the ones there are."""
    with pytest.raises(EngineError, match="no engine 'abacus'") as caught:
        load_engine("abacus")

    assert "onnxruntime" in caught.value.hint


def test_it_tells_its_tensors(linear):
    """Names, types and shapes are the graph's; a named dimension is free."""
    assert linear.inputs == (TensorSpec("image", "uint8", (-1, 1, 8, 8)),)
    assert linear.outputs == (TensorSpec("logits", "float32", (-1, 10)),)


@pytest.mark.parametrize("count", [1, 5])
def test_it_agrees_with_the_reference_evaluator(engine, linear, tmp_path, count):
    """The numbers are those of ONNX's own reference, within a hundred thousandth."""
    images = golden_images(count)
    reference = ReferenceEvaluator(onnx.load(tmp_path / "model.onnx"))

    (answer,) = linear.run(feed(engine, images))

    (expected,) = reference.run(None, {"image": images})
    assert answer.shape == (count, 10)
    np.testing.assert_allclose(np.asarray(answer), expected, atol=1e-5)


def test_the_same_input_is_the_same_answer(engine, linear):
    """Bit for bit, again and again."""
    images = golden_images(1)

    answers = {linear.run(feed(engine, images))[0].tobytes() for _ in range(20)}

    assert len(answers) == 1


@pytest.mark.parametrize("dtype", sorted(ITEM_BYTES))
def test_every_type_of_the_table_goes_through(engine, tmp_path, dtype):
    """What a row says an engine takes, it takes and answers unchanged."""
    assert dtype in ENGINES[engine.name].dtypes
    session = engine.load(identity(tmp_path / "same.onnx", dtype))
    values = np.array([[0, 1], [1, 0], [1, 1]], dtype)

    (answer,) = session.run({"x": engine.array(values.tobytes(), dtype, (3, 2))})

    assert str(answer.dtype) == dtype
    assert answer.tobytes() == values.tobytes()
    assert answer.tolist() == values.tolist()
    session.close()


@given(st.data())
def test_raw_bytes_come_back(data):
    """An array of raw values is those values, for every type and shape."""
    for name in ENGINES:
        dtype = data.draw(st.sampled_from(sorted(ITEM_BYTES)))
        values = data.draw(hnp.arrays(dtype, hnp.array_shapes(max_side=4)))

        array = load_engine(name).array(values.tobytes(), dtype, values.shape)

        assert array.tobytes() == values.tobytes()
        assert array.shape == values.shape
        assert str(array.dtype) == dtype


@pytest.mark.parametrize(
    ("values", "dtype", "shape", "expected"),
    [
        ([1, 2, 3, 255], "uint8", (2, 2), [[1, 2], [3, 255]]),
        ([[1, -128], [127, 0]], "int8", (2, 2), [[1, -128], [127, 0]]),
        ([1, 2.5], "float32", (2,), [1.0, 2.5]),
        ([2**63], "uint64", (1,), [2**63]),
        ([-(2**63)], "int64", (1,), [-(2**63)]),
        ([True, False], "bool", (2,), [True, False]),
        ([65504], "float16", (1,), [65504.0]),
        ([], "float32", (0,), []),
    ],
)
def test_numbers_become_arrays(engine, values, dtype, shape, expected):
    """Flat or nested numbers become exactly these values."""
    array = engine.array_of(values, dtype, shape)

    assert array.tolist() == expected
    assert str(array.dtype) == dtype


@pytest.mark.parametrize(
    ("values", "dtype", "shape", "message"),
    [
        ([256], "uint8", (1,), "256 to 256 is beyond 0 to 255"),
        ([-1], "uint8", (1,), "beyond 0 to 255"),
        ([1.5], "uint8", (1,), "whole numbers"),
        ([1e39], "float32", (1,), "beyond"),
        ([float("nan")], "float32", (1,), "beyond"),
        ([2**64], "uint64", (1,), "not all of its kind"),
        ([[1], [2, 3]], "uint8", (3,), "not one rectangular tensor"),
        (["a"], "float32", (1,), "not all of its kind"),
        ([None], "float32", (1,), "not all of its kind"),
        ([True], "float32", (1,), "not all of its kind"),
        ([1], "bool", (1,), "not all of its kind"),
        ([1, 2, 3], "uint8", (2,), r"shape \[2\] has 2 values, got 3"),
        ([], "uint8", (1,), r"shape \[1\] has 1 values, got 0"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(engine, values, dtype, shape, message):
    """Nothing is rounded, wrapped around or guessed."""
    with pytest.raises(InputError, match=message):
        engine.array_of(values, dtype, shape)


def test_raw_bytes_of_another_length_are_refused(engine):
    """The message says how many there should be."""
    with pytest.raises(InputError, match="is 8 bytes, got 7"):
        engine.array(bytes(7), "float32", (2,))


@pytest.mark.parametrize(
    ("values", "finite", "nan"),
    [
        ([1.0, -2.0], True, False),
        ([3e38, 3e38], True, False),
        ([1.0, np.nan], False, True),
        ([np.inf, 1.0], False, False),
        ([-np.inf, np.nan], False, True),
        ([], True, False),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_it_finds_what_is_not_finite(engine, dtype, values, finite, nan):
    """NaN and infinity are found wherever they stand."""
    with np.errstate(over="ignore"):
        raw = np.array(values, dtype)
    array = engine.array(raw.tobytes(), dtype, raw.shape)

    assert engine.has_nan(array) is nan
    if dtype != "float16" or max(map(abs, values), default=0) < 1e5:
        assert engine.finite(array) is finite


@pytest.mark.parametrize(
    "content", [b"", b"not a model", bytes(4096)], ids=["empty", "text", "zeros"]
)
def test_a_file_that_is_no_model_is_refused(engine, tmp_path, content):
    """Loading it is an EngineError that names the file."""
    path = tmp_path / "model.onnx"
    path.write_bytes(content)

    with pytest.raises(EngineError, match=r"model\.onnx cannot be loaded"):
        engine.load(path)


def test_a_model_without_its_file_or_weights_is_refused(engine, tmp_path):
    """A missing file, missing weights and cut weights are EngineErrors."""
    path = MODELS[engine.name](tmp_path, weights())
    with pytest.raises(EngineError):
        engine.load(tmp_path / "none.onnx")
    (tmp_path / "weights.bin").write_bytes(bytes(100))
    with pytest.raises(EngineError):
        engine.load(path)
    (tmp_path / "weights.bin").unlink()

    with pytest.raises(EngineError):
        engine.load(path)


def test_no_thread_is_the_callers_mistake(engine, tmp_path):
    """A session needs at least one thread."""
    with pytest.raises(ValueError, match="threads must be at least 1"):
        engine.load(tmp_path / "model.onnx", threads=0)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_change_an_answer(engine, tmp_path, linear, threads):
    """An answer on two threads is the one on one."""
    images = golden_images(2)
    session = engine.load(tmp_path / "model.onnx", threads=threads)

    (answer,) = session.run(feed(engine, images))

    np.testing.assert_allclose(
        np.asarray(answer), np.asarray(linear.run(feed(engine, images))[0]), atol=1e-6
    )
    session.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda _: {},
        lambda engine: {"other": engine.array(bytes(64), "uint8", (1, 1, 8, 8))},
        lambda engine: {"image": engine.array(bytes(64), "uint8", (64,))},
        lambda engine: {"image": engine.array(bytes(256), "float32", (1, 1, 8, 8))},
    ],
    ids=["nothing", "another name", "another rank", "another type"],
)
def test_inputs_the_graph_does_not_take_are_an_engine_error(engine, linear, change):
    """No exception of the library's own gets out, and the session goes on."""
    for deadline in (None, Deadline(5)):
        with pytest.raises(EngineError):
            linear.run(change(engine), deadline=deadline)

    linear.run(feed(engine, golden_images(1)))


def test_closing_twice_is_fine_and_running_afterwards_is_not(engine, linear):
    """A closed session says so."""
    linear.close()
    linear.close()

    with pytest.raises(EngineError, match="closed"):
        linear.run(feed(engine, golden_images(1)))


def test_a_deadline_far_away_changes_nothing(engine, linear):
    """The answer with a deadline is the answer without."""
    request = feed(engine, golden_images(1))

    with_deadline = linear.run(request, deadline=Deadline(60))

    assert with_deadline[0].tobytes() == linear.run(request)[0].tobytes()


def test_a_deadline_that_has_passed_is_refused_unrun(engine, slow):
    """What is late already is not begun."""
    deadline = Deadline(0.001)
    time.sleep(0.005)
    start = time.monotonic()

    with pytest.raises(DeadlineError, match="no answer within 1 ms"):
        slow.run(feed(engine, golden_images(1)), deadline=deadline)

    assert time.monotonic() - start < 0.05


@pytest.mark.slow
def test_a_deadline_stops_the_run(engine, slow):
    """The run ends near its deadline, its cores are free again, later answers are the same."""
    request = feed(engine, golden_images(1))
    before = slow.run(request)[0].tobytes()
    start = time.monotonic()
    slow.run(request)
    whole = time.monotonic() - start
    after_s = whole / 5

    late = []
    for _ in range(5):
        start = time.monotonic()
        with pytest.raises(DeadlineError, match="no answer within"):
            slow.run(request, deadline=Deadline(after_s))
        late.append(time.monotonic() - start - after_s)
    used = time.process_time()
    time.sleep(0.2)
    idle = time.process_time() - used

    # The flag is read between two operators; a loaded machine adds its own delays.
    assert min(late) < whole / 4
    assert idle < 0.1
    assert slow.run(request)[0].tobytes() == before


@pytest.mark.slow
def test_a_deadline_stops_only_its_own_run(engine, slow):
    """Of two runs at once the one without a deadline gets its answer."""
    request = feed(engine, golden_images(1))
    answers = []
    patient = threading.Thread(target=lambda: answers.append(slow.run(request)))

    patient.start()
    with pytest.raises(DeadlineError):
        slow.run(request, deadline=Deadline(0.02))
    patient.join()

    assert answers[0][0].tobytes() == slow.run(request)[0].tobytes()


def test_a_sequence_is_no_tensor(engine, tmp_path):
    """A model whose output is not a tensor is refused when loaded."""
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        "sequence",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, [1])],
    )
    opsets = [helper.make_opsetid("", 17)]
    path = Path(tmp_path, "sequence.onnx")
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)

    with pytest.raises(EngineError, match="which no tensor of ours holds"):
        engine.load(path)
