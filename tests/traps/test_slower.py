"""Smaller and slower does not ship: what a step costs in time is measured, not believed."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.sim.models import model

from edgewright.core.contract import Contract
from edgewright.toolchain.measure.latency import RATIO
from edgewright.toolchain.recipe import optimize

# Many small products: quantizing an activation costs more than its product saves.
LAYERS, WIDTH = 24, 48


def _islands():
    """Return small products with what stays in floats between them."""
    draw = np.random.default_rng(2)
    nodes, weights, at = [], {}, "x"
    for layer in range(LAYERS):
        values = draw.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH)
        weights[f"w{layer}"] = (values + np.eye(WIDTH)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [at, f"w{layer}"], [f"p{layer}"]))
        nodes.append(helper.make_node("LpNormalization", [f"p{layer}"], [f"n{layer}"], axis=1))
        at = f"n{layer}"
    nodes.append(helper.make_node("Identity", [at], ["vector"]))
    return model(
        nodes,
        weights,
        inputs={"x": (TensorProto.FLOAT, ["n", WIDTH])},
        outputs={"vector": (TensorProto.FLOAT, ["n", WIDTH])},
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Return what comes of such a model where bytes are all that is asked for."""
    place = tmp_path_factory.mktemp("islands")
    onnx.save(_islands(), place / "m.onnx")
    x = np.random.default_rng(3).normal(size=(700, WIDTH)).astype(np.float32)
    np.savez(place / "data.npz", calibrate_images=x[:200], evaluate_images=x[200:])
    return optimize(
        place / "m.onnx",
        data=place / "data.npz",
        out=place / "out",
        contract=Contract(accuracy_drop_bp=9900, worst_class_drop_bp=9900, min_retention_bp=0),
        goal="size",
    )


@pytest.mark.slow
def test_what_is_slower_beyond_noise_does_not_ship(report):
    """Products in 8 bits between floats lose to the float, whatever bytes they save."""
    slow = {c.name: c for c in report.candidates if "slower than the float" in c.reason}

    assert report.outcome == "pass"
    assert report.shipped.figure(RATIO).lower <= 10_100
    assert "int8-dynamic" in slow
    assert slow["int8-dynamic"].outcome == "pass"
    assert slow["int8-dynamic"].file_bytes < report.candidate("float").file_bytes / 2
    assert min(one.figure(RATIO).lower for one in slow.values()) > 10_100


@pytest.mark.slow
def test_how_much_slower_is_told(report):
    """In the reason of the candidate, with a bound."""
    one = report.candidate("int8-dynamic")

    assert "times its median (at least" in one.reason
    assert not one.chosen
