"""PostgreSQL dies, stands still, or does what it was told and cannot say so."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from campaign_gateway.model import DuplicationStatus, Evidence
from support.faulty_provider import Provider
from support.figures import Figures
from support.gateways import (
    Gateway,
    History,
    Intent,
    all_insist,
    ask,
    configuration,
    insist,
    intents,
    recorded,
    serving,
)
from support.judge import hold
from support.postgres import PostgresServer, postgres_server
from support.wire import BEGIN, SETTLE, Wire, wire_to

ACCOUNTS = ("one", "two")
# So that an outage need not last long to outlast a gateway, nor a check that it has cut off.
IMPATIENT = {"timing": {"statement_timeout": 2.0, "check_timeout": 3.0}}

LOAD = ["none", "none", "slow", "refusal-409", "fin-after-copy", "rst-before-copy"]


@pytest.fixture
def wire(postgres_url: str) -> Iterator[Wire]:
    with wire_to(postgres_url) as found:
        yield found


@pytest.fixture(scope="module")
def doomed() -> Iterator[PostgresServer]:
    """A PostgreSQL that these tests may kill."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def doomed_wire(doomed: PostgresServer) -> Iterator[Wire]:
    with wire_to(doomed.create_database()) as found:
        yield found


@asynccontextmanager
async def gateway_at(
    folder: Path,
    ledger: str,
    provider: Provider,
    tricks: Mapping[str, object] | None = None,
    *,
    deadline: float = 25,
) -> AsyncIterator[Gateway]:
    accounts = dict.fromkeys(ACCOUNTS, provider.url)
    config = configuration(folder, ledger, accounts, timeout=20, deadline=deadline)
    async with serving(config, tricks) as gateway:
        yield gateway


async def copies_are_made(provider: Provider, wanted: list[Intent]) -> None:
    async with asyncio.timeout(20):
        while not all(provider.has_copy(each.name) for each in wanted):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("name", "statement"), [("intent", BEGIN), ("outcome", SETTLE)])
async def test_a_record_whose_confirmation_is_lost_is_written_again_and_counts_once(
    tmp_path: Path,
    wire: Wire,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
    name: str,
    statement: bytes,
) -> None:
    wanted = intents(["none"] * 20, ACCOUNTS)
    async with gateway_at(tmp_path, wire.url, provider) as gateway:
        wire.mute[statement] = 15
        histories = await all_insist(http, lambda: gateway.url, provider, wanted, clients=5)
        records = await recorded(postgres_url)
    hold(figures, provider, histories, records, kind=f"confirmation of the {name} lost")
    figures.faults[f"confirmation of the {name} lost"] += wire.muted
    assert wire.muted == 15
    assert [[each.status for each in history.told] for history in histories] == [["CREATED"]] * 20
    assert {each.evidence for each in records.values()} == {Evidence.RESPONSE}


async def test_an_intent_that_was_recorded_unheard_is_renounced_when_the_database_is_back(
    tmp_path: Path,
    wire: Wire,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    """The database takes the record, and is then out of reach for longer than the gateway waits."""
    (wanted,) = intents(["none"], ACCOUNTS)
    async with gateway_at(tmp_path, wire.url, provider, IMPATIENT) as gateway:
        wire.mute[BEGIN] = 1
        asking = asyncio.create_task(ask(http, gateway.url, wanted))
        while not wire.muted:
            await asyncio.sleep(0.005)
        wire.is_cut = True
        refused = await asking
        wire.is_cut = False
        assert refused is not None
        assert (refused.code, refused.duplication) == ("OUTCOME_UNKNOWN", None)
        history = await insist(http, lambda: gateway.url, provider, History(wanted, [refused]))
        records = await recorded(postgres_url)
    hold(figures, provider, [history], records, kind="database gone with an intent")
    figures.faults["database gone with an intent"] += 1
    assert (history.told[-1].status, history.told[-1].code) == ("REJECTED", "OVERLOADED")
    assert not provider.intents[wanted.name].posts


async def test_an_intent_that_is_recorded_long_after_it_was_given_up_does_not_stay_under_way(
    tmp_path: Path,
    wire: Wire,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    """One connection stands still, and what was sent over it arrives in the end."""
    (wanted,) = intents(["none"], ACCOUNTS)
    async with gateway_at(tmp_path, wire.url, provider, IMPATIENT) as gateway:
        wire.late[BEGIN] = 8.5
        refused = await ask(http, gateway.url, wanted)
        assert refused is not None
        assert (refused.code, refused.duplication) == ("OUTCOME_UNKNOWN", None)
        await asyncio.sleep(3)
        records = await recorded(postgres_url)
    hold(figures, provider, [History(wanted, [refused])], records, kind="intent recorded late")
    figures.faults["intent recorded late"] += 1


@pytest.mark.parametrize("seconds", [1, 6])
async def test_while_the_database_stands_still_callers_are_answered_and_nothing_is_lost(
    tmp_path: Path,
    wire: Wire,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
    seconds: float,
) -> None:
    held = intents(["held-after-copy"] * 5, ACCOUNTS)
    new = intents(["none"] * 10, ACCOUNTS)
    async with gateway_at(tmp_path, wire.url, provider, IMPATIENT, deadline=3) as gateway:
        histories = [History(each) for each in [*held, *new]]
        asking = [asyncio.create_task(ask(http, gateway.url, each)) for each in held]
        await copies_are_made(provider, held)
        wire.is_stalled = True
        provider.released.set()
        asking += [asyncio.create_task(ask(http, gateway.url, each)) for each in new]
        await asyncio.sleep(seconds)
        wire.is_stalled = False
        for history, task in zip(histories, asking, strict=True):
            told = await task
            assert told is not None, "nobody is left without an answer"
            assert told.status in {"CREATED", "IN_PROGRESS"} or told.code == "OUTCOME_UNKNOWN"
            history.told.append(told)
        await asyncio.gather(
            *(insist(http, lambda: gateway.url, provider, each) for each in histories)
        )
        records = await recorded(postgres_url)
    hold(figures, provider, histories, records, kind="database stands still")
    figures.faults["database stands still"] += 1
    assert {records[each.name].status for each in held} == {DuplicationStatus.CREATED}


@pytest.mark.parametrize(("name", "statement"), [("intent", BEGIN), ("outcome", SETTLE)])
async def test_a_database_that_dies_as_it_is_told_an_intent_or_an_outcome_has_it_in_the_end(
    tmp_path: Path,
    doomed: PostgresServer,
    doomed_wire: Wire,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
    name: str,
    statement: bytes,
) -> None:
    wanted = intents(["none"] * 12, ACCOUNTS)
    async with gateway_at(tmp_path, doomed_wire.url, provider) as gateway:
        doomed_wire.events[statement] = doomed.kill
        asking = asyncio.create_task(
            all_insist(http, lambda: gateway.url, provider, wanted, clients=6)
        )
        while statement in doomed_wire.events:
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        await asyncio.to_thread(doomed.start)
        histories = await asking
        records = await recorded(doomed_wire.url)
    hold(figures, provider, histories, records, kind=f"database killed at the {name}")
    figures.faults[f"database killed at the {name}"] += 1
    assert [[each.status for each in history.told] for history in histories] == [["CREATED"]] * 12
    assert {each.evidence for each in records.values()} == {Evidence.RESPONSE}


async def test_a_key_whose_copy_is_there_is_never_called_safe_while_the_database_is_gone(
    tmp_path: Path,
    wire: Wire,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    (wanted,) = intents(["none"], ACCOUNTS)
    history = History(wanted)
    async with gateway_at(tmp_path, wire.url, provider, IMPATIENT) as gateway:
        for wire.is_cut in (False, True, False):
            await asyncio.sleep(0.1)
            told = await ask(http, gateway.url, wanted)
            assert told is not None
            history.told.append(told)
        records = await recorded(postgres_url)
    figures.faults["database gone at a retry"] += 1
    hold(figures, provider, [history], records, kind="database gone at a retry")


async def test_a_database_killed_again_and_again_under_load_loses_nothing(
    tmp_path: Path,
    doomed: PostgresServer,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    await _kill_database(3, tmp_path, doomed, provider, http, figures)


@pytest.mark.long
async def test_a_database_killed_a_hundred_times_under_load_loses_nothing(
    tmp_path: Path,
    doomed: PostgresServer,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    await _kill_database(100, tmp_path, doomed, provider, http, figures)


async def _kill_database(
    kills: int,
    folder: Path,
    doomed: PostgresServer,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    choice, ledger, enough = random.Random(kills), doomed.create_database(), asyncio.Event()
    histories: list[History] = []
    async with gateway_at(folder, ledger, provider, IMPATIENT) as gateway:

        async def work() -> None:
            while not enough.is_set():
                (wanted,) = intents([choice.choice(LOAD)], [choice.choice(ACCOUNTS)])
                histories.append(History(wanted))
                await insist(http, lambda: gateway.url, provider, histories[-1], seconds=600)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(30):
                tasks.create_task(work())
            for number in range(kills):
                await asyncio.sleep(choice.uniform(0.5, 1.5))
                await asyncio.to_thread(doomed.kill)
                # Every other time for longer than a gateway tries.
                await asyncio.sleep(choice.uniform(0, 0.5) if number % 2 else 3)
                await asyncio.to_thread(doomed.start)
            enough.set()
        records = await recorded(ledger)
    hold(figures, provider, histories, records, kind="database killed under load")
    figures.faults["database killed under load"] += kills
    for each in histories:
        found = records.get(each.intent.name)
        assert found is not None, "whoever insists is on record in the end"
        assert (found.status is DuplicationStatus.CREATED) == provider.has_copy(each.intent.name)
