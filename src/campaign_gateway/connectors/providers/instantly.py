"""Translates the copy of a campaign to Instantly's REST API and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

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
from campaign_gateway.connectors.graphql import account_field, name_field
from campaign_gateway.model import Campaign, Failure, Outcome


@strawberry.input(description="An Instantly campaign to copy.")
class InstantlyCampaignInput:
    account: str | None = account_field("Instantly")
    campaign_id: strawberry.ID = strawberry.field(
        description="The campaign's id at Instantly (a UUID)."
    )
    name: str | None = name_field(
        'The name of the copy. Without it Instantly puts "(copy)" after the source\'s name.'
    )


PATH = "/api/v2/campaigns"
PAGE_SIZE = 100
DEFAULT_SUFFIX = " (copy)"

# Instantly's statuses are numbers. These are the words of its description for them.
STATUSES: Mapping[int, str] = {
    0: "Draft",
    1: "Active",
    2: "Paused",
    3: "Completed",
    4: "Running Subsequences",
    -1: "Accounts Unhealthy",
    -2: "Bounce Protect",
    -99: "Account Suspended",
}

FIELDS = parsing.CampaignFields(
    # The negative ones are missing on purpose: no document says whether such a campaign continues.
    parsing.statuses(
        draft=["Draft"],
        active=["Active", "Running Subsequences"],
        paused=["Paused"],
        completed=["Completed"],
    ),
    created_at="timestamp_created",
    updated_at="timestamp_updated",
)


class InstantlyAccount(AccountSettings):
    """An API key with the scopes `campaigns:create` and `campaigns:read`.

    Instantly allows a workspace 100 calls per second and 6,000 per minute, for all keys together.
    """

    base_url: BaseUrl = "https://api.instantly.ai"
    calls_per_minute: account_settings.CallsPerMinute | None = 6000
    calls_per_second: account_settings.CallsPerSecond | None = 100
    api_key: Secret


@final
@dataclass(frozen=True)
class InstantlyConnector(
    contract.Connector[InstantlyCampaignInput],
    contract.ListsCampaigns[InstantlyCampaignInput],
    contract.NarrowsSearches[InstantlyCampaignInput],
    contract.NamesCopies,
    contract.ReadsCampaigns[InstantlyCampaignInput],
    contract.ShowsAccess,
):
    """Source: Instantly's OpenAPI description of API v2 and developer.instantly.ai, read 2026-11.

    The description as harvested at github.com/api-evangelist/instantly-ai on 2026-08-13. It does
    not give the status of a copy. Instantly's own conventions say that making a campaign never
    sends, and starting one needs another scope, `campaigns:update`.
    """

    provider = "instantly"
    title = "Instantly"
    Account = InstantlyAccount
    Input = InstantlyCampaignInput
    example = 'campaignId: "019ffad2-5c4b-761a-9bc4-0599e8a95bea"\nname: "Agencies, second wave"'

    account: InstantlyAccount

    def build_request(self, copy_input: InstantlyCampaignInput) -> ProviderRequest:
        source = building.require_id(copy_input.campaign_id, "campaignId")
        body = building.json_body({"name": building.optional_line(copy_input.name, "name")})
        return self._request("POST", f"/{source}/duplicate", body)

    def parse_response(
        self, copy_input: InstantlyCampaignInput, response: ProviderResponse
    ) -> Outcome:
        copy = _campaign(parsing.json_object(response))
        # Instantly documents 200, which proves nothing without a body.
        success = errors.success(response, copy, copy_input.campaign_id, documented=None)
        return success or self._failure(response)

    def build_search(
        self, copy_input: InstantlyCampaignInput, cursor: str | None
    ) -> ProviderRequest:
        return self._search(copy_input.name, cursor)

    def build_copy_search(
        self, copy_input: InstantlyCampaignInput, cursor: str | None, lost: contract.LostCopy
    ) -> ProviderRequest:
        # The whole name, because no document says whether the search finds parts of names. A blank
        # at the end of the source's name shows that Instantly does not trim it.
        given = lost.name_part and f"{lost.name_part.lstrip()}{DEFAULT_SUFFIX}"
        return self._search(copy_input.name or given, cursor)

    def is_name_of_copy(self, name: str, source_name: str) -> bool:
        """Source: `POST /api/v2/campaigns/{id}/duplicate` of Instantly's OpenAPI description."""
        return name == f"{source_name}{DEFAULT_SUFFIX}"

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        body = parsing.expect_object(response)
        campaigns = parsing.campaigns(body, "items", _campaign)
        # The last page with campaigns can have a cursor too. The one after it is empty.
        after = parsing.text(body, "next_starting_after") if body["items"] else None
        return SearchPage(campaigns, after)

    def build_lookup(self, campaign_id: str, related_input: object) -> ProviderRequest:
        return self._request("GET", f"/{building.require_id(campaign_id, 'id')}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return parsing.one(response, campaign_id, _campaign)

    @property
    def api_version(self) -> str:
        return "v2"

    def build_check(self, responses: Sequence[ProviderResponse]) -> ProviderRequest | None:
        """One campaign. No read shows the scopes of the key that is used.

        Source: `GET /api/v2/campaigns` of Instantly's OpenAPI description, which names the scope.
        """
        query = building.with_query("", {"limit": 1})
        return None if responses else self._request("GET", query)

    def parse_check(self, responses: Sequence[ProviderResponse]) -> contract.Access:
        parsers = [lambda response: self.parse_search(response, None)]
        reads = checking.failures(responses, parsers, self._failure)
        return checking.access(
            reads,
            contract.Permission("campaigns:read", checking.grant(reads, 0)),
            contract.Permission("campaigns:create"),
        )

    def _search(self, name: str | None, cursor: str | None) -> ProviderRequest:
        # The list has no documented order, so it is searched by name.
        fields = {
            "limit": PAGE_SIZE,
            "search": name.strip() if name else None,
            "starting_after": cursor,
        }
        return self._request("GET", building.with_query("", fields))

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        headers = {"authorization": f"Bearer {self.account.api_key.get_secret_value()}"}
        return building.api_request(method, f"{self.account.base_url}{PATH}{path}", headers, body)

    def _failure(self, response: ProviderResponse) -> Failure:
        body = parsing.json_object(response)
        return errors.failure(
            self.title,
            response,
            provider_code=parsing.text(body, "error"),
            provider_message=parsing.text(body, "message"),
        )


def _campaign(data: object) -> Campaign | None:
    """Parse a campaign, with Instantly's word for its status in place of the number."""
    if not isinstance(data, Mapping):
        return None
    number = parsing.integer(data, "status")
    word = None if number is None else STATUSES.get(number, str(number))
    return FIELDS.parse({**data, "status": word})
