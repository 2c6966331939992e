"""Instantly's own behaviour: statuses that are numbers, a search by name, pages with cursors."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from strawberry import ID

from campaign_gateway.connectors.contract import Grant, LostCopy
from campaign_gateway.connectors.providers.instantly import (
    InstantlyAccount,
    InstantlyCampaignInput,
    InstantlyConnector,
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

ACCOUNT = InstantlyAccount.model_validate({"provider": "instantly", "api_key": "key"})
CONNECTOR = InstantlyConnector(ACCOUNT)
SOURCE = "019ffad2-5c4b-761a-9bc4-0599e8a95bea"
CAMPAIGN = InstantlyCampaignInput(account=None, campaign_id=ID(SOURCE), name="A copy")
UNNAMED = replace(CAMPAIGN, name=None)
COPY = {"id": "019ffad2-9baa-7b24-b673-febcf19e6996", "name": "A copy", "status": 0}
LIST = "https://api.instantly.ai/api/v2/campaigns"
LOST = LostCopy("Agencies ", datetime(2026, 5, 1, tzinfo=UTC))


def read(status: int, body: object, **headers: str) -> Outcome:
    return CONNECTOR.parse_response(CAMPAIGN, respond(status, body, **headers))


def cursor_of(items: list[Any], **more: Any) -> str | None:
    return CONNECTOR.parse_search(respond(200, {"items": items, **more}), None).next_cursor


def test_id_is_in_the_path_and_name_in_the_body() -> None:
    request = CONNECTOR.build_request(CAMPAIGN)
    assert request.method == "POST"
    assert request.url == f"{LIST}/{SOURCE}/duplicate"
    assert request.headers["authorization"] == "Bearer key"
    assert json.loads(request.body) == {"name": "A copy"}


def test_request_without_a_name_is_an_empty_object() -> None:
    assert CONNECTOR.build_request(UNNAMED).body == b"{}"


def test_limits_are_the_documented_ones() -> None:
    assert (ACCOUNT.calls_per_second, ACCOUNT.calls_per_minute) == (100, 6000)


def test_copy_has_its_times() -> None:
    times = {
        "timestamp_created": "2026-08-13T11:11:58.027Z",
        "timestamp_updated": "2026-08-13T13:11:59+02:00",
    }
    assert read(200, {**COPY, **times}) == Created(
        Campaign(
            id=str(COPY["id"]),
            name="A copy",
            status=CampaignStatus.DRAFT,
            provider_status="Draft",
            created_at=datetime(2026, 8, 13, 11, 11, 58, 27_000, UTC),
            updated_at=datetime(2026, 8, 13, 11, 11, 59, tzinfo=UTC),
        )
    )


@pytest.mark.parametrize(
    ("number", "word", "status"),
    [
        (0, "Draft", CampaignStatus.DRAFT),
        (1, "Active", CampaignStatus.ACTIVE),
        (2, "Paused", CampaignStatus.PAUSED),
        (3, "Completed", CampaignStatus.COMPLETED),
        (4, "Running Subsequences", CampaignStatus.ACTIVE),
        (-1, "Accounts Unhealthy", CampaignStatus.UNKNOWN),
        (-2, "Bounce Protect", CampaignStatus.UNKNOWN),
        (-99, "Account Suspended", CampaignStatus.UNKNOWN),
        (5, "5", CampaignStatus.UNKNOWN),
        (True, None, CampaignStatus.UNKNOWN),
        ("Draft", None, CampaignStatus.UNKNOWN),
        (None, None, CampaignStatus.UNKNOWN),
    ],
)
def test_status_is_the_word_for_the_number(
    number: object, word: str | None, status: CampaignStatus
) -> None:
    outcome = read(200, {**COPY, "status": number})
    assert isinstance(outcome, Created)
    assert (outcome.campaign.status, outcome.campaign.provider_status) == (status, word)


def test_error_in_a_success_is_unknown() -> None:
    outcome = read(200, {"statusCode": 400, "error": "Bad Request", "message": "failed"})
    assert isinstance(outcome, Unknown)
    assert outcome.error.provider_message == "failed"


def test_error_has_its_word_and_its_message() -> None:
    outcome = read(402, {"statusCode": 402, "error": "Payment Required", "message": "no plan"})
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == ErrorCode.QUOTA_EXCEEDED
    assert outcome.error.provider_code == "Payment Required"
    assert outcome.error.provider_message == "no plan"


def test_failed_duplication_has_only_a_message() -> None:
    outcome = read(400, {"message": "New campaign name is required"})
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == ErrorCode.INVALID_INPUT
    assert outcome.error.provider_code == "400"
    assert outcome.error.provider_message == "New campaign name is required"


def test_search_uses_the_requested_name() -> None:
    url = f"{LIST}?limit=100&search=A+copy"
    assert CONNECTOR.build_search(replace(CAMPAIGN, name=" A copy "), None).url == url
    assert CONNECTOR.build_copy_search(CAMPAIGN, None, LOST).url == url
    assert CONNECTOR.build_search(UNNAMED, None).url == f"{LIST}?limit=100"


def test_search_for_an_unnamed_copy_uses_the_whole_name_that_it_has() -> None:
    request = CONNECTOR.build_copy_search(UNNAMED, "a&b", LOST)
    assert request.url == f"{LIST}?limit=100&search=Agencies++%28copy%29&starting_after=a%26b"
    nothing_known = replace(LOST, name_part=None)
    assert CONNECTOR.build_copy_search(UNNAMED, None, nothing_known).url == f"{LIST}?limit=100"


def test_search_ends_at_a_page_without_a_cursor_or_without_campaigns() -> None:
    assert cursor_of([COPY], next_starting_after="next") == "next"
    assert cursor_of([COPY]) is None
    assert cursor_of([], next_starting_after="next") is None
    assert cursor_of([COPY], next_starting_after=5) is None


def test_empty_workspace_shows_the_scope_too() -> None:
    access = CONNECTOR.parse_check([respond(200, {"items": []})])
    assert [permission.grant for permission in access.permissions] == [
        Grant.GRANTED,
        Grant.NEEDS_COPY,
    ]
    assert access.error is None
