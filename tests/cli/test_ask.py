"""optimize --ask: a newcomer ends with a command, and wrong answers are asked again."""

import os
import pty
import subprocess
import sys

import pytest
from tests.sim.models import write_data, write_model

from edgewright.cli import ask
from edgewright.core.errors import UsageError


@pytest.fixture
def answered(monkeypatch):
    """Return what asks with given answers, as if somebody typed them."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)

    def go(*answers):
        left = iter(answers)
        return ask.ask(read=lambda _question: next(left))

    return go


def test_empty_answers_take_what_is_offered(answered, tmp_path):
    """Only the model and the data have to be named."""
    model, data = write_model(tmp_path / "m.onnx"), write_data(tmp_path / "d.npz")

    found = answered(str(model), str(data), "", "", "", "", "", "")

    assert found == [
        str(model), "--data", str(data), "--device", "host", "--goal", "balanced",
        "--out", "out/m",
    ]  # fmt: skip


def test_a_wrong_answer_is_asked_again(answered, tmp_path, capsys):
    """With the reason; what is right in the end is what counts."""
    model, data = write_model(tmp_path / "m.onnx"), write_data(tmp_path / "d.npz")

    found = answered(
        "gone.onnx", str(model), "gone.npz", str(data), "rasberry-pi-5", "raspberry-pi-5",
        "fast", "speed", "big", "350KB", "20", "20ms", "2", "o",
    )  # fmt: skip

    said = capsys.readouterr().out
    assert "there is no model gone.onnx" in said
    assert "raspberry-pi-5" in said
    assert found[3:] == [
        "--device", "raspberry-pi-5", "--goal", "speed", "--max-size", "350KB",
        "--max-latency", "20ms", "--accuracy-drop", "2", "--out", "o",
    ]  # fmt: skip


def test_without_data_inputs_are_made_up_by_name(answered, tmp_path):
    """The flag that keeps it on the record is part of the command."""
    found = answered(str(write_model(tmp_path / "m.onnx")), "", "", "", "", "", "", "")

    assert "--allow-synthetic" in found


def test_the_command_can_be_typed_as_it_stands():
    """Quoted for a shell."""
    assert ask.command(["my model.onnx"]) == "edgewright optimize 'my model.onnx'"


def test_nobody_there_is_refused(monkeypatch):
    """A pipe is asked nothing."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)

    with pytest.raises(UsageError, match="nobody is at the other end"):
        ask.ask()


@pytest.mark.slow
def test_on_a_terminal_it_ends_with_the_command(tmp_path):
    """Typed through a terminal, as a person does, and not run."""
    model, data = write_model(tmp_path / "m.onnx"), write_data(tmp_path / "d.npz")
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "edgewright.cli.main", "optimize", "--ask"]
    with subprocess.Popen(
        command, stdin=child, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as process:
        typed = "\n".join((str(model), str(data), *[""] * 6, "n", ""))
        os.write(parent, typed.encode())
        said, errors = process.communicate(timeout=60)
    os.close(parent)
    os.close(child)

    assert process.returncode == 0, errors
    assert f"edgewright optimize {model} --data {data}" in said.decode()
    assert not (tmp_path / "out").exists()
