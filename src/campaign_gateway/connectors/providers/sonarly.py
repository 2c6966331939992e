"""Translates the copy of a campaign to Sonarly's REST API and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import strawberry

from campaign_gateway.connectors import building, checking, contract, errors, parsing
from campaign_gateway.connectors.account_settings import AccountSettings, BaseUrl, Secret
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse, SearchPage
from campaign_gateway.connectors.graphql import account_field, name_field, optional_field
from campaign_gateway.model import Campaign, ErrorCode, Failure, Outcome


@strawberry.input(
    description="A Sonarly campaign to copy into a draft, and the audience of the draft."
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
    name: str | None = name_field("The name of the copy. Without it Sonarly chooses one.")
    lead_ids: list[strawberry.ID] | None = optional_field(
        "The leads of the audience that get the copy. If omitted, all leads of the audience."
    )


FIELDS = parsing.CampaignFields(
    # `draft` is the only status that the documents name.
    parsing.statuses(draft=["draft"]),
    description="description",
    created_at="createdAt",
    updated_at="updatedAt",
)


class SonarlyAccount(AccountSettings):
    """An integration API key (`sk_live_...`) with the permission `campaigns:write`."""

    base_url: BaseUrl = "https://api.sonarly.io"
    api_key: Secret


@final
@dataclass(frozen=True)
class SonarlyConnector(
    contract.Connector[SonarlyCampaignInput],
    contract.ListsCampaigns[SonarlyCampaignInput],
    contract.ReadsCampaigns[SonarlyCampaignInput],
    contract.ShowsAccess,
):
    """Source: app.sonarly.io/docs/api/campaigns/campaigns-duplicate, read 2026-11.

    sonarly.com is another company with similar keys; its documents do not apply. Finding and
    reading campaigns needs the permission `campaigns:read`.
    """

    provider = "sonarly"
    title = "Sonarly"
    Account = SonarlyAccount
    Input = SonarlyCampaignInput
    example = (
        'accountGroupId: "507f1f77bcf86cd799439001"\n'
        'campaignId: "507f1f77bcf86cd799439011"\n'
        'audienceId: "507f1f77bcf86cd799439021"\n'
        'name: "Outreach, third quarter"'
    )

    account: SonarlyAccount

    def build_request(self, copy_input: SonarlyCampaignInput) -> ProviderRequest:
        leads = copy_input.lead_ids
        # Sonarly does not document an empty list. It could mean the whole audience, which is the
        # opposite of "no leads".
        if leads is not None and not leads:
            raise building.invalid_input(
                "leadIds", "leadIds must have at least one id. Omit it for all leads."
            )
        campaigns = _campaigns_path(copy_input)
        source = building.require_id(copy_input.campaign_id, "campaignId")
        fields = {
            "name": building.optional_line(copy_input.name, "name"),
            "audienceId": building.require_id(copy_input.audience_id, "audienceId"),
            "leadIds": building.optional_items(leads, "leadIds", building.require_id),
        }
        return self._request("POST", f"{campaigns}/{source}/duplicate", building.json_body(fields))

    def parse_response(
        self, copy_input: SonarlyCampaignInput, response: ProviderResponse
    ) -> Outcome:
        body = parsing.json_object(response) or {}
        reports_success, trace_id = body.get("success"), parsing.text(body, "traceId")
        success = None
        if reports_success is not False:
            copy = FIELDS.parse(body.get("data")) if reports_success is True else None
            success = errors.success(response, copy, copy_input.campaign_id, trace_id=trace_id)
        return success or self._failure(response)

    def build_search(self, copy_input: SonarlyCampaignInput, cursor: str | None) -> ProviderRequest:
        return self._request("GET", _campaigns_path(copy_input))

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        """The list has no pages and no filters (app.sonarly.io/docs, campaigns-list)."""
        body = parsing.expect_object(response)
        return SearchPage(parsing.campaigns(body, "data.items", FIELDS.parse))

    def build_lookup(
        self, campaign_id: str, related_input: SonarlyCampaignInput | None
    ) -> ProviderRequest:
        if related_input is None:
            raise building.invalid_input(
                "id",
                "Sonarly reads a campaign only within its account group, and the gateway knows the "
                "group only for campaigns that it has copied.",
            )
        path = f"{_campaigns_path(related_input)}/{building.require_id(campaign_id, 'id')}"
        return self._request("GET", path)

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return parsing.one(response, campaign_id, FIELDS.parse, "data")

    @property
    def api_version(self) -> str:
        return "v1"

    def build_check(self, responses: Sequence[ProviderResponse]) -> ProviderRequest | None:
        """The account groups, which every key may read, and the campaigns of the first group.

        Source: app.sonarly.io/docs/api, getting-started and campaigns-list, read 2026-11.
        """
        if not responses:
            return self._request("GET", "/v1/accounts")
        if len(responses) == 1 and (group := checking.parsed(responses[0], _first_group)):
            return self._request("GET", f"/v1/accounts/{group}/campaigns")
        return None

    def parse_check(self, responses: Sequence[ProviderResponse]) -> contract.Access:
        parsers = (_first_group, lambda response: self.parse_search(response, None))
        reads = checking.failures(responses, parsers, self._failure)
        return checking.access(
            reads,
            contract.Permission("campaigns:read", checking.grant(reads, 1)),
            contract.Permission("campaigns:write"),
        )

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        headers = {"authorization": f"Bearer {self.account.api_key.get_secret_value()}"}
        return building.api_request(method, self.account.base_url + path, headers, body)

    def _failure(self, response: ProviderResponse) -> Failure:
        body = parsing.json_object(response) or {}
        return errors.failure(
            self.title,
            response,
            # A body that reports success contradicts any other status.
            ErrorCode.OUTCOME_UNKNOWN if body.get("success") is True else None,
            provider_code=parsing.text(body, "error.code"),
            provider_message=parsing.text(body, "error.message"),
            trace_id=parsing.text(body, "traceId"),
        )


def _first_group(response: ProviderResponse) -> str | None:
    """Raises `UnexpectedResponse`."""
    groups = parsing.items(parsing.expect_object(response), "data.items")
    if groups is None:
        raise contract.UnexpectedResponse("no list of account groups")
    return next((group_id for group in groups if (group_id := parsing.safe_id(group, "id"))), None)


def _campaigns_path(copy_input: SonarlyCampaignInput) -> str:
    """Raises `Refused`."""
    group = building.require_id(copy_input.account_group_id, "accountGroupId")
    return f"/v1/accounts/{group}/campaigns"
