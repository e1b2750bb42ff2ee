"""Statements for the rows of a table by their key, built once.

Building an SQLAlchemy statement costs more than running it; what every check-in
needs is therefore built when the module is loaded, with its values left open.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, insert, select, update

_KEY = "key_"


class Rows:
    """Find and write rows of ``table`` by its primary key.

    Only the writer changes a table, so that finding and then writing is safe.
    """

    def __init__(self, table: Table) -> None:
        by_key = and_(*(c == bindparam(_KEY + c.name) for c in table.primary_key))
        rest = (c.name for c in table.columns if not c.primary_key)
        self._find = select(table).where(by_key)
        self._insert = insert(table)
        self._update = (
            update(table).where(by_key).values({name: bindparam(name) for name in rest})
        )

    def find(self, connection: Connection, key: Mapping[str, Any]) -> Any | None:
        """Return the row with ``key``; None if there is none."""
        return connection.execute(self._find, _prefixed(key)).one_or_none()

    def add(
        self, connection: Connection, key: Mapping[str, Any], row: Mapping[str, Any]
    ) -> None:
        """Insert a row; there is none with ``key``."""
        connection.execute(self._insert, {**key, **row})

    def change(
        self, connection: Connection, key: Mapping[str, Any], row: Mapping[str, Any]
    ) -> bool:
        """Give every column outside the key a new value; return whether there was a row."""
        return bool(connection.execute(self._update, {**_prefixed(key), **row}).rowcount)

    def put(
        self, connection: Connection, key: Mapping[str, Any], row: Mapping[str, Any]
    ) -> None:
        """Change the row with ``key``, or add it."""
        if not self.change(connection, key, row):
            self.add(connection, key, row)


def _prefixed(key: Mapping[str, Any]) -> dict[str, Any]:
    return {_KEY + name: value for name, value in key.items()}
