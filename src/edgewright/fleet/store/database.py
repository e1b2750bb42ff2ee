"""One database: many readers, and one writer that commits many changes at once.

A commit that is durable costs one fsync whether it holds one change or two
hundred. While one batch is being synced the next gathers, so the batch grows
with the load and nothing waits for a timer. Each change runs in a savepoint of
its own: what it raises reaches its caller alone, and the others are kept.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from edgewright.core.errors import StorageError
from edgewright.fleet.store.migrations import migrate

T = TypeVar("T")
Change = Callable[[Connection], T]

_BATCH = 256
_READERS = 8
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=10000",
)


class Database:
    """The control plane's database.

    Args:
        url: An SQLAlchemy URL; ``sqlite:///PATH`` by default. Missing tables are made.

    Raises:
        StorageError: It cannot be opened, or is newer than this program.
    """

    def __init__(self, url: str) -> None:
        self._writing = _engine(url, writes=True)
        self._reading = _engine(url, writes=False)
        try:
            migrate(self._writing)
        except SQLAlchemyError as error:
            self._dispose()
            raise _refused(error) from error
        except StorageError:
            self._dispose()
            raise
        self.writer = Writer(self._writing)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one commit and cannot write.

        Raises:
            StorageError: The database cannot be read.
        """
        try:
            with self._reading.connect() as connection, connection.begin():
                yield connection
        except DBAPIError as error:
            raise _refused(error) from error

    def write(self, change: Change[T]) -> "Future[T]":
        """Hand ``change`` to the writer; the future resolves once it is durable."""
        return self.writer.submit(change)

    def close(self) -> None:
        """Finish what was handed in, then close every connection; twice is fine."""
        self.writer.close()
        self._dispose()

    def _dispose(self) -> None:
        self._reading.dispose()
        self._writing.dispose()


class Writer:
    """The one thread that changes the database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, change: Change[T]) -> "Future[T]":
        """Queue ``change``; it is called once, in the order of submission.

        The future gives what it returned after the commit that holds it is
        durable, or what it raised, or ``StorageError`` when the commit failed.

        Raises:
            StorageError: The writer is closed.
        """
        future: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise StorageError("the store is closed")
            self._jobs.put(_Job(change, cast("Future[Any]", future)))
        return future

    @property
    def depth(self) -> int:
        """How many changes wait."""
        return self._jobs.qsize()

    def close(self) -> None:
        """Commit what was submitted and stop; twice is fine."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            batch, going = self._gather()
            if batch:
                self._commit(batch)

    def _gather(self) -> "tuple[list[_Job], bool]":
        """Wait for one change and take all that wait with it; False when it was the last."""
        batch: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            if job.future.set_running_or_notify_cancel():
                batch.append(job)
            if len(batch) >= _BATCH:
                return batch, True
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _commit(self, batch: "list[_Job]") -> None:
        try:
            with self._engine.connect() as connection, connection.begin():
                outcomes = [job.attempt(connection) for job in batch]
        except SQLAlchemyError as error:
            refused = _refused(error)
            for job in batch:
                job.future.set_exception(refused)
            return
        for job, outcome in zip(batch, outcomes, strict=True):
            if outcome.error is not None:
                job.future.set_exception(outcome.error)
            else:
                job.future.set_result(outcome.value)


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    change: Change[Any]
    future: "Future[Any]"

    def attempt(self, connection: Connection) -> _Outcome:
        """Run the change in a savepoint; a database error in it is ours."""
        try:
            with connection.begin_nested():
                return _Outcome(value=self.change(connection))
        except DBAPIError as error:
            return _Outcome(error=_refused(error))
        except Exception as error:  # noqa: BLE001  handed to its caller, as executors do
            return _Outcome(error=error)


def _engine(url: str, *, writes: bool) -> Engine:
    size = 1 if writes else _READERS
    engine = create_engine(url, poolclass=QueuePool, pool_size=size, max_overflow=0)
    if make_url(url).get_backend_name() == "sqlite":
        begin = "BEGIN IMMEDIATE" if writes else "BEGIN"

        # The driver would begin transactions only before some statements.
        @event.listens_for(engine, "connect")
        def _open(raw: Any, _record: object) -> None:
            raw.isolation_level = None
            for pragma in _PRAGMAS:
                raw.execute(pragma)
            if not writes:
                raw.execute("PRAGMA query_only=ON")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

    return engine


def _refused(error: SQLAlchemyError) -> StorageError:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return StorageError(
        f"the database refused: {cause}",
        hint="Is there space left on its disk, and is it on a local file system?",
    )
