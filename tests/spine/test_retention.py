"""How long records are kept, and that a failing ledger does not end the retention."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from campaign_gateway import app
from campaign_gateway.duplication import retention
from campaign_gateway.ledger.ids import new_id
from campaign_gateway.model import Campaign, Created, ErrorCode, Intent, Timing, Unknown, UserError

NOW = datetime.now(UTC)
INTENT = Intent(
    id="",
    attempt_id="n",
    scope="everyone",
    key="",
    fingerprint="f",
    provider="sonarly",
    account="sonarly",
    source_campaign_id="c1",
    requested_name=None,
    input="{}",
)


async def requested(ledger: Any, key: str, age: timedelta, outcome: Any) -> None:
    intent = replace(INTENT, id=new_id(), key=key)
    await ledger.begin(replace(intent, requested_name=key), NOW - age, None)
    await ledger.settle(intent, outcome, NOW - age, None)


async def test_settled_duplications_expire_and_are_deleted_and_unsettled_stay(
    ledger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    timing = Timing(retention_interval=0.01, retention_batch=2, retention_delay=0)
    unknown = Unknown(UserError(ErrorCode.OUTCOME_UNKNOWN, "no response"))
    for number in range(5):
        await requested(
            ledger, f"old {number}", timedelta(days=31), Created(Campaign(f"o{number}"))
        )
    await requested(ledger, "ancient", timedelta(days=401), Created(Campaign("ancient")))
    await requested(ledger, "young", timedelta(days=29), Created(Campaign("young")))
    await requested(ledger, "lost", timedelta(days=500), unknown)
    ledger.failures = {"expire": 1}

    keeping = asyncio.create_task(
        retention.retain(ledger, timedelta(days=30), timedelta(days=400), timing)
    )
    async with asyncio.timeout(10):
        while await ledger.find("everyone", "ancient") is not None:
            await asyncio.sleep(0.01)
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping

    assert "the ledger cannot be used: disk full" in caplog.text
    for number in range(5):
        assert (await ledger.find("everyone", f"old {number}")).expired
    for key in ("young", "lost"):
        assert not (await ledger.find("everyone", key)).expired


async def test_nothing_is_removed_for_an_hour_after_the_start_and_after_a_jump_of_the_clock(
    ledger: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await requested(ledger, "old", timedelta(days=31), Created(Campaign("old")))
    await requested(ledger, "young", timedelta(0), Created(Campaign("young")))
    passed, jump, rounds = 0.0, timedelta(0), 0

    def now() -> datetime:
        nonlocal rounds
        rounds += 1
        return NOW + timedelta(seconds=passed) + jump

    async def wait_for_rounds() -> None:
        # One that began before, and two more.
        until = rounds + 3
        while rounds < until:
            await asyncio.sleep(0.01)

    async def is_expired(key: str) -> bool:
        return bool((await ledger.find("everyone", key)).expired)

    monkeypatch.setattr(ledger, "now", now, raising=False)
    monkeypatch.setattr(retention, "monotonic", lambda: passed)
    timing = Timing(retention_interval=0.01)
    keeping = asyncio.create_task(
        retention.retain(ledger, timedelta(days=30), timedelta(days=400), timing)
    )
    async with asyncio.timeout(10):
        await wait_for_rounds()
        passed = 3590
        await wait_for_rounds()
        assert not await is_expired("old")
        passed = 3600
        while not await is_expired("old"):
            await asyncio.sleep(0.01)
        jump = timedelta(days=31)
        await wait_for_rounds()
        passed = 7190
        await wait_for_rounds()
        assert not await is_expired("young")
        passed = 7200
        while not await is_expired("young"):
            await asyncio.sleep(0.01)
    assert caplog.text.count("the clock of the ledger has jumped") == 1
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping


async def test_background_task_that_fails_is_restarted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs: list[int] = []
    done = asyncio.Event()

    async def task() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise RuntimeError("a bug in a chore")
        done.set()
        await asyncio.Event().wait()

    supervised = asyncio.create_task(app._supervise(task, restart_pause=0))
    await asyncio.wait_for(done.wait(), 5)
    supervised.cancel()
    await asyncio.wait([supervised])
    assert len(runs) == 3
    assert "a bug in a chore" in caplog.text
