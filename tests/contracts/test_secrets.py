"""No private key is in the repository; tests and the demo make their own."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The brackets keep the pattern from finding itself.
_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KE[Y]-----\s+[A-Za-z0-9+/=]{16}")


@pytest.mark.needs("git")
def test_no_tracked_file_holds_a_private_key():
    """Nor any that git would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / name for name in filter(None, listed.stdout.split("\0"))]

    assert [p for p in paths if p.is_file() and _KEY.search(p.read_bytes())] == []


def test_a_private_key_is_caught():
    """In the form keys are written, whatever the algorithm."""
    body = b"MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v"

    assert _KEY.search(b"-----BEGIN PRIVATE" + b" KEY-----\n" + body)
    assert _KEY.search(b"x\n-----BEGIN EC PRIVATE" + b" KEY-----\r\n" + body)
    assert not _KEY.search(b"-----BEGIN PUBLIC" + b" KEY-----\n" + body)
