"""What a process says of itself: its own memory and age, not its parent's."""

import subprocess
import sys
import time

import pytest

from edgewright.core import process


def test_the_peak_is_at_least_what_is_resident():
    """Both are read in bytes, and a Python program has some megabytes."""
    resident, peak = process.resident_bytes(), process.peak_bytes()

    assert 4 << 20 < resident <= peak + (1 << 20)


@pytest.mark.slow
def test_a_small_child_of_a_large_parent_is_small():
    """The parent's memory is not counted as the child's peak."""
    ballast = bytearray(200 << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])  # so that every page is in RAM
    code = "from edgewright.core import process; print(process.peak_bytes())"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert process.peak_bytes() > 200 << 20
    assert int(done.stdout) < 60 << 20


@pytest.mark.slow
def test_age_counts_from_the_start_of_the_program():
    """A program that waited a quarter of a second is at least that old."""
    code = "import time; time.sleep(0.25)\n"
    code += "from edgewright.core import process; print(process.age_s())"
    start = time.monotonic()

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert 0.24 < float(done.stdout) < time.monotonic() - start + 0.02
