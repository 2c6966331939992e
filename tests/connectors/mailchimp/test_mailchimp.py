"""Mailchimp's own behaviour: the key contains the host, and a title needs a second call."""

import base64
import json
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError
from strawberry import ID

from campaign_gateway.connectors.contract import (
    ProviderRequest,
    ProviderResponse,
    RenamesCopies,
    UnexpectedResponse,
)
from campaign_gateway.connectors.providers.mailchimp import (
    MailchimpAccount,
    MailchimpCampaignInput,
    MailchimpConnector,
)
from campaign_gateway.model import (
    CampaignStatus,
    Created,
    ErrorCode,
    Outcome,
    Refused,
    Rejected,
    Unknown,
)
from support.responses import respond

KEY = "0123456789abcdef-us21"
ACCOUNT = MailchimpAccount.model_validate({"provider": "mailchimp", "api_key": KEY})
CONNECTOR = MailchimpConnector(ACCOUNT)
CAMPAIGN = MailchimpCampaignInput(
    account=None,
    campaign_id=ID("42694e9e57"),
    name=None,
    subject=None,
    list_id=None,
    saved_segment_id=None,
)
# The fields that the connector parses.
FIELDS = ["id", "web_id", "status", "create_time", "settings.title"]
COPY_ID = "b03bfc273e"
COPY = {
    "id": COPY_ID,
    "create_time": "2026-09-15T14:40:36+00:00",
    "status": "save",
    "settings": {"title": "Spring newsletter (copy 01)"},
}
PROBLEM = {
    "type": "https://mailchimp.com/developer/marketing/docs/errors/",
    "title": "Bad Request",
    "status": 400,
    "detail": "This campaign cannot be replicated.",
    "instance": "3b4dcb40-0b6b-4820-bfaa-41267b3826ea",
}


def account(**settings: object) -> MailchimpAccount:
    return MailchimpAccount.model_validate({"provider": "mailchimp", **settings})


def read(status: int, body: object, **headers: str) -> Outcome:
    return CONNECTOR.parse_response(CAMPAIGN, respond(status, body, **headers))


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("0123456789abcdef-us21", "us21.api.mailchimp.com"),
        ("0123-4567-us6", "us6.api.mailchimp.com"),
    ],
)
def test_end_of_the_key_gives_the_host(key: str, host: str) -> None:
    assert account(api_key=key).root == f"https://{host}"


def test_base_url_overrides_the_data_centre_of_the_key() -> None:
    settings = account(api_key=KEY, base_url="https://proxy.example/mailchimp/")
    assert settings.root == "https://proxy.example/mailchimp"
    settings = account(api_key="0123456789abcdef", base_url="https://proxy.example")
    assert settings.root == "https://proxy.example"


@pytest.mark.parametrize(
    ("settings", "root"),
    [
        ({"api_key": KEY}, "https://us21.admin.mailchimp.com"),
        ({"api_key": KEY, "base_url": "https://proxy.example"}, "https://us21.admin.mailchimp.com"),
        (
            {"api_key": "an-oauth-token", "base_url": "https://us6.api.mailchimp.com"},
            "https://us6.admin.mailchimp.com",
        ),
        ({"api_key": "an-oauth-token", "base_url": "https://proxy.example"}, None),
        ({"api_key": "x", "base_url": "https://us6.api.mailchimp.com.proxy.example"}, None),
    ],
)
def test_data_centre_and_web_id_are_the_address_of_a_copy(
    settings: dict[str, str], root: str | None
) -> None:
    connector = MailchimpConnector(account(**settings))
    outcome = connector.parse_response(CAMPAIGN, respond(200, {**COPY, "web_id": 3214929}))
    assert isinstance(outcome, Created)
    assert outcome.campaign.url == (root and f"{root}/campaigns/show/?id=3214929")


@pytest.mark.parametrize("web_id", [None, "x", 0, -1, "1&x=2", [1]])
def test_copy_without_a_web_id_has_no_address(web_id: object) -> None:
    outcome = read(200, {**COPY, "web_id": web_id})
    assert isinstance(outcome, Created)
    assert outcome.campaign.url is None


@pytest.mark.parametrize(
    "key",
    ["0123456789abcdef", "secret-", "secret-us", "x-us21.evil.example", "x-us21/", "x-evil"],
)
def test_key_without_a_data_centre_is_an_error_without_the_key_in_it(key: str) -> None:
    with pytest.raises(ValidationError) as mistake:
        account(api_key=key)
    assert "data centre" in str(mistake.value)
    assert key not in str(mistake.value)


def test_account_uses_fewer_than_ten_connections() -> None:
    assert ACCOUNT.calls_at_once == 8


def test_copy_request_has_no_body() -> None:
    request = CONNECTOR.build_request(replace(CAMPAIGN, name="A new title"))
    assert request.method == "POST"
    path = "/3.0/campaigns/42694e9e57/actions/replicate"
    assert request.url == f"https://us21.api.mailchimp.com{path}"
    assert request.body == b""
    assert "content-type" not in request.headers
    scheme, _, credentials = request.headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(credentials)) == ("Basic", f"gateway:{KEY}".encode())


def test_invalid_name_is_refused_before_the_copy() -> None:
    with pytest.raises(Refused) as refusal:
        CONNECTOR.build_request(replace(CAMPAIGN, name="two\nlines"))
    assert refusal.value.error.field == ("name",)


def test_copy_has_the_title_that_mailchimp_chose() -> None:
    outcome = read(200, COPY, x_request_id="R-1")
    assert isinstance(outcome, Created)
    assert outcome.campaign.name == "Spring newsletter (copy 01)"
    assert outcome.campaign.created_at is not None
    assert outcome.campaign.updated_at is None
    assert outcome.trace_id == "R-1"


@pytest.mark.parametrize("settings", [{"title": ""}, {}, None, "x"])
def test_copy_without_a_title_has_no_name(settings: object) -> None:
    outcome = read(200, {**COPY, "settings": settings})
    assert isinstance(outcome, Created)
    assert outcome.campaign.name is None


def test_parent_campaign_is_not_the_source() -> None:
    # The parent is the RSS feed's or the automation's campaign.
    outcome = read(200, {**COPY, "parent_campaign_id": "42694e9e57"})
    assert isinstance(outcome, Created)
    assert outcome.campaign.copied_from is None


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("save", CampaignStatus.DRAFT),
        ("schedule", CampaignStatus.SCHEDULED),
        ("sending", CampaignStatus.ACTIVE),
        ("paused", CampaignStatus.PAUSED),
        ("sent", CampaignStatus.COMPLETED),
        ("archived", CampaignStatus.ARCHIVED),
        ("canceling", CampaignStatus.UNKNOWN),
        ("canceled", CampaignStatus.UNKNOWN),
        ("a-new-word", CampaignStatus.UNKNOWN),
    ],
)
def test_status_is_mapped_and_kept(word: str, status: CampaignStatus) -> None:
    outcome = read(200, {**COPY, "status": word})
    assert isinstance(outcome, Created)
    assert outcome.campaign.status == status
    assert outcome.campaign.provider_status == word


def test_error_has_mailchimps_title_and_detail() -> None:
    outcome = read(400, PROBLEM, x_request_id="R-1")
    assert isinstance(outcome, Rejected)
    assert outcome.error.provider_code == "Bad Request"
    assert outcome.error.provider_message == "This campaign cannot be replicated."
    assert outcome.trace_id == PROBLEM["instance"]


def test_problem_without_an_instance_has_the_request_id() -> None:
    outcome = read(400, {**PROBLEM, "instance": ""}, x_request_id="R-1")
    assert isinstance(outcome, Rejected)
    assert outcome.trace_id == "R-1"


def test_problem_with_a_success_status_is_no_rejection() -> None:
    assert isinstance(read(200, PROBLEM), Unknown)


def test_403_is_a_missing_permission_only_with_mailchimps_error() -> None:
    in_json, in_html = read(403, PROBLEM), read(403, b"<h1>Access Denied</h1>", retry_after="30")
    assert isinstance(in_json, Rejected)
    assert in_json.error.code == ErrorCode.PERMISSION_DENIED
    assert isinstance(in_html, Rejected)
    assert in_html.error.code == ErrorCode.RATE_LIMITED
    assert in_html.error.retry_after == 30


def rename(described: ProviderResponse | None) -> ProviderRequest:
    return CONNECTOR.build_rename(replace(CAMPAIGN, name="Zweite Welle 🌷"), COPY_ID, described)


def test_title_is_sent_in_a_second_call() -> None:
    assert isinstance(CONNECTOR, RenamesCopies)
    request = rename(respond(200, COPY))
    assert request.method == "PATCH"
    assert request.url == "https://us21.api.mailchimp.com/3.0/campaigns/b03bfc273e"
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body)["settings"]["title"] == "Zweite Welle 🌷"


def test_rename_repeats_the_required_settings() -> None:
    kept = {"subject_line": "Grüße", "from_name": "The editors", "reply_to": "e@example.com"}
    settings = {**kept, "title": "Spring newsletter (copy 01)", "to_name": "*|FNAME|*"}
    request = rename(respond(200, {**COPY, "settings": settings}))
    assert json.loads(request.body) == {"settings": {**kept, "title": "Zweite Welle 🌷"}}


@pytest.mark.parametrize(
    "settings", [{}, {"subject_line": None}, {"subject_line": " "}, {"subject_line": 5}]
)
def test_rename_sends_missing_settings_as_empty_text(settings: object) -> None:
    """The description 3.0.55 requires text, and the newest accepts it."""
    sent = json.loads(rename(respond(200, {**COPY, "settings": settings})).body)
    empty = {"subject_line": "", "from_name": "", "reply_to": ""}
    assert sent == {"settings": {**empty, "title": "Zweite Welle 🌷"}}


UNREAD = [
    None,
    respond(200, b""),
    respond(200, {"id": COPY_ID}),
    respond(200, {**COPY, "settings": None}),
    replace(respond(200, COPY), complete=False),
]


@pytest.mark.parametrize("described", UNREAD)
def test_rename_without_the_current_settings_is_refused(
    described: ProviderResponse | None,
) -> None:
    with pytest.raises(Refused) as refusal:
        rename(described)
    assert refusal.value.error.code is ErrorCode.PROVIDER_UNAVAILABLE
    assert "subject" in refusal.value.error.message


@pytest.mark.parametrize("title", ["WrongDatacenter", "Wrong Datacenter", "Wrong DataCenter"])
def test_key_of_another_data_centre_fails_authentication(title: str) -> None:
    refused = read(403, {**PROBLEM, "title": title, "status": 403})
    assert isinstance(refused, Rejected)
    assert refused.error.code is ErrorCode.AUTHENTICATION_FAILED
    assert refused.error.provider_code == title


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b"<html></html>", b'{"id": 5}'])
@pytest.mark.parametrize("status", [200, 204])
def test_rename_succeeds_only_with_the_campaign_in_the_response(status: int, body: bytes) -> None:
    assert isinstance(CONNECTOR.parse_rename(respond(status, body)), Unknown)
    cut_off = replace(respond(200, COPY), complete=False)
    assert isinstance(CONNECTOR.parse_rename(cut_off), Unknown)


def test_search_reads_the_newest_campaigns_first_with_few_fields() -> None:
    request = CONNECTOR.build_search(CAMPAIGN, None)
    assert request.method == "GET"
    assert urlsplit(request.url).path == "/3.0/campaigns"
    assert parse_qs(urlsplit(request.url).query) == {
        "fields": [",".join([*(f"campaigns.{field}" for field in FIELDS), "total_items"])],
        "count": ["100"],
        "offset": ["0"],
        "sort_field": ["create_time"],
        "sort_dir": ["DESC"],
    }
    assert "offset=200" in CONNECTOR.build_search(CAMPAIGN, "200").url


@pytest.mark.parametrize(
    ("cursor", "total", "following"),
    [(None, 100, None), (None, 101, "100"), ("100", 201, "200"), ("100", 200, None)],
)
def test_search_continues_until_the_total(
    cursor: str | None, total: int, following: str | None
) -> None:
    page = CONNECTOR.parse_search(respond(200, {"campaigns": [COPY], "total_items": total}), cursor)
    assert [campaign.id for campaign in page.campaigns] == ["b03bfc273e"]
    assert page.next_cursor == following


def test_lookup_requests_the_parsed_fields() -> None:
    request = CONNECTOR.build_lookup("b03bfc273e", None)
    assert request.url == (
        "https://us21.api.mailchimp.com/3.0/campaigns/b03bfc273e"
        "?fields=id,web_id,status,create_time,settings.title,"
        "settings.subject_line,settings.from_name,settings.reply_to"
    )


def test_lookup_with_another_campaign_raises() -> None:
    with pytest.raises(UnexpectedResponse):
        CONNECTOR.parse_lookup(respond(200, COPY), "839488a60b")
