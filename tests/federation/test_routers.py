"""The gateway behind real routers: entities resolve both ways, and errors keep their messages."""

import json
import uuid
from typing import Any

import pytest

from campaign_gateway.connectors.registry import CONNECTORS
from support.issuer import claims_of, token

GROUP = {"accountGroupId": "507f1f77bcf86cd799439001", "audienceId": "507f1f77bcf86cd799439021"}
SOURCES: dict[str, dict[str, Any]] = {
    "altcraft": {"account": "altcraft", "campaignId": 96},
    "braze": {"campaignId": "0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10", "tagNames": ["promo"]},
    "sonarly": {**GROUP, "campaignId": "507f1f77bcf86cd799439011"},
}

UNKNOWN_CAMPAIGN = "12345"
UNKNOWN_DUPLICATION = "01a1fc11-f409-7f4c-896d-1e7a6380c7f8"
UNKNOWN_MEMBER = "mailer"

COPY = """mutation Copy($input: DuplicateCampaignInput!, $key: String!) {
  duplicateCampaign(input: $input, idempotencyKey: $key) {
    status replayed
    campaign { account id name score reviews { text } headline }
    duplication { id status approvals { of } }
    userErrors { code message }
  }
}"""


@pytest.fixture
def name(router: Any) -> str:
    """A name that no other copy has."""
    return f"Behind {router.name} {uuid.uuid4()}"


def duplicate(router: Any, provider: str, name: str, key: str | None = None) -> Any:
    campaign = {**SOURCES[provider], "name": name}
    content = router.ask(COPY, input={provider: campaign}, key=key or str(uuid.uuid4()))
    return content["duplicateCampaign"]


def reviewed(account: str, campaign: Any, name: str) -> dict[str, Any]:
    """Return the expected copy, with the fields of the other subgraph."""
    return {
        "account": account,
        "id": campaign["id"],
        "name": name,
        "score": len(campaign["id"]),
        "reviews": [{"text": f"about {campaign['id']} at {account}"}],
        "headline": f"Much praised: {name}",
    }


@pytest.mark.parametrize("provider", ["altcraft", "sonarly"])
def test_payload_has_the_fields_of_both_subgraphs(router: Any, provider: str, name: str) -> None:
    made = duplicate(router, provider, name)
    assert (made["status"], made["userErrors"]) == ("CREATED", [])
    assert made["campaign"] == reviewed(provider, made["campaign"], name)
    identifier = made["duplication"]["id"]
    assert made["duplication"] == {
        "id": identifier,
        "status": "CREATED",
        "approvals": [{"of": identifier}],
    }


def test_router_waits_for_a_copy_with_one_request(router: Any, name: str) -> None:
    made = duplicate(router, "braze", name)
    assert (made["status"], made["userErrors"], made["campaign"]) == ("ACCEPTED", [], None)
    identifier = made["duplication"]["id"]
    assert made["duplication"]["approvals"] == [{"of": identifier}]
    router.requests.clear()

    query = """query Await($id: ID!) { duplication(id: $id, waitSeconds: 20) {
      status campaign { account id name score reviews { text } headline } } }"""
    settled = router.ask(query, id=identifier)["duplication"]

    assert settled["status"] == "CREATED"
    assert settled["campaign"] == reviewed("braze", settled["campaign"], name)
    # A router with a short timeout would send the request again.
    assert len(router.requests) == 1


@pytest.mark.parametrize("provider", SOURCES)
def test_same_key_again_returns_the_same_copy(router: Any, provider: str, name: str) -> None:
    key = str(uuid.uuid4())
    before = router.sandbox.asked()
    first, again = (duplicate(router, provider, name, key) for _ in range(2))

    assert (first["replayed"], again["replayed"]) == (False, True)
    assert again["duplication"]["id"] == first["duplication"]["id"]
    assert again["campaign"] == first["campaign"]
    assert router.sandbox.asked() == {**before, provider: before[provider] + 1}
    assert router.sandbox.copies_named(name) == 1


def test_lost_response_makes_no_second_copy(router: Any, name: str) -> None:
    key = str(uuid.uuid4())
    router.requests.clear()
    router.lost.append(None)
    if router.name == "hive":
        # It sends the mutation again by itself.
        made = duplicate(router, "sonarly", name, key)
    else:
        content = router.execute(
            COPY, input={"sonarly": SOURCES["sonarly"] | {"name": name}}, key=key
        )
        assert content["errors"]
        made = duplicate(router, "sonarly", name, key)
    assert (made["status"], made["replayed"]) == ("CREATED", True)
    assert len(router.requests) == 2
    assert router.sandbox.copies_named(name) == 1


def representations(router: Any) -> list[Any]:
    """Return the keys of the entities that the router requested, in a list for each request."""
    variables = [request.get("variables") or {} for request in router.requests]
    return [
        value for variable in variables for value in variable.values() if isinstance(value, list)
    ]


def test_campaigns_of_the_other_subgraph_are_resolved_in_one_request(
    router: Any, name: str
) -> None:
    made = [
        duplicate(router, "altcraft", f"{name} {number}")["campaign"]["id"] for number in (1, 2)
    ]
    ids = [made[0], UNKNOWN_CAMPAIGN, made[1]]
    router.requests.clear()

    # The status is not nullable, so the whole entry must be null without it.
    query = """query Reviewed($ids: [ID!]!) { reviewed(account: "altcraft", ids: $ids) {
      id name status score headline } }"""
    content = router.execute(query, ids=ids)

    first, unknown, second = content["data"]["reviewed"]
    assert [first["id"], second["id"]] == made
    assert [first["headline"], second["headline"]] == [
        f"Much praised: {name} {number}" for number in (1, 2)
    ]
    assert {campaign["status"] for campaign in (first, second)} == {"PAUSED"}
    assert unknown is None
    assert blamed(content) <= {("reviewed", 1)}
    keys = [{"__typename": "Campaign", "account": "altcraft", "id": entity_id} for entity_id in ids]
    assert representations(router) == [keys]


def test_duplications_of_the_other_subgraph_are_resolved_in_one_request(
    router: Any, name: str
) -> None:
    made = [
        duplicate(router, provider, f"{name} {provider}") for provider in ("altcraft", "sonarly")
    ]
    ids = [made[0]["duplication"]["id"], UNKNOWN_DUPLICATION, made[1]["duplication"]["id"]]
    router.requests.clear()

    query = """query Approved($ids: [ID!]!) { approved(ids: $ids) {
      id account requestedName approvals { of } campaign { id score } } }"""
    content = router.execute(query, ids=ids)

    assert content["data"]["approved"] == [
        {
            "id": ids[0],
            "account": "altcraft",
            "requestedName": f"{name} altcraft",
            "approvals": [{"of": ids[0]}],
            "campaign": {field: made[0]["campaign"][field] for field in ("id", "score")},
        },
        None,
        {
            "id": ids[2],
            "account": "sonarly",
            "requestedName": f"{name} sonarly",
            "approvals": [{"of": ids[2]}],
            "campaign": {field: made[1]["campaign"][field] for field in ("id", "score")},
        },
    ]
    assert blamed(content) <= {("approved", 1)}
    keys = [{"__typename": "Duplication", "id": entity_id} for entity_id in ids]
    assert representations(router) == [keys]


def test_campaign_that_cannot_be_read_does_not_affect_the_others(router: Any, name: str) -> None:
    made = duplicate(router, "sonarly", name)["campaign"]["id"]
    query = """query Reviewed($ids: [ID!]!) { reviewed(account: "sonarly", ids: $ids) {
      id name score } }"""

    content = router.execute(query, ids=[made, "elsewhere"])

    assert content["data"]["reviewed"] == [
        {"id": made, "name": name, "score": len(made)},
        {"id": "elsewhere", "name": None, "score": len("elsewhere")},
    ]
    (error,) = content["errors"]
    assert error["message"].startswith("Sonarly reads a campaign only within its account group")


def blamed(response: dict[str, Any]) -> set[tuple[Any, ...]]:
    """Return the list entries that have errors. A router may add an error for a null entity."""
    return {tuple(error["path"][:2]) for error in response.get("errors", [])}


# All tests use one key, because a malformed request is not recorded.
LITERAL = """mutation {{
  duplicateCampaign(input: {{ {members} }}, idempotencyKey: "mistaken") {{ status }} }}"""
WHOLE = """mutation Mistaken($input: DuplicateCampaignInput!) {
  duplicateCampaign(input: $input, idempotencyKey: "mistaken") { status } }"""
MEMBER = """mutation Mistaken($braze: BrazeCampaignInput) {
  duplicateCampaign(input: { braze: $braze }, idempotencyKey: "mistaken") { status } }"""

BRAZE = {"campaignId": "0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10", "name": "Mistaken"}
ALTCRAFT = {"account": "altcraft", "campaignId": 96}


def literal(value: Any) -> str:
    """Return the value in GraphQL's notation."""
    if isinstance(value, dict):
        return f"{{ {members_of(value)} }}"
    return json.dumps(value)


def members_of(value: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {literal(part)}" for name, part in value.items())


MISTAKES: dict[str, dict[str, Any]] = {
    "two": {"braze": BRAZE, "altcraft": ALTCRAFT},
    "none": {},
    "null": {"braze": None},
    "null and another": {"braze": BRAZE, "altcraft": None},
    "unknown": {UNKNOWN_MEMBER: BRAZE},
    "unknown and another": {"braze": BRAZE, UNKNOWN_MEMBER: BRAZE},
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("how", ["literal", "variable"])
def test_input_without_exactly_one_member_is_explained(router: Any, mistake: str, how: str) -> None:
    given = MISTAKES[mistake]
    if how == "literal":
        ours = refused(router, LITERAL.format(members=members_of(given)), {}, *given)
    else:
        ours = refused(router, WHOLE, {"input": given}, *given)
    if ours is not None:
        assert "DuplicateCampaignInput takes exactly one" in ours
        assert [provider for provider in CONNECTORS if provider not in ours] == []
        named = [f"{name} as null" if part is None else name for name, part in given.items()]
        received = ours.partition("Received: ")[2].partition(".")[0]
        assert sorted(received.split(", ")) == sorted(named or ["none"])


@pytest.mark.parametrize("variables", [{}, {"braze": None}], ids=["left out", "null"])
def test_nullable_variable_as_a_member_is_explained(router: Any, variables: Any) -> None:
    ours = refused(router, MEMBER, variables, "braze")
    if ours is not None:
        assert "'$braze'" in ours
        assert "DuplicateCampaignInput" in ours
        assert "'BrazeCampaignInput!'" in ours


def refused(router: Any, query: str, variables: dict[str, Any], *members: str) -> str | None:
    """Return the gateway's message, or None if the router itself refused the request."""
    before = router.sandbox.asked()
    router.requests.clear()

    content = router.execute(query, **variables)

    assert not content.get("data")
    assert router.sandbox.asked() == before
    messages: list[str] = [error["message"] for error in content["errors"]]
    # Hive knows @oneOf. Apollo drops it, so it refuses only an unknown member.
    is_ours = router.name == "apollo" and UNKNOWN_MEMBER not in members
    assert bool(router.requests) is is_ours
    if not is_ours:
        assert any(name in messages[0] for name in ("DuplicateCampaignInput", *members))
        return None
    (message,) = messages
    return message


def test_credential_of_the_client_decides_what_it_sees(router: Any, name: str) -> None:
    """The router forwards a key or a token, and the gateway verifies it itself."""
    keys = router.called.keys
    accounts = "{ accounts { name } }"
    assert router.ask(accounts, keys["web-team"]) == {"accounts": [{"name": "sonarly"}]}
    assert router.ask(accounts, keys["store"]) == {"accounts": [{"name": "braze"}]}
    assert router.ask(accounts, token()) == {"accounts": [{"name": "sonarly"}]}

    query = """mutation Copy($input: DuplicateCampaignInput!, $key: String!) {
      duplicateCampaign(input: $input, idempotencyKey: $key) {
        status duplication { id requestedBy { caller person } } } }"""
    copy_input = {"sonarly": {**SOURCES["sonarly"], "name": name}}
    made = router.ask(query, token(), input=copy_input, key=str(uuid.uuid4()))["duplicateCampaign"]
    assert made["status"] == "CREATED"
    assert made["duplication"]["requestedBy"] == {
        "caller": "web-team",
        "person": "ann@example.com",
    }
    found = "query Find($id: ID!) { duplication(id: $id) { status } }"
    duplication_id = made["duplication"]["id"]
    assert router.ask(found, keys["web-team"], id=duplication_id)["duplication"]
    assert router.ask(found, keys["store"], id=duplication_id) == {"duplication": None}


def test_wrong_credential_is_refused_behind_the_router(router: Any) -> None:
    expired = token(claims_of(exp=1))
    for credential in (expired, "cgw_wrong"):
        content = router.execute("{ accounts { name } }", credential)
        assert content["errors"]
        assert not content.get("data")
