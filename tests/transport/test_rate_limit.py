"""The limits of an account: calls in parallel, per second and per minute, and who comes first."""

import asyncio
import functools
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaign_gateway.accounts.transport import rate_limit
from campaign_gateway.accounts.transport.permits import CHECKS_AT_ONCE, LONGEST_ESTIMATE, SHARES
from campaign_gateway.accounts.transport.rate_limit import (
    QUEUE_LENGTH,
    CallKind,
    Permit,
    RateLimiter,
)
from campaign_gateway.accounts.transport.turns import WINDOWS
from campaign_gateway.model import ErrorCode, Refused, Retry, UserError
from support.virtual_time import run_in_virtual_time

COPY, CHECK, READ = CallKind.COPY, CallKind.CHECK, CallKind.READ
AT_ONCE = 32


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        run_in_virtual_time(test(*arguments, **named))

    return run


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Account:
    """An account whose provider records when it sees which call."""

    limiter: RateLimiter
    seen: list[tuple[float, CallKind]] = field(default_factory=list)

    async def call(self, permit: Permit, seconds: float = 0.0) -> None:
        await permit.wait_for_turn()
        permit.mark_sent()
        self.seen.append((now(), permit.kind))
        await asyncio.sleep(seconds)

    async def run(
        self, kind: CallKind, calls: int = 1, seconds: float = 0.0, timeout: float = 1e6
    ) -> None:
        async with self.limiter.acquire(kind, timeout, calls) as permit:
            for _ in range(calls):
                await self.call(permit, seconds)

    def times(self, *kinds: CallKind) -> list[float]:
        return [time for time, kind in self.seen if kind in (kinds or CallKind)]


async def refusal_of(attempt: Awaitable[None]) -> UserError:
    with pytest.raises(Refused) as raised:
        await attempt
    return raised.value.error


def most_in_window(times: Sequence[float], seconds: float) -> int:
    """Return the most calls in any half-open window. The loop's timers may be early by its step."""
    return max(
        (sum(start <= time < start + seconds - 1e-6 for time in times) for start in times),
        default=0,
    )


@in_virtual_time
async def test_parallel_calls_are_limited_and_slots_are_released() -> None:
    limiter = RateLimiter(AT_ONCE, None)
    async with AsyncExitStack() as held:
        for _ in range(AT_ONCE):
            await held.enter_async_context(limiter.acquire(COPY, timeout=0))
        error = await refusal_of(Account(limiter).run(COPY, timeout=20))
        assert (error.code, error.retry(is_recorded=False)) == (
            ErrorCode.OVERLOADED,
            Retry.SAME_KEY,
        )
        assert now() == pytest.approx(20, abs=0.01)
        waiting = asyncio.create_task(Account(limiter).run(COPY))
        await asyncio.sleep(1)
        assert not waiting.done()
        waiting.cancel()
    await asyncio.wait([waiting])
    assert limiter.running == 0
    async with AsyncExitStack() as held:
        for _ in range(AT_ONCE):
            await held.enter_async_context(limiter.acquire(COPY, timeout=0))


@pytest.mark.parametrize(
    "limits",
    [
        {"calls_per_minute": 4},
        {"calls_per_minute": None, "calls_per_second": 3},
        {"calls_per_minute": 5, "calls_per_second": 2},
        {"calls_per_minute": 20, "calls_per_second": 1},
    ],
)
@in_virtual_time
async def test_calls_of_any_window_are_limited_and_no_time_is_lost(limits: dict[str, Any]) -> None:
    account = Account(RateLimiter(AT_ONCE, **limits))
    await asyncio.gather(*(account.run(COPY) for _ in range(24)))
    expected = 0.0
    for name, seconds in WINDOWS.items():
        limit = limits.get(f"calls_per_{name}")
        if limit is not None:
            assert most_in_window(account.times(), seconds) == limit
            expected = max(expected, (24 - 1) // limit * seconds)
    # The waits of both windows do not add up, except at the end of a window.
    assert expected <= account.times()[-1] + 0.001 < expected + 25


@in_virtual_time
async def test_call_counts_from_its_first_byte_because_connecting_may_take_long() -> None:
    account = Account(RateLimiter(AT_ONCE, calls_per_minute=1))

    async def connect_slowly() -> None:
        async with account.limiter.acquire(COPY, 1) as permit:
            await asyncio.sleep(30)
            await account.call(permit)

    await asyncio.gather(connect_slowly(), account.run(COPY))
    expected = [30, 30 + WINDOWS["minute"]]
    assert account.times() == pytest.approx(expected, abs=0.01)


@in_virtual_time
async def test_call_that_was_not_sent_takes_nothing_of_the_limit() -> None:
    account = Account(RateLimiter(AT_ONCE, calls_per_minute=1))
    for _ in range(3):
        with suppress(LookupError):
            async with account.limiter.acquire(COPY, 0):
                raise LookupError
    await account.run(COPY, timeout=0)
    assert (await refusal_of(account.run(COPY, timeout=0))).code is ErrorCode.RATE_LIMITED


@pytest.mark.parametrize(
    ("limits", "window", "seconds"),
    [
        ({"calls_per_minute": 1}, "minute", 61),
        ({"calls_per_minute": 1, "calls_per_second": 1}, "minute", 61),
        ({"calls_per_minute": 9, "calls_per_second": 1}, "second", 2),
    ],
)
@in_virtual_time
async def test_call_that_would_wait_too_long_is_refused_immediately_and_uses_no_turn(
    limits: dict[str, Any], window: str, seconds: int
) -> None:
    account = Account(RateLimiter(AT_ONCE, **limits))
    await account.run(COPY)
    for _ in range(5):
        error = await refusal_of(account.run(COPY, timeout=0.5))
        assert (error.code, error.retry_after) == (ErrorCode.RATE_LIMITED, seconds)
        assert error.retry(is_recorded=False) is Retry.SAME_KEY
        assert f"`calls_per_{window}`" in error.message
    assert now() < 0.01
    await asyncio.sleep(seconds)
    await account.run(COPY, timeout=0)


@in_virtual_time
async def test_seconds_to_wait_include_the_callers_that_wait_already() -> None:
    account = Account(RateLimiter(AT_ONCE, calls_per_minute=2))
    ahead = [asyncio.create_task(account.run(COPY)) for _ in range(5)]
    await asyncio.sleep(1)
    # Two are sent, two are sent in the next minute, and the fifth leaves one place after that.
    error = await refusal_of(account.run(COPY, timeout=100))
    assert error.retry_after == 120
    later = asyncio.create_task(account.run(COPY, timeout=120))
    await asyncio.gather(*ahead, later)
    assert account.times()[-1] == pytest.approx(2 * WINDOWS["minute"], abs=0.01)


@pytest.mark.parametrize("kind", [COPY, READ])
@in_virtual_time
async def test_caller_at_a_full_queue_is_refused_immediately_with_an_estimate(
    kind: CallKind,
) -> None:
    limiter = RateLimiter(4, None)
    account = Account(limiter)
    hanging = [asyncio.create_task(account.run(COPY, seconds=20)) for _ in range(4)]
    await asyncio.sleep(10)
    waiting = [asyncio.create_task(account.run(kind, timeout=5)) for _ in range(QUEUE_LENGTH)]
    await asyncio.sleep(1)
    error = await refusal_of(account.run(kind, timeout=5))
    assert now() < 12
    assert (error.code, error.retry_after) == (ErrorCode.OVERLOADED, LONGEST_ESTIMATE)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert now() < 16
    errors = [result.error for result in results if isinstance(result, Refused)]
    assert {error.code for error in errors} == {ErrorCode.OVERLOADED}
    assert len(errors) == QUEUE_LENGTH
    # No other waits before the last one. A call has been running for 15 seconds.
    assert min(error.retry_after or 0 for error in errors) == (4 if kind is COPY else 8)
    await asyncio.gather(*hanging)
    await account.run(kind, timeout=0)


@in_virtual_time
async def test_estimate_follows_how_long_calls_take() -> None:
    account = Account(RateLimiter(2, None))
    for seconds in (0.1, 8.0):
        for _ in range(40):
            await account.run(COPY, seconds=seconds)
        async with account.limiter.acquire(COPY, 0), account.limiter.acquire(COPY, 0):
            error = await refusal_of(account.run(COPY, timeout=0))
        assert error.retry_after == max(1, seconds / 2)


def test_reads_and_checks_have_a_share_of_each_limit() -> None:
    async def count(kind: CallKind, at_once: int, per_minute: int | None) -> int:
        """Return how many permits there are at the same time."""
        limiter = RateLimiter(at_once, per_minute)
        async with AsyncExitStack() as held:
            with suppress(Refused):
                while True:
                    await held.enter_async_context(limiter.acquire(kind, 0))
            return limiter.running

    def most(kind: CallKind, at_once: int, per_minute: int | None = None) -> int:
        return run_in_virtual_time(count(kind, at_once, per_minute))

    assert [most(READ, slots) for slots in (1, 2, 5, 32)] == [1, 1, 2, 16]
    assert [most(CHECK, slots) for slots in (1, 2, 5, 32, 500)] == [1, 1, 1, 8, CHECKS_AT_ONCE]
    assert [most(READ, 999, rate) for rate in (1, 2, 3, 10, 100)] == [1, 1, 1, 5, 50]
    assert [most(CHECK, 32, rate) for rate in (1, 4, 10, 100)] == [1, 1, 2, 8]


@pytest.mark.parametrize("per_minute", [1, 2, 3, 10, 100])
@in_virtual_time
async def test_reads_leave_half_and_checks_three_quarters_of_the_calls_to_copies(
    per_minute: int,
) -> None:
    account = Account(RateLimiter(AT_ONCE, per_minute))
    minutes = 20

    async def repeat(kind: CallKind) -> None:
        while now() < 60 * minutes:
            with suppress(Refused):
                await account.run(kind, timeout=20)
            await asyncio.sleep(5)

    await asyncio.gather(*(repeat(kind) for kind in (READ, CHECK) for _ in range(8)))
    for kind, parts in SHARES.items():
        a_minute = per_minute // parts or per_minute / parts
        assert (
            0.9 * minutes * a_minute - 1 <= len(account.times(kind)) <= (minutes + 1) * a_minute + 1
        )
    # Copies that come now find what checks and reads may not use.
    account.seen.clear()
    start = now()
    await asyncio.gather(*(account.run(COPY) for _ in range(per_minute)), repeat(READ))
    assert now() - start <= 2 * WINDOWS["minute"] + 1


@in_virtual_time
async def test_copies_and_checks_take_turns_and_reads_come_last() -> None:
    account = Account(RateLimiter(1, None))
    async with account.limiter.acquire(COPY, 0):
        tasks = [asyncio.create_task(account.run(READ)) for _ in range(2)]
        tasks += [asyncio.create_task(account.run(COPY)) for _ in range(4)]
        tasks += [asyncio.create_task(account.run(CHECK)) for _ in range(2)]
        await asyncio.sleep(1)
    await asyncio.gather(*tasks)
    kinds = [kind for _, kind in account.seen]
    assert kinds == [CHECK, COPY, CHECK, COPY, COPY, COPY, READ, READ]


@in_virtual_time
async def test_endless_copies_do_not_starve_checks_and_endless_checks_no_copies() -> None:
    account = Account(RateLimiter(1, 30))

    async def repeat(kind: CallKind) -> None:
        while now() < 600:
            with suppress(Refused):
                await account.run(kind, seconds=0.1, timeout=20)
            await asyncio.sleep(1)

    await asyncio.gather(*(repeat(kind) for kind in CallKind for _ in range(20)))
    counted = Counter(kind for _, kind in account.seen)
    assert 0.9 * 10 * 30 / 4 <= counted[CHECK] <= 10 * 30 / 4 + 10
    assert counted[COPY] >= 0.7 * 10 * 30


@pytest.mark.parametrize("per_minute", [6, 10, 100])
@in_virtual_time
async def test_search_over_many_pages_ends_although_copies_use_the_whole_limit(
    per_minute: int,
) -> None:
    account = Account(RateLimiter(AT_ONCE, per_minute))

    async def repeat() -> None:
        while now() < 1200:
            with suppress(Refused):
                await account.run(COPY, timeout=20)
            await asyncio.sleep(4)

    copying = [asyncio.create_task(repeat()) for _ in range(20)]
    begun, ended, tasks = [], [], []

    async def search() -> None:
        async with account.limiter.acquire(CHECK, 30, calls=4) as permit:
            begun.append(permit)
            for _ in range(3):
                await account.call(permit, 0.2)
            ended.append(permit)

    while now() < 1200:
        # As the reconciler does: it begins as many as the share has room for.
        room = account.limiter.free_checks(30, calls=4)
        tasks += [asyncio.create_task(search()) for _ in range(room)]
        await asyncio.sleep(0.5)
    await asyncio.gather(*copying, *tasks, return_exceptions=True)
    assert set(ended) == set(begun)
    # A share of a quarter, for 20 minutes and three calls for each search.
    assert len(ended) >= 0.6 * 20 * per_minute / 4 / 3
    assert len(account.times(CHECK)) <= 1.3 * 20 * per_minute / 4 + 3


@in_virtual_time
async def test_checks_of_several_calls_keep_their_share_on_average() -> None:
    account = Account(RateLimiter(AT_ONCE, 8))
    minutes = 30
    while now() < 60 * minutes:
        if account.limiter.free_checks(30, calls=4):
            await account.run(CHECK, calls=4)
        await asyncio.sleep(0.5)
    share = minutes * 8 // SHARES[CHECK]
    assert share <= len(account.times(CHECK)) <= share + 4


@dataclass(frozen=True)
class Plan:
    """What one caller does. `calls` has the seconds before and after each first byte.

    A call without seconds before it fails before its first byte.
    """

    starts_at: float
    kind: CallKind
    timeout: float
    calls: Sequence[tuple[float | None, float]]
    cancelled_after: float | None


SECONDS = st.floats(0, 40, width=16)
PLANS = st.lists(
    st.builds(
        Plan,
        st.floats(0, 90, width=16),
        st.sampled_from(CallKind),
        SECONDS,
        st.lists(st.tuples(st.none() | st.floats(0, 3, width=16), SECONDS), max_size=4),
        st.none() | SECONDS,
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=60)
@given(
    PLANS,
    st.integers(1, 5),
    st.none() | st.integers(1, 12),
    st.none() | st.integers(1, 3),
)
def test_limits_hold_and_nothing_is_lost_if_calls_fail_end_late_or_are_cancelled(
    plans: Sequence[Plan], at_once: int, per_minute: int | None, per_second: int | None
) -> None:
    run_in_virtual_time(follow(plans, at_once, per_minute, per_second))


async def follow(
    plans: Sequence[Plan], at_once: int, per_minute: int | None, per_second: int | None
) -> None:
    account = Account(RateLimiter(at_once, per_minute, per_second))
    callers = [Caller(plan, account, at_once) for plan in plans]
    await asyncio.gather(*(caller.act_and_cancel() for caller in callers))
    limits = {"minute": per_minute, "second": per_second}
    for name, limit in limits.items():
        if limit is not None:
            assert most_in_window(account.times(), WINDOWS[name]) <= limit
    for kind in CallKind:
        started = [each for each in callers if each.plan.kind is kind and each.started_at]
        arrivals = sorted(started, key=lambda each: each.started_at).copy()
        assert all(
            first.arrived_at <= second.arrived_at
            for first, second in itertools.pairwise(arrivals)
            if first.started_at < second.started_at
        )
    # When no call counts any more, the whole limit is free again.
    await asyncio.sleep(10_000)
    assert account.limiter.running == 0
    rates = [limit for limit in limits.values() if limit is not None]
    async with AsyncExitStack() as held:
        for _ in range(min([at_once, *rates])):
            await held.enter_async_context(account.limiter.acquire(COPY, 0))
    checks = min(max(1, limit // SHARES[CHECK]) for limit in [at_once, *rates])
    assert account.limiter.free_checks(0, 1) == checks


@dataclass
class Caller:
    plan: Plan
    account: Account
    at_once: int
    arrived_at: float = 0
    started_at: float = 0

    async def act(self) -> None:
        plan, limiter = self.plan, self.account.limiter
        await asyncio.sleep(plan.starts_at)
        self.arrived_at = now()
        with suppress(Refused):
            async with limiter.acquire(plan.kind, plan.timeout, max(1, len(plan.calls))) as permit:
                self.started_at = now()
                assert self.started_at <= self.arrived_at + plan.timeout + 0.001
                assert limiter.running <= self.at_once
                for before, after in plan.calls:
                    await permit.wait_for_turn()
                    if before is not None:
                        await asyncio.sleep(before)
                        await self.account.call(permit, after)

    async def act_and_cancel(self) -> None:
        acting = asyncio.create_task(self.act())
        if self.plan.cancelled_after is not None:
            await asyncio.sleep(self.plan.starts_at + self.plan.cancelled_after)
            acting.cancel()
        with suppress(asyncio.CancelledError):
            await acting


@in_virtual_time
async def test_used_calls_are_shown_with_the_limits_until_they_count_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limit, "monotonic", now)
    limiter = RateLimiter(4, 10, 2)
    assert RateLimiter(4, None).used_calls() == {}
    assert limiter.allowed_calls() == {"second": 2, "minute": 10}
    await Account(limiter).run(COPY, calls=2)
    assert limiter.used_calls() == {"second": 2, "minute": 2}
    await asyncio.sleep(2)
    await Account(limiter).run(READ)
    assert limiter.used_calls() == {"second": 1, "minute": 3}
    await asyncio.sleep(59)
    assert limiter.used_calls() == {"second": 0, "minute": 1}


@in_virtual_time
async def test_running_waiting_and_refused_calls_are_shown_by_kind_and_limit() -> None:
    limiter = RateLimiter(1, 10)
    account = Account(limiter)
    async with limiter.acquire(COPY, timeout=0) as permit:
        others = [asyncio.create_task(account.run(kind, timeout=5)) for kind in (COPY, READ)]
        await asyncio.sleep(1)
        assert limiter.running_calls() == {"copy": 1, "check": 0, "read": 0}
        assert limiter.waiting_calls() == {"copy": 1, "check": 0, "read": 1}
        for other in others:
            await refusal_of(other)
        assert limiter.waiting_calls() == {"copy": 0, "check": 0, "read": 0}
        for _ in range(10):
            await account.call(permit)
        continuing = asyncio.create_task(account.call(Permit(limiter, CHECK, now() + 100)))
        await asyncio.sleep(1)
        # The call of a permit in use waits in a queue of its own.
        assert limiter.waiting_calls() == {"copy": 0, "check": 1, "read": 0}
        continuing.cancel()
        await asyncio.wait([continuing])
    await refusal_of(account.run(COPY, timeout=5))
    limiter.pause(100)
    await refusal_of(account.run(READ, timeout=5))
    refused = limiter.refused_calls()
    assert {key: number for key, number in refused.items() if number} == {
        ("copy", "calls_at_once"): 1,
        ("read", "calls_at_once"): 1,
        ("copy", "minute"): 1,
        ("read", "provider"): 1,
    }
    kinds = ("copy", "check", "read")
    limits = ("minute", "provider", "queue", "calls_at_once")
    assert refused.keys() == set(itertools.product(kinds, limits))
