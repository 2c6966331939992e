"""The connections of an account that stay open for its next requests.

A read may be sent again, so a connection that the provider closes at the same moment costs only a
round trip. A copy may not be sent again: it would stay unknown whether the provider has got it. So
a copy takes a connection only a short time after its last response, and only if the provider keeps
idle connections for much longer.
"""

import asyncio
from collections import defaultdict

from campaign_gateway.accounts.transport.http1 import Connection, Origin

# For how long a connection may have been idle when a request is sent on it.
IDLE_SECONDS_OF_READS = 4.0
IDLE_SECONDS_OF_COPIES = 2.0

# A connection is given up so many seconds before the provider closes it, if it says when.
MARGIN = 1.0


class KeptConnections:
    def __init__(self) -> None:
        # The one that was used last is at the end. Each is closed when it is too old for a read.
        self._kept: dict[Origin, list[Connection]] = defaultdict(list)
        self._timers: dict[Connection, asyncio.TimerHandle] = {}
        # Where the last connection that became too old was still open.
        self._patient: set[Origin] = set()
        self._is_closed = False

    def take_for_read(self, origin: Origin) -> Connection | None:
        connection = self._last(origin)
        if connection is None or not _is_young(connection, IDLE_SECONDS_OF_READS):
            return None
        return self._take(origin, connection)

    def take_for_copy(self, origin: Origin) -> Connection | None:
        connection = self._last(origin)
        if connection is None or not self.may_carry_copy(origin, connection):
            return None
        return self._take(origin, connection)

    def may_carry_copy(self, origin: Origin, connection: Connection) -> bool:
        if connection.is_new:
            return True
        is_kept_for_long = connection.announced_seconds is not None or origin in self._patient
        is_young = _is_young(connection, IDLE_SECONDS_OF_COPIES)
        return is_kept_for_long and is_young and connection.is_quiet()

    def keep(self, origin: Origin, connection: Connection) -> None:
        if self._is_closed:
            connection.close()
            return
        self._kept[origin].append(connection)
        loop = asyncio.get_running_loop()
        self._timers[connection] = loop.call_later(
            IDLE_SECONDS_OF_READS, self._expire, origin, connection
        )

    async def close(self) -> None:
        self._is_closed = True
        for origin, kept in self._kept.items():
            while kept:
                self._take(origin, kept[-1]).close()
        # The event loop closes the sockets in its next turn.
        await asyncio.sleep(0)

    def _last(self, origin: Origin) -> Connection | None:
        """Return the connection that was used last, and close those that the provider has ended."""
        kept = self._kept[origin]
        while kept and not kept[-1].is_quiet():
            self._patient.discard(origin)
            self._take(origin, kept[-1]).close()
        return kept[-1] if kept else None

    def _expire(self, origin: Origin, connection: Connection) -> None:
        if connection.is_quiet():
            self._patient.add(origin)
        else:
            self._patient.discard(origin)
        self._take(origin, connection).close()

    def _take(self, origin: Origin, connection: Connection) -> Connection:
        self._kept[origin].remove(connection)
        self._timers.pop(connection).cancel()
        return connection


def _is_young(connection: Connection, idle_seconds: float) -> bool:
    announced = connection.announced_seconds
    limit = idle_seconds if announced is None else min(idle_seconds, announced - MARGIN)
    return connection.idle_seconds < limit
