"""Which bytes of a file a request asks for; pure.

One range is honoured. Several at once are answered with the whole file, which
the standard allows and every client must take.

Source: RFC 9110, sections 13.1.5, 13.2.2 and 14.
"""

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes ``start`` to ``stop`` (not included) of a file of ``length`` bytes."""

    start: int
    stop: int
    length: int

    @property
    def whole(self) -> bool:
        """Whether it is the entire file."""
        return self.stop - self.start == self.length

    @property
    def content_range(self) -> str:
        """As the header says it: ``bytes 0-99/1234``."""
        return f"bytes {self.start}-{self.stop - 1}/{self.length}"


def span_of(asked: str | None, if_range: str | None, *, etag: str, length: int) -> Span | None:
    """Return what a ``Range`` header asks for; None when no byte of it exists (416).

    Args:
        asked: The ``Range`` header; what is not one range of bytes is ignored.
        if_range: The ``If-Range`` header; a date or another tag asks for all of it.
        etag: Of the file, strong, with its quotes.
        length: Of the file, in bytes.
    """
    everything = Span(0, length, length)
    if asked is None or (if_range is not None and if_range.strip() != etag):
        return everything
    match = _RANGE.fullmatch(asked.strip())
    if match is None or match[1] == match[2] == "":
        return everything
    if match[1] == "":
        last = min(int(match[2]), length)
        return Span(length - last, length, length) if last else None
    start, stop = int(match[1]), int(match[2]) + 1 if match[2] else length
    if match[2] and stop <= start:
        return everything
    return Span(start, min(stop, length), length) if start < length else None


def matches(if_none_match: str | None, etag: str) -> bool:
    """Return whether the client has this very file already (304)."""
    if if_none_match is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in tags or etag in tags
