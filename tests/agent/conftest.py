"""Bundles made once, a fleet and a device for each test."""

import contextlib

import pytest
from tests.sim.bundles import make_bundle
from tests.sim.control_plane import ControlPlane
from tests.sim.device import Device, Scene, Traffic

from edgewright.bundle.manifest import Policy

# A trial as short as a test can bear, with limits a busy test machine keeps.
POLICY = Policy(min_inferences=5, max_slowdown_bp=10**6, deadline_s=60)

_SPECIAL = {
    "good-1": {"version": 1},
    "good-2": {"version": 2, "seed": 8},
    "good-3": {"version": 3, "seed": 9},
    "overridden": {"version": 4, "invert": True, "override": "the customer waits"},
    "wrong-device": {"version": 5, "wrong_variant": True},
    "two-variants": {"version": 9, "variants": ("float32", "other")},
    "silent": {"version": 6, "policy": Policy(min_inferences=10**6, deadline_s=3)},
    "endless": {"version": 7, "policy": Policy(min_inferences=10**6, deadline_s=600)},
    "slow": {
        "version": 8,
        "slow": 8,
        "policy": Policy(min_inferences=5, max_p95_us=2_000, deadline_s=60),
    },
}


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """Bundles by what is special about them."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, options in _SPECIAL.items():
        make_bundle(folder / f"{name}.ewb", **{"policy": POLICY, **options})
    return {name: folder / f"{name}.ewb" for name in _SPECIAL}


@pytest.fixture
def plane(tmp_path):
    """A fleet that listens."""
    (tmp_path / "plane").mkdir()
    made = ControlPlane(tmp_path / "plane")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def device(plane, tmp_path):
    """A device of that fleet, not started."""
    made = Device(plane, tmp_path, hang_s=3.0)
    yield made
    made.stop()


@contextlib.contextmanager
def _played(plane, device, bundles):
    """Release 1 installed, tried and kept, under traffic."""
    first = plane.publish(bundles["good-1"])
    plane.roll_out(first)
    device.start()
    try:
        with Traffic(device) as traffic:
            made = Scene(plane, device, bundles, first, traffic)
            made.wait_serves("digits@1")
            made.wait_told("confirmed", "digits@1")
            traffic.counts.clear()
            yield made
    finally:
        device.stop()


@pytest.fixture
def scene(plane, device, bundles):
    """Release 1 on an ordinary device."""
    with _played(plane, device, bundles) as made:
        yield made


@pytest.fixture
def scene_on(plane, bundles):
    """Release 1 on a device whose home is a folder of the test's choice."""
    return lambda home: _played(plane, Device(plane, home.parent), bundles)
