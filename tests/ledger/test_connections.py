"""Which connections to PostgreSQL a ledger opens, reuses and closes."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from campaign_gateway.ledger import connections
from campaign_gateway.ledger.connections import Connections, with_timeouts
from campaign_gateway.ledger.engine import LedgerClosed


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[Connections]:
    pool = Connections(postgres_url)
    yield pool
    await pool.close()


async def processes(pool: Connections, number: int) -> list[int]:
    """Return the ids of the server's processes for connections that are used at the same time."""
    all_connected = asyncio.Barrier(number)

    async def use() -> int:
        async with pool.connection() as connection:
            await all_connected.wait()
            return connection.info.backend_pid

    return await asyncio.gather(*(use() for _ in range(number)))


def test_timeouts_of_the_url_are_kept() -> None:
    settings = conninfo_to_dict(
        with_timeouts("postgresql://host/db?connect_timeout=30&keepalives=0")
    )
    assert settings["connect_timeout"] == "30"
    assert settings["keepalives"] == "0"
    assert settings["tcp_user_timeout"] == "5000"


async def test_idle_connections_are_reused(pool: Connections) -> None:
    first = await processes(pool, 3)
    assert sorted(await processes(pool, 3)) == sorted(first)


async def test_lost_connection_closes_the_idle_ones(pool: Connections, postgres_url: str) -> None:
    """Otherwise a statement would fail once for each of them."""
    first = await processes(pool, 5)
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) pid", [first])
    with pytest.raises(psycopg.OperationalError):
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")
    async with pool.connection() as connection:
        await connection.execute("SELECT 1")


async def test_idle_and_old_connections_are_closed(
    pool: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = await processes(pool, 4)
    monkeypatch.setattr(connections, "MAX_IDLE_SECONDS", 0)
    (kept,) = await processes(pool, 1)
    assert not set(await processes(pool, 4)) & (set(many) - {kept})
    monkeypatch.setattr(connections, "MAX_AGE_SECONDS", 0)
    (old,) = await processes(pool, 1)
    assert await processes(pool, 1) != [old]


async def test_closed_pool_lends_no_connection(pool: Connections) -> None:
    async with pool.connection() as connection:
        await pool.close()
        await connection.execute("SELECT 1")
    assert connection.closed
    with pytest.raises(LedgerClosed):
        async with pool.connection():
            pass
