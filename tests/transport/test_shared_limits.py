"""Several gateways share the limits of an account through one small state in their database."""

import asyncio
import functools
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaign_gateway.accounts.transport import leases, shared_window
from campaign_gateway.accounts.transport.errors import TurnLost
from campaign_gateway.accounts.transport.leases import STANDING_SECONDS
from campaign_gateway.accounts.transport.rate_limit import CallKind, RateLimiter
from campaign_gateway.accounts.transport.shared_limits import SharedLimits
from campaign_gateway.accounts.transport.shared_window import LONGEST_LEASE, SharedWindow
from campaign_gateway.accounts.transport.turns import WINDOWS
from campaign_gateway.model import ErrorCode, Refused, UserError
from support.virtual_time import run_in_virtual_time

COPY, CHECK, READ = CallKind.COPY, CallKind.CHECK, CallKind.READ


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        run_in_virtual_time(test(*arguments, **named))

    return run


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Database:
    """The state of one account, behind a connection that takes up to `delay` seconds."""

    delay: float = 0.01
    is_down: bool = False
    loses_confirmations: bool = False
    text: str = "{}"
    version: int = 0
    paused_until: float = 0.0
    stores: int = 0
    choice: random.Random = field(default_factory=lambda: random.Random(7))

    async def wait(self) -> bool:
        """Return whether the database responds."""
        await asyncio.sleep(self.choice.uniform(0, self.delay))
        return not self.is_down


@dataclass
class Store:
    """One gateway's connection to the database. Its clock is not that of the loop."""

    database: Database
    gateway: str
    is_cut: bool = False

    async def load(self, account: str) -> tuple[str, int, float] | None:
        database = self.database
        if self.is_cut or not await database.wait():
            return None
        read = (database.text, database.version, 1e9 + now())
        await database.wait()
        return read

    async def store(self, account: str, state: str, version: int) -> bool | None:
        database = self.database
        if self.is_cut or not await database.wait():
            return None
        is_same = database.version == version
        if is_same:
            database.text, database.version = state, version + 1
            database.stores += 1
        await database.wait()
        return None if database.loses_confirmations else is_same

    async def pause(self, account: str, seconds: float) -> None:
        if await self.database.wait():
            self.database.paused_until = max(self.database.paused_until, now() + seconds)

    async def pauses(self) -> Mapping[str, float] | None:
        left = self.database.paused_until - now()
        return {"account": left} if left > 0 else {}


@dataclass
class Gateway:
    """A gateway with one account, and the calls that the provider has seen from all gateways."""

    limiter: RateLimiter
    store: Store
    seen: list[float]
    sent: list[tuple[float, CallKind]] = field(default_factory=list)

    async def run(
        self, kind: CallKind = COPY, calls: int = 1, seconds: float = 0.0, timeout: float = 1e6
    ) -> None:
        async with self.limiter.acquire(kind, timeout, calls) as permit:
            for _ in range(calls):
                await permit.wait_for_turn()
                permit.mark_sent()
                self.seen.append(now())
                self.sent.append((now(), kind))
                await asyncio.sleep(seconds)
                permit.learn(200, {})

    def windows(self) -> list[SharedWindow]:
        return [window for window in self.limiter.turns.windows if isinstance(window, SharedWindow)]


def gateways(
    number: int,
    per_minute: int | None,
    per_second: int | None = None,
    *,
    database: Database | None = None,
    at_once: int = 32,
) -> list[Gateway]:
    shared, seen = database or Database(), list[float]()
    return [
        Gateway(
            RateLimiter(at_once, per_minute, per_second, SharedLimits("account", store)),
            store,
            seen,
        )
        for store in (Store(shared, f"gateway-{index}") for index in range(number))
    ]


def most_in_window(times: Sequence[float], seconds: float) -> int:
    """Return the most calls in any half-open window. The loop's timers may be early by its step."""
    ordered = sorted(times)
    most = first = 0
    for last, time in enumerate(ordered):
        while ordered[first] < time - seconds + 1e-6:
            first += 1
        most = max(most, last - first + 1)
    return most


async def refusal_of(attempt: Coroutine[Any, Any, None]) -> UserError:
    with pytest.raises(Refused) as raised:
        await attempt
    return raised.value.error


@pytest.mark.parametrize(
    ("number", "per_minute", "per_second"),
    [(1, 50, 10), (3, 60, 10), (3, 60, None), (3, None, 10), (3, 2, None), (3, 15, 1)],
)
@in_virtual_time
async def test_gateways_together_use_the_limit_and_never_more(
    number: int, per_minute: int | None, per_second: int | None
) -> None:
    several = gateways(number, per_minute, per_second)
    copies = 2 * (per_minute or per_second or 0) + 6
    await asyncio.gather(*(several[index % number].run() for index in range(copies)))
    times = several[0].seen
    assert len(times) == copies
    windows = [("minute", per_minute), ("second", per_second)]
    for name, limit in [(name, limit) for name, limit in windows if limit is not None]:
        assert most_in_window(times, WINDOWS[name]) <= limit
    # Little time is lost between the gateways.
    fastest = max(
        (copies - 1) // limit * WINDOWS[name] for name, limit in windows if limit is not None
    )
    assert max(times) <= 1.2 * fastest + 35
    for gateway in several:
        assert copies // number <= len(gateway.sent) <= copies // number + 1


@in_virtual_time
async def test_rare_calls_need_no_exchange_and_many_calls_share_one() -> None:
    database = Database()
    several = gateways(3, 160, database=database)
    await asyncio.sleep(1)
    stores = database.stores
    for _ in range(10):
        await several[0].run()
        await asyncio.sleep(5)
    assert database.stores == stores
    await asyncio.gather(*(several[index % 3].run() for index in range(90)))
    assert database.stores - stores <= 12


@pytest.mark.parametrize("per_minute", [1, 2])
@in_virtual_time
async def test_small_limit_starves_no_gateway(per_minute: int) -> None:
    # Which gateway gets the next call is random, so the smallest limit needs the longest time.
    several, minutes = gateways(3, per_minute), max(12, 48 // per_minute)

    async def repeat(gateway: Gateway) -> None:
        while now() < 60 * minutes:
            with suppress(Refused):
                await gateway.run(timeout=20)
            await asyncio.sleep(8)

    await asyncio.gather(*(repeat(gateway) for gateway in several for _ in range(3)))
    assert most_in_window(several[0].seen, WINDOWS["minute"]) <= per_minute
    for gateway in several:
        assert len(gateway.sent) >= 0.5 * minutes * per_minute / 3


@pytest.mark.parametrize("per_minute", [6, 9])
@in_virtual_time
async def test_gateways_that_need_several_calls_at_once_do_not_wait_for_each_other(
    per_minute: int,
) -> None:
    several = gateways(3, per_minute)
    copies = [each.run(calls=3, timeout=1e4) for each in several for _ in range(4)]
    await asyncio.gather(*copies)
    assert now() <= 36 / (per_minute - per_minute % 3 - 3) * 61 + 61


@in_virtual_time
async def test_one_busy_gateway_leaves_their_part_to_the_others() -> None:
    several = gateways(3, 60)
    busy = [asyncio.create_task(several[0].run()) for _ in range(125)]
    await asyncio.sleep(30)
    late = [asyncio.create_task(gateway.run()) for gateway in several[1:] for _ in range(20)]
    await asyncio.gather(*late)
    # They have waited for the next minute only, although the first one had waited for longer.
    assert now() < 65
    for task in busy:
        task.cancel()
    await asyncio.wait(busy)


@in_virtual_time
async def test_reads_of_all_gateways_together_leave_half_to_copies() -> None:
    several = gateways(3, 100)
    minutes = 4

    async def repeat(gateway: Gateway) -> None:
        while now() < 60 * minutes:
            with suppress(Refused):
                await gateway.run(READ, timeout=5)
            await asyncio.sleep(0.5)

    await asyncio.gather(*(repeat(gateway) for gateway in several for _ in range(8)))
    assert 0.75 * 50 * minutes <= len(several[0].seen) <= 50 * (minutes + 1)
    start = now()
    await asyncio.gather(*(several[index % 3].run() for index in range(50)), repeat(several[0]))
    assert now() - start < 10


@in_virtual_time
async def test_checks_find_room_that_only_the_database_knows() -> None:
    first, second = gateways(2, 40)
    await asyncio.sleep(1)
    assert first.limiter.free_checks(30, calls=4) > 0
    await asyncio.gather(*(second.run(timeout=1) for _ in range(30)), first.run(CHECK, calls=4))


@in_virtual_time
async def test_seconds_to_wait_are_true() -> None:
    several = gateways(3, 30)
    await asyncio.gather(*(several[index % 3].run() for index in range(30)))
    await asyncio.sleep(10)
    for gateway in several:
        error = await refusal_of(gateway.run(timeout=20))
        assert error.code is ErrorCode.RATE_LIMITED
        assert 45 <= (error.retry_after or 0) <= 62
        assert "`calls_per_minute`" in error.message
    await asyncio.sleep(62)
    await asyncio.gather(*(gateway.run(timeout=1) for gateway in several))


@in_virtual_time
async def test_waiting_callers_are_refused_when_others_have_used_the_limit() -> None:
    first, second = gateways(2, 20)
    await asyncio.gather(*(first.run() for _ in range(19)))
    started = now()
    errors = await asyncio.gather(
        *(second.run(timeout=20) for _ in range(10)), return_exceptions=True
    )
    refused = [each for each in errors if isinstance(each, Refused)]
    assert len(refused) >= 9
    assert now() - started < 3


@in_virtual_time
async def test_lease_is_not_used_after_its_end() -> None:
    """As in a process that was stopped: nothing has renewed its lease."""
    first, second = gateways(2, 20)
    await asyncio.sleep(1)
    async with AsyncExitStack() as held:
        permits = [await held.enter_async_context(first.limiter.acquire(COPY, 1)) for _ in range(8)]
        first.store.is_cut = True
        await asyncio.sleep(LONGEST_LEASE + 1)
        # Its standing share is one call.
        permits[0].mark_sent()
        with pytest.raises(TurnLost):
            permits[1].mark_sent()
        # In the next minute the other gateway may use all but both standing shares.
        await asyncio.sleep(WINDOWS["minute"])
        await asyncio.gather(*(second.run(timeout=1) for _ in range(19)))


@in_virtual_time
async def test_permit_gets_another_lease_if_its_own_has_ended_during_an_outage() -> None:
    database = Database()
    (gateway,) = gateways(1, 20, database=database)
    await asyncio.sleep(1)
    async with AsyncExitStack() as held:
        permits = [
            await held.enter_async_context(gateway.limiter.acquire(COPY, 300)) for _ in range(5)
        ]
        database.is_down = True
        await asyncio.sleep(LONGEST_LEASE + 1)
        waiting = [asyncio.create_task(permit.wait_for_turn()) for permit in permits]
        await asyncio.sleep(5)
        database.is_down = False
        await asyncio.gather(*waiting)
        for permit in permits:
            permit.mark_sent()


@in_virtual_time
async def test_without_the_database_each_gateway_uses_its_lease_and_then_its_standing_share() -> (
    None
):
    database = Database()
    several = gateways(4, 100, database=database)
    await asyncio.gather(*(gateway.run() for gateway in several for _ in range(20)))
    database.is_down = True
    down_at = now()

    async def repeat(gateway: Gateway) -> None:
        while now() < down_at + 280:
            with suppress(Refused):
                await gateway.run(timeout=20)
            await asyncio.sleep(1)

    await asyncio.gather(*(repeat(gateway) for gateway in several for _ in range(3)))
    assert most_in_window(several[0].seen, WINDOWS["minute"]) <= 100
    for gateway in several:
        without = [time for time, _ in gateway.sent if time > down_at + 61]
        assert 6 * 3 <= len(without) <= 6 * 4
    await asyncio.sleep(STANDING_SECONDS)
    assert (await refusal_of(several[0].run(timeout=5))).code is ErrorCode.OVERLOADED
    database.is_down = False
    await asyncio.sleep(1)
    await asyncio.gather(*(several[0].run(timeout=5) for _ in range(80)))


@in_virtual_time
async def test_gateway_that_stops_gives_back_everything_and_a_killed_one_does_not() -> None:
    first, second, third = gateways(3, 100)
    await asyncio.gather(*(first.run() for _ in range(3)), second.run())
    await first.limiter.close()
    state = leases.parse_state(second.store.database.text)
    assert [(each.standing, each.leased) for each in [state["minute"]["gateway-0"]]] == [(0, 0)]
    await asyncio.sleep(3)
    # What it sent counts, and nothing else: 3 of the first, and a standing share of the third.
    await asyncio.gather(*(second.run(timeout=1) for _ in range(100 - 1 - 3 - 6)))
    assert (await refusal_of(second.run(timeout=1))).code is ErrorCode.RATE_LIMITED
    await second.limiter.close()
    await third.limiter.close()


@in_virtual_time
async def test_closing_does_not_wait_for_a_database_that_is_down() -> None:
    database = Database()
    (gateway,) = gateways(1, 100, database=database)
    await gateway.run()
    database.is_down, database.delay = True, 1000
    await gateway.limiter.close()
    assert now() < 5


@in_virtual_time
async def test_database_whose_clock_was_set_back_blocks_no_account_for_long() -> None:
    (gateway,) = gateways(1, 20)
    await asyncio.gather(*(gateway.run() for _ in range(20)))
    await asyncio.sleep(6)
    database = gateway.store.database
    state = leases.parse_state(database.text)
    for holdings in state.values():
        for holding in holdings.values():
            holding.used = [(until + 1e6, calls) for until, calls in holding.used]
            holding.seen_at += 1e6
            holding.lease_ends_at += 1e6
    database.text, database.version = leases.dump_state(state), database.version + 1
    await asyncio.sleep(leases.LONGEST_COUNT * WINDOWS["minute"] + 70)
    await asyncio.gather(*(gateway.run(timeout=5) for _ in range(20)))


@in_virtual_time
async def test_pause_of_one_gateway_is_stored_for_the_others_and_read_by_them() -> None:
    first, second = gateways(2, None)
    async with first.limiter.acquire(COPY, 1) as permit:
        permit.mark_sent()
        permit.learn(429, {"retry-after": "30"})
    await asyncio.sleep(1)
    left = (await second.store.pauses() or {})["account"]
    assert left == pytest.approx(29, abs=0.1)
    second.limiter.learn_pause(left)
    error = await refusal_of(second.run(timeout=5))
    assert error.code is ErrorCode.RATE_LIMITED
    assert error.retry_after in {29, 30}
    # It does not store again what it has read.
    await asyncio.sleep(1)
    assert second.store.database.paused_until == pytest.approx(30, abs=0.1)


# --- random schedules -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What one caller does at one gateway. A call without seconds before it is not sent."""

    gateway: int
    starts_at: float
    kind: CallKind
    timeout: float
    calls: Sequence[tuple[float | None, float]]


@dataclass(frozen=True)
class Trouble:
    """What happens to the database, or to one gateway's connection to it."""

    starts_at: float
    seconds: float
    what: str
    gateway: int


SECONDS = st.floats(0, 30, width=16)
PLANS = st.lists(
    st.builds(
        Plan,
        st.integers(0, 2),
        st.floats(0, 150, width=16),
        st.sampled_from(CallKind),
        SECONDS,
        st.lists(st.tuples(st.none() | st.floats(0, 20, width=16), SECONDS), max_size=4),
    ),
    max_size=60,
)
TROUBLES = st.lists(
    st.builds(
        Trouble,
        st.floats(0, 150, width=16),
        st.floats(0, 100, width=16),
        st.sampled_from(["down", "cut", "slow", "loses confirmations", "closes"]),
        st.integers(0, 2),
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=20)
@given(PLANS, TROUBLES, st.none() | st.integers(1, 40), st.none() | st.integers(1, 9))
def test_limits_hold_whatever_happens_to_gateways_and_database(
    plans: Sequence[Plan],
    troubles: Sequence[Trouble],
    per_minute: int | None,
    per_second: int | None,
) -> None:
    run_in_virtual_time(follow(plans, troubles, per_minute, per_second))


async def follow(
    plans: Sequence[Plan],
    troubles: Sequence[Trouble],
    per_minute: int | None,
    per_second: int | None,
) -> None:
    several = gateways(3, per_minute, per_second, at_once=8)
    causing = [asyncio.create_task(cause(trouble, several)) for trouble in troubles]
    await asyncio.gather(*(act(plan, several[plan.gateway]) for plan in plans))
    for limit, name in ((per_minute, "minute"), (per_second, "second")):
        if limit is not None:
            assert most_in_window(several[0].seen, WINDOWS[name]) <= limit
    await asyncio.gather(*causing)
    # When nothing counts any more, the whole limit is free again.
    await asyncio.sleep(STANDING_SECONDS + 400)
    for gateway in several:
        assert gateway.limiter.running == 0
        await gateway.limiter.close()
    if per_minute is not None and per_second is None:
        (last,) = gateways(1, per_minute, database=several[0].store.database)
        await asyncio.gather(*(last.run(timeout=10) for _ in range(per_minute)))
        await last.limiter.close()


async def act(plan: Plan, gateway: Gateway) -> None:
    await asyncio.sleep(plan.starts_at)
    calls = max(1, len(plan.calls))
    with suppress(Refused, TurnLost):
        async with gateway.limiter.acquire(plan.kind, plan.timeout, calls) as permit:
            for before, after in plan.calls:
                await permit.wait_for_turn()
                if before is not None:
                    await asyncio.sleep(before)
                    await permit.wait_for_turn()
                    permit.mark_sent()
                    gateway.seen.append(now())
                    await asyncio.sleep(after)


async def cause(trouble: Trouble, several: Sequence[Gateway]) -> None:
    gateway = several[trouble.gateway]
    database = gateway.store.database
    await asyncio.sleep(trouble.starts_at)
    match trouble.what:
        case "down":
            database.is_down = True
        case "cut":
            gateway.store.is_cut = True
        case "slow":
            database.delay = 5
        case "loses confirmations":
            database.loses_confirmations = True
        case "closes":
            await gateway.limiter.close()
    await asyncio.sleep(trouble.seconds)
    gateway.store.is_cut = database.is_down = database.loses_confirmations = False
    database.delay = 0.01


def _lease_that_ends_counts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    real = leases._forget

    def forget(holdings: Any, report: Any, time: float) -> None:
        for holding in holdings.values():
            if holding.lease_ends_at <= time:
                holding.leased = 0
        real(holdings, report, time)

    monkeypatch.setattr(leases, "_forget", forget)


def _lease_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def backed(self: SharedWindow, time: float) -> int:
        return self._leased + self._free_standing(time)

    monkeypatch.setattr(SharedWindow, "_backed", backed)


def _state_is_stored_without_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Store.store

    async def store(self: Store, account: str, state: str, version: int) -> bool | None:
        return await real(self, account, state, self.database.version)

    monkeypatch.setattr(Store, "store", store)


def _standing_share_is_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_window, "STANDING_SECONDS", 1e9)


async def press(sends_at: float) -> int:
    """Return the most calls in a minute, of 20 allowed ones.

    The first gateway is cut off from the database after it has got turns, and uses them at a time.
    The others take all that they can get.
    """
    first, second, third = gateways(3, 20, database=Database(delay=0.1))
    await asyncio.sleep(1)

    async def act_late() -> None:
        with suppress(TurnLost):
            async with first.limiter.acquire(COPY, 1) as permit:
                await asyncio.sleep(sends_at - now())
                permit.mark_sent()
                first.seen.append(now())

    acting = [asyncio.create_task(act_late()) for _ in range(5)]
    await asyncio.sleep(0.5)
    first.store.is_cut = True
    others = [asyncio.create_task(each.run()) for each in (second, third) for _ in range(25)]
    await asyncio.sleep(150)
    for task in (*acting, *others):
        task.cancel()
    await asyncio.wait([*acting, *others])
    return most_in_window(first.seen, WINDOWS["minute"])


BUGS = [
    (_lease_that_ends_counts_no_more, 14),
    (_lease_does_not_end, 70),
    (_state_is_stored_without_its_version, 14),
    (_standing_share_is_for_ever, 100),
]


@pytest.mark.parametrize(("bug", "sends_at"), BUGS)
def test_broken_protocol_exceeds_the_limit(
    bug: Callable[[pytest.MonkeyPatch], None], sends_at: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "STANDING_SECONDS", 30.0)
    monkeypatch.setattr(shared_window, "STANDING_SECONDS", 30.0)
    assert run_in_virtual_time(press(sends_at)) <= 20
    bug(monkeypatch)
    assert run_in_virtual_time(press(sends_at)) > 20
