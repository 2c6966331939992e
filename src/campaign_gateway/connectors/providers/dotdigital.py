"""Translates the copy of an email campaign to dotdigital's REST API and back."""

from dataclasses import dataclass
from typing import final

import strawberry

from campaign_gateway.connectors import building, contract, errors, parsing
from campaign_gateway.connectors.account_settings import AccountSettings, BaseUrl, Secret
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse
from campaign_gateway.connectors.graphql import account_field
from campaign_gateway.model import Outcome


@strawberry.input(
    description='A dotdigital email campaign to copy. dotdigital puts "Copy of" before the name.'
)
class DotdigitalCampaignInput:
    account: str | None = account_field("dotdigital")
    campaign_id: strawberry.ID = strawberry.field(
        description="The campaign's number at dotdigital."
    )

    @property
    def name(self) -> None:
        """The copying call takes no name, and no call that sets one is known."""
        return


FIELDS = parsing.CampaignFields(
    # The only status that the documents of the copying call name.
    parsing.statuses(draft=["Unsent"]),
    parse_id=parsing.number_as_id,
)


class DotdigitalAccount(AccountSettings):
    """An API user with its password, and the host of its region: https://r1-api.dotdigital.com.

    The other regions are r2 and r3. The limits depend on the account's tier, so none is set here.
    """

    base_url: BaseUrl
    user: Secret
    password: Secret


@final
@dataclass(frozen=True)
class DotdigitalConnector(contract.Connector[DotdigitalCampaignInput]):
    """Source: dotdigital's descriptions of its API v2, "Copy campaign", and its rate limits.

    As harvested at github.com/api-evangelist/dotdigital, read 2026-11. One of the descriptions has
    the status 200 for a copy, the other 201. They were read for this call alone, so the gateway
    reads and lists no campaign there.
    """

    provider = "dotdigital"
    title = "dotdigital"
    Account = DotdigitalAccount
    Input = DotdigitalCampaignInput
    example = 'campaignId: "1045"'

    account: DotdigitalAccount

    def build_request(self, copy_input: DotdigitalCampaignInput) -> ProviderRequest:
        source = building.require_id(copy_input.campaign_id, "campaignId")
        url = f"{self.account.base_url}/v2/campaigns/{source}/copy"
        user, password = self.account.user, self.account.password
        authorization = building.basic_auth(user.get_secret_value(), password.get_secret_value())
        return building.api_request("POST", url, {"authorization": authorization})

    def parse_response(
        self, copy_input: DotdigitalCampaignInput, response: ProviderResponse
    ) -> Outcome:
        """A 400 can be a limit too. The documents do not say how the two differ."""
        body = parsing.json_object(response)
        campaign = FIELDS.parse(body)
        # Other objects have an `id` too.
        copy = campaign if campaign and campaign.name else None
        return errors.success(response, copy, copy_input.campaign_id) or errors.failure(
            self.title, response, provider_message=parsing.text(body, "message")
        )
