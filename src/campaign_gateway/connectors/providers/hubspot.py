"""Translates one copy of a marketing email or a campaign to HubSpot's REST API and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from urllib.parse import unquote, urlencode

import strawberry

from campaign_gateway.connectors.account_settings import (
    AccountSettings,
    BaseUrl,
    Secret,
    version_like,
)
from campaign_gateway.connectors.building import (
    api_request,
    identifier,
    invalid_input,
    json_body,
    line,
    optional_line,
    optional_text,
)
from campaign_gateway.connectors.contract import (
    ProviderRequest,
    ProviderResponse,
    SearchPage,
    UnexpectedResponse,
)
from campaign_gateway.connectors.errors import failure, read_retry_after, warning
from campaign_gateway.connectors.graphql import account_field, described_enum
from campaign_gateway.connectors.parsing import (
    expect_success,
    read_found,
    read_id,
    read_instant,
    read_json_object,
    read_listed,
    read_text,
)
from campaign_gateway.model import (
    Accepted,
    Campaign,
    CampaignStatus,
    Created,
    ErrorCode,
    Outcome,
    Rejected,
    UserError,
    WarningCode,
)


class HubspotCampaignKind(StrEnum):
    EMAIL = "EMAIL"
    CAMPAIGN = "CAMPAIGN"


described_enum(
    HubspotCampaignKind,
    "Which of HubSpot's two calls makes the copy.",
    {
        HubspotCampaignKind.EMAIL: "A marketing email; HubSpot copies it at once.",
        HubspotCampaignKind.CAMPAIGN: "A campaign, which groups emails, pages and other assets; "
        "HubSpot tells the copy's id at once and fills the copy afterwards.",
    },
)


def _only_for_campaigns(description: str) -> Any:
    return strawberry.field(
        default=strawberry.UNSET, description=f"{description} Only for kind CAMPAIGN."
    )


@strawberry.input(description="Assets of one type that are to be copied with a HubSpot campaign.")
class HubspotAssetsInput:
    type: str = strawberry.field(
        description='What HubSpot calls the type, such as "LANDING_PAGE" or "MARKETING_EMAIL".'
    )
    ids: list[strawberry.ID] = strawberry.field(description="The assets' ids at HubSpot.")


@strawberry.input(
    description="A marketing email or a campaign at HubSpot to copy, and what the copy is to be "
    "like."
)
class HubspotCampaignInput:
    account: str | None = account_field("HubSpot")
    campaign_id: strawberry.ID = strawberry.field(
        description="The id of the email, or the GUID of the campaign, at HubSpot."
    )
    kind: HubspotCampaignKind = strawberry.field(
        default=HubspotCampaignKind.EMAIL, description="What is copied."
    )
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The name of the copy. A campaign needs one that no other campaign has; an "
        "email without one is named by HubSpot.",
    )
    language: str | None = strawberry.field(
        default=strawberry.UNSET,
        description='The language of the copied email, such as "en". Only for kind EMAIL.',
    )
    assets: list[HubspotAssetsInput] | None = _only_for_campaigns(
        "The assets that are copied too. Without them none is."
    )
    should_clone_draft_nodes: bool | None = _only_for_campaigns(
        "Whether draft nodes are copied too, as they are if this is left out."
    )
    should_clone_edges: bool | None = _only_for_campaigns(
        "Whether edges are copied too, as they are if this is left out."
    )
    should_clone_sticky_notes: bool | None = _only_for_campaigns(
        "Whether sticky notes are copied too, as they are if this is left out."
    )
    should_clone_tasks: bool | None = _only_for_campaigns(
        "Whether tasks are copied too, as they are if this is left out."
    )
    should_clone_tracking_urls: bool | None = _only_for_campaigns(
        "Whether tracking URLs are copied too, as they are if this is left out."
    )
    audience: str | None = _only_for_campaigns("The target audience of the copy.")
    currency_code: str | None = _only_for_campaigns(
        'The currency of the copy\'s budget, such as "EUR".'
    )
    notes: str | None = _only_for_campaigns("Notes on the copy.")
    start_date: str | None = _only_for_campaigns(
        'The day on which the copy starts, written as "2026-10-30".'
    )
    end_date: str | None = _only_for_campaigns(
        'The day on which the copy ends, written as "2026-11-30".'
    )


TITLE = "HubSpot"
PAGE_SIZE = 100

# States of emails; PLANNED, ACTIVE, PAUSED and COMPLETED are those of campaigns, in capitals. What
# may be one of two, such as PUBLISHED_OR_SCHEDULED, is left open, and so is a campaign that is
# IN_PROGRESS: no document says whether it sends.
STATUSES: Mapping[str, CampaignStatus] = {
    **dict.fromkeys(
        [
            "DRAFT", "DRAFT_AB", "DRAFT_AB_VARIANT", "AUTOMATED_DRAFT", "AUTOMATED_DRAFT_AB",
            "AUTOMATED_DRAFT_ABVARIANT", "AUTOMATED_FOR_FORM_DRAFT", "BLOG_EMAIL_DRAFT",
            "RSS_TO_EMAIL_DRAFT", "PLANNED",
        ],
        CampaignStatus.DRAFT,
    ),
    **dict.fromkeys(["SCHEDULED", "SCHEDULED_AB"], CampaignStatus.SCHEDULED),
    **dict.fromkeys(
        [
            "AUTOMATED", "AUTOMATED_AB", "AUTOMATED_AB_VARIANT", "AUTOMATED_SENDING",
            "AUTOMATED_FOR_FORM", "BLOG_EMAIL_PUBLISHED", "RSS_TO_EMAIL_PUBLISHED",
            "PRE_PROCESSING", "PROCESSING", "ACTIVE",
        ],
        CampaignStatus.ACTIVE,
    ),
    "PAUSED": CampaignStatus.PAUSED,
    **dict.fromkeys(
        ["PUBLISHED", "PUBLISHED_AB", "PUBLISHED_AB_VARIANT", "COMPLETED"],
        CampaignStatus.COMPLETED,
    ),
}  # fmt: skip

# Without these an email is told with its whole content, a campaign with none of its properties.
EMAIL_PROPERTIES = ("id", "name", "state", "clonedFrom", "createdAt", "updatedAt")
CAMPAIGN_PROPERTIES = ("hs_name", "hs_campaign_status", "hs_notes")

DATES = ("startDate", "endDate")

# HubSpot requires all of them, and says that by default they are true.
SWITCHES = dict.fromkeys(
    [
        "shouldCloneDraftNodes", "shouldCloneEdges", "shouldCloneStickyNotes", "shouldCloneTasks",
        "shouldCloneTrackingUrls",
    ],
    True,
)  # fmt: skip

# HubSpot's page "Error handling": it rejects calls with 423 during a lock of two seconds, and with
# 477 while it moves the account to another data centre, with the seconds to wait in `Retry-After`.
LOCKED, MOVING = 423, 477
TURNED_AWAY = (LOCKED, MOVING)
LOCK_SECONDS = 2

JOB_FAILED = (
    "HubSpot said yes and then failed to clone the campaign. Look at the source there, then use a "
    "new idempotency key."
)


class HubspotAccount(AccountSettings):
    """The access token of an app, and the versions of HubSpot's two APIs.

    Emails need the scope `content`; for the versions v3, 2026-03 and 2026-09
    `marketing.email.write` with `marketing.email.read` does as well. Campaigns need the scopes
    `marketing.campaigns.read` and `marketing.campaigns.write`.
    """

    base_url: BaseUrl = "https://api.hubapi.com"
    access_token: Secret
    emails_version: Annotated[str, version_like("v3", r"v[0-9]{1,3}|[0-9]{4}-[0-9]{2}(-beta)?")] = (
        "v3"
    )
    campaigns_version: Annotated[
        str, version_like("2026-09-beta", r"[0-9]{4}-[0-9]{2}(-beta)?")
    ] = "2026-09-beta"


@dataclass(frozen=True)
class HubspotConnector:
    """Source: developers.hubspot.com/docs/api-reference, "Clone a marketing email" (v3, 2026-03),
    "Clone a campaign" and "Retrieve clone status" (2026-09-beta), read 2026-09.

    An email is cloned at once. A campaign has its GUID at once and is then filled by a job, which
    may fail and leave the campaign behind.
    """

    provider: ClassVar[str] = "hubspot"
    title: ClassVar[str] = TITLE
    Account: ClassVar[type[AccountSettings]] = HubspotAccount
    Input: ClassVar[type[Any]] = HubspotCampaignInput
    example: ClassVar[str] = (
        'campaignId: "67890123456"\nkind: EMAIL\nname: "Spring newsletter, second edition"'
    )
    reports_creation_time: ClassVar[bool] = True
    reports_source: ClassVar[bool] = True
    list_has_all_fields: ClassVar[bool] = True

    account: HubspotAccount

    def build_request(self, campaign: HubspotCampaignInput) -> ProviderRequest:
        source = identifier(campaign.campaign_id, "campaignId")
        if campaign.kind == HubspotCampaignKind.EMAIL:
            _refuse_any({"assets": campaign.assets, **_of_campaigns(campaign)}, "CAMPAIGN")
            email = {
                "id": source,
                "cloneName": optional_line(campaign.name, "name"),
                "language": optional_line(campaign.language, "language"),
            }
            return self._request("POST", f"{self._emails}/clone", json_body(email))
        _refuse_any({"language": campaign.language}, "EMAIL")
        if campaign.name is None:
            raise invalid_input("name", "name must be given for kind CAMPAIGN.")
        fields = {
            "sourceCampaignGuid": source,
            "name": line(campaign.name, "name"),
            "assetsToClone": _assets_by_type(campaign.assets or []),
            **SWITCHES,
            **{
                name: _checked(value, name)
                for name, value in _of_campaigns(campaign).items()
                if value is not None
            },
        }
        return self._request("POST", f"{self._campaigns}/clone", json_body(fields))

    def parse_response(self, campaign: HubspotCampaignInput, response: ProviderResponse) -> Outcome:
        body = read_json_object(response)
        if response.is_success:
            guid = read_id(body, "campaignGuid")
            if guid and guid.lower() != campaign.campaign_id.lower():
                # FAILED may have left a campaign behind, so that is for the progress to tell.
                return _read_job(campaign, guid, read_text(body, "status"))
            email = _read_campaign(body)
            if email and email.id != campaign.campaign_id:
                return Created(email)
            # 201 is the documented yes to cloning a campaign, whatever became of the body; for an
            # email it is 200, and an unreadable one might be a proxy's.
            if response.status == 201 and campaign.kind == HubspotCampaignKind.CAMPAIGN:
                return Accepted()
            # By HubSpot's description an email has to hold `isAb` and nothing else.
            is_email = body is not None and isinstance(body.get("isAb"), bool) and "id" not in body
            if response.status == 200 and campaign.kind == HubspotCampaignKind.EMAIL and is_email:
                return Accepted()
        is_turned_away = response.status in TURNED_AWAY
        return failure(
            TITLE,
            response,
            ErrorCode.RATE_LIMITED if is_turned_away else None,
            provider_code=read_text(body, "category"),
            provider_message=read_text(body, "message"),
            retry_after=_delay_of(response) if is_turned_away else None,
            trace_id=read_text(body, "correlationId"),
        )

    def build_progress(self, campaign: HubspotCampaignInput, copy_id: str) -> ProviderRequest:
        path = f"{self._campaigns}/clone/{identifier(copy_id, 'id')}/status"
        return self._request("GET", path)

    def parse_progress(
        self, campaign: HubspotCampaignInput, copy_id: str, response: ProviderResponse
    ) -> Created | Accepted | Rejected:
        expect_success(response)
        body = read_json_object(response)
        status = read_text(body, "status")
        if status is None or read_id(body, "campaignGuid") is None:
            raise UnexpectedResponse("no status of the copy")
        if status == "FAILED":
            return Rejected(UserError(ErrorCode.CONFLICT, JOB_FAILED, provider_code=status))
        return _read_job(campaign, copy_id, status)

    def build_search(self, campaign: HubspotCampaignInput, cursor: str | None) -> ProviderRequest:
        page = {"sort": "-createdAt", "limit": PAGE_SIZE} | ({"after": cursor} if cursor else {})
        if campaign.kind == HubspotCampaignKind.EMAIL:
            query = {"includedProperties": EMAIL_PROPERTIES, **page}
            return self._request("GET", f"{self._emails}?{urlencode(query, doseq=True)}")
        # The filter takes any part of a name; without blanks it finds a name that was trimmed, too.
        name = (campaign.name or "").strip()
        named = {"name": name, "properties": CAMPAIGN_PROPERTIES, **page}
        return self._request("GET", f"{self._campaigns}?{urlencode(named, doseq=True)}")

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        found = read_listed(response, _read_campaign, "results")
        after = read_text(read_json_object(response), "paging", "next", "after")
        # The samples have it as it stands in a URL ("MjA%3D").
        return SearchPage(found, unquote(after) if after else None)

    def build_lookup(
        self, campaign_id: str, related_input: HubspotCampaignInput | None
    ) -> ProviderRequest:
        sound = identifier(campaign_id, "id")
        # Emails have numbers and campaigns have GUIDs.
        is_email = (
            related_input.kind == HubspotCampaignKind.EMAIL if related_input else sound.isdecimal()
        )
        if is_email:
            query = urlencode({"includedProperties": EMAIL_PROPERTIES}, doseq=True)
            return self._request("GET", f"{self._emails}/{sound}?{query}")
        query = urlencode({"properties": CAMPAIGN_PROPERTIES}, doseq=True)
        return self._request("GET", f"{self._campaigns}/{sound}?{query}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return read_found(response, campaign_id, _read_campaign)

    @property
    def _emails(self) -> str:
        # Versions that are dates stand behind the name of the API.
        version = self.account.emails_version
        return (
            f"/marketing/{version}/emails" if version[0] == "v" else f"/marketing/emails/{version}"
        )

    @property
    def _campaigns(self) -> str:
        return f"/marketing/campaigns/{self.account.campaigns_version}"

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        headers = {"authorization": f"Bearer {self.account.access_token.get_secret_value()}"}
        return api_request(method, self.account.base_url + path, headers, body)


def _delay_of(response: ProviderResponse) -> int | None:
    seconds = read_retry_after(response.headers, datetime.now(UTC))
    return LOCK_SECONDS if seconds is None and response.status == LOCKED else seconds


def _of_campaigns(campaign: HubspotCampaignInput) -> dict[str, object]:
    """What goes with kind CAMPAIGN alone, by the names that HubSpot and GraphQL share."""
    return {
        "shouldCloneDraftNodes": campaign.should_clone_draft_nodes,
        "shouldCloneEdges": campaign.should_clone_edges,
        "shouldCloneStickyNotes": campaign.should_clone_sticky_notes,
        "shouldCloneTasks": campaign.should_clone_tasks,
        "shouldCloneTrackingUrls": campaign.should_clone_tracking_urls,
        "audience": campaign.audience,
        "currencyCode": campaign.currency_code,
        "notes": campaign.notes,
        "startDate": campaign.start_date,
        "endDate": campaign.end_date,
    }


def _refuse_any(fields: Mapping[str, object], kind: str) -> None:
    for name, value in fields.items():
        if value is not None:
            raise invalid_input(name, f"{name} is only for kind {kind}.")


def _checked(value: object, name: str) -> object:
    if not isinstance(value, str):
        return value
    return _date(value, name) if name in DATES else optional_text(value, name)


def _date(value: str, name: str) -> str | None:
    """A day as HubSpot's description has it; None for none, as forms have it. Raises `Refused`."""
    if not value:
        return None
    try:
        is_one = date.fromisoformat(value).isoformat() == value
    except ValueError:
        is_one = False
    if not is_one:
        raise invalid_input(name, f"{name} must be a date, written as 2026-10-30.")
    return value


def _assets_by_type(assets: Sequence[HubspotAssetsInput]) -> dict[str, list[str]]:
    by_type: dict[str, list[str]] = {}
    for each in assets:
        # What an empty list means at HubSpot is not documented; all assets would be the worst.
        if not each.ids:
            raise invalid_input("assets", "Each of assets must name an id.")
        ids = by_type.setdefault(line(each.type, "assets"), [])
        ids += [identifier(one, "assets") for one in each.ids]
    return by_type


def _read_job(campaign: HubspotCampaignInput, guid: str, status: str | None) -> Created | Accepted:
    copy = Campaign(id=guid, name=campaign.name)
    match status:
        case "COMPLETE":
            return Created(copy)
        case "PARTIAL_FAILURE":
            return Created(copy, warnings=(warning(TITLE, WarningCode.PARTIAL_COPY),))
    return Accepted(campaign=copy)


def _read_campaign(item: object) -> Campaign | None:
    """An email, or a campaign, which has its name and its state among `properties`."""
    campaign_id = read_id(item, "id")
    if campaign_id is None:
        return None
    word = read_text(item, "state") or read_text(item, "properties", "hs_campaign_status")
    return Campaign(
        id=campaign_id,
        name=read_text(item, "name") or read_text(item, "properties", "hs_name"),
        description=read_text(item, "properties", "hs_notes"),
        status=STATUSES.get((word or "").upper(), CampaignStatus.UNKNOWN),
        provider_status=word,
        created_at=read_instant(item, "createdAt"),
        updated_at=read_instant(item, "updatedAt"),
        copied_from=read_id(item, "clonedFrom"),
    )
