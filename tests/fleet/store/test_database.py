"""Database and Writer: durable, in order, one failure is one caller's."""

import threading

import pytest
from sqlalchemy import insert, select, text

from edgewright.core.errors import ConflictError, StorageError
from edgewright.fleet.store import Database
from edgewright.fleet.store.tables import METADATA, counters


@pytest.fixture
def database(tmp_path):
    """Give an empty database."""
    opened = Database(f"sqlite:///{tmp_path}/fleet.db")
    yield opened
    opened.close()


def add(name, value=1):
    """Return a change that adds one counter and returns its name."""

    def change(connection):
        connection.execute(insert(counters).values(name=name, value=value))
        return name

    return change


def names(database):
    """Return every counter's name."""
    with database.read() as connection:
        return sorted(connection.scalars(select(counters.c.name)))


def test_a_change_is_there_when_its_future_says_so(database):
    """What was answered can be read by others."""
    assert database.write(add("a")).result() == "a"
    assert names(database) == ["a"]


def test_an_error_is_its_callers_alone(database):
    """A change that fails leaves nothing, and its neighbours in the batch stand."""
    hold, go = threading.Event(), threading.Event()

    def wait(_connection):
        hold.set()
        go.wait(5)

    def half(connection):
        connection.execute(insert(counters).values(name="half", value=1))
        raise ConflictError("no")

    first = database.write(wait)
    hold.wait(5)
    futures = [database.write(change) for change in (add("a"), half, add("a"), add("b"))]
    go.set()

    first.result()
    assert futures[0].result() == "a"
    with pytest.raises(ConflictError, match="no"):
        futures[1].result()
    with pytest.raises(StorageError, match="UNIQUE"):
        futures[2].result()
    assert futures[3].result() == "b"
    assert names(database) == ["a", "b"]


def test_changes_of_many_threads_all_arrive(database):
    """Nothing is lost or doubled when many threads write at once."""

    def work(number):
        for index in range(20):
            database.write(add(f"{number}-{index}")).result()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(names(database)) == 160


def test_a_cancelled_change_is_not_made(database):
    """A future cancelled while it waits never runs."""
    hold, go = threading.Event(), threading.Event()

    def wait(_connection):
        hold.set()
        go.wait(5)

    first = database.write(wait)
    hold.wait(5)
    second = database.write(add("a"))
    assert second.cancel()
    go.set()
    first.result()

    assert names(database) == []


def test_readers_cannot_write(database):
    """Only the writer changes anything."""
    with (
        pytest.raises(StorageError, match="readonly"),
        database.read() as connection,
    ):
        connection.execute(insert(counters).values(name="a", value=1))


def test_a_reader_sees_one_moment(database):
    """What is committed while a reader reads does not show to it."""
    with database.read() as connection:
        assert connection.scalar(select(counters.c.name)) is None
        database.write(add("a")).result()
        assert connection.scalar(select(counters.c.name)) is None
    assert names(database) == ["a"]


def test_closing_keeps_what_was_handed_in(tmp_path):
    """Changes that still wait are committed; later ones are refused; twice is fine."""
    url = f"sqlite:///{tmp_path}/fleet.db"
    database = Database(url)
    futures = [database.write(add(str(number))) for number in range(50)]

    database.close()
    database.close()

    assert all(future.done() for future in futures)
    with pytest.raises(StorageError, match="closed"):
        database.write(add("late"))
    again = Database(url)
    assert len(names(again)) == 50
    again.close()


def test_commits_are_synced(database):
    """Every connection has the settings a durable commit needs."""
    with database.read() as connection:
        assert connection.scalar(text("PRAGMA synchronous")) == 2
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
    sync = database.write(lambda c: c.scalar(text("PRAGMA synchronous"))).result()
    assert sync == 2


def test_a_failed_commit_reaches_everyone(database):
    """When the batch cannot be committed, each of its callers hears so."""

    def break_the_transaction(connection):
        connection.exec_driver_sql("ROLLBACK")

    future = database.write(break_the_transaction)

    with pytest.raises(StorageError):
        future.result()
    assert database.write(add("a")).result() == "a"


def test_tables_are_what_the_migrations_make(database):
    """Queries and schema speak of the same tables, columns, keys and nullability."""
    with database.read() as connection:
        for table in METADATA.sorted_tables:
            found = {
                row.name: (bool(row.notnull), bool(row.pk))
                for row in connection.exec_driver_sql(f"PRAGMA table_info({table.name})")
            }
            declared = {c.name: (not c.nullable, c.primary_key) for c in table.columns}
            assert found == declared, table.name
        made = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type='table'")
        assert {row.name for row in made} == set(METADATA.tables)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    """Damage shows at the start, as an error of ours."""
    (tmp_path / "fleet.db").write_bytes(b"not a database at all" * 100)

    with pytest.raises(StorageError, match="not a database"):
        Database(f"sqlite:///{tmp_path}/fleet.db")
