"""``edgewright import`` as it is typed: what it prints, writes, and leaves alone."""

import json

import numpy as np
import pytest
from tests.sim.models import quarters, samples, write_data, write_model

from edgewright.cli import main
from edgewright.core import digest
from edgewright.toolchain.ir.load import load


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Return a function that runs the command in a folder: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        code = main.main(["import", *map(str, argv)])
        return code, *capsys.readouterr()

    return run


def test_people_get_a_summary(run, tmp_path):
    """What it is, what it takes and answers, its nodes, its size, how far it is off, notes."""
    path = write_model(tmp_path / "m.onnx", quarters(opset=11))
    np.savez(tmp_path / "d.npz", image=samples(12)[0])

    code, text, _ = run(path, "-o", tmp_path / "o.onnx", "--data", tmp_path / "d.npz")

    assert code == 0
    assert text.startswith(f"{path} (onnx) is {tmp_path / 'o.onnx'}\n")
    assert digest.of_file(path) in text
    for part in (
        "opset 13", "image uint8 batchx1x8x8", "logits float32 batchx4", "Relu 2",
        "12 real rows", "note: It was written in opset 11 and raised to 13",
    ):  # fmt: skip
        assert part in text


def test_programs_get_a_document(run, tmp_path):
    """The same, and the file it tells of is the one that was written."""
    out = tmp_path / "o.onnx"

    code, text, _ = run(
        write_model(tmp_path / "m.onnx"), "-o", out, "--json", "--freeze", "n=1"
    )

    told = json.loads(text)
    assert code == 0
    assert told["file_bytes"] == out.stat().st_size
    assert told["sha256"] == load(out).digest
    assert told["inputs"] == [{"name": "image", "dtype": "uint8", "shape": [1, 1, 8, 8]}]
    assert told["parity"] == 0.0
    assert told["parity_on_real_inputs"] is False


def test_a_file_as_optimize_takes_it_will_do(run, tmp_path):
    """Of its arrays, the inputs that are judged by."""
    data = write_data(tmp_path / "d.npz")

    code, text, _ = run(
        write_model(tmp_path / "m.onnx"), "-o", tmp_path / "o.onnx", "--data", data
    )

    assert code == 0
    assert "on 64 real rows" in text


def test_nothing_is_overwritten_without_force(run, tmp_path):
    """Not the model itself either, which has the default name."""
    path = write_model(tmp_path / "m.onnx")
    before = path.read_bytes()

    code, _, said = run("m.onnx")
    forced, _, _ = run("m.onnx", "--force")

    assert code == 2
    assert "m.onnx is there already" in said
    assert forced == 0
    assert path.read_bytes() != before


@pytest.mark.parametrize(
    ("words", "code", "match"),
    [
        (("gone.onnx",), 1, "there is no model gone.onnx"),
        (("m.onnx", "--freeze", "n"), 2, "freezes no axis"),
        (("m.onnx", "--input", "x"), 2, "names no input"),
        (("m.onnx", "--opset", "9"), 2, "opset 9 is too old"),
        (("m.onnx", "--data", "gone.npz"), 1, "cannot read gone.npz"),
        (("m.onnx", "--timeout", "soon"), 2, "soon"),
        (("m.onnx", "-o", "."), 2, "is a folder"),
    ],
)
def test_what_is_wrong_is_named(run, tmp_path, words, code, match):
    """With the exit code of its kind, and nothing is written."""
    write_model(tmp_path / "m.onnx")
    out = () if "-o" in words else ("-o", "o.onnx")

    told, _, said = run(*words, *out)

    assert told == code
    assert match in said
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
