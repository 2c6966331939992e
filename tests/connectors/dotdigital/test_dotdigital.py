"""dotdigital's own behaviour: two documented statuses, no name, and nothing that can be read."""

import pytest
from pydantic import ValidationError
from strawberry import ID

from campaign_gateway.connectors.contract import ReadsCampaigns, ShowsAccess, copy_search_key
from campaign_gateway.connectors.providers.dotdigital import (
    DotdigitalAccount,
    DotdigitalCampaignInput,
    DotdigitalConnector,
)
from campaign_gateway.model import (
    Accepted,
    Campaign,
    CampaignStatus,
    Created,
    ErrorCode,
    Outcome,
    Rejected,
    Unknown,
)
from support.responses import respond

SETTINGS = {
    "provider": "dotdigital",
    "base_url": "https://r2-api.dotdigital.com",
    "user": "apiuser-1@apiconnector.com",
    "password": "pass",
}
CONNECTOR = DotdigitalConnector(DotdigitalAccount.model_validate(SETTINGS))
CAMPAIGN = DotdigitalCampaignInput(account=None, campaign_id=ID("1045"))
COPY = {"id": 2001, "name": "Copy of Spring sale", "subject": "Now", "status": "Unsent"}


def read(status: int, body: object) -> Outcome:
    return CONNECTOR.parse_response(CAMPAIGN, respond(status, body))


def test_copy_request_has_no_body_and_basic_authentication() -> None:
    request = CONNECTOR.build_request(CAMPAIGN)
    assert (request.method, request.body) == ("POST", b"")
    assert request.url == "https://r2-api.dotdigital.com/v2/campaigns/1045/copy"
    assert request.headers == {
        "authorization": "Basic YXBpdXNlci0xQGFwaWNvbm5lY3Rvci5jb206cGFzcw==",
        "accept": "application/json",
    }


@pytest.mark.parametrize("setting", ["base_url", "user", "password"])
def test_region_and_credentials_are_required(setting: str) -> None:
    settings = {name: value for name, value in SETTINGS.items() if name != setting}
    with pytest.raises(ValidationError, match=setting):
        DotdigitalAccount.model_validate(settings)


@pytest.mark.parametrize("status", [200, 201])
def test_copy_is_read_with_either_documented_status(status: int) -> None:
    assert read(status, COPY) == Created(
        Campaign(
            id="2001",
            name="Copy of Spring sale",
            status=CampaignStatus.DRAFT,
            provider_status="Unsent",
        )
    )


@pytest.mark.parametrize(
    "body", ["", "<html></html>", {}, {"id": 2001}, {**COPY, "id": 0}, {**COPY, "id": 1045}]
)
def test_201_without_a_copy_is_accepted_and_200_is_unknown(body: object) -> None:
    assert read(201, body) == Accepted()
    assert isinstance(read(200, body), Unknown)


def test_another_status_of_the_copy_is_kept_and_not_guessed() -> None:
    outcome = read(201, {**COPY, "status": "Sending"})
    assert isinstance(outcome, Created)
    assert outcome.campaign.status is CampaignStatus.UNKNOWN
    assert outcome.campaign.provider_status == "Sending"


def test_message_of_a_refusal_is_shown() -> None:
    outcome = read(400, {"message": "Too many calls for this account"})
    assert isinstance(outcome, Rejected)
    assert outcome.error.code is ErrorCode.INVALID_INPUT
    assert outcome.error.provider_message == "Too many calls for this account"


def test_nothing_is_read_or_searched_for() -> None:
    assert copy_search_key(CONNECTOR) is None
    assert not isinstance(CONNECTOR, ReadsCampaigns | ShowsAccess)
    assert CAMPAIGN.name is None
