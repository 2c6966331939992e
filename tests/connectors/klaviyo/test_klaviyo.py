"""Klaviyo's own behaviour: JSON:API, and revisions with different names and lists of campaigns."""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError
from strawberry import ID

from campaign_gateway.accounts.account import open_account
from campaign_gateway.accounts.transport.rate_limit import CallKind
from campaign_gateway.connectors.contract import UnexpectedResponse
from campaign_gateway.connectors.providers.klaviyo import (
    FIELDS,
    KlaviyoAccount,
    KlaviyoCampaignInput,
    KlaviyoConnector,
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

CAMPAIGN = KlaviyoCampaignInput(
    account=None,
    campaign_id=ID("source-1"),
    name=None,
    included_audience_ids=None,
    excluded_audience_ids=None,
    send_at=None,
)
BEFORE_DEFINITIONS = ["2025-10-15", "2025-10-15.pre", "2026-04-15", "2026-07-15"]
WITH_DEFINITIONS = [
    "2026-04-15.pre",
    "2026-07-15.pre",
    "2026-10-15",
    "2026-10-15.pre",
    "2027-01-15",
]
TIMES = {"created_at": "2026-09-07T08:15:30+00:00", "updated_at": "2026-09-07T08:15:31+00:00"}


def connect(revision: str = "2026-07-15") -> KlaviyoConnector:
    settings = {"provider": "klaviyo", "api_key": "pk_key", "revision": revision}
    return KlaviyoConnector(KlaviyoAccount.model_validate(settings))


def resource(campaign_type: str = "campaign", **attributes: Any) -> dict[str, Any]:
    return {"type": campaign_type, "id": "copy-1", "attributes": attributes}


def read(status: int, body: object) -> Outcome:
    return connect().parse_response(CAMPAIGN, respond(status, body))


def look_up(body: object) -> Campaign | None:
    return connect().parse_lookup(respond(200, body), "copy-1")


def searched(connector: KlaviyoConnector) -> list[dict[str, list[str]]]:
    """The queries of a whole search, one per page. Klaviyo has three pages here."""
    queries: list[dict[str, list[str]]] = []
    cursor: str | None = None
    while cursor is not None or not queries:
        request = connector.build_search(CAMPAIGN, cursor)
        assert (request.method, urlsplit(request.url).path) == ("GET", "/api/campaigns")
        assert urlsplit(request.url).hostname == "a.klaviyo.com"
        # The documents require an encoded filter, with its quotes and parentheses.
        assert not set("'(),[]") & set(request.url)
        queries.append(parse_qs(urlsplit(request.url).query))
        links = {"self": request.url}
        if len(queries) < 3:
            links["next"] = f"https://evil.example/?page%5Bcursor%5D=bmV4dDo%3D{len(queries)}"
        cursor = connector.parse_search(
            respond(200, {"data": [], "links": links}), cursor
        ).next_cursor
    return queries


# Requests


def test_account_has_the_newest_revision_and_the_documented_rates() -> None:
    account = KlaviyoAccount.model_validate({"provider": "klaviyo", "api_key": "pk_key"})
    assert account.revision == "2026-10-15"
    assert account.has_definitions
    assert (account.calls_per_second, account.calls_per_minute) == (10, 150)


async def test_call_11_of_a_second_is_refused() -> None:
    account = KlaviyoAccount.model_validate({"provider": "klaviyo", "api_key": "pk_key"})
    rate_limiter = open_account("klaviyo", account).rate_limiter
    for _ in range(10):
        async with rate_limiter.acquire(CallKind.COPY, timeout=0) as permit:
            permit.mark_sent()
    with pytest.raises(Refused) as refusal:
        async with rate_limiter.acquire(CallKind.COPY, timeout=0):
            pass
    assert "`calls_per_second`" in refusal.value.error.message


def test_request_is_a_json_api_resource_of_the_accounts_revision() -> None:
    request = connect().build_request(replace(CAMPAIGN, name="A copy"))
    assert request.url == "https://a.klaviyo.com/api/campaign-clone"
    assert request.headers == {
        "authorization": "Klaviyo-API-Key pk_key",
        "revision": "2026-07-15",
        "accept": "application/vnd.api+json",
        "content-type": "application/vnd.api+json",
    }
    assert json.loads(request.body) == {
        "data": {"type": "campaign", "id": "source-1", "attributes": {"new_name": "A copy"}}
    }


@pytest.mark.parametrize(
    ("revision", "name_field"),
    [
        *((revision, "new_name") for revision in BEFORE_DEFINITIONS),
        *((revision, "name") for revision in WITH_DEFINITIONS),
    ],
)
def test_name_is_in_the_field_of_the_revision(revision: str, name_field: str) -> None:
    request = connect(revision).build_request(replace(CAMPAIGN, name="A copy"))
    assert request.headers["revision"] == revision
    assert json.loads(request.body)["data"]["attributes"] == {name_field: "A copy"}


def test_request_without_a_name_still_has_attributes() -> None:
    body = json.loads(connect().build_request(CAMPAIGN).body)
    assert body == {"data": {"type": "campaign", "id": "source-1", "attributes": {}}}


@pytest.mark.parametrize(
    "revision", ["", "latest", "2026-7-15", "2026-07-15.beta", "2026-07-15\n", "\u0662026-07-15"]
)
def test_revision_that_is_no_date_is_refused_at_the_start(revision: str) -> None:
    with pytest.raises(ValidationError, match="revision"):
        connect(revision)


# Responses


@pytest.mark.parametrize(
    "attributes",
    [
        {"name": "A copy", "description": "Why", "status": None, "archived": False},
        {"definition": {"name": "A copy", "description": "Why", "archived": False}},
    ],
)
def test_both_shapes_of_a_campaign_give_the_same_fields(attributes: dict[str, Any]) -> None:
    outcome = read(201, {"data": resource(**attributes, **TIMES)})
    assert isinstance(outcome, Created)
    assert outcome.campaign == look_up({"data": resource(**attributes, **TIMES)})
    assert outcome.campaign.name == "A copy"
    assert outcome.campaign.description == "Why"
    assert outcome.campaign.status == CampaignStatus.UNKNOWN
    assert outcome.campaign.created_at is not None
    assert outcome.campaign.updated_at is not None
    assert outcome.campaign.created_at < outcome.campaign.updated_at


def test_every_documented_status_is_mapped_except_unknown() -> None:
    unknown = {word for word, status in FIELDS.statuses.items() if status is CampaignStatus.UNKNOWN}
    assert len(FIELDS.statuses) == 18
    assert unknown == {"Unknown"}


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("Draft", CampaignStatus.DRAFT),
        ("Queued without Recipients", CampaignStatus.SCHEDULED),
        ("Sending Segments", CampaignStatus.ACTIVE),
        ("Cancelled: No Recipients", CampaignStatus.COMPLETED),
        ("Warming up", CampaignStatus.UNKNOWN),
        ("draft", CampaignStatus.UNKNOWN),
    ],
)
def test_status_keeps_klaviyos_word(word: str, status: CampaignStatus) -> None:
    campaign = look_up({"data": resource(name="A copy", status=word)})
    assert campaign is not None
    assert (campaign.status, campaign.provider_status) == (status, word)


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        ({"status": "Sent", "archived": True}, "Sent"),
        ({"definition": {"name": "A copy", "archived": True}}, None),
    ],
)
def test_archived_campaign_is_archived_with_any_status(
    attributes: dict[str, Any], word: str | None
) -> None:
    campaign = look_up({"data": resource(**attributes)})
    assert campaign is not None
    assert (campaign.status, campaign.provider_status) == (CampaignStatus.ARCHIVED, word)


@pytest.mark.parametrize("status", [200, 201])
def test_success_with_errors_is_unknown(status: int) -> None:
    errors = [{"id": "E-1", "code": "error", "title": "No.", "detail": "No, really."}]
    outcome = read(status, {"data": resource(name="A copy"), "errors": errors})
    assert isinstance(outcome, Unknown)
    assert outcome.error.provider_code == "error"
    assert outcome.trace_id == "E-1"


def test_id_of_another_type_is_no_campaign() -> None:
    other = resource("campaign-send-job", name="A copy")
    assert read(201, {"data": other}) == Accepted()
    with pytest.raises(UnexpectedResponse):
        look_up({"data": other})
    page = connect().parse_search(respond(200, {"data": [other, resource(name="A copy")]}), None)
    assert [campaign.name for campaign in page.campaigns] == ["A copy"]


def test_first_error_is_returned_with_its_message() -> None:
    first = {
        "id": "E-1",
        "status": 400,
        "code": "invalid",
        "title": "Invalid input.",
        "detail": "'x' is not a valid field for the resource 'campaign'.",
        "source": {"pointer": "/data/attributes/x"},
    }
    outcome = read(400, {"errors": [first, {"id": "E-2", "code": "other", "title": "Other."}]})
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == ErrorCode.INVALID_INPUT
    assert outcome.error.provider_code == "invalid"
    assert outcome.error.provider_message == first["detail"]
    assert outcome.trace_id == "E-1"


def test_error_without_a_detail_has_its_title() -> None:
    outcome = read(403, {"errors": [{"code": "permission_denied", "title": "Not allowed."}]})
    assert isinstance(outcome, Rejected)
    assert outcome.error.provider_message == "Not allowed."


@pytest.mark.parametrize("errors", [[], {}, "text", None, [None], [[]], [5]])
def test_malformed_errors_never_raise(errors: object) -> None:
    outcome = read(400, {"errors": errors})
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == ErrorCode.INVALID_INPUT
    assert outcome.error.provider_code == "400"


def test_410_means_a_removed_call_and_not_an_unknown_campaign() -> None:
    outcome = read(410, {"errors": [{"code": "gone", "title": "Gone."}]})
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == ErrorCode.PROVIDER_UNAVAILABLE


# Searches


@pytest.mark.parametrize("revision", BEFORE_DEFINITIONS)
def test_search_reads_one_channel_after_the_other_newest_first(revision: str) -> None:
    assert searched(connect(revision)) == [
        {"sort": ["-created_at"], "filter": [f"equals(messages.channel,'{channel}')"]}
        for channel in ("email", "sms", "mobile_push")
    ]


@pytest.mark.parametrize("revision", WITH_DEFINITIONS)
def test_search_without_channels_uses_the_cursor(revision: str) -> None:
    assert searched(connect(revision)) == [
        {"sort": ["-created_at"]},
        {"sort": ["-created_at"], "page[cursor]": ["bmV4dDo=1"]},
        {"sort": ["-created_at"], "page[cursor]": ["bmV4dDo=2"]},
    ]


@pytest.mark.parametrize("link", [None, "", "?", 5, "https://[", "?page%5Bcursor%5D=", "?x=1"])
def test_next_link_without_a_cursor_ends_the_search(link: object) -> None:
    body = {"data": [], "links": {"self": "x", "next": link}}
    assert connect("2026-10-15").parse_search(respond(200, body), None).next_cursor is None


def test_time_cannot_be_set_where_klaviyo_has_it_in_the_messages() -> None:
    connector = connect("2026-10-15")
    with pytest.raises(Refused, match="revision before 2026-10-15"):
        connector.build_request(replace(CAMPAIGN, send_at="2027-03-01T09:00:00+01:00"))


@pytest.mark.parametrize("ids", [[], ["a1", "a2"], [None]], ids=str)
def test_audience_is_not_changed_unless_it_is_the_only_one(ids: list[str | None]) -> None:
    connector = connect("2026-10-15")
    audiences = {"campaign-audiences": {"data": [{"id": each} for each in ids]}}
    lookup = respond(200, {"data": {"relationships": audiences}})
    wanted = replace(CAMPAIGN, included_audience_ids=[ID("L1")])
    for response in (lookup, None):
        with pytest.raises(Refused, match="exactly one audience"):
            connector.build_change(wanted, "97", response)
