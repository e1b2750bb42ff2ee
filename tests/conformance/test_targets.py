"""What holds for every target: one suite over the table."""

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.sim.models import quarters, samples

from edgewright.core.errors import TargetError
from edgewright.runtime.engines import ENGINES, load_engine
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.targets import TARGETS, load_target
from edgewright.toolchain.techniques.quantize import quantize

IMAGES, _ = samples(50)


def _graphs():
    source = check(quarters(), "m")
    small = check(quarters(hidden=4), "m")
    return {
        "float": source,
        "int8": quantize(source, Samples({"image": IMAGES})).graph,
        "small": small,
    }


GRAPHS = _graphs()


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("kind", GRAPHS)
def test_its_engine_loads_what_it_lowers(name, kind, tmp_path):
    """The files are enough, the interface is the graph's, and the answers are."""
    graph = GRAPHS[kind]
    info = TARGETS[name]
    for file, data in load_target(name).lower(graph).items():
        (tmp_path / file).write_bytes(data)

    session = load_engine(info.engine).load(tmp_path / info.entry)

    (found,) = session.run({"image": IMAGES})
    assert session.inputs == graph.inputs
    assert session.outputs == graph.outputs
    np.testing.assert_allclose(found, _expected(graph, tmp_path), rtol=1e-5, atol=1e-6)
    session.close()


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("kind", GRAPHS)
def test_lowering_is_deterministic(name, kind):
    """Equal graphs give equal files, byte for byte."""
    graph = GRAPHS[kind]

    first, again = (load_target(name).lower(Graph(graph.copy())) for _ in range(2))

    assert first == again


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_unsupported_is_named_and_refused(name):
    """A node nobody knows is named before and when it is lowered."""
    proto = quarters(hidden=4)
    proto.opset_import.append(helper.make_opsetid("org.example", 1))
    proto.graph.node[-1].domain = "org.example"
    proto.graph.node[-1].name = "strange"
    graph = Graph(proto)

    assert load_target(name).unsupported(graph) == ["strange"]
    with pytest.raises(TargetError, match="strange"):
        load_target(name).lower(graph)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_supported_is_not_named(name):
    """An ordinary graph has no such node."""
    assert load_target(name).unsupported(GRAPHS["int8"]) == []


@pytest.mark.parametrize("info", TARGETS.values(), ids=lambda info: info.name)
def test_its_row_is_true(info):
    """The engine exists and takes files of that kind."""
    assert info.entry.endswith(ENGINES[info.engine].suffix)
    assert info.dtypes <= ENGINES[info.engine].dtypes


def test_an_unknown_target_is_refused():
    """The message lists the ones there are."""
    with pytest.raises(TargetError, match="no target 'tensorflow'") as caught:
        load_target("tensorflow")

    assert "onnxruntime" in caught.value.hint


def _expected(graph, folder):
    path = folder / "whole.onnx"
    onnx.save(graph.proto, path)
    session = load_engine("onnxruntime").load(path)
    (found,) = session.run({"image": IMAGES})
    session.close()
    return np.asarray(found)
