"""Braze's own behaviour: its instances, a response without an id, tags, and a limit per minute."""

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError
from starlette.types import ASGIApp
from strawberry import ID

from campaign_gateway.accounts.account import Account
from campaign_gateway.connectors.contract import ProviderResponse
from campaign_gateway.connectors.providers.braze import (
    BrazeAccount,
    BrazeCampaignInput,
    BrazeCampaignKind,
    BrazeConnector,
)
from campaign_gateway.model import (
    Accepted,
    CampaignStatus,
    ErrorCode,
    Outcome,
    Refused,
    Rejected,
    Unknown,
)
from campaign_gateway.sandbox.contract_suite.calling import free_permit
from campaign_gateway.sandbox.emulators.braze import API_KEY, create_emulator
from campaign_gateway.settings import SettingsError, parse_settings
from support.responses import respond

SOURCE = "0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10"
CANVAS = "7d1c9e58-2b6f-4f0a-8c35-91e4a7d20b66"

Duplicate = Callable[[Account, Any], Awaitable[Outcome]]

# braze.com/docs/api/basics, read 2026-09-02.
REST_HOSTS = {
    "US-01": "rest.iad-01.braze.com",
    "US-02": "rest.iad-02.braze.com",
    "US-03": "rest.iad-03.braze.com",
    "US-04": "rest.iad-04.braze.com",
    "US-05": "rest.iad-05.braze.com",
    "US-06": "rest.iad-06.braze.com",
    "US-07": "rest.iad-07.braze.com",
    "US-08": "rest.iad-08.braze.com",
    "US-10": "rest.us-10.braze.com",
    "EU-01": "rest.fra-01.braze.eu",
    "EU-02": "rest.fra-02.braze.eu",
    "AU-01": "rest.au-01.braze.com",
    "ID-01": "rest.id-01.braze.com",
    "JP-01": "rest.jp-01.braze.com",
    "KR-01": "rest.kr-01.braze.com",
}


def account_of(**settings: Any) -> BrazeAccount:
    return BrazeAccount.model_validate({"provider": "braze", "api_key": "a-key", **settings})


def connector() -> BrazeConnector:
    return BrazeConnector(account_of(instance="EU-01"))


def campaign(
    campaign_id: str = SOURCE,
    name: str = "A copy",
    description: str | None = None,
    tag_names: list[str] | None = None,
    kind: BrazeCampaignKind | None = None,
) -> BrazeCampaignInput:
    return BrazeCampaignInput(
        account=None,
        campaign_id=ID(campaign_id),
        name=name,
        description=description,
        tag_names=tag_names,
        kind=kind,
    )


def body_of(wanted: BrazeCampaignInput) -> Any:
    return json.loads(connector().build_request(wanted).body)


def read(status: int, body: object = b"", **headers: str) -> Outcome:
    return connector().parse_response(campaign(), respond(status, body, **headers))


def describe(**body: object) -> tuple[CampaignStatus, str | None]:
    body_sent = json.dumps({"message": "success", "name": "A copy", **body}).encode()
    described = connector().parse_lookup(ProviderResponse(200, {}, body_sent), "an-id")
    assert described is not None
    return described.status, described.provider_status


@pytest.mark.parametrize(("instance", "host"), REST_HOSTS.items())
def test_instance_has_its_host(instance: str, host: str) -> None:
    request = BrazeConnector(account_of(instance=instance)).build_request(campaign())
    assert request.url == f"https://{host}/campaigns/duplicate"
    assert request.headers["authorization"] == "Bearer a-key"


@pytest.mark.parametrize("instance", ["US-09", "US-11", "EU-03", "us-01", "rest.iad-01", ""])
def test_unknown_instance_is_refused(instance: str) -> None:
    with pytest.raises(ValidationError, match="instance"):
        account_of(instance=instance)


def test_base_url_replaces_the_instance() -> None:
    account = account_of(base_url="https://rest.fra-09.braze.eu")
    request = BrazeConnector(account).build_request(campaign())
    assert request.url == "https://rest.fra-09.braze.eu/campaigns/duplicate"


@pytest.mark.parametrize(
    "address", [{}, {"instance": "EU-01", "base_url": "https://rest.fra-01.braze.eu"}]
)
def test_account_needs_exactly_one_address(address: dict[str, str]) -> None:
    table = {"provider": "braze", "api_key": "a-key", **address}
    with pytest.raises(SettingsError, match="either base_url or instance"):
        parse_settings({"accounts": {"braze": table}}, {})


def test_account_has_the_documented_rate() -> None:
    assert account_of(instance="EU-01").calls_per_minute == 100


def test_omitted_fields_are_not_sent() -> None:
    assert body_of(campaign()) == {"campaign_id": SOURCE, "name": "A copy"}
    assert body_of(campaign(description="")) == {"campaign_id": SOURCE, "name": "A copy"}
    assert body_of(campaign(description="Why"))["description"] == "Why"


def test_tags_are_sent_as_an_array() -> None:
    assert body_of(campaign(tag_names=["promo"]))["tag_names"] == ["promo"]
    # An empty list removes the source's tags. An omitted list keeps them.
    assert body_of(campaign(tag_names=[]))["tag_names"] == []


@pytest.mark.parametrize("tag", ["", " ", "a\x00b", "\ud800"])
def test_invalid_tag_is_refused(tag: str) -> None:
    with pytest.raises(Refused) as refusal:
        connector().build_request(campaign(tag_names=["promo", tag]))
    assert refusal.value.error.code == ErrorCode.INVALID_INPUT
    assert refusal.value.error.field == ("tagNames",)
    assert refusal.value.error.message.startswith("Item 2 of tagNames must ")


async def test_unknown_tag_is_rejected_by_braze(
    serve: Callable[[ASGIApp], str], open_at: Callable[..., Account], duplicate: Duplicate
) -> None:
    account = open_at("braze", serve(create_emulator()), api_key=API_KEY)
    outcome = await duplicate(account, campaign(tag_names=["unheard-of"]))
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == ErrorCode.INVALID_INPUT
    assert "unheard-of" in (outcome.error.provider_message or "")


BODIES: list[object] = [
    None,
    {"message": "success"},
    {"campaign_id": "an-id"},
    [],
    "<html>Welcome</html>",
]


@pytest.mark.parametrize("body", BODIES)
def test_documented_success_is_accepted_without_a_copy(body: object) -> None:
    assert read(202, body, x_request_id="T-1") == Accepted("T-1")


@pytest.mark.parametrize("status", [200, 201, 203, 204, 206])
@pytest.mark.parametrize("body", BODIES)
def test_undocumented_success_is_unknown(status: int, body: object) -> None:
    outcome = read(status, body, x_request_id="T-1")
    assert isinstance(outcome, Unknown)
    assert (outcome.error.provider_code, outcome.trace_id) == (str(status), "T-1")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("Invalid Campaign ID", ErrorCode.CAMPAIGN_NOT_FOUND),
        ("invalid campaign id: x", ErrorCode.CAMPAIGN_NOT_FOUND),
        (
            "campaign_id must be a string of the Campaign api identifier",
            ErrorCode.CAMPAIGN_NOT_FOUND,
        ),
        ("Bad Request", ErrorCode.INVALID_INPUT),
        ("name is required", ErrorCode.INVALID_INPUT),
        ("Tag x does not exist", ErrorCode.INVALID_INPUT),
        ("", ErrorCode.INVALID_INPUT),
    ],
)
def test_400_is_an_unknown_campaign_only_with_such_a_message(message: str, code: ErrorCode) -> None:
    outcome = read(400, {"message": message})
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == code
    assert outcome.error.provider_message == (message or None)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_server_error_is_unknown_with_any_message(status: int) -> None:
    # Braze's pages advise a retry, which would make a second draft.
    assert isinstance(read(status, {"message": "Invalid Campaign ID"}), Unknown)


def test_empty_rate_limit_headers_give_no_delay() -> None:
    empty = {"x_ratelimit_limit": "", "x_ratelimit_remaining": "", "x_ratelimit_reset": ""}
    limited, unauthorized = read(429, None, **empty), read(401, None, **empty)
    assert isinstance(limited, Rejected)
    assert limited.error.retry_after is None
    assert isinstance(unauthorized, Rejected)
    assert unauthorized.error.code == ErrorCode.AUTHENTICATION_FAILED


async def test_call_101_of_a_minute_gets_the_delay(
    serve: Callable[[ASGIApp], str], open_at: Callable[..., Account], duplicate: Duplicate
) -> None:
    account = open_at("braze", serve(create_emulator()), api_key=API_KEY)
    for _ in range(100):
        assert isinstance(await duplicate(account, campaign()), Accepted)

    async def cross() -> None: ...

    request = account.connector.build_request(campaign())
    response = await account.transport.send_once(request, free_permit(), cross)
    assert response.status == 429
    assert response.headers["x-ratelimit-limit"] == "100"
    assert response.headers["x-ratelimit-remaining"] == "0"
    assert "retry-after" not in response.headers
    outcome = account.connector.parse_response(campaign(), response)
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == ErrorCode.RATE_LIMITED
    assert outcome.error.retry_after is not None
    assert 50 <= outcome.error.retry_after <= 60


def test_search_reads_the_newest_first_while_pages_are_full() -> None:
    def page_of(count: int) -> ProviderResponse:
        items = [{"id": f"id-{number}", "name": "A copy"} for number in range(count)]
        return respond(200, {"campaigns": items})

    first = urlsplit(connector().build_search(campaign(), None).url)
    assert first.path == "/campaigns/list"
    assert parse_qs(first.query) == {
        "page": ["0"],
        "include_archived": ["true"],
        "sort_direction": ["desc"],
    }
    cursor = connector().parse_search(page_of(100), None).next_cursor
    assert parse_qs(urlsplit(connector().build_search(campaign(), cursor).url).query)["page"] == [
        "1"
    ]
    assert connector().parse_search(page_of(100), cursor).next_cursor == "2"
    assert connector().parse_search(page_of(99), cursor).next_cursor is None
    assert connector().parse_search(page_of(0), cursor).next_cursor is None


def test_flags_are_mapped_to_a_status() -> None:
    assert describe(draft=True, enabled=False) == (CampaignStatus.DRAFT, "draft")
    assert describe(archived=True, draft=True) == (CampaignStatus.ARCHIVED, "archived")
    assert describe(draft=False, enabled=True) == (CampaignStatus.ACTIVE, "enabled")
    assert describe(draft=False, enabled=False) == (CampaignStatus.PAUSED, "disabled")
    # The older documents have no `enabled`.
    assert describe(draft=False) == (CampaignStatus.UNKNOWN, None)
    assert describe(draft="true", enabled="yes") == (CampaignStatus.UNKNOWN, None)


def test_canvas_is_copied_listed_and_read_by_its_own_calls() -> None:
    canvas = campaign(CANVAS, tag_names=["promo"], kind=BrazeCampaignKind.CANVAS)
    request = connector().build_request(canvas)
    assert request.url == "https://rest.fra-01.braze.eu/canvas/duplicate"
    assert json.loads(request.body) == {
        "canvas_id": CANVAS,
        "name": "A copy",
        "tag_names": ["promo"],
    }
    assert "/canvas/list?" in connector().build_search(canvas, None).url
    lookup = connector().build_lookup("an-id", canvas)
    assert lookup.url == "https://rest.fra-01.braze.eu/canvas/details?canvas_id=an-id"
    page = connector().parse_search(respond(200, {"canvases": [{"id": "c", "name": "n"}]}), None)
    assert [found.id for found in page.campaigns] == ["c"]


async def test_id_of_the_other_kind_is_an_unknown_campaign(
    serve: Callable[[ASGIApp], str], open_at: Callable[..., Account], duplicate: Duplicate
) -> None:
    account = open_at("braze", serve(create_emulator()), api_key=API_KEY)
    for wrong in (campaign(CANVAS), campaign(SOURCE, kind=BrazeCampaignKind.CANVAS)):
        outcome = await duplicate(account, wrong)
        assert isinstance(outcome, Rejected)
        assert outcome.error.code == ErrorCode.CAMPAIGN_NOT_FOUND
    for right in (campaign(SOURCE), campaign(CANVAS, kind=BrazeCampaignKind.CANVAS)):
        assert isinstance(await duplicate(account, right), Accepted)
