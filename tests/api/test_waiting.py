"""`duplication(id:, waitSeconds:)`: a request that waits until the duplication is settled."""

import asyncio
import gc
import signal
import uuid
from dataclasses import replace
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from campaign_gateway.api import queries
from campaign_gateway.ledger.engine import LedgerUnavailable
from support.edge import Edge, edge
from support.plain import NO_CAS

# One server for all tests, so its event loop must live longer than each of them.
pytestmark = pytest.mark.asyncio(loop_scope="module")

# Seconds that an immediate response may take on a busy machine. Each test waits much longer.
IMMEDIATELY = 4.0

BRAZE = 'braze: { campaignId: "0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10", name: $name }'
SONARLY = """sonarly: { accountGroupId: "507f1f77bcf86cd799439001", name: $name
  audienceId: "507f1f77bcf86cd799439021", campaignId: "%s" }"""
SOURCE = "507f1f77bcf86cd799439011"

WATCH = """query Watch($id: ID!, $wait: Int! = 0) {
  duplication(id: $id, waitSeconds: $wait) { status evidence campaign { name } settledAt } }"""


async def duplicated(gateway: Edge, campaign: str, key: str | None = None) -> str:
    """The id of the new duplication."""
    query = f"""mutation Copy($name: String!, $key: String!) {{ duplicateCampaign(
      input: {{ {campaign} }}, idempotencyKey: $key) {{ duplication {{ id }} }} }}"""
    key = key or str(uuid.uuid4())
    payload = await gateway.data(query, {"key": key, "name": f"Copy {key}"})
    duplication_id: str = payload["duplicateCampaign"]["duplication"]["id"]
    return duplication_id


async def watched(gateway: Edge, duplication_id: str, wait: int) -> tuple[Any, float]:
    """Return the duplication, and the seconds that the response took."""
    began = monotonic()
    data = await gateway.data(WATCH, {"id": duplication_id, "wait": wait})
    return data["duplication"], monotonic() - began


async def test_settled_duplication_is_returned_immediately(gateway: Edge) -> None:
    for source, status in ((SOURCE, "CREATED"), ("not-found", "REJECTED")):
        duplication, took = await watched(gateway, await duplicated(gateway, SONARLY % source), 20)
        assert duplication["status"] == status
        assert duplication["settledAt"]
        assert took < IMMEDIATELY


async def test_unknown_duplication_is_returned_as_null_immediately(gateway: Edge) -> None:
    for unknown in ("01a1fc11-f409-7f4c-896d-1e7a6380c7f8", "x", "", "\ud800"):
        duplication, took = await watched(gateway, unknown, 20)
        assert duplication is None
        assert took < IMMEDIATELY


async def test_wait_ends_when_an_accepted_copy_is_found(gateway: Edge) -> None:
    duplication_id = await duplicated(gateway, BRAZE)
    at_first, took = await watched(gateway, duplication_id, 0)
    assert at_first["status"] == "ACCEPTED"
    assert took < IMMEDIATELY
    duplication, took = await watched(gateway, duplication_id, 20)
    assert duplication["status"] == "CREATED"
    assert duplication["campaign"]["name"].startswith("Copy ")
    assert took < 15


async def test_wait_ends_when_a_running_call_ends(gateway: Edge) -> None:
    key = str(uuid.uuid4())
    call = asyncio.create_task(duplicated(gateway, SONARLY % "slow", key))
    query = "query ($key: String!) { duplicationByKey(idempotencyKey: $key) { id status } }"
    async with asyncio.timeout(40):
        while not (recorded := (await gateway.data(query, {"key": key}))["duplicationByKey"]):
            await asyncio.sleep(0.05)
    assert recorded["status"] == "IN_PROGRESS"
    duplication, took = await watched(gateway, recorded["id"], 20)
    assert (duplication["status"], duplication["evidence"]) == ("CREATED", "RESPONSE")
    assert took < 15
    assert await call == recorded["id"]


async def test_wait_ends_when_a_copy_with_a_lost_response_is_found(gateway: Edge) -> None:
    duplication, took = await watched(
        gateway, await duplicated(gateway, SONARLY % "cut-after-copy"), 20
    )
    assert (duplication["status"], duplication["evidence"]) == ("CREATED", "INFERRED")
    assert took < 15


async def test_duplication_that_stays_unknown_is_returned_after_the_wait(gateway: Edge) -> None:
    duplication_id = await duplicated(gateway, SONARLY % "cut-before-copy")
    for wait in (0, 1):
        duplication, took = await watched(gateway, duplication_id, wait)
        assert duplication["status"] == "UNKNOWN"
        assert duplication["settledAt"] is None
        assert wait <= took < wait + IMMEDIATELY


async def test_wait_seconds_outside_the_limits_are_an_error(gateway: Edge) -> None:
    duplication_id = await duplicated(gateway, SONARLY % SOURCE)
    for wait in (-1, 21, -(2**31), 2**31 - 1):
        for asked in (duplication_id, "unknown"):
            content = (await gateway.post(WATCH, {"id": asked, "wait": wait})).json()
            (error,) = content["errors"]
            assert content["data"] == {"duplication": None}, wait
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


async def test_waits_of_one_request_run_in_parallel(gateway: Edge) -> None:
    unknown = await duplicated(gateway, SONARLY % "cut-before-copy")
    settled = await duplicated(gateway, SONARLY % SOURCE)
    fields = "".join(
        f'a{number}: duplication(id: "{duplication_id}", waitSeconds: 1) {{ status }} '
        for number, duplication_id in enumerate([unknown, settled] * 5)
    )
    began = monotonic()
    data = await gateway.data(f"{{ {fields} }}")
    assert monotonic() - began < 1 + IMMEDIATELY
    assert [duplication["status"] for duplication in data.values()] == ["UNKNOWN", "CREATED"] * 5


async def test_waiting_callers_do_not_delay_others(gateway: Edge) -> None:
    unknown = await duplicated(gateway, SONARLY % "cut-before-copy")
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=gateway.sandbox.url, timeout=60, trust_env=False, verify=NO_CAS, limits=limits
    ) as many:
        crowd = replace(gateway, http=many)
        waiters = [asyncio.create_task(watched(crowd, unknown, 12)) for _ in range(100)]
        await asyncio.sleep(1)
        for _ in range(3):
            began = monotonic()
            assert await gateway.data("{ __typename }")
            assert await duplicated(gateway, SONARLY % SOURCE)
            assert (await gateway.http.get("/readyz")).status_code == 200
            assert monotonic() - began < IMMEDIATELY
        assert not any(waiter.done() for waiter in waiters)
        results = await asyncio.gather(*waiters)
    assert {duplication["status"] for duplication, _ in results} == {"UNKNOWN"}
    # All of them end in the same moment, and a busy machine needs seconds for so many responses.
    assert max(took for _, took in results) < 12 + 3 * IMMEDIATELY


async def test_waiting_client_that_disconnects_does_not_affect_others(gateway: Edge) -> None:
    unknown = await duplicated(gateway, SONARLY % "cut-before-copy")
    async with httpx.AsyncClient(
        base_url=gateway.sandbox.url,
        timeout=httpx.Timeout(30, read=0.3),
        trust_env=False,
        verify=NO_CAS,
    ) as impatient:
        for _ in range(5):
            with pytest.raises(httpx.ReadTimeout):
                await watched(replace(gateway, http=impatient), unknown, 3)
    duplication, _ = await watched(gateway, unknown, 1)
    assert duplication["status"] == "UNKNOWN"


@pytest.mark.asyncio(loop_scope="function")
async def test_stopping_gateway_ends_all_waits(tmp_path: Path) -> None:
    async with edge(tmp_path) as stopping:
        unknown = await duplicated(stopping, SONARLY % "cut-before-copy")
        waiters = [asyncio.create_task(watched(stopping, unknown, 20)) for _ in range(5)]
        await asyncio.sleep(0.5)
        # A running call keeps the gateway open for new requests.
        call = asyncio.create_task(duplicated(stopping, SONARLY % "slow"))
        await asyncio.sleep(0.5)
        stopped_at = monotonic()
        stopping.sandbox.server.handle_exit(signal.SIGTERM, None)
        async with asyncio.timeout(40):
            while (await stopping.http.get("/readyz")).status_code != 503:
                await asyncio.sleep(0.02)
        duplication, took = await watched(stopping, unknown, 20)
        assert duplication["status"] == "UNKNOWN"
        assert took < IMMEDIATELY
        for duplication, _ in await asyncio.gather(*waiters):
            assert duplication["status"] == "UNKNOWN"
        assert monotonic() - stopped_at < IMMEDIATELY
        assert await call
        await asyncio.wait_for(stopping.sandbox.stopped, 40)


async def test_failed_read_of_a_cancelled_wait_is_not_logged() -> None:
    """Another field of the request may fail, and that cancels this one."""
    loop, fails = asyncio.get_running_loop(), asyncio.Event()
    logged: list[Any] = []
    loop.set_exception_handler(lambda _, context: logged.append(context))

    async def get(*_: str) -> None:
        await fails.wait()
        raise LedgerUnavailable("down")

    context: Any = SimpleNamespace(
        ledger=SimpleNamespace(get=get), scope="s", duplicator=SimpleNamespace(is_draining=False)
    )
    waiting = asyncio.create_task(queries.settled(context, str(uuid.uuid4()), 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    # Its exception would keep the read.
    del waiting
    fails.set()
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    loop.set_exception_handler(None)
    assert logged == []
