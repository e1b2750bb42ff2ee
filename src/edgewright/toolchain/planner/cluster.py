"""Workers of a Ray cluster that runs already; the library is loaded only when one is named.

Ray unpickles what a cluster sends, and does not encrypt: a cluster is trusted like this
machine. What comes is bytes, and is opened by ``parcels`` alone.
"""

import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from edgewright.core.errors import TransportError, UsageError
from edgewright.toolchain.planner import worker
from edgewright.toolchain.planner.ahead import Workers
from edgewright.toolchain.planner.parcels import REMEDY

# The cluster this machine is part of, as Ray itself finds it.
HERE = "ray"
_FORM = re.compile(r"ray://(?P<host>\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})")
_REACH_S, _GREET_S = 5.0, 60.0

# Set unless they are: no usage statistics, no cluster of its own started where ours is
# lost, ten seconds to find a lost one again, and no chatter of its transport.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "10",
    "GRPC_VERBOSITY": "ERROR",
    "GRPC_ENABLE_FORK_SUPPORT": "0",
}


def check(address: str) -> None:
    """Refuse an address that is none, and one that nothing here could reach.

    Raises:
        UsageError: Another form, or Ray is not installed.
    """
    if address == HERE or not address:
        known = True
    else:
        found = _FORM.fullmatch(address)
        known = found is not None and 0 < int(found["port"]) < 1 << 16
    if not known:
        raise UsageError(
            f"workers cannot be {address!r}",
            hint="Write ray://HOST:PORT, the address of a Ray cluster's client server, or "
            "ray for the cluster that this machine is part of.",
        )
    if address and find_spec("ray") is None:
        raise UsageError(
            f"workers {address} need ray, which is not installed",
            hint="pip install 'edgewright[ray]'",
        )


@contextmanager
def hired(address: str) -> Iterator[Workers | None]:
    """Yield the workers at ``address``, None where it is empty; let go of them afterwards.

    Raises:
        UsageError: As ``check`` says.
        TransportError: Nobody is there, or Ray does not let us in.
    """
    check(address)
    if not address:
        yield None
        return
    crew = _Ray(address)
    try:
        yield crew
    finally:
        crew.close()


class _Ray:
    """A Ray cluster as ``ahead.Workers``."""

    def __init__(self, address: str) -> None:
        """Connect."""
        self.address = address
        self._gone = False
        if found := _FORM.fullmatch(address):
            _reach(address, found["host"].strip("[]"), int(found["port"]))
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        self._ray = import_module("ray")
        self._refusals = _refusals(self._ray)
        try:
            self._connect()
            self._nodes = [
                node["NodeID"]
                for node in self._ray.nodes()
                if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
            ]
            self._count = int(self._ray.cluster_resources().get("CPU", 0))
        except self._refusals as error:
            raise TransportError(
                f"the Ray cluster at {address} does not let us in: {_said(error)}",
                hint="Look with ray status there; Ray and Python must have its versions here, "
                "and RAY_AUTH_MODE and RAY_AUTH_TOKEN be set where it asks for a token.",
            ) from error
        # As many threads as here: with more or fewer, sums come out in another order.
        threads = {"OPENBLAS_NUM_THREADS": worker.likeness()["threads"]}
        self._options = {"runtime_env": {"env_vars": threads}}
        self._task = self._ray.remote(worker.answer)

    def _connect(self) -> None:
        """Connect; twice if need be, since Ray waits half a minute for a server it starts."""
        address = "auto" if self.address == HERE else self.address
        for last in (False, True):
            try:
                self._ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
            except ConnectionAbortedError:
                if last:
                    raise
                self._ray.shutdown()
            else:
                return

    @property
    def count(self) -> int:
        """CPUs of the cluster; 0 once it cannot be reached."""
        return 0 if self._gone else self._count

    def greet(self, order: bytes) -> list[bytes]:
        """Return what every machine with a CPU to give answers."""
        if not self._nodes:
            raise TransportError(
                f"the Ray cluster at {self.address} has no CPU to give",
                hint="Start a node with ray start --address and --num-cpus.",
            )
        strategies = import_module("ray.util.scheduling_strategies")
        only = strategies.NodeAffinitySchedulingStrategy
        asked = [
            self._asked({"num_cpus": 0, "scheduling_strategy": only(node, soft=False)}, order)
            for node in self._nodes
        ]
        try:
            return [self.take(token, _GREET_S) for token in asked]
        except TransportError as error:
            if "No module named" in str(error):
                raise UsageError(
                    f"the workers of {self.address} lack what they need: {error}",
                    hint="pip install edgewright there, in the version that is here.",
                ) from error
            raise

    def put(self, data: bytes) -> Any:
        """Bring ``data`` into the cluster's object store."""
        self._here()
        try:
            return self._ray.put(data)
        except self._refusals as error:
            raise self._failed(error) from error

    def ask(self, order: bytes, *given: Any) -> Any:
        """Begin a task."""
        # What a worker died of, another would die of too: it is done here instead.
        return self._asked({"num_cpus": 1, "max_retries": 0}, order, *given)

    def ready(self, token: Any) -> bool:
        """Return whether it ended."""
        self._here()
        try:
            return bool(self._ray.wait([token], timeout=0)[0])
        except self._refusals as error:
            raise self._failed(error) from error

    def take(self, token: Any, within_s: float) -> bytes:
        """Return what a task came to."""
        self._here()
        try:
            data = self._ray.get(token, timeout=within_s)
        except self._ray.exceptions.GetTimeoutError as error:
            raise TransportError(
                f"nothing came within {within_s:.0f} s", hint=REMEDY
            ) from error
        except self._refusals as error:
            raise self._failed(error) from error
        if not isinstance(data, bytes):
            raise TransportError(
                f"{type(data).__name__} came where bytes were asked for", hint=REMEDY
            )
        return data

    def drop(self, token: Any) -> None:
        """Cancel a task."""
        try:
            if not self._gone:
                self._ray.cancel(token, force=True)
        except self._refusals as error:
            self._failed(error)

    def close(self) -> None:
        """Disconnect; what was brought into the cluster is let go there."""
        self._ray.shutdown()

    def _asked(self, where: Mapping[str, Any], order: bytes, *given: Any) -> Any:
        self._here()
        try:
            return self._task.options(**self._options, **where).remote(order, *given)
        except self._refusals as error:
            raise self._failed(error) from error

    def _here(self) -> None:
        """Refuse to go on without a connection: Ray would begin a cluster of its own."""
        if self._gone or not self._ray.is_initialized():
            self._gone = True
            raise TransportError(f"the connection to {self.address} is lost", hint=REMEDY)

    def _failed(self, error: Exception) -> TransportError:
        self._gone = self._gone or isinstance(error, ConnectionError)
        return TransportError(_said(error), hint=REMEDY)


def _reach(address: str, host: str, port: int) -> None:
    """Make sure that somebody listens, which Ray takes half a minute for."""
    try:
        socket.create_connection((host, port), timeout=_REACH_S).close()
    except OSError as error:
        raise TransportError(
            f"no Ray cluster can be reached at {address}: {error}",
            hint="Start one with ray start --head, whose client server listens on 10001, and "
            "look at the address and what lies between.",
        ) from error


def _refusals(ray: Any) -> tuple[type[Exception], ...]:
    """Return what Ray raises: its errors have a root, its client's have none."""
    grpc = import_module("grpc")
    return (ray.exceptions.RayError, grpc.RpcError, OSError, RuntimeError, ValueError)


def _said(error: Exception) -> str:
    """Return what went wrong in one line, without the stack of the other side."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).strip().splitlines() if line.strip()]
    first = re.sub(r"\x1b\[\d+m", "", lines[0] if lines else "")[:200]
    return f"{type(cause).__name__}: {first}" if first else type(cause).__name__
