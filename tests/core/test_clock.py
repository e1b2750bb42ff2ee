"""clock: one text for one moment, and clocks that do what they say."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core import clock
from edgewright.core.errors import WireError

MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  hypothesis adds the zone


@given(MOMENTS)
def test_a_moment_reads_as_it_is_shown(moment):
    """Whole seconds survive; the text has 20 characters and ends in Z."""
    text = clock.show(moment)

    assert clock.parse(text) == moment.replace(microsecond=0)
    assert len(text) == 20
    assert text.endswith("Z")


def test_known_moment_in_another_zone():
    """13:30 in a zone two hours east is 11:30 in UTC."""
    east = timezone(timedelta(hours=2))

    assert (
        clock.show(datetime(2026, 1, 31, 13, 30, 5, 999_999, east)) == "2026-01-31T11:30:05Z"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00:00+00:00",
        "2026-01-31T12:00:00.5Z",
        "2026-02-30T12:00:00Z",
        "2026-1-31T12:00:00Z",
        "2026-01-31T1:00:00Z",
        "2026-01-31T12:00:00Z ",
        "2026-01-31t12:00:00z",
    ],
)
def test_any_other_form_is_refused(text):
    """Also those that a lenient reader would take: one moment has one text."""
    with pytest.raises(WireError, match="is not a time like"):
        clock.parse(text)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    """Nothing but WireError leaves parse."""
    try:
        moment = clock.parse(text)
    except WireError:
        return

    assert clock.show(moment) == text


def test_the_system_clock():
    """Wall time is in UTC, monotonic time does not go back."""
    system = clock.SystemClock()

    assert abs((system.now() - datetime.now(UTC)).total_seconds()) < 5
    assert system.monotonic_s() <= system.monotonic_s()


def test_the_boot_id_stays():
    """The same within one boot."""
    assert clock.boot_id() == clock.boot_id() != ""
