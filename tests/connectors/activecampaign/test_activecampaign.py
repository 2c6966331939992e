"""ActiveCampaign's own behaviour: only an id, a name in a second call, statuses as numbers."""

import json

import pytest
from pydantic import ValidationError

from campaign_gateway.connectors.contract import copy_search_key
from campaign_gateway.connectors.providers.activecampaign import (
    ActivecampaignAccount,
    ActivecampaignCampaignInput,
    ActivecampaignConnector,
)
from campaign_gateway.model import (
    Campaign,
    CampaignStatus,
    Created,
    ErrorCode,
    Outcome,
    Refused,
    Rejected,
    Unknown,
)
from support.responses import respond

SETTINGS = {"provider": "activecampaign", "base_url": "https://acme.api-us1.com", "api_key": "key"}
ACCOUNT = ActivecampaignAccount.model_validate(SETTINGS)
CONNECTOR = ActivecampaignConnector(ACCOUNT)
CAMPAIGN = ActivecampaignCampaignInput(account=None, campaign_id=216, name="A copy")
CAMPAIGNS = "https://acme.api-us1.com/api/3/campaigns"
COPIED = {"succeeded": 1, "message": "Campaign draft copied.", "newCampaignId": 217}


def read(status: int, body: object) -> Outcome:
    return CONNECTOR.parse_response(CAMPAIGN, respond(status, body))


def test_copy_request_has_no_body_and_the_key_in_its_own_header() -> None:
    request = CONNECTOR.build_request(CAMPAIGN)
    assert (request.method, request.url) == ("POST", f"{CAMPAIGNS}/216/copy")
    assert request.body == b""
    assert request.headers == {"api-token": "key", "accept": "application/json"}


def test_host_of_the_account_is_required() -> None:
    with pytest.raises(ValidationError, match="base_url"):
        ActivecampaignAccount.model_validate({"provider": "activecampaign", "api_key": "key"})


def test_documented_limit_is_the_default_rate() -> None:
    assert (ACCOUNT.calls_per_second, ACCOUNT.calls_per_minute) == (5, None)


def test_copy_has_an_id_alone() -> None:
    assert read(200, COPIED) == Created(Campaign(id="217"))


@pytest.mark.parametrize("succeeded", [0, 2, -1, None, True, False, "no", 1.0, [1]])
def test_copy_without_the_documented_success_is_unknown(succeeded: object) -> None:
    assert isinstance(read(200, {**COPIED, "succeeded": succeeded}), Unknown)


@pytest.mark.parametrize("copy_id", [0, -217, None, True, "", "x", "../1", 217.5, 216])
def test_copy_without_an_id_of_its_own_is_unknown(copy_id: object) -> None:
    assert isinstance(read(200, {**COPIED, "newCampaignId": copy_id}), Unknown)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, "Bad request. You are not allowed to copy this campaign.", "PERMISSION_DENIED"),
        (400, {"message": "You are not allowed to copy this campaign"}, "PERMISSION_DENIED"),
        (400, {"message": "Campaign not found"}, "CAMPAIGN_NOT_FOUND"),
        (403, {"message": "Forbidden"}, "AUTHENTICATION_FAILED"),
    ],
)
def test_refusal_has_its_documented_meaning(status: int, body: object, code: str) -> None:
    outcome = read(status, body)
    assert isinstance(outcome, Rejected)
    assert outcome.error.code is ErrorCode(code)
    message = body["message"] if isinstance(body, dict) else None
    assert outcome.error.provider_message == message


def test_name_is_set_by_a_change_of_nothing_else() -> None:
    request = CONNECTOR.build_rename(CAMPAIGN, "217", None)
    assert (request.method, request.url) == ("PUT", f"{CAMPAIGNS}/217/edit")
    assert json.loads(request.body) == {"name": "A copy"}


def test_change_is_done_only_if_the_response_has_the_campaign() -> None:
    assert CONNECTOR.parse_rename(respond(200, {"id": 217, "name": "A copy"})) is None
    for body in ({}, {"succeeded": 1}, {"id": 0}, {"id": None}, "OK"):
        assert isinstance(CONNECTOR.parse_rename(respond(200, body)), Unknown)


def test_wrong_field_of_a_change_is_named() -> None:
    failure = CONNECTOR.parse_rename(respond(400, {"errors": ["Field name is required", "two"]}))
    assert isinstance(failure, Rejected)
    assert failure.error.code is ErrorCode.INVALID_INPUT
    assert failure.error.provider_message == "Field name is required; two"


@pytest.mark.parametrize(
    ("status", "word", "expected"),
    [
        ("0", "draft", CampaignStatus.DRAFT),
        (1, "scheduled", CampaignStatus.SCHEDULED),
        ("2", "sending", CampaignStatus.ACTIVE),
        ("3", "paused", CampaignStatus.PAUSED),
        ("4", "stopped", CampaignStatus.UNKNOWN),
        ("5", "completed", CampaignStatus.COMPLETED),
        ("7", "7", CampaignStatus.UNKNOWN),
        (None, None, CampaignStatus.UNKNOWN),
        ("new", None, CampaignStatus.UNKNOWN),
    ],
)
def test_status_is_a_number(status: object, word: str | None, expected: CampaignStatus) -> None:
    response = respond(200, {"campaign": {"id": "217", "name": "x", "status": status}})
    campaign = CONNECTOR.parse_lookup(response, "217")
    assert campaign == Campaign("217", "x", status=expected, provider_status=word)


def test_lost_copy_is_not_searched_for() -> None:
    assert copy_search_key(CONNECTOR) is None


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, {"user": {"id": "1"}}, None),
        (200, {"user": {}}, ErrorCode.OUTCOME_UNKNOWN),
        (400, {}, ErrorCode.INVALID_INPUT),
        (403, {}, ErrorCode.AUTHENTICATION_FAILED),
    ],
)
def test_check_reads_the_user_of_the_key(status: int, body: object, code: ErrorCode | None) -> None:
    request = CONNECTOR.build_check([])
    assert request is not None
    assert request.url == "https://acme.api-us1.com/api/3/users/me"
    access = CONNECTOR.parse_check([respond(status, body)])
    assert (access.error.code if access.error else None) is code
    assert access.is_accepted == (code is None)


@pytest.mark.parametrize("campaign_id", ["abc", "0", "-1", "1.5", "٣", "not-found", "1/2", ""])
def test_id_that_is_no_number_is_refused_before_a_read(campaign_id: str) -> None:
    with pytest.raises(Refused):
        CONNECTOR.build_lookup(campaign_id, None)
