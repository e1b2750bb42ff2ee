"""The whole way, once: a model goes from a file to three devices and reports back.

Everything here is done with the commands a person would type, on processes that
are real. ``python examples/digits/demo.py`` runs it, ``... demo.py --stop``
ends what ``KEEP=1`` left running.
"""

import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from local import Device, Server, Traffic, children, pss_bytes, wait_for
from rich.console import Console
from rich.table import Table
from slow_release import make_slow

HERE = Path(os.path.relpath(Path(__file__).parent))
FOLDER = Path(os.environ.get("DEMO_DIR", ".demo"))
MODELS = HERE / "models"
INVERTED, SLOW = MODELS / "digits-3.onnx", FOLDER / "work" / "digits-slow.onnx"
# The model takes more than twenty times as long; over HTTP, which has its own time, less.
SLOW_FACTOR = 80
KEYS, WORK, HOMES = FOLDER / "keys", FOLDER / "work", FOLDER / "devices"
BEGAN = time.monotonic()
SCREEN = Console(highlight=False)


class DemoError(Exception):
    """Something did not go as the demo promises."""


def title(number: int, text: str) -> None:
    """Say which step begins, and how long it has taken so far."""
    SCREEN.print(
        f"\n[bold]{number}. {text}[/]  [dim]{time.monotonic() - BEGAN:.0f} s[/]",
        soft_wrap=True,
    )


def say(text: str) -> None:
    """Say what happened."""
    SCREEN.print(f"   {text}", soft_wrap=True)


def show(words: Iterable[object]) -> None:
    """Show a command as a person would type it."""
    shown = " ".join(f'"{w}"' if " " in str(w) else str(w) for w in words)
    SCREEN.print(f"   [cyan]$ edgewright {shown}[/]", soft_wrap=True)


def start(*words: object, quiet: bool = False) -> subprocess.Popen[str]:
    """Start a command."""
    argv = [str(word) for word in words]
    if not quiet:
        show(argv)
    return subprocess.Popen(
        [sys.executable, "-m", "edgewright.cli.main", *argv, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(FOLDER.resolve() / "cache")},
    )


def finish(process: subprocess.Popen[str], *, expect: int = 0) -> dict[str, Any]:
    """Wait for a command; its JSON document, or the end of the demo."""
    out, err = process.communicate()
    if process.returncode != expect:
        words = " ".join(map(str, process.args[3:]))
        raise DemoError(f"{why(out, err)}\n   edgewright {words}: exit {process.returncode}")
    document: dict[str, Any] = json.loads(out)
    return document


def why(out: str, err: str) -> str:
    """The one sentence a failed command left: its error, or a rollout's reason."""
    try:
        document = json.loads(out)
    except ValueError:
        return err.strip() or out.strip()
    return str(document.get("error", {}).get("message") or document.get("reason") or out)


def edgewright(*words: object, expect: int = 0) -> dict[str, Any]:
    """Run a command to its end."""
    return finish(start(*words), expect=expect)


def optimizing(version: int, model: Path, *, project: str = "edgewright.toml") -> list[object]:
    """Return the command that compresses one version under a contract."""
    project_file = HERE / project
    words: list[object] = ["optimize", model, "--project", project_file, "--device", "host"]
    return [*words, "-o", WORK / str(version)]


def pack(version: int, *more: object, expect: int = 0) -> dict[str, Any]:
    """Make one version's bundle."""
    return edgewright(
        *("pack", WORK / str(version), "--name", "digits", "--version", version),
        *("-o", bundle(version), *more),
        expect=expect,
    )


def bundle(version: int) -> Path:
    """Where a version's bundle is."""
    return WORK / f"digits-{version}.ewb"


class Demo:
    """The server, the devices, their traffic, and what each release came to."""

    def __init__(self) -> None:
        self.server = Server(FOLDER / "server", KEYS)
        self.devices: list[Device] = []
        self.traffic: list[Traffic] = []
        self.rows: dict[int, list[str]] = {}
        self.making: list[subprocess.Popen[str]] = []
        self.inverted_said = ""
        self.slow_report: dict[str, Any] = {}
        with np.load(HERE / "data" / "digits.npz") as data:
            self.images, self.labels = data["evaluate_images"], data["evaluate_labels"]

    def server_words(self) -> tuple[object, ...]:
        """How a command reaches the server."""
        token = self.server.token_file("operate")
        return ("--server", self.server.url, "--token-file", token)

    def start_devices(self) -> None:
        """Start three agents; the first is the canary."""
        for name, canary in (("kitchen", "yes"), ("hall", "no"), ("garage", "no")):
            device = Device(HOMES / name, name, self.server, KEYS, labels={"canary": canary})
            device.start()
            self.devices.append(device)
        for device in self.devices:
            wait_for(
                lambda d=device: d.id and d.status().get("port"), f"{device.name} to enrol"
            )
            say(f"{device.name:8} {device.id}")

    def serving(self, release: str, device: Device) -> bool:
        """Whether a device answers with a release."""
        return (device.status().get("serving") or {}).get("release") == release

    def start_traffic(self, release: str) -> None:
        """Wait until every device answers, then ask them all."""
        for device in self.devices:
            wait_for(lambda d=device: self.serving(release, d), f"{device.name} to serve")
            asking = Traffic(device, self.images, self.labels, rate_hz=25.0)
            asking.start()
            self.traffic.append(asking)

    def publish(self, version: int) -> None:
        """Sign a bundle and put it on the server."""
        edgewright("publish", bundle(version), "--keys", KEYS, *self.server_words())

    def rollout(self, version: int, *waves: str, wait: bool = True) -> subprocess.Popen[str]:
        """Start taking a release to the devices."""
        words: list[object] = ["rollout", "start", f"digits@{version}", "--channel", "stable"]
        for wave in waves:
            words += ["--wave", wave]
        words += ["--min-inferences", 50, "--deadline", "60s"]
        return start(*words, *(["--wait"] if wait else []), *self.server_words())

    def stop(self) -> None:
        """End traffic, devices and server."""
        for asking in self.traffic:
            asking.stop()
        for device in self.devices:
            device.stop()
        self.server.stop()


def compress_and_pack(demo: Demo) -> None:
    """Steps 1 and 2: versions 1 and 2 become bundles, twice the same bytes."""
    title(1, "Compress under a contract, and measure what it cost")
    for version in (1, 2):
        report = edgewright(*optimizing(version, MODELS / f"digits-{version}.onnx"))
        note_optimized(demo, version, report)
    title(2, "Pack what passed, with its golden answers and its evidence")
    for version in (1, 2):
        made = pack(version)
        size = made["transport_bytes"]
        say(f"digits@{version}  {made['digest'][7:19]}  {size:,} bytes to download")
    again = WORK / "again.ewb"
    edgewright("pack", WORK / "1", "--name", "digits", "--version", 1, "-o", again)
    if not filecmp.cmp(bundle(1), again, shallow=False):
        raise DemoError("packing twice gave two different files")
    say("packed again: the same bytes")


def note_optimized(demo: Demo, version: int, report: dict[str, Any]) -> None:
    """Say what compressing came to, and keep it for the table."""
    came = report["summary"]
    accuracy, figures = came["accuracy"], came["figures"]
    say(
        f"[green]{came['outcome']}[/]  {came['candidate']}: {came['size_reduction']:.2f}x "
        f"smaller, {came['speedup']:.2f}x as fast, "
        f"{accuracy['candidate_bp'] / 100:.2f} % right (digits@1 as trained: "
        f"{accuracy['reference_bp'] / 100:.2f} %)"
    )
    demo.rows[version] = [
        f"digits@{version}",
        came["outcome"],
        f"{figures['file_bytes']:,}",
        f"{figures['p50_us']} / {figures['p99_us']}",
        f"{figures['peak_memory_bytes'] / 2**20:.0f} MiB",
        f"{accuracy['candidate_bp'] / 100:.2f} %",
    ]


def go_live(demo: Demo) -> None:
    """Steps 3 and 4: keys, server, three devices, version 1 everywhere."""
    # Meanwhile the two bad versions of later steps are made; nothing is compared yet.
    make_slow(MODELS / "digits-2.onnx", SLOW, factor=SLOW_FACTOR)
    demo.making = [
        start(*optimizing(3, INVERTED), quiet=True),
        start(*optimizing(4, SLOW, project="slow.toml"), quiet=True),
    ]
    title(3, "Make keys, start the control plane, sign and publish")
    edgewright("keys", "init", KEYS, "--root-keys", 1, "--root-threshold", 1)
    demo.server.start()
    say(f"control plane at {demo.server.url}")
    demo.publish(1)
    title(4, "Three devices enrol with keys of their own, fetch, verify, check, go live")
    demo.start_devices()
    first = demo.rollout(1, "100%")
    demo.start_traffic("digits@1")
    say(f"[green]{finish(first)['state']}[/]  all three answer with digits@1")


def good_update(demo: Demo) -> None:
    """Step 5: version 2 by waves, while the server goes away for a moment."""
    title(5, "A better version goes to one device, waits for its gate, then to the rest")
    # What a device serves is judged by its latency from here on: the machine is its own.
    inverted, slow = demo.making
    demo.inverted_said = finish(inverted, expect=3)["error"]["message"]
    demo.slow_report = finish(slow)
    demo.publish(2)
    done = finish(demo.rollout(2, "canary=yes", "100%"))
    for one in done["decisions"]:
        say(f"[dim]wave {one['wave']}: {one['decision']}, {one['reason']}[/]")
    say(f"[green]{done['state']}[/]  {done['reason']}")
    before = sum(t.counts.total() for t in demo.traffic)
    demo.server.stop(signal.SIGKILL)
    time.sleep(2.0)
    gave = sum(t.counts.total() for t in demo.traffic) - before
    demo.server.start()
    say(f"server killed for 2 s: devices gave {gave} answers")


def bad_updates(demo: Demo) -> None:
    """Step 6: a useless version and a slow one, both stopped."""
    title(6, "A version that looks inverted: refused at every hop")
    show(optimizing(3, INVERTED))
    said = demo.inverted_said.split("; retention")[0]
    say(f"[red]optimize refused it[/]: {said}")
    refused = pack(3, expect=1)["error"]["message"]
    say(f"[red]pack refused it[/]: {refused}")
    pack(3, "--override", "the demo insists")
    demo.publish(3)
    halted = finish(demo.rollout(3, "canary=yes", "100%"), expect=1)
    say(f"[red]{halted['state']}[/]  {halted['reason']}")
    demo.rows[3] = ["digits@3", f"refused: {device_reason(halted)}", "", "", "", ""]
    title(7, "A version that is right but many times too slow: rolled back in its trial")
    show(optimizing(4, SLOW, project="slow.toml"))
    note_optimized(demo, 4, demo.slow_report)
    pack(4)
    demo.publish(4)
    halted = finish(demo.rollout(4, "canary=yes", "100%"), expect=1)
    say(f"[red]{halted['state']}[/]  {halted['reason']}")
    demo.rows[4][1] = f"rolled back: {device_reason(halted)}"


def device_reason(halted: dict[str, Any]) -> str:
    """What the device said that made the rollout halt."""
    said = (one["reason"] for one in halted["devices"] if one["failed"])
    return str(next(said, halted["reason"]))


def summary(demo: Demo) -> None:
    """Step 8: what every version and every device came to."""
    title(8, "What came of it")
    versions = Table("release", "verdict", "bytes", "p50 / p99 us", "memory", "accuracy")
    for version in sorted(demo.rows):
        versions.add_row(*demo.rows[version])
    SCREEN.print(versions)
    devices = Table("device", "serves", "answers", "right", "failed", "p50 / p99 us", "PSS")
    listed = edgewright("fleet", "list", *demo.server_words())["devices"]
    by_id = {one["device"]: one for one in listed}
    for device, asking in zip(demo.devices, demo.traffic, strict=True):
        one = by_id[device.id]
        right, failed = asking.counts["right"], asking.counts["failed"]
        total = right + asking.counts["wrong"]
        pss = pss_bytes(device.pid) + sum(map(pss_bytes, children(device.pid)))
        devices.add_row(
            device.name,
            one["serving"]["release"],
            str(total),
            f"{100 * right / total:.2f} %",
            str(failed),
            f"{one['p50_us']} / {one['p99_us']}",
            f"{pss / 2**20:.0f} MiB",
        )
    SCREEN.print(devices)
    say(f"report: {WORK / '2' / 'report.html'}")
    token = demo.server.token_file("operate")
    words = f"fleet list --server {demo.server.url} --token-file {token}"
    if os.environ.get("KEEP"):
        say("next, while it runs:")
        SCREEN.print(f"   [cyan]$ .venv/bin/edgewright {words}[/]", soft_wrap=True)
    else:
        say("next: [cyan]KEEP=1 make demo[/] leaves it running, to look around")


def stop_last() -> None:
    """End what an earlier run left running: only processes it wrote down itself."""
    note = FOLDER / "running.json"
    if not note.exists():
        return
    for pid in json.loads(note.read_text()):
        cmdline = Path(f"/proc/{pid}/cmdline")
        if cmdline.exists() and b"edgewright" in cmdline.read_bytes():
            os.kill(pid, signal.SIGTERM)
            wait_for(lambda p=cmdline: not p.exists() or not p.read_bytes(), f"process {pid}")
    note.unlink()


def main() -> int:
    """Run the demo, or stop what the last one kept."""
    stop_last()
    if sys.argv[1:] == ["--stop"]:
        return 0
    shutil.rmtree(FOLDER, ignore_errors=True)
    WORK.mkdir(parents=True)
    demo = Demo()
    keep = bool(os.environ.get("KEEP"))
    try:
        for step in (compress_and_pack, go_live, good_update, bad_updates, summary):
            step(demo)
    except (DemoError, TimeoutError) as error:
        SCREEN.print(f"[red]the demo failed:[/] {error}", soft_wrap=True)
        say("latency is judged on this machine: was it busy? its logs are in " + str(FOLDER))
        keep = False
        return 1
    finally:
        if keep:
            for asking in demo.traffic:
                asking.stop()
            pids = [demo.server.pid, *(device.pid for device in demo.devices)]
            (FOLDER / "running.json").write_text(json.dumps(pids))
            say("left running; end it with: make demo-stop")
        else:
            demo.stop()
    say(f"[bold]done in {time.monotonic() - BEGAN:.0f} s[/]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
