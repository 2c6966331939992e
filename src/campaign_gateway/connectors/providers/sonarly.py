"""Translates one copy of a campaign to Sonarly's REST API and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import strawberry

from campaign_gateway.connectors.account_settings import AccountSettings, BaseUrl, Secret
from campaign_gateway.connectors.building import (
    api_request,
    identifier,
    invalid_input,
    json_body,
    optional_line,
)
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse, SearchPage
from campaign_gateway.connectors.errors import failure
from campaign_gateway.connectors.graphql import account_field
from campaign_gateway.connectors.parsing import (
    read_found,
    read_id,
    read_instant,
    read_json_object,
    read_listed,
    read_text,
)
from campaign_gateway.model import Accepted, Campaign, CampaignStatus, Created, ErrorCode, Outcome


@strawberry.input(
    description="A Sonarly campaign to copy into a draft, and the audience that the draft is for."
)
class SonarlyCampaignInput:
    account: str | None = account_field("Sonarly")
    account_group_id: strawberry.ID = strawberry.field(
        description="The account group at Sonarly that the campaign and the audience belong to."
    )
    campaign_id: strawberry.ID = strawberry.field(description="The campaign's id at Sonarly.")
    audience_id: strawberry.ID = strawberry.field(
        description="The audience of the copy. It must belong to the account group."
    )
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The name of the copy; without it Sonarly chooses one. Only a copy with a name "
        "that no other campaign has can be found again when an answer is lost.",
    )
    lead_ids: list[strawberry.ID] | None = strawberry.field(
        default=strawberry.UNSET,
        description="The leads of the audience that the copy is for. Without them, all of them.",
    )


TITLE = "Sonarly"

# `draft` is the only status that the documents name.
STATUSES: Mapping[str, CampaignStatus] = {"draft": CampaignStatus.DRAFT}


class SonarlyAccount(AccountSettings):
    """An integration API key (`sk_live_...`) with the permission `campaigns:write`."""

    base_url: BaseUrl = "https://api.sonarly.io"
    api_key: Secret


@dataclass(frozen=True)
class SonarlyConnector:
    """Source: app.sonarly.io/docs/api/campaigns/campaigns-duplicate, read 2026-11.

    sonarly.com is another company with look-alike keys; its documents do not apply. Finding and
    reading campaigns needs the permission `campaigns:read`.
    """

    provider: ClassVar[str] = "sonarly"
    title: ClassVar[str] = TITLE
    Account: ClassVar[type[AccountSettings]] = SonarlyAccount
    Input: ClassVar[type[Any]] = SonarlyCampaignInput
    example: ClassVar[str] = (
        'accountGroupId: "507f1f77bcf86cd799439001"\n'
        'campaignId: "507f1f77bcf86cd799439011"\n'
        'audienceId: "507f1f77bcf86cd799439021"\n'
        'name: "Outreach, third quarter"'
    )
    reports_creation_time: ClassVar[bool] = True
    reports_source: ClassVar[bool] = False
    list_has_all_fields: ClassVar[bool] = True

    account: SonarlyAccount

    def build_request(self, campaign: SonarlyCampaignInput) -> ProviderRequest:
        # What an empty list means at Sonarly is not documented; the whole audience would be the
        # worst reading of "no leads".
        if campaign.lead_ids is not None and not campaign.lead_ids:
            raise invalid_input("leadIds", "leadIds must name a lead, or be left out for all.")
        group = identifier(campaign.account_group_id, "accountGroupId")
        source = identifier(campaign.campaign_id, "campaignId")
        fields = {
            "name": optional_line(campaign.name, "name"),
            "audienceId": identifier(campaign.audience_id, "audienceId"),
            "leadIds": [identifier(lead, "leadIds") for lead in campaign.lead_ids]
            if campaign.lead_ids
            else None,
        }
        path = f"/v1/accounts/{group}/campaigns/{source}/duplicate"
        return self._request("POST", path, json_body(fields))

    def parse_response(self, campaign: SonarlyCampaignInput, response: ProviderResponse) -> Outcome:
        body = read_json_object(response)
        trace_id = read_text(body, "traceId")
        if response.is_success:
            copy = (
                _read_campaign(body.get("data")) if body and body.get("success") is True else None
            )
            if copy is not None and copy.id != campaign.campaign_id:
                return Created(copy, trace_id)
            # 201 is Sonarly's documented yes, whatever became of the body; any other success is
            # undocumented and might be a proxy's.
            if response.status == 201 and not (body and body.get("success") is False):
                return Accepted(trace_id)
        claims_success = response.is_success or (body and body.get("success") is True)
        return failure(
            TITLE,
            response,
            ErrorCode.OUTCOME_UNKNOWN if claims_success else None,
            provider_code=read_text(body, "error", "code"),
            provider_message=read_text(body, "error", "message"),
            trace_id=trace_id,
        )

    def build_search(self, campaign: SonarlyCampaignInput, cursor: str | None) -> ProviderRequest:
        group = identifier(campaign.account_group_id, "accountGroupId")
        return self._request("GET", f"/v1/accounts/{group}/campaigns")

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        """The list is neither paged nor filtered, says app.sonarly.io/docs (campaigns-list)."""
        return SearchPage(read_listed(response, _read_campaign, "data", "items"))

    def build_lookup(
        self, campaign_id: str, related_input: SonarlyCampaignInput | None
    ) -> ProviderRequest:
        if related_input is None:
            raise invalid_input(
                "id",
                "Sonarly reads a campaign only within its account group, and the gateway knows the "
                "group of none but the campaigns it has copied.",
            )
        group = identifier(related_input.account_group_id, "accountGroupId")
        path = f"/v1/accounts/{group}/campaigns/{identifier(campaign_id, 'id')}"
        return self._request("GET", path)

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return read_found(response, campaign_id, _read_campaign, "data")

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        headers = {"authorization": f"Bearer {self.account.api_key.get_secret_value()}"}
        return api_request(method, self.account.base_url + path, headers, body)


def _read_campaign(data: object) -> Campaign | None:
    campaign_id = read_id(data, "id")
    if campaign_id is None:
        return None
    word = read_text(data, "status")
    return Campaign(
        id=campaign_id,
        name=read_text(data, "name"),
        description=read_text(data, "description"),
        status=STATUSES.get(word or "", CampaignStatus.UNKNOWN),
        provider_status=word,
        created_at=read_instant(data, "createdAt"),
        updated_at=read_instant(data, "updatedAt"),
    )
