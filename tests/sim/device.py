"""A device of a test's fleet: the real agent and its real children, on a folder of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.sim.control_plane import ControlPlane, device_toml

from edgewright.agent import Home
from edgewright.core.errors import EdgewrightError
from edgewright.wire.assignment import Target
from edgewright.wire.http import Client
from edgewright.wire.telemetry import FEEDBACK, PROBLEM

IMAGE = {"name": "image", "datatype": "UINT8", "shape": [1, 1, 8, 8], "data": [3] * 64}
PATIENCE_S = 40.0


class Device:
    """One agent process, started and killed as a test likes.

    Args:
        plane: Its fleet.
        folder: Home, settings and log go below it.
        env: Added to the environment of the agent and all it starts.
        settings: Of ``device.toml``, over the ones that make a test quick.

    Attributes:
        asked: How often each release, or error, was the answer to ``ask``.
    """

    def __init__(
        self,
        plane: ControlPlane,
        folder: Path,
        *,
        env: dict[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self.home = Home(folder / "home")
        self.config = device_toml(plane, folder / "device.toml", **settings)
        self.log = folder / "agent.log"
        self._env = {**os.environ, **(env or {})}
        self._popen: subprocess.Popen[bytes] | None = None
        self.asked: Counter[str] = Counter()

    @property
    def pid(self) -> int:
        """Id of the running agent."""
        if self._popen is None:
            raise RuntimeError("not started")
        return self._popen.pid

    def start(self, *, silent: bool = False) -> None:
        """Start the agent and wait for its first word; not for one that cannot write any."""
        before = self.status().get("pid")
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [
                    *(sys.executable, "-m", "edgewright.agent.main", "run"),
                    *("--config", str(self.config), "--home", str(self.home.root)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
            )
        if not silent:
            self.wait_for(lambda: self.status().get("pid") not in {None, before}, "first word")

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End the agent and return its exit code; twice is fine."""
        if self._popen is None:
            return 0
        with suppress(ProcessLookupError):
            self._popen.send_signal(how)
        code = self._popen.wait(timeout=PATIENCE_S)
        self._popen = None
        return code

    def status(self) -> dict[str, Any]:
        """What the agent last said of itself; empty before its first word."""
        try:
            found: dict[str, Any] = json.loads(self.home.status.read_bytes())
        except (OSError, ValueError):
            return {}
        return found

    def pointer(self) -> dict[str, Any]:
        """What ``pointer.json`` holds; empty when there is none."""
        try:
            found: dict[str, Any] = json.loads(self.home.pointer.read_bytes())
        except FileNotFoundError:
            return {}
        return found

    def ask(self, **parameters: Any) -> str:
        """Return the release that answers now, or the error a caller sees; count it."""
        body = {"inputs": [IMAGE], "parameters": parameters}
        client = Client(f"http://127.0.0.1:{self.status()['port']}", timeout_s=5.0)
        try:
            answer = client.call("POST", "/v2/models/digits/infer", body)
        except EdgewrightError as error:
            said = f"{error.code}: {error}"
        else:
            said = str(answer["parameters"]["release"])
        finally:
            client.close()
        self.asked[said] += 1
        return said

    def serves(self, release: str, *, good: bool = True) -> bool:
        """Whether a release answers callers, and has proved good."""
        status = self.status()
        said = (status.get("serving") or {}).get("release")
        settled = status.get("trial") is None or not good
        return said == release and settled and self.ask() == release

    def wait_for(self, condition: Any, what: str, *, seconds: float = PATIENCE_S) -> None:
        """Wait until ``condition()`` holds; the agent's log explains why it did not."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                log = self.log.read_text()[-3000:] if self.log.exists() else ""
                raise TimeoutError(f"no {what} in {seconds:.0f} s: {self.status()}\n{log}")
            time.sleep(0.05)

    def child(self, word: str) -> int | None:
        """Return the id of a child whose command line holds ``word``."""
        try:
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except OSError:
            return None
        for pid in map(int, text.split()):
            with suppress(OSError):
                if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return None


class Traffic:
    """An application that keeps asking; ``counts`` holds releases, and errors by code."""

    def __init__(self, device: Device, *, pause_s: float = 0.02) -> None:
        self.counts: Counter[str] = Counter()
        self._device, self._pause_s = device, pause_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask no more; twice is fine."""
        self._over.set()
        self._thread.join()

    @property
    def errors(self) -> dict[str, int]:
        """What went wrong for callers, and how often."""
        return {what: count for what, count in self.counts.items() if ":" in what}

    def _run(self) -> None:
        while not self._over.wait(self._pause_s):
            self.counts[self._device.ask()] += 1


@dataclass
class Scene:
    """A device on which release 1 proved good, asked for answers all the time."""

    plane: ControlPlane
    device: Device
    bundles: dict[str, Path]
    first: Target
    traffic: Traffic

    def roll_out(self, name: str, **options: Any) -> Target:
        """Publish a bundle and let the device run it instead of release 1."""
        made = self.plane.publish(self.bundles[name])
        self.plane.roll_out(made, self.first, **options)
        return made

    def told(self, what: str, release: str) -> bool:
        """Whether the fleet has heard of a transition."""
        return (what, release) in self.plane.device.feedback()

    def wait_told(self, what: str, release: str) -> None:
        """Wait until it has."""
        self.device.wait_for(lambda: self.told(what, release), f"{release} to be {what}")

    def wait_serves(self, release: str, *, good: bool = True) -> None:
        """Wait until a release answers, and has proved good."""
        self.device.wait_for(
            lambda: self.device.serves(release, good=good), f"{release} to serve"
        )

    def reasons(self) -> list[str]:
        """Return why things happened, as the fleet has heard it."""
        return [e.body["reason"] for e in self.plane.device.events if e.kind == FEEDBACK]

    def problems(self) -> list[str]:
        """Return the codes of what went wrong, as the fleet has heard it."""
        return [e.body["code"] for e in self.plane.device.events if e.kind == PROBLEM]
