"""Omnisend's own behaviour: a dated version, a name in a second call, a delay in the body."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError
from strawberry import ID

from campaign_gateway.connectors.contract import RenamesCopies, UnexpectedResponse
from campaign_gateway.connectors.providers.omnisend import (
    OmnisendAccount,
    OmnisendCampaignInput,
    OmnisendConnector,
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

ACCOUNT = OmnisendAccount.model_validate({"provider": "omnisend", "api_key": "key"})
CONNECTOR = OmnisendConnector(ACCOUNT)
SOURCE = "65f2c1d47a9b3e0012ab34cd"
CAMPAIGN = OmnisendCampaignInput(
    account=None,
    campaign_id=ID(SOURCE),
    name="A copy",
    subject=None,
    included_segment_ids=None,
    excluded_segment_ids=None,
    send_at=None,
)
COPY_ID = "66a4e9b2c83d1f00147be05a"
COPY = {"id": COPY_ID, "name": "Copy of: Spring sale", "status": "draft"}
PROBLEM = {
    "type": "https://problems.omnisend.com/not-found",
    "title": "Not found",
    "status": 404,
    "detail": "Campaign not found.",
    "instance": "urn:omnisend:request:550e8400-e29b-41d4-a716-446655440000",
}
LIST = "https://api.omnisend.com/api/campaigns"
UNREADABLE = [b"", b"{", b"[]", b"<html></html>", b"{}", b'{"id": 5}', b'{"data": {"id": "a"}}']


def read(status: int, body: object, **headers: str) -> Outcome:
    return CONNECTOR.parse_response(CAMPAIGN, respond(status, body, **headers))


def cursor_after(paging: object) -> str | None:
    body = {"campaigns": [COPY], "paging": paging}
    return CONNECTOR.parse_search(respond(200, body), None).next_cursor


def test_copy_request_has_no_body() -> None:
    request = CONNECTOR.build_request(CAMPAIGN)
    assert request.method == "POST"
    assert request.url == f"{LIST}/{SOURCE}/copy"
    assert request.body == b""
    assert request.headers == {
        "authorization": "Omnisend-API-Key key",
        "omnisend-version": "2026-03-15",
        "accept": "application/json",
    }


def test_version_is_a_setting() -> None:
    settings = {"provider": "omnisend", "api_key": "key", "version": "2027-01-15"}
    connector = OmnisendConnector(OmnisendAccount.model_validate(settings))
    for request in [
        connector.build_request(CAMPAIGN),
        connector.build_rename(CAMPAIGN, COPY_ID, None),
        connector.build_search(CAMPAIGN, None),
        connector.build_lookup(COPY_ID, None),
    ]:
        assert request.headers["omnisend-version"] == "2027-01-15"


@pytest.mark.parametrize(
    "version", ["", "v5", "2026-3-15", "2026-03-15\n", " 2026-03-15", "2026-03-15\r\nx: y", "٢٠٢٦"]
)
def test_version_must_be_a_date(version: str) -> None:
    with pytest.raises(ValidationError):
        OmnisendAccount.model_validate(
            {"provider": "omnisend", "api_key": "key", "version": version}
        )


def test_limit_of_a_brand_is_the_default_rate() -> None:
    assert ACCOUNT.calls_per_minute == 400
    settings = {"provider": "omnisend", "api_key": "key", "calls_per_minute": None}
    assert OmnisendAccount.model_validate(settings).calls_per_minute is None


@pytest.mark.parametrize("name", ["two\nlines", " ", "春" * 251])
def test_invalid_name_is_refused_before_the_copy(name: str) -> None:
    with pytest.raises(Refused) as refusal:
        CONNECTOR.build_request(replace(CAMPAIGN, name=name))
    assert refusal.value.error.code == ErrorCode.INVALID_INPUT
    assert refusal.value.error.field == ("name",)


@pytest.mark.parametrize(
    ("channel", "settings"),
    [
        ("email", {"isTZOptimizationEnabled": False}),
        # The description has the optimization "only in email campaigns".
        ("sms", {}),
        ("push", {}),
    ],
)
def test_schedule_has_the_settings_of_its_channel(channel: str, settings: object) -> None:
    lookup = respond(200, {**COPY, "channel": channel})
    at = "2027-03-01T09:00:00+01:00"
    request = CONNECTOR.build_change(replace(CAMPAIGN, name=None, send_at=at), COPY_ID, lookup)
    sent = {"strategy": "scheduled", "scheduledAt": at}
    assert isinstance(settings, dict)
    assert json.loads(request.body) == {"sendingSettings": {**sent, **settings}}


def test_copy_has_the_name_that_omnisend_chose() -> None:
    times = {"createdAt": "2026-05-01T12:00:00Z", "updatedAt": "2026-05-01T14:00:01+02:00"}
    assert read(201, {**COPY, **times}) == Created(
        Campaign(
            id=COPY_ID,
            name="Copy of: Spring sale",
            status=CampaignStatus.DRAFT,
            provider_status="draft",
            created_at=datetime(2026, 5, 1, 12, tzinfo=UTC),
            updated_at=datetime(2026, 5, 1, 12, 0, 1, tzinfo=UTC),
        )
    )


def test_campaign_that_a_booster_follows_is_not_its_source() -> None:
    settings = {"campaignID": SOURCE, "sendTo": "nonOpeners"}
    outcome = read(201, {**COPY, "type": "booster", "boosterSettings": settings})
    assert isinstance(outcome, Created)
    assert outcome.campaign.copied_from is None


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("draft", CampaignStatus.DRAFT),
        ("scheduled", CampaignStatus.SCHEDULED),
        ("started", CampaignStatus.ACTIVE),
        ("paused", CampaignStatus.PAUSED),
        ("onHold", CampaignStatus.PAUSED),
        ("stopped", CampaignStatus.PAUSED),
        ("sent", CampaignStatus.COMPLETED),
        ("canceled", CampaignStatus.UNKNOWN),
        ("expired", CampaignStatus.UNKNOWN),
        ("error", CampaignStatus.UNKNOWN),
        ("a-new-word", CampaignStatus.UNKNOWN),
    ],
)
def test_status_is_mapped_and_kept(word: str, status: CampaignStatus) -> None:
    outcome = read(201, {**COPY, "status": word})
    assert isinstance(outcome, Created)
    assert (outcome.campaign.status, outcome.campaign.provider_status) == (status, word)


def test_source_in_capitals_is_still_the_source() -> None:
    assert read(201, {**COPY, "id": SOURCE.upper()}) == Accepted()


def test_error_has_omnisends_type_and_detail() -> None:
    outcome = read(404, PROBLEM)
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == ErrorCode.CAMPAIGN_NOT_FOUND
    assert outcome.error.provider_code == "https://problems.omnisend.com/not-found"
    assert outcome.error.provider_message == "Campaign not found."
    assert outcome.trace_id == PROBLEM["instance"]


def test_problem_without_a_detail_has_its_title() -> None:
    outcome = read(401, {"type": "about:blank", "title": "Unauthorized", "status": 401})
    assert isinstance(outcome, Rejected)
    assert outcome.error.provider_message == "Unauthorized"
    assert outcome.trace_id is None


def test_all_wrong_fields_are_in_the_message() -> None:
    errors = [
        {"field": "name", "code": "required", "message": "Name is required"},
        {"field": "", "code": "unknown", "message": "And there is more"},
        {"field": "language", "code": "invalid_format"},
        None,
        "a text",
    ]
    outcome = read(400, {**PROBLEM, "errors": errors})
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == ErrorCode.INVALID_INPUT
    assert outcome.error.provider_message == "name: Name is required; And there is more"


@pytest.mark.parametrize("body", [PROBLEM, b"", b"<html></html>"])
def test_410_means_a_retired_version_and_not_an_unknown_campaign(body: object) -> None:
    outcome, refusal = read(410, body), CONNECTOR.parse_rename(respond(410, body))
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == ErrorCode.PROVIDER_UNAVAILABLE
    assert isinstance(refusal, Rejected)
    with pytest.raises(UnexpectedResponse):
        CONNECTOR.parse_lookup(respond(410, body), COPY_ID)


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [(30, 30), ("45", 45), (0, 0), (-5, 0), (86_400, 3600), (10**30, 17), (1.5, 17), (None, 17)],
)
def test_delay_comes_from_the_body_or_else_from_the_headers(delay: object, seconds: int) -> None:
    outcome = read(429, {**PROBLEM, "status": 429, "retryAfter": delay}, retry_after="17")
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == ErrorCode.RATE_LIMITED
    assert outcome.error.retry_after == seconds


@pytest.mark.parametrize("status", [404, 500])
def test_only_a_rate_limit_has_a_delay(status: int) -> None:
    outcome = read(status, {**PROBLEM, "retryAfter": 30}, retry_after="17")
    assert isinstance(outcome, Rejected | Unknown)
    assert outcome.error.retry_after is None


def test_name_is_sent_alone_in_a_second_call() -> None:
    assert isinstance(CONNECTOR, RenamesCopies)
    request = CONNECTOR.build_rename(replace(CAMPAIGN, name="Zweite Welle 🌷"), COPY_ID, None)
    assert request.method == "PATCH"
    assert request.url == f"{LIST}/{COPY_ID}"
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body) == {"name": "Zweite Welle 🌷"}


def test_name_has_at_most_250_characters_of_any_script() -> None:
    request = CONNECTOR.build_rename(replace(CAMPAIGN, name="春" * 250), COPY_ID, None)
    assert json.loads(request.body) == {"name": "春" * 250}


@pytest.mark.parametrize("body", UNREADABLE)
@pytest.mark.parametrize("status", [200, 204])
def test_rename_succeeds_only_with_the_campaign_in_the_response(status: int, body: bytes) -> None:
    assert isinstance(CONNECTOR.parse_rename(respond(status, body)), Unknown)
    cut_off = replace(respond(200, COPY), complete=False)
    assert isinstance(CONNECTOR.parse_rename(cut_off), Unknown)


def test_rename_of_a_campaign_that_is_no_draft_is_rejected() -> None:
    refusal = CONNECTOR.parse_rename(respond(409, {**PROBLEM, "status": 409}))
    assert isinstance(refusal, Rejected)
    assert refusal.error.code == ErrorCode.CONFLICT


def test_search_reads_the_newest_campaigns_first() -> None:
    request = CONNECTOR.build_search(CAMPAIGN, None)
    assert request.method == "GET"
    assert request.url == f"{LIST}?limit=250&sort=createdAt&direction=desc"
    assert not request.body
    assert "content-type" not in request.headers


def test_next_page_has_the_cursor_and_the_same_parameters() -> None:
    cursor = cursor_after({"limit": 250, "hasMore": True, "cursors": {"after": "a&b=#c==/?"}})
    assert cursor == "a&b=#c==/?"
    first, second = CONNECTOR.build_search(CAMPAIGN, None), CONNECTOR.build_search(CAMPAIGN, cursor)
    assert urlsplit(second.url).path == urlsplit(first.url).path
    parameters = {name: [value] for name, (value,) in parse_qs(urlsplit(first.url).query).items()}
    assert parse_qs(urlsplit(second.url).query) == {**parameters, "after": ["a&b=#c==/?"]}


@pytest.mark.parametrize(
    "paging",
    [None, [], {}, {"cursors": None}, {"cursors": {"after": None}}, {"cursors": {"after": 5}}],
)
def test_page_without_a_cursor_is_the_last(paging: Any) -> None:
    assert cursor_after(paging) is None


def test_lookup_needs_only_the_id() -> None:
    request = CONNECTOR.build_lookup(COPY_ID, None)
    assert request.method == "GET"
    assert request.url == f"{LIST}/{COPY_ID}"
