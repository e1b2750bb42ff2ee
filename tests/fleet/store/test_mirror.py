"""mirror: the timestamp last, the old set whole until then, roots for ever."""

import pytest

from edgewright.core.errors import StorageError
from edgewright.fleet.store import mirror as module
from edgewright.fleet.store.mirror import TIMESTAMP, mirror, stored

OLD = {
    "1.root.json": b"r",
    "1.targets.json": b"a",
    "targets/x/ab.c.json": b"d",
    TIMESTAMP: b"1",
}
NEW = {"2.targets.json": b"b", "targets/x/cd.c.json": b"e", TIMESTAMP: b"2"}


def test_the_timestamp_is_written_last(tmp_path):
    """Whatever a device finds through the timestamp is there already."""
    written = mirror(tmp_path, OLD)

    assert written[-1] == TIMESTAMP
    assert stored(tmp_path) == OLD


def test_nothing_new_writes_nothing(tmp_path):
    """A folder that is as wanted is left alone."""
    mirror(tmp_path, OLD)

    assert mirror(tmp_path, OLD) == []


def test_what_was_replaced_stays_a_while(tmp_path):
    """A device in the middle of a refresh still finds the old files."""
    mirror(tmp_path, OLD)

    mirror(tmp_path, NEW)

    assert stored(tmp_path) == {**OLD, **NEW}


def test_old_files_go_and_roots_stay(tmp_path):
    """After the grace only the set and every root are left."""
    mirror(tmp_path, OLD)

    mirror(tmp_path, NEW, grace_s=-1.0)

    assert stored(tmp_path) == {"1.root.json": b"r", **NEW}


@pytest.mark.parametrize("stop", range(3))
def test_killed_between_two_files(tmp_path, monkeypatch, stop):
    """Stopped before any write, the old timestamp stands, and the next call finishes."""
    mirror(tmp_path, OLD)
    calls = []
    real = module.durable.replace_file

    def failing(path, data):
        if len(calls) == stop:
            raise StorageError("power cut")
        calls.append(path)
        real(path, data)

    monkeypatch.setattr(module.durable, "replace_file", failing)
    with pytest.raises(StorageError):
        mirror(tmp_path, NEW)
    assert (tmp_path / TIMESTAMP).read_bytes() == b"1"
    monkeypatch.setattr(module.durable, "replace_file", real)

    mirror(tmp_path, NEW)

    assert stored(tmp_path) == {**OLD, **NEW}
    assert not list(tmp_path.rglob("*~"))
