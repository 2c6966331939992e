"""A long outage of PostgreSQL, after which the gateway must be ready soon."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import httpx
import pytest

from support.faulty_provider import Provider
from support.figures import Figures
from support.gateways import (
    Gateway,
    History,
    ask,
    configuration,
    intents,
    recorded,
    retry_until_final,
    serving,
)
from support.postgres import PostgresServer
from support.promises import check_promises

# How long after the database the gateway may take to be ready, in seconds. It takes less than two
# on a machine that does nothing else. With growing pauses between its tries, it would be a minute.
BACK_SECONDS = 30.0

OUTAGES: dict[str, tuple[Callable[[PostgresServer], None], Callable[[PostgresServer], None]]] = {
    "killed": (PostgresServer.kill, PostgresServer.start),
    "paused": (PostgresServer.pause, PostgresServer.resume),
}


async def probe(http: httpx.AsyncClient, gateway: Gateway) -> int | None:
    """Return the status of /readyz, or None after a second, as an orchestrator sees it."""
    try:
        return (await http.get(f"{gateway.url}/readyz", timeout=1)).status_code
    except httpx.TimeoutException:
        return None


async def _outlast(
    kind: str,
    seconds: float,
    folder: Path,
    own_postgres: PostgresServer,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    begin, end = OUTAGES[kind]
    url, is_over = own_postgres.create_database(), asyncio.Event()
    histories: list[History] = []
    config = configuration(folder, url, {"main": provider.url}, timeout=20)

    async with serving(config) as gateway:

        async def press() -> None:
            """Act as a client that does not know of the outage."""
            while not is_over.is_set():
                (wanted,) = intents(["none"])
                histories.append(History(wanted))
                await retry_until_final(
                    http, lambda: gateway.url, provider, histories[-1], seconds=120
                )

        async def watch() -> None:
            while not is_over.is_set():
                await probe(http, gateway)
                await asyncio.sleep(1)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch())
            for _ in range(20):
                tasks.create_task(press())
            await asyncio.sleep(1)
            await asyncio.to_thread(begin, own_postgres)
            try:
                await asyncio.sleep(seconds)
            finally:
                await asyncio.to_thread(end, own_postgres)
            back_at = monotonic()
            while await probe(http, gateway) != 200:
                await asyncio.sleep(0.05)
            ready = monotonic() - back_at
            (wanted,) = intents(["none"])
            response = await ask(http, gateway.url, wanted)
            assert response is not None
            histories.append(History(wanted, [response]))
            copied = monotonic() - back_at
            is_over.set()
        records = await recorded(url)
    check_promises(figures, provider, histories, records, kind=f"database {kind} for long")
    figures.faults[f"database {kind} for {seconds:.0f} s"] += 1
    print(f"{kind} for {seconds} s: ready after {ready:.2f} s, a copy after {copied:.2f} s")
    assert ready < BACK_SECONDS
    assert copied < BACK_SECONDS
    assert response.status == "CREATED"


@pytest.mark.parametrize("kind", OUTAGES)
async def test_gateway_is_ready_soon_after_a_database_outage(
    kind: str,
    tmp_path: Path,
    own_postgres: PostgresServer,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    await _outlast(kind, 9, tmp_path, own_postgres, provider, http, figures)


@pytest.mark.long
@pytest.mark.parametrize("seconds", [50, 100])
@pytest.mark.parametrize("kind", OUTAGES)
async def test_gateway_is_ready_soon_after_a_long_database_outage(
    kind: str,
    seconds: float,
    tmp_path: Path,
    own_postgres: PostgresServer,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    await _outlast(kind, seconds, tmp_path, own_postgres, provider, http, figures)
