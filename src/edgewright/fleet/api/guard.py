"""What stands around every handler: one error shape, an id for each request, size limits.

``{"error": {code, message, hint, request_id}}`` is the body of every answer that
is not a success, also of those the router gives. What went wrong inside is
logged under the request's id and not told.
"""

import traceback
from itertools import count

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgewright.core import log, names
from edgewright.core.errors import (
    AccessError,
    ConflictError,
    EdgewrightError,
    NotFoundError,
    RollbackError,
    StorageError,
)
from edgewright.wire import version
from edgewright.wire.checkin import SIGNATURE_HEADER, ErrorBody, ErrorReply

REQUEST_ID_HEADER = "X-Request-Id"

# Unique among all requests of all servers, and made in a microsecond.
_PROCESS = f"{names.new_id('req')}-"
_NUMBERS = count(1)

_BAD_REQUEST = 400
_UNAUTHORISED, _FORBIDDEN = 401, 403
_BROKEN, _UNAVAILABLE = 500, 503
_STATUS: tuple[tuple[type[EdgewrightError], int], ...] = (
    (NotFoundError, 404),
    (ConflictError, 409),
    (RollbackError, 409),
    (StorageError, _UNAVAILABLE),
)


class Guard:
    """The outermost application: whatever happens inside, an answer of our shape goes out.

    Args:
        app: What answers.
        log_requests: Write one line of JSON per request to standard error.
    """

    def __init__(self, app: ASGIApp, *, log_requests: bool = False) -> None:
        self._app = app
        self._log_requests = log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        # The router raises its 404 and 405 only inside an application.
        scope["app"] = self
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"{_PROCESS}{next(_NUMBERS):x}"
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                header = (REQUEST_ID_HEADER.lower().encode(), request_id.encode())
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        refusal = await self._attempt(scope, receive, watched, request_id)
        if refusal is not None and not status:
            await refusal(scope, receive, watched)
        if self._log_requests:
            log.event(
                "serve",
                "request",
                request_id=request_id,
                method=scope["method"],
                path=scope["path"],
                status=status,
            )

    async def _attempt(
        self, scope: Scope, receive: Receive, send: Send, request_id: str
    ) -> Response | None:
        """Run the application; return what to say when it refused or failed."""
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            return None
        except EdgewrightError as error:
            return _refusal(_status_of(error, Request(scope)), error, request_id)
        except HTTPException as error:
            return _http_refusal(error, Request(scope), request_id)
        except Exception:  # noqa: BLE001  the outermost place of a request; it is logged
            trace = traceback.format_exc()
            log.event("serve", "failed", request_id=request_id, trace=trace)
            body = ErrorBody(
                code=EdgewrightError("").code,
                message="the server failed on this request",
                hint=f"Its log has the details under {request_id}.",
                request_id=request_id,
            )
            return _response(_BROKEN, body)
        return None


async def read_body(request: Request, *, limit_bytes: int) -> bytes:
    """Return the whole body.

    Raises:
        HTTPException: 413, it is longer than ``limit_bytes``.
    """
    check_length(request, limit_bytes=limit_bytes)
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > limit_bytes:
            raise too_long(limit_bytes)
    return bytes(body)


def check_length(request: Request, *, limit_bytes: int) -> None:
    """Refuse a body that says beforehand that it is too long."""
    said = request.headers.get("content-length", "0")
    if not said.isdecimal() or len(said) > 18 or int(said) > limit_bytes:
        raise too_long(limit_bytes)


def too_long(limit_bytes: int) -> HTTPException:
    """Return the refusal of a body longer than ``limit_bytes``."""
    return HTTPException(413, f"the body is longer than {limit_bytes} bytes")


def _status_of(error: EdgewrightError, request: Request) -> int:
    if isinstance(error, AccessError):
        known = "authorization" in request.headers or SIGNATURE_HEADER in request.headers
        return _FORBIDDEN if known else _UNAUTHORISED
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return _BAD_REQUEST


def _refusal(status: int, error: EdgewrightError, request_id: str) -> Response:
    body = ErrorBody(
        code=error.code, message=str(error), hint=error.hint, request_id=request_id
    )
    return _response(status, body)


def _http_refusal(error: HTTPException, request: Request, request_id: str) -> Response:
    method, path = request.method, request.url.path
    detail = {
        404: f"there is nothing at {path}",
        405: f"{path} does not take {method}",
    }.get(error.status_code, error.detail)
    code = "not_found_error" if error.status_code == 404 else "usage_error"
    body = ErrorBody(code=code, message=detail, request_id=request_id)
    return _response(error.status_code, body, headers=dict(error.headers or {}))


def _response(
    status: int, body: ErrorBody, *, headers: dict[str, str] | None = None
) -> Response:
    said = {**(headers or {})}
    if status == _UNAUTHORISED:
        said["WWW-Authenticate"] = "Bearer"
    return Response(
        version.encode(ErrorReply(error=body)),
        status,
        headers=said,
        media_type="application/json",
    )
