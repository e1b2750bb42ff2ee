"""A control plane in memory, behind a real HTTP server on the loopback.

It speaks the device's side of the protocol honestly, and misbehaves when it is told
to: ``plane.misbehave("/v1/blobs/", "cut", 1000)``. It remembers every request, every
check-in and every event, so that a test can ask what a device really said.
"""

import base64
import http.server
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec

from edgewright.bundle import keys, signing
from edgewright.bundle.archive import Archive
from edgewright.core import digest, names
from edgewright.core.clock import show
from edgewright.wire import assignment, version
from edgewright.wire.assignment import RolloutDocument, Target, Wave
from edgewright.wire.checkin import (
    DEVICE_HEADER,
    SIGNATURE_HEADER,
    CheckIn,
    CheckInReply,
    Enrol,
    Enrolled,
    ErrorBody,
    ErrorReply,
)
from edgewright.wire.telemetry import FEEDBACK, Ack, Batch, Event

TOKEN = "enrol-me"  # noqa: S105  the token of a fleet that lives for one test

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass
class Fault:
    """What goes wrong for requests whose path holds ``path``, ``times`` more times.

    ``kind`` is one of: ``cut`` (the connection after ``value`` bytes of the body),
    ``status`` (answer ``value``), ``slow`` (wait ``value`` seconds first), ``refuse``
    (close without an answer), ``no_range`` (200 with everything), ``etag`` (of another
    file), ``flip`` (one bit of byte ``value`` of the file), ``drop_reply`` (do what was
    asked, then close without an answer), ``page`` (200 with someone's login page).
    """

    path: str
    kind: str
    value: float = 0
    times: int = 1 << 30


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Known:
    """What the plane knows of one device."""

    public: bytes
    enrol: Enrol
    sequence: int = 0
    checkins: list[CheckIn] = field(default_factory=list)
    marks: dict[str, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    lost: int = 0

    def feedback(self) -> list[tuple[str, str]]:
        """Return what became of which release, in the order it was told."""
        told = [event.body for event in self.events if event.kind == FEEDBACK]
        return [(body["what"], body["release"]) for body in told]


class ControlPlane:
    """One fleet.

    Args:
        folder: Where keys are made and device files are put.
        interval_s: What check-ins are answered, as is ``least_s``.
    """

    def __init__(self, folder: Path, *, interval_s: float = 0.2, least_s: float = 0.0) -> None:
        self.folder, self.interval_s, self.least_s = folder, interval_s, least_s
        self.requests: list[Request] = []
        self.devices: dict[str, Known] = {}
        self.files: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.releases: dict[str, Target] = {}
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._version = 0
        self._server: http.server.ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._port = 0
        keys_dir = folder / "keys"
        signing.init(keys_dir, root_keys=1, root_threshold=1, now=_yesterday())
        self._keys = {
            name: keys.PrivateKey.load(keys_dir / "private" / f"{name}.key")
            for name in ("releases", "freshness", "assignments")
        }
        for repository in ("artefacts", "assignments"):
            public = signing.read_public(keys_dir / "public" / repository)
            self._put(repository, public)
        self._artefacts = signing.read_public(keys_dir / "public" / "artefacts")
        self.token_file = folder / "enrol.token"
        self.token_file.write_text(TOKEN + "\n")
        self.rollouts: dict[str, bytes] = {}
        self.assign({})

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def root_file(self, repository: str) -> Path:
        """The root a device is born with."""
        return self.folder / "keys" / "public" / repository / "1.root.json"

    def start(self) -> None:
        """Listen; on the same port as before when it was stopped."""
        plane = self

        class Handler(_Handler):
            owner = plane

        self._server = _Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Be away; twice is fine."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def misbehave(
        self, path: str, kind: str, value: float = 0, *, times: int = 1 << 30
    ) -> Fault:
        """Let requests for ``path`` go wrong; set ``times`` to 0 to end it."""
        fault = Fault(path, kind, value, times)
        with self._lock:
            self._faults.append(fault)
        return fault

    def behave(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._faults.clear()

    def publish(
        self,
        bundle: Path,
        *,
        custom: dict[str, Any] | None = None,
        now: datetime | None = None,
    ) -> Target:
        """Publish a bundle, signed by the releases key."""
        with Archive(bundle) as opened:
            header, of = opened.header, opened.digest()
        data = bundle.read_bytes()
        release = header.manifest.release
        path = f"{release.name}/{release.version}.ewb"
        beside: dict[str, Any] = {
            "format": 1,
            "header_length": header.length,
            "header_sha256": header.sha256,
            "release": str(release),
        }
        repository = signing.ArtefactRepository.load(self._artefacts)
        repository.add_target(path, len(data), of, {**beside, **(custom or {})})
        moment = now or datetime.now(UTC)
        made = repository.sign(self._keys["releases"], self._keys["freshness"], moment)
        self._artefacts = {**self._roots("artefacts"), **made}
        self._put("artefacts", made)
        self.blobs[digest.hex_of(of)] = data
        target = Target(release=str(release), digest=of, path=path, length=len(data))
        self.releases[str(release)] = target
        return target

    def assign(self, rollouts: dict[str, bytes], *, now: datetime | None = None) -> None:
        """Sign what the channels run."""
        self._version += 1
        self.rollouts = rollouts
        repository = signing.AssignmentRepository(
            self.files["assignments/1.root.json"], self._keys["assignments"]
        )
        targets = {f"rollouts/{channel}.json": data for channel, data in rollouts.items()}
        made = repository.sign(
            targets, version=self._version, now=now or datetime.now(UTC) - timedelta(minutes=1)
        )
        self._put("assignments", made)

    def roll_out(
        self,
        following: Target,
        base: Target | None = None,
        *,
        waves: tuple[Wave, ...] = (Wave(),),
        open_waves: int = 1,
        rollout: str = "rol_1",
        state: str = "running",
        now: datetime | None = None,
    ) -> None:
        """Let the channel ``stable`` run a release, or return to ``base``."""
        document = RolloutDocument(
            rollout=rollout,
            channel="stable",
            salt="salt",
            next=following,
            base=base,
            waves=waves,
            open_waves=open_waves,
            state=state,
        )
        self.assign({"stable": assignment.encode(document)}, now=now)

    @property
    def device(self) -> Known:
        """The only device."""
        (only,) = self.devices.values()
        return only

    def asked(self, path: str) -> list[Request]:
        """Return the requests whose path holds ``path``."""
        with self._lock:
            return [one for one in self.requests if path in one.path]

    def _roots(self, repository: str) -> dict[str, bytes]:
        return {
            name.partition("/")[2]: data
            for name, data in self.files.items()
            if name.startswith(f"{repository}/") and name.endswith(".root.json")
        }

    def _put(self, repository: str, files: dict[str, bytes]) -> None:
        with self._lock:
            for name, data in files.items():
                self.files[f"{repository}/{name}"] = data

    def fault(self, path: str) -> Fault | None:
        """Take the fault that is due for a request."""
        with self._lock:
            for fault in self._faults:
                if fault.path in path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def remember(self, request: Request) -> None:
        """Keep a request for the test to look at."""
        with self._lock:
            self.requests.append(request)

    def enrol(self, request: Request) -> Any:
        """Answer a device's first words."""
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _refusal(HTTPStatus.FORBIDDEN, "access_error", "wrong token")
        enrol = version.decode(Enrol, request.body)
        public = base64.b64decode(enrol.public_key)
        signature = base64.b64decode(request.headers[SIGNATURE_HEADER.lower()])
        keys.verify(public, signature, request.body)
        device = names.device_id(public)
        self.devices.setdefault(device, Known(public, enrol))
        return HTTPStatus.CREATED, version.encode(Enrolled(device=device)), {}

    def check_in(self, request: Request) -> Any:
        """Answer a check-in; apply its batch exactly once."""
        known = self.devices.get(request.headers.get(DEVICE_HEADER.lower(), ""))
        if known is None:
            return _refusal(HTTPStatus.FORBIDDEN, "access_error", "unknown device")
        signature = base64.b64decode(request.headers[SIGNATURE_HEADER.lower()])
        keys.verify(known.public, signature, request.body)
        checkin = version.decode(CheckIn, request.body)
        with self._lock:
            if checkin.sequence <= known.sequence:
                return _refusal(HTTPStatus.CONFLICT, "conflict_error", "old sequence")
            ack = None
            if checkin.batch is not None:
                mark = known.marks.get(checkin.batch.queue_id)
                if mark is not None and checkin.batch.low > mark + 1:
                    return _refusal(HTTPStatus.CONFLICT, "conflict_error", "a gap")
                ack = _apply(known, checkin.batch)
            known.sequence = checkin.sequence
            known.checkins.append(checkin)
        reply = CheckInReply(
            at=show(datetime.now(UTC)),
            interval_s=self.interval_s,
            least_s=self.least_s,
            ack=ack,
        )
        return HTTPStatus.OK, version.encode(reply), {}


def device_toml(plane: ControlPlane, path: Path, **settings: Any) -> Path:
    """Write the settings of a device of this fleet; return ``path``."""
    values = {
        "server": plane.url,
        "name": "camera-1",
        "enrol_token_file": str(plane.token_file),
        "artefacts_root": str(plane.root_file("artefacts")),
        "assignments_root": str(plane.root_file("assignments")),
        "port": 0,
        "check_in_s": 0.3,
        "report_s": 0.5,
        **settings,
    }
    labels = values.pop("labels", {})
    lines = [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in values.items()]
    lines += ["[labels]", *(f'{key} = "{value}"' for key, value in labels.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


@contextmanager
def running(plane: ControlPlane) -> Iterator[ControlPlane]:
    """Let a plane listen for the length of a block."""
    plane.start()
    try:
        yield plane
    finally:
        plane.stop()


def _apply(known: Known, batch: Batch) -> Ack:
    mark = known.marks.get(batch.queue_id, 0)
    known.events += [event for event in batch.events if event.seq > mark]
    known.lost += sum(high - max(low, mark + 1) + 1 for low, high in batch.lost if high > mark)
    known.marks[batch.queue_id] = max(mark, batch.high)
    return Ack(queue_id=batch.queue_id, high=known.marks[batch.queue_id])


def _refusal(status: HTTPStatus, code: str, message: str) -> Any:
    reply = ErrorReply(error=ErrorBody(code=code, message=message, request_id="r1"))
    return status, version.encode(reply), {}


def _yesterday() -> datetime:
    return datetime.now(UTC) - timedelta(days=1)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""

    def server_close(self) -> None:
        """Close kept-alive connections too, as a process that ends does."""
        super().server_close()
        for connection in list(_Handler.open_connections.get(id(self), ())):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: ControlPlane
    open_connections: dict[int, set[socket.socket]] = {}  # noqa: RUF012  by server

    def setup(self) -> None:
        super().setup()
        self.open_connections.setdefault(id(self.server), set()).add(self.connection)

    def finish(self) -> None:
        self.open_connections[id(self.server)].discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        plane = self.owner
        plane.remember(request)
        fault = plane.fault(self.path)
        kind = fault.kind if fault else ""
        if fault and kind == "slow":
            time.sleep(fault.value)
        if kind == "refuse":
            self.close_connection = True
            return
        if fault and kind == "status":
            code = HTTPStatus(int(fault.value))
            status, data, more = _refusal(code, "", "as told")
        elif kind == "page":
            status, data, more = HTTPStatus.OK, b"<html>log in</html>", {}
        else:
            status, data, more = self._route(request, fault)
        if kind == "drop_reply":
            self.close_connection = True
            return
        self._send(status, data, more, cut=int(fault.value) if kind == "cut" else None)

    def _route(self, request: Request, fault: Fault | None) -> Any:
        plane, path = self.owner, request.path
        if path == "/v1/health":
            return HTTPStatus.OK, b'{"status":"ok","version":"0"}', {}
        if path == "/v1/device/enrol":
            return plane.enrol(request)
        if path == "/v1/device/checkin":
            return plane.check_in(request)
        if path.startswith("/v1/trust/"):
            data = plane.files.get(path.removeprefix("/v1/trust/"))
            return self._static(request, data, None, fault)
        if path.startswith("/v1/blobs/"):
            return self._blob(request, path.removeprefix("/v1/blobs/"), fault)
        return _refusal(HTTPStatus.NOT_FOUND, "not_found_error", f"nothing at {path}")

    def _blob(self, request: Request, name: str, fault: Fault | None) -> Any:
        if request.method == "PUT":
            self.owner.blobs[name] = request.body
            return HTTPStatus.CREATED, b"", {}
        return self._static(request, self.owner.blobs.get(name), name, fault)

    def _static(
        self, request: Request, data: bytes | None, tag: str | None, fault: Fault | None
    ) -> Any:
        if data is None:
            return _refusal(HTTPStatus.NOT_FOUND, "not_found_error", "no such file")
        kind = fault.kind if fault else ""
        etag = f'"{tag or digest.of_bytes(data)[7:]}"'
        if fault and kind == "flip":
            place = int(fault.value) % len(data)
            data = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        if kind == "etag":
            etag = '"another"'
        headers = {"ETag": etag, "Accept-Ranges": "bytes"}
        if request.headers.get("if-none-match") == etag:
            return HTTPStatus.NOT_MODIFIED, b"", headers
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        fresh = request.headers.get("if-range", etag) == etag
        if asked is None or not fresh or kind == "no_range":
            return HTTPStatus.OK, data, headers
        first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return HTTPStatus.PARTIAL_CONTENT, data[first : last + 1], headers

    def _send(
        self, status: HTTPStatus, data: bytes, headers: dict[str, str], *, cut: int | None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status is not HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD" or status is HTTPStatus.NOT_MODIFIED:
            return
        if cut is not None and cut < len(data):
            data = data[:cut]
            self.close_connection = True
        self.wfile.write(data)
