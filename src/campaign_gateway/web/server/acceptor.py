"""Accepts connections, within the limits.

asyncio's own way logs a traceback for each of thousands of failures a second when the file
descriptors have run out.
"""

import asyncio
import socket
from collections.abc import Callable

from campaign_gateway.web.server.connection import Connection
from campaign_gateway.web.server.connections import Connections

# How many connections are accepted before the event loop does other work. A connection that is
# dropped for a new one gives its descriptor back only then.
ACCEPTED_AT_ONCE = 16

# How many idle connections are dropped when the descriptors have run out, and for how many seconds
# the gateway then accepts none.
DROPPED_AT_ONCE = 16
PAUSE = 0.5


class Acceptor:
    """Takes the place of an `asyncio.Server` in uvicorn's server."""

    def __init__(
        self,
        listener: socket.socket,
        connections: Connections,
        make_connection: Callable[[], Connection],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._connections = connections
        self._make_connection = make_connection
        self._starting: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._waiting: tuple[socket.socket, str] | None = None
        self._is_closed = False
        listener.settimeout(0)
        self._resume()

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._listener)
        self._listener.close()
        if self._pause is not None:
            self._pause.cancel()
        if self._waiting is not None:
            self._waiting[0].close()

    async def wait_closed(self) -> None:
        if self._starting:
            await asyncio.wait(self._starting)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Mostly EMFILE: the descriptors of the process have run out.
                for _ in range(DROPPED_AT_ONCE):
                    self._connections.drop_one()
                self._rest(error.strerror or "accepting failed")
                return
            accepted.settimeout(0)
            if not self._start(accepted, address[0]):
                return

    def _start(self, accepted: socket.socket, address: str) -> bool:
        """Serve a connection. If there is no room for it, it waits, and all further ones too."""
        if not self._connections.has_room():
            self._waiting = accepted, address
            self._rest("all open connections are being served")
            return False
        connection = self._make_connection()
        if not self._connections.add(connection, address):
            accepted.close()
            return True
        task = self._loop.create_task(self._serve(connection, accepted))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return True

    async def _serve(self, connection: Connection, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, accepted)
        except OSError:
            self._connections.remove(connection)
            accepted.close()
            return
        if self._is_closed:
            connection.shutdown()

    def _rest(self, reason: str) -> None:
        self._connections.report_shortage(reason)
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None or self._start(*waiting):
            self._loop.add_reader(self._listener, self._accept)
