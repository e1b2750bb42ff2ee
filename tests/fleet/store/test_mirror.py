"""mirror: the timestamp last, the old set whole until then, roots for ever."""

from datetime import timedelta

import pytest
from tests.sim.clock import ManualClock

from edgewright.core.errors import StorageError
from edgewright.fleet.store import mirror as module
from edgewright.fleet.store.mirror import TIMESTAMP, mirror, stored

OLD = {
    "1.root.json": b"r",
    "1.targets.json": b"a",
    "targets/x/ab.c.json": b"d",
    TIMESTAMP: b"1",
}
NOW = ManualClock().now()
NEW = {"2.targets.json": b"b", "targets/x/cd.c.json": b"e", TIMESTAMP: b"2"}


def test_the_timestamp_is_written_last(tmp_path):
    """Whatever a device finds through the timestamp is there already."""
    written = mirror(tmp_path / "t", OLD, now=NOW)

    assert written[-1] == TIMESTAMP
    assert stored(tmp_path / "t") == OLD


def test_nothing_new_writes_nothing(tmp_path):
    """A folder that is as wanted is left alone."""
    mirror(tmp_path / "t", OLD, now=NOW)

    assert mirror(tmp_path / "t", OLD, now=NOW) == []


def test_what_was_replaced_stays_a_while(tmp_path):
    """A device in the middle of a refresh still finds the old files."""
    mirror(tmp_path / "t", OLD, now=NOW)

    mirror(tmp_path / "t", NEW, now=NOW)

    assert stored(tmp_path / "t") == {**OLD, **NEW}


def test_old_files_go_and_roots_stay(tmp_path):
    """After the grace only the set and every root are left."""
    mirror(tmp_path / "t", OLD, now=NOW)

    mirror(tmp_path / "t", NEW, now=NOW, grace_s=0)

    assert stored(tmp_path / "t") == {"1.root.json": b"r", **NEW}


@pytest.fixture
def clock():
    """Time that moves when told."""
    return ManualClock()


@pytest.mark.parametrize("age_s", [0, 10, 10**6])
def test_the_grace_begins_when_a_file_is_no_longer_named(tmp_path, clock, age_s):
    """However long ago it was written: whoever has the old timestamp finds the rest."""
    folder = tmp_path / "t"
    mirror(folder, OLD, now=clock.now(), grace_s=3600)
    clock.advance(age_s)
    mirror(folder, NEW, now=clock.now(), grace_s=3600)
    clock.advance(3599)

    mirror(folder, NEW, now=clock.now(), grace_s=3600)
    before = stored(folder)
    clock.advance(1)
    mirror(folder, NEW, now=clock.now(), grace_s=3600)

    assert before == {**OLD, **NEW}
    assert stored(folder) == {"1.root.json": b"r", **NEW}


def test_a_later_set_gives_no_second_grace(tmp_path, clock):
    """A busy fleet signs every few minutes; what was replaced still goes in its hour."""
    folder = tmp_path / "t"
    mirror(folder, OLD, now=clock.now(), grace_s=3600)
    for number in range(2, 9):
        clock.advance(600)
        files = {f"{number}.targets.json": b"b", TIMESTAMP: b"%d" % number}
        mirror(folder, files, now=clock.now(), grace_s=3600)

    # Replaced after 600 s, 1200 s and so on; it is 4200 s now.
    names = set(stored(folder)) - {"1.root.json", TIMESTAMP}
    assert names == {f"{number}.targets.json" for number in range(2, 9)}


def test_a_file_that_is_named_again_has_its_grace_anew(tmp_path, clock):
    """Going back to an older set and forward again counts from the last time."""
    folder = tmp_path / "t"
    for files in (OLD, NEW, OLD, NEW):
        mirror(folder, files, now=clock.now(), grace_s=3600)
        clock.advance(3000)

    assert set(stored(folder)) == {*OLD, *NEW}
    clock.advance(600)
    mirror(folder, NEW, now=clock.now(), grace_s=3600)
    assert set(stored(folder)) == {"1.root.json", *NEW}


@pytest.mark.parametrize("damage", [b"", b"[1]", b'{"1.targets.json": "x"}', b"\xff"])
def test_a_record_that_cannot_be_read_keeps_what_was_replaced(tmp_path, clock, damage):
    """Counted from now on; nothing a device may still need goes early."""
    folder = tmp_path / "t"
    mirror(folder, OLD, now=clock.now(), grace_s=3600)
    mirror(folder, NEW, now=clock.now(), grace_s=3600)
    (tmp_path / "t.replaced").write_bytes(damage)
    clock.advance(3600)

    mirror(folder, NEW, now=clock.now(), grace_s=3600)
    kept = set(stored(folder))
    clock.advance(3600)
    mirror(folder, NEW, now=clock.now(), grace_s=3600)

    assert kept == {*OLD, *NEW}
    assert set(stored(folder)) == {"1.root.json", *NEW}


def test_a_clock_that_was_ahead_keeps_nothing_for_ever(tmp_path, clock):
    """Once it is set right the grace runs from then."""
    folder = tmp_path / "t"
    mirror(folder, OLD, now=clock.now(), grace_s=3600)
    mirror(folder, NEW, now=clock.now() + timedelta(days=3650), grace_s=3600)
    mirror(folder, NEW, now=clock.now(), grace_s=3600)
    clock.advance(3600)

    mirror(folder, NEW, now=clock.now(), grace_s=3600)

    assert set(stored(folder)) == {"1.root.json", *NEW}


@pytest.mark.parametrize("stop", range(3))
def test_killed_between_two_files(tmp_path, monkeypatch, stop):
    """Stopped before any write, the old timestamp stands, and the next call finishes."""
    mirror(tmp_path / "t", OLD, now=NOW)
    calls = []
    real = module.durable.replace_file

    def failing(path, data):
        if len(calls) == stop:
            raise StorageError("power cut")
        calls.append(path)
        real(path, data)

    monkeypatch.setattr(module.durable, "replace_file", failing)
    with pytest.raises(StorageError):
        mirror(tmp_path / "t", NEW, now=NOW)
    assert (tmp_path / "t" / TIMESTAMP).read_bytes() == b"1"
    monkeypatch.setattr(module.durable, "replace_file", real)

    mirror(tmp_path / "t", NEW, now=NOW)

    assert stored(tmp_path / "t") == {**OLD, **NEW}
    assert not list(tmp_path.rglob("*~"))
