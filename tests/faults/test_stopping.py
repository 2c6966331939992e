"""SIGTERM in the middle of work: what is under way is finished, and nothing new is begun."""

import asyncio
import random
import signal
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import httpx
import pytest

from campaign_gateway.model import DuplicationStatus, Evidence
from support.faulty_provider import Provider
from support.figures import Figures
from support.gateways import (
    Gateway,
    History,
    all_insist,
    ask,
    calling,
    configuration,
    insist,
    intents,
    launch,
    listening,
    recorded,
    serving,
)
from support.judge import hold
from support.wire import wire_to

ACCOUNTS = ("one", "two")
UNDER_WAY = 40


async def until(is_so: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.01)


async def status_of(gateway: Gateway, path: str) -> int:
    """Over a new connection, as whoever watches a gateway makes one."""
    async with calling() as new:
        return (await new.get(f"{gateway.url}{path}")).status_code


async def test_a_gateway_told_to_stop_says_so_refuses_what_is_new_and_finishes_the_rest(
    tmp_path: Path, ledger_url: str, provider: Provider, http: httpx.AsyncClient, figures: Figures
) -> None:
    held = intents(["held-after-copy"] * UNDER_WAY, ACCOUNTS)
    late = intents(["none"] * 10, ACCOUNTS)
    config = configuration(tmp_path, ledger_url, dict.fromkeys(ACCOUNTS, provider.url), timeout=20)
    async with serving(config) as gateway:
        assert await status_of(gateway, "/readyz") == 200
        asking = [asyncio.create_task(ask(http, gateway.url, each)) for each in held]
        await until(lambda: all(provider.has_copy(each.name) for each in held))
        gateway.signal(signal.SIGTERM)
        told_at = monotonic()
        await until(lambda: monotonic() - told_at > 0.5)
        refused = await asyncio.gather(*(ask(http, gateway.url, each) for each in late))
        again = [asyncio.create_task(ask(http, gateway.url, each)) for each in held[:5]]
        while monotonic() - told_at < 2:
            assert await status_of(gateway, "/readyz") == 503
            assert await status_of(gateway, "/healthz") == 200
            await asyncio.sleep(0.1)
        assert gateway.is_running, gateway.said()
        provider.released.set()
        released_at = monotonic()
        finished = await asyncio.gather(*asking)
        assert await gateway.ended() == 0, gateway.said()
        figures.measured[f"drain of {UNDER_WAY} calls, from the provider's last answer"] = (
            f"{monotonic() - released_at:.2f} s"
        )
        repeated = await asyncio.gather(*again)
    records = await recorded(ledger_url)
    histories = [
        History(intent, [each])
        for intent, each in zip(
            [*held, *late, *held[:5]], [*finished, *refused, *repeated], strict=True
        )
        if each is not None
    ]
    assert len(histories) == UNDER_WAY + 10 + 5, "everybody has been answered"
    hold(figures, provider, histories, records, kind="SIGTERM with calls under way")
    figures.faults["SIGTERM with calls under way"] += 1
    assert {each.told[0].status for each in histories[:UNDER_WAY]} == {"CREATED"}
    assert {each.evidence for each in records.values()} == {Evidence.RESPONSE}
    for told in (each.told[0] for each in histories[UNDER_WAY : UNDER_WAY + 10]):
        assert (told.status, told.code, told.duplication) == ("NOT_SENT", "OVERLOADED", None)
        assert told.retry == "SAME_KEY"
    assert not any(provider.intents[each.name].posts for each in late)


async def test_gateways_stopped_again_and_again_under_load_leave_nothing_unknown(
    tmp_path: Path, ledger_url: str, provider: Provider, http: httpx.AsyncClient, figures: Figures
) -> None:
    choice = random.Random(11)
    config = configuration(tmp_path, ledger_url, dict.fromkeys(ACCOUNTS, provider.url))
    wanted = intents(choice.choices(["none", "slow", "refusal-409"], k=200), ACCOUNTS)
    gateway = await listening(launch(config))
    drains: list[float] = []

    def where() -> str:
        return gateway.url if gateway.is_running else ""

    asking = asyncio.create_task(all_insist(http, where, provider, wanted, clients=20))
    try:
        while len(drains) < 2:
            await asyncio.sleep(choice.uniform(0.2, 0.6))
            gateway.signal(signal.SIGTERM)
            told_at = monotonic()
            assert await gateway.ended() == 0, gateway.said()
            drains.append(monotonic() - told_at)
            gateway = await listening(launch(config))
        histories = await asking
    finally:
        asking.cancel()
        gateway.kill()
    records = await recorded(ledger_url)
    hold(figures, provider, histories, records, kind="SIGTERM under load")
    figures.faults["SIGTERM under load"] += len(drains)
    figures.measured["SIGTERM to exit under load"] = f"{max(drains):.2f} s"
    for each in wanted:
        assert records[each.name].status == each.expected
        assert records[each.name].evidence is Evidence.RESPONSE


async def test_a_second_sigterm_stops_at_once_and_what_it_cuts_off_is_found_by_reading(
    tmp_path: Path, ledger_url: str, provider: Provider, http: httpx.AsyncClient, figures: Figures
) -> None:
    (wanted,) = intents(["held-after-copy"], ACCOUNTS)
    config = configuration(tmp_path, ledger_url, dict.fromkeys(ACCOUNTS, provider.url), timeout=20)
    async with serving(config) as gateway:
        asking = asyncio.create_task(ask(http, gateway.url, wanted))
        await until(lambda: provider.has_copy(wanted.name))
        gateway.signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        gateway.signal(signal.SIGTERM)
        try:
            await gateway.ended(5)
            cut_off = await asking
        finally:
            asking.cancel()
            provider.released.set()
    async with serving(config) as gateway:
        history = await insist(http, lambda: gateway.url, provider, History(wanted))
        records = await recorded(ledger_url)
    history.told[:0] = [cut_off] if cut_off else []
    hold(figures, provider, [history], records, kind="SIGTERM twice")
    figures.faults["SIGTERM twice"] += 1
    assert records[wanted.name].status is DuplicationStatus.CREATED
    assert records[wanted.name].evidence is Evidence.INFERRED


@pytest.mark.long
async def test_an_outcome_that_cannot_be_recorded_before_the_end_is_told_and_found_by_reading(
    tmp_path: Path,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    """The database is gone when the gateway is told to stop, and back when the next one starts."""
    (wanted,) = intents(["slow"], ACCOUNTS)
    history, accounts = History(wanted), dict.fromkeys(ACCOUNTS, provider.url)
    with wire_to(postgres_url) as wire:
        async with serving(configuration(tmp_path, wire.url, accounts)) as gateway:
            asking = asyncio.create_task(ask(http, gateway.url, wanted))
            await until(lambda: provider.has_copy(wanted.name))
            wire.is_cut = True
            await asyncio.sleep(0.6)
            gateway.signal(signal.SIGTERM)
            told_at = monotonic()
            try:
                # A call takes a second at most, and what is left to do is given ten more.
                await gateway.ended(25)
                told = await asking
            finally:
                asking.cancel()
            figures.measured["SIGTERM to exit without a database"] = (
                f"{monotonic() - told_at:.1f} s"
            )
    history.told += [told] if told else []
    async with serving(configuration(tmp_path, postgres_url, accounts)) as gateway:
        await insist(http, lambda: gateway.url, provider, history)
        records = await recorded(postgres_url)
    hold(figures, provider, [history], records, kind="SIGTERM without a database")
    figures.faults["SIGTERM without a database"] += 1
    assert records[wanted.name].status is DuplicationStatus.CREATED
