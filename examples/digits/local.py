"""A server, devices and traffic as real processes on this machine, over loopback.

The demo and the fault campaign stand on these three classes. Nothing here is a
stand-in: each device is an ``edgewright-agent`` with a home folder of its own,
and traffic is what an application would send to it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.core.errors import EdgewrightError
from edgewright.wire.http import Client

_START_S = 20.0


class Process:
    """One process that is started, watched and ended by its id."""

    def __init__(
        self, argv: list[str], *, log: Path, env: dict[str, str] | None = None
    ) -> None:
        self._argv = argv
        self._log = log
        self._env = {**os.environ, **(env or {})}
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Id of the running process."""
        if self._popen is None:
            raise RuntimeError("not started")
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        """Start it; what it logs is appended to its file."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._popen = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )

    def stop(self, how: int = signal.SIGTERM, *, wait_s: float = 10.0) -> None:
        """Send ``how`` and wait; what does not end is killed."""
        if self._popen is None:
            return
        if self.running:
            self._popen.send_signal(how)
        try:
            self._popen.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


class Server(Process):
    """A control plane with its state in ``folder``."""

    def __init__(self, folder: Path, keys: Path) -> None:
        self.folder = folder
        self._port = 0
        self._keys = keys
        super().__init__([], log=folder.with_suffix(".log"))

    def start(self) -> None:
        """Start it and wait until it answers; a restart keeps the port."""
        self._argv = [
            *_module("edgewright.cli.main"),
            *("serve", "--state", str(self.folder), "--port", str(self._port)),
            *("--interval", "1s"),
            *("--trust", str(self._keys / "public")),
            *("--assignments-key", str(self._keys / "private" / "assignments.key")),
        ]
        (self.folder / "server.json").unlink(missing_ok=True)
        super().start()
        wait_for((self.folder / "server.json").exists, "the server to listen")
        self._port = int(self.url.rsplit(":", 1)[1])
        wait_for(self._healthy, "the server to answer")

    @property
    def url(self) -> str:
        """Where it listens."""
        return str(json.loads((self.folder / "server.json").read_text())["url"])

    def token_file(self, scope: str) -> Path:
        """The file that holds the first token of a scope."""
        return self.folder / "tokens" / f"{scope}.token"

    def client(self) -> Client:
        """A client that may do what an operator may."""
        return Client(self.url, token=self.token_file("operate").read_text().strip())

    def _healthy(self) -> bool:
        try:
            client = Client(self.url)
            try:
                return client.request("GET", "/v1/health").status == 200
            finally:
                client.close()
        except (EdgewrightError, OSError, ValueError):
            return False


class Device(Process):
    """One device: an agent with its own home folder, key, port and labels."""

    def __init__(
        self, home: Path, name: str, server: Server, keys: Path, *, labels: dict[str, str]
    ) -> None:
        self.home = home
        self.name = name
        self.config = home.parent / f"{name}.toml"
        settings = {
            "server": server.url,
            "name": name,
            "channel": "stable",
            "port": 0,
            "enrol_token_file": str(server.token_file("enrol").absolute()),
            "artefacts_root": str((keys / "public" / "artefacts" / "1.root.json").absolute()),
            "assignments_root": str(
                (keys / "public" / "assignments" / "1.root.json").absolute()
            ),
            "check_in_s": 1.0,
            "report_s": 1.0,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        lines += ["[labels]", *(f"{k} = {json.dumps(v)}" for k, v in labels.items())]
        home.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text("\n".join(lines) + "\n")
        argv = [*_module("edgewright.agent.main"), "run"]
        argv += ["--config", str(self.config), "--home", str(home)]
        super().__init__(argv, log=home.parent / f"{name}.log")

    def status(self) -> dict[str, Any]:
        """What the agent last said of itself; empty before its first word."""
        try:
            found: dict[str, Any] = json.loads((self.home / "run" / "status.json").read_text())
        except (OSError, ValueError):
            return {}
        return found

    @property
    def id(self) -> str:
        """Its id once it has enrolled, else nothing."""
        try:
            text = (self.home / "identity" / "device.json").read_text()
        except OSError:
            return ""
        return str(json.loads(text)["device"])

    @property
    def url(self) -> str:
        """Where its worker answers."""
        return f"http://127.0.0.1:{self.status()['port']}"


class Traffic:
    """An application that asks one device for answers and counts what comes back.

    ``counts`` holds ``right``, ``wrong`` and ``failed``; ``by_release`` how many
    answers each release gave; ``failures`` the first few reasons.
    """

    def __init__(
        self, device: Device, images: np.ndarray, labels: np.ndarray, *, rate_hz: float = 40.0
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.by_release: Counter[str] = Counter()
        self.failures: list[str] = []
        self._device, self._images, self._labels = device, images, labels
        self._period_s = 1.0 / rate_hz
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin asking."""
        self._thread.start()

    def stop(self) -> None:
        """Stop asking, after the answer under way."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        client, index = Client(self._device.url, timeout_s=5.0), 0
        while not self._stopping.wait(self._period_s):
            index = (index + 1) % len(self._labels)
            try:
                answer = client.call("POST", "/v2/models/digits/infer", self._request(index))
            except EdgewrightError as error:
                self.counts["failed"] += 1
                if len(self.failures) < 20:
                    self.failures.append(f"{error.code}: {error}")
                continue
            best = int(np.argmax(answer["outputs"][0]["data"]))
            self.counts["right" if best == self._labels[index] else "wrong"] += 1
            self.by_release[answer["parameters"]["release"]] += 1
        client.close()

    def _request(self, index: int) -> dict[str, Any]:
        image = self._images[index : index + 1]
        data = image.ravel().tolist()
        tensor = {
            "name": "image",
            "datatype": "UINT8",
            "shape": list(image.shape),
            "data": data,
        }
        return {"inputs": [tensor]}


def wait_for(condition: Any, what: str, *, seconds: float = _START_S) -> None:
    """Wait until ``condition()`` holds.

    Raises:
        TimeoutError: It did not within ``seconds``.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    """Ids of the processes that ``pid`` started."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def pss_bytes(pid: int) -> int:
    """Memory of a process, shared pages divided among those who share them."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]
