"""Translates the copy of a marketing email or a campaign to HubSpot's REST API and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, final
from urllib.parse import unquote

import strawberry

from campaign_gateway.connectors import (
    account_settings,
    building,
    checking,
    contract,
    errors,
    parsing,
)
from campaign_gateway.connectors.account_settings import AccountSettings, BaseUrl, Secret
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse, SearchPage
from campaign_gateway.connectors.graphql import account_field, optional_field, register_enum
from campaign_gateway.model import (
    Accepted,
    Campaign,
    CampaignStatus,
    Created,
    ErrorCode,
    Failure,
    Outcome,
    Rejected,
    UserError,
    WarningCode,
)


class HubspotCampaignKind(StrEnum):
    EMAIL = "EMAIL"
    CAMPAIGN = "CAMPAIGN"


register_enum(
    HubspotCampaignKind,
    "What to copy. It decides which of HubSpot's two calls makes the copy.",
    {
        HubspotCampaignKind.EMAIL: "A marketing email. HubSpot copies it immediately.",
        HubspotCampaignKind.CAMPAIGN: "A campaign, which groups emails, pages and other assets. "
        "HubSpot returns the copy's id immediately, and copies the content afterwards.",
    },
)


def _only_for_campaigns(description: str) -> Any:
    return optional_field(f"{description} Only for kind CAMPAIGN.")


@strawberry.input(description="Assets of one type to copy together with a HubSpot campaign.")
class HubspotAssetsInput:
    type: str = strawberry.field(
        description='The type at HubSpot, such as "LANDING_PAGE" or "MARKETING_EMAIL".'
    )
    ids: list[strawberry.ID] = strawberry.field(description="The assets' ids at HubSpot.")


@strawberry.input(
    description="A marketing email or a campaign at HubSpot to copy, and the options of the copy."
)
class HubspotCampaignInput:
    account: str | None = account_field("HubSpot")
    campaign_id: strawberry.ID = strawberry.field(
        description="The id of the email, or the GUID of the campaign, at HubSpot."
    )
    kind: HubspotCampaignKind = strawberry.field(
        default=HubspotCampaignKind.EMAIL, description="What to copy."
    )
    name: str | None = optional_field(
        "The name of the copy. Kind CAMPAIGN requires a name, and no other campaign may have it. "
        "For kind EMAIL, HubSpot chooses a name if you omit it."
    )
    language: str | None = optional_field(
        'The language of the copied email, such as "en". Only for kind EMAIL.'
    )
    assets: list[HubspotAssetsInput] | None = _only_for_campaigns(
        "The assets to copy together with the campaign. If omitted, no asset is copied. "
        "`Query.cloneableAssetTypes` lists the possible types."
    )
    should_clone_draft_nodes: bool | None = _only_for_campaigns(
        "Whether draft nodes are copied too. If omitted, they are copied."
    )
    should_clone_edges: bool | None = _only_for_campaigns(
        "Whether edges are copied too. If omitted, they are copied."
    )
    should_clone_sticky_notes: bool | None = _only_for_campaigns(
        "Whether sticky notes are copied too. If omitted, they are copied."
    )
    should_clone_tasks: bool | None = _only_for_campaigns(
        "Whether tasks are copied too. If omitted, they are copied."
    )
    should_clone_tracking_urls: bool | None = _only_for_campaigns(
        "Whether tracking URLs are copied too. If omitted, they are copied."
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


PAGE_SIZE = 100

# States of emails. PLANNED, ACTIVE, PAUSED and COMPLETED are states of campaigns, in capitals.
# Ambiguous states such as PUBLISHED_OR_SCHEDULED are missing on purpose, and IN_PROGRESS of a
# campaign too: no document says whether it sends.
STATUSES = parsing.statuses(
    draft=[
        "DRAFT", "DRAFT_AB", "DRAFT_AB_VARIANT", "AUTOMATED_DRAFT", "AUTOMATED_DRAFT_AB",
        "AUTOMATED_DRAFT_ABVARIANT", "AUTOMATED_FOR_FORM_DRAFT", "BLOG_EMAIL_DRAFT",
        "RSS_TO_EMAIL_DRAFT", "PLANNED",
    ],
    scheduled=["SCHEDULED", "SCHEDULED_AB"],
    active=[
        "AUTOMATED", "AUTOMATED_AB", "AUTOMATED_AB_VARIANT", "AUTOMATED_SENDING",
        "AUTOMATED_FOR_FORM", "BLOG_EMAIL_PUBLISHED", "RSS_TO_EMAIL_PUBLISHED", "PRE_PROCESSING",
        "PROCESSING", "ACTIVE",
    ],
    paused=["PAUSED"],
    completed=["PUBLISHED", "PUBLISHED_AB", "PUBLISHED_AB_VARIANT", "COMPLETED"],
)  # fmt: skip

# Without these HubSpot returns an email with its whole content, and a campaign without properties.
EMAIL_PROPERTIES = ["id", "name", "state", "clonedFrom", "createdAt", "updatedAt"]
CAMPAIGN_PROPERTIES = ["hs_name", "hs_campaign_status", "hs_notes"]

DATES = ("startDate", "endDate")

TOKEN_INFO = "/oauth/v2/private-apps/get/access-token-info"  # noqa: S105 - a path
# In place of `content`, in some versions of the API of emails.
EMAIL_SCOPES = {"marketing.email.read", "marketing.email.write"}

# HubSpot requires all of them, and documents true as their default.
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
LOCK_SECONDS = 2

JOB_FAILED = (
    "HubSpot accepted the request, but could not finish the copy. It may have left an unfinished "
    "campaign: delete it. Check the source at HubSpot, then request the copy again."
)


class HubspotAccount(AccountSettings):
    """The access token of an app, and the versions of HubSpot's two APIs.

    Emails need the scope `content`. For the versions v3, 2026-03 and 2026-09 the scopes
    `marketing.email.write` and `marketing.email.read` are enough too. Campaigns need the scopes
    `marketing.campaigns.read` and `marketing.campaigns.write`.
    """

    base_url: BaseUrl = "https://api.hubapi.com"
    access_token: Secret
    emails_version: Annotated[
        str, account_settings.version_like("v3", r"v[0-9]{1,3}|[0-9]{4}-[0-9]{2}(-beta)?")
    ] = "v3"
    campaigns_version: Annotated[
        str, account_settings.version_like("2026-09-beta", r"[0-9]{4}-[0-9]{2}(-beta)?")
    ] = "2026-09-beta"


@final
@dataclass(frozen=True)
class HubspotConnector(
    contract.Connector[HubspotCampaignInput],
    contract.ReportsProgress[HubspotCampaignInput],
    contract.ListsCampaigns[HubspotCampaignInput],
    contract.NarrowsSearches[HubspotCampaignInput],
    contract.ReadsCampaigns[HubspotCampaignInput],
    contract.ListsAssetTypes,
    contract.ShowsAccess,
):
    """Source: developers.hubspot.com/docs/api-reference, "Clone a marketing email" (v3, 2026-03),
    "Clone a campaign" and "Retrieve clone status" (2026-09-beta), read 2026-09. HubSpot's OpenAPI
    description of campaigns 2026-09 has the same calls (github.com/HubSpot,
    HubSpot-public-api-spec-collection, read 2026-11).

    HubSpot clones an email immediately. It returns the GUID of a new campaign immediately too, and
    then fills the campaign in a job, which can fail and leave the campaign behind.
    """

    provider = "hubspot"
    title = "HubSpot"
    is_well_known = True
    Account = HubspotAccount
    Input = HubspotCampaignInput
    example = 'campaignId: "67890123456"\nkind: EMAIL\nname: "Spring newsletter, second edition"'
    reports_source = True

    account: HubspotAccount

    def build_request(self, copy_input: HubspotCampaignInput) -> ProviderRequest:
        source = building.require_id(copy_input.campaign_id, "campaignId")
        if copy_input.kind == HubspotCampaignKind.EMAIL:
            _refuse_any({"assets": copy_input.assets, **_for_campaigns(copy_input)}, "CAMPAIGN")
            email = {
                "id": source,
                "cloneName": building.optional_line(copy_input.name, "name"),
                "language": building.optional_line(copy_input.language, "language"),
            }
            return self._request("POST", f"{self._emails}/clone", building.json_body(email))
        _refuse_any({"language": copy_input.language}, "EMAIL")
        if copy_input.name is None:
            raise building.invalid_input("name", "name is required for kind CAMPAIGN.")
        fields = {
            "sourceCampaignGuid": source,
            "name": building.require_line(copy_input.name, "name"),
            "assetsToClone": _assets_by_type(copy_input.assets or []),
            **SWITCHES,
            **{
                name: _checked(value, name)
                for name, value in building.omit_none(_for_campaigns(copy_input)).items()
            },
        }
        return self._request("POST", f"{self._campaigns}/clone", building.json_body(fields))

    def parse_response(
        self, copy_input: HubspotCampaignInput, response: ProviderResponse
    ) -> Outcome:
        body = parsing.json_object(response)
        guid = parsing.safe_id(body, "campaignGuid")
        copy = Campaign(guid, copy_input.name) if guid else _parse_campaign(body)
        outcome = errors.success(
            response, copy, copy_input.campaign_id, documented=_documented(copy_input, body)
        )
        if isinstance(outcome, Created) and guid:
            # FAILED may have left a campaign behind. The progress decides that.
            return self._job_outcome(outcome.campaign, parsing.text(body, "status"))
        return outcome or self._failure(response)

    def build_progress(self, copy_input: HubspotCampaignInput, copy_id: str) -> ProviderRequest:
        path = f"{self._campaigns}/clone/{building.require_id(copy_id, 'id')}/status"
        return self._request("GET", path)

    def parse_progress(
        self, copy_input: HubspotCampaignInput, copy_id: str, response: ProviderResponse
    ) -> Created | Accepted | Rejected:
        body = parsing.expect_object(response)
        status = parsing.text(body, "status")
        if status is None or parsing.safe_id(body, "campaignGuid") is None:
            raise contract.UnexpectedResponse("no status of the copy")
        if status == "FAILED":
            return Rejected(UserError(ErrorCode.CONFLICT, JOB_FAILED, provider_code=status))
        return self._job_outcome(Campaign(copy_id, copy_input.name), status)

    def build_search(self, copy_input: HubspotCampaignInput, cursor: str | None) -> ProviderRequest:
        page = {"sort": "-createdAt", "limit": PAGE_SIZE, "after": cursor}
        if copy_input.kind == HubspotCampaignKind.EMAIL:
            query = {"includedProperties": EMAIL_PROPERTIES, **page}
            return self._request("GET", building.with_query(self._email_list, query))
        # The filter matches any part of a name. Without blanks it also finds a trimmed name.
        name = (copy_input.name or "").strip()
        named = {"name": name, "properties": CAMPAIGN_PROPERTIES, **page}
        return self._request("GET", building.with_query(self._campaigns, named))

    def build_copy_search(
        self, copy_input: HubspotCampaignInput, cursor: str | None, lost: contract.LostCopy
    ) -> ProviderRequest:
        """Source: `GET /marketing/v3/emails` of HubSpot's specifications, `createdAfter`."""
        if copy_input.kind == HubspotCampaignKind.CAMPAIGN:
            return self.build_search(copy_input, cursor)
        # Oldest first, so that emails that are made later do not move the copy to another page.
        query = {
            "includedProperties": EMAIL_PROPERTIES,
            "createdAfter": lost.since.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "sort": "createdAt",
            "limit": PAGE_SIZE,
            "after": cursor,
        }
        return self._request("GET", building.with_query(self._email_list, query))

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        body = parsing.expect_object(response)
        after = parsing.text(body, "paging.next.after")
        campaigns = parsing.campaigns(body, "results", _parse_campaign)
        # The samples have the cursor escaped for a URL ("MjA%3D").
        return SearchPage(campaigns, unquote(after) if after else None)

    def build_lookup(
        self, campaign_id: str, related_input: HubspotCampaignInput | None
    ) -> ProviderRequest:
        safe_id = building.require_id(campaign_id, "id")
        # Emails have numbers and campaigns have GUIDs.
        is_email = safe_id.isdecimal()
        if related_input is not None:
            is_email = related_input.kind == HubspotCampaignKind.EMAIL
        if is_email:
            path, query = f"{self._emails}/{safe_id}", {"includedProperties": EMAIL_PROPERTIES}
        else:
            path, query = f"{self._campaigns}/{safe_id}", {"properties": CAMPAIGN_PROPERTIES}
        return self._request("GET", building.with_query(path, query))

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return parsing.one(response, campaign_id, _parse_campaign)

    def build_asset_types(self) -> ProviderRequest:
        """Source: `GET /marketing/campaigns/2026-09-beta/clone/asset-types`, read 2026-11."""
        return self._request("GET", f"{self._campaigns}/clone/asset-types")

    def parse_asset_types(self, response: ProviderResponse) -> Sequence[str]:
        types = parsing.texts(parsing.expect_object(response), "results")
        if types is None:
            raise contract.UnexpectedResponse("no list of types")
        return types

    @property
    def api_version(self) -> str:
        return f"emails {self.account.emails_version}, campaigns {self.account.campaigns_version}"

    def build_check(self, responses: Sequence[ProviderResponse]) -> ProviderRequest | None:
        """An email, a campaign, and the scopes of the token.

        Source: developers.hubspot.com, the lists of emails and campaigns with the scopes that they
        need, and "Private apps", "Retrieve access token information", read 2026-11. That call is a
        POST, and changes nothing.
        """
        match len(responses):
            case 0:
                query = {"includedProperties": EMAIL_PROPERTIES, "limit": 1}
                return self._request("GET", building.with_query(self._email_list, query))
            case 1:
                return self._request("GET", building.with_query(self._campaigns, {"limit": 1}))
            case 2:
                body = building.json_body(
                    {"tokenKey": self.account.access_token.get_secret_value()}
                )
                return self._request("POST", TOKEN_INFO, body)
        return None

    def parse_check(self, responses: Sequence[ProviderResponse]) -> contract.Access:
        parsers = [lambda response: self.parse_search(response, None)] * 2
        reads = checking.failures(responses, parsers, self._failure)
        # Tokens of other kinds than those of private apps have no information there.
        scopes = checking.parsed(responses[2], _scopes_in) if len(responses) > 2 else None
        emails, campaigns = (checking.grant(reads, number) for number in (0, 1))
        if emails is contract.Grant.GRANTED:
            # To read, `marketing.email.read` is enough.
            emails = _grant_in(scopes, {"content"}, EMAIL_SCOPES)
        write = _grant_in(scopes, {"marketing.campaigns.write"})
        return checking.access(
            reads,
            contract.Permission("content", emails, "kind EMAIL"),
            contract.Permission("marketing.campaigns.read", campaigns, "kind CAMPAIGN"),
            contract.Permission("marketing.campaigns.write", write, "kind CAMPAIGN"),
        )

    @property
    def _emails(self) -> str:
        # A version that is a date comes after the name of the API.
        version = self.account.emails_version
        return (
            f"/marketing/{version}/emails" if version[0] == "v" else f"/marketing/emails/{version}"
        )

    @property
    def _email_list(self) -> str:
        # Only the description of version 3 ends the path of the list with a slash.
        return self._emails + ("/" if self.account.emails_version[0] == "v" else "")

    @property
    def _campaigns(self) -> str:
        return f"/marketing/campaigns/{self.account.campaigns_version}"

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        headers = {"authorization": f"Bearer {self.account.access_token.get_secret_value()}"}
        return building.api_request(method, self.account.base_url + path, headers, body)

    def _failure(self, response: ProviderResponse) -> Failure:
        body = parsing.json_object(response)
        is_busy = response.status in {LOCKED, MOVING}
        return errors.failure(
            self.title,
            response,
            ErrorCode.RATE_LIMITED if is_busy else None,
            provider_code=parsing.text(body, "category"),
            provider_message=parsing.text(body, "message"),
            retry_after=_delay_in(response) if is_busy else None,
            trace_id=parsing.text(body, "correlationId"),
        )

    def _job_outcome(self, copy: Campaign, status: str | None) -> Created | Accepted:
        match status:
            case "COMPLETE":
                return Created(copy)
            case "PARTIAL_FAILURE":
                warning = errors.warning(self.title, WarningCode.PARTIAL_COPY)
                return Created(copy, warnings=(warning,))
        return Accepted(campaign=copy)


def _documented(copy_input: HubspotCampaignInput, body: Mapping[str, object] | None) -> int | None:
    """Return the status that is HubSpot's yes without the copy in the body."""
    if copy_input.kind == HubspotCampaignKind.CAMPAIGN:
        return 201
    # For an email HubSpot documents 200, which might be a proxy's. By HubSpot's description an
    # email must have `isAb` and may lack every other field.
    is_email = body is not None and isinstance(body.get("isAb"), bool) and "id" not in body
    return 200 if is_email else None


def _scopes_in(response: ProviderResponse) -> set[str]:
    """Raises `UnexpectedResponse`."""
    scopes = parsing.items(parsing.expect_object(response), "scopes")
    if scopes is None:
        raise contract.UnexpectedResponse("no scopes")
    return {scope for scope in scopes if isinstance(scope, str)}


def _grant_in(scopes: set[str] | None, *alternatives: set[str]) -> contract.Grant:
    """Return whether all scopes of one alternative are granted. `scopes` is None if unknown."""
    if scopes is None:
        return contract.Grant.NEEDS_COPY
    is_granted = any(scopes >= alternative for alternative in alternatives)
    return contract.Grant.GRANTED if is_granted else contract.Grant.MISSING


def _delay_in(response: ProviderResponse) -> int | None:
    seconds = errors.parse_retry_after(response.headers, datetime.now(UTC))
    return LOCK_SECONDS if seconds is None and response.status == LOCKED else seconds


def _for_campaigns(copy_input: HubspotCampaignInput) -> dict[str, object]:
    """The fields that only kind CAMPAIGN has, by the names that HubSpot and GraphQL share."""
    return {
        "shouldCloneDraftNodes": copy_input.should_clone_draft_nodes,
        "shouldCloneEdges": copy_input.should_clone_edges,
        "shouldCloneStickyNotes": copy_input.should_clone_sticky_notes,
        "shouldCloneTasks": copy_input.should_clone_tasks,
        "shouldCloneTrackingUrls": copy_input.should_clone_tracking_urls,
        "audience": copy_input.audience,
        "currencyCode": copy_input.currency_code,
        "notes": copy_input.notes,
        "startDate": copy_input.start_date,
        "endDate": copy_input.end_date,
    }


def _refuse_any(fields: Mapping[str, object], kind: str) -> None:
    for name, value in fields.items():
        if value is not None:
            raise building.invalid_input(name, f"{name} is only for kind {kind}.")


def _checked(value: object, name: str) -> object:
    if not isinstance(value, str):
        return value
    return _date(value, name) if name in DATES else building.optional_text(value, name)


def _date(value: str, name: str) -> str | None:
    """Return a day in HubSpot's format; None for "", which forms send. Raises `Refused`."""
    if not value:
        return None
    try:
        is_date = date.fromisoformat(value).isoformat() == value
    except ValueError:
        is_date = False
    if not is_date:
        raise building.invalid_input(name, f"{name} must be a date, written as 2026-10-30.")
    return value


def _assets_by_type(assets: Sequence[HubspotAssetsInput]) -> dict[str, list[str]]:
    by_type: dict[str, list[str]] = {}
    for asset_type, ids in building.require_items(assets, "assets", _require_asset):
        by_type.setdefault(asset_type, []).extend(ids)
    return by_type


def _require_asset(asset: HubspotAssetsInput, field_name: str) -> tuple[str, list[str]]:
    # HubSpot does not document an empty list. It could mean all assets.
    if not asset.ids:
        raise building.invalid_input(field_name, f"{field_name} must have at least one id.")
    asset_type = building.require_line(asset.type, field_name)
    return asset_type, [building.require_id(asset_id, field_name) for asset_id in asset.ids]


def _parse_campaign(item: object) -> Campaign | None:
    """Return an email, or a campaign, which has its name and its state among `properties`."""
    campaign_id = parsing.safe_id(item, "id")
    if campaign_id is None:
        return None
    status = parsing.text(item, "state") or parsing.text(item, "properties.hs_campaign_status")
    return Campaign(
        id=campaign_id,
        name=parsing.text(item, "name") or parsing.text(item, "properties.hs_name"),
        description=parsing.text(item, "properties.hs_notes"),
        status=STATUSES.get((status or "").upper(), CampaignStatus.UNKNOWN),
        provider_status=status,
        created_at=parsing.instant(item, "createdAt"),
        updated_at=parsing.instant(item, "updatedAt"),
        copied_from=parsing.safe_id(item, "clonedFrom"),
    )
