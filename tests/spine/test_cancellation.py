"""One call, cancelled at each of its awaits, as by a client that leaves or a gateway that stops."""

import asyncio
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import pytest

from campaign_gateway.accounts.account import Account
from campaign_gateway.duplication.service import DuplicationResult
from campaign_gateway.model import Duplication, DuplicationStatus
from support.open_duplicator import OpenDuplicator
from support.plain import NO_CAS

SOURCE = "507f1f77bcf86cd799439011"

# No call has more awaits. Without this limit, a test that never ends a call would run for ever.
MOST_AWAITS = 300


@dataclass
class Interruption:
    """Cancels the first task with this name when it waits for the `at`-th time."""

    name: str
    at: int
    waits: int = 0
    is_taken: bool = False
    is_done: bool = False

    def make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        **options: Any,
    ) -> asyncio.Task[Any]:
        assert isinstance(coroutine, Coroutine)
        if self.is_taken or getattr(coroutine, "__qualname__", None) != self.name:
            return asyncio.Task(coroutine, loop=loop, **options)
        self.is_taken = True

        def cancel_in_time() -> None:
            self.waits += 1
            if self.waits == self.at:
                self.is_done = True
                loop.call_soon(task.cancel)

        task = asyncio.Task(_watched(coroutine, cancel_in_time), loop=loop, **options)
        return task


async def _watched(coroutine: Coroutine[Any, Any, Any], before_wait: Callable[[], None]) -> Any:
    return await _steps_of(coroutine, before_wait)


@types.coroutine
def _steps_of(
    coroutine: Coroutine[Any, Any, Any], before_wait: Callable[[], None]
) -> Generator[Any, Any, Any]:
    """Run the coroutine as a task does, and call `before_wait` before each wait."""
    thrown: BaseException | None = None
    while True:
        try:
            awaited = coroutine.send(None) if thrown is None else coroutine.throw(thrown)
        except StopIteration as end:
            return end.value
        before_wait()
        thrown = None
        try:
            yield awaited
        except BaseException as error:  # noqa: BLE001 - a CancelledError must reach the coroutine
            thrown = error


@asynccontextmanager
async def interrupted(name: str, at: int) -> AsyncIterator[Interruption]:
    interruption = Interruption(name, at)
    loop = asyncio.get_running_loop()
    loop.set_task_factory(interruption.make_task)
    try:
        yield interruption
    finally:
        loop.set_task_factory(None)


@dataclass
class Counts:
    asked: int
    made: int


@pytest.fixture
def count_copies(provider: str) -> Any:
    """Returns how many copies were requested in total, and how many copies of a name exist."""

    async def look(name: str) -> Counts:
        async with httpx.AsyncClient(trust_env=False, verify=NO_CAS) as client:
            copies = (await client.get(f"{provider}/_emulator/copies")).json()
        return Counts(copies["asked"], sum(copy["name"] == name for copy in copies["copies"]))

    return look


async def assert_true_and_never_repeated(
    duplicator: OpenDuplicator,
    account: Account,
    ledger: Any,
    campaign: Any,
    count_copies: Any,
    asked_before: int,
) -> None:
    """Assert what must be true after a cancelled call, before and after a restart."""
    # Pending writes of the ledger and requests at the provider still take effect.
    await ledger.ledger.check()
    await asyncio.sleep(0.03)
    assert account.rate_limiter.running == 0
    assert duplicator._running == {}
    record = await ledger.ledger.find("everyone", campaign.name)
    counts = await count_copies(campaign.name)
    assert counts.asked <= asked_before + 1
    if record is None:
        assert counts.asked == asked_before, "nothing is sent without a record"
    else:
        assert_matches(record, counts)

    retrying = OpenDuplicator({"sonarly": account}, ledger.ledger, deadline=0.05)
    result = await ask(retrying, campaign)
    if record is not None:
        assert result.duplication == record
        assert result.replayed

    await retrying.drain()
    await ledger.reopen()
    after = OpenDuplicator({"sonarly": account}, ledger.ledger, deadline=5)
    result = await ask(after, campaign)
    counts = await count_copies(campaign.name)
    assert counts.asked <= asked_before + 1
    assert result.replayed
    assert result.duplication is not None
    assert result.duplication.status is not DuplicationStatus.IN_PROGRESS
    assert_matches(result.duplication, counts)
    if record is not None and record.status is DuplicationStatus.IN_PROGRESS:
        assert result.duplication.status is DuplicationStatus.UNKNOWN


def assert_matches(record: Duplication, counts: Counts) -> None:
    assert counts.made <= 1
    if counts.made:
        assert record.status is not DuplicationStatus.REJECTED
    else:
        assert record.status is not DuplicationStatus.CREATED


async def ask(duplicator: OpenDuplicator, campaign: Any) -> DuplicationResult:
    return await duplicator.ask(campaign.name, "sonarly", campaign)


@pytest.mark.parametrize("source", [SOURCE, "cut-after-copy", "not-found"])
async def test_caller_that_leaves_at_any_await_does_not_change_the_outcome(
    account: Account, ledger: Any, campaign: Any, count_copies: Any, source: str
) -> None:
    for at in count(1):
        assert at < MOST_AWAITS
        mine = campaign(source, name=f"Copy-{at}")
        duplicator = OpenDuplicator({"sonarly": account}, ledger.ledger, deadline=5)
        before = (await count_copies(mine.name)).asked
        async with interrupted("ask", at) as interruption:
            with suppress(asyncio.CancelledError):
                await asyncio.create_task(ask(duplicator, mine))
        await duplicator.drain()
        record = await ledger.ledger.find("everyone", mine.name)
        assert record is not None, "the call continued without its caller"
        assert record.status is not DuplicationStatus.IN_PROGRESS
        assert (await count_copies(mine.name)).asked == before + 1
        await assert_true_and_never_repeated(
            duplicator, account, ledger, mine, count_copies, before
        )
        if not interruption.is_done:
            break
    assert at > 1


# The task that a caller waits for, and the one that writes the record.
@pytest.mark.parametrize("name", ["Duplicator._run", "Ledger.begin"])
@pytest.mark.parametrize("source", [SOURCE, "cut-after-copy"])
async def test_call_cancelled_at_any_await_is_never_sent_twice(
    account: Account, ledger: Any, campaign: Any, count_copies: Any, name: str, source: str
) -> None:
    """The gateway stops without waiting for its calls."""
    statuses = set()
    for at in count(1):
        assert at < MOST_AWAITS
        mine = campaign(source, name=f"Copy-{at}")
        duplicator = OpenDuplicator({"sonarly": account}, ledger.ledger, deadline=5)
        before = (await count_copies(mine.name)).asked
        async with interrupted(name, at) as interruption:
            with suppress(asyncio.CancelledError):
                await ask(duplicator, mine)
        await assert_true_and_never_repeated(
            duplicator, account, ledger, mine, count_copies, before
        )
        record = await ledger.ledger.find("everyone", mine.name)
        statuses.add(record.status)
        if not interruption.is_done:
            break
    assert interruption.is_taken
    assert at > 1
    assert DuplicationStatus.UNKNOWN in statuses, (
        "some were cancelled after their record was written"
    )
