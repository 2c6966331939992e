"""`duplication(id:, waitSeconds:)`: one request, answered when there is something to tell."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
import pytest_asyncio

from support.edge import Edge, edge
from support.plain import NO_CAS

# One server for all the cases; its loop must outlive each of them.
pytestmark = pytest.mark.asyncio(loop_scope="module")

# How long what comes at once may take on a busy machine; each is told to wait much longer.
AT_ONCE = 4.0

BRAZE = 'braze: { campaignId: "0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10", name: $name }'
SONARLY = """sonarly: { accountGroupId: "507f1f77bcf86cd799439001", name: $name
  audienceId: "507f1f77bcf86cd799439021", campaignId: "%s" }"""
SOURCE = "507f1f77bcf86cd799439011"

WATCH = """query Watch($id: ID!, $wait: Int! = 0) {
  duplication(id: $id, waitSeconds: $wait) { status evidence campaign { name } settledAt } }"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    async with edge(tmp_path_factory.mktemp("waiting")) as running:
        yield running


async def duplicated(gateway: Edge, campaign: str, key: str | None = None) -> str:
    """The id of the new duplication."""
    query = f"""mutation Copy($name: String!, $key: String!) {{ duplicateCampaign(
      input: {{ {campaign} }}, idempotencyKey: $key) {{ duplication {{ id }} }} }}"""
    key = key or str(uuid.uuid4())
    payload = await gateway.data(query, {"key": key, "name": f"Copy {key}"})
    found: str = payload["duplicateCampaign"]["duplication"]["id"]
    return found


async def watched(gateway: Edge, duplication_id: str, wait: int) -> tuple[Any, float]:
    """What is told, and after how many seconds."""
    began = monotonic()
    found = await gateway.data(WATCH, {"id": duplication_id, "wait": wait})
    return found["duplication"], monotonic() - began


async def test_what_is_settled_is_told_at_once(gateway: Edge) -> None:
    for source, status in ((SOURCE, "CREATED"), ("not-found", "REJECTED")):
        found, took = await watched(gateway, await duplicated(gateway, SONARLY % source), 20)
        assert found["status"] == status
        assert found["settledAt"]
        assert took < AT_ONCE


async def test_what_does_not_exist_is_told_at_once(gateway: Edge) -> None:
    for unknown in ("01a1fc11-f409-7f4c-896d-1e7a6380c7f8", "x", "", "\ud800"):
        found, took = await watched(gateway, unknown, 20)
        assert found is None
        assert took < AT_ONCE


async def test_an_accepted_copy_is_told_when_it_is_found(gateway: Edge) -> None:
    duplication_id = await duplicated(gateway, BRAZE)
    at_first, took = await watched(gateway, duplication_id, 0)
    assert at_first["status"] == "ACCEPTED"
    assert took < AT_ONCE
    found, took = await watched(gateway, duplication_id, 20)
    assert found["status"] == "CREATED"
    assert found["campaign"]["name"].startswith("Copy ")
    assert took < 15


async def test_a_call_under_way_is_told_when_it_ends(gateway: Edge) -> None:
    key = str(uuid.uuid4())
    call = asyncio.create_task(duplicated(gateway, SONARLY % "slow", key))
    query = "query ($key: String!) { duplicationByKey(idempotencyKey: $key) { id status } }"
    async with asyncio.timeout(20):
        while not (recorded := (await gateway.data(query, {"key": key}))["duplicationByKey"]):
            await asyncio.sleep(0.05)
    assert recorded["status"] == "IN_PROGRESS"
    found, took = await watched(gateway, recorded["id"], 20)
    assert (found["status"], found["evidence"]) == ("CREATED", "RESPONSE")
    assert took < 15
    assert await call == recorded["id"]


async def test_a_lost_answer_is_told_when_reading_has_found_the_copy(gateway: Edge) -> None:
    found, took = await watched(gateway, await duplicated(gateway, SONARLY % "cut-after-copy"), 20)
    assert (found["status"], found["evidence"]) == ("CREATED", "INFERRED")
    assert took < 15


async def test_what_stays_unknown_is_told_after_the_wait(gateway: Edge) -> None:
    duplication_id = await duplicated(gateway, SONARLY % "cut-before-copy")
    for wait in (0, 1):
        found, took = await watched(gateway, duplication_id, wait)
        assert found["status"] == "UNKNOWN"
        assert found["settledAt"] is None
        assert wait <= took < wait + AT_ONCE


async def test_how_long_one_can_wait(gateway: Edge) -> None:
    duplication_id = await duplicated(gateway, SONARLY % SOURCE)
    for wait in (-1, 21, -(2**31), 2**31 - 1):
        for asked in (duplication_id, "unknown"):
            answer = (await gateway.post(WATCH, {"id": asked, "wait": wait})).json()
            (error,) = answer["errors"]
            assert answer["data"] == {"duplication": None}, wait
            assert error["path"] == ["duplication"]
            assert "'waitSeconds'" in error["message"], error
            assert "between 0 and 20" in error["message"], error
    wrongs: list[object] = [None, 2**31, -(2**31) - 1, 0.5, "1", True, [1], {}]
    for wrong in wrongs:
        (message,) = await gateway.refused(WATCH, {"id": duplication_id, "wait": wrong})
        assert "$wait" in message
    for written in ("null", "2147483648", "1.5", '"1"', "true", "[1.5]"):
        query = f'{{ duplication(id: "{duplication_id}", waitSeconds: {written}) {{ status }} }}'
        assert await gateway.refused(query)
    settled = {"duplication": {"status": "CREATED"}}
    for written in ("", ", waitSeconds: 0", ", waitSeconds: 20"):
        query = f'{{ duplication(id: "{duplication_id}"{written}) {{ status }} }}'
        assert await gateway.data(query) == settled


async def test_several_waits_of_one_request_go_on_together(gateway: Edge) -> None:
    unknown = await duplicated(gateway, SONARLY % "cut-before-copy")
    settled = await duplicated(gateway, SONARLY % SOURCE)
    fields = "".join(
        f'a{number}: duplication(id: "{each}", waitSeconds: 1) {{ status }} '
        for number, each in enumerate([unknown, settled] * 5)
    )
    began = monotonic()
    found = await gateway.data(f"{{ {fields} }}")
    assert monotonic() - began < 1 + AT_ONCE
    assert [each["status"] for each in found.values()] == ["UNKNOWN", "CREATED"] * 5


async def test_who_waits_keeps_nobody_else_waiting(gateway: Edge) -> None:
    unknown = await duplicated(gateway, SONARLY % "cut-before-copy")
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=gateway.sandbox.url, timeout=60, trust_env=False, verify=NO_CAS, limits=limits
    ) as many:
        crowd = Edge(many, gateway.sandbox)
        waiters = [asyncio.create_task(watched(crowd, unknown, 6)) for _ in range(100)]
        await asyncio.sleep(1)
        for _ in range(3):
            began = monotonic()
            assert await gateway.data("{ __typename }")
            assert await duplicated(gateway, SONARLY % SOURCE)
            assert (await gateway.http.get("/readyz")).status_code == 200
            assert monotonic() - began < AT_ONCE
        assert not any(each.done() for each in waiters)
        told = await asyncio.gather(*waiters)
    assert {found["status"] for found, _ in told} == {"UNKNOWN"}
    assert max(took for _, took in told) < 6 + AT_ONCE


async def test_who_hangs_up_while_waiting_disturbs_nobody(gateway: Edge) -> None:
    unknown = await duplicated(gateway, SONARLY % "cut-before-copy")
    async with httpx.AsyncClient(
        base_url=gateway.sandbox.url, timeout=0.3, trust_env=False, verify=NO_CAS
    ) as impatient:
        for _ in range(5):
            with pytest.raises(httpx.ReadTimeout):
                await watched(Edge(impatient, gateway.sandbox), unknown, 3)
    found, _ = await watched(gateway, unknown, 1)
    assert found["status"] == "UNKNOWN"


@pytest.mark.asyncio(loop_scope="function")
async def test_a_gateway_that_stops_lets_nobody_wait(tmp_path: Path) -> None:
    async with edge(tmp_path) as stopping:
        unknown = await duplicated(stopping, SONARLY % "cut-before-copy")
        waiters = [asyncio.create_task(watched(stopping, unknown, 20)) for _ in range(5)]
        await asyncio.sleep(0.5)
        # A call under way keeps the gateway there for those who ask it now.
        call = asyncio.create_task(duplicated(stopping, SONARLY % "slow"))
        await asyncio.sleep(0.5)
        told_at = monotonic()
        stopping.sandbox.server.handle_exit(signal.SIGTERM, None)
        async with asyncio.timeout(10):
            while (await stopping.http.get("/readyz")).status_code != 503:
                await asyncio.sleep(0.02)
        found, took = await watched(stopping, unknown, 20)
        assert found["status"] == "UNKNOWN"
        assert took < 1
        for found, _ in await asyncio.gather(*waiters):
            assert found["status"] == "UNKNOWN"
        assert monotonic() - told_at < AT_ONCE
        assert await call
        await asyncio.wait_for(stopping.sandbox.stopped, 10)
