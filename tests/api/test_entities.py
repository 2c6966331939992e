"""The `_entities` of a federation router: all references of a request are resolved together."""

import asyncio
import json
import uuid
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from campaign_gateway.accounts.transport.client import Transport
from campaign_gateway.accounts.transport.permits import SHARES, CallKind, Permit
from campaign_gateway.api import entities
from campaign_gateway.api.context import CAMPAIGN_LIMIT, ENTITY_LIMIT
from campaign_gateway.connectors.account_settings import CALLS_AT_ONCE
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse
from campaign_gateway.ledger import Ledger
from campaign_gateway.observe.correlation import correlation_id
from campaign_gateway.web.callers.caller import EVERYONE
from support.edge import PYTHON_WORDS, Edge

# One server for all tests, so its event loop must live longer than each of them.
pytestmark = pytest.mark.asyncio(loop_scope="module")

BRAZE_SOURCE = "0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10"
UNKNOWN_ID = "01a1fc11-f409-7f4c-896d-1e7a6380c7f8"

COPY = """mutation Copy($name: String, $key: String!) { duplicateCampaign(
  input: { sonarly: { accountGroupId: "507f1f77bcf86cd799439001", name: $name
    audienceId: "507f1f77bcf86cd799439021", campaignId: "507f1f77bcf86cd799439011" } }
  idempotencyKey: $key
) { campaign { id } duplication { id } } }"""

ENTITY = """{ __typename
  ... on Duplication { id status requestedName } ... on Campaign { account id name } }"""
HOP = f"query Hop($keys: [_Any!]!) {{ _entities(representations: $keys) {ENTITY} }}"

Key = dict[str, object]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(gateway: Edge) -> list[tuple[str, str]]:
    """Return the ids of five duplications and of their copies, which are named Copy 0 to 4."""
    ids = []
    for number in range(5):
        variables = {"name": f"Copy {number}", "key": str(uuid.uuid4())}
        payload = (await gateway.data(COPY, variables))["duplicateCampaign"]
        ids.append((payload["duplication"]["id"], payload["campaign"]["id"]))
    return ids


class Reads:
    """Counts the reads at providers by URL, and the most that ran at the same time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.urls: list[str] = []
        self.most = 0
        self._now = 0
        real = Transport.send_idempotent

        async def read(
            transport: Transport, request: ProviderRequest, permit: Permit, *more: Any
        ) -> ProviderResponse:
            # The check of the accounts reads too, and belongs to no request.
            if correlation_id() is None:
                return await real(transport, request, permit, *more)
            self.urls.append(request.url)
            self._now += 1
            self.most = max(self.most, self._now)
            try:
                # Long enough for all allowed reads to run at the same time.
                await asyncio.sleep(0.02)
                return await real(transport, request, permit, *more)
            finally:
                self._now -= 1

        monkeypatch.setattr(Transport, "send_idempotent", read)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def duplication(duplication_id: object) -> Key:
    return {"__typename": "Duplication", "id": duplication_id}


def campaign(account: str, campaign_id: object) -> Key:
    return {"__typename": "Campaign", "account": account, "id": campaign_id}


async def resolved(gateway: Edge, *keys: Key) -> list[Any]:
    result: list[Any] = (await gateway.data(HOP, {"keys": keys}))["_entities"]
    return result


async def test_duplications_of_a_request_are_one_read_of_the_ledger(
    gateway: Edge, made: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: Counter[str] = Counter()

    def counted(name: str) -> None:
        real = getattr(Ledger, name)

        async def look(*arguments: Any) -> Any:
            looks[name] += 1
            return await real(*arguments)

        monkeypatch.setattr(Ledger, name, look)

    for name in ("get", "get_all", "find", "list"):
        counted(name)
    ids = [duplication_id for duplication_id, _ in made]
    asked = [ids[3], ids[0], UNKNOWN_ID, ids[4], ids[0].upper(), "no id", "", ids[0], ids[1]]
    result = await resolved(gateway, *map(duplication, asked))
    assert looks == {"get_all": 1}
    names = [entity and (entity["id"], entity["requestedName"]) for entity in result]
    assert names == [
        (ids[3], "Copy 3"),
        (ids[0], "Copy 0"),
        None,
        (ids[4], "Copy 4"),
        (ids[0], "Copy 0"),
        None,
        None,
        (ids[0], "Copy 0"),
        (ids[1], "Copy 1"),
    ]


async def test_duplications_cause_no_read_at_a_provider(
    gateway: Edge, made: list[tuple[str, str]], reads: Reads
) -> None:
    assert await resolved(gateway) == []
    assert await resolved(gateway, *(duplication(duplication_id) for duplication_id, _ in made))
    assert reads.urls == []


async def test_campaigns_of_one_account_group_are_one_read_at_the_provider(
    gateway: Edge, made: list[tuple[str, str]], reads: Reads
) -> None:
    ids = [campaign_id for _, campaign_id in reversed(made)]
    result = await resolved(
        gateway, *(campaign("sonarly", campaign_id) for campaign_id in [*ids, ids[0]])
    )
    expected = [f"Copy {number}" for number in (4, 3, 2, 1, 0, 4)]
    assert [entity["name"] for entity in result] == expected
    assert [entity["id"] for entity in result] == [*ids, ids[0]]
    (url,) = reads.urls
    assert url.endswith("/campaigns")


async def test_other_campaigns_are_one_read_each_with_bounded_concurrency(
    gateway: Edge, reads: Reads
) -> None:
    unknown = [campaign("braze", f"unknown-{number}") for number in range(20)]
    source = campaign("braze", BRAZE_SOURCE)
    result = await resolved(gateway, *unknown[:10], source, *unknown[10:], source)
    assert [entity and entity["name"] for entity in result] == [
        *[None] * 10,
        "Spring sale",
        *[None] * 10,
        "Spring sale",
    ]
    assert len(reads.urls) == len(set(reads.urls)) == 21
    assert reads.most == CALLS_AT_ONCE // SHARES[CallKind.READ]


async def test_mixed_references_are_resolved_in_their_order(
    gateway: Edge, made: list[tuple[str, str]]
) -> None:
    (first, copy), *_ = made
    result = await resolved(
        gateway,
        campaign("altcraft", 96),
        # A router may send more than the key, and those fields must not be trusted.
        {**duplication(first), "status": "REJECTED", "extra": {"deep": [1]}, "": None},
        campaign("altcraft-xml", "96"),
        {**campaign("sonarly", copy), "provider": None, "__proto__": {}},
        duplication(7),
        campaign("altcraft", 12345),
    )
    assert [entity and (entity["__typename"], entity["id"]) for entity in result] == [
        ("Campaign", "96"),
        ("Duplication", first),
        ("Campaign", "96"),
        ("Campaign", copy),
        None,
        None,
    ]
    assert result[1]["status"] == "CREATED"
    assert [result[0]["account"], result[2]["account"]] == ["altcraft", "altcraft-xml"]


async def test_representations_may_be_literals_in_the_document(
    gateway: Edge, made: list[tuple[str, str]]
) -> None:
    first = made[0][0]
    query = f"""query Hop($key: _Any!) {{ _entities(representations: [
      {{ __typename: "Duplication", id: "{first}" }} $key
      {{ __typename: "Campaign", account: "altcraft", id: 96 }}
    ]) {ENTITY} }}"""
    result = (await gateway.data(query, {"key": duplication(first)}))["_entities"]
    assert [entity["id"] for entity in result] == [first, first, "96"]


async def test_campaign_that_cannot_be_read_does_not_affect_the_others(
    gateway: Edge, made: list[tuple[str, str]]
) -> None:
    first, copy = made[0]
    # Without an account group of the ledger, Sonarly cannot read a campaign.
    unreadable = "507f1f77bcf86cd799439099"
    keys = [
        campaign("no-such-account", "x"),
        duplication(first),
        campaign("braze", "../x"),
        campaign("sonarly", unreadable),
        campaign("sonarly", copy),
        campaign("braze", "\ud800"),
        campaign("altcraft", "abc"),
        campaign("altcraft", 10**300),
        campaign("braze", ""),
        campaign("braze", "x" * 50_000),
    ]
    response = await gateway.post(HOP, {"keys": keys})
    content = response.json()
    assert response.status_code == 200
    result = content["data"]["_entities"]
    assert [entity and entity["id"] for entity in result] == [
        *[None, first, None, None, copy],
        *[None] * 5,
    ]
    messages = {error["path"][1]: error["message"] for error in content["errors"]}
    assert all(error["path"][0] == "_entities" for error in content["errors"])
    assert messages.keys() - {7} == {0, 2, 3, 5, 6, 8, 9}
    assert "no account" in messages[0]
    assert "account group" in messages[3]
    assert not PYTHON_WORDS.search(response.text), response.text
    assert len(response.content) < 5000


async def test_provider_that_fails_does_not_affect_the_others(
    gateway: Edge, made: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Transport.send_idempotent

    async def read(
        transport: Transport, request: ProviderRequest, permit: Permit, *more: Any
    ) -> ProviderResponse:
        if BRAZE_SOURCE in request.url:
            return ProviderResponse(500, {}, b"")
        return await real(transport, request, permit, *more)

    monkeypatch.setattr(Transport, "send_idempotent", read)
    keys = [campaign("braze", BRAZE_SOURCE), campaign("sonarly", made[1][1])]
    content = (await gateway.post(HOP, {"keys": keys})).json()
    assert [entity and entity["name"] for entity in content["data"]["_entities"]] == [
        None,
        "Copy 1",
    ]
    (error,) = content["errors"]
    assert error["path"] == ["_entities", 0]
    assert error["message"].startswith("Braze could not be read")


async def test_account_that_changed_its_provider_does_not_affect_the_others(
    gateway: Edge, made: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_related = Ledger.find_related

    async def of_another(*arguments: Any) -> Any:
        result = await find_related(*arguments)
        return {
            key: replace(record, intent=replace(record.intent, provider="altcraft"))
            for key, record in result.items()
        }

    monkeypatch.setattr(Ledger, "find_related", of_another)
    keys = [campaign("sonarly", made[0][1]), duplication(made[1][0])]
    content = (await gateway.post(HOP, {"keys": keys})).json()
    (error,) = content["errors"]
    assert error["path"] == ["_entities", 0]
    assert "account group" in error["message"]
    assert content["data"]["_entities"][1] is not None


async def test_record_of_a_newer_version_is_no_related_input_and_no_internal_error(
    gateway: Edge, made: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """During an update of several gateways, another version writes into the same ledger."""
    find_related = Ledger.find_related

    async def of_newer_version(*arguments: Any) -> Any:
        related = await find_related(*arguments)
        newer = {
            key: json.dumps({**json.loads(record.intent.input), "invented": True})
            for key, record in related.items()
        }
        return {
            key: replace(record, intent=replace(record.intent, input=newer[key]))
            for key, record in related.items()
        }

    monkeypatch.setattr(Ledger, "find_related", of_newer_version)
    keys = [campaign("sonarly", made[0][1]), duplication(made[1][0])]
    content = (await gateway.post(HOP, {"keys": keys})).json()
    (error,) = content["errors"]
    # Sonarly reads a campaign only with its account group, which is in the related input.
    assert "account group" in error["message"]
    assert content["data"]["_entities"][1] is not None
    query = 'query One($id: ID!) { campaign(account: "sonarly", id: $id) { name } }'
    (error,) = (await gateway.post(query, {"id": made[0][1]})).json()["errors"]
    assert "account group" in error["message"]
    braze = f'{{ campaign(account: "braze", id: "{BRAZE_SOURCE}") {{ id }} }}'
    assert (await gateway.data(braze))["campaign"]["id"] == BRAZE_SOURCE


async def test_representations_of_one_request_are_limited(
    gateway: Edge, made: list[tuple[str, str]]
) -> None:
    keys = [duplication(made[number % 5][0]) for number in range(101)]
    assert ENTITY_LIMIT == 100
    assert all(await resolved(gateway, *keys[:100]))
    content = (await gateway.post(HOP, {"keys": keys})).json()
    (error,) = content["errors"]
    assert content["data"] is None
    assert "up to 100" in error["message"]


async def test_representations_are_limited_over_all_aliases_together(
    gateway: Edge, made: list[tuple[str, str]]
) -> None:
    query = """query Hop($some: [_Any!]!, $more: [_Any!]!) {
      a: _entities(representations: $some) { __typename }
      b: _entities(representations: $more) { __typename }
    }"""
    # One list may be split into several, so only the sum limits the cost of a request.
    keys = [duplication(made[0][0])] * 51
    assert await gateway.data(query, {"some": keys[:50], "more": keys[:50]})
    content = (await gateway.post(query, {"some": keys, "more": keys})).json()
    messages = [error["message"] for error in content.get("errors", [])]
    assert any("up to 100" in message for message in messages), messages


async def test_campaigns_of_one_request_are_limited(gateway: Edge, reads: Reads) -> None:
    keys = [campaign("braze", f"unknown-{number}") for number in range(51)]
    assert CAMPAIGN_LIMIT == 50
    assert await resolved(gateway, *keys[:50], *keys[:50]) == [None] * 100
    assert len(reads.urls) == 50
    content = (await gateway.post(HOP, {"keys": keys})).json()
    (error,) = content["errors"]
    assert content["data"] is None
    assert "up to 50 campaigns" in error["message"]
    assert len(reads.urls) == 50


async def test_campaigns_are_limited_over_all_fields_together(gateway: Edge, reads: Reads) -> None:
    query = f"""query Hop($some: [_Any!]!, $more: [_Any!]!) {{
      a: _entities(representations: $some) {ENTITY}
      b: _entities(representations: $more) {ENTITY}
      one: campaign(account: "braze", id: "unknown-one") {{ id }}
    }}"""
    keys = [campaign("braze", f"unknown-{number}") for number in range(50)]
    result = await gateway.data(query, {"some": keys[:25], "more": keys[25:49]})
    assert result["one"] is None
    assert len(reads.urls) == 50
    content = (await gateway.post(query, {"some": keys[:25], "more": keys[25:]})).json()
    assert any("up to 50 campaigns" in error["message"] for error in content["errors"])
    assert len(reads.urls) <= 100


@pytest.mark.parametrize(
    "hostile",
    [
        {},
        {"id": "x"},
        {"__typename": None, "id": "x"},
        {"__typename": 7, "id": "x"},
        {"__typename": ["Duplication"], "id": "x"},
        {"__typename": {"a": 1}, "id": "x"},
        {"__typename": "", "id": "x"},
        {"__typename": "Nope", "id": "x"},
        {"__typename": "duplication", "id": "x"},
        {"__typename": "Query", "id": "x"},
        {"__typename": "Mutation", "id": "x"},
        {"__typename": "_Entity", "id": "x"},
        {"__typename": "_Any", "id": "x"},
        {"__typename": "DuplicateCampaignInput", "id": "x"},
        {"__typename": "DuplicationStatus", "id": "x"},
        {"__typename": "__proto__", "id": "x"},
        {"__typename": "constructor", "id": "x"},
        {"__typename": "__class__", "id": "x"},
        {"__typename": "\ud800", "id": "x"},
        {"__typename": "x" * 50_000, "id": "x"},
        {"__typename": "Duplication"},
        {"__typename": "Duplication", "ID": "x"},
        {"__typename": "Duplication", "id": None},
        {"__typename": "Duplication", "id": {}},
        {"__typename": "Duplication", "id": ["x"]},
        {"__typename": "Duplication", "id": True},
        {"__typename": "Duplication", "id": 1.5},
        {"__typename": "Campaign"},
        {"__typename": "Campaign", "id": "x"},
        {"__typename": "Campaign", "account": "braze"},
        {"__typename": "Campaign", "account": None, "id": "x"},
        {"__typename": "Campaign", "account": 7, "id": "x"},
        {"__typename": "Campaign", "account": ["braze"], "id": "x"},
        {"__typename": "Campaign", "account": {"a": 1}, "id": "x"},
        {"__typename": "Campaign", "account": "braze", "id": {"a": {"b": []}}},
        {"__typename": "Campaign", "account": "braze", "id": False},
        [],
        [{"__typename": "Duplication", "id": "x"}],
        7,
        1.5,
        True,
        "Duplication",
        "",
    ],
)
async def test_malformed_representation_is_an_error_of_the_field(
    gateway: Edge, made: list[tuple[str, str]], hostile: object
) -> None:
    for place in (0, 2):
        keys: list[object] = [duplication(made[0][0])] * 3
        keys[place] = hostile
        response = await gateway.post(HOP, {"keys": keys})
        content = response.json()
        assert response.status_code == 200, content
        assert content["data"] is None
        (error,) = content["errors"]
        assert f"representations[{place}]" in error["message"], error
        assert error["path"] == ["_entities"]
        assert not PYTHON_WORDS.search(response.text), response.text
        assert len(response.content) < 1000


async def test_null_representation_is_refused(gateway: Edge) -> None:
    for keys in ([None], [duplication(UNKNOWN_ID), None], None):
        (message,) = await gateway.refused(HOP, {"keys": keys})
        assert "keys" in message


async def test_id_that_no_database_accepts_is_not_found(gateway: Edge) -> None:
    # Neither database accepts some of these ids.
    ids = ["\ud800", "\0", "x" * 60_000, "0" * 32 + "x", "{}", "é", "' or 1=1 --", "%00", -1]
    assert await resolved(gateway, *map(duplication, ids[:2])) == [None, None]
    assert await resolved(gateway, duplication(ids[2])) == [None]
    assert await resolved(gateway, *map(duplication, ids[3:])) == [None] * 6


async def test_id_in_upper_case_is_found(gateway: Edge, made: list[tuple[str, str]]) -> None:
    first = made[0][0]
    result = await resolved(gateway, duplication(first.upper()), duplication(first))
    assert [entity["id"] for entity in result] == [first, first]


async def test_duplication_of_another_scope_is_not_found(
    gateway: Edge, made: list[tuple[str, str]]
) -> None:
    mine: Any = gateway.sandbox.server._gateway
    first, copy = made[0]
    keys = [duplication(first), campaign("sonarly", copy), duplication(first.upper())]
    own = await entities.resolve(mine.context(EVERYONE), keys)
    others = await entities.resolve(mine.context(replace(EVERYONE, scope="another caller")), keys)
    assert [getattr(entity, "id", None) for entity in own] == [first, copy, first]
    assert (others[0], others[2]) == (None, None)
    # Only the record of the other scope has the account group, which the read needs.
    assert isinstance(others[1], Exception)


async def test_schema_has_the_fields_that_routers_query(gateway: Edge) -> None:
    query = """{ __type(name: "_Entity") { kind possibleTypes { name } } _service { sdl } }"""
    result = await gateway.data(query)
    assert result["__type"]["kind"] == "UNION"
    names = {type_["name"] for type_ in result["__type"]["possibleTypes"]}
    assert names == {"Duplication", "Campaign"}
    assert json.dumps(result["_service"]["sdl"]).count("@key(") == 2
