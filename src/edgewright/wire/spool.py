"""The store-and-forward queue: what a device has to tell, kept until the fleet has it.

Every event gets the next number of one gap-free sequence. It leaves the queue in
one of two ways, delivered (the server said it is durable) or lost (evicted because
the disk share was full, and told as a range), so that at every moment

    offered = delivered + queued + lost

The share is enforced on real pages and the write-ahead log, not on an estimate of
row sizes. One thread owns the queue; each call is durable when it returns.
"""

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgewright.core import durable
from edgewright.core.errors import StorageError
from edgewright.wire.telemetry import FEEDBACK, PROBLEM, SUMMARY, Ack, Batch, Event

DEFAULT_LIMIT_BYTES = 8 << 20
MIN_LIMIT_BYTES = 256 << 10

# An acknowledgement also touches its tables' own pages.
_SPARE_PAGES = 4
_PAGE_BYTES = 4096
_BLOCK_BYTES = 256 << 10
# What is dropped first when the share is full; feedback steers rollouts, so it is last.
_EVICTION = (SUMMARY, PROBLEM, FEEDBACK)
_TABLES = {
    "meta": "(key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "event": "(seq INTEGER PRIMARY KEY, kind TEXT, body BLOB)",
    "lost": "(low INTEGER PRIMARY KEY, high INTEGER)",
}
_COUNTERS = ("last", "acknowledged", "delivered", "lost", "transition", "sequence")


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where every event of this queue went, each counted independently of the others."""

    offered: int
    delivered: int
    queued: int
    lost: int

    @property
    def balanced(self) -> bool:
        """Whether no event is unaccounted for."""
        return self.offered == self.delivered + self.queued + self.lost


class Spool:
    """The queue in ``spool.db``.

    Args:
        path: Of the database; created when it is not there.
        limit_bytes: Share of the disk for database and write-ahead log together.

    Attributes:
        damage: Why the file that was there had to be set aside; empty normally.

    Raises:
        StorageError: The disk refused; so may every method.
        ValueError: ``limit_bytes`` is below ``MIN_LIMIT_BYTES``.
    """

    def __init__(self, path: Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        if limit_bytes < MIN_LIMIT_BYTES:
            raise ValueError(f"limit_bytes must be at least {MIN_LIMIT_BYTES}")
        self._path = path
        # The log holds at most its checkpoint threshold, one commit of ours, and what
        # else that touches; so a commit is kept to the size of the threshold.
        self._wal_pages = min(256, limit_bytes // 8 // _PAGE_BYTES)
        self._limit_pages = limit_bytes // _PAGE_BYTES - 3 * self._wal_pages - _SPARE_PAGES
        self._in_flight = 0
        self.damage = _damage(path)
        if self.damage:
            _set_aside(path)
        self._database = durable.open_database(path)
        try:
            self._prepare()
        except StorageError:
            self._database.close()
            raise

    @property
    def queue_id(self) -> str:
        """The name of this queue, random at its birth."""
        return str(self._value("queue_id"))

    @property
    def last(self) -> int:
        """The number of the last event that was added; 0 before the first."""
        return self._counter("last")

    @property
    def transition(self) -> int:
        """The number of the last transition that was added."""
        return self._counter("transition")

    def append(self, kind: str, body: Any) -> int:
        """Add one event and return its number."""
        encoded = _encode(kind, body)
        with self._transaction():
            return self._insert([(kind, encoded)])

    def append_all(self, events: Sequence[tuple[str, Any]]) -> int:
        """Add events in as few commits as fit, and return how many of them were taken.

        They are taken from the first on. Fewer than all are when the disk refuses after
        a commit; what is left was not taken and is for the caller to offer again.

        Raises:
            StorageError: The disk refused, and none was taken.
        """
        encoded = [(kind, _encode(kind, body)) for kind, body in events]
        taken = 0
        for group in self._groups(encoded):
            try:
                with self._transaction():
                    self._insert(group)
            except StorageError:
                if taken:
                    return taken
                raise
            taken += len(group)
        return taken

    def append_transition(self, number: int, body: Any) -> bool:
        """Add the feedback on one transition unless it was added before.

        Returns:
            Whether it was new; the mark and the event are one commit.
        """
        encoded = _encode(FEEDBACK, body)
        with self._transaction():
            if number <= self._counter("transition"):
                return False
            self._insert([(FEEDBACK, encoded)])
            self._set(transition=number)
            return True

    def peek(self, limit: int, *, limit_bytes: int = 256 << 10) -> Batch:
        """Return the oldest events, at most ``limit`` and about ``limit_bytes``.

        They stay queued, and are not evicted, until they are acknowledged or the
        next batch is taken.
        """
        acknowledged, high = self._counter("acknowledged"), self._counter("last")
        size = 0
        sizes = self._rows(
            "SELECT seq, length(body) FROM event ORDER BY seq LIMIT ?", limit + 1
        )
        for index, (_, length) in enumerate(sizes):
            size += length
            if index == limit or (index and size > limit_bytes):
                high = sizes[index - 1][0] if index else acknowledged
                break
        rows = self._rows(
            "SELECT seq, kind, body FROM event WHERE seq <= ? ORDER BY seq", high
        )
        lost = self._rows("SELECT low, high FROM lost WHERE high <= ? ORDER BY low", high)
        self._in_flight = high
        return Batch(
            queue_id=self.queue_id,
            low=acknowledged + 1,
            high=high,
            events=tuple(
                Event(seq=seq, kind=kind, body=msgspec.json.decode(body))
                for seq, kind, body in rows
            ),
            lost=tuple((bottom, top) for bottom, top in lost),
        )

    def acknowledge(self, ack: Ack) -> int:
        """Drop what the server has made durable; return how many events that were.

        An acknowledgement of another queue, or an old one, changes nothing. One of
        events this queue never had means that the disk lost a commit: numbers would
        be used twice, so what is left moves to a new queue.
        """
        with self._transaction():
            if ack.queue_id != self.queue_id or ack.high <= self._counter("acknowledged"):
                return 0
            dropped = self._rows("DELETE FROM event WHERE seq <= ? RETURNING seq", ack.high)
            self._rows("DELETE FROM lost WHERE high <= ?", ack.high)
            # A range that has grown since the batch was taken is told from here on.
            self._rows("UPDATE lost SET low = ? WHERE low <= ?", ack.high + 1, ack.high)
            delivered = self._counter("delivered") + len(dropped)
            self._set(acknowledged=ack.high, delivered=delivered)
            self._in_flight = 0
            if ack.high > self._counter("last"):
                self._renew()
            return len(dropped)

    def ledger(self) -> Ledger:
        """Return where every event went."""
        return Ledger(
            offered=self._counter("last"),
            delivered=self._counter("delivered"),
            queued=self._queued(),
            lost=self._counter("lost"),
        )

    def next_sequence(self) -> int:
        """Return a number larger than any this device has used for a check-in.

        It begins at milliseconds since 1970 and grows by one, so that a queue born
        after a loss of the old one is not taken for a replay.
        """
        with self._transaction():
            number = self._counter("sequence") + 1
            self._set(sequence=number)
            return number

    def skip_sequence(self) -> None:
        """Jump to the present, after the server said that a number was old."""
        with self._transaction():
            # One more: the earlier life may have begun in this very millisecond.
            self._set(sequence=max(self._counter("sequence"), _milliseconds()) + 1)

    def renew(self) -> None:
        """Move what is queued to a new queue, numbered from 1.

        For a fleet that was set back to an older state and expects numbers that are
        long delivered: it takes a queue it has never seen from wherever it begins.
        """
        with self._transaction():
            self._renew()

    def size_bytes(self) -> int:
        """Return what the queue takes on disk now, its write-ahead log included."""
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """Close the database; twice is fine."""
        self._database.close()

    def _prepare(self) -> None:
        self._rows(f"PRAGMA wal_autocheckpoint={self._wal_pages}")
        self._rows(f"PRAGMA journal_size_limit={self._wal_pages * _PAGE_BYTES}")
        # A resident process of 25 MiB does not keep SQLite's usual 2 MB of pages.
        self._rows("PRAGMA cache_size=-256")
        with self._transaction():
            for name, columns in _TABLES.items():
                self._rows(f"CREATE TABLE IF NOT EXISTS {name} {columns}")
            if not self._rows("SELECT 1 FROM meta WHERE key = 'queue_id'"):
                self._set(**dict.fromkeys(_COUNTERS, 0))
                self._set(queue_id=os.urandom(16).hex(), sequence=_milliseconds())

    def _insert(self, events: Iterable[tuple[str, bytes]]) -> int:
        """Number and store events, making room first; return the last number."""
        last = self._counter("last")
        for kind, body in events:
            last += 1
            if self._make_room(kind, _pages(body)):
                self._rows("INSERT INTO event VALUES (?, ?, ?)", last, kind, body)
            else:
                self._lose([last])
            self._set(last=last)
        return last

    def _make_room(self, kind: str, needed: int) -> bool:
        """Evict what matters no more than ``kind`` until ``needed`` pages fit, if they can."""
        if needed > 2 * self._wal_pages:
            return False
        for lesser in _EVICTION[: _EVICTION.index(kind) + 1]:
            while self._used_pages() + needed > self._limit_pages:
                # A twentieth at a time: few commits, and little lost at once.
                evicted = self._rows(
                    "DELETE FROM event WHERE seq IN (SELECT seq FROM event"
                    " WHERE kind = ? AND seq > ? ORDER BY seq LIMIT ?) RETURNING seq",
                    lesser,
                    self._in_flight,
                    max(1, self._queued() // 20),
                )
                if not evicted:
                    break
                self._lose(sorted(seq for (seq,) in evicted))
        return self._used_pages() + needed <= self._limit_pages

    def _groups(self, events: list[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
        """Yield ``events`` in groups of about one checkpoint's size."""
        group: list[tuple[str, bytes]] = []
        size = 0
        for event in events:
            if group and size + len(event[1]) > self._wal_pages * _PAGE_BYTES:
                yield group
                group, size = [], 0
            group.append(event)
            size += len(event[1])
        if group:
            yield group

    def _used_pages(self) -> int:
        ((pages,),) = self._rows("PRAGMA page_count")
        ((free,),) = self._rows("PRAGMA freelist_count")
        return int(pages) - int(free)

    def _lose(self, numbers: Sequence[int]) -> None:
        """Record evicted numbers as ranges, joined with their neighbours."""
        for low, high in _ranges(numbers):
            neighbours = self._rows(
                "DELETE FROM lost WHERE high = ? OR low = ? RETURNING low, high",
                low - 1,
                high + 1,
            )
            lowest = min([low, *(bottom for bottom, _ in neighbours)])
            highest = max([high, *(top for _, top in neighbours)])
            self._rows("INSERT INTO lost VALUES (?, ?)", lowest, highest)
        self._set(lost=self._counter("lost") + len(numbers))

    def _renew(self) -> None:
        kept = self._rows("SELECT kind, body FROM event ORDER BY seq")
        self._rows("DELETE FROM event")
        self._rows("DELETE FROM lost")
        self._set(queue_id=os.urandom(16).hex(), last=0, acknowledged=0, delivered=0, lost=0)
        self._insert((kind, body) for kind, body in kept)

    def _queued(self) -> int:
        ((count,),) = self._rows("SELECT count(*) FROM event")
        return int(count)

    def _counter(self, key: str) -> int:
        return int(self._value(key))

    def _value(self, key: str) -> Any:
        ((value,),) = self._rows("SELECT value FROM meta WHERE key = ?", key)
        return value

    def _set(self, **values: Any) -> None:
        for key, value in values.items():
            self._rows("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, value)

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement to its end; rows are fetched here, so errors surface here."""
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StorageError(f"{self._path.name}: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit at the end, or leave the queue as it was."""
        self._rows("BEGIN IMMEDIATE")
        try:
            yield
            self._rows("COMMIT")
        finally:
            if self._database.in_transaction:
                self._rows("ROLLBACK")


def _encode(kind: str, body: Any) -> bytes:
    if kind not in _EVICTION:
        raise ValueError(f"unknown kind of event {kind!r}")
    return msgspec.json.encode(body)


def _pages(body: bytes) -> int:
    """Return how many pages an event may add: its own, and one the tree may split."""
    return len(body) // _PAGE_BYTES + 2


def _ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return ascending ``numbers`` as inclusive ranges: 1 2 3 7 is (1, 3) (7, 7)."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _damage(path: Path) -> str:
    """Return what SQLite finds wrong with an existing file; empty when it is sound.

    Raises:
        StorageError: The disk refuses, which says nothing about the file.
    """
    if not path.exists():
        return ""
    try:
        database = durable.open_database(path)
    except StorageError as error:
        if _is_refusal(error.__cause__):
            raise
        return str(error)
    try:
        ((verdict,),) = database.execute("PRAGMA quick_check(1)").fetchall()
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        if verdict == "ok" and names:
            keys = {key for (key,) in database.execute("SELECT key FROM meta")}
            if missing := {"queue_id", *_COUNTERS} - keys or set(_TABLES) - names:
                verdict = f"{', '.join(sorted(missing))} missing"
    except sqlite3.Error as error:
        if _is_refusal(error):
            raise StorageError(f"{path.name}: {error}") from error
        verdict = str(error)
    finally:
        database.close()
    return "" if verdict == "ok" else str(verdict)


def _is_refusal(error: BaseException | None) -> bool:
    """Whether the disk would not let SQLite look, rather than showing it rubbish."""
    if isinstance(error, sqlite3.OperationalError):
        return "no such table" not in str(error)
    return isinstance(error, OSError)


def _set_aside(path: Path) -> None:
    """Keep a damaged database for a person to look at, out of the way."""
    # A disk that cannot even copy it must not keep the queue from starting.
    with suppress(OSError, StorageError), path.open("rb") as file:
        blocks = iter(lambda: file.read(_BLOCK_BYTES), b"")
        durable.replace_file(path.with_name(path.name + ".damaged"), blocks)
    for suffix in ("", "-wal", "-shm"):
        durable.remove(path.with_name(path.name + suffix))


def _milliseconds() -> int:
    return time.time_ns() // 10**6
