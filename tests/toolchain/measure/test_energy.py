"""Energy: read off whatever meter there is, nothing where there is none."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from edgewright.core import profile
from edgewright.core.evidence import Evidence
from edgewright.toolchain.ir.samples import Samples
from edgewright.toolchain.measure import energy

SAMPLES = Samples({"x": np.zeros((4, 1), np.float32)})


def _write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{value}\n")


def test_without_a_meter_there_is_none(tmp_path):
    """A virtual machine shows no counter."""
    assert energy.find(tmp_path) is None


@pytest.mark.parametrize(
    ("place", "name", "counts"),
    [
        ("sys/class/powercap/intel-rapl:0/energy_uj", "RAPL", True),
        ("sys/class/hwmon/hwmon2/power1_input", "power sensor", False),
        ("sys/class/power_supply/BAT0/power_now", "battery", False),
    ],
)
def test_each_kind_of_meter_is_found(tmp_path, place, name, counts):
    """By the file the kernel shows it in."""
    _write(tmp_path / place, 5_000_000)

    meter = energy.find(tmp_path)

    assert name in meter.name
    assert meter.counts is counts
    assert meter.read() == 5_000_000


def test_a_meter_nobody_may_read_is_passed_over(tmp_path):
    """The next one is taken; what it says is no number is no meter either."""
    _write(tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj", "denied")
    _write(tmp_path / "sys/class/power_supply/BAT0/power_now", 7)

    assert "battery" in energy.find(tmp_path).name


@pytest.mark.slow
def test_a_counter_that_runs_with_the_answers_tells_their_energy(monkeypatch):
    """A kilojoule a thousand answers beside two idle watts: a joule each, and the power."""
    used = {"answers": 0}
    begun = time.perf_counter()
    monkeypatch.setattr(
        energy.Meter,
        "read",
        lambda _: int((time.perf_counter() - begun) * 2e6) + used["answers"] * 1000,
    )

    def run(_feeds):
        used["answers"] += 1
        time.sleep(0.002)

    meter = energy.Meter("a counter", None, counts=True, most=1 << 60)
    each, power = energy.measure(
        SimpleNamespace(run=run), SAMPLES, meter, machine="m", rate_hz=100
    )

    assert each.name == "energy_uj"
    assert each.value == pytest.approx(1000, rel=0.1)
    assert each.low <= each.value <= each.high
    assert power.value == pytest.approx(2000 + 100, rel=0.1)
    assert "100 answers a second" in power.how


def test_an_estimate_says_what_it_is_made_of():
    """Time with a declared power, three times either way; it never decides by itself."""
    device = profile.find("raspberry-pi-5")
    latency = Evidence("p50_us", 1000, 1, device.fingerprint, "estimated")

    each, power = energy.estimate(latency, device, 100)

    assert not each.firm
    assert not power.firm
    assert each.value == 3000
    assert (each.low, each.high) == (1000, 9000)
    assert power.value == 300


def test_nothing_is_estimated_from_nothing():
    """No latency, or no power anybody declared."""
    assert energy.estimate(None, profile.find("raspberry-pi-5"), None) == ()
    latency = Evidence("p50_us", 1000, 1, "x", "estimated")
    assert energy.estimate(latency, profile.find("cortex-m7"), None) == ()
