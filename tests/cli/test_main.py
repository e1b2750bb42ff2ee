"""``edgewright``: what is wrong on a command line is named by the program itself."""

import subprocess
import sys

import pytest

from edgewright.cli import main


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (("rollot",), "'rollout'?"),
        (("rollout", "strat"), "'start'?"),
        (("rollout", "start", "x@1", "--wave", "100%", "--chanel", "a"), "'--channel'?"),
        (("optimize", "x.onnx", "--quantization", "itn8"), "'int8'?"),
        (("serve", "--sate", "x", "--trust", "y"), "'--state'?"),
    ],
)
def test_a_mistyped_word_is_told_its_nearest(argv, hint, capsys):
    """A command, a verb, an option or a value, with the exit code of a wrong usage."""
    with pytest.raises(SystemExit) as caught:
        main.main(argv)

    assert caught.value.code == 2
    assert f"Did you mean {hint}" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--interval", "0s"), ("--port", "65536")])
def test_a_server_nobody_could_use_is_refused(option, tmp_path, capsys):
    """Before anything is read or made."""
    state = tmp_path / "state"
    folders = ("--state", state, "--trust", tmp_path, "--assignments-key", tmp_path / "key")

    assert main.main(["serve", *map(str, folders), *option]) == 2

    assert f"{option[0]} must be" in capsys.readouterr().err
    assert not state.exists()


def test_a_reader_that_has_seen_enough_is_no_error():
    """Piped into what closes at once, nothing is said on the error channel."""
    command = [sys.executable, "-m", "edgewright.cli.main", "devices", "list", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        said = process.stderr.read()

    assert said == b""
    assert process.returncode == 141
