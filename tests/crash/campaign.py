"""The fault campaign: kill everything, at random, while rollouts run.

A control plane and three devices run as real processes under real traffic.
Supervisors, couriers, installers, workers and the server are killed with
SIGKILL at random moments; releases keep being rolled out meanwhile. After every
kill each device must hold a complete verified model, and at the end the fleet's
account of every device must be the truth.
"""

import json
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from examples.digits.local import Device, Server, Traffic, children, wait_for

from edgewright.bundle import archive
from edgewright.core import digest
from edgewright.core.errors import EdgewrightError
from edgewright.wire.http import Client

ROLES = ("supervisor", "courier", "installer", "worker", "server")
_MODULES = {
    "courier": b"edgewright.agent.courier",
    "installer": b"edgewright.bundle.install",
    "worker": b"edgewright.runtime.worker",
}


@dataclass
class Result:
    """What a campaign came to."""

    kills: Counter[str] = field(default_factory=Counter)
    checks: int = 0
    rollouts: list[str] = field(default_factory=list)
    events: int = 0
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class Campaign:
    """Kills, and what must hold after each of them."""

    def __init__(self, server: Server, devices: list[Device], *, seed: int) -> None:
        self.result = Result()
        self._server, self._devices = server, devices
        self._random = random.Random(seed)  # noqa: S311  a campaign is repeatable, not secret

    def kill(self, role: str) -> bool:
        """Kill one process of a role, if one shows up within a few seconds."""
        if role == "server":
            self._server.stop(signal.SIGKILL)
            time.sleep(self._random.uniform(0, 0.5))
            self._server.start()
        else:
            device = self._random.choice(self._devices)
            if role == "supervisor":
                device.stop(signal.SIGKILL)
                time.sleep(self._random.uniform(0, 0.3))
                device.start()
            elif not self._kill_child(device, role):
                return False
        self.result.kills[role] += 1
        return True

    def check(self) -> None:
        """Every device that ever had a model has one now, complete and verified."""
        for device in self._devices:
            pointer = device.home / "pointer.json"
            if not pointer.exists():
                continue
            active = json.loads(pointer.read_text()).get("active")
            if active is None:
                continue
            archive.verify_slot(device.home / "slots" / digest.hex_of(active), active)
            self.result.checks += 1

    def _kill_child(self, device: Device, role: str) -> bool:
        """Wait for a child of the role, let it run a random moment, kill it."""
        end = time.monotonic() + 4.0
        while time.monotonic() < end:
            for pid in children(device.pid):
                if _MODULES[role] in _cmdline(pid):
                    time.sleep(self._random.uniform(0, 0.15))
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        return False
                    return True
            time.sleep(0.01)
        return False


def settle(server: Server, devices: list[Device], release: str, *, seconds: float) -> None:
    """Wait until every device runs ``release`` and says so itself and to the fleet."""

    def settled() -> bool:
        try:
            client = server.client()
            listed = client.call("GET", "/v1/devices")["devices"]
            client.close()
        except EdgewrightError:
            return False
        told = {one["device"]: (one.get("serving") or {}).get("release") for one in listed}
        return all(told.get(device.id) == release == _answers(device) for device in devices)

    wait_for(settled, f"every device to run {release}", seconds=seconds)


def _answers(device: Device) -> str:
    """The release that answers a device's applications now; nothing if none does."""
    image = {"name": "image", "datatype": "UINT8", "shape": [1, 1, 8, 8], "data": [0] * 64}
    try:
        client = Client(device.url, timeout_s=5.0)
        try:
            answer = client.call("POST", "/v2/models/digits/infer", {"inputs": [image]})
        finally:
            client.close()
    except (EdgewrightError, KeyError, OSError):
        return ""
    return str(answer["parameters"]["release"])


def account(server: Server, device: Device) -> dict[str, Any]:
    """What the fleet has counted for one device."""
    client = server.client()
    try:
        found: dict[str, Any] = client.call("GET", f"/v1/devices/{device.id}")
    finally:
        client.close()
    return found


def traffic_for(devices: list[Device], *, seed: int) -> list[Traffic]:
    """One application a device, asking for answers to random images."""
    images = np.random.default_rng(seed).integers(0, 17, (64, 1, 8, 8), dtype=np.uint8)
    return [
        Traffic(device, images, np.zeros(64, np.int64), rate_hz=20.0) for device in devices
    ]


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
