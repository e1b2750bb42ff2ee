"""audit: rows follow each other, and any change of what stands shows."""

import pytest
from sqlalchemy import delete, insert, select, update

from edgewright.fleet import audit
from edgewright.fleet.store import Database, tables


@pytest.fixture
def database(tmp_path):
    """Give a database with five rows of audit."""
    opened = Database(f"sqlite:///{tmp_path}/fleet.db")

    def fill(connection):
        for number in range(5):
            entry = audit.Entry("server", "test", f"thing-{number}", {"number": number})
            audit.append(connection, entry, at_ms=1000 + number)

    opened.write(fill).result()
    yield opened
    opened.close()


def broken_at(database, change):
    """Apply ``change`` and return where the audit is found to be damaged."""
    database.write(lambda c: c.execute(change)).result()
    with database.read() as connection:
        return audit.damaged(connection)


def test_rows_are_numbered_without_gaps(database):
    """Rows come back in order, page by page."""
    with database.read() as connection:
        first = audit.rows(connection, limit=3)
        rest = audit.rows(connection, after=3)
        assert audit.damaged(connection) is None

    assert [row["seq"] for row in first + rest] == [1, 2, 3, 4, 5]
    assert first[0]["object"] == "thing-0"
    assert len({row["sha256"] for row in first + rest}) == 5


@pytest.mark.parametrize("column", [c.name for c in tables.audit.columns if c.name != "seq"])
def test_a_changed_row_shows(database, column):
    """Every column of every row is sealed."""
    value = 7 if column.endswith("_ms") else "changed"
    table = tables.audit

    assert (
        broken_at(database, update(table).where(table.c.seq == 3).values({column: value})) == 3
    )


def test_a_missing_row_shows(database):
    """A row that is gone is missed where it stood."""
    assert broken_at(database, delete(tables.audit).where(tables.audit.c.seq == 2)) == 2


def test_two_exchanged_rows_show(database):
    """The order is sealed with the rows."""
    table = tables.audit
    with database.read() as connection:
        second, third = (
            dict(row._mapping)
            for row in connection.execute(select(table).where(table.c.seq.in_([2, 3])))
        )
    second["seq"], third["seq"] = 3, 2

    def exchange(connection):
        connection.execute(delete(table).where(table.c.seq.in_([2, 3])))
        connection.execute(insert(table), [second, third])

    database.write(exchange).result()

    with database.read() as connection:
        assert audit.damaged(connection) == 2


def test_a_row_is_not_there_without_its_change(database):
    """A change that fails takes its audit row with it."""

    def half(connection):
        audit.append(connection, audit.Entry("server", "test", "x", {}), at_ms=1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        database.write(half).result()

    with database.read() as connection:
        assert len(audit.rows(connection)) == 5
