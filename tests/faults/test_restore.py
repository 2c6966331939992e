"""A ledger is restored from a backup, which does not have the keys that were used after it."""

import asyncio
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from campaign_gateway.ledger.ids import new_id
from campaign_gateway.model import Campaign, DuplicationStatus
from support.commands import run
from support.faulty_provider import Provider
from support.gateways import (
    ask,
    configuration,
    intent,
    intents,
    launch,
    recorded,
    sent,
    serving,
)
from support.postgres import PostgresServer
from support.waiting import until, until_async

# Searches follow each other quickly.
CHANGES = {"timing": {"first_check_after": 0.1, "check_intervals": [0.2]}}

Restore = Callable[[Path], str]


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Restore]:
    """A ledger's URL, and what restores a backup of it and returns the URL of the result."""
    if request.param == "sqlite":

        def copy(backup: Path) -> str:
            shutil.copy(backup, tmp_path / "restored.db")
            return f"sqlite:///{tmp_path}/restored.db"

        return f"sqlite:///{tmp_path}/ledger.db", copy

    server: PostgresServer = request.getfixturevalue("postgres")
    if not (server.programs / "pg_dump").exists():
        assert "CAMPAIGN_GATEWAY_REQUIRE_POSTGRES" not in os.environ
        pytest.skip("this PostgreSQL has no pg_dump")
    monkeypatch.setenv("PATH", f"{server.programs}:{os.environ['PATH']}")

    def load(backup: Path) -> str:
        url = server.create_database()
        psql = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction"]
        subprocess.run([*psql, "-d", url, "-f", backup], check=True, capture_output=True)
        return url

    return server.create_database(), load


async def test_restored_ledger_makes_no_second_campaign(
    tmp_path: Path, ledger: tuple[str, Restore], provider: Provider, http: httpx.AsyncClient
) -> None:
    url, restore = ledger
    known, unknown, lost, fresh = (
        intent(fault, "g", "main") for fault in ("none", "fin-before-copy", "none", "none")
    )
    # The lost copy has the name for which the unknown one is searched.
    lost = replace(lost, called=unknown.name)
    provider.names[lost.name] = unknown.name
    config = configuration(tmp_path, url, {"main": provider.url}, timeout=20)
    backup = tmp_path / "backup"
    async with serving(config, CHANGES) as gateway:
        assert (await sent(http, gateway, known)).status == "CREATED"
        assert (await sent(http, gateway, unknown)).status == "UNKNOWN"
        done = await asyncio.to_thread(
            run, "ledger", "backup", str(backup), "--config", str(config)
        )
        assert done.returncode == 0, done.stderr
        assert (await sent(http, gateway, lost)).status == "CREATED"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600

    # A forgotten step is no second campaign.
    config = configuration(tmp_path, restore(backup), {"main": provider.url}, timeout=20)
    unsafe = launch(config, CHANGES)
    assert await unsafe.ended() == 1
    assert "Run `campaign-gateway ledger restored`" in unsafe.output()

    done = await asyncio.to_thread(run, "ledger", "restored", "--config", str(config))
    assert done.returncode == 0, done.stderr
    async with serving(config, CHANGES) as gateway:
        for wanted in (lost, fresh):
            response = await sent(http, gateway, wanted)
            assert (response.status, response.code, response.retry, response.replayed) == (
                "NOT_SENT",
                "IDEMPOTENCY_KEY_EXPIRED",
                "NO",
                False,
            )
            assert "UUID of version 7" in str(response.message)
        assert (await sent(http, gateway, known)).replayed
        timed = replace(fresh, key=new_id())
        assert (await sent(http, gateway, timed)).status == "CREATED"
        ready = (await http.get(f"{gateway.url}/readyz")).text
        assert re.search("warning: the ledger was restored and has no records from .+ to ", ready)
        # A search finds the lost copy, and leaves it to the operator.
        await until_async(lambda: candidates_of(config, unknown.key))
        record = (await recorded(ledger_of(config)))[unknown.key]
    assert [len(provider.intents[each.name].posts) for each in (lost, fresh)] == [1, 1]
    assert record.status is DuplicationStatus.UNKNOWN
    (candidate,) = record.candidates
    assert candidate.id in provider.intents[lost.name].copies

    done = await asyncio.to_thread(run, "ledger", "accept-keys", "--config", str(config))
    assert "are accepted" in done.stdout
    other = intent("none", "g", "main")
    async with serving(config, CHANGES) as gateway:
        assert (await sent(http, gateway, other)).status == "CREATED"
        assert (await http.get(f"{gateway.url}/readyz")).text == "ready\n"


@pytest.mark.long
async def test_restore_under_load_makes_no_second_campaign(
    tmp_path: Path, ledger: tuple[str, Restore], provider: Provider, http: httpx.AsyncClient
) -> None:
    """The backup is made while clients copy, and they all send their keys again after it."""
    url, restore = ledger
    faults = ["none", "slow", "fin-after-copy", "fin-before-copy", "refusal-409", "listed-late"]
    wanted = intents(faults * 25, group="load")
    config = configuration(tmp_path, url, {"main": provider.url}, timeout=20)
    async with serving(config, CHANGES) as gateway:
        where = gateway.url
        asking = [asyncio.create_task(ask(http, where, each)) for each in wanted]
        await until(lambda: sum(provider.has_copy(each.name) for each in wanted) > 10)
        back_up = ("ledger", "backup", str(tmp_path / "backup"), "--config", str(config))
        done = await asyncio.to_thread(run, *back_up)
        assert done.returncode == 0, done.stderr
        await asyncio.gather(*asking)
    config = configuration(
        tmp_path, restore(tmp_path / "backup"), {"main": provider.url}, timeout=20
    )
    done = await asyncio.to_thread(run, "ledger", "restored", "--config", str(config))
    assert done.returncode == 0, done.stderr
    known = await recorded(ledger_of(config))
    async with serving(config, CHANGES) as gateway:
        for _ in range(2):
            again = [await sent(http, gateway, each) for each in wanted]
            await asyncio.sleep(1)
    for each, response in zip(wanted, again, strict=True):
        assert len(provider.intents[each.name].posts) <= 1
        assert response.replayed is (each.key in known)
        if each.key not in known:
            assert (response.code, response.retry) == ("IDEMPOTENCY_KEY_EXPIRED", "NO")
        elif response.status == "CREATED":
            assert response.campaign in provider.intents[each.name].copies
    assert 0 < len(known) < len(wanted), "the backup is from the middle"


def ledger_of(config: Path) -> str:
    match = re.search(r'^url = "(.+)"$', config.read_text("utf-8"), re.MULTILINE)
    assert match is not None
    return match[1]


async def candidates_of(config: Path, key: str) -> Sequence[Campaign]:
    return (await recorded(ledger_of(config)))[key].candidates
