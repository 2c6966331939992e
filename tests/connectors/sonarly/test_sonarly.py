"""Sonarly's own behaviour: ids in the path, 201 as the only documented yes, and leads."""

import json
from dataclasses import replace
from typing import Any

import pytest
from strawberry import ID

from campaign_gateway.connectors.contract import ProviderResponse, UnexpectedResponse
from campaign_gateway.connectors.providers.sonarly import (
    SonarlyAccount,
    SonarlyCampaignInput,
    SonarlyConnector,
)
from campaign_gateway.model import (
    Accepted,
    CampaignStatus,
    Created,
    ErrorCode,
    Outcome,
    Refused,
    Rejected,
    Unknown,
)
from support.responses import respond

ACCOUNT = SonarlyAccount.model_validate({"provider": "sonarly", "api_key": "sk_live_key"})
CONNECTOR = SonarlyConnector(ACCOUNT)
CAMPAIGN = SonarlyCampaignInput(
    account=None,
    account_group_id=ID("group-1"),
    campaign_id=ID("source-1"),
    audience_id=ID("audience-1"),
    name=None,
    lead_ids=None,
)
COPY = {"id": "copy-1", "name": "A copy", "status": "draft"}


def sent(**changes: Any) -> Any:
    return json.loads(CONNECTOR.build_request(replace(CAMPAIGN, **changes)).body)


def read(status: int, body: object) -> Outcome:
    return CONNECTOR.parse_response(CAMPAIGN, respond(status, body))


def test_ids_are_in_the_path_and_the_other_fields_in_the_body() -> None:
    request = CONNECTOR.build_request(
        replace(CAMPAIGN, name="A copy", lead_ids=[ID("l-1"), ID("l-2")])
    )
    assert request.url == "https://api.sonarly.io/v1/accounts/group-1/campaigns/source-1/duplicate"
    assert request.headers["authorization"] == "Bearer sk_live_key"
    assert json.loads(request.body) == {
        "name": "A copy",
        "audienceId": "audience-1",
        "leadIds": ["l-1", "l-2"],
    }


def test_omitted_fields_are_not_sent() -> None:
    assert sent() == {"audienceId": "audience-1"}


def test_empty_list_of_leads_is_refused() -> None:
    with pytest.raises(Refused) as refusal:
        sent(lead_ids=[])
    assert refusal.value.error.code == ErrorCode.INVALID_INPUT
    assert refusal.value.error.field == ("leadIds",)


def test_invalid_lead_is_named_by_its_place_in_the_list() -> None:
    with pytest.raises(Refused) as refusal:
        sent(lead_ids=[ID("l-1"), ID("../l-2")])
    assert refusal.value.error.field == ("leadIds",)
    assert refusal.value.error.message.startswith("Item 2 of leadIds must be 1 to 128 letters")


@pytest.mark.parametrize("status", [200, 201])
def test_success_with_the_copy_is_created(status: int) -> None:
    outcome = read(status, {"success": True, "data": COPY, "traceId": "T-1"})
    assert isinstance(outcome, Created)
    assert outcome.campaign.id == "copy-1"
    assert outcome.campaign.status == CampaignStatus.DRAFT
    assert outcome.trace_id == "T-1"


@pytest.mark.parametrize("body", [{"success": True}, {"success": True, "data": 1}])
def test_reported_success_without_the_copy_is_accepted_only_with_status_201(body: object) -> None:
    assert read(201, body) == Accepted()
    for status in (200, 202, 204):
        assert isinstance(read(status, body), Unknown)


@pytest.mark.parametrize("status", [200, 201])
def test_success_that_its_body_denies_is_unknown(status: int) -> None:
    error = {"code": "CONFLICT", "message": "The campaign has an active workflow"}
    outcome = read(status, {"success": False, "data": None, "error": error, "traceId": "T-2"})
    assert isinstance(outcome, Unknown)
    assert outcome.error.provider_code == "CONFLICT"
    assert outcome.trace_id == "T-2"


def test_only_success_true_is_a_success() -> None:
    assert read(201, {"success": "true", "data": COPY}) == Accepted()
    assert isinstance(read(200, {"success": 1, "data": COPY}), Unknown)


@pytest.mark.parametrize("details", [None, "text", ["a"], {"path": ["name"]}, 5])
def test_malformed_details_never_raise(details: object) -> None:
    error = {"code": "VALIDATION_ERROR", "message": "no", "details": details}
    outcome = read(400, {"success": False, "data": None, "error": error})
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == ErrorCode.INVALID_INPUT
    assert outcome.error.provider_code == "VALIDATION_ERROR"
    assert outcome.error.provider_message == "no"


def test_undocumented_status_is_kept_and_unknown() -> None:
    outcome = read(201, {"success": True, "data": {**COPY, "status": "warming_up"}})
    assert isinstance(outcome, Created)
    assert outcome.campaign.status == CampaignStatus.UNKNOWN
    assert outcome.campaign.provider_status == "warming_up"


def test_lookup_without_the_account_group_is_refused() -> None:
    with pytest.raises(Refused) as refusal:
        CONNECTOR.build_lookup("copy-1", None)
    assert refusal.value.error.code == ErrorCode.INVALID_INPUT
    assert refusal.value.error.field == ("id",)
    request = CONNECTOR.build_lookup("copy-1", CAMPAIGN)
    assert request.method == "GET"
    assert request.url == "https://api.sonarly.io/v1/accounts/group-1/campaigns/copy-1"


def test_lookup_with_another_campaign_raises() -> None:
    body = json.dumps({"success": True, "data": COPY}).encode()
    with pytest.raises(UnexpectedResponse):
        CONNECTOR.parse_lookup(ProviderResponse(200, {}, body), "another")


def test_search_reads_the_only_list_of_the_group() -> None:
    request = CONNECTOR.build_search(CAMPAIGN, None)
    assert request.method == "GET"
    assert request.url == "https://api.sonarly.io/v1/accounts/group-1/campaigns"
    # The quickstart shows pages that the reference does not have.
    data = {"items": [COPY, {"name": "without an id"}], "nextCursor": None, "hasMore": False}
    body = json.dumps({"success": True, "data": data}).encode()
    page = CONNECTOR.parse_search(ProviderResponse(200, {}, body), None)
    assert [campaign.id for campaign in page.campaigns] == ["copy-1"]
    assert page.next_cursor is None
