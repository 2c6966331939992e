"""Gateways of two versions at one ledger: during an update, and on the way back."""

import json
from dataclasses import replace
from pathlib import Path

import httpx
import psycopg
import pytest

from campaign_gateway.ledger.migrations import migrations
from campaign_gateway.model import DuplicationStatus
from support.commands import run
from support.faulty_provider import Provider
from support.gateways import configuration, intent, recorded, sent, serving
from support.ledgers import connected
from support.waiting import until

# Searches follow each other quickly.
CHANGES = {"timing": {"first_check_after": 0.1, "check_intervals": [0.2]}}

BACK = "start that version, or restore the backup that was made before the update"


async def test_gateway_that_runs_during_an_update_continues(
    tmp_path: Path, postgres_url: str, provider: Provider, http: httpx.AsyncClient
) -> None:
    newer = len(migrations("postgres")) + 1
    lost, later = intent("fin-before-copy", "g", "main"), intent("fin-after-copy", "g", "main")
    config = configuration(tmp_path, postgres_url, {"main": provider.url}, timeout=20)
    async with serving(config, CHANGES) as gateway:
        first = await sent(http, gateway, lost)
        assert first.status == "UNKNOWN"
        with psycopg.connect(postgres_url, autocommit=True) as database:
            database.execute("ALTER TABLE duplication ADD COLUMN later text DEFAULT 'new'")
            database.execute("INSERT INTO ledger_version VALUES (%s)", [newer])
            # The newer version has recorded an option that this version does not know.
            select = "SELECT input FROM duplication WHERE key = %s"
            row = database.execute(select, [lost.key]).fetchone()
            assert row is not None
            changed = json.dumps(json.loads(row[0]) | {"newer_option": True})
            update = "UPDATE duplication SET input = %s WHERE key = %s"
            database.execute(update, [changed, lost.key])
        await until(lambda: "the recorded input is not a" in gateway.output())
        # It searches for its own copies, copies, and replays.
        found = await sent(http, gateway, later)
        assert found.status == "UNKNOWN"
        await until(lambda: f"{found.duplication} is CREATED" in gateway.output())
        made = await sent(http, gateway, intent("none", "g", "main"))
        assert made.status == "CREATED"
        again = await sent(http, gateway, lost)
        assert (again.status, again.replayed) == ("UNKNOWN", True)
        other = await sent(http, gateway, replace(lost, called="Other"))
        assert other.code == "IDEMPOTENCY_KEY_REUSED"
    done = run("serve", "--config", str(config))
    assert (done.returncode, BACK in done.stderr) == (1, True)
    done = run("duplications", "list", "--config", str(config))
    assert (done.returncode, "use the version that created it" in done.stderr) == (1, True)
    with psycopg.connect(postgres_url, autocommit=True) as database:
        database.execute("DELETE FROM ledger_version WHERE version = %s", [newer])
    records = await recorded(postgres_url)
    assert records[lost.key].status is DuplicationStatus.UNKNOWN
    assert len(provider.intents[lost.name].posts) == 1


@pytest.mark.parametrize("command", ["serve", "duplications list", "ledger backup FILE"])
def test_older_version_says_what_to_do(tmp_path: Path, command: str) -> None:
    config = configuration(tmp_path, f"sqlite:///{tmp_path}/ledger.db", {"main": "http://[::1]:9"})
    with connected(tmp_path / "ledger.db") as database:
        database.execute(f"PRAGMA user_version = {len(migrations('sqlite')) + 1}")
    arguments = [str(tmp_path / "backup") if word == "FILE" else word for word in command.split()]
    done = run(*arguments, "--config", str(config))
    assert done.returncode == 1
    remedy = BACK if command == "serve" else "use that version's command"
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "backup").exists()
