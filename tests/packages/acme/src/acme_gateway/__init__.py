"""Translates the copy of a campaign to the REST API of Acme Mail, which is invented, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import strawberry

from campaign_gateway.connectors import building, checking, contract, errors, parsing
from campaign_gateway.connectors.account_settings import AccountSettings, BaseUrl, Secret
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse, SearchPage
from campaign_gateway.connectors.graphql import account_field, name_field
from campaign_gateway.model import Campaign, Failure, Outcome


@strawberry.input(description="A campaign at Acme Mail to copy.")
class AcmeCampaignInput:
    account: str | None = account_field("Acme Mail")
    campaign_id: strawberry.ID = strawberry.field(description="The campaign's id at Acme Mail.")
    name: str | None = name_field("The name of the copy. Without it Acme Mail chooses one.")


FIELDS = parsing.CampaignFields(
    parsing.statuses(draft=["draft"], completed=["sent"]), created_at="created_at"
)


class AcmeAccount(AccountSettings):
    """An API key with the permission `campaigns.write`."""

    base_url: BaseUrl = "https://api.acme.example"
    api_key: Secret


@final
@dataclass(frozen=True)
class AcmeConnector(
    contract.Connector[AcmeCampaignInput],
    contract.ListsCampaigns[AcmeCampaignInput],
    contract.ReadsCampaigns[AcmeCampaignInput],
    contract.ShowsAccess,
):
    connector_api = 1
    provider = "acme"
    title = "Acme Mail"
    Account = AcmeAccount
    Input = AcmeCampaignInput
    example = 'campaignId: "spring"\nname: "Spring sale, second wave"'

    account: AcmeAccount

    def build_request(self, copy_input: AcmeCampaignInput) -> ProviderRequest:
        source = building.require_id(copy_input.campaign_id, "campaignId")
        body = building.json_body({"name": building.optional_line(copy_input.name, "name")})
        return self._request("POST", f"/v1/campaigns/{source}/copies", body)

    def parse_response(self, copy_input: AcmeCampaignInput, response: ProviderResponse) -> Outcome:
        copy = FIELDS.parse(parsing.json_object(response))
        return errors.success(response, copy, copy_input.campaign_id) or self._failure(response)

    def build_search(self, copy_input: AcmeCampaignInput, cursor: str | None) -> ProviderRequest:
        return self._request("GET", "/v1/campaigns")

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        body = parsing.expect_object(response)
        return SearchPage(parsing.campaigns(body, "campaigns", FIELDS.parse))

    def build_lookup(self, campaign_id: str, related_input: object) -> ProviderRequest:
        return self._request("GET", f"/v1/campaigns/{building.require_id(campaign_id, 'id')}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return parsing.one(response, campaign_id, FIELDS.parse)

    @property
    def api_version(self) -> str:
        return "v1"

    def build_check(self, responses: Sequence[ProviderResponse]) -> ProviderRequest | None:
        return None if responses else self._request("GET", "/v1/campaigns")

    def parse_check(self, responses: Sequence[ProviderResponse]) -> contract.Access:
        parsers = (lambda response: self.parse_search(response, None),)
        reads = checking.failures(responses, parsers, self._failure)
        return checking.access(
            reads,
            contract.Permission("campaigns.read", checking.grant(reads, 0)),
            contract.Permission("campaigns.write"),
        )

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        headers = {"authorization": f"Bearer {self.account.api_key.get_secret_value()}"}
        return building.api_request(method, self.account.base_url + path, headers, body)

    def _failure(self, response: ProviderResponse) -> Failure:
        body = parsing.json_object(response)
        return errors.failure(self.title, response, provider_message=parsing.text(body, "message"))
