"""What the machine at hand is, read from /proc and /sys; unknown is said, not guessed.

Every reader takes the root of the file system, so that a test can hand it
another machine's files.
"""

import os
import platform
import re
from dataclasses import dataclass, replace
from pathlib import Path

from edgewright.core.profile import DeviceProfile

_ROOT = Path("/")

# Kernel flag -> the name we use; the rest of the flags decide nothing here.
_ISA = {
    "sse4_2": "sse4.2", "avx": "avx", "avx2": "avx2", "fma": "fma", "avx512f": "avx512",
    "avx_vnni": "vnni", "avx512_vnni": "vnni", "amx_int8": "amx-int8", "amx_bf16": "amx-bf16",
    "asimd": "neon", "neon": "neon", "asimddp": "dotprod", "i8mm": "i8mm", "fphp": "fp16",
    "sve": "sve",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Conditions:
    """What changes from minute to minute; None where this machine cannot say.

    Attributes:
        load_1m: Processes that ran or waited, mean over a minute.
        memory_available_bytes: What can be used without swapping.
        temperature_milli_c: Hottest thermal zone.
        battery_percent: Charge of the first battery.
        storage_free_bytes: Free space where state is kept.
    """

    load_1m: float | None = None
    memory_available_bytes: int | None = None
    temperature_milli_c: int | None = None
    battery_percent: int | None = None
    storage_free_bytes: int | None = None


def probe(root: Path = _ROOT) -> DeviceProfile:
    """Return a profile of this machine; every figure says which file it came from."""
    flags = _cpu_field(root, ("flags", "Features")) or ""
    model = _text(root / "sys/firmware/devicetree/base/model").strip("\0\n ")
    title = model or _cpu_field(root, ("model name", "Hardware")) or platform.machine()
    memory = re.search(r"MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"))
    clock = _text(root / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").strip()
    mhz = _cpu_field(root, ("cpu MHz",))
    npus = sorted(path.name for path in (root / "dev").glob("hailo*"))
    npus += sorted(path.name for path in (root / "dev").glob("apex_*"))
    profile = DeviceProfile(
        title=title,
        platform=_platform(title),
        isa=tuple(sorted({_ISA[f] for f in flags.split() if f in _ISA})),
        cores=len(os.sched_getaffinity(0)),
        clock_mhz=int(clock) // 1000 if clock else (int(float(mhz)) if mhz else None),
        memory_bytes=int(memory[1]) * 1024 if memory else None,
        gpu="nvidia" if (root / "dev/nvidia0").exists() else None,
        npu=npus[0] if npus else None,
        connectivity=_links(root),
        use="the machine at hand",
        engines=("onnxruntime",),
    )
    where = {
        "isa": "/proc/cpuinfo",
        "cores": "sched_getaffinity",
        "clock_mhz": "cpufreq" if clock else "/proc/cpuinfo",
        "memory_bytes": "/proc/meminfo",
        "gpu": "/dev",
        "npu": "/dev",
        "connectivity": "/sys/class/net",
    }
    return replace(profile, sources={k: v for k, v in where.items() if getattr(profile, k)})


def conditions(state: Path, root: Path = _ROOT) -> Conditions:
    """Return what the machine is going through now; ``state`` is where its disk is asked."""
    available = re.search(r"MemAvailable:\s+(\d+) kB", _text(root / "proc/meminfo"))
    load = _text(root / "proc/loadavg").split()
    temperatures = [
        int(text)
        for zone in (root / "sys/class/thermal").glob("thermal_zone*/temp")
        if (text := _text(zone).strip()).lstrip("-").isdigit()
    ]
    charge = [
        text
        for path in sorted((root / "sys/class/power_supply").glob("*/capacity"))
        if (text := _text(path).strip()).isdigit()
    ]
    return Conditions(
        load_1m=float(load[0]) if load else None,
        memory_available_bytes=int(available[1]) * 1024 if available else None,
        temperature_milli_c=max(temperatures, default=None),
        battery_percent=int(charge[0]) if charge else None,
        storage_free_bytes=_free(state),
    )


def _platform(title: str) -> str:
    """Return the platform the board's own name tells, else ``linux``."""
    for word, name in (
        ("Raspberry Pi", "raspberry-pi"),
        ("Jetson", "jetson"),
        ("NUC", "intel-nuc"),
    ):
        if word in title:
            return name
    return "linux"


def _links(root: Path) -> tuple[str, ...]:
    kinds = set()
    for link in (root / "sys/class/net").glob("*"):
        if link.name == "lo":
            continue
        kinds.add("wifi" if (link / "wireless").exists() else "ethernet")
    return tuple(sorted(kinds))


def _free(state: Path) -> int | None:
    try:
        found = os.statvfs(state)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _cpu_field(root: Path, names: tuple[str, ...]) -> str | None:
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in names:
            return value.strip()
    return None


def _text(path: Path) -> str:
    """Return the text of a kernel file, empty where this machine does not have it."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
