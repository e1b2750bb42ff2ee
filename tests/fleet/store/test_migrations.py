"""migrate: each step once, in order, whole or not at all."""

import pytest
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import OperationalError

from edgewright.core.errors import StorageError
from edgewright.fleet.store.database import _engine
from edgewright.fleet.store.migrations import STEPS, migrate

SECOND = "CREATE TABLE extra (n BIGINT NOT NULL PRIMARY KEY); INSERT INTO extra VALUES (1);"


@pytest.fixture
def engine(tmp_path):
    """Give an engine on an empty database."""
    made = _engine(f"sqlite:///{tmp_path}/x.db", writes=True)
    yield made
    made.dispose()


def test_steps_are_applied_once(engine):
    """A second start applies nothing; a new step is applied alone."""
    assert migrate(engine) == list(range(1, len(STEPS) + 1))
    assert migrate(engine) == []
    assert migrate(engine, steps=(*STEPS, SECOND)) == [len(STEPS) + 1]
    assert migrate(engine, steps=(*STEPS, SECOND)) == []


def test_a_failing_step_leaves_nothing(engine):
    """A step that fails half way is undone, and those before it stand."""
    broken = "CREATE TABLE extra (n BIGINT); INSERT INTO nowhere VALUES (1)"

    with pytest.raises(OperationalError):
        migrate(engine, steps=(*STEPS, broken))

    assert not inspect(engine).has_table("extra")
    assert migrate(engine, steps=(*STEPS, SECOND)) == [len(STEPS) + 1]


def test_a_newer_database_is_refused(engine):
    """An older program does not touch a database it does not know."""
    migrate(engine, steps=(*STEPS, SECOND))

    with pytest.raises(StorageError, match=f"version {len(STEPS) + 1}"):
        migrate(engine)


def test_steps_are_portable():
    """Only types that every database has; nothing only SQLite understands."""
    words = " ".join(STEPS).upper()

    assert "AUTOINCREMENT" not in words
    assert "BLOB" not in words
    assert create_engine("sqlite://").dialect.name == "sqlite"
