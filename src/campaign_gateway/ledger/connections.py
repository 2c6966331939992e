"""A gateway's connections to PostgreSQL, opened when a statement needs one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from campaign_gateway.ledger.engine import LedgerClosed

Connection = psycopg.AsyncConnection[dict[str, Any]]

LIMIT = 16

# After these times a connection is closed instead of being used again.
MAX_IDLE_SECONDS = 10 * 60
MAX_AGE_SECONDS = 60 * 60

# Defaults for what the URL does not set. Without them, the gateway would wait up to 130 seconds for
# a machine that is down, and use a lost connection for up to 15 minutes. tcp_user_timeout is in
# milliseconds.
TIMEOUTS = {
    "connect_timeout": 2,
    "tcp_user_timeout": 5000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
}


class Connections:
    """Keeps up to `LIMIT` connections. Each serves one statement at a time.

    A statement opens a connection itself, so it succeeds as soon as the database is back.
    psycopg_pool reconnects in the background and doubles its pause after each failure, so
    statements would wait up to a minute after an outage of a minute.
    """

    def __init__(self, url: str) -> None:
        self._conninfo = with_timeouts(url)
        self._slots = asyncio.Semaphore(LIMIT)
        # One at a time. Attempts to connect would queue up at a server that hangs, and slow it down
        # when it is back.
        self._connecting = asyncio.Lock()
        # With the time of the last use. The most recently used connection is last.
        self._idle: list[tuple[Connection, float]] = []
        self._born_at: dict[Connection, float] = {}
        self._is_closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection. Raises `LedgerClosed`, and psycopg's errors if it cannot connect."""
        async with self._slots:
            connection = await self._take()
            try:
                yield connection
            finally:
                await self._put_back(connection)

    async def close(self) -> None:
        """Close the idle connections. Each of the others is closed after its statement."""
        self._is_closed = True
        await self._close_idle()

    async def _take(self) -> Connection:
        if self._is_closed:
            raise LedgerClosed("the ledger is closed")
        if self._idle:
            return self._idle.pop()[0]
        async with self._connecting:
            if self._idle:
                return self._idle.pop()[0]
            connection = await psycopg.AsyncConnection.connect(
                self._conninfo, autocommit=True, row_factory=dict_row
            )
        self._born_at[connection] = monotonic()
        return connection

    async def _put_back(self, connection: Connection) -> None:
        now = monotonic()
        if connection.closed:
            # The cause has probably ended the idle connections too.
            await self._close_idle()
        is_usable = connection.info.transaction_status is TransactionStatus.IDLE
        if self._is_closed or not is_usable or now - self._born_at[connection] > MAX_AGE_SECONDS:
            await self._discard(connection)
        else:
            self._idle.append((connection, now))
        while self._idle and now - self._idle[0][1] > MAX_IDLE_SECONDS:
            await self._discard(self._idle.pop(0)[0])

    async def _close_idle(self) -> None:
        while self._idle:
            await self._discard(self._idle.pop()[0])

    async def _discard(self, connection: Connection) -> None:
        del self._born_at[connection]
        await connection.close()


def with_timeouts(url: str) -> str:
    names = TIMEOUTS.keys() - conninfo_to_dict(url).keys()
    return make_conninfo(url, **{name: TIMEOUTS[name] for name in names})
