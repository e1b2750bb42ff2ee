"""optimize --ask on a terminal: what is answered becomes the command that is printed."""

import io
import os
import pty
import shlex
import subprocess
import sys

import numpy as np
import pytest
from tests.sim.models import write_data, write_model

from edgewright.cli import main
from edgewright.cli.ask import _devices
from edgewright.core.contract import Contract

# In the order of the questions; Enter takes the default.
MODEL, DATA, METRIC, DEVICE, GOAL = range(5)
DROP, WORST, SIZE, LATENCY, MEMORY, BUDGET, FOLDER, START = range(5, 13)


def _asked(folder, answers, *words):
    """Answer on a terminal; return the exit code and all that was to be read."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "edgewright.cli.main", "optimize", "--ask", *words],
        stdin=slave, stdout=slave, stderr=slave, cwd=folder,
        env={**os.environ, "TERM": "dumb"},
    )  # fmt: skip
    os.close(slave)
    os.write(master, "".join(f"{answer}\n" for answer in answers).encode())
    said = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other end is gone, which Linux says so
            break
        if not part:
            break
        said += part
    os.close(master)
    return process.wait(timeout=60), said.decode().replace("\r\n", "\n")


def _answers(**changes):
    given = ["m.onnx", "d.npz", *[""] * 10, "no"]
    for name, answer in changes.items():
        given[globals()[name]] = answer
    return given


@pytest.fixture
def place(tmp_path):
    """Return a folder with a model and data; nothing is loaded before the run starts."""
    (tmp_path / "m.onnx").write_bytes(b"")
    (tmp_path / "d.npz").write_bytes(b"")
    return tmp_path


def _command(said):
    """Return the words of the command that was printed."""
    (line,) = (line for line in said.splitlines() if line.startswith("  edgewright optimize"))
    return shlex.split(line)


@pytest.mark.slow
def test_enter_alone_takes_the_defaults(place):
    """A balanced search on this machine, with the limits of the contract."""
    code, said = _asked(place, _answers())

    assert code == 0
    assert _command(said) == [
        "edgewright", "optimize", "m.onnx", "--data", "d.npz", "--goal", "balanced",
        "--accuracy-drop", "1", "--worst-class-drop", "3", "-o", "out/m",
    ]  # fmt: skip
    assert not (place / "out").exists()


@pytest.mark.slow
def test_what_a_class_may_lose_is_what_its_samples_can_prove(tmp_path):
    """By default one lost answer of the smallest class does not leave it undecided."""
    write_model(tmp_path / "m.onnx")
    data = write_data(tmp_path / "d.npz")
    with np.load(data) as held:
        fewest = np.bincount(held["evaluate_labels"]).min()

    _, said = _asked(tmp_path, _answers())

    words = _command(said)
    limit = float(words[words.index("--worst-class-drop") + 1])
    assert 475 / fewest <= limit < 475 / fewest + 1
    assert f"Your smallest class is judged by {fewest} samples" in said


@pytest.mark.slow
def test_every_answer_becomes_a_flag(place):
    """By number or by name; a folder with a space is quoted; argparse takes the whole."""
    answers = _answers(
        METRIC="top-5", DEVICE="raspberry-pi-5", GOAL="3", DROP="0.5", WORST="none",
        SIZE="4 MB", LATENCY="20ms", MEMORY="150MB", BUDGET="10m", FOLDER="a folder",
    )  # fmt: skip

    _, said = _asked(place, answers)

    words = _command(said)
    given = main.parser().parse_args(words[1:])
    assert (given.metric, given.device, given.goal) == ("top-5", "raspberry-pi-5", "speed")
    assert (given.accuracy_drop, given.worst_class_drop) == (0.5, 100)
    assert (given.max_size, given.max_latency, given.max_memory) == ("4MB", "20ms", "150MB")
    assert (given.budget, str(given.out)) == ("10m", "a folder")


@pytest.mark.slow
def test_a_wrong_answer_is_asked_again(place):
    """With what is wrong about it, and the default stays on offer."""
    answers = _answers()
    answers[SIZE:SIZE] = ["ten"]
    answers[GOAL:GOAL] = ["9", "fast"]
    answers[METRIC:METRIC] = ["acuracy"]
    answers[MODEL:MODEL] = ["", "gone.onnx"]

    code, said = _asked(place, answers)

    assert code == 0
    for word in (
        "a model is needed", "there is no model gone.onnx", "Did you mean 'accuracy'?",
        "'9' is none of them", "'fast' is none of them", "'ten' is not bytes",
    ):  # fmt: skip
        assert word in said
    assert _command(said)[-2:] == ["-o", "out/m"]


@pytest.mark.slow
def test_inputs_are_made_up_only_on_request(place):
    """Without data it is asked once more, and what it means is said."""
    answers = _answers()
    answers[DATA : METRIC + 1] = ["none", "no", "none", "yes"]

    _, said = _asked(place, answers)

    assert "nothing is known of accuracy" in said
    assert _command(said)[3] == "--allow-synthetic"
    assert "--data" not in _command(said)


@pytest.mark.slow
def test_it_runs_what_it_printed(place):
    """The empty model is refused by the run itself, with its own error."""
    code, said = _asked(place, _answers(START="y"))

    assert code not in {0, 2}
    assert said.index("edgewright: ") > said.index("Start now?")


@pytest.mark.slow
def test_the_end_of_the_input_ends_it(place):
    """Like Ctrl-C: exit 130, no traceback."""
    code, said = _asked(place, ["m.onnx", "\x04"])

    assert code == 130
    assert "Traceback" not in said


def test_without_a_terminal_it_is_refused(capsys, monkeypatch):
    """A pipe cannot answer; the hint says what to type."""
    monkeypatch.setattr("sys.stdin", io.StringIO("m.onnx"))

    code = main.main(["optimize", "--ask"])

    said = capsys.readouterr().err
    assert code == 2
    assert "--ask asks on a terminal" in said
    assert "edgewright optimize MODEL --data DATA" in said


def test_without_a_model_asking_is_offered(capsys):
    """Exit 2, as before there was anything to ask."""
    code = main.main(["optimize"])

    said = capsys.readouterr().err
    assert code == 2
    assert "no model is named" in said
    assert "--ask" in said


def test_the_defaults_are_those_of_the_contract():
    """Who presses Enter asks for what who gives no flag asks for."""
    assert Contract() == Contract(accuracy_drop_bp=100, worst_class_drop_bp=300)


def test_only_devices_that_can_run_something_are_offered():
    """This machine in front; no microcontroller that nothing is lowered to."""
    names = [name for name, _ in _devices()]

    assert names[0] == "host"
    assert "raspberry-pi-5" in names
    assert "esp32-s3" not in names
