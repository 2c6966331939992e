"""Translates the copy of a campaign to ActiveCampaign's REST API and back."""

from collections.abc import Sequence
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
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse
from campaign_gateway.connectors.graphql import account_field
from campaign_gateway.model import Campaign, ErrorCode, Failure, Outcome


@strawberry.input(description="An ActiveCampaign campaign to copy. ActiveCampaign names the copy.")
class ActivecampaignCampaignInput:
    account: str | None = account_field("ActiveCampaign")
    campaign_id: strawberry.ID = strawberry.field(
        description="The campaign's number at ActiveCampaign."
    )

    @property
    def name(self) -> None:
        """The copying call takes no name, and no call that sets one is known."""
        return


# The campaign that a check reads. The account does not need to have it.
CHECKED_ID = "1"

FIELDS = parsing.CampaignFields(status=None, created_at="cdate", updated_at="mdate")


class ActivecampaignAccount(AccountSettings):
    """The API key of a user, and the account's own host, such as https://acme.api-us1.com.

    ActiveCampaign allows 5 calls per second for an account (its page on rate limits, read 2026-11).
    """

    base_url: BaseUrl
    api_key: Secret
    calls_per_second: account_settings.CallsPerSecond | None = 5


@final
@dataclass(frozen=True)
class ActivecampaignConnector(
    contract.Connector[ActivecampaignCampaignInput],
    contract.ReadsCampaigns[ActivecampaignCampaignInput],
    contract.ShowsAccess,
):
    """Source: ActiveCampaign's API reference, version 3, "Copy a campaign", and its rate limits.

    As harvested at github.com/api-evangelist/activecampaign, read 2026-11. It was read for this
    call and the lookup, and not for a list or a change, so no lost copy is found.
    """

    provider = "activecampaign"
    title = "ActiveCampaign"
    Account = ActivecampaignAccount
    Input = ActivecampaignCampaignInput
    example = 'campaignId: "216"'

    account: ActivecampaignAccount

    def build_request(self, copy_input: ActivecampaignCampaignInput) -> ProviderRequest:
        source = building.require_id(copy_input.campaign_id, "campaignId")
        return self._request("POST", f"/{source}/copy")

    def parse_response(
        self, copy_input: ActivecampaignCampaignInput, response: ProviderResponse
    ) -> Outcome:
        """The only documented refusal is a 400, "You are not allowed to copy this campaign"."""
        body = parsing.json_object(response)
        copy_id = parsing.number_as_id(body, "newCampaignId")
        is_copied = copy_id is not None and parsing.integer(body, "succeeded") == 1
        copy = Campaign(copy_id) if copy_id is not None and is_copied else None
        success = errors.success(response, copy, copy_input.campaign_id, documented=None)
        code = ErrorCode.PERMISSION_DENIED if response.status == 400 else None
        return success or self._failure(response, code)

    def build_lookup(self, campaign_id: str, related_input: object) -> ProviderRequest:
        return self._request("GET", f"/{building.require_id(campaign_id, 'id')}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return parsing.one(response, campaign_id, FIELDS.parse, "campaign")

    @property
    def api_version(self) -> str:
        return "3"

    def build_check(self, responses: Sequence[ProviderResponse]) -> ProviderRequest | None:
        return None if responses else self.build_lookup(CHECKED_ID, None)

    def parse_check(self, responses: Sequence[ProviderResponse]) -> contract.Access:
        """Only a campaign proves that the key is accepted.

        No document says whether a wrong key gets the same 404 as an unknown campaign, or what a 403
        means.
        """

        def parse(response: ProviderResponse) -> Campaign | None:
            return self.parse_lookup(response, CHECKED_ID)

        (failure,) = checking.failures(responses[:1], [parse], self._failure)
        is_accepted = checking.parsed(responses[0], parse) is not None
        return contract.Access((), failure.error if failure else None, is_accepted)

    def _request(self, method: str, path: str) -> ProviderRequest:
        url = f"{self.account.base_url}/api/3/campaigns{path}"
        headers = {"api-token": self.account.api_key.get_secret_value()}
        return building.api_request(method, url, headers)

    def _failure(self, response: ProviderResponse, code: ErrorCode | None = None) -> Failure:
        message = parsing.text(parsing.json_object(response), "message")
        return errors.failure(self.title, response, code, provider_message=message)
