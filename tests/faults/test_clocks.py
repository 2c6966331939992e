"""Gateways with different wall clocks, and clocks that jump."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from campaign_gateway.model import DuplicationStatus
from support.faulty_provider import Provider
from support.figures import Figures
from support.gateways import (
    SHORT_INTERVALS,
    Gateway,
    History,
    always,
    ask,
    configuration,
    intents,
    launch,
    listening,
    recorded,
    retry_until_final,
)
from support.promises import check_promises

ACCOUNTS = ("one", "two")
FREQUENT_RETENTION = {**SHORT_INTERVALS, "retention_interval": 0.3}
HOUR, DAY = 3600, 86400

MIXED = ["none", "slow", "refusal-409", "fin-after-copy", "body-without-id", "rst-before-copy"]


@asynccontextmanager
async def gateways_with_clocks(
    folder: Path,
    ledger: str,
    provider: Provider,
    shifts: list[float],
    *,
    jump: float = 0,
    keep_days: float = 30,
    retention_delay: float = 0,
) -> AsyncIterator[list[Gateway]]:
    """Gateways with clocks shifted by that many seconds, and by `jump` more after SIGUSR1."""
    config = configuration(
        folder,
        ledger,
        dict.fromkeys(ACCOUNTS, provider.url),
        timeout=5,
        more=f"keep_days = {keep_days}",
    )
    timing = {**FREQUENT_RETENTION, "retention_delay": retention_delay}
    changes: list[Mapping[str, object]] = [
        {"timing": timing, "clock": shift, "jump": jump} for shift in shifts
    ]
    gateways = [launch(config, change) for change in changes]
    try:
        yield [await listening(gateway) for gateway in gateways]
    finally:
        for gateway in gateways:
            gateway.kill()


async def jump_clock(gateway: Gateway) -> None:
    gateway.signal(signal.SIGUSR1)
    async with asyncio.timeout(40):
        while "the clock says" not in gateway.output():
            await asyncio.sleep(0.01)
    # Long enough for the background tasks of the gateway.
    await asyncio.sleep(1)


async def ask_all(http: httpx.AsyncClient, gateway: Gateway, histories: list[History]) -> None:
    for history in histories:
        response = await ask(http, gateway.url, history.intent)
        assert response is not None, gateway.output()
        history.responses.append(response)


async def test_gateways_with_clocks_twenty_minutes_apart_make_no_second_copy(
    tmp_path: Path,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    wanted = intents(MIXED * 8, ACCOUNTS)
    # Longer than the difference of the clocks: to one gateway, new records of the other look old.
    keep_days = timedelta(minutes=28) / timedelta(days=1)
    async with gateways_with_clocks(
        tmp_path, postgres_url, provider, [600, -600], keep_days=keep_days
    ) as (ahead, behind):
        histories = [History(intent) for intent in wanted for _ in range(2)]
        places = [ahead.url, behind.url] * len(wanted)
        await asyncio.gather(
            *(
                retry_until_final(http, always(url), provider, history, seconds=15)
                for url, history in zip(places, histories, strict=True)
            )
        )
        records = await recorded(postgres_url)
        began_ahead = {
            name for name, record in records.items() if record.requested_at > datetime.now(UTC)
        }
    check_promises(figures, provider, histories, records)
    figures.faults["clocks 20 minutes apart"] += 1
    assert len(records) == len(wanted), "nothing has expired early"
    for intent in wanted:
        if intent.fault in {"none", "slow", "refusal-409"}:
            assert records[intent.name].status == intent.expected
        elif intent.name not in began_ahead:
            assert records[intent.name].status == intent.expected, "it is found as without a jump"


@pytest.mark.parametrize(
    ("ledger_url", "jump"), [("sqlite", HOUR), ("postgres", -HOUR)], indirect=["ledger_url"]
)
async def test_clock_jump_of_an_hour_expires_nothing_early_and_sends_nothing_twice(
    tmp_path: Path,
    ledger_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
    jump: float,
) -> None:
    before = [History(intent) for intent in intents(MIXED[:3] * 4, ACCOUNTS)]
    # A clock ahead of the provider's makes a copy look older than its request.
    findable = ["fin-after-copy", "body-without-id"] if jump < 0 else []
    after = [
        History(intent) for intent in intents([*MIXED[:3], "rst-before-copy", *findable], ACCOUNTS)
    ]
    keep_days = timedelta(minutes=90) / timedelta(days=1)
    async with gateways_with_clocks(
        tmp_path, ledger_url, provider, [0], jump=jump, keep_days=keep_days
    ) as (gateway,):
        await ask_all(http, gateway, before)
        await jump_clock(gateway)
        await ask_all(http, gateway, before)
        await asyncio.gather(
            *(
                retry_until_final(http, always(gateway.url), provider, history, seconds=15)
                for history in after
            )
        )
        records = await recorded(ledger_url)
    check_promises(figures, provider, [*before, *after], records)
    figures.faults["clock jumps an hour"] += 1
    for history in before:
        first, second = history.responses
        assert second.replayed
        assert (second.status, second.campaign) == (first.status, first.campaign)
    assert len(records) == len(before) + len(after)


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_key_expired_by_a_clock_jump_is_refused_and_not_sent_again(
    tmp_path: Path,
    ledger_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    settled = [History(intent) for intent in intents(MIXED[:3] * 4, ACCOUNTS)]
    open_ones = [History(intent) for intent in intents(["rst-before-copy"] * 4, ACCOUNTS)]
    keep_days = timedelta(minutes=30) / timedelta(days=1)
    async with gateways_with_clocks(
        tmp_path, ledger_url, provider, [0], jump=HOUR, keep_days=keep_days
    ) as (gateway,):
        await ask_all(http, gateway, [*settled, *open_ones])
        await jump_clock(gateway)
        await ask_all(http, gateway, [*settled, *open_ones])
        records = await recorded(ledger_url)
    figures.faults["clock jumps an hour"] += 1
    for history in settled:
        assert history.responses[1].code == "IDEMPOTENCY_KEY_EXPIRED"
        assert history.responses[1].retry == "NO"
        assert len(provider.intents[history.intent.name].posts) == 1
    assert records.keys() == {history.intent.name for history in open_ones}
    assert {record.status for record in records.values()} == {DuplicationStatus.UNKNOWN}
    check_promises(figures, provider, open_ones, records)


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("shift", [0, 401 * DAY])
async def test_clock_that_is_a_year_ahead_for_less_than_an_hour_deletes_no_key(
    tmp_path: Path,
    ledger_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
    shift: float,
) -> None:
    settled = [History(intent) for intent in intents(MIXED[:3] * 2, ACCOUNTS)]
    async with gateways_with_clocks(tmp_path, ledger_url, provider, [0]) as (gateway,):
        await ask_all(http, gateway, settled)
    # The clock is ahead from the start, or it jumps.
    jump = 401 * DAY - shift
    async with gateways_with_clocks(
        tmp_path, ledger_url, provider, [shift], jump=jump, retention_delay=HOUR
    ) as (gateway,):
        if jump:
            # A gateway that responds has begun its background tasks, which must see the jump.
            assert (await http.get(f"{gateway.url}/readyz")).status_code == 200
            await jump_clock(gateway)
            async with asyncio.timeout(20):
                while "the clock of the ledger has jumped" not in gateway.output():
                    await asyncio.sleep(0.01)
        await ask_all(http, gateway, settled)
        await asyncio.sleep(1)
        records = await recorded(ledger_url)
    figures.faults["clock jumps a year"] += 1
    check_promises(figures, provider, settled, records)
    assert [history.responses[1].replayed for history in settled] == [True] * len(settled)
