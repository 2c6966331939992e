"""Several gateways at one PostgreSQL, asked for the same at the same time, and taken for dead."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
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
    Intent,
    Told,
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

ACCOUNTS = ("one", "two", "three", "four")
RACES = 1000
# In pairs, of which each takes one of an account's calls at once.
RACES_AT_ONCE = 100

MIXED = [
    "none",
    "slow",
    "fin-after-copy",
    "rst-before-copy",
    "refusal-409",
    "status-503-after-copy",
    "body-without-id",
]


@asynccontextmanager
async def replicas(
    folder: Path,
    ledger: str,
    provider: Provider,
    tricks: list[dict[str, object] | None],
    timeout: float = 1,
) -> AsyncIterator[list[Gateway]]:
    """As many gateways at one ledger as there are tricks to play on them."""
    config = configuration(folder, ledger, dict.fromkeys(ACCOUNTS, provider.url), timeout=timeout)
    gateways = [launch(config, each) for each in tricks]
    try:
        yield [await listening(each) for each in gateways]
    finally:
        for each in gateways:
            each.kill()


async def answered(http: httpx.AsyncClient, gateway: Gateway, intent: Intent) -> Told:
    told = await ask(http, gateway.url, intent)
    assert told is not None, gateway.said()
    return told


async def at_most(number: int, jobs: list[Callable[[], Awaitable[None]]]) -> None:
    waiting = iter(jobs)

    async def work() -> None:
        for each in waiting:
            await each()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(number):
            tasks.create_task(work())


async def test_two_gateways_that_are_sent_the_same_keys_at_once_make_one_copy_of_each(
    tmp_path: Path,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    wanted = intents(["none"] * RACES, ACCOUNTS)
    histories: list[History] = []

    async with replicas(tmp_path, postgres_url, provider, [None, None]) as pair:

        async def race(intent: Intent) -> None:
            told = await asyncio.gather(*(answered(http, each, intent) for each in pair))
            histories.extend(History(intent, [each]) for each in told)
            assert {each.status for each in told} == {"CREATED"}, told
            assert len({(each.campaign, each.duplication) for each in told}) == 1, told
            assert sorted(each.replayed for each in told) == [False, True], told

        await at_most(RACES_AT_ONCE, [_later(race, each) for each in wanted])
        records = await recorded(postgres_url)
    hold(figures, provider, histories, records)
    made = sum(len(each.copies) for each in provider.intents.values())
    figures.measured["copies of keys that two gateways got at once"] = f"{made} of {RACES} keys"
    assert made == RACES
    assert len(records) == RACES


def _later(
    job: Callable[[Intent], Awaitable[None]], intent: Intent
) -> Callable[[], Awaitable[None]]:
    return lambda: job(intent)


async def test_four_gateways_asked_at_the_same_instants_agree_whatever_the_provider_does(
    tmp_path: Path,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    await _agree(4, 105, tmp_path, postgres_url, provider, http, figures)


@pytest.mark.long
async def test_four_gateways_agree_on_thousands(
    tmp_path: Path,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    await _agree(4, 3500, tmp_path, postgres_url, provider, http, figures)


async def _agree(
    number: int,
    keys: int,
    folder: Path,
    ledger: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    wanted = intents((MIXED * keys)[:keys], ACCOUNTS)
    histories: list[History] = []

    async with replicas(folder, ledger, provider, [None] * number) as gateways:

        async def race(intent: Intent) -> None:
            mine = [History(intent) for _ in gateways]
            histories.extend(mine)
            await asyncio.gather(
                *(
                    insist(http, always(gateway.url), provider, each)
                    for gateway, each in zip(gateways, mine, strict=True)
                )
            )
            assert len({(each.told[-1].status, each.told[-1].campaign) for each in mine}) == 1, mine

        await at_most(RACES_AT_ONCE // 2, [_later(race, each) for each in wanted])
        records = await recorded(ledger)
    hold(figures, provider, histories, records)
    for each in wanted:
        assert records[each.name].status == each.expected, records[each.name]


async def test_a_gateway_that_stands_still_before_its_first_byte_and_goes_on_makes_the_one_copy(
    tmp_path: Path,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    """It was taken for dead meanwhile, and nobody has sent in its place."""
    (wanted,) = intents(["none"], ACCOUNTS)
    stopping: dict[str, object] = {"timing": SOON, "at": "after-begin", "signal": "SIGSTOP"}
    tricks: list[dict[str, object] | None] = [stopping, {"timing": SOON}]
    async with replicas(tmp_path, postgres_url, provider, tricks, timeout=60) as (still, other):
        first = asyncio.create_task(ask(http, still.url, wanted))
        while not await recorded(postgres_url):
            await asyncio.sleep(0.05)
        history = History(wanted)
        # Another gateway waits with its callers for as long as the first one seems to live.
        history.told.append(await answered(http, other, wanted))
        assert history.told[-1].status == "UNKNOWN"
        assert not provider.intents[wanted.name].posts
        still.signal(signal.SIGCONT)
        late = await first
        assert late is not None
        history.told += [late, await answered(http, other, wanted)]
        records = await recorded(postgres_url)
    hold(figures, provider, [history], records, kind="stopped before the first byte")
    figures.faults["stopped before the first byte"] += 1
    assert [each.status for each in history.told] == ["UNKNOWN", "CREATED", "CREATED"]
    assert {each.evidence for each in history.told[1:]} == {"RESPONSE"}
    assert len(provider.intents[wanted.name].copies) == 1


@pytest.mark.parametrize(
    ("fault", "meanwhile", "status"),
    [("slow", "CREATED", "CREATED"), ("refusal-409", "UNKNOWN", "REJECTED")],
)
async def test_a_gateway_that_stands_still_before_its_answer_records_it_when_it_goes_on(
    tmp_path: Path,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
    fault: str,
    meanwhile: str,
    status: str,
) -> None:
    (wanted,) = intents([fault], ACCOUNTS)
    tricks: list[dict[str, object] | None] = [{"timing": SOON}] * 2
    async with replicas(tmp_path, postgres_url, provider, tricks, timeout=60) as (still, other):
        provider.on_whole[wanted.name] = lambda: still.signal(signal.SIGSTOP)
        first = asyncio.create_task(ask(http, still.url, wanted))
        history = History(wanted)
        await asyncio.sleep(0.5)
        await insist(http, always(other.url), provider, history)
        assert history.told[-1].status == meanwhile
        assert history.told[-1].evidence in {"INFERRED", None}
        still.signal(signal.SIGCONT)
        late = await first
        assert late is not None
        history.told += [late, await answered(http, other, wanted)]
        records = await recorded(postgres_url)
    hold(figures, provider, [history], records, kind="stopped before the answer")
    figures.faults["stopped before the answer"] += 1
    assert {each.status for each in history.told[-2:]} == {status}
    assert history.told[-1].evidence == "RESPONSE"
    assert len(provider.intents[wanted.name].posts) == 1


async def test_gateways_take_turns_at_reading_and_never_read_for_the_same_at_once(
    tmp_path: Path,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    wanted = [
        each
        for number in range(20)
        # A group each, so that a list is read for one intent only; hanging makes reads overlap.
        for group in ("plain", "list-hang")
        for each in intents(["fin-before-copy"], ACCOUNTS, group=f"{group}--{number}")
    ]
    choice = random.Random(5)
    async with replicas(tmp_path, postgres_url, provider, [None] * 3) as gateways:
        told = await asyncio.gather(
            *(answered(http, choice.choice(gateways), each) for each in wanted)
        )
        assert {each.status for each in told} == {"UNKNOWN"}
        await asyncio.sleep(5.5)
        for gateway in gateways:
            await gateway.stop()
        records = await recorded(postgres_url)
    histories = [History(intent, [each]) for intent, each in zip(wanted, told, strict=True)]
    hold(figures, provider, histories, records)
    for each in wanted:
        assert provider.most_listing[each.group] == 1, each
        read, checks = len(provider.lists[each.group]), records[each.name].checks
        # A last check may have been under way when its gateway was stopped.
        assert checks <= read <= checks + 1, each
        assert 2 <= checks <= 4, each
        assert records[each.name].status is DuplicationStatus.UNKNOWN
