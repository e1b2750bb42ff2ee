"""The monitor: nothing is lost and nothing counted twice, from any number of threads."""

import threading

from edgewright.monitor.latency import Monitor


def test_counts_are_what_happened():
    """Each outcome has its count, and durations become microseconds."""
    monitor = Monitor()
    monitor.answered(10.0, 10.001)
    monitor.answered(11.0, 11.003)
    monitor.failed()
    monitor.late()
    monitor.late()
    monitor.impatient()
    monitor.refused()

    seen = monitor.snapshot()

    assert (seen.answered, seen.failed, seen.late, seen.refused) == (2, 1, 2, 1)
    assert seen.impatient == 1
    assert 990 <= seen.quantile_us(0) <= 1010
    assert 2970 <= seen.quantile_us(1) <= 3030
    assert seen.completed_monotonic_s == 11.003


def test_a_snapshot_is_of_its_moment():
    """What is counted later does not change it, and counts only grow."""
    monitor = Monitor()
    monitor.answered(0.0, 0.001)
    before = monitor.snapshot()
    monitor.answered(1.0, 1.001)

    after = monitor.snapshot()

    assert (before.answered, after.answered) == (1, 2)
    assert before.latency.count == 1


def test_nothing_has_happened_yet():
    """A new monitor says zero, and that nothing was completed."""
    seen = Monitor().snapshot()

    assert seen.answered == 0
    assert seen.completed_monotonic_s == 0.0
    assert seen.quantile_us(0.95) == 0


def test_threads_lose_no_answer():
    """Eight threads answer while a ninth takes snapshots, across many folds."""
    monitor = Monitor()
    done = threading.Event()

    def answer():
        for _ in range(3000):
            monitor.answered(0.0, 0.0001)
            monitor.refused()

    def watch():
        last = 0
        while not done.is_set():
            seen = monitor.snapshot()
            assert seen.answered >= last
            last = seen.answered

    watcher = threading.Thread(target=watch)
    threads = [threading.Thread(target=answer) for _ in range(8)]
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()

    seen = monitor.snapshot()
    assert seen.answered == 8 * 3000
    assert seen.refused == 8 * 3000
