"""One control plane: its state folder, its database, its controller, put together.

Handlers are async; what touches the disk runs in the writer or in a few threads.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from edgewright.bundle import signing, trust
from edgewright.bundle.keys import PrivateKey
from edgewright.bundle.trust import ARTEFACTS, ASSIGNMENTS
from edgewright.core import durable, log
from edgewright.core.clock import Clock, SystemClock
from edgewright.fleet import access, audit, identity, registry
from edgewright.fleet.access import Caller
from edgewright.fleet.api.folder import DATABASE
from edgewright.fleet.audit import Entry
from edgewright.fleet.rollout.assignments import Assignments
from edgewright.fleet.rollout.controller import Controller
from edgewright.fleet.store import Database, FolderBlobs
from edgewright.fleet.store.mirror import mirror
from edgewright.fleet.store.moments import to_ms

T = TypeVar("T")

SERVER = "server"

_TICK_S = 0.5
_READERS = 4
_MAX_KEYS = 200_000


@dataclass(frozen=True, slots=True)
class Settings:
    """How a control plane is set up.

    Attributes:
        state: Folder of everything it must not lose.
        trust: ``public/`` of a keys folder.
        assignments_key: Private key file of the assignments repository.
        interval_s: What devices are told to wait between check-ins.
        max_blob_bytes: Largest bundle.
        database: SQLAlchemy URL; a file in ``state`` when empty.
    """

    state: Path
    trust: Path
    assignments_key: Path
    interval_s: float = 30.0
    max_blob_bytes: int = 4 << 30
    database: str = ""


class ControlPlane:
    """Everything a handler needs.

    Raises:
        StorageError: The state folder cannot be used.
        TrustError: The keys are not those of this state, or do not verify.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.trust_folder = settings.state / "trust"
        durable.make_folder(settings.state)
        if not (settings.state / DATABASE).exists():
            # Once: whoever wants a file server to read trust/ and blobs/ may open it.
            settings.state.chmod(0o700)
        self.database = Database(
            settings.database or f"sqlite:///{settings.state.resolve()}/{DATABASE}"
        )
        try:
            self.blobs = FolderBlobs(settings.state / "blobs")
            self._adopt()
            self._make_tokens()
            with self.database.read() as connection:
                roots = registry.held(connection, ASSIGNMENTS)
                artefacts = registry.held(connection, ARTEFACTS)
            key = PrivateKey.load(settings.assignments_key)
            documents = Assignments(self.trust_folder / ASSIGNMENTS, roots, key)
            self.controller = Controller(self.database, documents, self.clock)
            mirror(self.trust_folder / ARTEFACTS, artefacts, now=self.clock.now())
            self.controller.tick()
        except BaseException:
            self.database.close()
            raise
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        self._keys: dict[str, bytes] = {}
        self._ticking = asyncio.Lock()
        self._mirroring = asyncio.Lock()
        self._nudge = asyncio.Event()

    def close(self) -> None:
        """Let what was begun end, then close every file."""
        self._threads.shutdown()
        self.database.close()

    def now_ms(self) -> int:
        """Return the server's time as the tables hold it."""
        return to_ms(self.clock.now())

    @property
    def waiting(self) -> int:
        """How many changes wait for the writer."""
        return self.database.writer.depth

    async def run(self, work: Callable[[], T]) -> T:
        """Run what blocks in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run ``query`` on a connection that cannot write."""

        def reading() -> T:
            with self.database.read() as connection:
                return query(connection)

        return await self.run(reading)

    async def write(self, change: Callable[[Connection], T]) -> T:
        """Run ``change`` in the writer; return once it is durable."""
        return await asyncio.wrap_future(self.database.write(change))

    async def change(
        self, act: Callable[[Connection], tuple[T, Entry | None]], caller: Caller
    ) -> T:
        """Run ``act`` in the writer, its audit row in the same transaction.

        ``act`` returns None for a row only where it changed nothing.
        """
        return await self.write(self.audited(act, caller))

    def audited(
        self, act: Callable[[Connection], tuple[T, Entry | None]], caller: Caller
    ) -> Callable[[Connection], T]:
        """Return ``act`` as one change that adds its own audit row.

        Who asks for it must still be let in when its turn comes.
        """
        at_ms = self.now_ms()

        def both(connection: Connection) -> T:
            access.confirm(connection, caller)
            result, entry = act(connection)
            if entry is not None:
                audit.append(connection, entry, at_ms=at_ms)
            return result

        return both

    async def caller(self, authorization: str, scope: str) -> Caller:
        """Return who calls, if the token allows ``scope``."""
        return await self.read(lambda c: access.check(c, authorization, scope))

    async def public_key(self, device: str) -> bytes:
        """Return the key of an enrolled device; it belongs to the id and never changes."""
        if device not in self._keys:
            if len(self._keys) >= _MAX_KEYS:
                self._keys.clear()
            self._keys[device] = await self.read(lambda c: identity.public_key(c, device))
        return self._keys[device]

    async def mirror_artefacts(self) -> None:
        """Bring the folder of artefact metadata in line with the database."""
        async with self._mirroring:
            files = await self.read(lambda c: registry.held(c, ARTEFACTS))
            folder, now = self.trust_folder / ARTEFACTS, self.clock.now()
            await self.run(lambda: mirror(folder, files, now=now))

    async def tick(self) -> None:
        """Let the controller act now, and return when the documents say what it decided."""
        async with self._ticking:
            await self.run(self.controller.tick)

    def nudge(self) -> None:
        """Let the controller act soon: something may have changed."""
        self._nudge.set()

    async def control(self) -> None:
        """Call the controller every half second, or sooner when nudged, until cancelled.

        A tick takes at most a tenth of the time, however many check-ins nudge it; one
        that fails is tried again, ever more slowly.
        """
        pause_s = _TICK_S
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._nudge.wait(), _TICK_S)
            self._nudge.clear()
            began = time.monotonic()
            try:
                await self.tick()
                pause_s = 9 * (time.monotonic() - began)
            except Exception as error:  # noqa: BLE001  outermost loop; reported and tried again
                log.event("serve", "tick failed", error=repr(error))
                pause_s = min(max(2 * pause_s, _TICK_S), 30.0)
            await asyncio.sleep(pause_s)

    def _adopt(self) -> None:
        """Take what the keys folder says beyond what is known."""
        now = self.clock.now()
        for repository in trust.REPOSITORIES:
            offered = signing.read_public(self.settings.trust / repository)

            def take(
                connection: Connection,
                repository: str = repository,
                offered: Mapping[str, bytes] = offered,
            ) -> None:
                if registry.adopt(connection, repository, offered, now=now):
                    entry = Entry(
                        SERVER, "trust.adopt", repository, {"files": sorted(offered)}
                    )
                    audit.append(connection, entry, at_ms=to_ms(now))

            self.database.write(take).result()

    def _make_tokens(self) -> None:
        """Write one token of each scope at the first start, and where nobody may operate.

        The files come first: a token that is in the database is in a file too.
        """
        with self.database.read() as connection:
            secrets = {s: access.new_secret(s) for s in access.wanting(connection)}
        if not secrets:
            return
        folder = self.settings.state / "tokens"
        for scope, secret in secrets.items():
            path = folder / f"{scope}.token"
            durable.replace_file(path, secret.encode() + b"\n", mode=0o600)
        folder.chmod(0o700)

        def add(connection: Connection) -> None:
            for scope, secret in secrets.items():
                caller = access.add(connection, scope, secret, at_ms=self.now_ms())
                entry = Entry(SERVER, "token.create", str(caller), {"scope": scope})
                audit.append(connection, entry, at_ms=self.now_ms())

        self.database.write(add).result()
