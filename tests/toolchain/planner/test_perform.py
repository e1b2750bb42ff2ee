"""Workshop: what could not be made is left out by name, and nothing is made twice."""

import pytest
from tests.sim.models import quarters, samples

from edgewright.core.errors import QuantizeError
from edgewright.toolchain.ir.graph import Graph
from edgewright.toolchain.ir.load import check, load
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.planner.perform import Workshop
from edgewright.toolchain.planner.values import CandidatePlan, Plan, Step

IMAGES = Samples({"image": samples(40)[0]})
FUSE = Step("fuse", {"level": "aggressive"}, "because")
CHANNEL = Step("quantize", {"granularity": "channel", "bits": "7"}, "because")


def _plan(**candidates):
    listed = (CandidatePlan(name, steps, choosable=True) for name, steps in candidates.items())
    return Plan(1, "onnxruntime", "onnxruntime", "float", tuple(listed), {})


def _make(plan, graph, folder):
    workshop = Workshop(plan, graph, IMAGES, folder)
    for candidate in plan.candidates:
        workshop.make(candidate)
    return workshop.made, workshop


def test_every_candidate_is_written_with_its_steps(tmp_path):
    """Files under its name, and notes of what was done."""
    plan = _plan(float=(), fused=(FUSE,), int8=(FUSE, CHANNEL))

    made, workshop = _make(plan, check(quarters(), "m"), tmp_path)

    assert [one.plan.name for one in made] == ["float", "fused", "int8"]
    assert [len(one.steps) for one in made] == [0, 1, 2]
    assert all(step.applied and step.notes for one in made for step in one.steps)
    assert all(one.model == tmp_path / one.plan.name / "model.onnx" for one in made)
    assert len({one.sha256 for one in made}) == 3
    assert workshop.left_out == {}


def test_a_shared_step_is_done_once(tmp_path):
    """The graph after it is the very same object for both."""
    plan = _plan(one=(FUSE,), two=(FUSE, CHANNEL), three=(FUSE,))

    _, workshop = _make(plan, check(quarters(), "m"), tmp_path)

    assert len(workshop._done) == 2
    assert workshop.left_out == {"three": "came out as the same files as one"}


def test_a_step_that_changes_nothing_leaves_its_candidate_out(tmp_path):
    """The note of the step is the reason."""
    plan = _plan(float=(), fused=(Step("fuse", {"level": "none"}, "because"),))

    made, workshop = _make(plan, check(quarters(), "m"), tmp_path)

    assert [one.plan.name for one in made] == ["float"]
    assert workshop.left_out == {"fused": "level none was asked"}


def test_a_float_step_that_is_refused_is_left_out_by_name(tmp_path):
    """The optimiser knows no such operator; the candidates without it are still made."""
    proto = check(quarters(), "m").copy()
    proto.graph.node[-1].domain = "com.microsoft"
    proto.graph.node[-1].op_type = "NoSuchOperator"
    plan = _plan(float=(), fused=(FUSE,))

    made, workshop = _make(plan, Graph(proto), tmp_path)

    assert [one.plan.name for one in made] == ["float"]
    assert workshop.left_out["fused"].startswith("cannot optimise the graph")


def test_when_nothing_could_be_made_the_reasons_are_raised(tmp_path):
    """Only int8 may ship, and the graph is quantized already."""
    graph = check(quarters(), "m")
    (once,), _ = _make(_plan(int8=(CHANNEL,)), graph, tmp_path / "once")

    _, workshop = _make(_plan(int8=(CHANNEL,)), load(once.model), tmp_path / "twice")

    with pytest.raises(QuantizeError, match="int8: the graph is quantized already"):
        workshop.check_any()
