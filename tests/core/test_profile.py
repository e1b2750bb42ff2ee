"""profile: the catalogue says where each figure is from, and classes have borders."""

from dataclasses import fields, replace

import pytest

from edgewright.core.errors import UsageError
from edgewright.core.profile import PLATFORMS, DeviceProfile, catalogue, find

CATALOGUE = catalogue()
FIGURES = [
    f.name for f in fields(DeviceProfile) if f.type == "int | None" or f.type == int | None
]
ANY = DeviceProfile("any", "linux")


def test_the_devices_of_the_mission_are_there():
    """Ten kinds, each of a platform of its own or the platform's accelerator."""
    assert set(CATALOGUE) == {
        "arduino-nano-33-ble",
        "coral-dev-board",
        "cortex-m7",
        "esp32-s3",
        "intel-nuc",
        "iphone-15",
        "jetson-orin-nano",
        "qcs6490",
        "raspberry-pi-5",
        "raspberry-pi-5-hailo-8l",
    }
    assert {device.platform for device in CATALOGUE.values()} <= set(PLATFORMS)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_figure_has_its_source(name):
    """And no source stands without its figure."""
    device = CATALOGUE[name]
    stated = {
        f.name
        for f in fields(device)
        if f.name not in {"title", "platform", "use", "sources"} and getattr(device, f.name)
    }

    assert len(FIGURES) == 9
    assert stated == set(device.sources) - {"platform"}
    assert all(len(source) > 20 for source in device.sources.values())


@pytest.mark.parametrize("name", CATALOGUE)
def test_figures_are_of_the_right_size(name):
    """No unit was mistaken: minima are not above maxima, memory is not in kilobytes."""
    device = CATALOGUE[name]

    assert device.use
    assert device.engines
    assert (device.power_min_mw or 0) <= (device.power_max_mw or 10**9)
    assert (device.price_min_usd_cents or 0) <= (device.price_max_usd_cents or 10**9)
    assert device.memory_bytes is None or 100_000 < device.memory_bytes < 10**12
    assert device.clock_mhz is None or 10 < device.clock_mhz < 10_000
    assert device.tops_int8_milli is None or device.tops_int8_milli < 10**6


@pytest.mark.parametrize(
    ("memory_bytes", "clock_mhz", "expected"),
    [
        (100 * 10**6 - 1, 500, "ultra-low"),
        (100 * 10**6, 499, "ultra-low"),
        (100 * 10**6, 500, "low"),
        (10**9 - 1, 5000, "low"),
        (10**9, 1000, "medium"),
        (4 * 10**9, 1999, "medium"),
        (4 * 10**9, 2000, "high"),
        (None, 499, "ultra-low"),
        (None, 2000, "high"),
        (0, None, "ultra-low"),
        (8 * 10**9, None, "high"),
        (None, None, "unknown"),
    ],
)
def test_resource_classes_at_their_borders(memory_bytes, clock_mhz, expected):
    """The lowest class that memory or clock puts a device in; unknown without both."""
    device = replace(ANY, memory_bytes=memory_bytes, clock_mhz=clock_mhz)

    assert device.resource_class == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("esp32-s3", "ultra-low"), ("cortex-m7", "ultra-low"), ("raspberry-pi-5", "high")],
)
def test_resource_classes_of_known_devices(name, expected):
    """The classes the mission names, on boards everyone knows."""
    assert CATALOGUE[name].resource_class == expected


def test_a_fingerprint_is_of_what_decides_speed():
    """The order of the flags and the price do not matter; cores and memory do."""
    device = find("raspberry-pi-5")

    assert device.fingerprint == replace(device, isa=device.isa[::-1]).fingerprint
    assert device.fingerprint == replace(device, price_max_usd_cents=1).fingerprint
    assert device.fingerprint != replace(device, cores=2).fingerprint
    assert device.fingerprint != replace(device, memory_bytes=1).fingerprint
    assert device.fingerprint.startswith("raspberry-pi-")


def test_a_device_nobody_knows_names_the_nearest():
    """A typo is met with the word that was meant."""
    with pytest.raises(UsageError) as refused:
        find("raspbery-pi-5")

    assert "'raspberry-pi-5'" in refused.value.hint


def test_a_platform_without_a_word_is_refused():
    """Also where a probe would make it up."""
    with pytest.raises(ValueError, match="unknown platform 'toaster'"):
        DeviceProfile("x", "toaster")


@pytest.mark.parametrize(
    ("isa", "overflow"),
    [
        (("sse4.2",), True),
        (("avx", "avx2", "fma", "sse4.2"), True),
        (("avx2", "vnni"), False),
        (("avx2", "avx512", "amx-int8"), False),
        (("neon", "dotprod"), False),
        (("neon",), False),
        ((), False),
    ],
)
def test_pairs_overflow_on_x86_without_vnni(isa, overflow):
    """255 * 127 * 2 is beyond int16, and only those kernels add in 16 bits."""
    assert replace(ANY, isa=isa).pairs_overflow is overflow
