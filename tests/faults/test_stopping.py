"""SIGTERM during calls: running calls are finished, and new ones soon get no connection."""

import asyncio
import random
import signal
from contextlib import suppress
from pathlib import Path
from time import monotonic

import httpx
import pytest

from campaign_gateway.model import DuplicationStatus, Evidence
from support.database_proxy import proxy_for
from support.faulty_provider import Provider
from support.figures import Figures
from support.gateways import (
    Gateway,
    History,
    ask,
    calling,
    configuration,
    intents,
    launch,
    listening,
    recorded,
    retry_all_until_final,
    retry_until_final,
    serving,
)
from support.promises import check_promises
from support.waiting import until

ACCOUNTS = ("one", "two")
UNDER_WAY = 40


async def status_of(gateway: Gateway, path: str) -> int:
    """Request a path over a new connection, as a load balancer does."""
    async with calling() as new:
        return (await new.get(f"{gateway.url}{path}")).status_code


async def test_sigterm_gives_notice_then_accepts_no_connections_and_finishes_running_calls(
    tmp_path: Path, ledger_url: str, provider: Provider, http: httpx.AsyncClient, figures: Figures
) -> None:
    held = intents(["held-after-copy"] * UNDER_WAY, ACCOUNTS)
    meanwhile, late = intents(["none"] * 10, ACCOUNTS), intents(["none"] * 5, ACCOUNTS)
    config = configuration(tmp_path, ledger_url, dict.fromkeys(ACCOUNTS, provider.url), timeout=20)
    # On a busy machine, clients may need more than the usual second to connect.
    changes = {"constants": {"web.server.server.NOTICE_SECONDS": 3.0}}
    async with serving(config, changes) as gateway:
        assert await status_of(gateway, "/readyz") == 200
        asking = [asyncio.create_task(ask(http, gateway.url, intent)) for intent in held]
        await until(lambda: all(provider.has_copy(intent.name) for intent in held))
        gateway.signal(signal.SIGTERM)
        again = [asyncio.create_task(ask(http, gateway.url, intent)) for intent in held[:5]]
        accepted = await asyncio.gather(*(ask(http, gateway.url, intent) for intent in meanwhile))
        statuses = set()
        async with asyncio.timeout(20):
            with suppress(httpx.TransportError):
                while True:
                    statuses.add(await status_of(gateway, "/readyz"))
                    await asyncio.sleep(0.05)
        refused = await asyncio.gather(*(ask(http, gateway.url, intent) for intent in late))
        assert gateway.is_running, gateway.output()
        provider.released.set()
        released_at = monotonic()
        finished = await asyncio.gather(*asking)
        assert await gateway.ended() == 0, gateway.output()
        figures.measured[f"drain of {UNDER_WAY} calls, from the provider's last response"] = (
            f"{monotonic() - released_at:.2f} s"
        )
        repeated = await asyncio.gather(*again)
    records = await recorded(ledger_url)
    histories = [
        History(intent, [response])
        for intent, response in zip(
            [*held, *meanwhile, *held[:5]], [*finished, *accepted, *repeated], strict=True
        )
        if response is not None
    ]
    assert len(histories) == UNDER_WAY + 10 + 5, "every caller with a connection has a response"
    assert statuses == {503}
    assert refused == [None] * 5
    check_promises(figures, provider, histories, records, kind="SIGTERM with calls under way")
    figures.faults["SIGTERM with calls under way"] += 1
    assert {history.responses[0].status for history in histories} == {"CREATED"}
    assert {record.evidence for record in records.values()} == {Evidence.RESPONSE}
    assert not any(provider.intents[intent.name].posts for intent in late)


async def test_repeated_sigterm_under_load_leaves_nothing_unknown(
    tmp_path: Path, ledger_url: str, provider: Provider, http: httpx.AsyncClient, figures: Figures
) -> None:
    choice = random.Random(11)
    # No fault here takes long, so the timeout of a call is for busy machines only.
    accounts = dict.fromkeys(ACCOUNTS, provider.url)
    config = configuration(tmp_path, ledger_url, accounts, timeout=30)
    wanted = intents(choice.choices(["none", "slow", "refusal-409"], k=200), ACCOUNTS)
    gateway = await listening(launch(config))
    drains: list[float] = []

    def where() -> str:
        return gateway.url if gateway.is_running else ""

    asking = asyncio.create_task(retry_all_until_final(http, where, provider, wanted, clients=20))
    try:
        while len(drains) < 2:
            await asyncio.sleep(choice.uniform(0.2, 0.6))
            gateway.signal(signal.SIGTERM)
            signalled_at = monotonic()
            assert await gateway.ended() == 0, gateway.output()
            drains.append(monotonic() - signalled_at)
            gateway = await listening(launch(config))
        histories = await asking
    finally:
        asking.cancel()
        gateway.kill()
    records = await recorded(ledger_url)
    check_promises(figures, provider, histories, records, kind="SIGTERM under load")
    figures.faults["SIGTERM under load"] += len(drains)
    figures.measured["SIGTERM to exit under load"] = f"{max(drains):.2f} s"
    for intent in wanted:
        assert records[intent.name].status == intent.expected
        assert records[intent.name].evidence is Evidence.RESPONSE


async def test_second_sigterm_ends_immediately_and_the_copy_is_found_by_search(
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
        history = await retry_until_final(http, lambda: gateway.url, provider, History(wanted))
        records = await recorded(ledger_url)
    history.responses[:0] = [cut_off] if cut_off else []
    check_promises(figures, provider, [history], records, kind="SIGTERM twice")
    figures.faults["SIGTERM twice"] += 1
    assert records[wanted.name].status is DuplicationStatus.CREATED
    assert records[wanted.name].evidence is Evidence.INFERRED


@pytest.mark.long
async def test_outcome_not_recorded_before_exit_is_found_by_search(
    tmp_path: Path,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    """The database is down when the gateway stops, and back when the next one starts."""
    (wanted,) = intents(["slow"], ACCOUNTS)
    history, accounts = History(wanted), dict.fromkeys(ACCOUNTS, provider.url)
    with proxy_for(postgres_url) as database_proxy:
        async with serving(configuration(tmp_path, database_proxy.url, accounts)) as gateway:
            asking = asyncio.create_task(ask(http, gateway.url, wanted))
            await until(lambda: provider.has_copy(wanted.name))
            database_proxy.is_cut = True
            await asyncio.sleep(0.6)
            gateway.signal(signal.SIGTERM)
            signalled_at = monotonic()
            try:
                # A call takes a second at most, and the rest gets ten more.
                await gateway.ended(25)
                response = await asking
            finally:
                asking.cancel()
            figures.measured["SIGTERM to exit without a database"] = (
                f"{monotonic() - signalled_at:.1f} s"
            )
    history.responses += [response] if response else []
    async with serving(configuration(tmp_path, postgres_url, accounts)) as gateway:
        await retry_until_final(http, lambda: gateway.url, provider, history)
        records = await recorded(postgres_url)
    check_promises(figures, provider, [history], records, kind="SIGTERM without a database")
    figures.faults["SIGTERM without a database"] += 1
    assert records[wanted.name].status is DuplicationStatus.CREATED
