"""access: the right token with the right scope, and nothing that could be stolen at rest."""

import pytest
from sqlalchemy import delete, select

from edgewright.core.errors import AccessError, ConflictError, NotFoundError
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


def revoke(database, token, **how):
    """Revoke a token; return whether that changed anything."""
    return database.write(lambda c: access.revoke(c, token, at_ms=2, **how)).result()


def test_a_revoked_token(database, secret):
    """A revoked token is no longer known; revoking it again changes nothing."""
    caller = check(database, f"Bearer {secret}")
    assert revoke(database, caller.token, force=True)
    assert not revoke(database, caller.token)

    with pytest.raises(AccessError, match="not known") as caught:
        check(database, f"Bearer {secret}")
    assert "revoked" in caught.value.hint


def test_a_call_that_was_under_way(database, secret):
    """Who was let in before is no longer confirmed after."""
    caller = check(database, f"Bearer {secret}")
    with database.read() as connection:
        access.confirm(connection, caller)
    revoke(database, caller.token, force=True)

    with database.read() as connection, pytest.raises(AccessError, match="revoked"):
        access.confirm(connection, caller)


@pytest.mark.parametrize("scope", access.SCOPES)
def test_the_last_token_that_may_operate_stays(database, secret, scope):
    """Only another live one of scope operate, or force, lets it be revoked."""
    caller = check(database, f"Bearer {secret}")
    other = database.write(lambda c: access.add(c, scope, "other", at_ms=1)).result()
    if scope == OPERATE:
        assert revoke(database, other.token)

    with pytest.raises(ConflictError, match="last token") as caught:
        revoke(database, caller.token)

    assert "--force" in caught.value.hint
    assert check(database, f"Bearer {secret}") == caller


def test_a_token_there_is_not(database):
    """Its id is in the message."""
    with pytest.raises(NotFoundError, match="tok_x"):
        revoke(database, "tok_x", force=True)


def test_what_a_start_must_write(database, secret):
    """Both at first; then only what nobody has who may operate, never what may enrol."""
    with database.read() as connection:
        assert access.wanting(connection) == ()
    revoke(database, check(database, f"Bearer {secret}").token, force=True)
    with database.read() as connection:
        assert access.wanting(connection) == (OPERATE,)
    database.write(lambda c: c.execute(delete(tables.tokens))).result()
    with database.read() as connection:
        assert set(access.wanting(connection)) == {OPERATE, ENROL}


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
