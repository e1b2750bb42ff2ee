"""A real control plane on a loopback port, and devices that speak to it as real ones do."""

import base64
import hashlib
import shutil
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import uvicorn
from sqlalchemy import update

from edgewright.bundle import signing, trust
from edgewright.bundle.keys import PrivateKey
from edgewright.core import names
from edgewright.fleet import audit, identity, ingest, registry
from edgewright.fleet.api.plane import ControlPlane, Settings
from edgewright.fleet.api.server import application
from edgewright.fleet.rollout import ledger
from edgewright.fleet.rollout.gate import GatePolicy
from edgewright.fleet.store import tables
from edgewright.wire import assignment, feedback, version
from edgewright.wire.assignment import Wave
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


def make_keys(folder, *, strange=False):
    """Make keys with a 1-of-1 root below ``folder`` and return their folder.

    They are the same ones in every test, which saves making them; ``strange`` ones
    are nobody else's.
    """
    keys = folder / "keys"
    if strange:
        signing.init(keys, root_keys=1, root_threshold=1, now=datetime.now(UTC))
    elif not keys.exists():
        shutil.copytree(Path(_made_once().name, "keys"), keys)
    return keys


@cache
def _made_once():
    folder = tempfile.TemporaryDirectory(prefix="edgewright-keys-")
    make_keys(Path(folder.name), strange=True)
    return folder


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


def signed_set(keys, held, *fakes):
    """Return the set ``held`` with ``fakes`` added, signed anew."""
    repository = signing.ArtefactRepository.load(held)
    for fake in fakes:
        repository.add_target(fake.path, len(fake.body), fake.digest, fake.custom)
    releases, freshness = (signing.load_key(keys, name) for name in ("releases", "freshness"))
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
    client.call(
        "POST", "/v1/releases", offer(fake, signed_set(running.keys, hand_out(running), fake))
    )
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
    """Time that moves when told, from the moment it was made."""

    def __init__(self):
        self.moment = datetime.now(UTC).replace(microsecond=0)

    def now(self):
        """Return the moment it stands at."""
        return self.moment

    def monotonic_s(self):
        """Return the moment in seconds."""
        return self.moment.timestamp()

    def step(self, seconds):
        """Let time pass."""
        self.moment += timedelta(seconds=seconds)


class Bench:
    """A control plane without HTTP, at a time that moves when told."""

    def __init__(self, folder):
        self.folder = folder
        self.keys = make_keys(folder)
        self.clock = SteppedClock()
        self.plane = ControlPlane(settings(folder), self.clock)
        self._transitions = {}

    def restart(self):
        """Open the same state again, as a process does that was killed."""
        self.plane.close()
        self.plane = ControlPlane(settings(self.folder), self.clock)

    def write(self, change):
        """Run one change and return what it gives."""
        return self.plane.database.write(change).result()

    def read(self, query):
        """Run one query and return what it gives."""
        with self.plane.database.read() as connection:
            return query(connection)

    def publish(self, release):
        """Publish a fake release and return it."""
        fake = FakeRelease(release, f"bundle of {release}".encode())
        self.plane.blobs.put(fake.hex, [fake.body])
        held = self.read(lambda c: registry.held(c, trust.ARTEFACTS))
        new = signed_set(self.keys, held, fake)
        made = registry.Offer(release, fake.digest, len(fake.body), fake.path, new)
        registry.verify(new, held, now=self.clock.now())

        def change(connection):
            version = registry.version_of(held)
            registry.replace_if_unchanged(connection, new, expected_version=version)
            return registry.publish(connection, made, actor="test", at_ms=0)

        self.write(change)
        return fake

    def enrol(self, name, channel="stable", **labels):
        """Make a device known and return its id."""
        public = hashlib.sha256(name.encode()).digest()
        message = Enrol(
            public_key=base64.b64encode(public).decode(),
            name=name,
            channel=channel,
            labels=labels,
        )
        return self.write(lambda c: identity.enrol(c, message, at_ms=self.plane.now_ms()))[0]

    def start(self, release, *waves, channel="stable", **gate):
        """Start a rollout and return its id."""
        chosen = tuple(Wave(**wave) for wave in waves) or (Wave(),)
        order = ledger.Order(channel, release, chosen, GatePolicy(**gate))
        made = self.write(
            lambda c: ledger.start(c, order, actor="test", at_ms=self.plane.now_ms())
        )
        return made.id

    def move(self, rollout, verb):
        """Pause, resume or abort."""

        def change(connection):
            old = ledger.get(connection, rollout)
            return ledger.move(connection, old, verb(old.progress), at_ms=self.plane.now_ms())

        return self.write(change)

    def says(self, device, what, fake, **counts):
        """Let a device tell one transition, and what it answered, and serve it if it may."""
        number = self._transitions[device] = self._transitions.get(device, 0) + 1
        body = {
            "transition": number,
            "at": NOW,
            "what": what,
            "release": fake.release,
            "digest": fake.digest,
        }
        events = [Event(seq=2 * number - 1, kind=FEEDBACK, body=body)]
        told = summary(fake.release, fake.digest, **{"answered": 0, "latency": {}, **counts})
        events.append(Event(seq=2 * number, kind=SUMMARY, body=told))
        low = 2 * number - 1
        batch = Batch(queue_id="q", low=low, high=low + 1, events=tuple(events))
        at_ms = self.plane.now_ms()
        if what in {feedback.ACTIVATED, feedback.CONFIRMED}:
            self.serves(device, fake)
        self.write(lambda c: ingest.apply(c, device, batch, at_ms=at_ms))

    def serves(self, device, fake):
        """Let the last check-in of a device say that it serves a release."""
        table = tables.devices
        row = {"serving_digest": fake.digest, "serving_release": fake.release}
        self.write(lambda c: c.execute(update(table).where(table.c.id == device).values(row)))

    def tick(self, times=1):
        """Let the controller act."""
        for _ in range(times):
            self.plane.controller.tick()

    def rollout(self, name):
        """Return a rollout as it stands."""
        return self.read(lambda c: ledger.get(c, name))

    def actions(self):
        """Return every action in the audit."""
        return [row["action"] for row in self.read(lambda c: audit.rows(c, limit=1000))]

    def trusted(self, held=None):
        """Return what a device trusts that reads the folder; documents by channel."""
        files = hand_out(self, trust.ASSIGNMENTS)
        place = held or self.folder / f"device-{len(list(self.folder.iterdir()))}"
        place.mkdir(exist_ok=True)
        (place / "root.json").write_bytes(files["1.root.json"])
        found = trust.refresh(place, files.get, now=self.clock.now())
        documents = {
            path: assignment.decode(files[f"targets/{trust.target_file(target)}"])
            for path, target in found.targets.items()
        }
        return found.version, documents

    def close(self):
        """Close the state."""
        self.plane.close()
