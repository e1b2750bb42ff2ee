"""What devices read without a token: signed metadata, and bundles by their digest.

Neither needs one: metadata is signed, a blob's name is its digest. Both could be
served by any file server in front of the same folders.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from edgewright.bundle import trust
from edgewright.bundle.trust import TIMESTAMP
from edgewright.core import digest
from edgewright.core.errors import NotFoundError
from edgewright.fleet import access
from edgewright.fleet.access import Caller
from edgewright.fleet.api.answers import reply
from edgewright.fleet.api.guard import check_length, too_long
from edgewright.fleet.api.plane import ControlPlane
from edgewright.fleet.api.ranges import matches, span_of
from edgewright.fleet.audit import Entry

_BLOCK_BYTES = 256 * 1024
_PLAIN = re.compile(r"[a-z0-9.@_-]+(?:/[a-z0-9.@_-]+)*")
_FOREVER = "public, max-age=31536000, immutable"
_ALWAYS_ASK = "no-cache"


class Files:
    """Handlers of ``/v1/trust`` (reading) and ``/v1/blobs``."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def routes(self) -> list[Route]:
        """Return the routes; reading ones answer HEAD too."""
        blob = "/v1/blobs/{name}"
        return [
            Route("/v1/trust/{repository}/{file:path}", self.metadata, methods=["GET"]),
            Route(blob, self.blob, methods=["GET"]),
            Route(blob, self.upload, methods=["PUT"]),
        ]

    async def metadata(self, request: Request) -> Response:
        """Answer one metadata file or document, or 304."""
        repository, name = request.path_params["repository"], request.path_params["file"]
        path = self._plane.trust_folder / repository / name
        plain = _PLAIN.fullmatch(name) and ".." not in name.split("/")
        if repository not in trust.REPOSITORIES or not plain:
            raise NotFoundError(f"there is no metadata {repository:.40}/{name:.120}")
        try:
            data = await self._plane.run(path.read_bytes)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NotFoundError(f"there is no metadata {repository}/{name:.120}") from error
        etag = f'"{digest.hex_of(digest.of_bytes(data))}"'
        caching = _ALWAYS_ASK if name == TIMESTAMP else _FOREVER
        headers = {"ETag": etag, "Cache-Control": caching}
        if matches(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers, media_type="application/json")

    async def blob(self, request: Request) -> Response:
        """Answer a blob, one range of it, 304 or 416."""
        name = request.path_params["name"]
        length = await self._plane.run(lambda: self._plane.blobs.length(name))
        if length is None:
            raise NotFoundError(f"there is no blob {name[:12]}")
        etag = f'"{name}"'
        headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": _FOREVER}
        if matches(request.headers.get("if-none-match"), etag):
            return Response(status_code=304, headers=headers)
        asked = request.headers.get("range") if request.method == "GET" else None
        span = span_of(asked, request.headers.get("if-range"), etag=etag, length=length)
        if span is None:
            headers["Content-Range"] = f"bytes */{length}"
            return Response(status_code=416, headers=headers)
        headers["Content-Length"] = str(span.stop - span.start)
        kind = "application/octet-stream"
        if request.method == "HEAD":
            return Response(headers=headers, media_type=kind)
        if not span.whole:
            headers["Content-Range"] = span.content_range
        blocks = self._blocks(name, span.start, span.stop)
        return StreamingResponse(
            blocks, 200 if span.whole else 206, headers=headers, media_type=kind
        )

    async def upload(self, request: Request) -> Response:
        """Store a blob as it arrives; 201 when it is new, 200 when it was here."""
        caller = await self._plane.caller(
            request.headers.get("authorization", ""), access.OPERATE
        )
        name, limit = request.path_params["name"], self._plane.settings.max_blob_bytes
        check_length(request, limit_bytes=limit)
        known = await self._plane.run(lambda: self._plane.blobs.length(name))
        if known is not None:
            async for _ in request.stream():
                pass
            return reply({"blob": name, "length": known}, 200)
        blocks = _pull(request.stream(), asyncio.get_running_loop(), limit)
        length = await asyncio.to_thread(self._plane.blobs.put, name, blocks)
        await self._plane.change(partial(_uploaded, caller, name, length), caller)
        return reply({"blob": name, "length": length}, 201)

    async def _blocks(self, name: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Read ``start`` to ``stop`` of a blob, block by block."""
        with await self._plane.run(lambda: self._plane.blobs.open(name)) as file:
            await self._plane.run(lambda: file.seek(start))
            left = stop - start
            while left:
                block = await self._plane.run(_read(file, min(left, _BLOCK_BYTES)))
                if not block:
                    raise OSError("a blob ended before its length")
                left -= len(block)
                yield block


def _read(file: BinaryIO, size: int) -> Callable[[], bytes]:
    return lambda: file.read(size)


def _pull(
    stream: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop, limit: int
) -> Iterator[bytes]:
    """Return, in a thread, the blocks that arrive in the event loop.

    Raises:
        HTTPException: 413, more than ``limit`` bytes came.
    """

    async def take() -> bytes | None:
        return await anext(stream, None)

    came = 0
    while (block := asyncio.run_coroutine_threadsafe(take(), loop).result()) is not None:
        came += len(block)
        if came > limit:
            raise too_long(limit)
        yield block


def _uploaded(
    caller: Caller, name: str, length: int, _connection: object
) -> tuple[None, Entry]:
    return None, Entry(str(caller), "blob.upload", name, {"length": length})
