"""The whole way: what a device and a build host pay for the thin path end to end."""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from examples.digits.local import Device, Server, children, pss_bytes, wait_for
from onnxruntime import InferenceSession, SessionOptions

from edgewright.bundle import archive
from edgewright.runtime import load

Row = dict[str, Any]

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
MIB = 1 << 20


def measure(*, quick: bool) -> list[Row]:
    """Return every row of this area."""
    with tempfile.TemporaryDirectory(prefix="edgewright-bench-") as folder:
        work = Path(folder)
        rows = _optimized(work, runs=1 if quick else 3)
        bundle = work / "digits-1.ewb"
        command("pack", work / "out-0", "--name", "digits", "--version", 1, "-o", bundle)
        rows += _predict(bundle, rounds=2_000 if quick else 20_000)
        rows += _worker_start(bundle, work, runs=5 if quick else 15)
        rows += _device(bundle, work)
    return rows


def command(*words: object) -> Any:
    """Run one ``edgewright`` command and return its document."""
    argv = [sys.executable, "-m", "edgewright.cli.main", *map(str, words), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def row(
    name: str,
    values: list[float],
    unit: str,
    *,
    goal: str = "",
    met: bool | None = None,
    peers: dict[str, float] | None = None,
    n: int | None = None,
) -> Row:
    """Return one row: the median of ``values`` with the least and the largest."""
    spread = f"{min(values):.3g} to {max(values):.3g}" if len(values) > 1 else ""
    return {
        "name": name,
        "value": round(statistics.median(values), 3),
        "unit": unit,
        "goal": goal,
        "met": met,
        "peers": peers or {},
        "spread": spread,
        "n": n or len(values),
    }


def _optimized(work: Path, *, runs: int) -> list[Row]:
    """The optimise step: how long, how small, how fast, what it cost in accuracy."""
    seconds, report = [], {}
    for run in range(runs):
        began = time.perf_counter()
        report = command(
            *("optimize", DIGITS / "models" / "digits-1.onnx"),
            *("--project", DIGITS / "edgewright.toml", "--device", "host"),
            *("-o", work / f"out-{run}"),
        )
        seconds.append(time.perf_counter() - began)
    ratio, speedup = report["summary"]["size_reduction"], report["summary"]["speedup"]
    drop = report["summary"]["accuracy_delta"]
    bounds = f"{drop['low_bp'] / 100:.2f} to {drop['high_bp'] / 100:.2f}"
    lost = row(
        "accuracy lost",
        [drop["estimate_bp"] / 100],
        "points",
        goal="bound <= 1.0",
        met=drop["high_bp"] <= 100,
        n=drop["n"],
    )
    return [
        row("optimize", seconds, "s", goal="<= 20", met=statistics.median(seconds) <= 20),
        row("float over int8 bytes", [ratio], "x", goal=">= 3.5", met=ratio >= 3.5),
        row("float over int8 latency", [speedup], "x", goal=">= 1", met=speedup >= 1),
        lost | {"spread": f"{bounds} (95 % bounds)"},
    ]


def _predict(bundle: Path, *, rounds: int) -> list[Row]:
    """What checks and monitor add to one call, interleaved with the bare engine."""
    image = np.random.default_rng(1).integers(0, 17, (1, 1, 8, 8), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder, load(bundle) as model:
        with archive.Archive(bundle) as opened:
            opened.extract(Path(folder, "slot"))
        graph = next(v.model for v in model.manifest.variants if v.name == model.variant)
        options = SessionOptions()
        options.intra_op_num_threads = 1
        raw = InferenceSession(Path(folder, "slot", graph), options)
        bare, ours = [], []
        for _ in range(rounds):
            began = time.perf_counter_ns()
            raw.run(None, {"image": image})
            between = time.perf_counter_ns()
            model.predict(image)
            ours.append((time.perf_counter_ns() - between) / 1000)
            bare.append((between - began) / 1000)
    paired = [a - b for a, b in zip(ours, bare, strict=True)]
    quarters = [statistics.median(paired[i::4]) for i in range(4)]
    extra = statistics.median(paired)
    peers = {"bare session.run us": round(statistics.median(bare), 2)}
    one = row("predict over session.run", quarters, "us", goal="<= 8", met=extra <= 8)
    return [one | {"value": round(extra, 2), "peers": peers, "n": rounds}]


def _worker_start(bundle: Path, work: Path, *, runs: int) -> list[Row]:
    """From process start to the first answer, slot verified and golden set checked."""
    slot, digest = _install(bundle, work)
    values, load_ms = [], []
    for _ in range(runs):
        argv = ["-m", "edgewright.runtime.worker", "selftest", str(slot), "--digest", digest]
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *argv], capture_output=True, text=True, check=True
        )
        values.append(time.perf_counter() - began)
        load_ms.append(json.loads(done.stdout)["load_us"] / 1e6)
    shutil.rmtree(slot.parent)
    goal = statistics.median(load_ms) <= 0.5
    return [
        row("worker start to first answer", load_ms, "s", goal="<= 0.5", met=goal),
        row("whole self-test process", values, "s"),
    ]


def _install(bundle: Path, work: Path) -> tuple[Path, str]:
    with archive.Archive(bundle) as opened:
        digest = opened.digest()
    argv = ["-m", "edgewright.bundle.install", str(bundle), "--digest", digest]
    argv += ["--slots", str(work / "slots"), "--staging", str(work / "staging")]
    done = subprocess.run([sys.executable, *argv], capture_output=True, text=True, check=True)
    return Path(json.loads(done.stdout)["slot"]), digest


def _device(bundle: Path, work: Path) -> list[Row]:
    """A real device that serves the int8 bundle: what is resident, what passes by."""
    keys = work / "keys"
    command("keys", "init", keys, "--root-keys", 1, "--root-threshold", 1)
    server = Server(work / "server", keys)
    server.start()
    device = Device(work / "devices" / "one", "one", server, keys, labels={})
    try:
        token = ("--server", server.url, "--token-file", server.token_file("operate"))
        command("publish", bundle, "--keys", keys, *token)
        device.start()
        command(
            "rollout", "start", "digits@1", "--channel", "stable", "--wave", "100%", *token
        )
        wait_for(lambda: device.status().get("serving"), "the device to serve", seconds=60)
        time.sleep(5.0)
        peaks = device.status()["peaks"]
        workers = children(device.pid)
        pss = (pss_bytes(device.pid) + sum(map(pss_bytes, workers))) / MIB
        rss = _rss(device.pid) / MIB
    finally:
        device.stop()
        server.stop()
    return [
        row("supervisor + worker, summed PSS", [pss], "MiB", goal="<= 90", met=pss <= 90),
        row("supervisor RSS", [rss], "MiB", goal="<= 25", met=rss <= 25),
        row("courier peak RSS", [peaks["courier"] / MIB], "MiB"),
        row("installer peak RSS", [peaks["installer"] / MIB], "MiB"),
    ]


def _rss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
