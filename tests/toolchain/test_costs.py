"""The cost model: products counted by hand, and figures that never decide by themselves."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.sim.models import model, quarters, samples, write_data, write_model

from edgewright.core import profile
from edgewright.core.contract import Contract
from edgewright.core.errors import InconclusiveError
from edgewright.toolchain import costs
from edgewright.toolchain.costs.prices import PRICES, lanes_of
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.recipe import Order, carry_out
from edgewright.toolchain.techniques import load_technique

PI = profile.find("raspberry-pi-5")
IMAGES = Samples({"image": samples(64)[0]})


def test_products_are_counted_by_hand():
    """A 3x3 convolution of 8 channels on 8x8, and two matrices."""
    work = costs.work_of(check(quarters(), "m"), IMAGES)

    assert work.counts["conv_float"] == 8 * 64 * 9
    assert work.counts["matrix_float"] == 512 * 64 + 64 * 4
    assert work.counts["runs"] == 1
    assert set(costs.KINDS) == set(PRICES)


def test_eight_bits_are_counted_as_eight_bits():
    """In both forms: nodes between roundings, and integer operators."""
    graph = check(quarters(opset=21), "m")
    static = load_technique("quantize").apply(graph, {}, IMAGES).graph
    dynamic = load_technique("dynamic").apply(graph, {}).graph

    assert costs.work_of(static, IMAGES).counts["conv_int8"] == 8 * 64 * 9
    assert costs.work_of(static, IMAGES).counts["matrix_int8"] == 512 * 64 + 64 * 4
    assert costs.work_of(dynamic, IMAGES).counts["matrix_int8"] == 512 * 64 + 64 * 4
    assert costs.work_of(dynamic, IMAGES).counts["conv_float"] == 8 * 64 * 9


def test_a_depthwise_convolution_is_another_kind():
    """It reads every channel by itself, which wastes most of a kernel."""
    weight = np.ones((4, 1, 3, 3), np.float32)
    proto = model(
        [helper.make_node("Conv", ["x", "w"], ["y"], group=4)],
        {"w": weight},
        inputs={"x": (TensorProto.FLOAT, ["n", 4, 5, 5])},
        outputs={"y": (TensorProto.FLOAT, ["n", 4, 3, 3])},
    )
    some = Samples({"x": np.zeros((1, 4, 5, 5), np.float32)})

    assert costs.work_of(check(proto, "m"), some).counts["depthwise"] == 4 * 9 * 9


@pytest.mark.parametrize(
    ("isa", "floats", "bytes_"),
    [
        (("avx2", "fma"), 16, 32), (("avx512", "vnni"), 32, 128), (("neon", "dotprod"), 8, 32),
        (("neon",), 8, 16), ((), 1, 1),
    ],
)  # fmt: skip
def test_lanes_are_those_of_the_instruction_set(isa, floats, bytes_):
    """The widest one decides; nothing known is one at a time."""
    lanes = lanes_of(isa)

    assert (lanes["conv_float"], lanes["conv_int8"]) == (floats, bytes_)


def test_a_faster_clock_is_as_much_faster():
    """Everything is cycles."""
    work = costs.work_of(check(quarters(), "m"), IMAGES)

    slow, fast = (
        costs.estimate(work, replace(PI, clock_mhz=mhz))[0].value for mhz in (100, 1000)
    )

    assert slow == pytest.approx(10 * fast, rel=0.05)
    assert costs.estimate(work, replace(PI, clock_mhz=None)) == ()


@pytest.fixture
def order(tmp_path):
    """Return an order for a device that is not at hand, with a limit on its latency."""
    onnx.save(quarters(), tmp_path / "m.onnx")
    return Order(
        model=write_model(tmp_path / "m.onnx"),
        data=str(write_data(tmp_path / "d.npz")),
        device="raspberry-pi-5",
        contract=Contract(p99_us=50_000, worst_class_drop_bp=600, accuracy_drop_bp=200),
        quantization="none",
        out=tmp_path / "out",
    )


@pytest.mark.slow
def test_an_estimate_decides_only_where_it_is_allowed_to(order):
    """Inconclusive by default, with the flag that accepts it; a pass with that flag."""
    with pytest.raises(InconclusiveError, match="estimated"):
        carry_out(order)

    report = carry_out(replace(order, accept_estimates=True), force=True)

    assert report.outcome == "pass"
    finding = next(f for f in report.shipped.findings if f.limit == "p99_us")
    assert "(estimated)" in finding.reason or finding.outcome == "pass"
