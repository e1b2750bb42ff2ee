"""Progress: where a search is, and about how long it still takes."""

from edgewright.toolchain.planner.progress import Progress


class _Clock:
    def __init__(self):
        self.now = 50.0

    def __call__(self):
        """Return the time it was set to."""
        return self.now


def test_before_and_after_a_search_only_time_is_known():
    """There is no place in a plan yet, or no more."""
    clock = _Clock()
    progress = Progress(clock)
    clock.now += 2

    before = progress.fields()
    progress.begin(4)
    progress.end()

    assert before == progress.fields() == {"elapsed_ms": 2_000}


def test_what_is_left_is_reckoned_from_those_before():
    """Two candidates in 10 s leave two for 10 s, less what this one took already."""
    clock = _Clock()
    progress = Progress(clock)
    progress.begin(4)
    first = progress.fields()
    for _ in range(2):
        clock.now += 5
        progress.step()
    clock.now += 1

    assert first == {"elapsed_ms": 0, "index": 1, "count": 4}
    assert progress.fields() == {
        "elapsed_ms": 11_000, "index": 3, "count": 4, "eta_ms": 9_000,
    }  # fmt: skip


def test_a_budget_ends_it_sooner():
    """Nothing is begun after it, so it takes one more candidate at most."""
    clock = _Clock()
    progress = Progress(clock)
    progress.begin(100, budget_s=20)
    clock.now += 5
    progress.step()

    assert progress.fields()["eta_ms"] == 20_000


def test_it_is_never_less_than_nothing():
    """A candidate may take longer than those before."""
    clock = _Clock()
    progress = Progress(clock)
    progress.begin(3)
    clock.now += 1
    progress.step()
    clock.now += 9

    assert progress.fields()["eta_ms"] == 0


def test_a_search_may_try_more_than_it_planned():
    """The place is never beyond the count, and nothing is said of what is left."""
    clock = _Clock()
    progress = Progress(clock)
    progress.begin(1)
    for _ in range(2):
        clock.now += 1
        progress.step()

    assert progress.fields() == {"elapsed_ms": 2_000, "index": 2, "count": 2}
