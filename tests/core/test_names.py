"""names: forms that are refused, ids that cannot be claimed, cohorts that stay."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core import names
from edgewright.core.errors import UsageError

# Also printed in the docs, so that another implementation can be checked against them.
COHORTS = [
    ("", "", 4304),
    ("salt", "dev-a", 1055),
    ("rol_01", "dev-aaaaaaaaaaaaaaaaaaaaaaaaaa", 2365),
    ("rol_02", "dev-aaaaaaaaaaaaaaaaaaaaaaaaaa", 7092),
]


@pytest.mark.parametrize("text", ["a", "0", "digits", "a-b-9", "a" * 63])
def test_names(text):
    """1 to 63 of a-z, 0-9 and '-', beginning with a letter or digit."""
    assert names.check_name(text, "bundle") == text


@pytest.mark.parametrize(
    "text", ["", "-a", "A", "a_b", "a b", "a" * 64, "a\n", "é", "a/b", ".."]
)
def test_what_cannot_be_a_name(text):
    """Refused, saying what was to be called so."""
    with pytest.raises(UsageError, match="cannot name a bundle"):
        names.check_name(text, "bundle")


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True), st.integers(1, 10**9 - 1))
def test_a_release_reads_as_it_is_shown(name, version):
    """name@N, round trip."""
    release = names.Release(name, version)

    assert names.parse_release(str(release)) == release


@pytest.mark.parametrize(
    "text", ["digits", "digits@", "digits@0", "digits@01", "@1", "a@1@2", "a@-1", "a@1 "]
)
def test_what_is_no_release(text):
    """The hint shows one."""
    with pytest.raises(UsageError) as refused:
        names.parse_release(text)

    assert "digits@2" in refused.value.hint


def test_ids_are_ulids_in_order_of_time():
    """Prefix and 26 characters; never twice; a later millisecond sorts later."""
    ids = [names.new_id("rol") for _ in range(200)]

    assert all(re.fullmatch(r"rol_[0-7][0-9A-HJKMNP-TV-Z]{25}", one) for one in ids)
    assert len(set(ids)) == len(ids)
    times = [one[4:14] for one in ids]
    assert times == sorted(times)


def test_known_device_id():
    """The first 26 base32 characters of sha256 of 32 zero bytes, worked by hand."""
    # sha256(bytes(32)) = 66687aad f862bd77 6c8fc18b 8e9f8e20 08971485 ...
    assert names.device_id(bytes(32)) == "dev-mzuhvlpymk6xo3epygfy5h4oea"


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_two_keys_have_two_ids(one, other):
    """And each id is a name a folder can have."""
    same = names.device_id(one) == names.device_id(other)

    assert same == (one == other)
    assert re.fullmatch(r"dev-[a-z2-7]{26}", names.device_id(one))


@pytest.mark.parametrize(("salt", "device", "place"), COHORTS)
def test_known_cohorts(salt, device, place):
    """Fixed for ever: a device must not change its wave with a version of ours."""
    assert names.cohort(salt, device) == place


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_cohort_is_a_basis_point(salt, device):
    """0 to 9,999, the same every time."""
    place = names.cohort(salt, device)

    assert 0 <= place < 10_000
    assert names.cohort(salt, device) == place


def test_cohorts_are_spread_evenly():
    """Ten tenths of 10,000 devices each hold 1,000, give or take five deviations."""
    counts = Counter(names.cohort("salt", f"dev-{n}") // 1000 for n in range(10_000))

    assert set(counts) == set(range(10))
    assert all(abs(count - 1000) <= 150 for count in counts.values())


def test_another_salt_is_another_order():
    """The same devices are not always first: their places are not alike."""
    pairs = [
        (names.cohort("a", f"dev-{n}"), names.cohort("b", f"dev-{n}")) for n in range(2000)
    ]

    first_in_both = sum(one < 1000 and other < 1000 for one, other in pairs)

    assert first_in_both < 50
