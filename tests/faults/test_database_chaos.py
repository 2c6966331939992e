"""PostgreSQL is killed, stalls, or executes a statement and loses the confirmation."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from campaign_gateway.model import DuplicationStatus, Evidence
from support.database_proxy import BEGIN, SETTLE, DatabaseProxy, proxy_for
from support.faulty_provider import Provider
from support.figures import Figures
from support.gateways import (
    Gateway,
    History,
    Intent,
    ask,
    configuration,
    intents,
    recorded,
    retry_all_until_final,
    retry_until_final,
    serving,
)
from support.postgres import PostgresServer
from support.promises import check_promises

ACCOUNTS = ("one", "two")
# A short outage is then longer than the gateway's patience, and than a check that it interrupts.
SHORT_WAITS = {"timing": {"statement_timeout": 2.0, "check_timeout": 3.0}}

LOAD = ["none", "none", "slow", "refusal-409", "fin-after-copy", "rst-before-copy"]


@pytest.fixture
def database_proxy(postgres_url: str) -> Iterator[DatabaseProxy]:
    with proxy_for(postgres_url) as running:
        yield running


@pytest.fixture
def own_database_proxy(own_postgres: PostgresServer) -> Iterator[DatabaseProxy]:
    with proxy_for(own_postgres.create_database()) as running:
        yield running


@asynccontextmanager
async def gateway_at(
    folder: Path,
    ledger: str,
    provider: Provider,
    changes: Mapping[str, object] | None = None,
    *,
    deadline: float = 25,
) -> AsyncIterator[Gateway]:
    accounts = dict.fromkeys(ACCOUNTS, provider.url)
    config = configuration(folder, ledger, accounts, timeout=20, deadline=deadline)
    async with serving(config, changes) as gateway:
        yield gateway


async def copies_are_made(provider: Provider, wanted: list[Intent]) -> None:
    async with asyncio.timeout(20):
        while not all(provider.has_copy(intent.name) for intent in wanted):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("name", "statement"), [("intent", BEGIN), ("outcome", SETTLE)])
async def test_write_with_a_lost_confirmation_is_repeated_and_takes_effect_once(
    tmp_path: Path,
    database_proxy: DatabaseProxy,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
    name: str,
    statement: bytes,
) -> None:
    wanted = intents(["none"] * 20, ACCOUNTS)
    async with gateway_at(tmp_path, database_proxy.url, provider) as gateway:
        database_proxy.lost_confirmations[statement] = 15
        histories = await retry_all_until_final(
            http, lambda: gateway.url, provider, wanted, clients=5
        )
        records = await recorded(postgres_url)
    check_promises(figures, provider, histories, records, kind=f"confirmation of the {name} lost")
    figures.faults[f"confirmation of the {name} lost"] += database_proxy.confirmations_lost
    assert database_proxy.confirmations_lost == 15
    assert [[response.status for response in history.responses] for history in histories] == [
        ["CREATED"]
    ] * 20
    assert {record.evidence for record in records.values()} == {Evidence.RESPONSE}


async def test_intent_recorded_without_confirmation_becomes_rejected_after_an_outage(
    tmp_path: Path,
    database_proxy: DatabaseProxy,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    """The database takes the record, and is then unreachable for longer than the gateway waits."""
    (wanted,) = intents(["none"], ACCOUNTS)
    async with gateway_at(tmp_path, database_proxy.url, provider, SHORT_WAITS) as gateway:
        database_proxy.lost_confirmations[BEGIN] = 1
        asking = asyncio.create_task(ask(http, gateway.url, wanted))
        while not database_proxy.confirmations_lost:
            await asyncio.sleep(0.005)
        database_proxy.is_cut = True
        refused = await asking
        database_proxy.is_cut = False
        assert refused is not None
        assert (refused.code, refused.duplication) == ("OUTCOME_UNKNOWN", None)
        history = await retry_until_final(
            http, lambda: gateway.url, provider, History(wanted, [refused])
        )
        records = await recorded(postgres_url)
    check_promises(figures, provider, [history], records, kind="database gone with an intent")
    figures.faults["database gone with an intent"] += 1
    assert (history.responses[-1].status, history.responses[-1].code) == ("REJECTED", "OVERLOADED")
    assert not provider.intents[wanted.name].posts


async def test_intent_recorded_after_its_request_was_refused_does_not_stay_in_progress(
    tmp_path: Path,
    database_proxy: DatabaseProxy,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    """One connection stalls, and its statement arrives late."""
    (wanted,) = intents(["none"], ACCOUNTS)
    async with gateway_at(tmp_path, database_proxy.url, provider, SHORT_WAITS) as gateway:
        database_proxy.late[BEGIN] = 8.5
        refused = await ask(http, gateway.url, wanted)
        assert refused is not None
        assert (refused.code, refused.duplication) == ("OUTCOME_UNKNOWN", None)
        await asyncio.sleep(3)
        records = await recorded(postgres_url)
    check_promises(
        figures, provider, [History(wanted, [refused])], records, kind="intent recorded late"
    )
    figures.faults["intent recorded late"] += 1


@pytest.mark.parametrize("seconds", [1, 6])
async def test_callers_get_responses_while_the_database_is_stalled_and_nothing_is_lost(
    tmp_path: Path,
    database_proxy: DatabaseProxy,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
    seconds: float,
) -> None:
    held = intents(["held-after-copy"] * 5, ACCOUNTS)
    new = intents(["none"] * 10, ACCOUNTS)
    async with gateway_at(
        tmp_path, database_proxy.url, provider, SHORT_WAITS, deadline=3
    ) as gateway:
        histories = [History(intent) for intent in [*held, *new]]
        asking = [asyncio.create_task(ask(http, gateway.url, intent)) for intent in held]
        await copies_are_made(provider, held)
        database_proxy.is_stalled = True
        provider.released.set()
        asking += [asyncio.create_task(ask(http, gateway.url, intent)) for intent in new]
        await asyncio.sleep(seconds)
        database_proxy.is_stalled = False
        for history, task in zip(histories, asking, strict=True):
            response = await task
            assert response is not None, "every caller gets a response"
            assert (
                response.status in {"CREATED", "IN_PROGRESS"} or response.code == "OUTCOME_UNKNOWN"
            )
            history.responses.append(response)
        await asyncio.gather(
            *(
                retry_until_final(http, lambda: gateway.url, provider, history)
                for history in histories
            )
        )
        records = await recorded(postgres_url)
    check_promises(figures, provider, histories, records, kind="database stands still")
    figures.faults["database stands still"] += 1
    assert {records[intent.name].status for intent in held} == {DuplicationStatus.CREATED}


@pytest.mark.parametrize(("name", "statement"), [("intent", BEGIN), ("outcome", SETTLE)])
async def test_database_killed_during_a_write_has_the_record_after_its_restart(
    tmp_path: Path,
    own_postgres: PostgresServer,
    own_database_proxy: DatabaseProxy,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
    name: str,
    statement: bytes,
) -> None:
    wanted = intents(["none"] * 12, ACCOUNTS)
    async with gateway_at(tmp_path, own_database_proxy.url, provider) as gateway:
        own_database_proxy.events[statement] = own_postgres.kill
        asking = asyncio.create_task(
            retry_all_until_final(http, lambda: gateway.url, provider, wanted, clients=6)
        )
        while statement in own_database_proxy.events:
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        await asyncio.to_thread(own_postgres.start)
        histories = await asking
        records = await recorded(own_database_proxy.url)
    check_promises(figures, provider, histories, records, kind=f"database killed at the {name}")
    figures.faults[f"database killed at the {name}"] += 1
    assert [[response.status for response in history.responses] for history in histories] == [
        ["CREATED"]
    ] * 12
    assert {record.evidence for record in records.values()} == {Evidence.RESPONSE}


async def test_key_with_a_copy_is_not_reported_as_unused_during_a_database_outage(
    tmp_path: Path,
    database_proxy: DatabaseProxy,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    (wanted,) = intents(["none"], ACCOUNTS)
    history = History(wanted)
    async with gateway_at(tmp_path, database_proxy.url, provider, SHORT_WAITS) as gateway:
        for database_proxy.is_cut in (False, True, False):
            await asyncio.sleep(0.1)
            response = await ask(http, gateway.url, wanted)
            assert response is not None
            history.responses.append(response)
        records = await recorded(postgres_url)
    figures.faults["database gone at a retry"] += 1
    check_promises(figures, provider, [history], records, kind="database gone at a retry")


async def test_database_killed_repeatedly_under_load_loses_nothing(
    tmp_path: Path,
    own_postgres: PostgresServer,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    await _kill_database(3, tmp_path, own_postgres, provider, http, figures)


@pytest.mark.long
async def test_database_killed_a_hundred_times_under_load_loses_nothing(
    tmp_path: Path,
    own_postgres: PostgresServer,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    await _kill_database(100, tmp_path, own_postgres, provider, http, figures)


async def _kill_database(
    kills: int,
    folder: Path,
    own_postgres: PostgresServer,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    choice, ledger, enough = random.Random(kills), own_postgres.create_database(), asyncio.Event()
    histories: list[History] = []
    async with gateway_at(folder, ledger, provider, SHORT_WAITS) as gateway:

        async def work() -> None:
            while not enough.is_set():
                (wanted,) = intents([choice.choice(LOAD)], [choice.choice(ACCOUNTS)])
                histories.append(History(wanted))
                await retry_until_final(
                    http, lambda: gateway.url, provider, histories[-1], seconds=600
                )

        async with asyncio.TaskGroup() as tasks:
            for _ in range(30):
                tasks.create_task(work())
            for number in range(kills):
                await asyncio.sleep(choice.uniform(0.5, 1.5))
                await asyncio.to_thread(own_postgres.kill)
                # Every second outage is longer than the gateway's patience.
                await asyncio.sleep(choice.uniform(0, 0.5) if number % 2 else 3)
                await asyncio.to_thread(own_postgres.start)
            enough.set()
        records = await recorded(ledger)
    check_promises(figures, provider, histories, records, kind="database killed under load")
    figures.faults["database killed under load"] += kills
    for history in histories:
        record = records.get(history.intent.name)
        assert record is not None, "an intent that is repeated until it is final has a record"
        assert (record.status is DuplicationStatus.CREATED) == provider.has_copy(
            history.intent.name
        )
