"""One process that serves one state folder, from its first request to its last."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import msgspec
import uvicorn
from starlette.routing import Router
from starlette.types import ASGIApp

from edgewright.core import durable
from edgewright.core.errors import ConflictError
from edgewright.fleet.api.devices import DeviceCalls
from edgewright.fleet.api.files import Files
from edgewright.fleet.api.folder import ADDRESS, held
from edgewright.fleet.api.guard import Guard
from edgewright.fleet.api.operations import Operations
from edgewright.fleet.api.plane import ControlPlane, Settings

_GRACE_S = 10
_KEEP_ALIVE_S = 30
_BACKLOG = 2048


def application(
    plane: ControlPlane,
    *,
    ready: Callable[[], None] = lambda: None,
    log_requests: bool = False,
) -> ASGIApp:
    """Return the control plane as an ASGI application; it closes ``plane`` at its end.

    Args:
        plane: What answers.
        ready: Called once, when requests are about to be answered.
        log_requests: Write one line of JSON per request to standard error.
    """

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        control = asyncio.create_task(plane.control())
        ready()
        try:
            yield
        finally:
            control.cancel()
            with suppress(asyncio.CancelledError):
                await control
            plane.close()

    # Routes are tried in order: first what devices ask for all day.
    parts = (DeviceCalls(plane), Files(plane), Operations(plane))
    routes = [route for part in parts for route in part.routes()]
    router = Router(routes, redirect_slashes=False, lifespan=lifespan)
    return Guard(router, log_requests=log_requests)


def serve(
    settings: Settings,
    *,
    host: str,
    port: int,
    announce: Callable[[str], None],
    log_requests: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT; then finish what was begun and return.

    While it serves, ``server.json`` in the state folder names its address. Where it
    never came to serve, a state folder without a database is as it was before.

    Args:
        settings: What to serve.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        announce: Gets the URL once requests are answered.
        log_requests: Write one line of JSON per request to standard error.

    Raises:
        ConflictError: Another server has the state folder, or the address is taken.
        StorageError: The state folder cannot be used.
        TrustError: The keys are not those of this state.
    """
    with held(settings.state) as keep, _listening(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{listener.getsockname()[1]}"

        def ready() -> None:
            keep()
            announce(url)

        plane = ControlPlane(settings)
        server = _server(application(plane, ready=ready, log_requests=log_requests))
        try:
            with _addressed(settings.state / ADDRESS, url):
                server.run(sockets=[listener])
        finally:
            plane.close()


@contextmanager
def _addressed(place: Path, url: str) -> Iterator[None]:
    """Let a file name the address; what arrives there from now on is answered, or waits."""
    durable.replace_file(place, msgspec.json.encode({"url": url, "pid": os.getpid()}) + b"\n")
    try:
        yield
    finally:
        durable.remove(place)


def _server(app: ASGIApp) -> uvicorn.Server:
    """Return what runs ``app``, and ends it in order on SIGTERM and SIGINT."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = uvicorn.Server(config)
    # uvicorn raises the signal again once it has shut down; it then means nothing.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    return server


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConflictError(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            hint="Use --port 0 for a free one.",
        ) from error
    with listener:
        yield listener
