"""lemlist's own behaviour: errors in plain text, a list without an object around it, its names."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from strawberry import ID

from campaign_gateway.connectors.contract import ProviderResponse, UnexpectedResponse
from campaign_gateway.connectors.providers.lemlist import (
    LemlistAccount,
    LemlistCampaignInput,
    LemlistConnector,
)
from campaign_gateway.model import (
    Campaign,
    CampaignStatus,
    Created,
    ErrorCode,
    Outcome,
    Rejected,
    Unknown,
)
from support.responses import respond

ACCOUNT = LemlistAccount.model_validate({"provider": "lemlist", "api_key": "key"})
CONNECTOR = LemlistConnector(ACCOUNT)
SOURCE = "cam_A1B2C3D4E5F6G7H8I"
CAMPAIGN = LemlistCampaignInput(account=None, campaign_id=ID(SOURCE), name="A copy")
COPY = {"_id": "cam_X1Y2Z3A4B5C6D7E8F", "name": "A copy", "status": "draft"}
LIST = "https://api.lemlist.com/api/campaigns"
TEXT = "text/plain; charset=utf-8"


def read(status: int, body: object, **headers: str) -> Outcome:
    return CONNECTOR.parse_response(CAMPAIGN, respond(status, body, **headers))


def page_of(count: int, cursor: str | None = None) -> str | None:
    items = [{**COPY, "_id": f"cam_{number}"} for number in range(count)]
    return CONNECTOR.parse_search(respond(200, items), cursor).next_cursor


def test_key_is_the_password_of_a_user_without_a_name() -> None:
    request = CONNECTOR.build_request(CAMPAIGN)
    assert request.method == "POST"
    assert request.url == f"{LIST}/{SOURCE}/duplicate"
    assert request.headers["authorization"] == "Basic OmtleQ=="
    assert json.loads(request.body) == {"name": "A copy"}


def test_request_without_a_name_is_an_empty_object() -> None:
    assert CONNECTOR.build_request(replace(CAMPAIGN, name=None)).body == b"{}"


def test_limit_is_the_documented_one() -> None:
    assert ACCOUNT.calls_per_second == 10


def test_copy_has_its_labels_and_its_time() -> None:
    body = {**COPY, "labels": ["CRM"], "createdAt": "2024-01-15T10:30:00.000Z"}
    assert read(200, body) == Created(
        Campaign(
            id=COPY["_id"],
            name="A copy",
            status=CampaignStatus.DRAFT,
            provider_status="draft",
            tags=("CRM",),
            created_at=datetime(2024, 1, 15, 10, 30, tzinfo=UTC),
        )
    )


def test_id_in_another_field_is_no_copy() -> None:
    assert isinstance(read(200, {"id": COPY["_id"], "name": "A copy"}), Unknown)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("draft", CampaignStatus.DRAFT),
        ("running", CampaignStatus.ACTIVE),
        ("paused", CampaignStatus.PAUSED),
        ("ended", CampaignStatus.COMPLETED),
        ("archived", CampaignStatus.ARCHIVED),
        ("errors", CampaignStatus.UNKNOWN),
    ],
)
def test_status_keeps_the_providers_word(word: str, status: CampaignStatus) -> None:
    outcome = read(200, {**COPY, "status": word})
    assert isinstance(outcome, Created)
    assert (outcome.campaign.status, outcome.campaign.provider_status) == (status, word)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, "No API key provided", ErrorCode.AUTHENTICATION_FAILED),
        (404, "No user found for this API key", ErrorCode.AUTHENTICATION_FAILED),
        (404, "Campaign not found", ErrorCode.CAMPAIGN_NOT_FOUND),
        (404, {"error": "Campaign not found"}, ErrorCode.CAMPAIGN_NOT_FOUND),
        (404, "Not Found", ErrorCode.PROVIDER_UNAVAILABLE),
        (400, {"error": "Bad team"}, ErrorCode.INVALID_INPUT),
        (400, {"message": "Bad params"}, ErrorCode.INVALID_INPUT),
    ],
)
def test_text_of_an_error_decides_together_with_its_status(
    status: int, body: Any, code: ErrorCode
) -> None:
    media_type = TEXT if isinstance(body, str) else "application/json"
    outcome = read(status, body, content_type=media_type)
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == code
    assert outcome.error.provider_message == (
        body if isinstance(body, str) else next(iter(body.values()))
    )


def test_text_of_a_rejection_with_another_status_rejects_nothing() -> None:
    for text in ("Campaign not found", "No API key provided"):
        assert isinstance(read(500, text, content_type=TEXT), Unknown)


def test_page_of_a_proxy_is_not_a_message() -> None:
    outcome = read(403, "<h1>Forbidden</h1>", content_type="text/html")
    assert isinstance(outcome, Rejected)
    assert outcome.error.provider_message is None


def test_reset_that_is_text_for_people_is_not_parsed() -> None:
    reset = "Tue Feb 16 2021 09:02:42 GMT+0100 (Central European Standard Time)"
    outcome = read(429, "Too Many", retry_after="2", x_ratelimit_reset=reset)
    assert isinstance(outcome, Rejected)
    assert outcome.error.retry_after == 2


def test_search_lists_the_newest_campaigns_first() -> None:
    request = CONNECTOR.build_search(CAMPAIGN, None)
    order = "version=v2&sortBy=createdAt&sortOrder=desc"
    assert request.url == f"{LIST}?{order}&limit=100&offset=0"
    assert CONNECTOR.build_search(CAMPAIGN, "100").url == f"{LIST}?{order}&limit=100&offset=100"


def test_full_page_has_a_next_one() -> None:
    assert page_of(99) is None
    assert page_of(100) == "100"
    assert page_of(100, "100") == "200"
    assert page_of(0, "200") is None


def test_empty_first_page_is_no_list() -> None:
    """A list that has not even the source could hide the copy."""
    empty: list[object] = [[], {"campaigns": []}, {}]
    for body in empty:
        with pytest.raises(UnexpectedResponse):
            CONNECTOR.parse_search(respond(200, body), None)


def test_list_may_be_in_an_object() -> None:
    page = CONNECTOR.parse_search(respond(200, {"campaigns": [COPY, {"name": "no id"}]}), None)
    assert [campaign.id for campaign in page.campaigns] == [COPY["_id"]]


def test_campaign_is_missing_only_if_lemlist_says_so() -> None:
    missing = respond(404, "Campaign not found", content_type=TEXT)
    assert CONNECTOR.parse_lookup(missing, SOURCE) is None
    for response in (
        respond(404, "No user found for this API key", content_type=TEXT),
        respond(404, "<h1>Campaign not found</h1>", content_type="text/html"),
        respond(500, "Campaign not found", content_type=TEXT),
        ProviderResponse(404, {"content-type": TEXT}, b"Campaign not found", complete=False),
    ):
        with pytest.raises(UnexpectedResponse):
            CONNECTOR.parse_lookup(response, SOURCE)
