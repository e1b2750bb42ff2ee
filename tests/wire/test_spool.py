"""Spool: the ledger holds whatever happens, in whatever order, and nothing is told twice."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.sim.database import Refusing

from edgewright.core.errors import StorageError
from edgewright.wire.spool import MIN_LIMIT_BYTES, Spool
from edgewright.wire.telemetry import FEEDBACK, PROBLEM, SUMMARY, Ack

KINDS = (SUMMARY, PROBLEM, FEEDBACK)


@pytest.fixture
def spool(tmp_path):
    """A new queue with the smallest share there is."""
    made = Spool(tmp_path / "spool.db", limit_bytes=MIN_LIMIT_BYTES)
    yield made
    made.close()


class Queue(RuleBasedStateMachine):
    """Any interleaving of what a supervisor does, against a list in memory."""

    folder: Path
    count = 0

    @initialize()
    def begin(self):
        """Open an empty queue."""
        Queue.count += 1
        self.path = self.folder / f"{Queue.count}.db"
        self.spool = Spool(self.path, limit_bytes=MIN_LIMIT_BYTES)
        self.offered = []
        self.told = {}
        self.lost = set()
        self.mark = 0

    @rule(kind=st.sampled_from(KINDS), size=st.sampled_from([1, 2_000, 20_000]))
    def append(self, kind, size):
        """Add one event."""
        seq = self.spool.append(kind, {"n": len(self.offered), "pad": "x" * size})
        self.offered.append((kind, len(self.offered)))
        assert seq == len(self.offered)

    @rule(count=st.integers(1, 40))
    def append_many(self, count):
        """Add several events in as many commits as they need."""
        bodies = [
            (SUMMARY, {"n": len(self.offered) + i, "pad": "x" * 3_000}) for i in range(count)
        ]
        assert self.spool.append_all(bodies) == count
        self.offered += [(SUMMARY, len(self.offered) + i) for i in range(count)]

    @rule(limit=st.integers(1, 50), lose_ack=st.booleans())
    def deliver(self, limit, lose_ack):
        """Send a batch; the server applies it once, and its answer may be lost."""
        batch = self.spool.peek(limit, limit_bytes=64_000)
        assert batch.low == self.mark_at_device() + 1
        covered = {event.seq for event in batch.events}
        for low, high in batch.lost:
            covered |= set(range(low, high + 1))
        assert covered == set(range(batch.low, batch.high + 1))
        assert [event.seq for event in batch.events] == sorted(e.seq for e in batch.events)
        for event in batch.events:
            if event.seq > self.mark:
                assert event.seq not in self.told
                self.told[event.seq] = (event.kind, event.body["n"])
        for low, high in batch.lost:
            self.lost |= {seq for seq in range(low, high + 1) if seq > self.mark}
        self.mark = max(self.mark, batch.high)
        if not lose_ack:
            self.spool.acknowledge(Ack(queue_id=batch.queue_id, high=self.mark))

    @rule()
    def reopen(self):
        """Stop and start again."""
        self.spool.close()
        self.spool = Spool(self.path, limit_bytes=MIN_LIMIT_BYTES)
        assert self.spool.damage == ""

    @rule(high=st.integers(-3, 3))
    def stray_acknowledgement(self, high):
        """An old acknowledgement, or one of another queue, changes nothing."""
        before = self.spool.ledger()
        self.spool.acknowledge(Ack(queue_id="another", high=10**6))
        self.spool.acknowledge(Ack(queue_id=self.spool.queue_id, high=min(high, 0)))
        assert self.spool.ledger() == before

    def mark_at_device(self):
        """Return up to where the device knows that the server has it."""
        return self.spool._counter("acknowledged")

    @precondition(lambda self: hasattr(self, "spool"))
    @invariant()
    def the_ledger_balances(self):
        """No event is unaccounted for, none is counted twice."""
        ledger = self.spool.ledger()
        assert ledger.balanced
        assert ledger.offered == len(self.offered)
        assert ledger.delivered <= len(self.told)

    @precondition(lambda self: hasattr(self, "spool"))
    @invariant()
    def the_share_holds(self):
        """Database and log together stay within a tenth of what was allowed."""
        assert self.spool.size_bytes() <= 1.1 * MIN_LIMIT_BYTES

    def teardown(self):
        """Deliver the rest: then every event was told once, or named as lost."""
        if not hasattr(self, "spool"):
            return
        while self.spool.ledger().queued or self.mark < len(self.offered):
            self.deliver(limit=100, lose_ack=False)
        everything = set(range(1, len(self.offered) + 1))
        assert set(self.told) | self.lost == everything
        assert not set(self.told) & self.lost
        for seq, event in self.told.items():
            assert event == self.offered[seq - 1]
        self.spool.close()


@pytest.mark.slow
def test_any_interleaving_keeps_the_ledger(tmp_path):
    """Append, deliver, lose acknowledgements, evict, reopen: all accounted for, in order."""
    Queue.folder = tmp_path
    run_state_machine_as_test(
        Queue,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_transition_is_told_once(spool):
    """The same transition again, or an older one, adds nothing."""
    first = spool.append_transition(3, {"what": "staged"})
    again = spool.append_transition(3, {"what": "staged"})
    older = spool.append_transition(2, {"what": "staged"})
    newer = spool.append_transition(4, {"what": "confirmed"})

    assert (first, again, older, newer) == (True, False, False, True)
    assert [event.body["what"] for event in spool.peek(9).events] == ["staged", "confirmed"]
    assert spool.transition == 4


def test_summaries_go_first_and_feedback_last(spool):
    """When the share is full, what steers rollouts outlives what draws curves."""
    spool.append_all([(FEEDBACK, {"pad": "f" * 500})] * 20)
    spool.append_all([(PROBLEM, {"pad": "p" * 500})] * 20)

    spool.append_all([(SUMMARY, {"pad": "s" * 2_000})] * 400)

    kinds = [event.kind for event in spool.peek(10_000, limit_bytes=1 << 30).events]
    assert kinds.count(FEEDBACK) == kinds.count(PROBLEM) == 20
    assert 0 < kinds.count(SUMMARY) < 400


def test_a_summary_never_evicts_feedback(spool):
    """In a queue full of feedback a new summary is what is lost."""
    spool.append_all([(FEEDBACK, {"pad": "f" * 3_000})] * 60)
    feedback = spool.ledger().queued

    spool.append(SUMMARY, {"pad": "s" * 20_000})

    assert spool.ledger().queued == feedback
    assert spool.peek(1_000, limit_bytes=1 << 30).lost[-1][1] == spool.last


def test_lost_ranges_are_merged(spool):
    """A long outage is a few ranges, not one for each eviction."""
    for _ in range(30):
        spool.append_all([(SUMMARY, {"pad": "s" * 3_000})] * 20)

    lost = spool.peek(10_000, limit_bytes=1 << 30).lost

    assert len(lost) == 1
    assert lost[0][0] == 1
    assert lost[0][1] == spool.ledger().lost


def test_what_is_under_way_is_not_evicted(spool):
    """A batch that was taken stays as it is until it is acknowledged."""
    spool.append_all([(SUMMARY, {"n": n, "pad": "s" * 1_000}) for n in range(10)])
    batch = spool.peek(10)
    spool.append_all([(SUMMARY, {"pad": "s" * 3_000})] * 300)

    delivered = spool.acknowledge(Ack(queue_id=batch.queue_id, high=batch.high))

    assert delivered == 10
    assert spool.ledger().lost > 0
    assert spool.ledger().balanced


def test_an_event_larger_than_the_share_is_lost_and_said(spool):
    """What can never fit is counted as lost rather than refused or forgotten."""
    spool.append(FEEDBACK, {"pad": "x" * MIN_LIMIT_BYTES})

    batch = spool.peek(10)

    assert (batch.events, batch.lost) == ((), ((1, 1),))


def test_a_batch_ends_where_its_bytes_do(spool):
    """A batch holds at least one event and stops before it grows too large."""
    spool.append_all([(SUMMARY, {"pad": "s" * 1_000})] * 10)

    assert len(spool.peek(10, limit_bytes=100).events) == 1
    assert len(spool.peek(10, limit_bytes=3_500).events) == 3
    assert len(spool.peek(4).events) == 4


def test_an_empty_queue_has_nothing_to_tell(spool):
    """The batch of an empty queue ends before it begins."""
    batch = spool.peek(10)

    assert (batch.low, batch.high, batch.events) == (1, 0, ())


def test_sequence_numbers_grow_over_restarts(tmp_path):
    """A check-in never repeats a number, also when the queue's file was lost."""
    first = Spool(tmp_path / "spool.db")
    numbers = [first.next_sequence(), first.next_sequence()]
    first.close()
    second = Spool(tmp_path / "spool.db")
    numbers.append(second.next_sequence())
    second.close()
    time.sleep(0.01)
    (tmp_path / "spool.db").unlink()
    third = Spool(tmp_path / "spool.db")
    numbers.append(third.next_sequence())

    third.skip_sequence()

    numbers.append(third.next_sequence())
    third.close()
    assert numbers == sorted(set(numbers))


def test_an_acknowledgement_from_the_future_renews_the_queue(spool):
    """Events the server has and we do not: the disk lost a commit, numbers would repeat."""
    spool.append_all([(SUMMARY, {"n": 1}), (SUMMARY, {"n": 2})])
    old = spool.queue_id

    spool.acknowledge(Ack(queue_id=old, high=7))
    spool.append(SUMMARY, {"n": 3})

    batch = spool.peek(10)
    assert spool.queue_id != old
    assert [(event.seq, event.body["n"]) for event in batch.events] == [(1, 3)]
    assert spool.ledger().balanced


@pytest.mark.parametrize("damage", ["garbage", "truncated", "flipped", "other tables"])
def test_a_damaged_file_is_set_aside(tmp_path, damage):
    """A queue that cannot be read is kept for a person, and a new one begins."""
    path = tmp_path / "spool.db"
    spool = Spool(path)
    spool.append_all([(FEEDBACK, {"pad": "f" * 900})] * 100)
    old = spool.queue_id
    spool.close()
    data = bytearray(path.read_bytes())
    if damage == "garbage":
        data = bytearray(os.urandom(4096))
    elif damage == "truncated":
        del data[4096 * 3 :]
    elif damage == "flipped":
        data[4096:] = bytes(byte ^ 0xFF for byte in data[4096:])
    path.write_bytes(data)
    if damage == "other tables":
        path.unlink()
        _other_database(path)

    renewed = Spool(path)

    renewed.append(FEEDBACK, {})
    assert renewed.damage
    assert renewed.queue_id != old
    assert renewed.ledger().offered == 1
    assert path.with_name("spool.db.damaged").exists()
    renewed.close()


def _other_database(path):
    import sqlite3  # noqa: PLC0415  only to make what is not a queue

    database = sqlite3.connect(path)
    database.execute("CREATE TABLE something (a)")
    database.commit()
    database.close()


def test_bad_arguments_are_value_errors(tmp_path, spool):
    """A share nothing fits into, and an unknown kind, are the caller's mistakes."""
    with pytest.raises(ValueError, match="at least"):
        Spool(tmp_path / "other.db", limit_bytes=1000)
    with pytest.raises(ValueError, match="unknown kind"):
        spool.append("gossip", {})

    assert spool.ledger().offered == 0


def test_a_closed_queue_refuses(tmp_path):
    """What SQLite raises becomes our error."""
    spool = Spool(tmp_path / "spool.db")
    spool.close()
    spool.close()

    with pytest.raises(StorageError):
        spool.append(SUMMARY, {})


@pytest.mark.parametrize("at", range(1, 6))
def test_a_refused_commit_leaves_what_was_taken_and_what_was_not(tmp_path, at):
    """Whichever commit fails: offering again what was not taken adds every event once."""
    spool = Spool(tmp_path / "spool.db", limit_bytes=4 * MIN_LIMIT_BYTES)
    spool._database = disk = Refusing(spool._database, [at])
    bodies = [(SUMMARY, {"n": n, "pad": "s" * 50_000}) for n in range(8)]

    left, refusals = bodies, 0
    while left:
        try:
            taken = spool.append_all(left)
        except StorageError:
            taken = 0
        refusals += taken < len(left)
        left = left[taken:]
        assert spool.last == len(bodies) - len(left)
        assert spool.ledger().balanced

    events = spool.peek(100, limit_bytes=1 << 30).events
    assert disk.commits == 4 + refusals
    assert refusals == (at <= 4)
    assert [(event.seq, event.body["n"]) for event in events] == [
        (n + 1, n) for n in range(len(bodies))
    ]
    spool.close()


def test_a_refused_single_event_was_not_taken(spool):
    """It is an error, and the number goes to the next one."""
    spool._database = Refusing(spool._database, [1])

    with pytest.raises(StorageError, match="disk I/O error"):
        spool.append(FEEDBACK, {"n": 1})

    assert spool.append(FEEDBACK, {"n": 2}) == 1
    assert spool.ledger().offered == 1


@pytest.mark.slow
def test_a_kill_loses_nothing_that_was_promised(tmp_path):
    """After SIGKILL at any moment every number that was printed is in the queue, once."""
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from edgewright.wire.spool import Spool
        from edgewright.wire.telemetry import Ack
        spool = Spool(Path(sys.argv[1]))
        while True:
            spool.append_all([("summary", {"n": n}) for n in range(3)])
            seq = spool.last
            sys.stdout.write(f"{seq}\\n")
            sys.stdout.flush()
            if seq % 4 == 0:
                batch = spool.peek(2)
                spool.acknowledge(Ack(queue_id=batch.queue_id, high=batch.high))
        """
    )
    path = tmp_path / "spool.db"
    promised = 0
    for round_ in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
        )
        promised = int(child.stdout.readline())
        time.sleep(0.02 * round_)
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        child.wait()
        child.stdout.close()
        promised = int(rest[-1]) if rest else promised

        spool = Spool(path)
        ledger, batch = spool.ledger(), spool.peek(100_000, limit_bytes=1 << 30)
        spool.close()

        assert spool.damage == ""
        assert ledger.balanced
        assert ledger.offered >= promised
        assert [event.seq for event in batch.events] == list(range(batch.low, batch.high + 1))


def test_a_loss_that_grew_while_it_was_told_goes_on_from_the_mark(tmp_path):
    """What is lost after a batch was taken is told in the next one, and only that."""
    spool = Spool(tmp_path / "spool.db", limit_bytes=MIN_LIMIT_BYTES)
    too_large = {"text": "x" * 100_000}  # for so small a share: lost at once
    spool.append(SUMMARY, too_large)
    taken = spool.peek(10)
    spool.append(SUMMARY, too_large)
    spool.acknowledge(Ack(queue_id=taken.queue_id, high=taken.high))

    after = spool.peek(10)
    spool.close()

    assert (taken.high, taken.lost) == (1, ((1, 1),))
    assert (after.low, after.high, after.lost) == (2, 2, ((2, 2),))
