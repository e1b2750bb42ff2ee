"""span_of and matches: the conditional and partial requests of RFC 9110."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.fleet.api.ranges import Span, matches, span_of

ETAG = '"abc"'


@given(length=st.integers(1, 1000), first=st.integers(0, 1200), last=st.integers(0, 1200))
def test_a_range_is_a_slice(length, first, last):
    """The bytes named are those Python would slice; outside the file there are none."""
    span = span_of(f"bytes={first}-{last}", None, etag=ETAG, length=length)

    if last < first:
        assert span == Span(0, length, length)
    elif first >= length:
        assert span is None
    else:
        data = bytes(length)
        assert len(data[first : last + 1]) == span.stop - span.start
        assert span.start == first


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        (None, (0, 10)),
        ("bytes=0-0", (0, 1)),
        ("bytes=4-", (4, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=2-99", (2, 10)),
        ("bytes=0-1,4-5", (0, 10)),
        ("bytes=-", (0, 10)),
        ("lines=0-1", (0, 10)),
        ("bytes=a-b", (0, 10)),
    ],
)
def test_forms(asked, span):
    """Every form of one range; what is not one is answered with the whole file."""
    assert span_of(asked, None, etag=ETAG, length=10) == Span(*span, 10)


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=11-12", "bytes=-0"])
def test_no_such_bytes(asked):
    """A range without one byte in the file cannot be answered."""
    assert span_of(asked, None, etag=ETAG, length=10) is None


@pytest.mark.parametrize(
    ("if_range", "start"),
    [(ETAG, 4), ('"other"', 0), ("W/" + ETAG, 0), ("Sat, 31 Jan 2026 12:00:00 GMT", 0)],
)
def test_a_range_of_another_file_is_the_whole_file(if_range, start):
    """Resuming works only on the very bytes it began with."""
    assert span_of("bytes=4-", if_range, etag=ETAG, length=10).start == start


def test_content_range():
    """The header counts from zero and includes the last byte."""
    assert Span(0, 100, 1234).content_range == "bytes 0-99/1234"


@pytest.mark.parametrize(
    ("header", "known"),
    [(None, False), (ETAG, True), ('"x", "abc"', True), ("*", True), ("W/" + ETAG, True)],
)
def test_if_none_match(header, known):
    """A client that names the tag has the file already."""
    assert matches(header, ETAG) is known
