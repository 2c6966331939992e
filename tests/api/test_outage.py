"""Reads while the ledger is unavailable: an expected failure with its own error code."""

import asyncio
import logging
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from campaign_gateway.ledger.engine import LedgerUnavailable
from campaign_gateway.ledger.sqlite import SqliteEngine
from support.edge import Edge, edge
from support.gateways import Gateway, ask, calling, configuration, intents, serving
from support.postgres import PostgresServer

# One server for all tests, so its event loop must live longer than each of them.
pytestmark = pytest.mark.asyncio(loop_scope="module")

UNKNOWN_ID = "01a1fc11-f409-7f4c-896d-1e7a6380c7f8"

COPY = """mutation Copy($name: String, $key: String!) { duplicateCampaign(
  input: { sonarly: { accountGroupId: "507f1f77bcf86cd799439001", name: $name
    audienceId: "507f1f77bcf86cd799439021", campaignId: "507f1f77bcf86cd799439011" } }
  idempotencyKey: $key
) { duplication { id } } }"""

READS = {
    "duplication": f'duplication(id: "{UNKNOWN_ID}") {{ id }}',
    "duplicationByKey": 'duplicationByKey(idempotencyKey: "k") { id }',
    "duplications": "duplications { edges { cursor } }",
    "campaign": 'campaign(account: "braze", id: "c1") { id }',
}

WATCH = """query Watch($id: ID!, $wait: Int!) {
  duplication(id: $id, waitSeconds: $wait) { status } }"""

HOP = """query Hop($keys: [_Any!]!) { _entities(representations: $keys) {
  __typename ... on Duplication { id } } }"""


class Outage:
    """Makes every read of the ledger fail while `is_on`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_on = True
        self.reads = 0
        real = SqliteEngine.read

        async def read(engine: SqliteEngine, *arguments: Any) -> Any:
            self.reads += 1
            if self.is_on:
                raise LedgerUnavailable("disk I/O error")
            return await real(engine, *arguments)

        monkeypatch.setattr(SqliteEngine, "read", read)


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Outage:
    return Outage(monkeypatch)


async def duplicated(gateway: Edge) -> str:
    """Make a copy, and return the id of its duplication."""
    key = str(uuid.uuid4())
    payload = await gateway.data(COPY, {"key": key, "name": key})
    duplication_id: str = payload["duplicateCampaign"]["duplication"]["id"]
    return duplication_id


def check_error(error: dict[str, Any]) -> None:
    assert error["extensions"] == {"code": "LEDGER_UNAVAILABLE"}
    assert "Nothing was changed. Try again" in error["message"]


def check_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    errors = [record for record in caplog.records if "cannot be read" in record.getMessage()]
    assert [(error.levelno, error.exc_info) for error in errors] == [(logging.ERROR, None)]
    assert "an internal error of the gateway" not in caplog.text


@pytest.mark.parametrize("read", READS)
async def test_read_during_an_outage_has_the_code_ledger_unavailable(
    gateway: Edge, outage: Outage, caplog: pytest.LogCaptureFixture, read: str
) -> None:
    response = await gateway.post(f"{{ {READS[read]} }}")
    assert response.status_code == 200
    (error,) = response.json()["errors"]
    check_error(error)
    assert error["path"] == [read]
    check_logged_once(caplog)
    assert "disk I/O error" in caplog.text
    assert "disk I/O error" not in response.text


async def test_outage_is_logged_once_per_request(
    gateway: Edge, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    fields = " ".join(
        f"a{number}: {field}"
        for number, field in enumerate([READS["duplication"], READS["duplicationByKey"]] * 4)
    )
    content = (await gateway.post(f"{{ accounts {{ name }} {fields} }}")).json()
    assert content["data"]["accounts"], "a field that needs no ledger has data"
    assert len(content["errors"]) == 8
    for error in content["errors"]:
        check_error(error)
    check_logged_once(caplog)


async def test_each_entity_that_needs_the_ledger_gets_its_own_error(
    gateway: Edge, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    keys = [
        {"__typename": "Duplication", "id": UNKNOWN_ID},
        {"__typename": "Campaign", "account": "no-such-account", "id": "c1"},
        {"__typename": "Campaign", "account": "braze", "id": "c1"},
        {"__typename": "Duplication", "id": "no id"},
    ]
    content = (await gateway.post(HOP, {"keys": keys})).json()
    assert content["data"] == {"_entities": [None] * 4}
    by_place = {error["path"][-1]: error for error in content["errors"]}
    assert by_place.keys() == {0, 1, 2, 3}
    assert "There is no account" in by_place.pop(1)["message"]
    for error in by_place.values():
        check_error(error)
    check_logged_once(caplog)


async def test_wait_continues_after_a_short_outage(gateway: Edge, outage: Outage) -> None:
    outage.is_on = False
    duplication_id = await duplicated(gateway)
    outage.is_on, outage.reads = True, 0
    watching = asyncio.create_task(gateway.data(WATCH, {"id": duplication_id, "wait": 20}))
    async with asyncio.timeout(40):
        while outage.reads < 2:
            await asyncio.sleep(0.01)
    outage.is_on = False
    assert await watching == {"duplication": {"status": "CREATED"}}


async def test_wait_that_ends_during_an_outage_returns_its_error(
    gateway: Edge, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    began = monotonic()
    content = (await gateway.post(WATCH, {"id": UNKNOWN_ID, "wait": 1})).json()
    assert monotonic() - began >= 1
    (error,) = content["errors"]
    check_error(error)
    assert outage.reads > 1
    check_logged_once(caplog)


async def test_wait_ends_even_if_the_ledger_hangs(
    gateway: Edge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(SqliteEngine, "read", hang)
    async with asyncio.timeout(40):
        content = (await gateway.post(WATCH, {"id": UNKNOWN_ID, "wait": 1})).json()
    check_error(content["errors"][0])
    check_logged_once(caplog)


@pytest.mark.asyncio(loop_scope="function")
async def test_ledger_changed_by_a_newer_version_is_reported_as_unavailable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with edge(tmp_path) as running:
        duplication_id = await duplicated(running)
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
            connection.execute("ALTER TABLE duplication RENAME COLUMN expired TO is_expired")
        query = f'{{ duplication(id: "{duplication_id}") {{ id }} }}'
        (error,) = (await running.post(query)).json()["errors"]
    check_error(error)
    assert "no such column" in caplog.text
    assert "no such column" not in error["message"]


# --- PostgreSQL -----------------------------------------------------------------------------------


async def read(http: httpx.AsyncClient, gateway: Gateway, field: str) -> dict[str, Any]:
    query = READS[field].replace("braze", "main")
    response = await http.post(f"{gateway.url}/graphql", json={"query": f"{{ {query} }}"})
    assert response.status_code == 200
    content: dict[str, Any] = response.json()
    return content


@pytest.mark.asyncio(loop_scope="function")
@pytest.mark.parametrize("failure", ["killed", "paused"])
async def test_reads_fail_while_postgres_is_gone_and_work_again_afterwards(
    tmp_path: Path, own_postgres: PostgresServer, failure: str
) -> None:
    patience = {"timing": {"statement_timeout": 1.0}}
    # No provider is needed, so nothing listens on this port.
    config = configuration(tmp_path, own_postgres.create_database(), {"main": "http://127.0.0.1:9"})
    async with serving(config, patience) as gateway, calling() as http:
        await ask(http, gateway.url, intents(["none"], ["main"])[0])
        own_postgres.kill() if failure == "killed" else own_postgres.pause()
        try:
            responses = await asyncio.gather(*(read(http, gateway, field) for field in READS))
        finally:
            own_postgres.start() if failure == "killed" else own_postgres.resume()
        for response in responses:
            check_error(response["errors"][0])
        assert gateway.output().count("the ledger cannot be read") == len(READS)
        assert "Traceback" not in gateway.output()
        async with asyncio.timeout(30):
            while "errors" in (again := await read(http, gateway, "duplications")):
                check_error(again["errors"][0])
        assert again["data"]["duplications"]["edges"] == []
