"""Translates one copy of a campaign to Klaviyo's REST API and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar
from urllib.parse import urlencode

import strawberry

from campaign_gateway.connectors.account_settings import (
    AccountSettings,
    BaseUrl,
    CallsAtOnce,
    CallsPerMinute,
    CallsPerSecond,
    Secret,
    version_like,
)
from campaign_gateway.connectors.building import api_request, identifier, json_body, line
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse, SearchPage
from campaign_gateway.connectors.errors import failure
from campaign_gateway.connectors.graphql import account_field
from campaign_gateway.connectors.parsing import (
    read_found,
    read_id,
    read_instant,
    read_json_object,
    read_link_parameter,
    read_list,
    read_listed,
    read_text,
)
from campaign_gateway.model import Accepted, Campaign, CampaignStatus, Created, ErrorCode, Outcome


@strawberry.input(description="A Klaviyo campaign to copy into a draft.")
class KlaviyoCampaignInput:
    account: str | None = account_field("Klaviyo")
    campaign_id: strawberry.ID = strawberry.field(description="The campaign's id at Klaviyo.")
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The name of the copy; without it Klaviyo chooses one. Only a copy with a name "
        "that no other campaign has can be found again when an answer is lost.",
    )


TITLE = "Klaviyo"
MEDIA_TYPE = "application/vnd.api+json"

# A cancelled campaign is over for good: only one that is not can be made a draft again. "Unknown"
# is a word of Klaviyo's own.
STATUSES: Mapping[str, CampaignStatus] = {
    "Draft": CampaignStatus.DRAFT,
    "Preparing to schedule": CampaignStatus.SCHEDULED,
    "Scheduled": CampaignStatus.SCHEDULED,
    "Queued without Recipients": CampaignStatus.SCHEDULED,
    "Adding Recipients": CampaignStatus.ACTIVE,
    "Preparing to send": CampaignStatus.ACTIVE,
    "Sending": CampaignStatus.ACTIVE,
    "Sending Segments": CampaignStatus.ACTIVE,
    "Variations Sent": CampaignStatus.ACTIVE,
    "Sent": CampaignStatus.COMPLETED,
    "Cancelled": CampaignStatus.COMPLETED,
    "Cancelled: Account Disabled": CampaignStatus.COMPLETED,
    "Cancelled: Billing Limit": CampaignStatus.COMPLETED,
    "Cancelled: Internal Error": CampaignStatus.COMPLETED,
    "Cancelled: Misconfigured": CampaignStatus.COMPLETED,
    "Cancelled: No Recipients": CampaignStatus.COMPLETED,
    "Cancelled: Smart Sending": CampaignStatus.COMPLETED,
    "Unknown": CampaignStatus.UNKNOWN,
}

# All that Klaviyo lists; before definitions a search goes through them, one page each.
FIRST_CHANNEL = "email"
NEXT_CHANNEL: Mapping[str, str] = {"email": "sms", "sms": "mobile_push"}

# What these betas brought is part of every revision from this one on.
DEFINITIONS_SINCE = "2026-10-15"
BETAS_WITH_DEFINITIONS = frozenset({"2026-04-15.pre", "2026-07-15.pre"})


class KlaviyoAccount(AccountSettings):
    """A private API key (`pk_...`) with the scope `campaigns:write`.

    `revision` is the date of the API's version. Klaviyo takes 150 calls a minute and 10 a second
    from all keys of an account together (developers.klaviyo.com, rate limits, read 2026-11).
    """

    base_url: BaseUrl = "https://a.klaviyo.com"
    api_key: Secret
    revision: Annotated[str, version_like("2026-10-15", r"[0-9]{4}-[0-9]{2}-[0-9]{2}(\.pre)?")] = (
        "2026-10-15"
    )
    calls_per_minute: CallsPerMinute | None = 150
    calls_per_second: CallsPerSecond | None = 10
    calls_at_once: CallsAtOnce = 10

    @property
    def has_definitions(self) -> bool:
        """Whether campaigns have a `definition`, and leave channel and status to their messages."""
        return self.revision >= DEFINITIONS_SINCE or self.revision in BETAS_WITH_DEFINITIONS


@dataclass(frozen=True)
class KlaviyoConnector:
    """Source: Klaviyo's OpenAPI descriptions, github.com/klaviyo/openapi, read 2026-11.

    `create_campaign_clone`, `get_campaigns` and `get_campaign` of revision 2026-07-15, and their
    successors of the beta 2026-07-15.pre, which became those of revision 2026-10-15.
    Finding and reading campaigns needs the scope `campaigns:read`.
    """

    provider: ClassVar[str] = "klaviyo"
    title: ClassVar[str] = TITLE
    Account: ClassVar[type[AccountSettings]] = KlaviyoAccount
    Input: ClassVar[type[Any]] = KlaviyoCampaignInput
    example: ClassVar[str] = (
        'campaignId: "01K4F7Q2ZB8N6XWJ3T5RVD9HMC"\nname: "Autumn newsletter, second send"'
    )
    reports_creation_time: ClassVar[bool] = True
    reports_source: ClassVar[bool] = False
    list_has_all_fields: ClassVar[bool] = True

    account: KlaviyoAccount

    def build_request(self, campaign: KlaviyoCampaignInput) -> ProviderRequest:
        name_field = "name" if self.account.has_definitions else "new_name"
        source = {
            "type": "campaign",
            "id": identifier(campaign.campaign_id, "campaignId"),
            "attributes": {name_field: line(campaign.name, "name")}
            if campaign.name is not None
            else {},
        }
        return self._request("POST", "/api/campaign-clone", json_body({"data": source}))

    def parse_response(self, campaign: KlaviyoCampaignInput, response: ProviderResponse) -> Outcome:
        body = read_json_object(response)
        error = next(iter(read_list(body, "errors") or ()), None)
        if response.is_success and error is None:
            copy = _read_campaign(body.get("data")) if body else None
            if copy is not None and copy.id != campaign.campaign_id:
                return Created(copy)
            # 201 is Klaviyo's documented yes, whatever became of the body; any other success is
            # undocumented and might be a proxy's.
            if response.status == 201:
                return Accepted()
        return failure(
            TITLE,
            response,
            # The documents have 410 for calls that are gone from the API, not for campaigns.
            ErrorCode.PROVIDER_UNAVAILABLE if response.status == 410 and error else None,
            provider_code=read_text(error, "code"),
            provider_message=read_text(error, "detail") or read_text(error, "title"),
            trace_id=read_text(error, "id"),
        )

    def build_search(self, campaign: KlaviyoCampaignInput, cursor: str | None) -> ProviderRequest:
        """The 100 newest campaigns, which is Klaviyo's largest page and what it gives unasked."""
        query = {"sort": "-created_at"}
        if not self.account.has_definitions:
            # Klaviyo lists one channel at a time, and the input does not tell the copy's.
            query["filter"] = f"equals(messages.channel,'{cursor or FIRST_CHANNEL}')"
        elif cursor is not None:
            query["page[cursor]"] = cursor
        return self._request("GET", f"/api/campaigns?{urlencode(query)}")

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        found = read_listed(response, _read_campaign, "data")
        if not self.account.has_definitions:
            return SearchPage(found, NEXT_CHANNEL.get(cursor or FIRST_CHANNEL))
        link = read_text(read_json_object(response), "links", "next")
        return SearchPage(found, read_link_parameter(link, "page[cursor]"))

    def build_lookup(
        self, campaign_id: str, related_input: KlaviyoCampaignInput | None
    ) -> ProviderRequest:
        return self._request("GET", f"/api/campaigns/{identifier(campaign_id, 'id')}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return read_found(response, campaign_id, _read_campaign, "data")

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        headers = {
            "authorization": f"Klaviyo-API-Key {self.account.api_key.get_secret_value()}",
            "revision": self.account.revision,
            "accept": MEDIA_TYPE,
        }
        return api_request(method, self.account.base_url + path, headers, body, MEDIA_TYPE)


def _read_campaign(data: Any) -> Campaign | None:
    campaign_id = read_id(data, "id")
    # In JSON:API an id means something only together with the type.
    if campaign_id is None or read_text(data, "type") != "campaign":
        return None
    told = _attributes_of(data)
    word = read_text(told, "status")
    is_archived = told.get("archived") is True
    return Campaign(
        id=campaign_id,
        name=read_text(told, "name"),
        description=read_text(told, "description"),
        status=CampaignStatus.ARCHIVED
        if is_archived
        else STATUSES.get(word or "", CampaignStatus.UNKNOWN),
        provider_status=word,
        created_at=read_instant(told, "created_at"),
        updated_at=read_instant(told, "updated_at"),
    )


def _attributes_of(data: dict[str, Any]) -> dict[str, Any]:
    """Both shapes as one: a `definition` holds the name, and whether the campaign is archived."""
    attributes = data.get("attributes")
    if not isinstance(attributes, dict):
        return {}
    definition = attributes.get("definition")
    return {**attributes, **definition} if isinstance(definition, dict) else attributes
