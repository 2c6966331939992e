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

# How long a connection may stay unused, and how old it may get, in seconds.
UNUSED_SECONDS = 10 * 60
OLD_SECONDS = 60 * 60

# What a URL does not set. Without them a connection to a machine that has gone is waited for up to
# 130 seconds, and a lost one is used for up to 15 minutes (tcp_user_timeout is in milliseconds).
TIMEOUTS = {
    "connect_timeout": 2,
    "tcp_user_timeout": 5000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
}


class Connections:
    """Up to `LIMIT` connections, each used by one statement at a time.

    The statements reconnect themselves, so they succeed as soon as the database is back. A pool
    that reconnects in the background (psycopg_pool) doubles its pause after each failure, and
    statements wait for it: up to a minute after an outage of a minute.
    """

    def __init__(self, url: str) -> None:
        self._conninfo = with_timeouts(url)
        self._slots = asyncio.Semaphore(LIMIT)
        # One at a time: attempts at a server that hangs queue up there, and delay its return.
        self._connecting = asyncio.Lock()
        # The most recently used one is last.
        self._idle: list[tuple[Connection, float]] = []
        self._born_at: dict[Connection, float] = {}
        self._is_closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection. Raises `LedgerClosed`, and psycopg's errors if there is none."""
        async with self._slots:
            connection = await self._take()
            try:
                yield connection
            finally:
                await self._put_back(connection)

    async def close(self) -> None:
        """Close each connection, or have it closed by the statement that uses it."""
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
            # What has ended one connection has probably ended the others too.
            await self._close_idle()
        is_usable = connection.info.transaction_status is TransactionStatus.IDLE
        if self._is_closed or not is_usable or now - self._born_at[connection] > OLD_SECONDS:
            await self._discard(connection)
        else:
            self._idle.append((connection, now))
        while self._idle and now - self._idle[0][1] > UNUSED_SECONDS:
            await self._discard(self._idle.pop(0)[0])

    async def _close_idle(self) -> None:
        while self._idle:
            await self._discard(self._idle.pop()[0])

    async def _discard(self, connection: Connection) -> None:
        del self._born_at[connection]
        await connection.close()


def with_timeouts(url: str) -> str:
    given = conninfo_to_dict(url)
    return make_conninfo(url, **{key: TIMEOUTS[key] for key in TIMEOUTS.keys() - given.keys()})
