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


async def test_jump_of_the_clock_is_told_and_delays_the_removal(
    ledger: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await requested(ledger, "settled", timedelta(0), Created(Campaign("c1")))
    jump, seen = timedelta(0), asyncio.Event()

    def now() -> datetime:
        seen.set()
        return datetime.now(UTC) + jump

    monkeypatch.setattr(ledger, "now", now, raising=False)
    timing = Timing(retention_interval=0.01, retention_delay=3600)
    keeping = asyncio.create_task(
        retention.retain(ledger, timedelta(days=30), timedelta(days=400), timing)
    )
    await asyncio.wait_for(seen.wait(), 10)
    jump = timedelta(days=401)
    async with asyncio.timeout(10):
        while "the clock of the ledger was set" not in caplog.text:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert not keeping.done()
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
    assert caplog.text.count("the clock of the ledger was set") == 1
    assert not (await ledger.find("everyone", "settled")).expired


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
