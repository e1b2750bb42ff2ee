"""The table: settings that are listed, settings that are free, and nodes they name."""

import pytest
from tests.sim.models import quarters, samples

from edgewright.core.errors import QuantizeError, UsageError
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.techniques import TECHNIQUES, load_technique, settle, skipped

NAMING = [name for name, info in TECHNIQUES.items() if "skip" in info.free and not info.exact]
IMAGES = Samples({"image": samples(40)[0]})


@pytest.fixture(scope="module")
def graph():
    """Return a float graph with two matrices."""
    return check(quarters(opset=21), "m")


def _named(graph, *kinds):
    return [node.name for node in graph.proto.graph.node if node.op_type in kinds]


@pytest.mark.parametrize("name", NAMING)
def test_a_free_setting_is_settled_only_where_it_is_given(name):
    """Left out or empty it adds nothing, so what was settled before is settled the same."""
    assert settle(name, {"skip": ""}) == settle(name, {})
    assert settle(name, {"skip": "a, b"})["skip"] == "a, b"


@pytest.mark.parametrize("name", NAMING)
def test_an_unknown_node_is_refused_with_the_nearest(name, graph):
    """A misspelt node is never taken for one that is not there to be skipped."""
    (matmul,) = _named(graph, "MatMul")

    with pytest.raises(UsageError, match=f"has no node '{matmul}x'") as caught:
        load_technique(name).apply(graph, {"skip": f"{matmul}x"}, IMAGES)

    assert matmul in caught.value.hint


def test_nodes_are_those_to_leave(graph):
    """``skip`` names them, ``only`` all others, and both together what either leaves."""
    (matmul,), (gemm,) = _named(graph, "MatMul"), _named(graph, "Gemm")
    every = {node.name for node in graph.proto.graph.node}

    assert skipped({}, graph) == frozenset()
    assert skipped({"skip": f"{matmul}, {gemm}"}, graph) == {matmul, gemm}
    assert skipped({"only": matmul}, graph) == every - {matmul}
    assert skipped({"only": matmul, "skip": matmul}, graph) == every


@pytest.mark.parametrize("name", NAMING)
def test_a_skipped_node_keeps_its_float_weight(name, graph):
    """It is named in the notes, its weight is there as it was, and the others are not."""
    (gemm,) = _named(graph, "Gemm")

    applied = load_technique(name).apply(graph, {"skip": gemm}, IMAGES)

    held = {t.name: t.raw_data for t in applied.graph.proto.graph.initializer}
    before = {t.name: t.raw_data for t in graph.proto.graph.initializer}
    assert held["first"] == before["first"]
    assert "last" not in held
    assert any(gemm in note for note in applied.notes)


@pytest.mark.parametrize("name", NAMING)
def test_only_the_named_node_is_changed(name, graph):
    """All other weights are there as they were."""
    (gemm,) = _named(graph, "Gemm")

    applied = load_technique(name).apply(graph, {"only": gemm}, IMAGES)

    held = {t.name for t in applied.graph.proto.graph.initializer}
    assert "first" not in held
    assert {"kernel", "last"} <= held


@pytest.mark.parametrize("name", NAMING)
def test_all_skipped_is_an_error(name, graph):
    """Nothing done is never a result that looks like one."""
    every = ",".join(node.name for node in graph.proto.graph.node)

    with pytest.raises(QuantizeError):
        load_technique(name).apply(graph, {"skip": every}, IMAGES)
