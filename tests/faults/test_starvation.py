"""A provider that hangs, and callers who read a lot: what they change for others, and what not."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

from campaign_gateway.accounts.transport.rate_limit import QUEUE_LENGTH
from support.faulty_provider import Provider
from support.gateways import GatewayResponse, ask, configuration, intent, intents, serving
from support.plain_clients import ask_plainly

OPEN_MUTATIONS = 500
# As many as one request may have at its top level.
READS = 10


async def seconds_of_calls(http: httpx.AsyncClient, url: str, number: int) -> list[float]:
    """Copy one after the other at the account that works, and return how long each took."""
    responses = [await ask(http, url, wanted) for wanted in intents(["none"] * number, ["works"])]
    assert {each and each.status for each in responses} == {"CREATED"}
    return sorted(each.received_at - each.sent_at for each in responses if each)


async def test_hanging_provider_with_500_open_mutations_delays_no_other_account(
    tmp_path: Path, provider: Provider, http: httpx.AsyncClient
) -> None:
    places = {"hangs": provider.hanging_url, "works": provider.url}
    limits = {"hangs": {"timeout_seconds": 3, "calls_at_once": 8}}
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    config = configuration(tmp_path, ledger, places, deadline=8, timeout=20, more_of=limits)
    async with serving(config) as gateway:
        alone = await seconds_of_calls(http, gateway.url, 20)
        wanted = intents(["none"] * OPEN_MUTATIONS, ["hangs"], group="hung")
        asking = [asyncio.create_task(ask_plainly(gateway.url, each)) for each in wanted]
        refused_early = OPEN_MUTATIONS - QUEUE_LENGTH - 8
        async with asyncio.timeout(30):
            while sum(task.done() for task in asking) < refused_early:
                await asyncio.sleep(0.01)
        # The median, because a busy machine delays single calls. A queue for all accounts would
        # delay each of them by seconds.
        during = await seconds_of_calls(http, gateway.url, 20)
        assert during[10] < 5 * alone[10] + 0.5, (alone, during)
        assert_refused_with_seconds(await asyncio.gather(*asking))
        # The refused keys are as good as new ones.
        again = await ask(http, gateway.url, wanted[-1])
    assert again is not None
    assert not again.replayed
    assert again.status == "UNKNOWN"


def assert_refused_with_seconds(responses: Sequence[GatewayResponse]) -> None:
    assert len(responses) == OPEN_MUTATIONS
    for each in responses:
        if each.status == "NOT_SENT":
            assert (each.retry, each.duplication) == ("SAME_KEY", None)
            # On a busy machine, the 3 seconds of a permit may end before there is a connection.
            if each.code != "PROVIDER_UNAVAILABLE":
                assert each.code == "OVERLOADED"
                assert each.retry_after is not None
                assert 1 <= each.retry_after <= 60
        else:
            # It got a permit: a caller who only waits for one never gets IN_PROGRESS. On a busy
            # machine its 3 seconds may also end before the first byte, and then nothing was sent.
            assert each.status in {"UNKNOWN", "IN_PROGRESS"} or (
                (each.status, each.code) == ("REJECTED", "PROVIDER_UNAVAILABLE")
            )
            # At the deadline, a busy gateway may not have read the record yet.
            assert each.duplication is not None or each.status == "IN_PROGRESS"
    counted = Counter(each.status for each in responses)
    assert counted["NOT_SENT"] >= OPEN_MUTATIONS - 5 * 8
    codes = Counter(each.code for each in responses)
    assert codes["OVERLOADED"] >= OPEN_MUTATIONS - 5 * 8
    assert counted["UNKNOWN"] >= 8


async def copies_in(
    http: httpx.AsyncClient, url: str, account: str, group: str
) -> list[dict[str, str]]:
    """Make two copies, which one list of the provider has, and return references to them."""
    wanted = [intent("none", group, account) for _ in range(2)]
    responses = [await ask(http, url, each) for each in wanted]
    ids = [response.campaign for response in responses if response and response.campaign]
    assert len(ids) == 2
    return [{"__typename": "Campaign", "account": account, "id": each} for each in ids]


async def read(http: httpx.AsyncClient, url: str, keys: list[dict[str, str]]) -> list[Any]:
    """Read two campaigns under ten aliases, and return the extensions of the errors."""
    fields = [
        f"a{number}: _entities(representations: $keys) {{ __typename }}" for number in range(READS)
    ]
    query = "query Read($keys: [_Any!]!) { " + " ".join(fields) + " }"
    response = await http.post(f"{url}/graphql", json={"query": query, "variables": {"keys": keys}})
    assert response.status_code == 200, response.text
    return [error["extensions"] for error in response.json().get("errors", [])]


async def test_reads_of_callers_keep_the_limits_and_the_deadline(
    tmp_path: Path, provider: Provider, http: httpx.AsyncClient
) -> None:
    places = dict.fromkeys(["limited", "slow"], provider.url)
    limits = {"limited": {"calls_per_minute": 10}, "slow": {"timeout_seconds": 60}}
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    config = configuration(tmp_path, ledger, places, deadline=3, timeout=20, more_of=limits)
    async with serving(config) as gateway:
        keys = await copies_in(http, gateway.url, "limited", "plain--reads")
        answers = await asyncio.gather(*(read(http, gateway.url, keys) for _ in range(20)))
        assert len(provider.lists["plain--reads"]) == 5
        errors = [each for answer in answers for each in answer]
        assert len(errors) == 2 * (20 * READS - 5)
        assert {each["code"] for each in errors} == {"RATE_LIMITED"}
        assert all(0 < each["retryAfterSeconds"] <= 61 for each in errors)
        copied = await ask(http, gateway.url, intent("none", "plain--reads", "limited"))
        assert copied is not None
        assert copied.status == "CREATED"

        keys = await copies_in(http, gateway.url, "slow", "list-hang--reads")
        started_at = monotonic()
        answers = await asyncio.gather(*(read(http, gateway.url, keys) for _ in range(5)))
        assert monotonic() - started_at < 15
        codes = Counter(each["code"] for answer in answers for each in answer)
        # Lists that come late do not hang.
        assert codes.keys() <= {"PROVIDER_UNAVAILABLE", "OVERLOADED"}
        assert codes.total() >= 2 * 16
        # Half of the account's 32 connections. At the deadline the provider may still see some that
        # are closed already.
        assert 0 < provider.most_listing["list-hang--reads"] <= 32
