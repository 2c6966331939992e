"""HubSpot's own behaviour: two calls in one input, and a job that fills a copied campaign."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError
from starlette.types import ASGIApp
from strawberry import ID

from campaign_gateway.accounts.account import Account
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse
from campaign_gateway.connectors.providers.hubspot import (
    HubspotAccount,
    HubspotAssetsInput,
    HubspotCampaignInput,
    HubspotCampaignKind,
    HubspotConnector,
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
    UserError,
    WarningCode,
)
from campaign_gateway.sandbox.contract_suite.calling import free_permit
from campaign_gateway.sandbox.emulators import hubspot
from support.responses import respond

Duplicate = Callable[[Account, Any], Awaitable[Outcome]]

ROOT = "https://api.hubapi.com"
GUID = "6f1d2c3b-8a4e-4b7d-9c05-2e1f7a8b9c0d"
COPY = "0b0e1f5a-3c52-4a09-8e6f-1d2c3b4a5f60"

EMAIL = HubspotCampaignInput(
    account=None,
    campaign_id=ID("67890123456"),
    kind=HubspotCampaignKind.EMAIL,
    name=None,
    language=None,
    assets=None,
    should_clone_draft_nodes=None,
    should_clone_edges=None,
    should_clone_sticky_notes=None,
    should_clone_tasks=None,
    should_clone_tracking_urls=None,
    audience=None,
    currency_code=None,
    notes=None,
    start_date=None,
    end_date=None,
)
CAMPAIGN = replace(
    EMAIL, campaign_id=ID(GUID), kind=HubspotCampaignKind.CAMPAIGN, name="Second launch"
)
ASSETS = [
    HubspotAssetsInput(type="LANDING_PAGE", ids=[ID("81"), ID("82")]),
    HubspotAssetsInput(type="FORM", ids=[ID("0a1b-2c")]),
    HubspotAssetsInput(type="LANDING_PAGE", ids=[ID("83")]),
]
FLAGS = {
    "shouldCloneDraftNodes": True,
    "shouldCloneEdges": True,
    "shouldCloneStickyNotes": True,
    "shouldCloneTasks": True,
    "shouldCloneTrackingUrls": True,
}
UNREADABLE = [b"", b"{", b"[]", b"{}", b'{"status": "COMPLETE"}', b"<html></html>"]


def connector(**settings: str) -> HubspotConnector:
    table = {"provider": "hubspot", "access_token": "t0ken", **settings}
    return HubspotConnector(HubspotAccount.model_validate(table))


def sent(campaign: HubspotCampaignInput, **changes: Any) -> Any:
    return json.loads(connector().build_request(replace(campaign, **changes)).body)


def job(status: str, guid: str = COPY) -> dict[str, str]:
    return {"campaignGuid": guid, "status": status}


def refusal_of(campaign: HubspotCampaignInput, **changes: Any) -> UserError:
    with pytest.raises(Refused) as refusal:
        connector().build_request(replace(campaign, **changes))
    assert refusal.value.error.code == ErrorCode.INVALID_INPUT
    return refusal.value.error


def field_refused(campaign: HubspotCampaignInput, **changes: Any) -> tuple[str, ...] | None:
    return refusal_of(campaign, **changes).field


# Requests


def test_email_is_cloned_with_the_emails_api() -> None:
    wanted = replace(EMAIL, name="Second edition", language="de")
    request = connector().build_request(wanted)
    assert (request.method, request.url) == ("POST", f"{ROOT}/marketing/v3/emails/clone")
    assert request.headers["authorization"] == "Bearer t0ken"
    assert json.loads(request.body) == {
        "id": "67890123456",
        "cloneName": "Second edition",
        "language": "de",
    }
    assert sent(EMAIL) == {"id": "67890123456"}


def test_campaign_is_cloned_with_the_campaigns_api() -> None:
    request = connector().build_request(CAMPAIGN)
    place = f"{ROOT}/marketing/campaigns/2026-09-beta/clone"
    assert (request.method, request.url) == ("POST", place)
    assert json.loads(request.body) == {
        "sourceCampaignGuid": GUID,
        "name": "Second launch",
        "assetsToClone": {},
        **FLAGS,
    }


def test_all_fields_of_a_campaign_are_sent_with_hubspots_names() -> None:
    wanted = replace(
        CAMPAIGN,
        assets=ASSETS,
        should_clone_draft_nodes=False,
        should_clone_edges=False,
        should_clone_sticky_notes=False,
        should_clone_tasks=False,
        should_clone_tracking_urls=False,
        audience="Europe",
        currency_code="EUR",
        notes="For\nthe autumn",
        start_date="2026-10-01",
        end_date="2026-12-31",
    )
    assert sent(wanted) == {
        "sourceCampaignGuid": GUID,
        "name": "Second launch",
        "assetsToClone": {"LANDING_PAGE": ["81", "82", "83"], "FORM": ["0a1b-2c"]},
        **dict.fromkeys(FLAGS, False),
        "audience": "Europe",
        "currencyCode": "EUR",
        "notes": "For\nthe autumn",
        "startDate": "2026-10-01",
        "endDate": "2026-12-31",
    }


@pytest.mark.parametrize(
    ("version", "place", "list_path"),
    [
        ("v3", "/marketing/v3/emails", "/marketing/v3/emails/"),
        ("2026-03", "/marketing/emails/2026-03", "/marketing/emails/2026-03"),
        ("2026-09-beta", "/marketing/emails/2026-09-beta", "/marketing/emails/2026-09-beta"),
    ],
)
def test_version_is_in_the_place_that_hubspot_documents(
    version: str, place: str, list_path: str
) -> None:
    dated = connector(emails_version=version)
    assert dated.build_request(EMAIL).url == f"{ROOT}{place}/clone"
    assert urlsplit(dated.build_search(EMAIL, None).url).path == list_path
    assert urlsplit(dated.build_lookup("67", None).url).path == f"{place}/67"


def test_campaigns_have_their_own_version() -> None:
    dated = connector(campaigns_version="2027-03")
    assert dated.build_request(CAMPAIGN).url == f"{ROOT}/marketing/campaigns/2027-03/clone"


@pytest.mark.parametrize("version", ["", "3", "v", "../v3", "v3/x", "v3?", "v3\n", "2026-9", "a"])
@pytest.mark.parametrize("setting", ["emails_version", "campaigns_version"])
def test_invalid_version_is_not_configured(setting: str, version: str) -> None:
    with pytest.raises(ValidationError):
        connector(**{setting: version})


@pytest.mark.parametrize(
    ("attribute", "value", "field"),
    [
        ("assets", ASSETS, "assets"),
        ("assets", [], "assets"),
        ("should_clone_draft_nodes", True, "shouldCloneDraftNodes"),
        ("should_clone_edges", True, "shouldCloneEdges"),
        ("should_clone_sticky_notes", True, "shouldCloneStickyNotes"),
        ("should_clone_tasks", True, "shouldCloneTasks"),
        ("should_clone_tracking_urls", True, "shouldCloneTrackingUrls"),
        ("audience", "Europe", "audience"),
        ("currency_code", "EUR", "currencyCode"),
        ("notes", "", "notes"),
        ("start_date", "2026-10-01", "startDate"),
        ("end_date", "2026-12-31", "endDate"),
    ],
)
def test_fields_of_campaigns_are_refused_for_an_email(
    attribute: str, value: object, field: str
) -> None:
    assert field_refused(EMAIL, **{attribute: value}) == (field,)


def test_language_is_refused_for_a_campaign() -> None:
    assert field_refused(CAMPAIGN, language="de") == ("language",)


def test_campaign_without_a_name_is_refused() -> None:
    assert field_refused(CAMPAIGN, name=None) == ("name",)


@pytest.mark.parametrize("attribute", ["audience", "notes", "currency_code", "start_date"])
def test_empty_text_is_refused(attribute: str) -> None:
    assert field_refused(CAMPAIGN, **{attribute: " "}) is not None


@pytest.mark.parametrize("day", ["2026-10-30", "2024-02-29"])
def test_date_is_sent_unchanged(day: str) -> None:
    body = sent(CAMPAIGN, start_date=day, end_date=day)
    assert (body["startDate"], body["endDate"]) == (day, day)


NO_DATES = [
    " ", "2026-02-30", "2026-13-01", "2025-02-29", "30.10.2026", "2026-10-30T12:00:00Z",
    "20261030", "2026-W44-5", "2026-10-30 ", "next week", "٢٠٢٦-10-30", "2026-10-30\n",
]  # fmt: skip


@pytest.mark.parametrize("day", NO_DATES)
@pytest.mark.parametrize(
    ("attribute", "field"), [("start_date", "startDate"), ("end_date", "endDate")]
)
def test_invalid_date_is_refused_with_its_field(attribute: str, field: str, day: str) -> None:
    changes: dict[str, Any] = {attribute: day}
    with pytest.raises(Refused) as refusal:
        connector().build_request(replace(CAMPAIGN, **changes))
    assert refusal.value.error.field == (field,)
    assert refusal.value.error.message == f"{field} must be a date, written as 2026-10-30."


@pytest.mark.parametrize(
    ("status", "header", "delay"),
    [(423, None, 2), (423, "5", 5), (477, "600", 600), (477, "86400", 3600), (477, None, None)],
)
def test_call_during_a_lock_or_a_migration_has_the_delay(
    status: int, header: str | None, delay: int | None
) -> None:
    headers = {"retry-after": header} if header else {}
    outcome = connector().parse_response(EMAIL, ProviderResponse(status, headers, b""))
    assert isinstance(outcome, Rejected)
    assert outcome.error.code is ErrorCode.RATE_LIMITED
    assert outcome.error.retry_after == delay


@pytest.mark.parametrize(
    "assets",
    [
        HubspotAssetsInput(type="FORM", ids=[]),
        HubspotAssetsInput(type="FORM", ids=[ID("sound"), ID("../admin")]),
        HubspotAssetsInput(type="", ids=[ID("81")]),
        HubspotAssetsInput(type="A\nB", ids=[ID("81")]),
    ],
)
def test_invalid_assets_are_refused_with_their_place_in_the_list(
    assets: HubspotAssetsInput,
) -> None:
    refused = refusal_of(CAMPAIGN, assets=[*ASSETS, assets])
    assert refused.field == ("assets",)
    assert refused.message.startswith(f"Item {len(ASSETS) + 1} of assets must ")


@pytest.mark.parametrize("campaign", [EMAIL, replace(CAMPAIGN, assets=ASSETS)])
def test_input_from_the_ledger_builds_the_same_reads(campaign: HubspotCampaignInput) -> None:
    def built(one: HubspotCampaignInput) -> list[ProviderRequest]:
        return [
            connector().build_search(one, None),
            connector().build_lookup("67", one),
            connector().build_progress(one, COPY),
        ]

    recorded = json.loads(json.dumps(asdict(campaign)))
    assert built(HubspotCampaignInput(**recorded)) == built(campaign)


# Responses


def test_email_has_its_source() -> None:
    body = {"id": "70", "name": "Second", "state": "DRAFT", "clonedFrom": "67890123456"}
    outcome = connector().parse_response(EMAIL, respond(200, body))
    email = Campaign("70", "Second", None, CampaignStatus.DRAFT, "DRAFT", copied_from="67890123456")
    assert outcome == Created(email)


@pytest.mark.parametrize("status", ["PENDING", "FAILED", "COPYING_ASSETS"])
def test_campaign_in_progress_is_accepted_with_its_id_and_requested_name(status: str) -> None:
    outcome = connector().parse_response(CAMPAIGN, respond(201, job(status)))
    assert outcome == Accepted(campaign=Campaign(COPY, "Second launch"))


def test_campaign_with_status_complete_is_created() -> None:
    outcome = connector().parse_response(CAMPAIGN, respond(201, job("COMPLETE")))
    assert outcome == Created(Campaign(COPY, "Second launch"))


def test_partial_failure_is_created_with_a_warning() -> None:
    outcome = connector().parse_response(CAMPAIGN, respond(201, job("PARTIAL_FAILURE")))
    assert isinstance(outcome, Created)
    assert [warning.code for warning in outcome.warnings] == [WarningCode.PARTIAL_COPY]


@pytest.mark.parametrize("body", UNREADABLE)
def test_201_without_the_copy_is_accepted_for_a_campaign_and_not_for_an_email(body: bytes) -> None:
    assert connector().parse_response(CAMPAIGN, respond(201, body)) == Accepted()
    assert isinstance(connector().parse_response(CAMPAIGN, respond(200, body)), Unknown)
    for status in (200, 201, 202):
        assert isinstance(connector().parse_response(EMAIL, respond(status, body)), Unknown)


def test_source_is_not_its_copy_even_if_the_response_has_another_id() -> None:
    body = {**job("COMPLETE", GUID), "id": COPY}
    assert connector().parse_response(CAMPAIGN, respond(201, body)) == Accepted()
    assert isinstance(connector().parse_response(CAMPAIGN, respond(200, body)), Unknown)


def test_guid_in_capitals_is_still_the_source() -> None:
    body = job("COMPLETE", GUID.upper())
    assert connector().parse_response(CAMPAIGN, respond(201, body)) == Accepted()
    assert isinstance(connector().parse_response(CAMPAIGN, respond(200, body)), Unknown)


def test_error_has_hubspots_category_and_message() -> None:
    body = {"category": "CONFLICT", "message": "no", "correlationId": "c-1", "status": "error"}
    outcome = connector().parse_response(EMAIL, respond(409, body))
    assert isinstance(outcome, Rejected)
    assert outcome.error.code == ErrorCode.CONFLICT
    assert (outcome.error.provider_code, outcome.error.provider_message) == ("CONFLICT", "no")
    assert outcome.trace_id == "c-1"


def test_recorded_jobs_give_the_same_outcome_for_kind_campaign(
    read_recording: Callable[[Path], ProviderResponse],
) -> None:
    recordings = [
        path
        for path in (Path(__file__).parent / "recordings").glob("*.http")
        if "campaign-" in path.stem
    ]
    assert len(recordings) == 5
    for path in recordings:
        outcome = connector().parse_response(CAMPAIGN, read_recording(path))
        assert type(outcome).__name__.lower() == path.stem.partition(".")[0]
        assert isinstance(outcome, Created | Accepted)
        assert outcome.campaign
        assert outcome.campaign.id == COPY


# Progress


def test_progress_is_requested_with_the_id_of_the_copy() -> None:
    request = connector().build_progress(CAMPAIGN, COPY)
    assert request.method == "GET"
    assert request.url == f"{ROOT}/marketing/campaigns/2026-09-beta/clone/{COPY}/status"


def test_failed_job_is_rejected_with_a_conflict() -> None:
    outcome = connector().parse_progress(CAMPAIGN, COPY, respond(200, job("FAILED")))
    assert isinstance(outcome, Rejected)
    assert (outcome.error.code, outcome.error.provider_code) == (ErrorCode.CONFLICT, "FAILED")
    assert "HubSpot" in outcome.error.message


# Searches and lookups


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("DRAFT", CampaignStatus.DRAFT),
        ("SCHEDULED", CampaignStatus.SCHEDULED),
        ("AUTOMATED", CampaignStatus.ACTIVE),
        ("PUBLISHED", CampaignStatus.COMPLETED),
        ("PUBLISHED_OR_SCHEDULED", CampaignStatus.UNKNOWN),
        ("SOMETHING_NEW", CampaignStatus.UNKNOWN),
    ],
)
def test_state_of_an_email_is_mapped_and_kept(word: str, status: CampaignStatus) -> None:
    email = connector().parse_lookup(respond(200, {"id": "67", "state": word}), "67")
    assert email
    assert (email.status, email.provider_status) == (status, word)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("planned", CampaignStatus.DRAFT),
        ("active", CampaignStatus.ACTIVE),
        ("paused", CampaignStatus.PAUSED),
        ("completed", CampaignStatus.COMPLETED),
        ("in_progress", CampaignStatus.UNKNOWN),
    ],
)
def test_fields_of_a_campaign_come_from_its_properties(word: str, status: CampaignStatus) -> None:
    properties = {"hs_name": "Launch", "hs_campaign_status": word, "hs_notes": "Soon"}
    campaign = connector().parse_lookup(respond(200, {"id": GUID, "properties": properties}), GUID)
    assert campaign == Campaign(GUID, "Launch", "Soon", status, word)


def test_lookup_without_an_input_chooses_the_kind_by_the_id() -> None:
    def place(campaign_id: str, related_input: HubspotCampaignInput | None) -> str:
        return urlsplit(connector().build_lookup(campaign_id, related_input).url).path

    assert place("67", None) == "/marketing/v3/emails/67"
    assert place(GUID, None) == f"/marketing/campaigns/2026-09-beta/{GUID}"
    assert place("67", CAMPAIGN) == "/marketing/campaigns/2026-09-beta/67"
    assert place(GUID, EMAIL) == f"/marketing/v3/emails/{GUID}"


def test_only_parsed_fields_are_requested() -> None:
    def asked(url: str) -> dict[str, list[str]]:
        return parse_qs(urlsplit(url).query)

    email = {"id", "name", "state", "clonedFrom", "createdAt", "updatedAt"}
    assert set(asked(connector().build_lookup("67", None).url)["includedProperties"]) == email
    search = asked(connector().build_search(EMAIL, None).url)
    assert set(search.pop("includedProperties")) == email
    assert search == {"sort": ["-createdAt"], "limit": ["100"]}
    assert asked(connector().build_search(replace(CAMPAIGN, name=" A & B "), None).url) == {
        "name": ["A & B"],
        "properties": ["hs_name", "hs_campaign_status", "hs_notes"],
        "sort": ["-createdAt"],
        "limit": ["100"],
    }


@pytest.mark.parametrize("after", ["MjA%3D", "MjA="])
def test_cursor_is_escaped_once_in_the_url(after: str) -> None:
    page = connector().parse_search(
        respond(200, {"results": [], "paging": {"next": {"after": after}}}), None
    )
    request = connector().build_search(EMAIL, page.next_cursor)
    assert request.url.endswith("&after=MjA%3D")


# At the emulator


@pytest.fixture
def live(serve: Callable[[ASGIApp], str], open_at: Callable[..., Account]) -> Account:
    url = serve(hubspot.create_emulator())
    return open_at("hubspot", url, **hubspot.ACCOUNTS["hubspot"])


async def progress_of(live: Account, outcome: Outcome) -> Created | Accepted | Rejected:
    """Return the outcome of the job at its end, or after a second."""
    assert isinstance(live.connector, HubspotConnector)
    assert isinstance(outcome, Accepted)
    assert outcome.campaign
    copy_id = outcome.campaign.id
    for _ in range(20):
        response = await live.transport.send_idempotent(
            live.connector.build_progress(CAMPAIGN, copy_id), free_permit()
        )
        progress = live.connector.parse_progress(CAMPAIGN, copy_id, response)
        if not isinstance(progress, Accepted):
            break
        await asyncio.sleep(0.05)
    return progress


async def left_behind(live: Account, outcome: Outcome) -> Campaign | None:
    assert isinstance(live.connector, HubspotConnector)
    assert isinstance(outcome, Accepted)
    assert outcome.campaign
    copy_id = outcome.campaign.id
    response = await live.transport.send_idempotent(
        live.connector.build_lookup(copy_id, CAMPAIGN), free_permit()
    )
    return live.connector.parse_lookup(response, copy_id)


@pytest.mark.parametrize(
    ("source", "end", "is_left"),
    [
        (GUID, Created, True),
        ("job-is-partial", Created, True),
        ("job-fails", Rejected, True),
        ("job-fails-and-leaves-nothing", Rejected, False),
        ("job-never-ends", Accepted, True),
    ],
)
async def test_job_of_the_emulator_has_the_outcome_of_its_source(
    live: Account,
    duplicate: Duplicate,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    end: type,
    *,
    is_left: bool,
) -> None:
    monkeypatch.setattr(hubspot, "CREATION_SECONDS", 0.2)
    outcome = await duplicate(live, replace(CAMPAIGN, campaign_id=ID(source)))
    ended = await progress_of(live, outcome)
    assert isinstance(ended, end)
    if isinstance(ended, Created):
        codes = [warning.code for warning in ended.warnings]
        assert codes == ([WarningCode.PARTIAL_COPY] if source == "job-is-partial" else [])
    left = await left_behind(live, outcome)
    assert (left is not None) == is_left
    if left:
        assert (left.name, left.status) == ("Second launch", CampaignStatus.DRAFT)


async def test_emulator_gives_a_name_to_only_one_campaign(
    live: Account, duplicate: Duplicate
) -> None:
    assert isinstance(await duplicate(live, CAMPAIGN), Accepted)
    second = await duplicate(live, CAMPAIGN)
    assert isinstance(second, Rejected)
    assert second.error.code == ErrorCode.INVALID_INPUT


async def test_email_without_a_name_is_found_by_its_source(
    live: Account, duplicate: Duplicate
) -> None:
    outcome = await duplicate(live, EMAIL)
    assert isinstance(outcome, Created)
    assert isinstance(live.connector, HubspotConnector)
    response = await live.transport.send_idempotent(
        live.connector.build_search(EMAIL, None), free_permit()
    )
    newest = live.connector.parse_search(response, None).campaigns[0]
    assert newest == outcome.campaign
    assert newest.copied_from == EMAIL.campaign_id


async def test_search_reads_a_long_list_page_by_page(live: Account, duplicate: Duplicate) -> None:
    for number in range(100):
        await duplicate(live, replace(EMAIL, name=f"Edition {number}"))
    assert isinstance(live.connector, HubspotConnector)
    names: list[str | None] = []
    cursor: str | None = None
    for expected in (100, 3):
        response = await live.transport.send_idempotent(
            live.connector.build_search(EMAIL, cursor), free_permit()
        )
        page = live.connector.parse_search(response, cursor)
        assert len(page.campaigns) == expected
        names += [campaign.name for campaign in page.campaigns]
        cursor = page.next_cursor
    assert cursor is None
    assert names[:2] == ["Edition 99", "Edition 98"]
    assert len(set(names)) == 103
