"""The limits of an account: calls in parallel, per second and per minute."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from campaign_gateway.model import ErrorCode, Refused, Retry
from campaign_gateway.transport.rate_limit import WINDOWS, RateLimiter

AT_ONCE = 32


async def test_parallel_calls_are_limited_and_slots_are_released() -> None:
    rate_limiter = RateLimiter(AT_ONCE, None)
    async with AsyncExitStack() as held:
        for _ in range(AT_ONCE):
            await held.enter_async_context(rate_limiter.acquire(timeout=0))
        with pytest.raises(Refused) as raised:
            async with rate_limiter.acquire(timeout=0.05):
                pass
        assert raised.value.error.code is ErrorCode.OVERLOADED
        waiting = asyncio.create_task(held.enter_async_context(rate_limiter.acquire(timeout=5)))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        waiting.cancel()
    for _ in range(3 * AT_ONCE):
        async with rate_limiter.acquire(timeout=0):
            pass


async def test_calls_in_any_minute_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WINDOWS, "minute", 0.3)
    turns = await turns_of(RateLimiter(AT_ONCE, calls_per_minute=4), 14)
    assert turns[3] - turns[0] < 0.2
    assert all(later - turn >= 0.2 for turn, later in zip(turns, turns[4:], strict=False))


async def test_calls_in_any_second_and_any_minute_are_limited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(WINDOWS, "second", 0.2)
    monkeypatch.setitem(WINDOWS, "minute", 1.0)
    turns = await turns_of(RateLimiter(AT_ONCE, calls_per_minute=5, calls_per_second=2), 12)
    assert all(later - turn >= 0.1 for turn, later in zip(turns, turns[2:], strict=False))
    assert all(later - turn >= 0.8 for turn, later in zip(turns, turns[5:], strict=False))
    # Two whole minutes and a part of the third: the waits of both windows do not add up.
    assert 2.0 <= turns[-1] - turns[0] < 2.9


async def test_limit_per_second_works_without_a_limit_per_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(WINDOWS, "second", 0.2)
    turns = await turns_of(RateLimiter(AT_ONCE, None, calls_per_second=3), 9)
    assert all(later - turn >= 0.1 for turn, later in zip(turns, turns[3:], strict=False))


async def turns_of(rate_limiter: RateLimiter, calls: int) -> list[float]:
    """Return the time at which each of several parallel calls was allowed.

    On a busy machine a call continues up to 0.1 seconds late, and the next one on time.
    """
    turns = []

    async def call() -> None:
        async with rate_limiter.acquire(timeout=5):
            turns.append(asyncio.get_running_loop().time())

    await asyncio.gather(*(call() for _ in range(calls)))
    return turns


@pytest.mark.parametrize(
    ("limits", "window", "least", "most"),
    [
        ({"calls_per_minute": 1}, "minute", 55, 60),
        ({"calls_per_minute": 1, "calls_per_second": 1}, "minute", 55, 60),
        ({"calls_per_minute": 9, "calls_per_second": 1}, "second", 1, 2),
    ],
)
async def test_call_that_would_wait_too_long_is_refused_and_uses_no_turn(
    limits: dict[str, int], window: str, least: int, most: int
) -> None:
    rate_limiter = RateLimiter(AT_ONCE, **{"calls_per_minute": None, **limits})
    async with rate_limiter.acquire(timeout=1):
        pass
    for _ in range(5):
        with pytest.raises(Refused) as raised:
            async with rate_limiter.acquire(timeout=0.01):
                pass
        assert raised.value.error.code is ErrorCode.RATE_LIMITED
        assert raised.value.error.retry(is_recorded=False) is Retry.SAME_KEY
        assert f"calls per {window}" in raised.value.error.message
        assert least <= (raised.value.error.retry_after or 0) <= most
