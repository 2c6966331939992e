"""Translates the copy of a campaign to lemlist's REST API and back."""

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
from campaign_gateway.model import Campaign, ErrorCode, Failure, Outcome


@strawberry.input(
    description="A lemlist campaign to copy into a draft, with its steps and schedules, without "
    "its leads and its CRM settings."
)
class LemlistCampaignInput:
    account: str | None = account_field("lemlist")
    campaign_id: strawberry.ID = strawberry.field(
        description='The campaign\'s id at lemlist ("cam_" and 17 letters and digits).'
    )
    name: str | None = name_field(
        'The name of the copy. Without it lemlist puts "Copy" after the source\'s name.'
    )


PAGE_SIZE = 100

NOT_FOUND = "Campaign not found"

# Most of lemlist's errors are plain text, and some of their statuses say something else.
CODES: Mapping[tuple[int, str], ErrorCode] = {
    (400, "No API key provided"): ErrorCode.AUTHENTICATION_FAILED,
    (404, "No user found for this API key"): ErrorCode.AUTHENTICATION_FAILED,
    (404, NOT_FOUND): ErrorCode.CAMPAIGN_NOT_FOUND,
}

FIELDS = parsing.CampaignFields(
    # `errors` is missing on purpose: such a campaign has another status at the same time.
    parsing.statuses(
        draft=["draft"],
        active=["running"],
        paused=["paused"],
        completed=["ended"],
        archived=["archived"],
    ),
    tags="labels",
    created_at="createdAt",
)


class LemlistAccount(AccountSettings):
    """An API key, which belongs to one team.

    lemlist allows 20 calls in 2 seconds for each key (developer.lemlist.com, "Rate limits").
    """

    base_url: BaseUrl = "https://api.lemlist.com"
    calls_per_second: account_settings.CallsPerSecond | None = 10
    api_key: Secret


@final
@dataclass(frozen=True)
class LemlistConnector(
    contract.Connector[LemlistCampaignInput],
    contract.ListsCampaigns[LemlistCampaignInput],
    contract.NamesCopies,
    contract.ReadsCampaigns[LemlistCampaignInput],
    contract.ShowsAccess,
):
    """Source: lemlist's OpenAPI description v2 and developer.lemlist.com, read 2026-11.

    The description as harvested at github.com/api-evangelist/lemlist on 2026-08-13.
    """

    provider = "lemlist"
    title = "lemlist"
    Account = LemlistAccount
    Input = LemlistCampaignInput
    example = 'campaignId: "cam_A1B2C3D4E5F6G7H8I"\nname: "Founders, second wave"'
    is_newest_first = True

    account: LemlistAccount

    def build_request(self, copy_input: LemlistCampaignInput) -> ProviderRequest:
        source = building.require_id(copy_input.campaign_id, "campaignId")
        body = building.json_body({"name": building.optional_line(copy_input.name, "name")})
        return self._request("POST", f"/campaigns/{source}/duplicate", body)

    def parse_response(
        self, copy_input: LemlistCampaignInput, response: ProviderResponse
    ) -> Outcome:
        copy = _campaign(parsing.json_object(response))
        # lemlist documents 200, which proves nothing without a body.
        success = errors.success(response, copy, copy_input.campaign_id, documented=None)
        return success or self._failure(response)

    def build_search(self, copy_input: object, cursor: str | None) -> ProviderRequest:
        """Source: "Get Many Campaigns". The list has no filter by name or by time."""
        query = {
            "version": "v2",
            "sortBy": "createdAt",
            "sortOrder": "desc",
            "limit": PAGE_SIZE,
            "offset": cursor or "0",
        }
        return self._request("GET", building.with_query("/campaigns", query))

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        parsing.expect_success(response)
        listed = parsing.json_array(response)
        if listed is None:
            # The description has a list. Public clients get an object with it, as lemlist documents
            # for schedules.
            listed = parsing.items(parsing.json_object(response), "campaigns")
        # A first page that does not even have the source is not lemlist's.
        if listed is None or (not listed and cursor is None):
            raise contract.UnexpectedResponse("no list of campaigns")
        campaigns = [campaign for item in listed if (campaign := _campaign(item))]
        is_full = len(listed) >= PAGE_SIZE
        return SearchPage(campaigns, str(int(cursor or "0") + PAGE_SIZE) if is_full else None)

    def is_name_of_copy(self, name: str, source_name: str) -> bool:
        """Source: developer.lemlist.com, "Duplicate Campaign"."""
        return name == f"{source_name} Copy"

    def build_lookup(self, campaign_id: str, related_input: object) -> ProviderRequest:
        return self._request("GET", f"/campaigns/{building.require_id(campaign_id, 'id')}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        if response.status == 404 and _message_in(response) == NOT_FOUND:
            return None
        return parsing.expect_campaign(_campaign(parsing.expect_object(response)), campaign_id)

    @property
    def api_version(self) -> str:
        return "v2"

    def build_check(self, responses: Sequence[ProviderResponse]) -> ProviderRequest | None:
        """The team of the key. Keys have no scopes, so it shows all there is to know.

        Source: "Get Team", which lemlist's page on authentication has as its example.
        """
        return None if responses else self._request("GET", "/team")

    def parse_check(self, responses: Sequence[ProviderResponse]) -> contract.Access:
        return checking.access(checking.failures(responses, [_expect_team], self._failure))

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        # The user name is always empty.
        secret = building.basic_auth("", self.account.api_key.get_secret_value())
        url = f"{self.account.base_url}/api{path}"
        return building.api_request(method, url, {"authorization": secret}, body)

    def _failure(self, response: ProviderResponse) -> Failure:
        message = _message_in(response)
        code = CODES.get((response.status, message or ""))
        return errors.failure(self.title, response, code, provider_message=message)


def _campaign(data: object) -> Campaign | None:
    return FIELDS.parse({**data, "id": data.get("_id")}) if isinstance(data, Mapping) else None


def _message_in(response: ProviderResponse) -> str | None:
    """Return the message of an error, which is in JSON or plain text, depending on the call."""
    body = parsing.json_object(response)
    if body is not None:
        return parsing.text(body, "error") or parsing.text(body, "message")
    if not response.headers.get("content-type", "").startswith("text/plain"):
        return None
    return parsing.text((parsing.body_text(response) or "").strip())


def _expect_team(response: ProviderResponse) -> None:
    """Raises `UnexpectedResponse`."""
    if parsing.text(parsing.expect_object(response), "_id") is None:
        raise contract.UnexpectedResponse("no team")
