"""SendGrid's own behaviour: names of up to 100 characters, warnings about a copy, page tokens."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from strawberry import ID

from campaign_gateway.connectors.contract import ProviderResponse
from campaign_gateway.connectors.providers.sendgrid import (
    SendgridAccount,
    SendgridCampaignInput,
    SendgridConnector,
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
    WarningCode,
)
from support.responses import respond

ACCOUNT = SendgridAccount.model_validate({"provider": "sendgrid", "api_key": "SG.key"})
CONNECTOR = SendgridConnector(ACCOUNT)
SOURCE = "5f0c8a1e-3b7d-4e92-a6c4-9d1e2f7b8a30"
CAMPAIGN = SendgridCampaignInput(
    account=None,
    campaign_id=ID(SOURCE),
    name="A copy",
    list_ids=None,
    segment_ids=None,
    send_at=None,
)
COPY = {"id": "c3a9d0e4-71b6-4f58-8e2d-0b5f6a9c1d72", "name": "A copy", "status": "draft"}
LIST = "https://api.sendgrid.com/v3/marketing/singlesends"


def sent(**changes: Any) -> Any:
    return json.loads(CONNECTOR.build_request(replace(CAMPAIGN, **changes)).body)


def read(status: int, body: object, **headers: str) -> Outcome:
    return CONNECTOR.parse_response(CAMPAIGN, respond(status, body, **headers))


def cursor_of(link: object) -> str | None:
    body = json.dumps({"result": [], "_metadata": {"next": link}}).encode()
    return CONNECTOR.parse_search(ProviderResponse(200, {}, body), None).next_cursor


A_LIST, A_SEGMENT = str(UUID(int=1)), str(UUID(int=2))


@pytest.mark.parametrize(
    ("present", "requested"),
    [
        ({"segment_ids": [A_SEGMENT]}, {"list_ids": [ID(A_LIST)]}),
        ({"list_ids": [A_LIST]}, {"segment_ids": [ID(A_SEGMENT)]}),
        ({"list_ids": [A_LIST], "segment_ids": [A_SEGMENT]}, {"list_ids": [ID(A_LIST)]}),
    ],
)
def test_audience_that_a_blank_may_keep_is_not_changed(
    present: dict[str, Any], requested: dict[str, Any]
) -> None:
    lookup = respond(200, {**COPY, "send_to": present})
    with pytest.raises(Refused) as refusal:
        CONNECTOR.build_change(replace(CAMPAIGN, **requested), COPY["id"], lookup)
    assert refusal.value.error.code == ErrorCode.CONFLICT


@pytest.mark.parametrize(
    ("present", "requested"),
    [
        ({"list_ids": [A_LIST], "segment_ids": [], "all": True}, {"list_ids": [ID(A_LIST)]}),
        ({"segment_ids": [A_SEGMENT]}, {"list_ids": [ID(A_LIST)], "segment_ids": [ID(A_SEGMENT)]}),
        ({"segment_ids": [A_SEGMENT]}, {"send_at": "2027-03-01T09:00:00+01:00"}),
        (None, {"list_ids": [ID(A_LIST)]}),
    ],
)
def test_audience_with_nothing_to_remove_is_changed(
    present: object, requested: dict[str, Any]
) -> None:
    lookup = respond(200, {**COPY, "send_to": present})
    CONNECTOR.build_change(replace(CAMPAIGN, **requested), COPY["id"], lookup)


def test_audience_of_a_copy_that_was_not_read_is_not_changed() -> None:
    changes = replace(CAMPAIGN, list_ids=[ID(A_LIST)])
    with pytest.raises(Refused) as refusal:
        CONNECTOR.build_change(changes, COPY["id"], None)
    assert refusal.value.error.code == ErrorCode.PROVIDER_UNAVAILABLE
    # The name of the input is enough for another option.
    CONNECTOR.build_change(replace(CAMPAIGN, send_at="2027-03-01T09:00:00Z"), COPY["id"], None)


def test_id_is_in_the_path_and_name_in_the_body() -> None:
    request = CONNECTOR.build_request(CAMPAIGN)
    assert request.method == "POST"
    assert request.url == f"{LIST}/{SOURCE}"
    assert request.headers == {
        "authorization": "Bearer SG.key",
        "accept": "application/json",
        "content-type": "application/json",
    }
    assert json.loads(request.body) == {"name": "A copy"}


def test_request_without_a_name_is_an_empty_object() -> None:
    assert sent(name=None) == {}


def test_name_has_at_most_100_characters_of_any_script() -> None:
    assert sent(name="春" * 100) == {"name": "春" * 100}
    with pytest.raises(Refused) as refusal:
        sent(name="春" * 101)
    assert refusal.value.error.code == ErrorCode.INVALID_INPUT
    assert refusal.value.error.field == ("name",)
    assert "100 characters" in refusal.value.error.message


@pytest.mark.parametrize("name", ["search", "categories"])
def test_path_of_another_call_is_refused_as_an_id(name: str) -> None:
    with pytest.raises(Refused) as refusal:
        sent(campaign_id=ID(name))
    assert refusal.value.error.field == ("campaignId",)
    with pytest.raises(Refused) as refusal:
        CONNECTOR.build_lookup(name, None)
    assert refusal.value.error.field == ("id",)


def test_copy_has_its_categories_and_times() -> None:
    times = {"created_at": "2026-05-01T12:00:00.272Z", "updated_at": "2026-05-01T14:00:00+02:00"}
    assert read(201, {**COPY, **times, "categories": ["shoes", "sports"]}) == Created(
        Campaign(
            id=COPY["id"],
            name="A copy",
            status=CampaignStatus.DRAFT,
            provider_status="draft",
            tags=("shoes", "sports"),
            created_at=datetime(2026, 5, 1, 12, 0, 0, 272_000, UTC),
            updated_at=datetime(2026, 5, 1, 12, tzinfo=UTC),
        )
    )


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("draft", CampaignStatus.DRAFT),
        ("scheduled", CampaignStatus.SCHEDULED),
        ("triggered", CampaignStatus.COMPLETED),
        ("winding_down", CampaignStatus.UNKNOWN),
    ],
)
def test_status_keeps_the_providers_word(word: str, status: CampaignStatus) -> None:
    outcome = read(201, {**COPY, "status": word})
    assert isinstance(outcome, Created)
    assert (outcome.campaign.status, outcome.campaign.provider_status) == (status, word)


def test_warnings_about_the_copy_are_returned() -> None:
    remarks = [
        {"message": "a sender is missing", "field": "email_config", "warning_id": "w-1"},
        {"message": "it has no subject", "field": ""},
        {"message": "", "field": "name"},
        {"field": "name"},
        None,
        "a text",
    ]
    outcome = read(201, {**COPY, "warnings": remarks})
    assert isinstance(outcome, Created)
    assert [(warning.code, warning.provider_message) for warning in outcome.warnings] == [
        (WarningCode.PROVIDER_WARNING, "email_config: a sender is missing"),
        (WarningCode.PROVIDER_WARNING, "it has no subject"),
    ]


def test_source_in_capitals_is_still_the_source() -> None:
    assert read(201, {**COPY, "id": SOURCE.upper()}) == Accepted()


def test_all_errors_are_in_the_message_and_no_error_id_is_a_code() -> None:
    errors = [
        {"field": "name", "message": "is too long", "error_id": "e-1"},
        {"field": None, "message": "and there is more"},
        {"field": "name"},
        "a text",
    ]
    outcome = read(400, {"errors": errors})
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == ErrorCode.INVALID_INPUT
    assert outcome.error.provider_message == "name: is too long; and there is more"
    assert outcome.error.provider_code == "400"


@pytest.mark.parametrize("since", ["now", "1970"])
def test_rate_limit_reset_is_parsed_as_documented_and_as_recorded(since: str) -> None:
    reset = 20 + (int(time.time()) if since == "1970" else 0)
    outcome = read(429, {"errors": [{"message": "too many"}]}, x_ratelimit_reset=str(reset))
    assert isinstance(outcome, Rejected)
    assert outcome.error.retry_after is not None
    assert 15 <= outcome.error.retry_after <= 20


def test_search_uses_the_name_without_blanks_around_it() -> None:
    request = CONNECTOR.build_search(replace(CAMPAIGN, name=" A copy "), None)
    assert request.method == "POST"
    assert request.url == f"{LIST}/search?page_size=100"
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body) == {"name": "A copy"}
    assert json.loads(CONNECTOR.build_search(replace(CAMPAIGN, name=None), None).body) == {}


def test_next_page_has_the_token_of_the_link() -> None:
    token = cursor_of(f"{LIST}/search?page_size=100&page_token=MTAw%26a%3D%3D")
    assert token == "MTAw&a=="
    request = CONNECTOR.build_search(CAMPAIGN, token)
    assert request.url == f"{LIST}/search?page_size=100&page_token=MTAw%26a%3D%3D"
    assert json.loads(request.body) == {"name": "A copy"}


def test_next_link_never_leads_to_another_host() -> None:
    token = cursor_of("https://evil.example/?page_token=b#fragment")
    assert token is not None
    assert CONNECTOR.build_search(CAMPAIGN, token).url.startswith(f"{LIST}/search?page_size=100&")


@pytest.mark.parametrize(
    "link",
    [
        None,
        "",
        5,
        {},
        "https://a/DYEsTUDww9-",
        f"{LIST}?page_size=100&page_token=",
        "http://[?",
        "?",
    ],
)
def test_next_link_without_a_token_ends_the_search(link: object) -> None:
    assert cursor_of(link) is None


def test_lookup_needs_only_the_id() -> None:
    request = CONNECTOR.build_lookup("copy-1", None)
    assert request.method == "GET"
    assert request.url == f"{LIST}/copy-1"
    assert not request.body
    assert "content-type" not in request.headers


def test_base_url_of_the_eu_is_used() -> None:
    account = ACCOUNT.model_copy(update={"base_url": "https://api.eu.sendgrid.com"})
    request = SendgridConnector(account).build_request(CAMPAIGN)
    assert request.url == f"https://api.eu.sendgrid.com/v3/marketing/singlesends/{SOURCE}"
