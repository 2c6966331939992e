"""Translates the copy of a campaign to ActiveCampaign's REST API and back."""

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
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse
from campaign_gateway.connectors.graphql import account_field, optional_field
from campaign_gateway.model import Campaign, ErrorCode, Failure, Outcome


@strawberry.input(description="An ActiveCampaign campaign to copy into a draft.")
class ActivecampaignCampaignInput:
    account: str | None = account_field("ActiveCampaign")
    campaign_id: int = strawberry.field(description="The campaign's number at ActiveCampaign.")
    name: str | None = optional_field(
        "The name of the copy. ActiveCampaign names the copy itself, and the gateway sets this "
        "name in a second call. If that call fails, the copy keeps ActiveCampaign's name."
    )


# The message of a 400, which has other meanings too.
NOT_FOUND = "Campaign not found"

# ActiveCampaign documents this status for a missing or wrong key, with "Retrieve account
# information", as the harvest quotes it.
CODES: Mapping[int, ErrorCode] = {403: ErrorCode.AUTHENTICATION_FAILED}

# ActiveCampaign's statuses are numbers. These are its words for them.
STATUSES: Mapping[int, str] = {
    0: "draft",
    1: "scheduled",
    2: "sending",
    3: "paused",
    4: "stopped",
    5: "completed",
}

FIELDS = parsing.CampaignFields(
    # `stopped` is missing on purpose: the campaign was sent to some people and will not continue.
    parsing.statuses(
        draft=["draft"],
        scheduled=["scheduled"],
        active=["sending"],
        paused=["paused"],
        completed=["completed"],
    ),
    created_at="cdate",
    updated_at="mdate",
)


class ActivecampaignAccount(AccountSettings):
    """The API key of a user, and the account's own host, such as https://acme.api-us1.com.

    ActiveCampaign allows 5 calls per second for an account, for all keys together (its page on rate
    limits of 2025-10-02, as harvested on 2026-08-13).
    """

    base_url: BaseUrl
    api_key: Secret
    calls_per_second: account_settings.CallsPerSecond | None = 5


@final
@dataclass(frozen=True)
class ActivecampaignConnector(
    contract.Connector[ActivecampaignCampaignInput],
    contract.RenamesCopies[ActivecampaignCampaignInput],
    contract.ReadsCampaigns[ActivecampaignCampaignInput],
    contract.ShowsAccess,
):
    """Source: ActiveCampaign's OpenAPI description of campaigns and users, version 3.

    As harvested at github.com/api-evangelist/activecampaign on 2026-08-13, and the pages "Duplicate
    Campaign" and "Edit campaign" of developers.activecampaign.com, as public repositories have
    them. All read 2026-11.

    No lost copy is searched for. ActiveCampaign lists campaigns, but no document says how it names
    a copy, and the list has no field with the copy's source.
    """

    provider = "activecampaign"
    title = "ActiveCampaign"
    Account = ActivecampaignAccount
    Input = ActivecampaignCampaignInput
    example = 'campaignId: 216\nname: "Spring sale, second wave"'

    account: ActivecampaignAccount

    def build_request(self, copy_input: ActivecampaignCampaignInput) -> ProviderRequest:
        building.name_for_rename(copy_input)
        source = building.require_positive(copy_input.campaign_id, "campaignId")
        return self._request("POST", f"/campaigns/{source}/copy")

    def parse_response(
        self, copy_input: ActivecampaignCampaignInput, response: ProviderResponse
    ) -> Outcome:
        """The only documented refusal is a 400, "You are not allowed to copy this campaign"."""
        body = parsing.json_object(response)
        copy_id = parsing.number_as_id(body, "newCampaignId")
        is_copied = copy_id is not None and parsing.integer(body, "succeeded") == 1
        copy = Campaign(copy_id) if copy_id is not None and is_copied else None
        success = errors.success(response, copy, str(copy_input.campaign_id), documented=None)
        codes = {**CODES, 400: ErrorCode.PERMISSION_DENIED}
        return success or self._failure(response, codes)

    def build_rename(
        self, copy_input: ActivecampaignCampaignInput, copy_id: str, lookup_response: object
    ) -> ProviderRequest:
        """Source: "Edit campaign", in which every field is optional."""
        path = f"/campaigns/{building.id_as_number(copy_id, self.title)}/edit"
        name = building.name_for_rename(copy_input)
        return self._request("PUT", path, building.json_body({"name": name}))

    def parse_rename(self, response: ProviderResponse) -> Failure | None:
        # The sample is the whole campaign. Other calls report a failure with a 200.
        campaign_id = parsing.number_as_id(parsing.json_object(response), "id")
        return None if response.is_success and campaign_id else self._failure(response)

    def build_lookup(self, campaign_id: str, related_input: object) -> ProviderRequest:
        number = building.id_as_number(campaign_id, self.title)
        return self._request("GET", f"/campaigns/{number}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return parsing.one(response, campaign_id, _campaign, "campaign")

    @property
    def api_version(self) -> str:
        return "3"

    def build_check(self, responses: Sequence[ProviderResponse]) -> ProviderRequest | None:
        """The user of the key. Keys have no scopes, so it shows all there is to know.

        Source: developers.activecampaign.com, "Authentication", which has this read as its example,
        and the description of users.
        """
        return None if responses else self._request("GET", "/users/me")

    def parse_check(self, responses: Sequence[ProviderResponse]) -> contract.Access:
        return checking.access(checking.failures(responses, [_expect_user], self._failure))

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        headers = {"api-token": self.account.api_key.get_secret_value()}
        return building.api_request(method, f"{self.account.base_url}/api/3{path}", headers, body)

    def _failure(
        self, response: ProviderResponse, codes: Mapping[int, ErrorCode] = CODES
    ) -> Failure:
        """Parses the `message` of an error, or the list of `errors` of a wrong field."""
        body = parsing.json_object(response)
        listed = "; ".join(parsing.texts(body, "errors") or ())
        message = parsing.text(body, "message") or listed
        is_missing = response.status == 400 and message == NOT_FOUND
        code = ErrorCode.CAMPAIGN_NOT_FOUND if is_missing else codes.get(response.status)
        return errors.failure(self.title, response, code, provider_message=message)


def _campaign(data: object) -> Campaign | None:
    """Parse a campaign, with ActiveCampaign's word for its status in place of the number.

    The words are those of its older API, version 1, for `campaign_status`, as public clients quote
    them (read 2026-11). Version 3 has the same field, and no document explains it there.
    """
    if not isinstance(data, Mapping):
        return None
    number = parsing.integer(data, "status")
    word = None if number is None else STATUSES.get(number, str(number))
    return FIELDS.parse({**data, "status": word})


def _expect_user(response: ProviderResponse) -> None:
    """Raises `UnexpectedResponse`."""
    if parsing.number_as_id(parsing.expect_object(response), "user.id") is None:
        raise contract.UnexpectedResponse("no user")
