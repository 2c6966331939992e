"""The queries of clients and of a federation router."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from campaign_gateway.connectors.registry import CONNECTORS

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROUP = 'accountGroupId: "507f1f77bcf86cd799439001", audienceId: "507f1f77bcf86cd799439021"'
SONARLY = f'sonarly: {{ {GROUP}, campaignId: "507f1f77bcf86cd799439011", name: "Q3" }}'
TRIGGER = 'altcraft: { account: "altcraft", campaignId: 96, name: "Cart" }'
MAILING = 'altcraft: { account: "altcraft-xml", campaignId: 87, kind: CAMPAIGN, name: "News" }'
REFUSED = 'braze: { campaignId: "not-found", name: "None" }'

CAMPAIGN = """query Read($account: String!, $id: ID!) {
  campaign(account: $account, id: $id) { account id provider name status providerStatus createdAt }
}"""


async def test_accounts_are_listed_with_their_capabilities(shared_client: Any) -> None:
    result = (await shared_client.ask("{ accounts { name provider capabilities } }"))["accounts"]
    accounts = shared_client.sandbox.settings.accounts
    assert {account["name"]: account["provider"] for account in result} == {
        name: account.provider.upper() for name, account in accounts.items()
    }
    assert len(result) > len(CONNECTORS)
    lesser = {"ACTIVECAMPAIGN": ["READ_CAMPAIGN"]}
    for account in result:
        expected = lesser.get(account["provider"], ["FIND_COPY", "READ_CAMPAIGN"])
        assert account["capabilities"] == expected


async def test_duplication_is_found_by_id_and_by_key(shared_client: Any) -> None:
    made = await shared_client.duplicate(SONARLY, "by-key")
    query = """query Read($id: ID!, $key: String!) {
      duplication(id: $id) { ...All } duplicationByKey(idempotencyKey: $key) { ...All } }
      fragment All on Duplication { id provider account sourceCampaignId requestedName status
        evidence campaign { id } error { code } providerTraceId requestedAt settledAt }"""
    result = await shared_client.ask(query, id=made["duplication"]["id"], key="by-key")
    expected = made["duplication"]
    assert result["duplication"] == result["duplicationByKey"] == expected
    assert expected["sourceCampaignId"] == "507f1f77bcf86cd799439011"
    assert expected["requestedName"] == "Q3"
    assert expected["providerTraceId"]
    assert datetime.fromisoformat(expected["requestedAt"]) - datetime.now(UTC) < timedelta(0)


@pytest.mark.parametrize("unknown", ["01a1fc11-f409-7f4c-896d-1e7a6380c7f8", "x", "", "\ud800"])
async def test_unknown_duplication_is_null(shared_client: Any, unknown: str) -> None:
    query = """query Read($id: ID!, $key: String!) {
      duplication(id: $id) { id } duplicationByKey(idempotencyKey: $key) { id } }"""
    result = await shared_client.ask(query, id=unknown, key=unknown)
    assert result == {"duplication": None, "duplicationByKey": None}


PAGE = """query Page($first: Int!, $after: String, $filter: DuplicationFilter) {
  duplications(first: $first, after: $after, filter: $filter) {
    edges { cursor node { id requestedName } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}"""


async def test_duplications_are_paged_newest_first(client: Any) -> None:
    for number in range(5):
        await client.duplicate(SONARLY.replace("Q3", f"Copy {number}"))
    seen: list[str] = []
    after = None
    sizes = []
    while True:
        result = await client.ask(PAGE, first=2, after=after)
        page = result["duplications"]
        if after is None:
            # A new duplication must not change the following pages.
            await client.duplicate(SONARLY.replace("Q3", "Later"))
        sizes.append(len(page["edges"]))
        seen += [edge["node"]["requestedName"] for edge in page["edges"]]
        assert page["pageInfo"]["hasPreviousPage"] is (after is not None)
        assert page["pageInfo"]["startCursor"] == page["edges"][0]["cursor"]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert sizes == [2, 2, 1]
    assert seen == [f"Copy {number}" for number in reversed(range(5))]


async def test_duplications_are_filtered_by_each_field(client: Any) -> None:
    made = [await client.duplicate(fields) for fields in (SONARLY, TRIGGER, MAILING, REFUSED)]
    ids = [payload["duplication"]["id"] for payload in made]
    now = datetime.now(UTC)
    for narrowed, expected in [
        ({}, ids),
        ({"status": "REJECTED"}, ids[3:]),
        ({"provider": "ALTCRAFT"}, ids[1:3]),
        ({"account": "altcraft-xml"}, ids[2:3]),
        ({"account": "é"}, []),
        ({"account": ""}, []),
        ({"status": "CREATED", "provider": "SONARLY", "account": None}, ids[:1]),
        ({"requestedSince": made[2]["duplication"]["requestedAt"]}, ids[2:]),
        ({"requestedBefore": made[2]["duplication"]["requestedAt"]}, ids[:2]),
        ({"requestedSince": (now + timedelta(hours=1)).isoformat()}, []),
    ]:
        page = (await client.ask(PAGE, first=50, filter=narrowed))["duplications"]
        assert [edge["node"]["id"] for edge in reversed(page["edges"])] == expected, narrowed


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"first": 0}, "'first' must be between 1 and 100."),
        ({"first": 101}, "'first' must be between 1 and 100."),
        ({"first": 5, "after": "nonsense"}, "'after' must be a cursor of an earlier page."),
        ({"first": 5, "after": "é"}, "'after' must be a cursor of an earlier page."),
        ({"first": 5, "after": ""}, "'after' must be a cursor of an earlier page."),
        ({"first": 5, "after": "AaH_!!!!HBOLcgCPUY0SSSmnBg"}, "'after' must be a cursor"),
        ({"first": 5, "after": "aah_hbolcgcpuy0sssmnbg"}, "'after' must be a cursor"),
        (
            {"first": 5, "filter": {"requestedSince": "2026-01-31T12:00:00"}},
            (
                "Variable '$filter' has invalid value at .requestedSince: "
                "A DateTime must look like 2026-01-31T12:00:00Z and include the time zone."
            ),
        ),
    ],
)
async def test_invalid_page_argument_is_an_error(
    shared_client: Any, variables: Any, message: str
) -> None:
    content = await shared_client.execute(PAGE, **variables)
    assert content["errors"][0]["message"].startswith(message)


@pytest.mark.parametrize(
    ("written", "is_read"),
    [
        ("2026-01-31T12:00:00Z", True),
        ("2026-01-31t12:00:00.123456789z", True),
        ("0001-01-01T00:00:00Z", True),
        ("9999-12-31T23:59:59+00:00", True),
        ("9999-12-31T23:59:59-23:59", False),
        ("0001-01-01T00:00:00+23:59", False),
        ("2026-01-31 12:00:00Z", False),
        ("20260131T120000Z", False),
        ("2026-W05-6T12:00:00Z", False),
        ("2026-01-31T12:00:00", False),
        ("2026-02-30T12:00:00Z", False),
        ("\u0662026-01-31T12:00:00Z", False),
        ("", False),
        (1769860800, False),
    ],
)
async def test_only_times_in_rfc_3339_are_accepted(
    shared_client: Any, written: object, *, is_read: bool
) -> None:
    content = await shared_client.execute(PAGE, first=1, filter={"requestedSince": written})
    assert ("errors" not in content) is is_read
    if not is_read:
        assert content["errors"][0]["message"].endswith("include the time zone.")


async def test_campaign_is_read_from_its_provider(shared_client: Any) -> None:
    for fields, account, name, status in [
        (SONARLY, "sonarly", "Q3", "DRAFT"),
        (TRIGGER, "altcraft", "Cart", "PAUSED"),
        (MAILING, "altcraft-xml", "News", "PAUSED"),
    ]:
        made = await shared_client.duplicate(fields)
        copy = made["campaign"]["id"]
        result = (await shared_client.ask(CAMPAIGN, account=account, id=copy))["campaign"]
        assert (result["id"], result["account"], result["name"]) == (copy, account, name)
        assert result["status"] == status
    source = await shared_client.ask(
        CAMPAIGN, account="braze", id="0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10"
    )
    assert source["campaign"]["name"] == "Spring sale"
    assert source["campaign"]["status"] == "ACTIVE"
    assert source["campaign"]["providerStatus"] == "enabled"
    # The source of a copy is in the account group of its copy.
    source = await shared_client.ask(CAMPAIGN, account="sonarly", id="507f1f77bcf86cd799439011")
    assert source["campaign"]["name"] == "Outreach"


async def test_campaign_that_cannot_be_read_is_an_error_or_null(client: Any) -> None:
    for account, campaign_id, message in [
        ("no-such-account", "x", "There is no account with this name: see Query.accounts."),
        ("braze", "../x", "id must be 1 to 128 letters, digits, '-' or '_'."),
        ("braze", "\ud800", "id must be 1 to 128 letters, digits, '-' or '_'."),
        ("altcraft", "abc", "Altcraft's ids are whole numbers."),
        ("sonarly", "507f1f77bcf86cd799439011", "Sonarly reads a campaign only within its account"),
    ]:
        content = await client.execute(CAMPAIGN, account=account, id=campaign_id)
        assert content["data"] == {"campaign": None}
        assert content["errors"][0]["message"].startswith(message)
    for account, campaign_id in [("braze", "unknown"), ("altcraft", "12345")]:
        content = await client.execute(CAMPAIGN, account=account, id=campaign_id)
        assert content.keys() == {"data", "extensions"}
        assert content["data"] == {"campaign": None}


async def test_entities_are_resolved_from_their_keys(shared_client: Any) -> None:
    made = await shared_client.duplicate(SONARLY)
    query = """query Hop($keys: [_Any!]!) { _entities(representations: $keys) { __typename
      ... on Duplication { id status } ... on Campaign { account id name } } }"""
    keys = [
        {"__typename": "Duplication", "id": made["duplication"]["id"]},
        {"__typename": "Campaign", "account": "sonarly", "id": made["campaign"]["id"]},
        {"__typename": "Duplication", "id": "unknown"},
    ]
    result = (await shared_client.ask(query, keys=keys))["_entities"]
    assert result == [
        {"__typename": "Duplication", "id": made["duplication"]["id"], "status": "CREATED"},
        {
            "__typename": "Campaign",
            "account": "sonarly",
            "id": made["campaign"]["id"],
            "name": "Q3",
        },
        None,
    ]


async def test_types_of_assets_are_read_from_the_provider(shared_client: Any) -> None:
    query = "query Types($account: String!) { cloneableAssetTypes(account: $account) }"
    types = (await shared_client.ask(query, account="hubspot"))["cloneableAssetTypes"]
    assert {"LANDING_PAGE", "MARKETING_EMAIL"} <= set(types)
    assert await shared_client.ask(query, account="sendgrid") == {"cloneableAssetTypes": []}
    (error,) = (await shared_client.execute(query, account="nobody"))["errors"]
    assert "There is no account with this name" in error["message"]
