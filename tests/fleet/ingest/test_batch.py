"""fresh: any order of redeliveries counts every number once, and gaps are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.errors import ConflictError, WireError
from edgewright.fleet.ingest.batch import Fresh, fresh
from edgewright.wire.telemetry import SUMMARY, Batch, Event


def batch(low, high, *, lost=()):
    """Return the batch ``low..high`` of a queue whose lost numbers are known."""
    gone = {number for first, last in lost for number in range(first, last + 1)}
    numbers = (number for number in range(low, high + 1) if number not in gone)
    return Batch(
        queue_id="q",
        low=low,
        high=high,
        events=tuple(Event(seq=number, kind=SUMMARY, body={}) for number in numbers),
        lost=tuple(lost),
    )


@st.composite
def deliveries(draw):
    """Draw a queue's length and windows of it, in any order and as often as one likes."""
    length = draw(st.integers(1, 30))
    window = st.tuples(st.integers(1, length), st.integers(1, length)).map(sorted)
    return length, draw(st.lists(window, max_size=20))


@given(deliveries())
def test_every_number_counts_once(drawn):
    """Whatever is redelivered and in whatever order, numbers arrive once and in order."""
    length, windows = drawn
    mark, seen = 0, []

    for low, high in [*windows, (1, length)]:
        if low > mark + 1:
            with pytest.raises(ConflictError, match=f"expected {mark + 1}$"):
                fresh(batch(low, high), mark)
            continue
        new = fresh(batch(low, high), mark)
        seen += [event.seq for event in new.events]
        assert new.high == max(mark, high)
        mark = new.high

    assert seen == list(range(1, length + 1))


@given(deliveries(), st.sets(st.integers(1, 30)))
def test_a_number_is_an_event_or_lost(drawn, gone):
    """A number that was dropped is counted as lost once, and never as an event."""
    length, windows = drawn
    mark, events, lost = 0, [], []

    for low, high in [*windows, (1, length)]:
        ranges = tuple((number, number) for number in sorted(gone) if low <= number <= high)
        if low > mark + 1:
            continue
        new = fresh(batch(low, high, lost=ranges), mark)
        events += [event.seq for event in new.events]
        lost += [number for first, last in new.lost for number in range(first, last + 1)]
        mark = new.high

    assert sorted(events + lost) == list(range(1, length + 1))
    assert set(lost) == {number for number in gone if number <= length}


def test_a_known_batch_brings_nothing():
    """A batch below the mark is acknowledged as it stands."""
    assert fresh(batch(1, 3), 7) == Fresh((), (), 7)


def test_an_overlap_brings_its_end():
    """Of a batch that reaches over the mark, only what is above it is taken."""
    new = fresh(batch(2, 6, lost=((3, 5),)), 4)

    assert [event.seq for event in new.events] == [6]
    assert new.lost == ((5, 5),)
    assert new.high == 6


def test_a_new_queue_begins_anywhere():
    """A queue never seen begins where its first batch does."""
    assert [event.seq for event in fresh(batch(40, 41), None).events] == [40, 41]


def test_an_empty_batch_is_fine():
    """A device with nothing to tell says ``high = low - 1``."""
    assert fresh(batch(8, 7), 7) == Fresh((), (), 7)


@pytest.mark.parametrize(
    "wrong",
    [
        Batch(queue_id="q", low=1, high=2, events=(Event(seq=1, kind="x", body={}),)),
        Batch(queue_id="q", low=1, high=1, events=(Event(seq=2, kind="x", body={}),)),
        Batch(queue_id="q", low=1, high=1, events=(Event(seq=1, kind="x", body={}),) * 2),
        Batch(queue_id="q", low=1, high=3, lost=((1, 2), (2, 3))),
        Batch(queue_id="q", low=1, high=3, lost=((3, 1),)),
        Batch(queue_id="q", low=0, high=0),
        Batch(queue_id="q", low=5, high=3),
        Batch(queue_id="q", low=1, high=1 << 60, lost=((1, 1 << 60),)),
        Batch(queue_id="", low=1, high=0),
        Batch(queue_id="q" * 200, low=1, high=0),
        Batch(
            queue_id="q",
            low=1,
            high=2,
            events=(Event(seq=2, kind="x", body={}), Event(seq=1, kind="x", body={})),
        ),
    ],
)
def test_a_batch_accounts_for_every_number(wrong):
    """A batch whose numbers do not add up is refused as a whole."""
    with pytest.raises(WireError, match=r"batch|accounts"):
        fresh(wrong, None)
