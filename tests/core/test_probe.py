"""probe: other machines' files, and what it says where there are none."""

import os

import pytest

from edgewright.core.probe import Conditions, conditions, probe

RASPBERRY_PI = {
    "proc/cpuinfo": (
        "processor\t: 0\n"
        "BogoMIPS\t: 108.00\n"
        "Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm asimddp\n"
        "CPU implementer\t: 0x41\n\n"
        "Model\t\t: Raspberry Pi 5 Model B Rev 1.0\n"
    ),
    "proc/meminfo": "MemTotal:        8245896 kB\nMemAvailable:    7500000 kB\n",
    "proc/loadavg": "0.52 0.58 0.59 1/257 4242\n",
    "sys/firmware/devicetree/base/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "2400000\n",
    "sys/class/thermal/thermal_zone0/temp": "48300\n",
    "sys/class/thermal/thermal_zone1/temp": "51250\n",
    "sys/class/net/lo/mtu": "65536\n",
    "sys/class/net/eth0/mtu": "1500\n",
    "sys/class/net/wlan0/wireless/link": "\n",
    "dev/hailo0": "",
}
LAPTOP = {
    "proc/cpuinfo": (
        "model name\t: Intel(R) NUC with a Core(TM) i5\n"
        "cpu MHz\t\t: 1998.123\n"
        "flags\t\t: fpu sse4_2 avx avx2 fma avx512f avx512_vnni\n"
    ),
    "proc/meminfo": "MemTotal: 1000 kB\n",
    "sys/class/net/lo/mtu": "65536\n",
    "sys/class/power_supply/BAT0/capacity": "87\n",
    "sys/class/power_supply/AC/online": "1\n",
    "dev/nvidia0": "",
}


@pytest.fixture
def machine(tmp_path):
    """Return a function that lays a machine's files out and returns their root."""

    def lay_out(files):
        for name, text in files.items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "root"

    return lay_out


def test_a_raspberry_pi(machine):
    """Its title, instruction sets, clock, memory, accelerator and links."""
    found = probe(machine(RASPBERRY_PI))

    assert found.title == "Raspberry Pi 5 Model B Rev 1.0"
    assert found.platform == "raspberry-pi"
    assert found.isa == ("dotprod", "fp16", "neon")
    assert found.clock_mhz == 2400
    assert found.memory_bytes == 8245896 * 1024
    assert found.npu == "hailo0"
    assert found.gpu is None
    assert found.connectivity == ("ethernet", "wifi")
    assert found.cores == len(os.sched_getaffinity(0))
    assert found.resource_class == "high"
    assert found.sources["clock_mhz"] == "cpufreq"
    assert "gpu" not in found.sources


def test_an_x86_machine(machine):
    """The flags have the names the rest of us use; the clock is what the kernel says."""
    found = probe(machine(LAPTOP))

    assert found.platform == "intel-nuc"
    assert found.isa == ("avx", "avx2", "avx512", "fma", "sse4.2", "vnni")
    assert (found.clock_mhz, found.sources["clock_mhz"]) == (1998, "/proc/cpuinfo")
    assert found.gpu == "nvidia"
    assert found.connectivity == ()


def test_what_a_machine_goes_through(machine, tmp_path):
    """Load, free memory, the hottest zone; no battery is None, not 0."""
    seen = conditions(tmp_path, machine(RASPBERRY_PI))

    assert seen.load_1m == 0.52
    assert seen.memory_available_bytes == 7500000 * 1024
    assert seen.temperature_milli_c == 51250
    assert seen.battery_percent is None
    assert seen.storage_free_bytes is not None
    assert seen.storage_free_bytes > 0


def test_a_battery_is_read_past_what_is_no_battery(machine, tmp_path):
    """The mains adapter has no capacity."""
    assert conditions(tmp_path, machine(LAPTOP)).battery_percent == 87


def test_a_machine_that_says_nothing(tmp_path):
    """Every figure is None, and none has a source; nothing is guessed."""
    found = probe(tmp_path / "nothing")

    assert found.title
    assert found.platform == "linux"
    assert (found.isa, found.clock_mhz, found.memory_bytes) == ((), None, None)
    assert set(found.sources) == {"cores"}
    assert conditions(tmp_path / "nowhere", tmp_path / "nothing") == Conditions()


def test_a_thermal_zone_that_cannot_be_read_is_passed_over(machine, tmp_path):
    """Broken sensors answer with an error or with words; cold ones with a minus."""
    files = {
        "sys/class/thermal/thermal_zone0/temp": "Invalid argument\n",
        "sys/class/thermal/thermal_zone1/temp": "-5000\n",
    }

    assert conditions(tmp_path, machine(files)).temperature_milli_c == -5000


def test_the_machine_at_hand():
    """Whatever it is, it has a core, memory and a title."""
    found = probe()

    assert found.cores
    assert found.memory_bytes
    assert found.title
