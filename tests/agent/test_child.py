"""Child and Errand: a process may do what it likes, the one who started it never waits."""

import os
import signal
import sys
import time

import pytest
from tests.sim.clock import ManualClock

from edgewright.agent.child import Child, fate
from edgewright.agent.control import Errand
from edgewright.core.clock import SystemClock
from edgewright.core.errors import UpdateError
from edgewright.wire.local import SelfTest

ECHO = "import sys\nfor line in sys.stdin: print(line.upper(), end='', flush=True)"
GOOD = """print('noise'); print('{"digest": "sha256:00", "p50_us": 7}')"""


def _child(program, **options):
    return Child([sys.executable, "-c", program], **options)


def _until(done, *, seconds=20.0):
    end = time.monotonic() + seconds
    while (found := done()) in {None, False} and time.monotonic() < end:
        time.sleep(0.01)
    return found


def _lines(child, count):
    found = []
    _until(lambda: found.extend(child.lines()) or len(found) >= count)
    return found


def _errand(program, *, clock=None, limit_s=60.0):
    argv = [sys.executable, "-c", program]
    return Errand("tester", argv, SelfTest, clock=clock or SystemClock(), limit_s=limit_s)


def test_lines_go_in_and_come_out():
    """What is said is heard, whole lines only, in order."""
    child = _child(ECHO, stdin=b"one\n")
    child.say(b"two")

    assert _lines(child, 2) == [b"ONE", b"TWO"]
    child.close()


def test_more_than_a_pipe_holds_arrives():
    """A job of a megabyte to a child that reads slowly never blocks who sends it."""
    program = "import sys, time; time.sleep(0.3); print(len(sys.stdin.readline()))"
    begun = time.monotonic()
    child = _child(program, stdin=b"x" * (1 << 20) + b"\n")
    waited = time.monotonic() - begun

    assert _lines(child, 1) == [b"1048577"]
    assert waited < 0.25
    child.close()


def test_a_child_without_a_word_holds_nobody_up():
    """Asking a silent process for lines returns at once."""
    child = _child("import time; time.sleep(60)")
    begun = time.monotonic()

    assert child.lines() == []
    assert child.ended is None
    assert time.monotonic() - begun < 0.5
    child.close()


def test_the_last_words_are_heard():
    """What a process wrote before it ended is read before it counts as ended."""
    child = _child("print('bye'); raise SystemExit(4)")
    time.sleep(0.3)

    before = child.ended
    lines = _lines(child, 1)

    assert (before, lines) == (None, [b"bye"])
    assert _until(lambda: child.ended) == 4
    child.close()


def test_talking_to_the_dead_is_harmless():
    """A child that ended early does not take its supervisor with it."""
    child = _child("pass")
    _until(lambda: child.lines() or child.ended is not None)

    child.say(b"x" * (1 << 20))
    child.terminate()
    child.kill()

    assert child.ended == 0
    child.close()
    child.close()


def test_a_child_that_never_stops_talking_is_killed():
    """Output without an end does not fill the memory of who reads it."""
    child = _child("import sys\nwhile True: sys.stdout.write('x' * 65536)")

    _until(lambda: child.lines() or child.ended is not None)

    assert child.ended == -signal.SIGKILL
    child.close()


def test_what_cannot_be_started_is_our_error():
    """A program that is not there is said as such."""
    with pytest.raises(UpdateError, match="cannot start"):
        Child(["/nonexistent/program"])


def test_fates_are_readable():
    """Exit codes and signals in words."""
    assert (fate(3), fate(-9)) == ("exit 3", "signal 9")


def test_an_errand_comes_back_with_its_report():
    """The last line is the report; what was printed before it is not."""
    result = _until(_errand(GOOD).poll)

    assert (result.report.p50_us, result.reason) == (7, "")


@pytest.mark.parametrize(
    ("program", "words", "own_fault"),
    [
        ("pass", "exit 0", False),
        ("raise SystemExit(3)", "exit 3", False),
        ("print('nonsense')", "exit 0", False),
        ("import os; os.kill(os.getpid(), 11)", "signal 11", True),
        ("import os; os.kill(os.getpid(), 9)", "signal 9", False),
    ],
    ids=["silent", "failed", "nonsense", "crashed", "killed"],
)
def test_an_errand_without_a_report_says_how_it_ended(program, words, own_fault):
    """Who crashed and who was killed are told apart: only the first is to blame."""
    result = _until(_errand(program).poll)

    assert result.report is None
    assert words in result.reason
    assert result.own_fault is own_fault


def test_an_errand_that_takes_too_long_is_stopped():
    """Time is up by the clock that was given, not by patience."""
    clock = ManualClock()
    errand = _errand("import time; time.sleep(60)", clock=clock, limit_s=5.0)
    assert errand.poll() is None

    clock.advance(6)
    result = _until(errand.poll)

    assert "stopped after 5 s" in result.reason
    assert not result.own_fault


def test_a_cancelled_errand_is_gone():
    """Nothing of it runs on."""
    errand = _errand("import time; time.sleep(60)")
    pid = errand.pid

    errand.cancel()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
