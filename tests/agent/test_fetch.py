"""Download: what arrives is checked, what is right is kept, what is wrong is fetched again."""

from dataclasses import replace

import pytest
from tests.sim.bundles import make_bare
from tests.sim.control_plane import ControlPlane, running

from edgewright.agent import fetch
from edgewright.agent.fetch import Download, pieces
from edgewright.bundle.archive import Archive
from edgewright.bundle.manifest import CHUNK_BYTES
from edgewright.bundle.trust import TrustedTarget
from edgewright.core import digest
from edgewright.core.errors import (
    EdgewrightError,
    NotFoundError,
    StorageError,
    TransportError,
    TrustError,
)
from edgewright.wire.http import Client


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of six chunks: bytes, and what is signed about it."""
    path = tmp_path_factory.mktemp("bundle") / "bare.ewb"
    noise = bytes((i * 7919 + (i >> 8)) & 0xFF for i in range(CHUNK_BYTES * 2 + 12_345))
    contents = {"variants/v/weights.bin": noise, "extra/more.bin": noise[::-1], "z": b"end"}
    made = make_bare(path, contents)
    with Archive(path) as opened:
        header = opened.header
    custom = {"header_length": header.length, "header_sha256": header.sha256}
    target = TrustedTarget("bare/1.ewb", path.stat().st_size, made, custom)
    return path.read_bytes(), target, header


@pytest.fixture(scope="module")
def server(tmp_path_factory, bundle):
    """A control plane that has the bundle."""
    plane = ControlPlane(tmp_path_factory.mktemp("plane"))
    data, target, _ = bundle
    plane.blobs[digest.hex_of(target.sha256)] = data
    with running(plane):
        yield plane


@pytest.fixture
def plane(server):
    """The same, on its best behaviour."""
    server.behave()
    server.requests.clear()
    return server


def _download(plane, target, file, *, check_time=lambda: None):
    client = Client(plane.url, timeout_s=5.0)
    download = Download(client, target, file, check_time=check_time)
    try:
        download.run()
    finally:
        client.close()
    return download.wire_bytes


def _damage(file, place):
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def test_the_pieces_cover_the_archive(bundle):
    """Header, then pieces without a hole or an overlap, up to the last byte."""
    data, _, header = bundle
    place = header.length

    for piece in pieces(header):
        assert piece.offset == place
        assert piece.holds(data[piece.offset : piece.end])
        place = piece.end

    assert place == len(data)


def test_a_download_is_the_archive(bundle, plane, tmp_path):
    """One request for the header, one for the rest, each byte once."""
    data, target, _ = bundle

    came = _download(plane, target, tmp_path / "a.part")

    assert (tmp_path / "a.part").read_bytes() == data
    assert came == len(data)
    assert len(plane.asked("/v1/blobs/")) == 2


@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_cut_at_any_tenth_is_resumed(bundle, plane, tmp_path, tenth):
    """The next contact goes on at the very byte, and ends with the whole archive."""
    data, target, header = bundle
    file = tmp_path / "a.part"
    cut = len(data) * tenth // 10 - header.length
    plane.misbehave("/v1/blobs/", "slow", times=1)
    plane.misbehave("/v1/blobs/", "cut", cut, times=1)

    with pytest.raises(TransportError, match="cut at byte"):
        _download(plane, target, file)
    kept = file.stat().st_size
    came = _download(plane, target, file)

    assert kept == cut + header.length
    assert came == len(data) - kept
    assert file.read_bytes() == data


@pytest.mark.slow
def test_a_line_that_always_cuts_still_gets_there(bundle, plane, tmp_path):
    """Every connection ends after 40 kB, far less than a chunk: the bundle arrives."""
    data, target, _ = bundle
    plane.misbehave("/v1/blobs/", "cut", 40_000)
    file, came = tmp_path / "a.part", 0

    for _ in range(len(data) // 40_000 + 3):
        client = Client(plane.url)
        download = Download(client, target, file, check_time=lambda: None)
        try:
            download.run()
        except TransportError:
            continue
        finally:
            came += download.wire_bytes
            client.close()
        break

    assert file.read_bytes() == data
    assert came == len(data)


@pytest.mark.parametrize("tenth", range(10))
def test_a_wrong_byte_on_the_disk_costs_one_chunk(bundle, plane, tmp_path, tenth):
    """What rotted in staging is found and fetched again, and nothing else is."""
    data, target, header = bundle
    file = tmp_path / "a.part"
    file.write_bytes(data)
    _damage(file, len(data) * tenth // 10)

    came = _download(plane, target, file)

    assert file.read_bytes() == data
    assert came <= max(CHUNK_BYTES, header.length)


def test_a_wrong_chunk_on_the_wire_is_fetched_again(bundle, plane, tmp_path):
    """A chunk that arrives wrong is dropped; those after it are kept."""
    data, target, _ = bundle
    file = tmp_path / "a.part"
    plane.misbehave("/v1/blobs/", "slow", times=1)
    plane.misbehave("/v1/blobs/", "flip", len(data) // 2, times=1)

    came = _download(plane, target, file)

    assert file.read_bytes() == data
    assert came <= len(data) + CHUNK_BYTES


def test_a_server_that_is_wrong_for_good_is_reported(bundle, plane, tmp_path):
    """A flipped bit that stays is an error; the right chunks wait for a better day."""
    data, target, _ = bundle
    file = tmp_path / "a.part"
    plane.misbehave("/v1/blobs/", "flip", len(data) // 2)

    with pytest.raises(TransportError, match=r"1 of .* chunks .* arrived wrong"):
        _download(plane, target, file)
    plane.behave()
    came = _download(plane, target, file)

    assert came <= CHUNK_BYTES
    assert file.read_bytes() == data


def test_a_wrong_header_is_not_believed(bundle, plane, tmp_path):
    """The chunk list is used only under its signed digest."""
    _, target, _ = bundle
    file = tmp_path / "a.part"
    plane.misbehave("/v1/blobs/", "flip", 100)

    with pytest.raises(TrustError, match=r"header .* not the one that is signed"):
        _download(plane, target, file)

    assert file.stat().st_size == 0


def test_a_torn_header_is_repaired(bundle, plane, tmp_path):
    """The beginning of a download can rot too, whole or half there."""
    data, target, header = bundle
    file = tmp_path / "a.part"
    file.write_bytes(b"\0" * (header.length // 2))

    _download(plane, target, file)

    assert file.read_bytes() == data


def test_no_byte_beyond_the_declared_length(bundle, plane, tmp_path):
    """What is longer than signed is cut, on the disk as on the wire."""
    data, target, _ = bundle
    file = tmp_path / "a.part"
    file.write_bytes(data + b"more")

    came = _download(plane, target, file)

    assert (came, file.read_bytes()) == (0, data)


@pytest.mark.parametrize("kind", ["no_range", "etag"])
def test_servers_that_do_not_do_ranges(bundle, plane, tmp_path, kind):
    """A 200 serves as well; another file is refused and what is right is kept."""
    data, target, _ = bundle
    file = tmp_path / "a.part"
    file.write_bytes(data[: len(data) // 2])
    plane.misbehave("/v1/blobs/", kind)

    if kind == "etag":
        with pytest.raises(TransportError, match="another file"):
            _download(plane, target, file)
        assert file.read_bytes() == data[: len(data) // 2]
    else:
        _download(plane, target, file)
        assert file.read_bytes() == data


def test_the_last_word_has_the_whole_digest(bundle, plane, tmp_path):
    """Chunks that fit a header that is signed for another file are not enough."""
    data, target, _ = bundle
    other = replace(target, sha256=digest.of_bytes(b"other"))
    plane.blobs[digest.hex_of(other.sha256)] = data
    file = tmp_path / "a.part"

    with pytest.raises(TrustError, match="has digest"):
        _download(plane, other, file)

    assert file.stat().st_size == 0


@pytest.mark.parametrize(
    "custom",
    [{}, {"header_length": 0, "header_sha256": "x"}, {"header_length": "9"}],
    ids=["none", "empty", "text"],
)
def test_a_target_must_sign_its_header(bundle, plane, tmp_path, custom):
    """Without a signed header nothing is asked of the server."""
    _, target, _ = bundle

    with pytest.raises(TrustError, match="without the digest of its header"):
        _download(plane, replace(target, custom=custom), tmp_path / "a.part")

    assert not plane.asked("/v1/blobs/")


def test_a_length_that_does_not_fit_the_header_is_refused(bundle, plane, tmp_path):
    """A target that signs other sizes than its header has is not downloaded."""
    data, target, header = bundle
    (tmp_path / "a.part").write_bytes(data[: header.length])

    with pytest.raises(TrustError, match=f"{len(data)} bytes by its header"):
        _download(plane, replace(target, length=len(data) + 1), tmp_path / "a.part")


def test_a_missing_blob_is_said(bundle, plane, tmp_path):
    """The server's own word, not a guess."""
    _, target, _ = bundle

    with pytest.raises(NotFoundError):
        _download(plane, replace(target, sha256=digest.of_bytes(b"?")), tmp_path / "a.part")


def test_a_disk_without_room_is_not_filled(bundle, plane, tmp_path, monkeypatch):
    """A download that cannot fit, with the slot it becomes, is not begun."""
    _, target, _ = bundle
    monkeypatch.setattr(fetch, "RESERVE_BYTES", 1 << 60)

    with pytest.raises(StorageError, match="are free"):
        _download(plane, target, tmp_path / "a.part")

    assert not plane.asked("/v1/blobs/")


def test_a_contact_whose_time_is_up_stops(bundle, plane, tmp_path):
    """The caller's clock ends a download; what arrived is kept."""
    data, target, _ = bundle
    left = iter(range(5))

    def check_time():
        if next(left, None) is None:
            raise TransportError("time is up")

    with pytest.raises(EdgewrightError, match="time is up"):
        _download(plane, target, tmp_path / "a.part", check_time=check_time)
    kept = (tmp_path / "a.part").stat().st_size
    came = _download(plane, target, tmp_path / "a.part")

    assert kept > 0
    assert came == len(data) - kept
