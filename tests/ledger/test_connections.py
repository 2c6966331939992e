"""The connections to PostgreSQL that a ledger opens, and how it gives them up."""

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
    """The server's processes of so many connections that are used at the same time."""
    everybody_has_one = asyncio.Barrier(number)

    async def use() -> int:
        async with pool.connection() as connection:
            await everybody_has_one.wait()
            return connection.info.backend_pid

    return await asyncio.gather(*(use() for _ in range(number)))


def test_a_url_keeps_its_own_timeouts() -> None:
    found = conninfo_to_dict(with_timeouts("postgresql://host/db?connect_timeout=30&keepalives=0"))
    assert found["connect_timeout"] == "30"
    assert found["keepalives"] == "0"
    assert found["tcp_user_timeout"] == "5000"


async def test_connections_are_used_again(pool: Connections) -> None:
    first = await processes(pool, 3)
    assert sorted(await processes(pool, 3)) == sorted(first)


async def test_a_connection_that_ends_takes_the_unused_ones_with_it(
    pool: Connections, postgres_url: str
) -> None:
    """Or else each statement would meet one broken connection after the other."""
    first = await processes(pool, 5)
    with psycopg.connect(postgres_url, autocommit=True) as somebody:
        somebody.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) pid", [first])
    with pytest.raises(psycopg.OperationalError):
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")
    async with pool.connection() as connection:
        await connection.execute("SELECT 1")


async def test_a_connection_is_neither_kept_unused_nor_used_for_ever(
    pool: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = await processes(pool, 4)
    monkeypatch.setattr(connections, "MAX_IDLE_SECONDS", 0)
    (kept,) = await processes(pool, 1)
    assert not set(await processes(pool, 4)) & (set(many) - {kept})
    monkeypatch.setattr(connections, "MAX_AGE_SECONDS", 0)
    (old,) = await processes(pool, 1)
    assert await processes(pool, 1) != [old]


async def test_a_closed_pool_gives_no_connections(pool: Connections) -> None:
    async with pool.connection() as connection:
        await pool.close()
        await connection.execute("SELECT 1")
    assert connection.closed
    with pytest.raises(LedgerClosed):
        async with pool.connection():
            pass
