"""Wall clocks that differ between gateways, and clocks that jump."""

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
    SOON,
    Gateway,
    History,
    always,
    ask,
    configuration,
    insist,
    intents,
    launch,
    listening,
    recorded,
)
from support.judge import hold

ACCOUNTS = ("one", "two")
OFTEN = {**SOON, "retention_interval": 0.3}
HOUR = 3600

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
) -> AsyncIterator[list[Gateway]]:
    """Gateways whose clocks are off by so many seconds, and by `jump` more after SIGUSR1."""
    config = configuration(
        folder,
        ledger,
        dict.fromkeys(ACCOUNTS, provider.url),
        more=f"keep_days = {keep_days}",
    )
    tricks: list[Mapping[str, object]] = [
        {"timing": OFTEN, "clock": shift, "jump": jump} for shift in shifts
    ]
    gateways = [launch(config, each) for each in tricks]
    try:
        yield [await listening(each) for each in gateways]
    finally:
        for each in gateways:
            each.kill()


async def leap(gateway: Gateway) -> None:
    gateway.signal(signal.SIGUSR1)
    async with asyncio.timeout(10):
        while "the clock says" not in gateway.said():
            await asyncio.sleep(0.01)
    # Long enough for what a gateway does every so often.
    await asyncio.sleep(1)


async def ask_all(http: httpx.AsyncClient, gateway: Gateway, histories: list[History]) -> None:
    for history in histories:
        told = await ask(http, gateway.url, history.intent)
        assert told is not None, gateway.said()
        history.told.append(told)


async def test_gateways_whose_clocks_differ_by_twenty_minutes_make_no_second_copy(
    tmp_path: Path,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    wanted = intents(MIXED * 8, ACCOUNTS)
    # Longer than the clocks are apart: the one ahead sees the other's records as old at once.
    keep_days = timedelta(minutes=28) / timedelta(days=1)
    async with gateways_with_clocks(
        tmp_path, postgres_url, provider, [600, -600], keep_days=keep_days
    ) as (ahead, behind):
        histories = [History(each) for each in wanted for _ in range(2)]
        places = [ahead.url, behind.url] * len(wanted)
        await asyncio.gather(
            *(
                insist(http, always(url), provider, each, seconds=4)
                for url, each in zip(places, histories, strict=True)
            )
        )
        records = await recorded(postgres_url)
        began_ahead = {
            name for name, each in records.items() if each.requested_at > datetime.now(UTC)
        }
    hold(figures, provider, histories, records)
    figures.faults["clocks 20 minutes apart"] += 1
    assert len(records) == len(wanted), "nothing has expired early"
    for each in wanted:
        if each.fault in {"none", "slow", "refusal-409"}:
            assert records[each.name].status == each.expected
        elif each.name not in began_ahead:
            assert records[each.name].status == each.expected, "it is found as ever"


@pytest.mark.parametrize(
    ("ledger_url", "jump"), [("sqlite", HOUR), ("postgres", -HOUR)], indirect=["ledger_url"]
)
async def test_a_clock_that_jumps_by_an_hour_expires_nothing_early_and_sends_nothing_again(
    tmp_path: Path,
    ledger_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
    jump: float,
) -> None:
    before = [History(each) for each in intents(MIXED[:3] * 4, ACCOUNTS)]
    # A clock that is ahead of the provider's makes what was copied look older than the request.
    found = ["fin-after-copy", "body-without-id"] if jump < 0 else []
    after = [History(each) for each in intents([*MIXED[:3], "rst-before-copy", *found], ACCOUNTS)]
    keep_days = timedelta(minutes=90) / timedelta(days=1)
    async with gateways_with_clocks(
        tmp_path, ledger_url, provider, [0], jump=jump, keep_days=keep_days
    ) as (gateway,):
        await ask_all(http, gateway, before)
        await leap(gateway)
        await ask_all(http, gateway, before)
        await asyncio.gather(
            *(insist(http, always(gateway.url), provider, each, seconds=15) for each in after)
        )
        records = await recorded(ledger_url)
    hold(figures, provider, [*before, *after], records)
    figures.faults["clock jumps an hour"] += 1
    for each in before:
        first, second = each.told
        assert second.replayed
        assert (second.status, second.campaign) == (first.status, first.campaign)
    assert len(records) == len(before) + len(after)


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
async def test_a_key_that_a_jump_has_expired_is_refused_and_not_sent_again(
    tmp_path: Path,
    ledger_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    settled = [History(each) for each in intents(MIXED[:3] * 4, ACCOUNTS)]
    open_ones = [History(each) for each in intents(["rst-before-copy"] * 4, ACCOUNTS)]
    keep_days = timedelta(minutes=30) / timedelta(days=1)
    async with gateways_with_clocks(
        tmp_path, ledger_url, provider, [0], jump=HOUR, keep_days=keep_days
    ) as (gateway,):
        await ask_all(http, gateway, [*settled, *open_ones])
        await leap(gateway)
        await ask_all(http, gateway, [*settled, *open_ones])
        records = await recorded(ledger_url)
    figures.faults["clock jumps an hour"] += 1
    for each in settled:
        assert each.told[1].code == "IDEMPOTENCY_KEY_EXPIRED"
        assert each.told[1].retry == "NO"
        assert len(provider.intents[each.intent.name].posts) == 1
    assert records.keys() == {each.intent.name for each in open_ones}
    assert {each.status for each in records.values()} == {DuplicationStatus.UNKNOWN}
    hold(figures, provider, open_ones, records)
