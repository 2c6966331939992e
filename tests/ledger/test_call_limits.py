"""What gateways at one PostgreSQL share of the limits of their accounts."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import psycopg

from campaign_gateway.ledger import Ledger
from campaign_gateway.ledger.call_limits import CallLimits

Open = Callable[..., Awaitable[Ledger]]


def limits_of(ledger: Ledger) -> CallLimits:
    assert ledger.call_limits is not None
    return ledger.call_limits


async def test_state_is_replaced_only_if_nobody_has_replaced_it_since(
    postgres_url: str, open_at: Open
) -> None:
    first, second = [limits_of(await open_at(postgres_url)) for _ in range(2)]
    assert first.gateway != second.gateway
    loaded = await first.load("a")
    assert loaded is not None
    assert loaded[:2] == ("{}", 0)
    assert abs(loaded[2] - time.time()) < 60
    assert await first.store("a", "one", 0) is True
    assert await second.store("a", "two", 0) is False
    assert await second.store("a", "two", 1) is True
    assert await first.store("a", "three", 1) is False
    assert (await first.load("a") or ())[:2] == ("two", 2)
    assert (await first.load("b") or ())[:2] == ("{}", 0)


async def test_of_many_gateways_that_replace_a_state_at_once_one_succeeds(
    postgres_url: str, open_at: Open
) -> None:
    limits = [limits_of(await open_at(postgres_url)) for _ in range(3)]
    for version in range(5):
        stored = await asyncio.gather(*(each.store("a", "state", version) for each in limits * 3))
        assert sum(bool(is_stored) for is_stored in stored) == 1


async def test_longest_pause_of_an_account_counts_and_keeps_the_state(
    postgres_url: str, open_at: Open
) -> None:
    first, second = [limits_of(await open_at(postgres_url)) for _ in range(2)]
    assert await first.pauses() == {}
    await first.pause("new", 40)
    assert await second.store("new", "state", 0) is True
    for seconds in (20, 50, 30):
        await first.pause("a", seconds)
    await second.pause("short", 0)
    # It can only come from a clock that was set back.
    await second.pause("wrong", 5000)
    paused = await second.pauses() or {}
    assert paused.keys() == {"new", "a"}
    assert 20 < paused["new"] <= 40
    assert 30 < paused["a"] <= 50
    assert (await first.load("new") or ())[:2] == ("state", 1)


async def test_unavailable_database_is_no_error(postgres_url: str, open_at: Open) -> None:
    limits = limits_of(await open_at(postgres_url, statement_timeout=0.2))
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP TABLE call_limit")
    assert await limits.load("a") is None
    assert await limits.store("a", "state", 0) is None
    assert await limits.pauses() is None
    await limits.pause("a", 1)


async def test_sqlite_shares_nothing_because_it_has_one_gateway(
    sqlite_url: str, open_at: Open
) -> None:
    assert (await open_at(sqlite_url)).call_limits is None
