"""What the metrics show of the ledger, also while its database does not respond."""

import asyncio
import re
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from prometheus_client import generate_latest

from campaign_gateway.app import create_app
from campaign_gateway.ledger import open_ledger, sql
from campaign_gateway.ledger.monitor import monitor
from campaign_gateway.model import DuplicationStatus, Intent, Timing, Unsettled
from campaign_gateway.observe import metrics
from campaign_gateway.observe.registry import REGISTRY
from campaign_gateway.observe.state import show_unsettled
from campaign_gateway.settings import parse_settings
from support.database_proxy import proxy_for
from support.prometheus import parse

WRITABLE = "campaign_gateway_ledger_writable"
FAILED_READS = 'campaign_gateway_ledger_failures_total{operation="read"}'


def read() -> Mapping[str, float]:
    return parse(generate_latest(REGISTRY).decode())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not holds():
            # Each look reads all metrics.
            await asyncio.sleep(0.1)


def labels_of(account: str, status: str, provider: str) -> str:
    return f'{{account="{account}",provider="{provider}",status="{status}"}}'


def test_unsettled_duplications_are_shown_by_account_and_status_with_the_oldest_age() -> None:
    metrics.show_accounts({"mail": "sendgrid"})
    now = datetime.now(UTC)
    unknown = {"mail": (3, 90), "renamed": (2, 500), "gone": (1, 700)}
    show_unsettled(
        [
            Unsettled(account, DuplicationStatus.UNKNOWN, number, now - timedelta(seconds=age))
            for account, (number, age) in unknown.items()
        ],
        now,
    )
    shown = read()
    mail = labels_of("mail", "UNKNOWN", "sendgrid")
    assert shown[f"campaign_gateway_unsettled{mail}"] == 3
    assert 90 <= shown[f"campaign_gateway_oldest_unsettled_seconds{mail}"] < 100
    # The age grows without another look into the ledger.
    assert (
        read()[f"campaign_gateway_oldest_unsettled_seconds{mail}"]
        > shown[f"campaign_gateway_oldest_unsettled_seconds{mail}"]
    )
    accepted = labels_of("mail", "ACCEPTED", "sendgrid")
    assert shown[f"campaign_gateway_unsettled{accepted}"] == 0
    assert shown[f"campaign_gateway_oldest_unsettled_seconds{accepted}"] == 0
    # Of accounts that the configuration no longer has: all together, with the oldest age.
    others = labels_of(metrics.NOT_CONFIGURED, "UNKNOWN", metrics.NOT_CONFIGURED)
    assert shown[f"campaign_gateway_unsettled{others}"] == 3
    assert 700 <= shown[f"campaign_gateway_oldest_unsettled_seconds{others}"] < 710
    assert not re.search("renamed|gone", "".join(shown))
    show_unsettled([], now)
    assert read()[f"campaign_gateway_unsettled{mail}"] == 0


def test_query_for_the_unsettled_reads_only_an_index(tmp_path: Path) -> None:
    async def create() -> None:
        await (await open_ledger(f"sqlite:///{tmp_path}/ledger.db")).close()

    asyncio.run(create())
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {sql.UNSETTLED}").fetchall()
    assert len(plan) == 1
    assert "COVERING INDEX duplication_unsettled" in plan[0][3]


async def test_stalled_database_does_not_delay_the_metrics(postgres_url: str) -> None:
    with proxy_for(postgres_url) as proxy:
        ledger = await open_ledger(proxy.url, timing=Timing(statement_timeout=1))
        watching = asyncio.create_task(monitor(ledger, 0.02))
        try:
            await until(lambda: read()[WRITABLE] == 1)
            failed = read()[FAILED_READS]
            proxy.is_stalled = True
            await until(lambda: read()[WRITABLE] == 0 and read()[FAILED_READS] > failed)
            began_at = monotonic()
            assert read()[WRITABLE] == 0
            assert monotonic() - began_at < 0.9
            proxy.is_stalled = False
            await until(lambda: read()[WRITABLE] == 1)
        finally:
            proxy.is_stalled = False
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await ledger.close()


async def test_ledger_whose_file_was_moved_is_shown_as_not_writable(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = await open_ledger(f"sqlite:///{path}")
    watching = asyncio.create_task(monitor(ledger, 0.02))
    try:
        await until(lambda: read()[WRITABLE] == 1)
        failed = read()['campaign_gateway_ledger_failures_total{operation="write"}']
        path.rename(tmp_path / "moved.db")
        await until(lambda: read()[WRITABLE] == 0)
        assert read()['campaign_gateway_ledger_failures_total{operation="write"}'] > failed
        (tmp_path / "moved.db").rename(path)
        await until(lambda: read()[WRITABLE] == 1)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await ledger.close()


async def test_checks_of_the_ledger_are_no_commits(tmp_path: Path) -> None:
    ledger = await open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    name = "campaign_gateway_ledger_commit_duration_seconds_count"
    try:
        before = read()[name]
        await ledger.check()
        assert read()[name] == before
    finally:
        await ledger.close()


async def test_delay_of_the_event_loop_is_measured() -> None:
    name = "campaign_gateway_event_loop_lag_seconds"
    before = read()
    measuring = asyncio.create_task(metrics.measure_loop_lag())
    await asyncio.sleep(0)
    # The timer of the measurement is due in between.
    time.sleep(metrics.LAG_INTERVAL + 0.3)  # noqa: ASYNC251 - it blocks the loop
    await until(lambda: read()[f"{name}_count"] > before[f"{name}_count"])
    measuring.cancel()
    assert read()[f"{name}_sum"] - before[f"{name}_sum"] >= 0.25


async def test_attempts_that_a_start_takes_over_are_counted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    intent: Any = dict.fromkeys(Intent.__slots__, "x") | {"account": "mail", "override_of": None}
    ledger = await open_ledger(url)
    await ledger.begin(Intent(**intent), datetime.now(UTC), None)
    await ledger.close()
    account = {"provider": "sendgrid", "api_key": "key"}
    table = {"ledger": {"url": url}, "accounts": {"mail": account}}
    series = (
        'campaign_gateway_duplications_total{account="mail",evidence="NONE",'
        'provider="sendgrid",status="UNKNOWN"}'
    )
    before = read().get(series, 0)
    app = await create_app(parse_settings(table, {}))
    await app.state.gateway.close()
    assert read()[series] == before + 1
