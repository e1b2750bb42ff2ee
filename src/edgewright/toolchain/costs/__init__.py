"""How long an answer would take on a device that is not at hand, with how wrong that may be.

Work is counted by operator (``work``), and each kind of it is priced in cycles of a core
with the device's instruction sets. The prices were fitted once, on one machine, to the
models of ``benchmarks/suite`` (``benchmarks/costs.py`` fits and checks them, each model by
prices it had no part in). On that machine nine of ten figures are within ``ERROR_HERE``; for
another processor nobody has measured, so the bounds are ``ERROR_ELSEWHERE`` wide and the
method is ``estimated``: no verdict rests on it unless it is asked to.
"""

from collections.abc import Mapping
from math import ceil, floor

from edgewright.core.evidence import Evidence
from edgewright.core.profile import DeviceProfile
from edgewright.toolchain.costs.prices import LANES, PRICES, lanes_of
from edgewright.toolchain.costs.work import KINDS, Work, work_of

__all__ = [
    "ERROR_ELSEWHERE",
    "ERROR_HERE",
    "KINDS",
    "LANES",
    "Work",
    "cycles",
    "estimate",
    "priced",
    "work_of",
]

# Factors either way. The first is measured; the second also has to cover another cache,
# another memory and another engine build, and no measurement of ours backs it yet.
ERROR_HERE, ERROR_ELSEWHERE = 2.0, 4.0
_TAIL = 1.3  # p99 over the median, as on the machine the prices are from


def cycles(work: Work, device: DeviceProfile) -> float:
    """Return cycles of one core for one answer."""
    lanes = lanes_of(device.isa)
    return sum(PRICES[kind] * count / lanes[kind] for kind, count in work.counts.items())


def estimate(work: Work, device: DeviceProfile) -> tuple[Evidence, ...]:
    """Return p50, p99 and the rate of one core of ``device``; nothing without a clock."""
    if device.clock_mhz is None:
        return ()
    microseconds = max(cycles(work, device) / device.clock_mhz, 1.0)
    how = f"cost model by operator, within a factor of {ERROR_ELSEWHERE:g} either way"
    return (
        _between("p50_us", microseconds, device, how),
        _between("p99_us", microseconds * _TAIL, device, how),
        _between("rate_hz", 1e6 / microseconds, device, how),
    )


def _between(name: str, value: float, device: DeviceProfile, how: str) -> Evidence:
    low, high = floor(value / ERROR_ELSEWHERE), ceil(value * ERROR_ELSEWHERE)
    return Evidence(
        name, round(value), 1, device.fingerprint, "estimated", low, high, how=how
    )  # fmt: skip


def priced(work: Work) -> Mapping[str, int]:
    """Return the work for a fit: all kinds, those that are not there as nothing."""
    return {kind: work.counts.get(kind, 0) for kind in KINDS}
