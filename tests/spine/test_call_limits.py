"""The limits of an account hold for every call: copies, second calls, checks and reads."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from campaign_gateway.accounts.transport.errors import NoResponse, TurnLost
from campaign_gateway.accounts.transport.rate_limit import (
    QUEUE_LENGTH,
    CallKind,
    Permit,
    RateLimiter,
)
from campaign_gateway.connectors import errors
from campaign_gateway.connectors.contract import ProviderResponse, UnexpectedResponse
from campaign_gateway.duplication.campaign_reads import look_up_all
from campaign_gateway.model import Campaign, DuplicationStatus, ErrorCode, Outcome, Refused, Retry
from support.open_duplicator import OpenDuplicator
from support.stub_provider import (
    Copying,
    Found,
    FoundWithoutAges,
    Reading,
    StubGateway,
    StubInput,
    TrackedAndFound,
)
from support.waiting import until, until_async

CREATED, ACCEPTED, UNKNOWN = (
    DuplicationStatus.CREATED,
    DuplicationStatus.ACCEPTED,
    DuplicationStatus.UNKNOWN,
)

Open = Callable[..., Awaitable[StubGateway]]

Results = Mapping[str, Campaign | Refused | NoResponse | UnexpectedResponse | None]


def limit(gateway: StubGateway, limiter: RateLimiter, deadline: float = 20) -> None:
    gateway.account = replace(gateway.account, rate_limiter=limiter)
    gateway.accounts["stub"] = gateway.account
    gateway.duplicator = OpenDuplicator(gateway.accounts, gateway.ledger, deadline)


async def read(gateway: StubGateway, number: int, seconds: float = 10) -> Results:
    ends_at = asyncio.get_running_loop().time() + seconds
    return await look_up_all(gateway.account, {f"c{n}": None for n in range(number)}, ends_at)


def codes(results: Results) -> set[ErrorCode]:
    return {each.error.code for each in results.values() if isinstance(each, Refused)}


@pytest.mark.parametrize("kind", [Found, FoundWithoutAges, TrackedAndFound])
async def test_every_call_of_an_account_counts(open_gateway: Open, kind: type[Copying]) -> None:
    gateway = await open_gateway(kind)
    limit(gateway, RateLimiter(32, 1000))
    await gateway.ask(StubInput(name="One"), "one")
    gateway.provider.faults["copy"].append("cut-after-copy")
    await gateway.lose(StubInput(name="Two"), "two")
    await gateway.check()
    await read(gateway, 5)
    assert len(gateway.provider.calls) > 5
    (window,) = gateway.account.rate_limiter.turns.windows
    used = 1000 - window.free(asyncio.get_running_loop().time())
    assert used == len(gateway.provider.calls), gateway.provider.calls
    assert gateway.account.rate_limiter.running == 0


async def test_copy_that_cannot_list_the_campaigns_before_it_is_refused_and_not_recorded(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(FoundWithoutAges)
    limit(gateway, RateLimiter(32, 1))
    answer = await gateway.ask()
    # The list was the one call of the minute.
    assert gateway.provider.calls == ["list"]
    assert answer.error is not None
    assert (answer.error.code, answer.duplication) == (ErrorCode.RATE_LIMITED, None)
    assert await gateway.ledger.find("everyone", "k") is None


async def test_reads_use_half_of_the_limit_and_are_refused_with_the_seconds_to_wait(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Reading)
    limit(gateway, RateLimiter(1, 10))
    results = [await read(gateway, 50) for _ in range(4)]
    assert gateway.provider.count("read") == 5
    refused = [each for result in results for each in result.values() if isinstance(each, Refused)]
    assert len(refused) == 195
    assert {each.error.code for each in refused} == {ErrorCode.RATE_LIMITED}
    assert all(50 < (each.error.retry_after or 0) <= 61 for each in refused)
    # The other half is for copies.
    assert (await gateway.copy()).status is CREATED


class LimitedInBody(Copying):
    """Marketo and Meta report a limit in the body, with a status that others use for more."""

    def parse_response(self, copy_input: StubInput, response: ProviderResponse) -> Outcome:
        if response.status != 400:
            return super().parse_response(copy_input, response)
        return errors.failure("Stub", response, ErrorCode.RATE_LIMITED, retry_after=30)


@pytest.mark.parametrize(
    ("kind", "status", "seconds"), [(Copying, 429, 1), (LimitedInBody, 400, 30)]
)
async def test_copy_that_the_provider_limits_pauses_the_account(
    open_gateway: Open, kind: type[Copying], status: int, seconds: int
) -> None:
    gateway = await open_gateway(kind)
    limit(gateway, RateLimiter(8, None))
    gateway.provider.faults["copy"].append(status)
    first = await gateway.ask(key="first")
    # On a busy machine, most of the pause may be over now.
    gateway.duplicator = OpenDuplicator(gateway.accounts, gateway.ledger, 0.1)
    assert first.duplication is not None
    assert first.duplication.status is DuplicationStatus.REJECTED
    second = await gateway.ask(key="second")
    assert second.error is not None
    assert (second.error.code, second.error.retry_after) == (ErrorCode.RATE_LIMITED, seconds)
    assert second.error.retry(is_recorded=False) is Retry.SAME_KEY
    assert await gateway.ledger.find("everyone", "second") is None
    assert gateway.provider.count("copy") == 1


async def test_read_that_the_provider_limits_pauses_the_account(open_gateway: Open) -> None:
    gateway = await open_gateway(Reading)
    limit(gateway, RateLimiter(1, None))
    gateway.provider.faults["read"].append(429)
    results = await read(gateway, 2, seconds=0.5)
    assert gateway.provider.count("read") == 1
    assert codes(results) == {ErrorCode.RATE_LIMITED}


async def test_call_of_a_gateway_that_stood_still_too_long_is_not_sent(
    open_gateway: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_turn(_limiter: RateLimiter, _permit: Permit) -> None:
        raise TurnLost("the gateway stood still")

    gateway = await open_gateway(Reading)
    monkeypatch.setattr(RateLimiter, "mark_sent", lose_turn)
    answer = await gateway.ask()
    assert answer.duplication is not None
    assert answer.duplication.status is DuplicationStatus.REJECTED
    assert answer.duplication.error is not None
    assert answer.duplication.error.code is ErrorCode.PROVIDER_UNAVAILABLE
    (failure,) = (await read(gateway, 1)).values()
    assert isinstance(failure, NoResponse)
    assert gateway.provider.calls == []


async def test_all_reads_end_at_the_deadline_with_few_connections(open_gateway: Open) -> None:
    gateway = await open_gateway(Reading, timeout=60)
    limit(gateway, RateLimiter(8, None))
    running = most = 0

    async def hang() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(30)

    gateway.provider.meanwhile["read"] = hang
    started_at = asyncio.get_running_loop().time()
    several = await asyncio.gather(*(read(gateway, 50, seconds=2) for _ in range(10)))
    assert asyncio.get_running_loop().time() - started_at < 20
    # Half of the connections. The deadlines of these requests differ a little, so at the end a few
    # reads get a connection and no time.
    assert most in range(4, 9)
    timeouts = sum(isinstance(each, NoResponse) for result in several for each in result.values())
    assert 4 <= timeouts < 250
    assert set.union(*map(codes, several)) == {ErrorCode.OVERLOADED}
    assert gateway.account.rate_limiter.running == 0


async def test_copies_at_a_hanging_provider_are_refused_and_their_keys_stay_usable(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Copying, timeout=60)
    limit(gateway, RateLimiter(2, None), deadline=3)
    released = asyncio.Event()

    async def hang() -> None:
        await released.wait()

    gateway.provider.meanwhile["copy"] = hang
    keys = [f"k{number}" for number in range(QUEUE_LENGTH + 42)]
    asking = [asyncio.create_task(gateway.ask(key=key)) for key in keys]
    # What does not fit into the queue is refused while the others still wait.
    await until(lambda: sum(task.done() for task in asking) >= 40)
    assert not any(task.done() for task in asking[:2])
    answers = await asyncio.gather(*asking)
    running, refused = answers[:2], answers[2:]
    assert [each.duplication and each.duplication.status for each in running] == [
        DuplicationStatus.IN_PROGRESS
    ] * 2
    for answer in refused:
        assert answer.error is not None
        assert (answer.error.code, answer.duplication) == (ErrorCode.OVERLOADED, None)
        assert answer.error.retry(is_recorded=False) is Retry.SAME_KEY
        assert 1 <= (answer.error.retry_after or 0) <= 60
    assert gateway.provider.count("copy") == 2
    released.set()
    again = await gateway.ask(key=keys[-1])
    assert (again.error, again.replayed) == (None, False)
    assert again.duplication is not None
    assert again.duplication.status is CREATED
    await gateway.duplicator.drain()


async def test_check_without_a_turn_stays_due_and_keeps_its_place(open_gateway: Open) -> None:
    gateway = await open_gateway(Found, check_timeout=0.3)
    limit(gateway, RateLimiter(1, None))
    gateway.provider.faults["copy"].append("cut-after-copy")
    lost = await gateway.lose()
    async with gateway.account.rate_limiter.acquire(CallKind.COPY, 0):
        assert await gateway.check() == 1
        assert gateway.provider.count("list") == 0
        assert (await gateway.recorded()).checks == lost.checks
    assert await gateway.check() == 1
    assert (await gateway.recorded()).status is CREATED


async def test_unsettled_duplications_of_an_exhausted_account_are_not_claimed(
    open_gateway: Open,
) -> None:
    gateway = await open_gateway(Found)
    limit(gateway, RateLimiter(32, 4))
    gateway.provider.faults["copy"].append("cut-after-copy")
    await gateway.lose()
    async with AsyncExitStack() as held:
        for _ in range(3):
            permit = await held.enter_async_context(
                gateway.account.rate_limiter.acquire(CallKind.COPY, 0)
            )
            permit.mark_sent()
    async with gateway.reconciling():
        await asyncio.sleep(1.5)
    assert gateway.provider.count("list") == 0
    assert await gateway.ledger.due_accounts(datetime.now(UTC))
    limit(gateway, RateLimiter(32, 4))
    async with gateway.reconciling():
        await until_async(lambda: _is_created(gateway))


async def _is_created(gateway: StubGateway) -> bool:
    return (await gateway.recorded()).status is CREATED
