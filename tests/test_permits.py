"""How many calls an account may have at once and a minute."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from campaign_gateway.outcomes import ErrorCode, Refused, Retry
from campaign_gateway.permits import Permits

AT_ONCE = 32


async def test_calls_at_once_are_bounded_and_slots_come_back() -> None:
    permits = Permits(AT_ONCE, None)
    async with AsyncExitStack() as held:
        for _ in range(AT_ONCE):
            await held.enter_async_context(permits.hold(patience=0))
        with pytest.raises(Refused) as raised:
            async with permits.hold(patience=0.05):
                pass
        assert raised.value.error.code is ErrorCode.OVERLOADED
        waiting = asyncio.create_task(held.enter_async_context(permits.hold(patience=5)))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        waiting.cancel()
    for _ in range(3 * AT_ONCE):
        async with permits.hold(patience=0):
            pass


async def test_no_minute_ever_has_more_calls_than_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("campaign_gateway.permits.WINDOW_SECONDS", 0.3)
    permits = Permits(AT_ONCE, calls_per_minute=4)
    turns = []

    async def call() -> None:
        async with permits.hold(patience=5):
            turns.append(asyncio.get_running_loop().time())

    await asyncio.gather(*(call() for _ in range(14)))
    assert turns[3] - turns[0] < 0.2
    assert all(later - turn >= 0.29 for turn, later in zip(turns, turns[4:], strict=False))


async def test_a_turn_too_far_away_is_refused_and_not_taken() -> None:
    permits = Permits(AT_ONCE, calls_per_minute=1)
    async with permits.hold(patience=1):
        pass
    for _ in range(5):
        with pytest.raises(Refused) as raised:
            async with permits.hold(patience=1):
                pass
        assert raised.value.error.code is ErrorCode.RATE_LIMITED
        assert raised.value.error.retry(is_recorded=False) is Retry.SAME_KEY
        assert 55 <= (raised.value.error.retry_after or 0) <= 60
