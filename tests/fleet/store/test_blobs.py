"""FolderBlobs: what is stored hashes to its name, and nothing else stays."""

import hashlib
import threading

import pytest

from edgewright.core.errors import BundleError, ConflictError, NotFoundError, UsageError
from edgewright.fleet.store import FolderBlobs

DATA = b"some bytes" * 1000
NAME = hashlib.sha256(DATA).hexdigest()


def blocks(data, size=1000):
    """Return ``data`` in blocks."""
    return (data[place : place + size] for place in range(0, len(data), size))


def test_what_is_stored_can_be_read(tmp_path):
    """A blob has its length and bytes, lies under its name, and cannot be written to."""
    blobs = FolderBlobs(tmp_path)

    length = blobs.put(NAME, blocks(DATA))

    assert length == blobs.length(NAME) == len(DATA)
    with blobs.open(NAME) as file:
        assert file.read() == DATA
    path = tmp_path / NAME[:2] / NAME
    assert path.stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("sent", [DATA[:-1], DATA + b"x", b"", b"other"])
def test_other_bytes_leave_nothing(tmp_path, sent):
    """Bytes that do not hash to the name are refused, and no file stays."""
    blobs = FolderBlobs(tmp_path)

    with pytest.raises(BundleError, match=NAME[:12]):
        blobs.put(NAME, blocks(sent))

    assert blobs.length(NAME) is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_cut_upload_leaves_nothing(tmp_path):
    """An error while the bytes arrive reaches the caller, and no file stays."""
    blobs = FolderBlobs(tmp_path)

    def cut():
        yield DATA[:10]
        raise ConflictError("gone")

    with pytest.raises(ConflictError, match="gone"):
        blobs.put(NAME, cut())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert blobs.put(NAME, blocks(DATA)) == len(DATA)


def test_two_uploads_of_one_blob_do_not_mix(tmp_path):
    """The second of two at once is refused, and the first is whole."""
    blobs, begun, go = FolderBlobs(tmp_path), threading.Event(), threading.Event()

    def slow():
        begun.set()
        yield DATA[:10]
        go.wait(5)
        yield DATA[10:]

    thread = threading.Thread(target=blobs.put, args=(NAME, slow()))
    thread.start()
    begun.wait(5)
    with pytest.raises(ConflictError, match="being uploaded"):
        blobs.put(NAME, blocks(DATA))
    go.set()
    thread.join()

    with blobs.open(NAME) as file:
        assert file.read() == DATA


def test_a_killed_upload_is_swept_at_the_next_start(tmp_path):
    """What an interrupted upload left does not stay for ever."""
    folder = tmp_path / NAME[:2]
    folder.mkdir()
    (folder / f"{NAME}.new~").write_bytes(DATA[:10])

    FolderBlobs(tmp_path)

    assert list(folder.iterdir()) == []


def test_a_blob_that_is_not_there(tmp_path):
    """Looking says so, opening is an error."""
    blobs = FolderBlobs(tmp_path)

    assert blobs.length(NAME) is None
    with pytest.raises(NotFoundError, match=NAME[:12]):
        blobs.open(NAME)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_only_digests_are_names(tmp_path, name):
    """Nothing outside the folder can be named."""
    with pytest.raises(UsageError, match="blob"):
        FolderBlobs(tmp_path).length(name)
