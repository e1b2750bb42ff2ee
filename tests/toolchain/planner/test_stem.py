"""The first layers are left in floats where that was measured to be faster, and only there."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.sim.models import model

from edgewright.core.evidence import Evidence
from edgewright.toolchain.ir.load import check
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure import latency
from edgewright.toolchain.planner import stem as stems
from edgewright.toolchain.planner.ledger import Ledger
from edgewright.toolchain.planner.stem import Stem
from edgewright.toolchain.planner.values import Step

STEP = Step("quantize", {"granularity": "channel", "skip": "@known-bad,@slow-stem"}, "why")
SAMPLES = Samples(
    {"x": np.random.default_rng(0).normal(size=(12, 3, 8, 8)).astype(np.float32)}
)
node = helper.make_node


def _draw(*shape):
    return np.random.default_rng(sum(shape)).normal(0.0, 0.2, shape).astype(np.float32)


def _graph(first="Conv", last=400):
    weights = {"k": np.float32(0.5), "u": _draw(6, 3, 3, 3), "v": _draw(6, 6, 3, 3)}
    weights |= {"w": _draw(6, 6, 3, 3), "z": _draw(last, 6, 3, 3), "m": _draw(8, 8)}
    head = [node("Conv", ["s", "u"], ["a"], name="one")]
    if first == "MatMul":
        head = [
            node("MatMul", ["s", "m"], ["p"], name="zero"),
            node("Conv", ["p", "u"], ["a"], name="one"),
        ]
    nodes = [
        node("Mul", ["x", "k"], ["s"], name="scale"),
        *head,
        node("Relu", ["a"], ["b"], name="relu"),
        node("Conv", ["b", "v"], ["c"], name="two", pads=[1] * 4),
        node("Conv", ["c", "w"], ["d"], name="three", pads=[1] * 4),
        node("Conv", ["d", "z"], ["y"], name="four"),
    ]
    return check(
        model(
            nodes, weights, inputs={"x": (TensorProto.FLOAT, ["n", 3, 8, 8])},
            outputs={"y": (TensorProto.FLOAT, ["n", last, 4, 4])},
        ),
        "m",
    )  # fmt: skip


@dataclass
class _Engine:
    """Loads nothing; remembers what it was given."""

    loaded: list = field(default_factory=list)

    def load(self, path):
        self.loaded.append(path)
        return SimpleNamespace(close=lambda: None)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Return what makes a stem whose models take the given shares of the time."""

    def go(*shares, folder="one", **more):
        def measure(sessions, samples, *, baseline, machine, budget):
            assert samples is SAMPLES
            assert budget.min_calls < latency.MIN_CALLS
            assert (baseline, list(sessions)) == ("0", list("0123")[: len(shares)])
            return {
                name: (
                    Evidence(
                        latency.RATIO, round(1e4 * share), 12, machine, "measured on host",
                        round(1e4 * share) - 200, round(1e4 * share) + 200, how="turns",
                    ),
                )
                for name, share in zip(sessions, shares, strict=True)
            }  # fmt: skip

        monkeypatch.setattr(stems.latency, "measure", measure)
        bench = SimpleNamespace(
            elsewhere=more.pop("elsewhere", None), machine="here", tools={"tool": "1"},
            engine=_Engine(),
            data=SimpleNamespace(sha256="data", evaluate=SAMPLES, calibrate=SAMPLES),
        )  # fmt: skip
        ledger = Ledger(tmp_path / folder, folder=tmp_path / folder)
        return Stem(bench, ledger, "onnxruntime", tmp_path / "probe", lambda *_: None, **more)

    return go


@pytest.mark.parametrize(
    ("shares", "names"),
    [
        ((1.0, 0.8, 0.9, 0.95), {"scale", "one", "relu"}),
        ((1.0, 0.9, 0.7, 0.8), {"scale", "one", "relu", "two"}),
        # Within two percent of the best there is no telling: fewer floats are fewer bytes.
        ((1.0, 0.81, 0.8, 0.9), {"scale", "one", "relu"}),
        ((1.0, 0.99, 1.1, 1.2), set()),
    ],
)
def test_what_is_surely_faster_is_chosen(make, shares, names):
    """With all that comes before it and right behind it, and the share as the reason."""
    found = make(*shares).nodes(_graph(), STEP)

    assert set(found) == names
    assert not names or all("in floats an answer takes" in why for why in found.values())


def test_it_is_measured_once(make):
    """Not again by the same run, and not by the next, which finds the evidence."""
    first = make(1.0, 0.8, 0.9, 0.95)
    before = first.nodes(_graph(), STEP)
    assert first.nodes(_graph(), STEP) == before
    assert len(first.bench.engine.loaded) == 4

    second = make(1.0, 1.5, 1.5, 1.5)

    assert second.nodes(_graph(), STEP) == before
    assert not second.bench.engine.loaded


def test_what_other_code_made_is_measured_again(make, monkeypatch):
    """A technique may be mended between two releases of the same tools."""
    make(1.0, 0.8, 0.9, 0.95).nodes(_graph(), STEP)
    monkeypatch.setattr(stems, "code_of", lambda technique: f"another {technique}")

    second = make(1.0, 1.5, 1.5, 1.5)

    assert second.nodes(_graph(), STEP) == {}
    assert len(second.bench.engine.loaded) == 4


def test_nothing_is_told_of_a_device_that_is_not_here(make):
    """The time of this machine is not its time."""
    far = make(1.0, 0.5, 0.5, 0.5, elsewhere=object())

    assert far.nodes(_graph(), STEP) == {}
    assert not far.bench.engine.loaded


def test_a_model_that_begins_otherwise_is_not_measured(make):
    """Only convolutions gather their windows."""
    assert make(1.0, 0.5, 0.5, 0.5).nodes(_graph("MatMul"), STEP) == {}


def test_a_pinned_layer_stays_as_it_is_pinned(make):
    """What somebody asked for is not measured away."""
    assert make(pinned=frozenset({"one"})).nodes(_graph(), STEP) == {}
    found = make(1.0, 0.5, folder="two", pinned=frozenset({"tw*"})).nodes(_graph(), STEP)
    assert set(found) == {"scale", "one", "relu"}


def test_only_a_small_share_of_the_weights_may_be_floats(make):
    """However fast: bytes are what 8 bits are asked for too."""
    # Of 162, 324, 324 and 54 times the last layer's channels.
    assert make(1.0, 0.5, folder="a").nodes(_graph(last=100), STEP).keys() == {
        "scale", "one", "relu"
    }  # fmt: skip
    assert make(folder="b").nodes(_graph(last=5), STEP) == {}
