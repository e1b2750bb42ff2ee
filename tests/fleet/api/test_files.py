"""Metadata and blobs over HTTP: caching, ranges, uploads that hash or leave nothing."""

import hashlib

import pytest
from tests.sim.plane import running

from edgewright.core.errors import AccessError, BundleError, UsageError

DATA = bytes(range(256)) * 4096
NAME = hashlib.sha256(DATA).hexdigest()
PLACE = f"/v1/blobs/{NAME}"
TIMESTAMP = "/v1/trust/artefacts/timestamp.json"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Give a control plane that takes bundles up to 2 MiB and holds one."""
    with running(tmp_path_factory.mktemp("plane"), max_blob_bytes=2 << 20) as made:
        client = made.client()
        client.refuse_failure(client.request("PUT", PLACE, body=DATA))
        yield made


@pytest.fixture
def anyone(server):
    """Give a client without a token."""
    return server.client(scope="")


def test_metadata_is_conditional(anyone):
    """The timestamp is asked for again and again; an unchanged one has no body."""
    first = anyone.request("GET", TIMESTAMP)
    again = anyone.request("GET", TIMESTAMP, headers={"If-None-Match": first.headers["etag"]})
    root = anyone.request("GET", "/v1/trust/assignments/1.root.json")

    assert first.status == 200
    assert first.headers["cache-control"] == "no-cache"
    assert (again.status, again.body) == (304, b"")
    assert "immutable" in root.headers["cache-control"]


def test_head_says_what_get_would(anyone):
    """HEAD has the headers of GET and no body."""
    for place in (TIMESTAMP, PLACE):
        head, get = anyone.request("HEAD", place), anyone.request("GET", place)

        assert head.body == b""
        for name in ("etag", "content-length", "content-type"):
            assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    "place",
    [
        "/v1/trust/artefacts/9.root.json",
        "/v1/trust/artefacts/",
        "/v1/trust/other/timestamp.json",
        "/v1/trust/artefacts/../assignments/timestamp.json",
        "/v1/trust/artefacts/..%2f..%2ftokens%2foperate.token",
        "/v1/trust/artefacts/%2e%2e/%2e%2e/tokens/operate.token",
        "/v1/trust/assignments/targets",
        f"/v1/blobs/{'0' * 64}",
    ],
)
def test_nothing_else_is_handed_out(anyone, place):
    """Only metadata and blobs can be read without a token."""
    response = anyone.request("GET", place)

    assert response.status == 404
    assert b"not_found_error" in response.body


def test_a_blob_whole_and_in_parts(anyone):
    """A range is exactly those bytes, and says so."""
    whole = anyone.request("GET", PLACE)
    part = anyone.request("GET", PLACE, headers={"Range": "bytes=1000-1999"})
    tail = anyone.request("GET", PLACE, headers={"Range": "bytes=-10"})
    beyond = anyone.request("GET", PLACE, headers={"Range": f"bytes={len(DATA)}-"})

    assert (whole.status, whole.body) == (200, DATA)
    assert whole.headers["etag"] == f'"{NAME}"'
    assert whole.headers["accept-ranges"] == "bytes"
    assert (part.status, part.body) == (206, DATA[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(DATA)}"
    assert (tail.status, tail.body) == (206, DATA[-10:])
    assert beyond.status == 416
    assert beyond.headers["content-range"] == f"bytes */{len(DATA)}"


def test_a_range_of_another_file_is_all_of_this_one(anyone):
    """If-Range with another tag gets the whole file with 200."""
    headers = {"Range": "bytes=5-", "If-Range": '"other"'}

    response = anyone.request("GET", PLACE, headers=headers)

    assert (response.status, len(response.body)) == (200, len(DATA))


def test_our_own_download_resumes(anyone, tmp_path):
    """The client's resumed download ends in the same bytes and fetches only the rest."""
    target = tmp_path / "partial"
    target.write_bytes(DATA[:700_000])

    came = anyone.download(PLACE, target, length=len(DATA), etag=NAME)

    assert target.read_bytes() == DATA
    assert came == len(DATA) - 700_000


def test_an_unchanged_blob_has_no_body(anyone):
    """Who names the tag has the bytes."""
    response = anyone.request("GET", PLACE, headers={"If-None-Match": f'"{NAME}"'})

    assert (response.status, response.body) == (304, b"")


def test_uploading_twice_is_fine(server):
    """The second time nothing is stored and the answer says 200."""
    response = server.client().request("PUT", PLACE, body=DATA)

    assert response.status == 200


def test_other_bytes_are_refused(server, anyone):
    """An upload that does not hash to its name leaves nothing."""
    place = f"/v1/blobs/{'1' * 64}"

    with pytest.raises(BundleError, match="hash to"):
        server.client().refuse_failure(server.client().request("PUT", place, body=b"x"))
    assert anyone.request("GET", place).status == 404


@pytest.mark.parametrize("scope", ["", "enrol"])
def test_uploading_needs_operate(server, scope):
    """Nobody else can fill the disk."""
    client = server.client(scope)

    with pytest.raises(AccessError):
        client.refuse_failure(client.request("PUT", f"/v1/blobs/{'2' * 64}", body=b"x"))


def test_an_upload_over_the_limit_is_refused(server):
    """The limit holds before a byte was sent and while they arrive."""
    big = bytes((2 << 20) + 1)
    client = server.client()
    place = f"/v1/blobs/{hashlib.sha256(big).hexdigest()}"

    assert client.request("PUT", place, body=big).status == 413
    # Without a length beforehand the client sends it in chunks.
    assert client.request("PUT", place, body=iter([big])).status == 413
    assert client.request("HEAD", place).status == 404


def test_a_file_is_uploaded_from_disk(server, tmp_path):
    """The client's streaming upload and the server's streaming store fit together."""
    data = b"streamed" * 200_000
    file = tmp_path / "file"
    file.write_bytes(data)
    name = hashlib.sha256(data).hexdigest()

    server.client().upload(f"/v1/blobs/{name}", file)

    assert server.plane.blobs.length(name) == len(data)


def test_a_name_that_is_no_digest(anyone):
    """A blob's name is 64 hexadecimal digits."""
    with pytest.raises(UsageError):
        anyone.refuse_failure(anyone.request("GET", "/v1/blobs/abc"))
