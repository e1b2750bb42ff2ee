"""``edgewright deploy``: one call from a model to a device, or the list of what it missed."""

import json
from pathlib import Path

import numpy as np
import pytest
from examples.digits.local import Device, Server, Traffic, wait_for

from edgewright.cli.main import main

DIGITS = Path("examples/digits")

pytestmark = pytest.mark.slow


@pytest.fixture
def fleet(tmp_path):
    """A server, one device under traffic, and the words that reach the server."""
    keys = tmp_path / "keys"
    assert main(["keys", "init", str(keys), "--root-keys", "1", "--root-threshold", "1"]) == 0
    server = Server(tmp_path / "server", keys)
    server.start()
    device = Device(tmp_path / "devices" / "one", "one", server, keys, labels={})
    device.start()
    try:
        wait_for(lambda: device.id and device.status().get("port"), "the device to enrol")
        with np.load(DIGITS / "data" / "digits.npz") as data:
            asking = Traffic(device, data["evaluate_images"], data["evaluate_labels"])
        asking.start()
        yield server, device, keys
        asking.stop()
    finally:
        device.stop()
        server.stop()


def _deploy(fleet, model, out, *more):
    server, _, keys = fleet
    return main([
        *("deploy", str(DIGITS / "models" / model), "--name", "digits", "--json"),
        *("--project", str(DIGITS / "edgewright.toml"), "-o", str(out), "--keys", str(keys)),
        *("--channel", "stable", "--wave", "100%", "--deadline", "60s"),
        *("--server", server.url, "--token-file", str(server.token_file("operate"))), *more,
    ])  # fmt: skip


def test_a_model_reaches_the_device(fleet, tmp_path, capsys):
    """It is optimised, packed, published, confirmed on the device, and given an id."""
    capsys.readouterr()

    code = _deploy(fleet, "digits-1.onnx", tmp_path / "out")

    told = json.loads(capsys.readouterr().out)
    assert (code, told["state"], told["release"]) == (0, "done", "digits@1")
    assert told["deployment"].startswith("dpl_")
    assert json.loads((tmp_path / "out" / "deployment.json").read_text()) == told
    assert fleet[1].status()["serving"]["digest"] == told["digest"]


def test_a_useless_model_is_not_even_published(fleet, tmp_path, capsys):
    """It ends with exit 3 and what was missed, and the server has no release."""
    server, device, _ = fleet
    capsys.readouterr()

    code = _deploy(fleet, "digits-3.onnx", tmp_path / "out")

    error = json.loads(capsys.readouterr().out)["error"]
    client = server.client()
    releases = client.call("GET", "/v1/releases")["releases"]
    client.close()
    assert (code, error["code"]) == (3, "contract_error")
    assert "accuracy_drop" in error["message"]
    assert releases == []
    assert not device.status().get("serving")


def test_workers_at_no_address_are_refused_first(fleet, tmp_path, capsys):
    """As optimize refuses them; nothing is made."""
    capsys.readouterr()

    code = _deploy(fleet, "digits-1.onnx", tmp_path / "out", "--workers", "anyone")

    error = json.loads(capsys.readouterr().out)["error"]
    assert (code, error["code"]) == (2, "usage_error")
    assert "anyone" in error["message"]
    assert not (tmp_path / "out").exists()
