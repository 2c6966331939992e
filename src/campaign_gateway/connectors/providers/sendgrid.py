"""Translates one copy of a Single Send to SendGrid's REST API and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode

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
from campaign_gateway.connectors.errors import failure, warning
from campaign_gateway.connectors.graphql import account_field
from campaign_gateway.connectors.parsing import (
    read_found,
    read_id,
    read_instant,
    read_json_object,
    read_link_parameter,
    read_listed,
    read_remarks,
    read_text,
    read_texts,
)
from campaign_gateway.model import Accepted, Campaign, CampaignStatus, Created, Outcome, WarningCode


@strawberry.input(description="A SendGrid Single Send to copy.")
class SendgridCampaignInput:
    account: str | None = account_field("SendGrid")
    campaign_id: strawberry.ID = strawberry.field(description="The Single Send's id at SendGrid.")
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The name of the copy, of up to 100 characters; without it SendGrid puts "
        '"Copy of" before the name of the source. Only a copy with a name that no other campaign '
        "has can be found again when an answer is lost.",
    )


TITLE = "SendGrid"
PATH = "/v3/marketing/singlesends"
PAGE_SIZE = 100
LONGEST_NAME = 100

# What stands where an id would, in the paths of other calls.
OTHER_CALLS = {"categories", "search"}

# `triggered` is the last word on a Single Send, which is sent only once: it says that the sending
# was set off, and no other word ever says that it is over.
STATUSES: Mapping[str, CampaignStatus] = {
    "draft": CampaignStatus.DRAFT,
    "scheduled": CampaignStatus.SCHEDULED,
    "triggered": CampaignStatus.COMPLETED,
}


class SendgridAccount(AccountSettings):
    """An API key with full access to Marketing.

    Subusers in the EU have the base URL https://api.eu.sendgrid.com (twilio.com/docs/sendgrid,
    "Retrieve a list of scopes", read 2026-09).
    """

    base_url: BaseUrl = "https://api.sendgrid.com"
    api_key: Secret


@dataclass(frozen=True)
class SendgridConnector:
    """Source: SendGrid's OpenAPI description "Single Sends" 1.0.0, with the pages made from it.

    Read at github.com/twilio/sendgrid-oai and twilio.com/docs/sendgrid, 2026-09. The campaigns of
    the older product, Legacy Marketing Campaigns, have ids and an API of their own.
    """

    provider: ClassVar[str] = "sendgrid"
    title: ClassVar[str] = TITLE
    Account: ClassVar[type[AccountSettings]] = SendgridAccount
    Input: ClassVar[type[Any]] = SendgridCampaignInput
    example: ClassVar[str] = (
        'campaignId: "5f0c8a1e-3b7d-4e92-a6c4-9d1e2f7b8a30"\nname: "Spring sale, second wave"'
    )
    reports_creation_time: ClassVar[bool] = True
    reports_source: ClassVar[bool] = False
    list_has_all_fields: ClassVar[bool] = True

    account: SendgridAccount

    def build_request(self, campaign: SendgridCampaignInput) -> ProviderRequest:
        source = _id(campaign.campaign_id, "campaignId")
        # SendGrid is only known to trim a name that it has made itself.
        name = optional_line(campaign.name, "name", LONGEST_NAME)
        return self._request("POST", f"{PATH}/{source}", json_body({"name": name}))

    def parse_response(
        self, campaign: SendgridCampaignInput, response: ProviderResponse
    ) -> Outcome:
        body = read_json_object(response)
        if response.is_success:
            copy = _read_campaign(body)
            # Ids are UUIDs, which may be written in either case.
            if copy is not None and copy.id.lower() != campaign.campaign_id.lower():
                remarks = read_remarks(body, "warnings")
                warnings = (warning(TITLE, WarningCode.PROVIDER_WARNING, each) for each in remarks)
                return Created(copy, warnings=tuple(warnings))
            # 201 is SendGrid's documented yes, whatever became of the body; any other success is
            # undocumented and might be a proxy's.
            if response.status == 201:
                return Accepted()
        # No document says whether an `error_id` is a kind of error or the number of this one, so it
        # is not passed on as either.
        return failure(TITLE, response, provider_message="; ".join(read_remarks(body, "errors")))

    def build_search(self, campaign: SendgridCampaignInput, cursor: str | None) -> ProviderRequest:
        query: dict[str, object] = {"page_size": PAGE_SIZE}
        if cursor is not None:
            query["page_token"] = cursor
        # The list of all Single Sends has no documented order. The search finds every name that
        # holds the given one; without the blanks around it also a name that SendGrid has trimmed.
        name = campaign.name.strip() if campaign.name else None
        path = f"{PATH}/search?{urlencode(query)}"
        return self._request("POST", path, json_body({"name": name}))

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        found = read_listed(response, _read_campaign, "result")
        link = read_text(read_json_object(response), "_metadata", "next")
        return SearchPage(found, read_link_parameter(link, "page_token"))

    def build_lookup(
        self, campaign_id: str, related_input: SendgridCampaignInput | None
    ) -> ProviderRequest:
        return self._request("GET", f"{PATH}/{_id(campaign_id, 'id')}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return read_found(response, campaign_id, _read_campaign)

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        headers = {"authorization": f"Bearer {self.account.api_key.get_secret_value()}"}
        return api_request(method, self.account.base_url + path, headers, body)


def _id(campaign_id: str, field_name: str) -> str:
    """Raises `Refused`."""
    if campaign_id in OTHER_CALLS:
        raise invalid_input(field_name, f"{field_name} must be the id of a Single Send.")
    return identifier(campaign_id, field_name)


def _read_campaign(data: object) -> Campaign | None:
    """A Single Send, in full as one call tells it or in short as a list does."""
    campaign_id = read_id(data, "id")
    if campaign_id is None:
        return None
    word = read_text(data, "status")
    return Campaign(
        id=campaign_id,
        name=read_text(data, "name"),
        status=STATUSES.get(word or "", CampaignStatus.UNKNOWN),
        provider_status=word,
        tags=read_texts(data, "categories"),
        created_at=read_instant(data, "created_at"),
        updated_at=read_instant(data, "updated_at"),
    )
