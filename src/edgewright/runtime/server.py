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

_FULL_S = 0.01


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
        with suppress(BlockingIOError):  # a full pipe wakes as well
            os.write(self._wakes, b"!")

    def serve(self) -> None:
        """Accept until ``stop``, then finish what is under way; sockets are closed."""
        ready = select.poll()
        ready.register(self._woken, select.POLLIN)
        for number in self._listeners:
            ready.register(number, select.POLLIN)
        while not self._stopping:
            for number, _ in ready.poll():
                if number == self._woken:
                    os.read(self._woken, 512)
                elif self._has_room():
                    self._accept(self._listeners[number])
        self._drain()

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

    def _has_room(self) -> bool:
        """Return whether a peer may be accepted; if not, close the longest idle and wait."""
        open_now = self._left()
        if len(open_now) < self._most:
            return True
        idle = [one for one in open_now if one.idle_since is not None]
        if idle:
            min(idle, key=lambda one: one.idle_since or 0.0).hang_up()
        # The peer waits in the kernel; it is asked for again in a moment.
        sleep(_FULL_S)
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
