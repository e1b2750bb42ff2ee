"""Parser: a mistyped word is told what it was meant to be, by the command it was given to."""

import pytest

from edgewright.core.commandline import Parser


@pytest.fixture
def parser():
    """Give a program with one option of its own and one verb."""
    top = Parser(prog="program")
    top.add_argument("--version", action="version", version="1")
    verb = top.add_subparsers(dest="verb", required=True, metavar="VERB").add_parser("start")
    verb.add_argument("release", nargs="?")
    verb.add_argument("--channel", required=True)
    verb.add_argument("--mode", choices=("fast", "careful"))
    verb.add_argument("--limit", type=int)
    verb.add_argument("-o", "--out")
    return top


def refused(parser, capsys, *argv):
    """Return what is said on standard error; the exit code is that of a wrong usage."""
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(argv)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "who", "hint"),
    [
        (("strat",), "program:", "Did you mean 'start'?"),
        (("--vershun", "start", "--channel", "a"), "program:", "'--version'?"),
        (("start", "--channel", "a", "--ot", "x"), "program start:", "'--out'?"),
        (("start", "--chanel=a"), "program start:", "--chanel: Did you mean '--channel'?"),
        (("start", "--channel", "a", "--mode", "carefull"), "program start:", "'careful'?"),
        (("start", "--channel", "a", "--mode", "xyz"), "program start:", "careful, fast."),
        (("start", "--channel", "a", "--qqq"), "program start:", "Known: --channel"),
        (("start", "-limit", "3"), "program start:", "-limit: Did you mean '--limit'?"),
    ],
)
def test_a_mistyped_word_is_told_its_nearest(parser, capsys, argv, who, hint):
    """A verb, an option of either parser, an option that is also missing, a value."""
    said = refused(parser, capsys, *argv)

    assert f"{who} error:" in said
    assert hint in said


@pytest.mark.parametrize(
    "argv",
    [
        ("start", "--channel", "a", "x", "more"),
        ("start", "--channel", "a", "--limit", "many"),
        ("start", "-ofile", "--", "--chanel"),
        ("start", "--lim", "-3", "-o", "-"),
    ],
    ids=["one too many", "wrong type", "after two dashes", "shortened"],
)
def test_what_is_wrong_otherwise_gets_no_guess(parser, capsys, argv):
    """Only an option nobody knows is called mistyped."""
    assert "hint" not in refused(parser, capsys, *argv)


def test_the_words_of_the_process_are_read(parser, capsys, monkeypatch):
    """Without words given to it, it reads those the program was started with."""
    monkeypatch.setattr("sys.argv", ["program", "--vershun", "start", "--channel", "a"])

    with pytest.raises(SystemExit):
        parser.parse_args()

    assert "Did you mean '--version'?" in capsys.readouterr().err


def test_what_is_right_is_returned(parser):
    """Shortened options, attached values and negative numbers are as argparse has them."""
    found = parser.parse_args(["start", "x@1", "--chan", "a", "-of", "--limit", "-3"])

    assert (found.release, found.channel, found.out, found.limit) == ("x@1", "a", "f", -3)
