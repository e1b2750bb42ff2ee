"""registry: only what verifies is handed out, and a number keeps its bytes."""

from datetime import timedelta

import pytest
from tests.sim.plane import Bench, FakeRelease, make_keys, signed_set

from edgewright.bundle import signing, trust
from edgewright.bundle.trust import ARTEFACTS, ASSIGNMENTS, TIMESTAMP
from edgewright.core.errors import (
    ConflictError,
    ExpiredError,
    NotFoundError,
    RollbackError,
    TransportError,
    TrustError,
)
from edgewright.fleet import registry
from edgewright.fleet.registry import Offer


@pytest.fixture
def bench(tmp_path):
    """Give a control plane without devices."""
    made = Bench(tmp_path)
    yield made
    made.close()


def held(bench):
    """Return the set that is handed out."""
    return bench.read(lambda c: registry.held(c, ARTEFACTS))


def offered(fake, files, **changes):
    """Return an offer of a fake release."""
    fields = {
        "release": fake.release,
        "digest": fake.digest,
        "length": len(fake.body),
        "path": fake.path,
        "files": files,
    }
    return Offer(**{**fields, **changes})


def publish(bench, made):
    """Record an offer as the API does, and return it with whether it was new."""
    before = held(bench)
    new = registry.verify(made.files, before, now=bench.clock.now())
    registry.check_offer(made, {**before, **new}, bench.plane.blobs)

    def change(connection):
        version = registry.version_of(before)
        registry.replace_if_unchanged(connection, new, expected_version=version)
        return registry.publish(connection, made, actor="test", at_ms=1)

    return bench.write(change)


def uploaded(bench, release):
    """Return a fake release whose bytes are there."""
    fake = FakeRelease(release, f"bundle of {release}".encode())
    bench.plane.blobs.put(fake.hex, [fake.body])
    return fake


def test_a_release_and_its_metadata(bench):
    """What was published is listed, and devices can verify what is handed out."""
    fake = uploaded(bench, "digits@1")

    row, new = publish(bench, offered(fake, signed_set(bench.keys, held(bench), fake)))

    assert new
    assert (row["release"], row["digest"]) == ("digits@1", fake.digest)
    found = registry.trusted(held(bench)).targets["digits/1.ewb"]
    assert (found.sha256, found.length) == (fake.digest, len(fake.body))
    assert bench.read(lambda c: registry.signed_release(c, "digits@1"))["path"] == fake.path


def test_the_same_again_is_nothing_new(bench):
    """Sending the very same set again is answered with what is there."""
    fake = uploaded(bench, "digits@1")
    made = offered(fake, signed_set(bench.keys, held(bench), fake))
    publish(bench, made)

    row, new = publish(bench, made)

    assert not new
    assert row["release"] == "digits@1"


def test_versions_only_grow(bench):
    """A set that is older, or of the same number with other bytes, is refused."""
    first, second = uploaded(bench, "digits@1"), uploaded(bench, "digits@2")
    start = held(bench)
    older = signed_set(bench.keys, start, first)
    newer = signed_set(bench.keys, start | older, second)
    publish(bench, offered(first, older))
    publish(bench, offered(second, newer))

    with pytest.raises(RollbackError):
        publish(bench, offered(first, older))
    other = signed_set(bench.keys, start | older, uploaded(bench, "other@1"))
    with pytest.raises(ConflictError, match="meantime"):
        publish(bench, offered(second, other))


def test_who_was_slower_signs_again(bench):
    """A set verified against what is no longer handed out is not stored."""
    with pytest.raises(ConflictError, match="meantime"):
        bench.write(lambda c: registry.replace_if_unchanged(c, {}, expected_version=9))


def test_release_numbers_only_grow(bench):
    """A lower number of the same name is refused once a higher one is out."""
    high, low = uploaded(bench, "digits@5"), uploaded(bench, "digits@4")
    publish(bench, offered(high, signed_set(bench.keys, held(bench), high)))

    with pytest.raises(ConflictError, match="older than digits@5"):
        publish(bench, offered(low, signed_set(bench.keys, held(bench), low)))


def test_another_key_is_refused(bench, tmp_path):
    """Metadata that other keys signed is worth nothing here."""
    (tmp_path / "stranger").mkdir()
    stranger = make_keys(tmp_path / "stranger", strange=True)
    fake = uploaded(bench, "digits@1")
    theirs = signing.read_public(stranger / "public" / ARTEFACTS)
    files = signed_set(stranger, theirs, fake)

    with pytest.raises(TrustError):
        publish(bench, offered(fake, files))


@pytest.mark.parametrize("missing", ["snapshot", "targets", "timestamp"])
def test_half_a_set_is_refused(bench, missing):
    """A set without one of its files is refused."""
    fake = uploaded(bench, "digits@1")
    files = signed_set(bench.keys, held(bench), fake)
    half = {name: data for name, data in files.items() if missing not in name}

    with pytest.raises((TrustError, TransportError)):
        publish(bench, offered(fake, half))


def test_an_expired_set_is_refused(bench):
    """A set that no device would take is not handed out."""
    fake = uploaded(bench, "digits@1")
    files = signed_set(bench.keys, held(bench), fake)
    bench.clock.step(timedelta(days=40).total_seconds())

    with pytest.raises(ExpiredError):
        publish(bench, offered(fake, files))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"path": "digits/9.ewb"}, TrustError, "does not name"),
        ({"length": 3}, TrustError, "3 bytes"),
        ({"digest": "sha256:" + "a" * 64}, TrustError, "signed as"),
        ({"release": "digits@2"}, TrustError, "offered as digits@2"),
    ],
)
def test_words_and_signatures_agree(bench, changes, error, says):
    """What is offered must be what was signed."""
    fake = uploaded(bench, "digits@1")
    files = signed_set(bench.keys, held(bench), fake)

    with pytest.raises(error, match=says):
        publish(bench, offered(fake, files, **changes))


def test_the_bytes_must_be_there(bench):
    """A release whose bundle was not uploaded is refused, with the place to upload to."""
    fake = FakeRelease("digits@1", b"never sent")
    files = signed_set(bench.keys, held(bench), fake)

    with pytest.raises(NotFoundError) as caught:
        publish(bench, offered(fake, files))
    assert fake.hex in caught.value.hint


def test_the_header_must_be_the_signed_one(bench):
    """Signed words about the header that its bytes do not bear out are refused."""
    fake = uploaded(bench, "digits@1")
    lying = FakeRelease(fake.release, fake.body)
    repository = signing.ArtefactRepository.load(held(bench))
    custom = {**lying.custom, "header_length": 5}
    repository.add_target(lying.path, len(lying.body), lying.digest, custom)
    keys = (signing.load_key(bench.keys, name) for name in ("releases", "freshness"))
    files = repository.sign(*keys, bench.clock.now())

    with pytest.raises(TrustError, match="header"):
        publish(bench, offered(fake, files))


def test_other_keys_at_the_next_start_are_refused(bench, tmp_path):
    """A state folder belongs to the keys it was made with."""
    (tmp_path / "stranger").mkdir()
    stranger = signing.read_public(
        make_keys(tmp_path / "stranger", strange=True) / "public" / ARTEFACTS
    )

    with pytest.raises(TrustError, match="other keys"):
        bench.write(lambda c: registry.adopt(c, ARTEFACTS, stranger, now=bench.clock.now()))


def test_roots_do_not_change_places(bench):
    """The root of one repository is not taken for the other's."""
    files = signing.read_public(bench.keys / "public" / ASSIGNMENTS)

    with pytest.raises(TrustError, match="other repository"):
        bench.write(lambda c: registry.adopt(c, ARTEFACTS, files, now=bench.clock.now()))
    with pytest.raises(TrustError, match="no artefacts"):
        bench.write(lambda c: registry.adopt(c, ARTEFACTS, {}, now=bench.clock.now()))


def test_a_rotated_assignments_key_is_taken_at_the_next_start(bench):
    """After a rotation the new root is handed out and the new key signs."""
    version, _ = bench.trusted(bench.folder / "device")
    signing.rotate(bench.keys, "assignments", now=bench.clock.now())

    bench.restart()

    assert "2.root.json" in bench.read(lambda c: registry.held(c, ASSIGNMENTS))
    bench.clock.step(13 * 3600)
    bench.tick()
    assert bench.trusted(bench.folder / "device")[0] > version


def test_a_rotated_releases_key_comes_with_its_set(bench):
    """A new root of the artefacts is taken together with what it vouches for."""
    fake = uploaded(bench, "digits@1")
    publish(bench, offered(fake, signed_set(bench.keys, held(bench), fake)))
    public = bench.keys / "public" / ARTEFACTS
    signing.write_public(public, held(bench))
    signing.rotate(bench.keys, "releases", now=bench.clock.now())
    files = signing.read_public(public)

    new = registry.verify(files, held(bench), now=bench.clock.now())
    bench.write(
        lambda c: registry.replace_if_unchanged(
            c, new, expected_version=registry.version_of(held(bench))
        )
    )

    assert {"1.root.json", "2.root.json", TIMESTAMP} <= set(held(bench))
    assert trust.newest_root(held(bench))[0] == 2
    assert "digits/1.ewb" in registry.trusted(held(bench)).targets
