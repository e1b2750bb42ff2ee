"""access: the right token with the right scope, and nothing that could be stolen at rest."""

import pytest
from sqlalchemy import select, update

from edgewright.core.errors import AccessError
from edgewright.fleet import access
from edgewright.fleet.access import ENROL, OPERATE
from edgewright.fleet.store import Database, tables


@pytest.fixture
def database(tmp_path):
    """Give an empty database."""
    opened = Database(f"sqlite:///{tmp_path}/fleet.db")
    yield opened
    opened.close()


@pytest.fixture
def secret(database):
    """Give a token of scope operate."""
    made = access.new_secret(OPERATE)
    database.write(lambda c: access.add(c, OPERATE, made, at_ms=1)).result()
    return made


def check(database, header, scope=OPERATE):
    """Return who holds the token of a header."""
    with database.read() as connection:
        return access.check(connection, header, scope)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_holder_of_a_token_is_known(database, secret, scheme):
    """The caller is named by scope and token id, which the audit uses."""
    caller = check(database, f"{scheme} {secret}")

    assert caller.scope == OPERATE
    assert str(caller).startswith("operate:tok_")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "abc"])
def test_no_token(database, header):
    """A call without a token says what is needed."""
    with pytest.raises(AccessError, match="needs a bearer token"):
        check(database, header)


def test_another_token(database, secret):
    """A token that is off by one character is unknown."""
    with pytest.raises(AccessError, match="not known"):
        check(database, f"Bearer {secret[:-1]}")


def test_another_scope(database, secret):
    """No scope includes another."""
    with pytest.raises(AccessError, match="may operate, and this needs one that may enrol"):
        check(database, f"Bearer {secret}", ENROL)


def test_a_revoked_token(database, secret):
    """A revoked token is no longer known."""
    database.write(lambda c: c.execute(update(tables.tokens).values(revoked_ms=2))).result()

    with pytest.raises(AccessError, match="not known") as caught:
        check(database, f"Bearer {secret}")
    assert "revoked" in caught.value.hint


def test_the_secret_is_not_stored(database, secret):
    """Reading the database lets nobody in."""
    with database.read() as connection:
        assert access.exists(connection)
        rows = connection.execute(select(tables.tokens)).all()

    assert secret not in str(rows)
    assert len(rows[0].sha256) == 64


def test_tokens_are_long_and_different():
    """A token has 32 random bytes, and there are two scopes."""
    assert len({access.new_secret(ENROL) for _ in range(100)}) == 100
    assert len(access.new_secret(ENROL).removeprefix("ew_enrol_")) >= 40
    with pytest.raises(ValueError, match="no scope"):
        access.new_secret("admin")
