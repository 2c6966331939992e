"""ActiveCampaign's own behaviour: only an id, no name, and a check that may show little."""

import pytest
from pydantic import ValidationError
from strawberry import ID

from campaign_gateway.connectors.contract import ProviderResponse, copy_search_key
from campaign_gateway.connectors.providers.activecampaign import (
    ActivecampaignAccount,
    ActivecampaignCampaignInput,
    ActivecampaignConnector,
)
from campaign_gateway.model import Campaign, Created, ErrorCode, Outcome, Rejected, Unknown
from support.responses import respond

SETTINGS = {"provider": "activecampaign", "base_url": "https://acme.api-us1.com", "api_key": "key"}
ACCOUNT = ActivecampaignAccount.model_validate(SETTINGS)
CONNECTOR = ActivecampaignConnector(ACCOUNT)
CAMPAIGN = ActivecampaignCampaignInput(account=None, campaign_id=ID("216"))
CAMPAIGNS = "https://acme.api-us1.com/api/3/campaigns"
COPIED = {"succeeded": 1, "message": "Campaign draft copied.", "newCampaignId": 217}
WELCOME = {"campaign": {"id": "1", "name": "Welcome"}}


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


def test_refusal_is_that_of_a_permission_with_its_message() -> None:
    outcome = read(400, {"message": "You are not allowed to copy this campaign"})
    assert isinstance(outcome, Rejected)
    assert outcome.error.code is ErrorCode.PERMISSION_DENIED
    assert outcome.error.provider_message == "You are not allowed to copy this campaign"


def test_lost_copy_is_not_searched_for() -> None:
    assert copy_search_key(CONNECTOR) is None
    assert CAMPAIGN.name is None


@pytest.mark.parametrize(
    ("response", "code", "is_accepted"),
    [
        (respond(200, WELCOME), None, True),
        (respond(404, {"message": "not found"}), None, False),
        (respond(404, "Not Found"), ErrorCode.PROVIDER_UNAVAILABLE, False),
        (respond(200, {"campaign": {"id": "2"}}), ErrorCode.OUTCOME_UNKNOWN, False),
        (respond(401, {}), ErrorCode.AUTHENTICATION_FAILED, False),
        (respond(403, {}), ErrorCode.PERMISSION_DENIED, False),
    ],
)
def test_check_says_only_what_the_response_proves(
    response: ProviderResponse, code: ErrorCode | None, *, is_accepted: bool
) -> None:
    access = CONNECTOR.parse_check([response])
    assert (access.error.code if access.error else None) is code
    assert access.is_accepted == is_accepted
