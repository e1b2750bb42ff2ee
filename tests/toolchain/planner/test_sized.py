"""Weights layer by layer within a limit: the choice, and a search that has to make it."""

from dataclasses import replace
from itertools import product

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim.colours import classifier, pictures

from edgewright.core.contract import Contract
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.planner.layers import layers_of
from edgewright.toolchain.planner.sized import SIZED, choose
from edgewright.toolchain.recipe import optimize
from edgewright.toolchain.techniques import load_technique

GRAPH = check(classifier(), "m")
# Bytes a weight, and the error as a share of int4's.
FORMS = {
    "fp16": (2.0, 1 / 200), "int8-weights": (1.0, 1 / 12), "int4-by-16": (0.75, 0.89),
    "int4-by-32": (0.625, 1.0), "int4-by-64": (0.5625, 1.1), "int4-by-128": (0.53125, 1.2),
}  # fmt: skip


def _layers(weights, unit=1280):
    first = layers_of(GRAPH)[0]
    return [
        replace(first, name=f"layer{place}", weight_bytes=4 * count, unit=unit)
        for place, count in enumerate(weights)
    ]


def _cost(layers, forms, alone):
    taken = sum(one.weight_bytes / 4 * FORMS[forms[one.name]][0] for one in layers)
    lost = sum((FORMS[forms[one.name]][1] * alone[one.name]) ** 2 for one in layers)
    return taken, lost


@given(
    st.lists(st.tuples(st.integers(100, 900), st.floats(0.001, 1)), min_size=1, max_size=3),
    st.floats(0.7, 2.0),
)
def test_no_other_choice_that_surely_fits_loses_less(drawn, share):
    """Against all there are, with a hundredth less room for the rounding of sizes."""
    layers = _layers([count for count, _ in drawn])
    alone = {f"layer{place}": one for place, (_, one) in enumerate(drawn)}
    room = int(share * sum(count for count, _ in drawn))

    forms = choose(layers, alone, room)

    taken, lost = _cost(layers, forms, alone)
    assert taken <= room
    for other in product(FORMS, repeat=len(layers)):
        named = dict(zip(alone, other, strict=True))
        others_taken, others_lost = _cost(layers, named, alone)
        if others_taken <= 0.99 * room:
            assert lost <= others_lost * (1 + 1e-9)


def test_the_layer_that_does_most_gets_the_bytes():
    """Two equal layers and room for one in int8: the worse one gets it."""
    layers = _layers([1000, 1000])

    forms = choose(layers, {"layer0": 0.1, "layer1": 0.2}, 1700)

    assert forms == {"layer0": "int4-by-32", "layer1": "int8-weights"}


@pytest.mark.parametrize(("unit", "form"), [(432, "int4-by-16"), (9, "int4-by-32")])
def test_a_block_that_does_not_go_into_the_weights_is_no_choice(unit, form):
    """432 are 27 times 16; where no block goes in there is one way, a scale a channel."""
    assert choose(_layers([432], unit), {"layer0": 0.1}, 400) == {"layer0": form}
    assert choose(_layers([432], unit), {"layer0": 0.1}, 10) == {"layer0": form}


def test_where_nothing_fits_all_are_as_small_as_can_be():
    """Who asks finds out by the bytes of the file."""
    assert set(choose(_layers([1000]), {"layer0": 0.1}, 10).values()) == {"int4-by-128"}


def test_weights_take_a_form_of_their_own_one_layer_after_the_other():
    """A second form for named layers leaves the first as it is."""
    matmul = layers_of(GRAPH)[1].name
    weights = load_technique("weights")

    half = weights.apply(GRAPH, {"form": "float16", "skip": matmul}).graph
    both = weights.apply(half, {"form": "int8", "only": matmul}).graph

    kinds = {tensor.data_type for tensor in both.proto.graph.initializer}
    assert {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT16} <= kinds


@pytest.mark.slow
def test_a_limit_between_two_forms_is_held_layer_by_layer(tmp_path):
    """Two full evaluations: the float model's, and that of weights within the limit."""
    images, labels = pictures(1200)
    np.savez(
        tmp_path / "data.npz",
        calibrate_images=images[:300],
        evaluate_images=images[300:],
        evaluate_labels=labels[300:],
    )
    onnx.save(classifier(), tmp_path / "m.onnx")
    limit = 16_500

    report = optimize(
        tmp_path / "m.onnx", data=tmp_path / "data.npz", out=tmp_path / "out",
        contract=Contract(file_bytes=limit), allow_slower=True,
    )  # fmt: skip

    assert report.chosen == SIZED
    assert report.shipped.file_bytes <= limit
    known = {"fp16", "int8-weights", "int4-weights"}
    assert {one.form for one in report.shipped.layers} <= known
    asked = [what for what in report.evidence_files if what.startswith("accuracy of ")]
    assert asked == ["accuracy of float", f"accuracy of {SIZED}"]
    assert "bytes are more than" in report.left_out["int8-weights"]
