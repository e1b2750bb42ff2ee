"""Connections on inherited listening sockets, which two workers may share.

The supervisor keeps the listening socket and gives it to the old worker and to the
new one, so that a switch drops nothing: each polls and accepts without blocking, and
the loser of a race polls again. On stop a worker accepts no more, answers what its
connections still ask with ``Connection: close``, closes those that have been silent
for a moment, and returns when the last one is done.

One thread a connection, up to a limit; at the limit the connection that has been
idle longest is closed, and new ones wait in the kernel until there is room.
"""

import os
import select
import socket
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic, sleep

from edgewright.core import log
from edgewright.runtime.connection import Answers, Connection, Times
from edgewright.runtime.requests import Limits


class Server:
    """Accepts, and gives every connection a thread."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        service: Answers,
        *,
        limits: Limits,
        connections: int = 32,
        times: Times | None = None,
    ) -> None:
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._service = service
        self._limits = limits
        self._most = connections
        self._times = times or Times()
        self._lock = threading.Lock()
        self._open: set[Connection] = set()
        # Neither a lock nor an Event: a signal handler sets it.
        self._stopping = False
        self._woken, self._wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for end in (self._woken, self._wakes):
            weakref.finalize(self, os.close, end)
        for listener in listeners:
            listener.settimeout(0)

    def stop(self) -> None:
        """Let ``serve`` end; may be called from a signal handler, and twice."""
        self._stopping = True
        self._wake()

    def serve(self) -> None:
        """Accept until ``stop``, then finish what is under way; sockets are closed."""
        waiting = select.poll()
        waiting.register(self._woken, select.POLLIN)
        for number in self._listeners:
            waiting.register(number, 0)
        while not self._stopping:
            events = select.POLLIN if self._make_room() else 0
            for number in self._listeners:
                waiting.modify(number, events)
            for number, _ in waiting.poll():
                if number == self._woken:
                    os.read(self._woken, 512)
                else:
                    self._accept(self._listeners[number])
        self._drain()

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # a full pipe wakes as well
            os.write(self._wakes, b"!")

    def _accept(self, listener: socket.socket) -> None:
        try:
            peer, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the other worker took it, or it was gone
        except OSError as error:
            log.event("worker", "cannot accept", error=str(error))
            sleep(0.05)  # out of descriptors, most likely: not a reason to spin
            return
        if peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(
            peer,
            self._service,
            limits=self._limits,
            times=self._times,
            stopping=lambda: self._stopping,
        )
        with self._lock:
            self._open.add(connection)
        threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: Connection) -> None:
        try:
            connection.converse()
        finally:
            with self._lock:
                self._open.discard(connection)
            self._wake()

    def _make_room(self) -> bool:
        """Return whether there is room for a connection; close an idle one if not."""
        with self._lock:
            if len(self._open) < self._most:
                return True
            idle = [one for one in self._open if one.idle_since is not None]
        if idle:
            min(idle, key=lambda one: one.idle_since or 0.0).hang_up()
        return False

    def _drain(self) -> None:
        for listener in self._listeners.values():
            listener.close()
        self._service.drain()
        end = monotonic() + self._times.drain_s
        while left := self._left():
            now = monotonic()
            if now > end:
                log.event("worker", "connections cut", count=len(left))
                return
            for one in left:
                since = one.idle_since
                if since is not None and since < now - self._times.silent_s:
                    one.hang_up()
            sleep(0.01)

    def _left(self) -> list[Connection]:
        with self._lock:
            return list(self._open)
