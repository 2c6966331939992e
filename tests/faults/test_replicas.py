"""Several gateways with one PostgreSQL get the same keys at the same time, or look dead."""

import asyncio
import random
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from campaign_gateway.model import DuplicationStatus
from support.faulty_provider import Provider
from support.figures import Figures
from support.gateways import (
    SHORT_INTERVALS,
    Gateway,
    GatewayResponse,
    History,
    Intent,
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
from support.waiting import until

ACCOUNTS = ("one", "two", "three", "four")
RACES = 1000
# Pairs of requests. Each pair uses one of the account's concurrent calls.
RACES_AT_ONCE = 100
# Single requests, without a race.
AT_ONCE = 8

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
    changes: list[dict[str, object] | None],
    timeout: float = 1,
) -> AsyncIterator[list[Gateway]]:
    """Start one gateway for each of the changes, all with one ledger."""
    config = configuration(folder, ledger, dict.fromkeys(ACCOUNTS, provider.url), timeout=timeout)
    gateways = [launch(config, change) for change in changes]
    try:
        yield [await listening(gateway) for gateway in gateways]
    finally:
        for gateway in gateways:
            gateway.kill()


async def response_of(http: httpx.AsyncClient, gateway: Gateway, intent: Intent) -> GatewayResponse:
    # A gateway closes a connection that it has kept for some seconds. If that happens just when a
    # request is sent, a client repeats the request.
    response = await ask(http, gateway.url, intent) or await ask(http, gateway.url, intent)
    assert response is not None, gateway.output()
    return response


async def at_most(number: int, jobs: list[Callable[[], Awaitable[None]]]) -> None:
    waiting = iter(jobs)

    async def work() -> None:
        for job in waiting:
            await job()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(number):
            tasks.create_task(work())


async def test_two_gateways_with_the_same_keys_at_the_same_time_make_one_copy_for_each(
    tmp_path: Path,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    wanted = intents(["none"] * RACES, ACCOUNTS)
    histories: list[History] = []

    # No fault here takes long, so the timeout of a call is for busy machines only.
    async with replicas(tmp_path, postgres_url, provider, [None, None], timeout=10) as pair:

        async def race(intent: Intent) -> None:
            responses = await asyncio.gather(
                *(response_of(http, gateway, intent) for gateway in pair)
            )
            histories.extend(History(intent, [response]) for response in responses)
            assert {response.status for response in responses} == {"CREATED"}, responses
            assert (
                len({(response.campaign, response.duplication) for response in responses}) == 1
            ), responses
            assert sorted(response.replayed for response in responses) == [False, True], responses

        await at_most(RACES_AT_ONCE, [_later(race, intent) for intent in wanted])
        records = await recorded(postgres_url)
    check_promises(figures, provider, histories, records)
    made = sum(len(traffic.copies) for traffic in provider.intents.values())
    figures.measured["copies of keys that two gateways got at the same time"] = (
        f"{made} of {RACES} keys"
    )
    assert made == RACES
    assert len(records) == RACES


def _later(
    job: Callable[[Intent], Awaitable[None]], intent: Intent
) -> Callable[[], Awaitable[None]]:
    return lambda: job(intent)


async def test_four_gateways_with_the_same_keys_give_the_same_final_response(
    tmp_path: Path,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    await _agree(4, 105, tmp_path, postgres_url, provider, http, figures)


@pytest.mark.long
async def test_four_gateways_give_the_same_final_response_for_thousands_of_keys(
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

    async with replicas(folder, ledger, provider, [None] * number, timeout=10) as gateways:

        async def race(intent: Intent) -> None:
            mine = [History(intent) for _ in gateways]
            histories.extend(mine)
            await asyncio.gather(
                *(
                    retry_until_final(http, always(gateway.url), provider, history)
                    for gateway, history in zip(gateways, mine, strict=True)
                )
            )
            assert (
                len(
                    {
                        (history.responses[-1].status, history.responses[-1].campaign)
                        for history in mine
                    }
                )
                == 1
            ), mine

        await at_most(RACES_AT_ONCE // 2, [_later(race, intent) for intent in wanted])
        records = await recorded(ledger)
    check_promises(figures, provider, histories, records)
    for wish in wanted:
        assert records[wish.name].status == wish.expected, records[wish.name]


async def test_gateway_paused_before_its_first_byte_makes_the_only_copy_when_it_resumes(
    tmp_path: Path,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    """The other gateway takes it for dead, and sends nothing in its place."""
    (wanted,) = intents(["none"], ACCOUNTS)
    stopping: dict[str, object] = {
        "timing": SHORT_INTERVALS,
        "at": "after-begin",
        "signal": "SIGSTOP",
    }
    changes: list[dict[str, object] | None] = [stopping, {"timing": SHORT_INTERVALS}]
    async with replicas(tmp_path, postgres_url, provider, changes, timeout=60) as (still, other):
        first = asyncio.create_task(ask(http, still.url, wanted))
        while not await recorded(postgres_url):
            await asyncio.sleep(0.05)
        history = History(wanted)
        # The other gateway keeps its caller waiting while the first one seems to live.
        history.responses.append(await response_of(http, other, wanted))
        assert history.responses[-1].status == "UNKNOWN"
        assert not provider.intents[wanted.name].posts
        still.signal(signal.SIGCONT)
        late = await first
        assert late is not None
        history.responses += [late, await response_of(http, other, wanted)]
        records = await recorded(postgres_url)
    check_promises(figures, provider, [history], records, kind="stopped before the first byte")
    figures.faults["stopped before the first byte"] += 1
    assert [response.status for response in history.responses] == ["UNKNOWN", "CREATED", "CREATED"]
    assert {response.evidence for response in history.responses[1:]} == {"RESPONSE"}
    assert len(provider.intents[wanted.name].copies) == 1


@pytest.mark.parametrize(
    ("fault", "meanwhile", "status"),
    [("slow", "CREATED", "CREATED"), ("refusal-409", "UNKNOWN", "REJECTED")],
)
async def test_gateway_paused_before_the_response_records_it_when_it_resumes(
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
    changes: list[dict[str, object] | None] = [{"timing": SHORT_INTERVALS}] * 2
    async with replicas(tmp_path, postgres_url, provider, changes, timeout=60) as (still, other):
        is_paused = threading.Event()

        def pause() -> None:
            still.signal(signal.SIGSTOP)
            is_paused.set()

        provider.on_whole[wanted.name] = pause
        first = asyncio.create_task(ask(http, still.url, wanted))
        history = History(wanted)
        await until(is_paused.is_set)
        await retry_until_final(http, always(other.url), provider, history)
        assert history.responses[-1].status == meanwhile
        assert history.responses[-1].evidence in {"INFERRED", None}
        still.signal(signal.SIGCONT)
        late = await first
        assert late is not None
        history.responses += [late, await response_of(http, other, wanted)]
        records = await recorded(postgres_url)
    check_promises(figures, provider, [history], records, kind="stopped before the response")
    figures.faults["stopped before the response"] += 1
    assert {response.status for response in history.responses[-2:]} == {status}
    assert history.responses[-1].evidence == "RESPONSE"
    assert len(provider.intents[wanted.name].posts) == 1


async def test_several_gateways_never_check_one_duplication_at_the_same_time(
    tmp_path: Path,
    postgres_url: str,
    provider: Provider,
    http: httpx.AsyncClient,
    figures: Figures,
) -> None:
    wanted = [
        intent
        for number in range(20)
        # One group for each, so that a list belongs to one intent. Checks of hanging lists overlap.
        for group in ("plain", "list-hang")
        for intent in intents(["fin-before-copy"], ACCOUNTS, group=f"{group}--{number}")
    ]
    choice = random.Random(5)
    histories: list[History] = []
    # If a machine is so busy that a call cannot be sent in this time, the call is REJECTED. A list
    # that hangs takes as long.
    async with replicas(tmp_path, postgres_url, provider, [None] * 3, timeout=10) as gateways:

        async def lose(intent: Intent) -> None:
            response = await response_of(http, choice.choice(gateways), intent)
            histories.append(History(intent, [response]))

        await at_most(AT_ONCE, [_later(lose, intent) for intent in wanted])
        assert {history.responses[0].status for history in histories} == {"UNKNOWN"}, histories
        async with asyncio.timeout(60):
            records = await recorded(postgres_url)
            while any(records[wish.name].checks < 2 for wish in wanted):
                await asyncio.sleep(0.5)
                records = await recorded(postgres_url)
        for gateway in gateways:
            await gateway.stop()
        records = await recorded(postgres_url)
    check_promises(figures, provider, histories, records)
    for wish in wanted:
        assert provider.most_listing[wish.group] == 1, wish
        read, checks = len(provider.lists[wish.group]), records[wish.name].checks
        # The last check may have been interrupted by the end of its gateway.
        assert checks <= read <= checks + 1, wish
        # The pauses grow, so it takes a minute until there are more.
        assert 2 <= checks <= 6, wish
        assert records[wish.name].status is DuplicationStatus.UNKNOWN
