"""What the worker answers to each request: routes, deadlines, counts.

One answer is computed at a time, on as many threads as the session was given, so
that the cores a device grants to inference are all it uses; waiting for one's turn
counts against the deadline. A late answer is refused, never sent. It is the model
that is late only by the deadline of this worker: whoever asks for less time has set
himself what was missed, and must not be able to fail a trial by it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from time import monotonic

from edgewright import __version__
from edgewright.core import log
from edgewright.core.errors import (
    DeadlineError,
    EngineError,
    InputError,
    WireError,
)
from edgewright.runtime import protocol
from edgewright.runtime.deadline import Deadline
from edgewright.runtime.engines import Array
from edgewright.runtime.model import Model
from edgewright.runtime.requests import Request
from edgewright.wire.version import encode

_MAX_DIGITS = 18
_JSON_HEADER = "inference-header-content-length"
# Characters of one number in JSON, and samples in one request, that are allowed for.
_NUMBER_BYTES, _BATCH = 24, 16
_LEAST_BODY, _MOST_BODY = 1 << 20, 16 << 20


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, before it becomes bytes of a connection."""

    status: int
    body: bytes
    headers: dict[str, str] = field(
        default_factory=lambda: {"Content-Type": "application/json"}
    )


class Service:
    """One model behind the Open Inference Protocol."""

    def __init__(self, model: Model, *, deadline_s: float) -> None:
        self._model = model
        self._deadline_s = deadline_s
        self._turn = threading.Lock()
        self._ready = True
        release = model.manifest.release
        self._name = (release.name, str(release.version))
        self._parameters = {
            "digest": model.digest,
            "release": str(release),
            "variant": model.variant,
        }
        self._routes = self._table()

    @property
    def body_limit(self) -> int:
        """The most bytes a request may have: sixteen samples written as JSON."""
        numbers = sum(
            prod(size for size in spec.shape if size > 0) for spec in self._model.inputs
        )
        return min(max(numbers * _NUMBER_BYTES * _BATCH, _LEAST_BODY), _MOST_BODY)

    def drain(self) -> None:
        """Say from now on that this worker is no longer ready."""
        self._ready = False

    def answer(self, request: Request) -> Response:
        """Return the response to one request, whatever it is."""
        route = self._routes.get(request.path)
        if route is None:
            return refuse(404, f"there is nothing at {request.path[:200]}")
        methods, respond = route
        if request.method not in methods:
            response = refuse(405, f"{request.path} takes {' and '.join(methods)}")
            response.headers["Allow"] = ", ".join(methods)
            return response
        return respond(request)

    def failed(self, error: Exception) -> Response:
        """Return the response to a request that brought out a fault of ours."""
        self._model.monitor.failed()
        log.event("worker", "unexpected fault", error=repr(error))
        return refuse(500, f"unexpected fault: {type(error).__name__}")

    def _table(self) -> dict[str, tuple[tuple[str, ...], Callable[[Request], Response]]]:
        name, number = self._name
        read, write = ("GET", "HEAD"), ("POST",)
        table: dict[str, tuple[tuple[str, ...], Callable[[Request], Response]]] = {
            "/v2": (read, self._server),
            "/v2/health/live": (read, lambda _: _json(200, {"live": True})),
            "/v2/health/ready": (read, self._server_ready),
        }
        for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{number}"):
            table[path] = (read, self._metadata)
            table[f"{path}/ready"] = (read, self._model_ready)
            table[f"{path}/infer"] = (write, self._infer)
        return table

    def _server(self, _: Request) -> Response:
        extensions = ["binary_tensor_data"]
        document = {"name": "edgewright", "version": __version__, "extensions": extensions}
        return _json(200, document)

    def _server_ready(self, _: Request) -> Response:
        return _json(200 if self._ready else 503, {"ready": self._ready})

    def _model_ready(self, _: Request) -> Response:
        document = {"name": self._name[0], "ready": self._ready}
        return _json(200 if self._ready else 503, document)

    def _metadata(self, _: Request) -> Response:
        model = self._model
        document = {
            "name": self._name[0],
            "versions": [self._name[1]],
            "platform": model.engine.name,
            "inputs": [protocol.describe(spec) for spec in model.inputs],
            "outputs": [protocol.describe(spec) for spec in model.outputs],
            "parameters": self._parameters,
        }
        return _json(200, document)

    def _infer(self, request: Request) -> Response:
        """Answer, and count what became of it exactly once."""
        monitor, start = self._model.monitor, monotonic()
        missed = monitor.late
        try:
            question = self._question(request)
            after_s = question.deadline_s or self._deadline_s
            if after_s < self._deadline_s:
                missed = monitor.impatient
            response = self._inferred(question, Deadline(after_s, since_s=start))
        except (InputError, WireError) as error:
            monitor.refused()
            return refuse(400, _told(error))
        except DeadlineError as error:
            missed()
            return refuse(408, _told(error))
        except EngineError as error:
            monitor.failed()
            return refuse(500, _told(error))
        monitor.answered(start, monotonic())
        return response

    def _question(self, request: Request) -> protocol.Question:
        model = self._model
        return protocol.decode(request.body, _json_bytes(request), model.outputs, model.engine)

    def _inferred(self, question: protocol.Question, deadline: Deadline) -> Response:
        answers = zip(
            self._model.outputs, self._in_turn(question.feeds, deadline), strict=True
        )
        body, json_bytes = protocol.encode(
            question, answers, model=self._name, parameters=self._parameters
        )
        if deadline.expired:
            raise deadline.missed()
        if json_bytes == len(body):
            return Response(200, body)
        headers = {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(json_bytes),
        }
        return Response(200, body, headers)

    def _in_turn(self, feeds: dict[str, Array], deadline: Deadline) -> list[Array]:
        if not self._turn.acquire(timeout=max(0.0, deadline.at_s - monotonic())):
            raise deadline.missed()
        try:
            return self._model.run(feeds, deadline=deadline)
        finally:
            self._turn.release()


def refuse(status: int, reason: str) -> Response:
    """Return a refusal as the protocol words it."""
    return _json(status, {"error": reason})


def _json(status: int, document: object) -> Response:
    return Response(status, encode(document))


def _told(error: InputError | WireError | EngineError) -> str:
    return f"{error} ({error.hint})" if error.hint else str(error)


def _json_bytes(request: Request) -> int:
    text = request.headers.get(_JSON_HEADER)
    if text is None:
        return len(request.body)
    plain = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    if not plain or int(text) > len(request.body):
        raise WireError(f"{text[:20]!r} bytes of JSON in a body of {len(request.body)}")
    return int(text)
