"""A Ray cluster of one machine: on loopback, without telemetry, ended by its process id.

Ray takes the machine's address where it is told 127.0.0.1, unless it believes that there
are no clusters on this system; a ``sitecustomize`` of its processes sees to that.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

_LOOPBACK = "import ray._private.ray_constants as c; c.ENABLE_RAY_CLUSTER = False\n"
_STARTED = "--block"


class Cluster:
    """A head node with ``cpus`` CPUs and its client server."""

    def __init__(self, cpus: int) -> None:
        # Ray's sockets have names of up to 107 characters: no long folder.
        self.folder = Path(tempfile.mkdtemp(prefix="ew-ray-"))
        (self.folder / "site").mkdir()
        (self.folder / "site" / "sitecustomize.py").write_text(_LOOPBACK)
        self.env = {
            **os.environ,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
            "PYTHONPATH": str(self.folder / "site"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        self.port = free_port()
        self.address = f"ray://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [
                sys.executable, "-c", "from ray.scripts.scripts import main; main()",
                "start", "--head", "--block", "--node-ip-address", "127.0.0.1",
                "--port", "0", "--ray-client-server-port", str(self.port),
                "--num-cpus", str(cpus), "--object-store-memory", "80000000",
                "--include-dashboard", "false", "--include-log-monitor", "false",
                "--disable-usage-stats", "--temp-dir", str(self.folder / "t"),
            ],
            env=self.env, start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def __enter__(self) -> Self:
        """Wait until it has started."""
        said = ""
        for line in self.process.stdout:
            said += line
            if line.rstrip().endswith(_STARTED):
                return self
        raise AssertionError(f"no cluster: {said}")

    def __exit__(self, *_: object) -> None:
        """End it, and whatever of it does not end by itself."""
        started = self.processes()
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(15)
        for pid in (self.process.pid, *started):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self, name: str = "") -> list[int]:
        """Return the processes it started, by their id; only those called ``name...``."""
        parents, named = {}, {}
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                status = (path / "stat").read_text()
                parents[int(path.name)] = int(status.rpartition(")")[2].split()[1])
                named[int(path.name)] = (
                    (path / "cmdline").read_bytes().decode(errors="replace")
                )
        return [
            pid
            for pid in parents
            if self._ours(pid, parents) and named.get(pid, "").startswith(name)
        ]

    def _ours(self, pid: int, parents: dict[int, int]) -> bool:
        while pid in parents:
            pid = parents[pid]
            if pid == self.process.pid:
                return True
        return False

    def kill_one_at_work(self, within_s: float) -> int:
        """SIGKILL the next worker that does a task; return its id, 0 where none did."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            if found := self.processes("ray::answer"):
                os.kill(found[0], signal.SIGKILL)
                return found[0]
            time.sleep(0.01)
        return 0


def free_port() -> int:
    """Return a port of loopback on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
