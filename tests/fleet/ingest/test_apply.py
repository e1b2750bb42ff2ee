"""apply: the tables after any redelivery are those of one delivery."""

from collections import Counter
from contextlib import contextmanager

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from tests.sim.plane import NOW, summary

from edgewright.core.errors import ConflictError, WireError
from edgewright.fleet import ingest
from edgewright.fleet.ingest.apply import MALFORMED, UNKNOWN
from edgewright.fleet.store import Database, tables
from edgewright.monitor.sketch import Sketch
from edgewright.wire import feedback
from edgewright.wire.telemetry import FEEDBACK, PROBLEM, SUMMARY, Ack, Batch, Event

DEVICE = "dev-a"
OLD, NEW = (f"sha256:{digit * 64}" for digit in "ab")


@pytest.fixture
def database(tmp_path):
    """Give an empty database."""
    opened = Database(f"sqlite:///{tmp_path}/fleet.db")
    yield opened
    opened.close()


@contextmanager
def tried(database):
    """Give a connection whose changes are undone at the end."""
    with database._writing.connect() as connection:
        transaction = connection.begin()
        yield connection
        transaction.rollback()


def told(transition, what, digest, **fields):
    """Return the body of a feedback."""
    return {
        "transition": transition,
        "at": NOW,
        "what": what,
        "release": "digits@1",
        "digest": digest,
        **fields,
    }


EVENTS = st.one_of(
    st.builds(
        lambda digest, answered, failed, bucket: (
            SUMMARY,
            summary("r@1", digest, answered=answered, failed=failed, latency={bucket: 3}),
        ),
        st.sampled_from([OLD, NEW]),
        st.integers(0, 100),
        st.integers(0, 5),
        st.sampled_from(["0", "7", "200"]),
    ),
    st.builds(
        lambda number, what: (FEEDBACK, told(number, what, NEW)),
        st.integers(1, 6),
        st.sampled_from([feedback.STAGED, feedback.CONFIRMED, feedback.REVERTED]),
    ),
    st.just((PROBLEM, {"code": "transport_error", "message": "no answer"})),
    st.just(("mood", {"good": True})),
    st.just((SUMMARY, {"not": "a summary"})),
)


def batch_of(events, low, high, lost=frozenset(), queue_id="q"):
    """Return ``low..high`` of a queue; numbers in ``lost`` are dropped."""
    numbers = range(low, high + 1)
    return Batch(
        queue_id=queue_id,
        low=low,
        high=high,
        events=tuple(
            Event(seq=n, kind=events[n - 1][0], body=events[n - 1][1])
            for n in numbers
            if n not in lost
        ),
        lost=tuple((n, n) for n in numbers if n in lost),
    )


def everything(connection):
    """Return every row ingest writes, moments left out."""
    found = {}
    for table in ("queues", "losses", "tallies", "feedback", "outcomes", "problems"):
        rows = connection.execute(select(tables.METADATA.tables[table])).mappings()
        found[table] = sorted(
            str({k: v for k, v in row.items() if not k.endswith("_ms")}) for row in rows
        )
    found["audit"] = len(connection.execute(select(tables.audit)).all())
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    events=st.lists(EVENTS, min_size=1, max_size=15),
    lost=st.sets(st.integers(1, 15)),
    chance=st.randoms(use_true_random=False),
)
def test_any_redelivery_counts_once(database, events, lost, chance):
    """Cut, repeated and overlapping batches end in the tables of one whole delivery."""
    last = len(events)
    with tried(database) as connection:
        ingest.apply(connection, DEVICE, batch_of(events, 1, last, lost), at_ms=5)
        once = everything(connection)

    with tried(database) as connection:
        mark = 0
        while mark < last:
            low = chance.randint(1, mark + 1)
            high = chance.randint(low, last)
            sent = batch_of(events, low, high, lost)
            for _ in range(chance.randint(1, 3)):
                ack = ingest.apply(connection, DEVICE, sent, at_ms=7)
            mark = max(mark, high)
            assert ack == Ack(queue_id="q", high=mark)
        often = everything(connection)

    assert often == once


def test_summaries_add_up(database):
    """Counts add, sketches merge, per device and bundle; other devices are others."""
    events = [
        (SUMMARY, summary("r@1", OLD, answered=10, failed=1, late=2, refused=3)),
        (SUMMARY, summary("r@2", NEW, answered=5, latency={"7": 5})),
        (SUMMARY, summary("r@1", OLD, answered=20, latency={"200": 18, "7": 2})),
    ]

    def change(connection):
        ingest.apply(connection, DEVICE, batch_of(events, 1, 2), at_ms=1)
        ingest.apply(connection, DEVICE, batch_of(events, 3, 3), at_ms=2)
        ingest.apply(connection, "dev-b", batch_of(events, 1, 1), at_ms=3)

    database.write(change).result()

    with database.read() as connection:
        rows = {
            (row.device, row.digest): row for row in connection.execute(select(tables.tallies))
        }
    mine = rows[DEVICE, OLD]
    assert (mine.answered, mine.failed, mine.late, mine.refused) == (30, 1, 2, 3)
    assert msgspec.json.decode(mine.latency_json) == {"7": 2, "200": 28}
    assert (mine.since_ms, mine.until_ms) == (1, 2)
    assert Sketch.from_wire(msgspec.json.decode(mine.latency_json)).count == 30
    assert rows[DEVICE, NEW].answered == 5
    assert rows["dev-b", OLD].answered == 10


def test_the_newest_feedback_is_the_outcome(database):
    """Each transition is kept, the outcome is the last of them, each is audited."""
    events = [
        (FEEDBACK, told(1, feedback.ACTIVATED, NEW)),
        (FEEDBACK, told(2, feedback.REVERTED, NEW, reason="p95 9 ms is over 5 ms")),
    ]

    database.write(lambda c: ingest.apply(c, DEVICE, batch_of(events, 1, 2), at_ms=1)).result()

    with database.read() as connection:
        assert len(connection.execute(select(tables.feedback)).all()) == 2
        outcome = connection.execute(select(tables.outcomes)).one()
        assert (outcome.what, outcome.reason) == (feedback.REVERTED, "p95 9 ms is over 5 ms")
        audited = connection.execute(select(tables.audit.c.action)).scalars().all()
    assert audited == ["device.activated", "device.reverted"]


def test_a_transition_told_again_is_not_new(database):
    """A device whose queue was lost tells a transition again; a reborn one counts anew."""
    told_once = (FEEDBACK, told(1, feedback.CONFIRMED, NEW))
    reborn = (FEEDBACK, {**told(1, feedback.CONFIRMED, NEW), "at": "2027-01-01T00:00:00Z"})

    def change(connection):
        for queue, event in (("q", told_once), ("p", told_once), ("o", reborn)):
            sent = batch_of([event], 1, 1, queue_id=queue)
            ingest.apply(connection, DEVICE, sent, at_ms=1)

    database.write(change).result()

    with database.read() as connection:
        assert len(connection.execute(select(tables.feedback)).all()) == 2
        assert len(connection.execute(select(tables.queues)).all()) == 3


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        (SUMMARY, {"answered": 1}, MALFORMED),
        (SUMMARY, summary("r@1", "no digest"), MALFORMED),
        (SUMMARY, summary("r@1", OLD, answered=-1), MALFORMED),
        (SUMMARY, summary("r@1", OLD, answered=1 << 70), MALFORMED),
        (SUMMARY, summary("r@1", OLD, latency={"x": 1}), MALFORMED),
        (SUMMARY, summary("r@1", OLD, latency={"7": -1}), MALFORMED),
        (SUMMARY, summary("x" * 3000, OLD), MALFORMED),
        (FEEDBACK, told(1 << 70, feedback.STAGED, OLD), MALFORMED),
        (FEEDBACK, told(1, feedback.STAGED, "sha256:short"), MALFORMED),
        (FEEDBACK, told(1, "x" * 3000, OLD), MALFORMED),
        (PROBLEM, {"code": 3}, MALFORMED),
        ("mood", {}, UNKNOWN),
    ],
)
def test_an_event_nobody_can_read_is_a_problem(database, kind, body, code):
    """It is counted and acknowledged, since refusing it would bring it back for ever."""
    events = [(kind, body), (SUMMARY, summary("r@1", NEW, answered=4))]

    ack = database.write(
        lambda c: ingest.apply(c, DEVICE, batch_of(events, 1, 2), at_ms=1)
    ).result()

    assert ack.high == 2
    with database.read() as connection:
        problem = connection.execute(select(tables.problems)).one()
        tallies = connection.execute(select(tables.tallies)).all()
        queue = connection.execute(select(tables.queues)).one()
    assert (problem.code, problem.count) == (code, 1)
    assert [row.answered for row in tallies] == [4]
    assert (queue.applied, queue.lost) == (2, 0)


def test_a_gap_changes_nothing(database):
    """A batch after a gap is refused with the number that is expected."""
    events = [(SUMMARY, summary("r@1", OLD))] * 5
    database.write(lambda c: ingest.apply(c, DEVICE, batch_of(events, 1, 2), at_ms=1)).result()

    with pytest.raises(ConflictError, match="expected 3"):
        database.write(
            lambda c: ingest.apply(c, DEVICE, batch_of(events, 4, 5), at_ms=1)
        ).result()

    with database.read() as connection:
        assert connection.execute(select(tables.queues)).one().high == 2


def test_loss_is_data(database):
    """Lost ranges are kept and counted."""
    sent = Batch(queue_id="q", low=1, high=9, lost=((1, 4), (5, 9)))

    database.write(lambda c: ingest.apply(c, DEVICE, sent, at_ms=1)).result()

    with database.read() as connection:
        ranges = {(r.low, r.high) for r in connection.execute(select(tables.losses))}
        queue = connection.execute(select(tables.queues)).one()
    assert ranges == {(1, 4), (5, 9)}
    assert (queue.high, queue.applied, queue.lost) == (9, 0, 9)


def test_problems_are_counted_by_code(database):
    """A problem that comes often is one row; a device cannot fill the table."""
    events = [(PROBLEM, {"code": f"c{n % 300}", "message": "m" * 9000}) for n in range(600)]

    database.write(
        lambda c: ingest.apply(c, DEVICE, batch_of(events, 1, 600), at_ms=1)
    ).result()

    with database.read() as connection:
        rows = connection.execute(select(tables.problems)).all()
    assert len(rows) == 200
    assert Counter(row.count for row in rows) == {2: 200}
    assert max(len(row.message) for row in rows) == 2000


def test_a_batch_that_does_not_add_up_is_refused(database):
    """The whole batch is refused when its numbers are wrong."""
    with pytest.raises(WireError):
        database.write(
            lambda c: ingest.apply(c, DEVICE, Batch(queue_id="q", low=1, high=2), at_ms=1)
        ).result()
