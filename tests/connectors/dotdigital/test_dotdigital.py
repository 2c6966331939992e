"""dotdigital's own behaviour: two documented statuses, and a name that needs the content too."""

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from campaign_gateway.connectors.contract import (
    UnexpectedResponse,
    copy_search_key,
    is_named_by_provider,
)
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
    Refused,
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
CAMPAIGN = DotdigitalCampaignInput(account=None, campaign_id=1045, name="A copy")
COPY = {"id": 2001, "name": "Copy of Spring sale", "subject": "Now", "status": "Unsent"}
CONTENT = {
    "subject": "Now",
    "fromName": "Acme",
    # Longer than any text that the gateway shows.
    "htmlContent": "<p>春 \r\n</p>" * 5000,
    "plainTextContent": " Now ",
}
WHOLE = {**COPY, **CONTENT, "isSplitTest": False, "fromAddress": {"id": 5}}


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
    outcome = read(201, {**COPY, "status": "NotAvailableInThisVersion"})
    assert isinstance(outcome, Created)
    assert outcome.campaign.status is CampaignStatus.UNKNOWN
    assert outcome.campaign.provider_status == "NotAvailableInThisVersion"


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (400, "Error: ERROR_CAMPAIGN_INVALID", "INVALID_INPUT"),
        (400, "Capped. Please contact support. ERROR_APIUSAGE_EXCEEDED", "RATE_LIMITED"),
        (400, "Error: ERROR_CAMPAIGN_NOT_FOUND", "CAMPAIGN_NOT_FOUND"),
        (400, "Error: ERROR_INVALID_LOGIN", "AUTHENTICATION_FAILED"),
        (403, "Forbidden: Access is denied", "AUTHENTICATION_FAILED"),
        (403, "Error: ERROR_FEATURENOTACTIVE", "PERMISSION_DENIED"),
        (500, "Error: ERROR_CAMPAIGN_NOT_FOUND", "OUTCOME_UNKNOWN"),
        (503, "ERROR_SYSTEM_SERVICETEMPORARILYUNAVAILABLE", "OUTCOME_UNKNOWN"),
    ],
)
def test_code_in_a_message_says_what_a_refusal_means(status: int, message: str, code: str) -> None:
    outcome = read(status, {"message": message})
    assert isinstance(outcome, Rejected | Unknown)
    assert outcome.error.code is ErrorCode(code)
    assert outcome.error.provider_message == message
    found = message.rsplit(maxsplit=1)[-1] if "ERROR_" in message else str(status)
    assert outcome.error.provider_code == found


def rename(lookup: object, **changes: Any) -> Any:
    response = None if lookup is None else respond(200, lookup)
    request = CONNECTOR.build_rename(replace(CAMPAIGN, **changes), "2001", response)
    assert (request.method, request.url) == (
        "PUT",
        "https://r2-api.dotdigital.com/v2/campaigns/2001",
    )
    return json.loads(request.body)


def test_name_is_sent_with_the_unchanged_content_and_nothing_else() -> None:
    assert rename(WHOLE) == {"name": "A copy", **CONTENT}


@pytest.mark.parametrize(
    "lookup",
    [
        None,
        "<html></html>",
        [],
        {**WHOLE, "isSplitTest": True},
        {**COPY, **CONTENT},
        {**WHOLE, "htmlContent": None},
        {**WHOLE, "plainTextContent": ""},
        {**WHOLE, "subject": 5},
        {**WHOLE, "htmlContent": "<html><BODY style='x'><p>Now</p></BODY></html>"},
        {**WHOLE, "htmlContent": "\ud800"},
    ],
)
def test_name_is_not_sent_without_content_that_stays_the_same(lookup: object) -> None:
    with pytest.raises(Refused):
        rename(lookup)


def test_name_has_at_most_255_characters() -> None:
    assert CONNECTOR.build_request(replace(CAMPAIGN, name="春" * 255)).body == b""
    with pytest.raises(Refused) as refusal:
        CONNECTOR.build_request(replace(CAMPAIGN, name="春" * 256))
    assert refusal.value.error.field == ("name",)


def test_list_is_read_in_pages_of_a_thousand() -> None:
    listing = "https://r2-api.dotdigital.com/v2/campaigns/filtered?select=1000"
    assert CONNECTOR.build_search(CAMPAIGN, None).url == listing
    assert CONNECTOR.build_search(CAMPAIGN, "1000").url == f"{listing}&skip=1000"
    full = respond(200, [{"id": number + 1, "name": "x"} for number in range(1000)])
    assert CONNECTOR.parse_search(full, None).next_cursor == "1000"
    assert CONNECTOR.parse_search(full, "1000").next_cursor == "2000"
    assert CONNECTOR.parse_search(respond(200, [COPY]), "2000").next_cursor is None
    assert CONNECTOR.parse_search(respond(200, []), "2000").campaigns == []
    with pytest.raises(UnexpectedResponse):
        CONNECTOR.parse_search(respond(200, []), None)


def test_lost_copy_is_searched_for_by_the_name_that_dotdigital_gives() -> None:
    assert copy_search_key(CONNECTOR) == "name"
    assert is_named_by_provider(CONNECTOR, None)
    assert is_named_by_provider(CONNECTOR, "A copy")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Sending", CampaignStatus.ACTIVE),
        ("Paused", CampaignStatus.PAUSED),
        ("Sent", CampaignStatus.COMPLETED),
        ("Cancelled", CampaignStatus.UNKNOWN),
        ("Triggered", CampaignStatus.UNKNOWN),
        ("RequiresWorkflowApproval", CampaignStatus.UNKNOWN),
    ],
)
def test_status_is_read_with_dotdigitals_words(status: str, expected: CampaignStatus) -> None:
    campaign = CONNECTOR.parse_lookup(respond(200, {**WHOLE, "status": status}), "2001")
    assert campaign is not None
    assert (campaign.status, campaign.provider_status) == (expected, status)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, [COPY], None),
        (200, [], None),
        (200, {}, ErrorCode.OUTCOME_UNKNOWN),
        (401, "Authorization has been denied for this request.", ErrorCode.AUTHENTICATION_FAILED),
        (403, "Forbidden", ErrorCode.AUTHENTICATION_FAILED),
    ],
)
def test_check_reads_one_campaign(status: int, body: object, code: ErrorCode | None) -> None:
    request = CONNECTOR.build_check([])
    assert request is not None
    assert request.url.endswith("/v2/campaigns/filtered?select=1")
    access = CONNECTOR.parse_check([respond(status, body)])
    assert (access.error.code if access.error else None) is code
    assert access.is_accepted == (code is None)


@pytest.mark.parametrize("campaign_id", ["abc", "0", "-1", "1.5", "٣", "not-found", "1/2", ""])
def test_id_that_is_no_number_is_refused_before_a_read(campaign_id: str) -> None:
    with pytest.raises(Refused):
        CONNECTOR.build_lookup(campaign_id, None)
