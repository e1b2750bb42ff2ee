"""A real control plane on a loopback port, and devices that speak to it as real ones do."""

import base64
import hashlib
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import uvicorn

from edgewright.bundle import signing, trust
from edgewright.bundle.keys import PrivateKey
from edgewright.core import clock, names
from edgewright.fleet.api.plane import ControlPlane, Settings
from edgewright.fleet.api.server import application
from edgewright.wire import feedback, version
from edgewright.wire.checkin import (
    DEVICE_HEADER,
    SIGNATURE_HEADER,
    CheckIn,
    CheckInReply,
    Enrol,
    Serving,
)
from edgewright.wire.http import Client
from edgewright.wire.telemetry import FEEDBACK, SUMMARY, Batch, Event

NOW = "2026-01-31T12:00:00Z"


def make_keys(folder):
    """Make keys with a 1-of-1 root below ``folder`` and return their folder."""
    keys = folder / "keys"
    if not keys.exists():
        signing.init(keys, root_keys=1, root_threshold=1, now=datetime.now(UTC))
    return keys


def settings(folder, **changes):
    """Return the settings of a control plane below ``folder``."""
    keys = make_keys(folder)
    return Settings(
        state=folder / "state",
        trust=keys / "public",
        assignments_key=keys / "private" / "assignments.key",
        **changes,
    )


@dataclass
class Running:
    """A control plane that answers on ``url``, in a thread of this process."""

    url: str
    plane: ControlPlane
    keys: object
    clients: list = field(default_factory=list)

    def token(self, scope):
        """Return a token the server wrote at its first start."""
        path = self.plane.settings.state / "tokens" / f"{scope}.token"
        return path.read_text().strip()

    def client(self, scope="operate"):
        """Return a client with a token; it is closed with the server."""
        client = Client(self.url, token=self.token(scope) if scope else "")
        self.clients.append(client)
        return client

    def audit(self):
        """Return every row of the audit."""
        return self.client().call("GET", "/v1/audit?limit=1000")["audit"]


@contextmanager
def running(folder, **changes):
    """Run a control plane with its state below ``folder``."""
    plane = ControlPlane(settings(folder, **changes))
    config = uvicorn.Config(
        application(plane), port=0, log_config=None, access_log=False, lifespan="on"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        made = Running(f"http://127.0.0.1:{port}", plane, make_keys(folder))
        yield made
        for client in made.clients:
            client.close()
    finally:
        server.should_exit = True
        thread.join()


def until(condition, *, timeout_s=10.0):
    """Wait until ``condition()`` is true and return its value."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)
    return value


@dataclass
class SimDevice:
    """A device with its own key, its own queue, and nothing behind them."""

    client: Client
    key: PrivateKey
    name: str = "one"
    channel: str = "stable"
    labels: dict = field(default_factory=dict)
    queue_id: str = "q-1"
    sequence: int = 0
    seq: int = 0
    transition: int = 0
    serving: Serving | None = None

    @classmethod
    def make(cls, running, folder, name, **fields):
        """Return a device with a new key, enrolled."""
        key = PrivateKey.create(folder / f"{name}.key")
        device = cls(running.client("enrol"), key, name=name, **fields)
        device.enrol()
        return device

    @property
    def id(self):
        """The id that belongs to its key."""
        return names.device_id(self.key.public)

    def post(self, path, body):
        """Send a signed body; return the response whatever its status."""
        signature = base64.b64encode(self.key.sign(body)).decode()
        headers = {DEVICE_HEADER: self.id, SIGNATURE_HEADER: signature}
        return self.client.request("POST", path, body=body, headers=headers)

    def send(self, path, message):
        """Send a message and return the body answered, or raise the refusal."""
        response = self.post(path, version.encode(message))
        self.client.refuse_failure(response)
        return response.body

    def enrol(self):
        """Enrol, or enrol again."""
        message = Enrol(
            public_key=base64.b64encode(self.key.public).decode(),
            name=self.name,
            channel=self.channel,
            labels=self.labels,
        )
        return self.send("/v1/device/enrol", message)

    def message(self, *, sequence=None, batch=None):
        """Return the next check-in."""
        self.sequence = self.sequence + 1 if sequence is None else sequence
        return CheckIn(
            device=self.id,
            sequence=self.sequence,
            at=NOW,
            boot_id="boot",
            monotonic_s=1.0,
            agent_version="0.1.0",
            channel=self.channel,
            labels=self.labels,
            serving=self.serving,
            batch=batch,
        )

    def check_in(self, *events, sequence=None):
        """Check in with new events ``(kind, body)`` and return the reply."""
        message = self.message(sequence=sequence, batch=self.batch(*events))
        return version.decode(CheckInReply, self.send("/v1/device/checkin", message))

    def batch(self, *events):
        """Return the next batch of the queue; None without events."""
        if not events:
            return None
        low = self.seq + 1
        made = tuple(
            Event(seq=low + index, kind=kind, body=body)
            for index, (kind, body) in enumerate(events)
        )
        self.seq += len(made)
        return Batch(queue_id=self.queue_id, low=low, high=self.seq, events=made)

    def tells(self, what, release, digest, *, rollout="", reason=""):
        """Return the event of one more transition."""
        self.transition += 1
        body = {
            "transition": self.transition,
            "at": NOW,
            "what": what,
            "release": release,
            "digest": digest,
            "rollout": rollout,
            "serving": digest,
            "reason": reason,
        }
        return FEEDBACK, body

    def confirm(self, release, digest, *, answered=60, **counts):
        """Serve a release, say that it is confirmed, and tell what it answered."""
        self.serving = Serving(digest=digest, release=release, variant="float32")
        events = [
            self.tells(feedback.ACTIVATED, release, digest),
            self.tells(feedback.CONFIRMED, release, digest),
            (SUMMARY, summary(release, digest, answered=answered, **counts)),
        ]
        return self.check_in(*events)


def summary(release, digest, *, answered=60, failed=0, late=0, refused=0, latency=None):
    """Return the body of a summary."""
    return {
        "at": NOW,
        "boot_id": "boot",
        "monotonic_s": 1.0,
        "period_s": 1.0,
        "digest": digest,
        "release": release,
        "answered": answered,
        "failed": failed,
        "late": late,
        "refused": refused,
        "latency": {"200": answered} if latency is None else latency,
        "resident_bytes": 1,
    }


@dataclass(frozen=True)
class FakeRelease:
    """A release whose bytes are anything; only the devices would look into them."""

    release: str
    body: bytes

    @property
    def hex(self):
        """Name of its blob."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def digest(self):
        """Digest of its bytes."""
        return f"sha256:{self.hex}"

    @property
    def path(self):
        """Its target path."""
        name, _, number = self.release.partition("@")
        return f"{name}/{number}.ewb"

    @property
    def custom(self):
        """What is signed beside it."""
        return {
            "format": 1,
            "header_length": 4,
            "header_sha256": "sha256:" + hashlib.sha256(self.body[:4]).hexdigest(),
            "release": self.release,
        }


def signed_with(running, *fakes, files=None):
    """Return the metadata set handed out now (or ``files``) with ``fakes`` added."""
    held = files or hand_out(running)
    repository = signing.ArtefactRepository.load(held)
    for fake in fakes:
        repository.add_target(fake.path, len(fake.body), fake.digest, fake.custom)
    releases, freshness = (
        signing.load_key(running.keys, name) for name in ("releases", "freshness")
    )
    return repository.sign(releases, freshness, datetime.now(UTC))


def hand_out(running, repository=trust.ARTEFACTS):
    """Return every file of a repository as it lies in the state folder."""
    folder = running.plane.trust_folder / repository
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*.json")
    }


def offer(fake, files):
    """Return the body of ``POST /v1/releases``."""
    return {
        "release": fake.release,
        "digest": fake.digest,
        "length": len(fake.body),
        "path": fake.path,
        "metadata": {name: base64.b64encode(data).decode() for name, data in files.items()},
    }


def publish(running, release, body=None):
    """Upload and publish a fake release; return it."""
    fake = FakeRelease(release, body or f"bundle of {release}".encode())
    client = running.client()
    client.refuse_failure(client.request("PUT", f"/v1/blobs/{fake.hex}", body=fake.body))
    client.call("POST", "/v1/releases", offer(fake, signed_with(running, fake)))
    return fake


def roll_out(running, release, *waves, channel="stable", **gate):
    """Start a rollout and return its id."""
    asked = {
        "channel": channel,
        "release": release,
        "waves": list(waves) or [{"bp": 10_000}],
        "gate": gate,
    }
    return running.client().call("POST", "/v1/rollouts", asked)["rollout"]


class SteppedClock:
    """Time that moves when told."""

    def __init__(self, start="2026-01-31T12:00:00Z"):
        self.moment = clock.parse(start)
        self.monotonic = 0.0

    def now(self):
        """Return the moment it stands at."""
        return self.moment

    def monotonic_s(self):
        """Return seconds since it was made."""
        return self.monotonic
