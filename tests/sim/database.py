"""A SQLite that refuses a commit, as a full or failing disk makes it do."""

import sqlite3
from collections.abc import Iterable
from typing import Any


class Refusing:
    """A connection whose commits fail at the numbers given (from 1), unwritten.

    Attributes:
        commits: How many were asked for, those that failed included.
    """

    def __init__(self, database: sqlite3.Connection, at: Iterable[int]) -> None:
        self._database, self._at = database, set(at)
        self.commits = 0

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        """Run one statement, unless it is a commit that has to fail."""
        if statement == "COMMIT":
            self.commits += 1
            if self.commits in self._at:
                raise sqlite3.OperationalError("disk I/O error")
        return self._database.execute(statement, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)
