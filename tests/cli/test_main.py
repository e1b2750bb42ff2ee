"""``edgewright``: what is wrong on a command line is named by the program itself."""

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
