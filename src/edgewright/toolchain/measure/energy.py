"""What an answer costs in energy, read off a meter of the machine where it has one.

Three kinds of meter are known, all of them files of the kernel: the counters of an x86
package (RAPL), power sensors on a board's rails (INA class, ``hwmon``), and the gauge of a
battery. Idle power is taken off, so that the figure is what answering adds. Where there is
no meter nothing is measured; ``estimate`` multiplies time with a power somebody declared,
and says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

from edgewright.core.evidence import Evidence
from edgewright.core.profile import DeviceProfile
from edgewright.runtime.engines import Session
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure.latency import one_core

ENERGY, POWER = "energy_uj", "power_mw"

# The largest of five rounds is a 97 % upper bound on their median, the smallest a lower one.
_ROUNDS = 5
_ROUND_S, _IDLE_S, _STEP_S = 0.4, 0.4, 0.02
_MICRO = 1e6
# A declared power is of a whole board at full load; one core's share of it is a guess.
_ERROR = 3


@dataclass(frozen=True, slots=True)
class Meter:
    """Something that tells energy or power.

    Attributes:
        name: What it is, for people.
        path: The file of the kernel.
        counts: Whether it counts microjoules; else it tells microwatts.
        most: Where a counter begins anew, in microjoules; 0 where it does not.
    """

    name: str
    path: Path
    counts: bool
    most: int = 0

    def read(self) -> int:
        """Return what it says now; an OSError or ValueError where it says nothing."""
        return abs(int(self.path.read_text()))


def find(root: Path = Path("/")) -> Meter | None:
    """Return the meter of the machine whose files are below ``root``, if it has one."""
    for meter in _meters(root):
        try:
            meter.read()
        except (OSError, ValueError):
            continue
        return meter
    return None


def _meters(root: Path) -> Iterator[Meter]:
    for folder in sorted(root.glob("sys/class/powercap/intel-rapl:?")):
        try:
            most = int((folder / "max_energy_range_uj").read_text())
        except (OSError, ValueError):
            most = 0
        yield Meter("RAPL, the package", folder / "energy_uj", counts=True, most=most)
    for path in sorted(root.glob("sys/class/hwmon/hwmon*/power1_input")):
        yield Meter("a power sensor of the board", path, counts=False)
    for path in sorted(root.glob("sys/class/power_supply/*/power_now")):
        yield Meter("the battery's gauge", path, counts=False)


def measure(
    session: Session, samples: Samples, meter: Meter, *, machine: str, rate_hz: int | None
) -> tuple[Evidence, ...]:
    """Return the energy of an answer, and the power while ``rate_hz`` are answered a second.

    Args:
        session: A loaded model.
        samples: What it is asked, in turn.
        meter: Read around rounds of answers, and while nothing is asked.
        machine: Fingerprint of the machine this runs on.
        rate_hz: Answers a second that power is about; as many as it can where None.
    """
    joules, watts = [], []
    with one_core():
        for _ in range(_ROUNDS):
            idle = _microwatts(meter, None, samples, _IDLE_S)[0]
            power, answered, seconds = _microwatts(meter, session, samples, _ROUND_S)
            each = max(power - idle, 0.0) * seconds / max(answered, 1)
            joules.append(each)
            rate = rate_hz if rate_hz is not None else answered / seconds
            watts.append(idle + each * rate)
    how = f"{meter.name}, {_ROUNDS} rounds"
    at = f"at {rate_hz} answers a second" if rate_hz is not None else "as fast as it can"
    return (
        _evidence(ENERGY, joules, machine, f"{how}, idle power taken off"),
        _evidence(POWER, [one / 1000 for one in watts], machine, f"{how}, {at}"),
    )


def _microwatts(
    meter: Meter, session: Session | None, samples: Samples, seconds: float
) -> tuple[float, int, float]:
    """Return mean power, how many answers were given, and how long it really took."""
    said: list[int] = []
    answered, started = 0, perf_counter()
    first = last = meter.read()
    looked = started
    while (now := perf_counter()) - started < seconds:
        if session is None:
            sleep(_STEP_S)
        else:
            index = answered % len(samples)
            session.run({k: a[index : index + 1] for k, a in samples.arrays.items()})
            answered += 1
        if not meter.counts and now - looked >= _STEP_S:
            said.append(meter.read())
            looked = now
    last, took = meter.read(), perf_counter() - started
    if meter.counts:
        spent = last - first if last >= first else last + meter.most - first
        return spent / took, answered, took
    return median(said or [last]), answered, took


def _evidence(name: str, values: list[float], machine: str, how: str) -> Evidence:
    return Evidence(
        name, round(median(values)), len(values), machine, "measured on host",
        floor(min(values)), ceil(max(values)), how=how,
    )  # fmt: skip


def estimate(
    latency: Evidence | None, device: DeviceProfile, rate_hz: int | None
) -> tuple[Evidence, ...]:
    """Return energy and power as time with the power somebody declared for the device.

    Nothing where no latency or no power is known.
    """
    if latency is None or device.power_max_mw is None:
        return ()
    least = device.power_min_mw or 0
    per_core = (device.power_max_mw - least) / max(device.cores or 1, 1)
    joules = per_core * latency.value / 1000
    rate = rate_hz if rate_hz is not None else _MICRO / max(latency.value, 1)
    watts = least + per_core * min(rate * latency.value / _MICRO, 1.0)
    how = (
        f"{latency.method} latency times the declared power of a core, "
        f"within a factor of {_ERROR} either way"
    )
    return tuple(
        Evidence(
            name, round(value), 1, device.fingerprint, "estimated",
            floor(value / _ERROR), ceil(value * _ERROR), how=how,
        )
        for name, value in ((ENERGY, joules), (POWER, watts))
    )  # fmt: skip
