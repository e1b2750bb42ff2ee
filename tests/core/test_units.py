"""units: what people write becomes whole numbers, and back readable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.errors import UsageError
from edgewright.core.units import parse_bytes, parse_duration_us, show_bytes, show_us


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("350000", 350_000),
        ("350KB", 350_000),
        ("350 kb", 350_000),
        ("1.5 MiB", 1_572_864),
        ("0.001KB", 1),
        ("2GB", 2_000_000_000),
        ("3KiB", 3072),
        ("1gib", 1_073_741_824),
        (" 7 B ", 7),
        ("0", 0),
    ],
)
def test_bytes(text, count):
    """Powers of 1000 and of 1024, with and without a fraction."""
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("20ms", 20_000),
        ("1.5s", 1_500_000),
        ("10m", 600_000_000),
        ("1h", 3_600_000_000),
        ("7us", 7),
    ],
)
def test_durations(text, microseconds):
    """Every unit, in whole microseconds."""
    assert parse_duration_us(text) == microseconds


@pytest.mark.parametrize(
    "text", ["", "KB", "-1KB", "1.KB", "1 2", "3 XB", "1e3", "0.5", "nan", "1,5KB"]
)
def test_what_is_no_number_of_bytes(text):
    """Refused, with an example or the reason."""
    with pytest.raises(UsageError):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["20", "20 d", "0.1us", "ms", "-1ms"])
def test_what_is_no_duration(text):
    """A number without a unit is none either."""
    with pytest.raises(UsageError):
        parse_duration_us(text)


@given(st.integers(0, 10**15))
def test_a_count_of_bytes_reads_as_itself(count):
    """Written out in bytes, nothing is lost."""
    assert parse_bytes(f"{count} B") == parse_bytes(str(count)) == count


@given(st.integers(0, 10**12))
def test_what_is_shown_is_close_to_what_is(count):
    """Shown bytes read again are within half a percent, shown times too."""
    assert abs(parse_bytes(show_bytes(count)) - count) <= count * 0.006
    shown = show_us(count).replace(" ", "")
    assert abs(parse_duration_us(shown) - count) <= count * 0.05 + 1


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (1_300_000, "1.30 MB"),
        (2_500_000_000, "2.50 GB"),
    ],
)
def test_shown_bytes(count, text):
    """Three digits are enough for people."""
    assert show_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 us"), (850, "850 us"), (1_240, "1.24 ms"), (2_000_000, "2.0 s")],
)
def test_shown_times(count, text):
    """Microseconds, milliseconds, seconds."""
    assert show_us(count) == text
