"""digest: the form, the published vector, and files as bytes."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core import digest
from edgewright.core.errors import BundleError

# FIPS 180-2, appendix B.1: the message "abc".
ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_known_digest():
    """The published test vector, whole, as hex and as people see it."""
    assert digest.of_bytes(b"abc") == ABC
    assert digest.hex_of(ABC) == ABC.removeprefix("sha256:")
    assert digest.short(ABC) == "ba7816bf8f01"


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_a_file_has_the_digest_of_its_bytes(tmp_path, size):
    """At, below and above the size of a block."""
    path = tmp_path / "f"
    path.write_bytes(b"\xa5" * size)

    assert digest.of_file(path) == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@given(st.text(max_size=80))
def test_nothing_else_is_a_digest(text):
    """Any other text is refused with the form in the hint."""
    with pytest.raises(BundleError) as refused:
        digest.check(text)

    assert "64 hexadecimal" in refused.value.hint


@pytest.mark.parametrize("text", [ABC.upper(), ABC[:-1], ABC + "0", f"{ABC}\n", ABC[7:]])
def test_near_misses_are_refused(text):
    """Upper case, a digit less or more, a line end, no prefix."""
    with pytest.raises(BundleError):
        digest.check(text)
