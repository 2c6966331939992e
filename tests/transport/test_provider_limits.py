"""What a provider says about its limit pauses the account, and all who wait know it."""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest

from campaign_gateway.accounts.transport.provider_limits import (
    FIRST_PAUSE,
    LONGEST_GUESS,
    LONGEST_PAUSE,
    parse_limit,
)
from campaign_gateway.accounts.transport.rate_limit import CallKind, RateLimiter
from campaign_gateway.model import ErrorCode, Refused
from support.virtual_time import run_in_virtual_time

COPY = CallKind.COPY
RESET_IN = timedelta(seconds=40)


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        run_in_virtual_time(test(*arguments, **named))

    return run


def now() -> float:
    return asyncio.get_running_loop().time()


async def call(limiter: RateLimiter, status: int = 200, **headers: str) -> None:
    """Make one call, to which the provider responds like this immediately."""
    async with limiter.acquire(COPY, timeout=1000) as permit:
        await permit.wait_for_turn()
        permit.mark_sent()
        permit.learn(status, {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"retry-after": "40"}, 40),
        (503, {"retry-after": "40"}, 40),
        (429, {"x-ratelimit-remaining": "7", "x-ratelimit-reset": "40"}, 40),
        # Klaviyo; SendGrid, whose reset may also be a time; HubSpot.
        (200, {"ratelimit-remaining": "0", "ratelimit-reset": "40"}, 40),
        (201, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "40"}, 40),
        (
            200,
            {
                "x-hubspot-ratelimit-remaining": "0",
                "x-hubspot-ratelimit-interval-milliseconds": "10000",
            },
            10,
        ),
        (429, {}, FIRST_PAUSE),
        (429, {"retry-after": "", "x-ratelimit-reset": ""}, FIRST_PAUSE),
        (429, {"retry-after": "0"}, FIRST_PAUSE),
        (429, {"retry-after": "99999"}, LONGEST_PAUSE),
        # These say nothing about the account.
        (503, {}, 0),
        (409, {"retry-after": "40"}, 0),
        (200, {"x-ratelimit-reset": "40"}, 0),
        (200, {"x-ratelimit-remaining": "0"}, 0),
        (200, {"x-ratelimit-remaining": "-3", "x-ratelimit-reset": "40"}, 0),
        (401, {"x-ratelimit-remaining": "", "x-ratelimit-reset": ""}, 0),
    ],
)
@in_virtual_time
async def test_account_is_paused_for_as_long_as_the_provider_says(
    status: int, headers: Mapping[str, str], seconds: float
) -> None:
    limiter = RateLimiter(8, None)
    await call(limiter, status, **headers)
    await call(limiter)
    assert now() == pytest.approx(seconds, abs=0.01)


def test_reset_is_a_time_of_the_provider_s_clock() -> None:
    there = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    reset = str(round((there + RESET_IN).timestamp()))
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
    assert parse_limit(200, headers | {"date": format_datetime(there)}).seconds == 40
    # Without the provider's clock, the gateway's own has to do.
    assert parse_limit(200, headers | {"date": "no date"}).seconds == 0


@in_virtual_time
async def test_pauses_without_a_time_double_until_a_call_succeeds() -> None:
    limiter, started = RateLimiter(8, None), []
    for _ in range(9):
        await call(limiter, 429)
        started.append(now())
    pauses = [round(later - earlier) for earlier, later in pairwise(started)]
    assert pauses == [1, 2, 4, 8, 16, 32, LONGEST_GUESS, LONGEST_GUESS]
    await call(limiter)
    await call(limiter, 429)
    began = now()
    await call(limiter)
    assert now() - began == pytest.approx(FIRST_PAUSE, abs=0.01)


@in_virtual_time
async def test_calls_in_parallel_that_are_all_refused_cause_one_pause() -> None:
    limiter = RateLimiter(8, None)
    async with AsyncExitStack() as held:
        permits = [await held.enter_async_context(limiter.acquire(COPY, 1)) for _ in range(8)]
        for permit in permits:
            permit.mark_sent()
        for permit in permits:
            permit.learn(429, {})
    await call(limiter)
    assert now() == pytest.approx(FIRST_PAUSE, abs=0.01)


@in_virtual_time
async def test_callers_who_wait_in_vain_are_refused_when_the_provider_pauses_the_account() -> None:
    limiter = RateLimiter(1, None)
    refused: list[Refused] = []

    async def wait(timeout: float) -> None:
        try:
            async with limiter.acquire(COPY, timeout):
                pass
        except Refused as refusal:
            refused.append(refusal)

    async with limiter.acquire(COPY, 1) as permit:
        waiting = [asyncio.create_task(wait(timeout)) for timeout in (20, 20, 50)]
        await asyncio.sleep(5)
        permit.mark_sent()
        permit.learn(429, {"retry-after": "30"})
        await asyncio.sleep(0.001)
        assert [task.done() for task in waiting] == [True, True, False]
        # The next call of this permit waits too.
        await wait(10)
        permit.ends_at = now() + 10
        with pytest.raises(Refused):
            await permit.wait_for_turn()
    assert [each.error.retry_after for each in refused] == [30, 30, 30]
    assert {each.error.code for each in refused} == {ErrorCode.RATE_LIMITED}
    assert "The provider limits" in refused[0].error.message
    await asyncio.wait(waiting)
    assert now() == pytest.approx(35, abs=0.01)
    assert len(refused) == 3


@in_virtual_time
async def test_no_more_calls_are_sent_than_the_provider_says_that_remain() -> None:
    """Another program may use the same account."""
    limiter, sent = RateLimiter(32, 1000), list[float]()

    async def call_slowly() -> None:
        async with limiter.acquire(COPY, timeout=1000) as permit:
            await asyncio.sleep(0.5)
            await permit.wait_for_turn()
            permit.mark_sent()
            sent.append(now())
            await asyncio.sleep(1)
            left = str(max(0, 20 - len(sent)))
            permit.learn(200, {"x-ratelimit-remaining": left, "x-ratelimit-reset": "40"})

    await call(limiter, x_ratelimit_remaining="20", x_ratelimit_reset="41")
    await asyncio.gather(*(call_slowly() for _ in range(60)))
    assert sum(time < 40 for time in sent) == 20


@in_virtual_time
async def test_calls_sent_after_the_one_with_the_response_are_not_among_the_remaining_ones() -> (
    None
):
    limiter, sent = RateLimiter(32, None), list[float]()

    async def call_once(responds_after: float) -> None:
        with suppress(Refused):
            async with limiter.acquire(COPY, timeout=5) as permit:
                permit.mark_sent()
                sent.append(now())
                await asyncio.sleep(responds_after)
                permit.learn(200, {"ratelimit-remaining": "12", "ratelimit-reset": "60"})

    slow = [asyncio.create_task(call_once(30)) for _ in range(3)]
    await asyncio.sleep(1)
    first = asyncio.create_task(call_once(1))
    await asyncio.sleep(0.5)
    slow += [asyncio.create_task(call_once(30)) for _ in range(5)]
    await first
    await asyncio.gather(*(call_once(10) for _ in range(20)), *slow)
    assert len(sent) == 3 + 1 + 12


@in_virtual_time
async def test_calls_that_do_not_count_against_the_provider_s_limit_do_not_use_it_up() -> None:
    """Some providers report the limit of one kind of call with the responses to all calls."""
    limiter, sent = RateLimiter(8, None), list[float]()

    async def call_once(remaining: str, whole: str = "50") -> None:
        async with limiter.acquire(COPY, timeout=1) as permit:
            permit.mark_sent()
            sent.append(now())
            await asyncio.sleep(0.1)
            headers = {"x-ratelimit-remaining": remaining, "x-ratelimit-reset": "60"}
            permit.learn(200, {**headers, "x-ratelimit-limit": whole})

    for _ in range(10):
        await asyncio.gather(*(call_once("40") for _ in range(8)))
    assert len(sent) == 80
    # Another limit of the provider says nothing about this one.
    await call_once("2")
    for _ in range(2):
        await call_once("1000", whole="1000")
    with pytest.raises(Refused):
        await call_once("1000", whole="1000")
    assert len(sent) == 83
