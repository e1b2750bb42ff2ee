"""Addresses of workers: what is none is refused before anything is loaded or tried."""

from contextlib import contextmanager

import numpy as np
import onnx
import pytest
from tests.sim.cluster import free_port
from tests.sim.colours import classifier, pictures
from tests.sim.crew import SimCrew

from edgewright.core.errors import TransportError, UsageError
from edgewright.toolchain.planner import cluster
from edgewright.toolchain.recipe import optimize


@pytest.mark.parametrize(
    "address",
    [
        "auto", "4", "http://host:1", "ray://", "ray://host", "ray://:10001", "ray://h:0",
        "ray://h:65536", "ray://h:port", "ray://h:10001/x", "ray://h h:1", "RAY://h:1", " ",
    ],
)  # fmt: skip
def test_another_form_is_refused(address):
    """With the forms there are."""
    with pytest.raises(UsageError, match="workers cannot be") as caught:
        cluster.check(address)

    assert "ray://HOST:PORT" in caught.value.hint


@pytest.mark.parametrize(
    "address", ["ray", "ray://host:10001", "ray://10.0.0.1:1", "ray://[::1]:65535"]
)
def test_a_form_there_is_needs_ray(address, monkeypatch):
    """Where it is not installed the hint installs it; where it is nothing is said."""
    monkeypatch.setattr(cluster, "find_spec", lambda _name: None)
    with pytest.raises(UsageError, match="ray, which is not installed") as caught:
        cluster.check(address)
    assert caught.value.hint == "pip install 'edgewright[ray]'"

    monkeypatch.setattr(cluster, "find_spec", lambda name: name)
    cluster.check(address)


def test_nobody_is_hired_where_nobody_is_named():
    """Which needs no library."""
    with cluster.hired("") as nobody:
        assert nobody is None


def test_where_nobody_listens_is_told_before_the_library_is_loaded(monkeypatch):
    """With the address, the reason, and how a cluster is started."""
    monkeypatch.setattr(cluster, "find_spec", lambda name: name)
    address = f"ray://127.0.0.1:{free_port()}"

    with (
        pytest.raises(TransportError, match=f"can be reached at {address}.*refused") as caught,
        cluster.hired(address),
    ):
        pass

    assert "ray start --head" in caught.value.hint


@pytest.mark.slow
def test_a_whole_search_with_workers_is_the_search_without(tmp_path, monkeypatch):
    """Layers that are taken out included: the files, evidence of answers and the decision."""
    images, labels = pictures(900)
    np.savez(
        tmp_path / "d.npz", calibrate_images=images[:300], calibrate_labels=labels[:300],
        evaluate_images=images[300:], evaluate_labels=labels[300:],
    )  # fmt: skip
    onnx.save(classifier(wide=1000.0), tmp_path / "m.onnx")
    # Whether the layer to blame is in floats anyway would hang on how fast this machine is.
    monkeypatch.setattr("edgewright.toolchain.planner.stem._MOST", 0)
    crew, events = SimCrew(), []

    @contextmanager
    def hired(address):
        yield crew if address else None

    def run(name, **more):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"{name}.cache"))
        return optimize(
            tmp_path / "m.onnx", data=tmp_path / "d.npz", out=tmp_path / name,
            quantization="int8", goal="size", allow_slower=True, **more,
        )  # fmt: skip

    alone = run("alone")
    monkeypatch.setattr(cluster, "hired", hired)
    monkeypatch.setattr(cluster, "check", lambda _address: None)
    helped = run("helped", workers="ray://sim:10001", observe=events.append)

    assert [one.files for one in helped.candidates] == [one.files for one in alone.candidates]
    assert [one.name for one in helped.candidates][-1].startswith("int8-mixed")
    assert helped.chosen == alone.chosen
    answered = {
        name: file for name, file in alone.evidence_files.items()
        if name.startswith(("accuracy", "drift"))
    }  # fmt: skip
    assert answered.items() <= helped.evidence_files.items()
    assert {head["first"] for head in crew.asked if head["do"] == "answers"} == {0, 128}
    said = [event.fields["what"] for event in events if event.kind == "workers"]
    assert said[0] == "2 workers on ray://sim:10001"
    assert said[-1].startswith("workers delivered ")
