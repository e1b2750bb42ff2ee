"""What this process weighs and how long it has lived, from /proc.

``getrusage`` is not used: its peak is inherited from the process that started
this one, so a small child of a large parent would seem large.
"""

import os
import time
from pathlib import Path

_SELF = Path("/proc/self")


def resident_bytes() -> int:
    """Return the memory of this process that is in RAM; 0 where there is no /proc."""
    try:
        pages = (_SELF / "statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes() -> int:
    """Return the most memory this program has had in RAM; 0 where there is no /proc."""
    try:
        lines = (_SELF / "status").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def age_s() -> float:
    """Return the seconds since this process was started, to a clock tick (10 ms)."""
    # The name of the program, in brackets, may hold spaces; the rest does not.
    fields = (_SELF / "stat").read_text().rpartition(")")[2].split()
    started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started_s)
