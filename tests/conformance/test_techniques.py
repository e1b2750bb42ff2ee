"""What holds for every technique: one suite over the table."""

from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from tests.sim.models import model, quarters, samples

from edgewright.core.errors import DataError, ModelError, QuantizeError, UsageError
from edgewright.runtime.engines import load_engine
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.targets import load_target
from edgewright.toolchain.techniques import TECHNIQUES, load_technique, settle


def _cases():
    """Yield the combinations of settings with at most two away from their default.

    Every pair of choices meets, which is where settings get in each other's way. One away
    is quick, two are slow.
    """
    for name, info in TECHNIQUES.items():
        defaults = [values[0] for values in info.settings.values()]
        for values in product(*info.settings.values()):
            away = sum(one != default for one, default in zip(values, defaults, strict=True))
            if away > 2:
                continue
            yield pytest.param(
                name,
                dict(zip(info.settings, values, strict=True)),
                id="-".join((name, *values)),
                marks=[pytest.mark.slow] if away > 1 else [],
            )


CASES = list(_cases())


@pytest.fixture(scope="module")
def graph():
    """Return a float graph with a convolution, a batch norm and two matrices."""
    return check(quarters(opset=21), "m")


@pytest.fixture(scope="module")
def images():
    """Return inputs of that graph."""
    return Samples({"image": samples(100)[0]})


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_result_is_a_model_that_runs(name, settings, graph, images, tmp_path):
    """It passes ONNX's own checker, its engine loads it, and it answers nearly the same.

    Nearly the same by ONNX's reference: what the engine makes of it is the processor's
    matter too, and measured by whoever chooses among candidates.
    """
    applied = load_technique(name).apply(graph, settings, images)

    onnx.checker.check_model(applied.graph.proto, full_check=True)
    assert _answers(applied.graph, images, tmp_path).shape == (len(images), 4)
    before, after = (
        ReferenceEvaluator(g.proto).run(None, dict(images.arrays))[0]
        for g in (graph, applied.graph)
    )
    info = TECHNIQUES[name]
    most = max([info.moves, *(info.moves_with.get(v, 0.0) for v in settings.values())])
    assert np.abs(before - after).max() <= most * np.abs(before).max()


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_graph_with_branches_is_refused_or_answers_the_same(name, settings):
    """Whichever branch is taken; never is a model left that no engine loads."""
    x = np.random.default_rng(0).normal(0, 1, (64, 16)).astype(np.float32)
    graph = _branching()

    try:
        made = load_technique(name).apply(graph, settings, Samples({"x": x}))
    except ModelError as error:
        made = error

    if isinstance(made, ModelError):
        assert "'branch' holds a graph of its own" in str(made)
        assert made.hint
        return
    before, after = (onnxruntime.InferenceSession(g.to_bytes()) for g in (graph, made.graph))
    for one in np.split(x[:8], 8):
        answers = [session.run(None, {"x": one})[0] for session in (before, after)]
        np.testing.assert_allclose(*answers, rtol=1e-4, atol=1e-4)


def _branching():
    """Return a graph whose middle is a layer for sums above 0 and a ReLU for others."""
    draw = np.random.default_rng(1)
    wide = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    above = helper.make_graph([helper.make_node("MatMul", ["a", "v"], ["b"])], "a", [], [wide])
    below = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "b", [], [wide])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="outer"),
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["m"], name="branch", then_branch=above,
                         else_branch=below),
        helper.make_node("MatMul", ["m", "u"], ["y"], name="last"),
    ]  # fmt: skip
    weights = {n: draw.normal(0, 0.3, (16, 16)).astype(np.float32) for n in "wvu"}
    return check(
        model(
            nodes, {**weights, "zero": np.float32(0)},
            inputs={"x": (TensorProto.FLOAT, ["n", 16])},
            outputs={"y": (TensorProto.FLOAT, ["n", 16])},
        ),
        "m",
    )  # fmt: skip


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_interface_stays(name, settings, graph, images):
    """Inputs and outputs are what they were."""
    applied = load_technique(name).apply(graph, settings, images)

    assert applied.graph.inputs == graph.inputs
    assert applied.graph.outputs == graph.outputs


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_what_it_says_is_what_it_did(name, settings, graph, images):
    """``changed`` tells whether the graph is another, and there is always a note."""
    applied = load_technique(name).apply(graph, settings, images)

    assert applied.changed is (applied.graph.digest != graph.digest)
    assert all(note.strip() for note in applied.notes)
    assert applied.notes


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_source_is_left_alone(name, settings, graph, images):
    """The graph that was given is the same afterwards."""
    before = graph.digest

    load_technique(name).apply(graph, settings, images)

    assert graph.digest == before


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_same_again_gives_the_same_bytes(name, settings, graph, images):
    """Twice the same technique on the same graph and samples."""
    technique = load_technique(name)

    first, second = (technique.apply(graph, settings, images) for _ in range(2))

    assert first.graph.to_bytes() == second.graph.to_bytes()
    assert first.notes == second.notes


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_nothing_left_to_do_is_never_a_silent_copy(name, settings, graph, images):
    """Applied to its own result it changes nothing and says so, or raises."""
    technique = load_technique(name)
    once = technique.apply(graph, settings, images).graph

    try:
        twice = technique.apply(once, settings, images)
    except QuantizeError:
        return

    assert not twice.changed
    assert twice.graph.digest == once.digest


@pytest.mark.parametrize("name", TECHNIQUES)
def test_it_is_quiet(name, graph, images, capfd):
    """Neither it nor the libraries under it print anything."""
    load_technique(name).apply(graph, {}, images)

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", [n for n, info in TECHNIQUES.items() if info.calibrates])
@pytest.mark.parametrize(
    "given",
    [None, Samples({"image": np.zeros((0, 1, 8, 8), np.uint8)})],
    ids=["none", "empty"],
)
def test_what_calibrates_needs_samples(name, given, graph):
    """Without any it refuses; ranges are never guessed."""
    with pytest.raises(DataError, match="needs calibration samples"):
        load_technique(name).apply(graph, {}, given)


@pytest.mark.parametrize(
    ("name", "setting"), [(n, s) for n, i in TECHNIQUES.items() for s in i.calibrates_with]
)
def test_a_setting_that_calibrates_needs_samples(name, setting, graph):
    """The table says so, and without any it refuses; without the setting it does not."""
    info = TECHNIQUES[name]
    settings = {setting: info.calibrates_with[setting]}

    assert info.needs_samples(settings)
    assert not info.needs_samples({})
    with pytest.raises(DataError, match="needs calibration samples"):
        load_technique(name).apply(graph, settings, None)
    assert load_technique(name).apply(graph, {}, None).changed


@pytest.mark.parametrize("name", TECHNIQUES)
def test_an_unknown_setting_is_refused(name, graph, images):
    """A misspelt setting is never taken for the default."""
    with pytest.raises(UsageError, match="no setting 'granularty'"):
        load_technique(name).apply(graph, {"granularty": "tensor"}, images)


@pytest.mark.parametrize("name", TECHNIQUES)
def test_an_unknown_value_is_refused(name):
    """The setting and the value are named, with what it can be."""
    setting = next(iter(TECHNIQUES[name].settings))

    with pytest.raises(UsageError, match="cannot be 'sideways'") as caught:
        settle(name, {setting: "sideways"})

    assert caught.value.hint


def test_an_unknown_technique_is_refused():
    """The nearest one is named."""
    with pytest.raises(UsageError, match="no technique 'quantise'") as caught:
        load_technique("quantise")

    assert "quantize" in caught.value.hint


def _answers(graph, images, folder):
    folder.mkdir(exist_ok=True)
    for name, data in load_target("onnxruntime").lower(graph).items():
        (folder / name).write_bytes(data)
    session = load_engine("onnxruntime").load(folder / "model.onnx")
    (found,) = session.run(dict(images.arrays))
    session.close()
    return np.asarray(found)
