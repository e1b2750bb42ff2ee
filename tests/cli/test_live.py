"""What optimize shows while it works: it fits, it marks the best, it never disturbs."""

import io

import pytest
from rich.console import Console

from edgewright.cli.live import Board, draw, line
from edgewright.toolchain.recipe import Event


class _Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        """Return the time it was set to."""
        return self.now


def _stage(what="latency of fused", **more):
    return Event("stage", {"stage": "measure", "what": what, "elapsed_ms": 61_000, **more})


def _candidate(name, *, best, provisional=True, outcome="pass", ratio=5_000):
    return Event("candidate", {
        "name": name, "outcome": outcome, "chosen": best == name, "file_bytes": 224_300,
        "p50_us": 100, "p99_us": 1_250 if ratio else None, "latency_ratio_bp": ratio,
        "loss": 0.0012, "reason": "the first of the plan that passes", "best": best,
        "provisional": provisional,
    })  # fmt: skip


def _screen(board, width, height=24):
    out = io.StringIO()
    Console(file=out, width=width, height=height).print(draw(board, width, height))
    return [text.rstrip() for text in out.getvalue().splitlines()]


def test_time_goes_on_between_events():
    """Elapsed grows and what is left shrinks, never below nothing, and only about."""
    clock = _Clock()
    board = Board(clock=clock)
    board.see(_stage(index=2, count=7, eta_ms=5_000))

    clock.now += 4
    soon = board.lines()[1]
    clock.now += 10
    late = board.lines()[1]

    assert soon == "candidate 2 of 7, 1:05 elapsed, about 0:01 to go"
    assert late == "candidate 2 of 7, 1:15 elapsed, about 0:00 to go"


def test_what_ctrl_c_does_is_said():
    """It keeps the best so far, once there is one."""
    board = Board()
    board.see(_stage())
    before = board.lines()[-1]
    board.see(_candidate("float", best="float"))

    assert before == "Ctrl-C stops; there is nothing to keep yet"
    assert board.lines()[-1] == "Ctrl-C keeps the best so far"


def test_what_befalls_workers_is_shown():
    """Beside what goes on, and as a line where there is no terminal; it fits."""
    board, what = Board(), "quantize of int8-per-channel did not come from a worker " * 3
    board.see(_stage())
    board.see(Event("workers", {"what": what, "steps": 1, "answers": 0, "lost": ["x"]}))

    assert any(text.startswith("quantize of int8") for text in _screen(board, 80))
    assert all(len(text) <= 80 for text in _screen(board, 80))
    assert line(Event("workers", {"what": "2 workers on x"})) == "workers: 2 workers on x"


def test_drawing_rests_while_latency_is_measured():
    """The clock on the screen would take the time of what is timed."""
    board = Board()
    board.see(_stage("latency of fused"))
    timing = board.quiet
    board.see(_stage("footprint of fused"))

    assert timing
    assert not board.quiet


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_the_table_fits_the_terminal(width):
    """No line is longer than the terminal, the best is marked, reasons need room."""
    board = Board()
    board.see(_stage(index=2, count=7))
    board.see(_candidate("float", best="float", ratio=10_000))
    board.see(_candidate("int8-per-channel", best="int8-per-channel"))
    board.see(Event("left_out", {"name": "fused", "reason": "nothing was left to fuse " * 9}))

    screen = _screen(board, width)

    assert all(len(text) <= width for text in screen)
    (best,) = (text for text in screen if text.startswith("best"))
    assert best.split()[1].startswith("int8")
    if width >= 80:
        assert best.split()[2:7] == ["224.3", "kB", "2.00x", "1.25", "ms"]
    assert ("the first of the plan" in "\n".join(screen)) is (width >= 110)
    assert ("passes too, behind int8-per-channel" in "\n".join(screen)) is (width >= 110)


def test_many_candidates_leave_the_best_in_sight():
    """A low terminal shows the latest and the best, and counts the others."""
    board = Board()
    board.see(_stage())
    for number in range(40):
        board.see(_candidate(f"c{number}", best="c0"))

    screen = _screen(board, 80, height=20)

    assert len(screen) <= 20
    assert any(text.startswith("best  c0") for text in screen)
    assert any("c39" in text for text in screen)
    assert "and 29 more before" in screen


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (_stage(), "measure: latency of fused"),
        (
            _stage(index=2, count=7, eta_ms=65_000),
            "[2/7] measure: latency of fused (about 1:05 to go)",
        ),
        (
            _candidate("fused", best="fused"),
            (
                "  fused: 224.3 kB, speed 2.00x, p99 1.25 ms, 0.12 points lost, pass, "
                "the best so far: the first of the plan that passes"
            ),
        ),
        (
            _candidate("fused", best="float", outcome="fail", ratio=None),
            "  fused: 224.3 kB, 0.12 points lost, fail: the first of the plan that passes",
        ),
        (_candidate("fused", best="fused", provisional=False), ""),
        (Event("left_out", {"name": "a", "reason": "b"}), "  a was left out: b"),
        (Event("done", {}), ""),
    ],
)
def test_plain_lines_tell_each_thing_once(event, text):
    """For a log: no colours, nothing drawn over."""
    assert line(event) == text
