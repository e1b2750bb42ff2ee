"""Archives and slots: what goes in comes out, and nothing else is ever believed."""

import errno
import json
import os
import shutil
import struct
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim import disk
from tests.sim.bundles import bare_manifest, make_bare

from edgewright.bundle import archive
from edgewright.bundle.archive import Archive, read_header, slot_digest, verify_slot
from edgewright.bundle.manifest import CHUNK_BYTES, Manifest
from edgewright.core import canonical, digest, durable, records
from edgewright.core.errors import BundleError, StorageError

PARTS = st.text("abcxyz-_. é", min_size=1, max_size=8).filter(lambda p: p not in {".", ".."})
PATHS = st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: "extra/" + "/".join(parts))
CONTENTS = st.dictionaries(PATHS, st.binary(max_size=200), max_size=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the bytes of one archive with two chunked entries."""
    folder = tmp_path_factory.mktemp("archive")
    contents = {
        "variants/v/weights.bin": os.urandom(CHUNK_BYTES + 1000),
        "extra/notes.txt": b"hello",
        "extra/empty": b"",
    }
    make_bare(folder / "a.ewb", contents)
    return (folder / "a.ewb").read_bytes()


@pytest.fixture
def bundle(made, tmp_path):
    """Return that archive as a file."""
    path = tmp_path / "a.ewb"
    path.write_bytes(made)
    return path


@pytest.fixture
def slot(bundle, tmp_path):
    """Return that archive unpacked, and its digest."""
    with Archive(bundle) as opened:
        opened.extract(tmp_path / "slot")
        return tmp_path / "slot", opened.digest()


@contextmanager
def folder():
    """Give a folder to one example of a property."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def clash(contents):
    """Return whether one path is a folder of another."""
    parents = {
        "/".join(p.split("/")[:n]) for p in contents for n in range(1, p.count("/") + 1)
    }
    return bool(parents & set(contents))


@settings(max_examples=30)  # each example waits for the disk
@given(CONTENTS)
def test_what_goes_in_comes_out(contents):
    """Every entry is read back as it was, from the archive and from the slot."""
    if clash(contents):
        return
    with folder() as place:
        made_digest = make_bare(place / "a.ewb", contents)

        with Archive(place / "a.ewb") as opened:
            opened.verify()
            opened.extract(place / "slot")

            assert opened.digest() == made_digest == digest.of_file(place / "a.ewb")
            assert slot_digest(place / "slot")[1] == made_digest
            assert {e.path for e in opened.manifest.entries} == set(contents)
            for path, content in contents.items():
                assert opened.read(path) == content == (place / "slot" / path).read_bytes()


@settings(max_examples=30)
@given(CONTENTS, st.randoms())
def test_the_same_files_are_the_same_bytes(contents, shuffler):
    """Neither the order of the files nor the time changes an archive."""
    if clash(contents):
        return
    bare_manifest(contents)
    items = list(contents.items())
    shuffler.shuffle(items)
    with folder() as place:
        make_bare(place / "a.ewb", contents)
        make_bare(place / "b.ewb", dict(items))

        assert (place / "a.ewb").read_bytes() == (place / "b.ewb").read_bytes()


@given(st.data())
def test_any_single_flipped_bit_is_refused(made, data):
    """Whichever bit is flipped, the archive is damaged or no longer the one asked for."""
    position = data.draw(st.integers(0, len(made) - 1))
    bit = data.draw(st.integers(0, 7))
    flipped = bytearray(made)
    flipped[position] ^= 1 << bit
    with folder() as place:
        (place / "a.ewb").write_bytes(flipped)

        refused = False
        try:
            with Archive(place / "a.ewb") as opened:
                refused = opened.digest() != digest.of_bytes(made)
                opened.verify()
        except BundleError:
            refused = True

    assert refused


@given(st.integers(0, 5000), st.integers(0, 7))
def test_a_flipped_bit_outside_the_manifest_is_found_without_the_digest(made, offset, bit):
    """Padding and entries are checked against the manifest alone."""
    header = read_header(made)
    position = header.length + offset % (len(made) - header.length)
    flipped = bytearray(made)
    flipped[position] ^= 1 << bit
    with folder() as place:
        (place / "a.ewb").write_bytes(flipped)

        with Archive(place / "a.ewb") as opened, pytest.raises(BundleError):
            opened.verify()


@given(st.binary(max_size=400))
def test_no_bytes_bring_out_a_foreign_error(data):
    """Whatever is read as a header, the answer is a header or a BundleError."""
    for attempt in (
        data,
        archive.MAGIC + data,
        struct.pack("<8sHHI", b"EWBUNDLE", 1, 0, 90) + data,
    ):
        with pytest.raises(BundleError):
            read_header(attempt)


@given(st.data())
def test_no_manifest_brings_out_a_foreign_error(made, data):
    """A manifest with anything anywhere is read, or refused with an error of ours."""
    value = json.loads(read_header(made).manifest.to_bytes())
    anything = st.one_of(
        st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), st.text(), st.just([]),
        st.just({}), st.lists(st.integers(0, 9), max_size=2),
    )  # fmt: skip
    place = value
    while isinstance(place, dict | list) and place:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        if (
            not isinstance(place[key], dict | list)
            or not place[key]
            or data.draw(st.booleans())
        ):
            place[key] = data.draw(anything)
            break
        place = place[key]
    try:
        raw = canonical.encode(value)
    except ValueError:  # a text that has no canonical form cannot stand in one
        return

    with suppress(BundleError):
        read_header(struct.pack("<8sHHI", b"EWBUNDLE", 1, 0, len(raw)) + raw)


def test_weights_lie_on_pages_and_the_rest_on_lines(made):
    """A device can map the weights, and the body begins on a page."""
    header = read_header(made)
    offsets = {e.path: header.body_offset + e.offset for e in header.manifest.entries}

    assert header.body_offset % 4096 == 0
    assert offsets["variants/v/weights.bin"] % 4096 == 0
    assert all(offset % 64 == 0 for offset in offsets.values())


def test_a_known_layout():
    """A hand-worked example: 5 bytes, then 70, then weights on the next page."""
    contents = {"a": b"12345", "b": bytes(70), "c/weights.bin": b"w", "d": b""}

    entries = archive.plan(contents)

    assert [(e.path, e.offset, e.length) for e in entries] == [
        ("a", 0, 5),
        ("b", 64, 70),
        ("c/weights.bin", 4096, 1),
        ("d", 4160, 0),
    ]
    assert entries[0].sha256 == digest.of_bytes(b"12345")
    assert entries[3].chunks == ()


def test_the_header_is_in_the_first_range_of_a_download(made):
    """The header can be read from a prefix, and its digest authenticates the chunk list."""
    length = archive.header_length(made[:16])

    header = read_header(made[:length])

    assert header.length == length
    assert header.sha256 == digest.of_bytes(made[:length])
    assert header.archive_bytes == len(made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:15], "begins with 16 bytes, got 15"),
        (lambda data: data[:100], "the header is [0-9]+ bytes long, got 100"),
        (lambda data: b"PK" + data[2:], "not a bundle"),
        (lambda data: data[:8] + b"\x02\x00" + data[10:], "format 2 is newer than 1"),
        (lambda data: data[:8] + b"\x00\x00" + data[10:], "damaged"),
        (lambda data: data[:10] + b"\x01" + data[11:], "damaged"),
        (lambda data: data[:12] + b"\xff\xff\xff\xff" + data[16:], "damaged"),
        (lambda data: data[:-1], "its manifest says"),
        (lambda data: data + b"\0", "its manifest says"),
        (lambda _: b"", "begins with 16 bytes, got 0"),
    ],
    ids=[
        "no header", "half a header", "another file", "newer", "format 0", "reserved", "huge",
        "truncated", "one byte more", "empty",
    ],
)  # fmt: skip
def test_a_file_that_is_no_whole_bundle_is_refused(bundle, made, change, message):
    """The message says which part is wrong."""
    bundle.write_bytes(change(made))

    with pytest.raises(BundleError, match=message):
        Archive(bundle)


def test_a_missing_file_is_our_error(tmp_path):
    """A path that cannot be read is told as such."""
    with pytest.raises(BundleError, match="cannot read"):
        Archive(tmp_path / "none.ewb")


@pytest.mark.parametrize(
    "path",
    ["../x", "/etc/x", "a/../../x", "a//x", "a/./x", "..", "", "a\\x", "/"],
)
def test_no_entry_can_leave_its_folder(made, path):
    """A manifest that names such a path is refused before anything is opened."""
    value = json.loads(read_header(made).manifest.to_bytes())
    value["entries"][0]["path"] = path
    raw = canonical.encode(value)

    with pytest.raises(BundleError, match="not a plain relative path"):
        read_header(struct.pack("<8sHHI", b"EWBUNDLE", 1, 0, len(raw)) + raw)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entries: entries[::-1], "does not lie where it should"),
        (lambda entries: (replace(entries[0], offset=64), *entries[1:]), "does not lie"),
        (lambda entries: (*entries, replace(entries[-1], path="z", offset=0)), "does not lie"),
        (
            lambda entries: (
                replace(entries[0], chunk_bytes=5 << 20, chunks=entries[0].chunks[:1]),
                *entries[1:],
            ),
            "chunks of 5242880 bytes",
        ),
    ],
    ids=["unsorted", "moved", "overlapping", "chunk that fills the memory"],
)
def test_a_layout_of_ones_own_is_refused(made, change, message):
    """There is one layout for one set of files."""
    manifest = read_header(made).manifest
    entries = change(manifest.entries)
    raw = canonical.encode(records.encode(replace(manifest, entries=entries)))

    with pytest.raises(BundleError, match=message):
        read_header(struct.pack("<8sHHI", b"EWBUNDLE", 1, 0, len(raw)) + raw)


@pytest.mark.parametrize("path", ["extra", "manifest.json", "manifest.json/x"])
def test_a_file_where_a_folder_lies_is_refused(path):
    """Two entries that cannot lie in one folder are refused when planned."""
    with pytest.raises(BundleError, match="where another file or folder lies"):
        archive.plan({"extra/a": b"", path: b""})


def test_a_name_nobody_may_give_is_a_damaged_bundle(made):
    """A manifest with an impossible name is the bundle's fault, not the user's."""
    value = json.loads(read_header(made).manifest.to_bytes())
    value["name"] = "../Digits"
    raw = canonical.encode(value)

    with pytest.raises(BundleError, match="cannot name a bundle"):
        read_header(struct.pack("<8sHHI", b"EWBUNDLE", 1, 0, len(raw)) + raw)


def test_contents_that_are_not_the_entries_are_refused(tmp_path):
    """A manifest is never written above other files than it names."""
    contents = {"extra/a": b"one"}
    manifest = bare_manifest(contents)
    contents["extra/a"] = b"two"

    with pytest.raises(BundleError, match="not the entries bare@1 names"):
        archive.write(tmp_path / "a.ewb", manifest, contents)

    assert list(tmp_path.iterdir()) == []


def test_a_source_that_cannot_be_read_leaves_what_was_there(tmp_path):
    """An archive is replaced whole or not at all."""
    made_digest = make_bare(tmp_path / "a.ewb")
    contents = {"extra/a": tmp_path / "missing"}

    with pytest.raises(BundleError, match="cannot read"):
        archive.plan(contents)

    assert digest.of_file(tmp_path / "a.ewb") == made_digest


def test_blocks_that_end_with_an_error_leave_the_file_as_it_was(tmp_path):
    """A stream of ours that fails half way neither tears the file nor leaves a temporary."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def blocks():
        yield b"new"
        raise BundleError("the rest is damaged")

    with pytest.raises(BundleError, match="the rest"):
        durable.replace_file(path, blocks())

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_reading_a_damaged_entry_names_its_chunk(bundle, made):
    """The second chunk of the weights is damaged, and is named."""
    header = read_header(made)
    entry = header.manifest.entry("variants/v/weights.bin")
    flipped = bytearray(made)
    flipped[header.body_offset + entry.offset + CHUNK_BYTES + 7] ^= 1
    bundle.write_bytes(flipped)

    with Archive(bundle) as opened:
        with pytest.raises(BundleError, match=r"weights\.bin' is damaged in chunk 1"):
            opened.read("variants/v/weights.bin")
        assert opened.read("extra/notes.txt") == b"hello"
        with pytest.raises(BundleError, match="no entry 'extra/none'"):
            opened.read("extra/none")


def test_extract_needs_a_folder_of_its_own(bundle, slot):
    """A folder that exists is never written into."""
    with Archive(bundle) as opened, pytest.raises(StorageError, match="cannot unpack"):
        opened.extract(slot[0])


def test_closing_twice_is_fine(bundle):
    """An archive can be closed by hand inside its own with statement."""
    with Archive(bundle) as opened:
        opened.close()

    opened.close()


def flip(path):
    """Flip the lowest bit of the first byte of a file."""
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def edit(path):
    """Change the label in a manifest, which keeps it whole in itself."""
    value = json.loads(path.read_bytes())
    value["label"] = "other"
    path.write_bytes(canonical.encode(value))


def link(path):
    """Put a link to the same bytes where the file was."""
    elsewhere = path.parent.parent.parent.parent / "elsewhere"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("golden/out.bin", flip, r"'golden/out\.bin' is damaged in chunk 0"),
        ("golden/in.bin", flip, r"'golden/in\.bin' is damaged in chunk 0"),
        ("variants/v/weights.bin", flip, r"weights\.bin' is damaged in chunk 0"),
        ("variants/v/model.onnx", Path.unlink, r"cannot read 'variants/v/model\.onnx'"),
        ("variants/v/model.onnx", link, "bytes, its manifest says"),
        ("extra/notes.txt", lambda p: p.write_bytes(b"hello!"), "6 bytes, its manifest says"),
        ("extra/more", lambda p: p.write_bytes(b""), "holds 'extra/more', which"),
        ("manifest.json", edit, "manifest.json of slot .* is that of"),
        ("manifest.json", Path.unlink, "cannot read manifest.json"),
        ("manifest.json", lambda p: p.write_bytes(b"{}"), "is missing"),
    ],
    ids=[
        "golden answers edited", "golden inputs edited", "weights", "gone", "link", "longer",
        "one more", "manifest edited", "no manifest", "empty manifest",
    ],
)  # fmt: skip
def test_a_slot_that_is_not_the_bundle_is_refused(slot, name, damage, message):
    """The damaged file is named, whatever was done to it."""
    place, expected = slot
    damage(place / name)

    with pytest.raises(BundleError, match=message):
        verify_slot(place, expected)


def test_a_sound_slot_is_verified(slot):
    """A slot as it was unpacked is the bundle it came from, and no other."""
    place, expected = slot

    manifest = verify_slot(place, expected)

    assert isinstance(manifest, Manifest)
    with pytest.raises(BundleError, match="is that of"):
        verify_slot(place, digest.of_bytes(b"another"))
    with pytest.raises(BundleError, match="not a digest"):
        verify_slot(place, "sha256:short")


FAULTS = [errno.EIO, errno.EACCES, errno.EMFILE, errno.ENOMEM, errno.ENOSPC, errno.ESTALE]


def refusing(real, number, *, after=0):
    """Return ``real``, which refuses with ``number`` after so many calls."""
    left = [after]

    def call(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    return call


@pytest.mark.parametrize("number", FAULTS, ids=errno.errorcode.get)
def test_an_archive_the_disk_will_not_give_is_not_to_blame(bundle, monkeypatch, number):
    """Opened, at its header or in its body: the disk's fault, and nothing stays open."""
    held = len([*Path("/proc/self/fd").iterdir()])
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing(os.open, number))
        with pytest.raises(StorageError, match=r"cannot read .*a\.ewb"):
            Archive(bundle)
    for calls in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", refusing(os.pread, number, after=calls))
            with pytest.raises(StorageError, match=r"cannot read a\.ewb"):
                Archive(bundle)
    with Archive(bundle) as opened:
        for name in ("digest", "verify"):
            with monkeypatch.context() as patch:
                patch.setattr(os, "pread", refusing(os.pread, number, after=1))
                with pytest.raises(StorageError):
                    getattr(opened, name)()
        opened.verify()

    assert len([*Path("/proc/self/fd").iterdir()]) == held


@pytest.mark.parametrize("number", FAULTS, ids=errno.errorcode.get)
def test_a_disk_that_refuses_an_extraction_is_to_blame(bundle, tmp_path, monkeypatch, number):
    """Whether it will not give the archive or will not take the slot."""
    with Archive(bundle) as opened:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", refusing(os.pread, number, after=1))
            with pytest.raises(StorageError, match="cannot read"):
                opened.extract(tmp_path / "one")
        with (
            disk.failing(tmp_path / "two", 1, error=number),
            pytest.raises(StorageError, match="cannot unpack"),
        ):
            opened.extract(tmp_path / "two")


@pytest.mark.parametrize("number", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("method", ["stat", "read_bytes", "lstat", "open"])
def test_a_slot_the_disk_will_not_give_is_not_to_blame(slot, monkeypatch, method, number):
    """Its manifest, its names and its entries: what is there and unreadable is not damaged."""
    place, expected = slot
    monkeypatch.setattr(Path, method, refusing(getattr(Path, method), number))

    with pytest.raises(StorageError, match="cannot read") as caught:
        verify_slot(place, expected)

    assert "the disk" in caught.value.hint


def test_a_folder_the_disk_will_not_list_is_not_passed_over(slot, monkeypatch):
    """What might hide in it is unknown, so the slot is not verified."""
    monkeypatch.setattr(os, "scandir", refusing(os.scandir, errno.EIO, after=1))

    with pytest.raises(StorageError, match="cannot read slot"):
        verify_slot(*slot)


@pytest.mark.parametrize("name", ["extra/notes.txt", "manifest.json"])
def test_a_folder_in_the_place_of_a_file_is_damage(slot, name):
    """It is there, and is not what the bundle says: no fault of the disk."""
    place, expected = slot
    (place / name).unlink()
    (place / name).mkdir()

    with pytest.raises(BundleError):
        verify_slot(place, expected)


def test_a_source_the_disk_will_not_give_is_not_to_blame(tmp_path, monkeypatch):
    """Whoever packs is told of the disk, and what was there stays."""
    (tmp_path / "a").write_bytes(b"one")
    monkeypatch.setattr(Path, "open", refusing(Path.open, errno.EIO))

    with pytest.raises(StorageError, match="cannot read"):
        archive.plan({"extra/a": tmp_path / "a"})
