"""Translates one copy of a campaign to Omnisend's REST API and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar
from urllib.parse import urlencode

import strawberry

from campaign_gateway.connectors.account_settings import (
    AccountSettings,
    BaseUrl,
    CallsPerMinute,
    Secret,
    version_like,
)
from campaign_gateway.connectors.building import api_request, identifier, json_body, optional_line
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse, SearchPage
from campaign_gateway.connectors.errors import failure
from campaign_gateway.connectors.graphql import account_field
from campaign_gateway.connectors.parsing import (
    read_found,
    read_id,
    read_instant,
    read_int,
    read_json_object,
    read_listed,
    read_remarks,
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
    Unknown,
)


@strawberry.input(description="An Omnisend campaign to copy, whatever its status, into a draft.")
class OmnisendCampaignInput:
    account: str | None = account_field("Omnisend")
    campaign_id: strawberry.ID = strawberry.field(
        description="The campaign's id at Omnisend (24 letters and digits)."
    )
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description='The name of the copy, of up to 250 characters. Omnisend puts "Copy of: " '
        "before the name of the source and takes this name in a second call; if that fails, the "
        "copy exists under Omnisend's own name.",
    )


TITLE = "Omnisend"
PATH = "/api/campaigns"
PAGE_SIZE = 250
LONGEST_NAME = 250

# `paused`, `onHold` and `stopped` await a check, a review and a person, and can all go on. Not
# here: `canceled`, `expired` and `error`, which say that it will not, and not how many it reached.
STATUSES: Mapping[str, CampaignStatus] = {
    "draft": CampaignStatus.DRAFT,
    "scheduled": CampaignStatus.SCHEDULED,
    "started": CampaignStatus.ACTIVE,
    "paused": CampaignStatus.PAUSED,
    "onHold": CampaignStatus.PAUSED,
    "stopped": CampaignStatus.PAUSED,
    "sent": CampaignStatus.COMPLETED,
}


class OmnisendAccount(AccountSettings):
    """An API key with the scopes `campaigns.write` and `campaigns.read`.

    `version` is the date of the API's version. Omnisend takes 400 calls a minute from all keys of a
    brand together (api-docs.omnisend.com, "Rate limit, timeouts, errors", read 2026-11).
    """

    base_url: BaseUrl = "https://api.omnisend.com"
    api_key: Secret
    version: Annotated[str, version_like("2026-03-15", r"[0-9]{4}-[0-9]{2}-[0-9]{2}")] = (
        "2026-03-15"
    )
    calls_per_minute: CallsPerMinute | None = 400


@dataclass(frozen=True)
class OmnisendConnector:
    """Source: api-docs.omnisend.com and Omnisend's OpenAPI description of campaigns, read 2026-11.

    Both of version 2026-03-15. The older versions, /v3 and /v5, have other keys and no such call.
    """

    provider: ClassVar[str] = "omnisend"
    title: ClassVar[str] = TITLE
    Account: ClassVar[type[AccountSettings]] = OmnisendAccount
    Input: ClassVar[type[Any]] = OmnisendCampaignInput
    example: ClassVar[str] = (
        'campaignId: "65f2c1d47a9b3e0012ab34cd"\nname: "Spring sale, second wave"'
    )
    reports_creation_time: ClassVar[bool] = True
    reports_source: ClassVar[bool] = False
    list_has_all_fields: ClassVar[bool] = True

    account: OmnisendAccount

    def build_request(self, campaign: OmnisendCampaignInput) -> ProviderRequest:
        # It is sent later, when the copy exists; refusing it only then would be too late.
        _name_of(campaign)
        source = identifier(campaign.campaign_id, "campaignId")
        return self._request("POST", f"/{source}/copy")

    def parse_response(
        self, campaign: OmnisendCampaignInput, response: ProviderResponse
    ) -> Outcome:
        if response.is_success:
            copy = _read_campaign(read_json_object(response))
            # Ids are hexadecimal, which may be written in either case.
            if copy is not None and copy.id.lower() != campaign.campaign_id.lower():
                return Created(copy)
            # 201 is Omnisend's documented yes, whatever became of the body; any other success is
            # undocumented and might be a proxy's.
            if response.status == 201:
                return Accepted()
        return _failure(response)

    def build_rename(
        self,
        campaign: OmnisendCampaignInput,
        copy_id: str,
        lookup_response: ProviderResponse | None,
    ) -> ProviderRequest:
        path = f"/{identifier(copy_id, 'id')}"
        return self._request("PATCH", path, json_body({"name": _name_of(campaign)}))

    def parse_rename(self, response: ProviderResponse) -> Rejected | Unknown | None:
        if response.is_success and _read_campaign(read_json_object(response)):
            return None
        return _failure(response)

    def build_search(self, campaign: OmnisendCampaignInput, cursor: str | None) -> ProviderRequest:
        # A cursor goes with the parameters that it was given for, or is refused.
        query: dict[str, object] = {"limit": PAGE_SIZE, "sort": "createdAt", "direction": "desc"}
        if cursor is not None:
            query["after"] = cursor
        return self._request("GET", f"?{urlencode(query)}")

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        found = read_listed(response, _read_campaign, "campaigns")
        # Null on the last page.
        following = read_text(read_json_object(response), "paging", "cursors", "after")
        return SearchPage(found, following)

    def build_lookup(
        self, campaign_id: str, related_input: OmnisendCampaignInput | None
    ) -> ProviderRequest:
        return self._request("GET", f"/{identifier(campaign_id, 'id')}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return read_found(response, campaign_id, _read_campaign)

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        headers = {
            "authorization": f"Omnisend-API-Key {self.account.api_key.get_secret_value()}",
            "omnisend-version": self.account.version,
        }
        return api_request(method, self.account.base_url + PATH + path, headers, body)


def _name_of(campaign: OmnisendCampaignInput) -> str | None:
    return optional_line(campaign.name, "name", LONGEST_NAME)


def _read_campaign(data: object) -> Campaign | None:
    campaign_id = read_id(data, "id")
    if campaign_id is None:
        return None
    word = read_text(data, "status")
    return Campaign(
        id=campaign_id,
        name=read_text(data, "name"),
        status=STATUSES.get(word or "", CampaignStatus.UNKNOWN),
        provider_status=word,
        created_at=read_instant(data, "createdAt"),
        updated_at=read_instant(data, "updatedAt"),
    )


def _failure(response: ProviderResponse) -> Rejected | Unknown:
    """A problem in JSON (RFC 9457)."""
    body = read_json_object(response)
    # A 410 tells that the version of the API is retired, of every call, and of no campaign.
    is_retired = response.status == 410
    return failure(
        TITLE,
        response,
        ErrorCode.PROVIDER_UNAVAILABLE if is_retired else None,
        provider_code=read_text(body, "type"),
        provider_message="; ".join(read_remarks(body, "errors"))
        or read_text(body, "detail")
        or read_text(body, "title"),
        retry_after=read_int(body, "retryAfter"),
        trace_id=read_text(body, "instance"),
    )
