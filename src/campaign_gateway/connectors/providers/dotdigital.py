"""Translates the copy of an email campaign to dotdigital's REST API and back."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import strawberry

from campaign_gateway.connectors import building, checking, contract, errors, parsing
from campaign_gateway.connectors.account_settings import AccountSettings, BaseUrl, Secret
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse, SearchPage
from campaign_gateway.connectors.graphql import account_field, optional_field
from campaign_gateway.model import Campaign, ErrorCode, Failure, Outcome, Refused, UserError


@strawberry.input(description="A dotdigital email campaign to copy.")
class DotdigitalCampaignInput:
    account: str | None = account_field("dotdigital")
    campaign_id: int = strawberry.field(description="The campaign's number at dotdigital.")
    name: str | None = optional_field(
        'The name of the copy, of up to 255 characters. dotdigital puts "Copy of" before the '
        "source's name, and the gateway sets this name in a second call. dotdigital accepts a new "
        "name only together with the content, so the gateway sends the copy's own content back. "
        "The gateway cannot rename a split test, or a copy whose content is a whole HTML document. "
        "If the copy is not renamed, it keeps dotdigital's name."
    )


PATH = "/v2/campaigns"
PAGE_SIZE = 1000
MAX_NAME_LENGTH = 255
DEFAULT_PREFIX = "Copy of "

# What a change needs besides the name.
CONTENT = ("subject", "fromName", "htmlContent", "plainTextContent")

CONTENT_UNKNOWN = (
    "dotdigital accepts a new name only together with the content of the copy. The gateway could "
    "not read content that it can send back, so it did not send the name."
)

# The errors of version 2 are a message that has one of dotdigital's codes in it.
CODES: Mapping[str, ErrorCode] = {
    "ERROR_APIUSAGE_EXCEEDED": ErrorCode.RATE_LIMITED,
    "ERROR_CAMPAIGN_NOT_FOUND": ErrorCode.CAMPAIGN_NOT_FOUND,
    "ERROR_APIUSER_INVALID": ErrorCode.AUTHENTICATION_FAILED,
    "ERROR_INVALID_LOGIN": ErrorCode.AUTHENTICATION_FAILED,
    "ERROR_FEATURENOTACTIVE": ErrorCode.PERMISSION_DENIED,
}

FIELDS = parsing.CampaignFields(
    # `Cancelled` is missing on purpose: the campaign was sent to some people and will not continue.
    # No document says whether a campaign with `Triggered` or `Requires...Approval` sends already.
    parsing.statuses(draft=["Unsent"], active=["Sending"], paused=["Paused"], completed=["Sent"]),
    parse_id=parsing.number_as_id,
)


class DotdigitalAccount(AccountSettings):
    """An API user with its password, and the host of its region: https://r1-api.dotdigital.com.

    The other regions are r2 and r3. dotdigital publishes no numbers of its limits: each account has
    its own, for three kinds of calls (developer.dotdigital.com, "Call rate limits", read 2026-11).
    """

    base_url: BaseUrl
    user: Secret
    password: Secret


@final
@dataclass(frozen=True)
class DotdigitalConnector(
    contract.Connector[DotdigitalCampaignInput],
    contract.RenamesCopies[DotdigitalCampaignInput],
    contract.ListsCampaigns[DotdigitalCampaignInput],
    contract.NamesCopies,
    contract.ReadsCampaigns[DotdigitalCampaignInput],
    contract.ShowsAccess,
):
    """Source: dotdigital's descriptions "Email campaigns" 2.1.1 and "apiconnector.com" v2.

    As harvested at github.com/api-evangelist/dotdigital on 2026-08-13, and developer.dotdigital.com
    ("API end points", "Call rate limits", "Error response types"), all read 2026-11. The first
    description has the status 200 for a copy, the second 201. Version 3 has no campaigns.
    """

    provider = "dotdigital"
    title = "dotdigital"
    Account = DotdigitalAccount
    Input = DotdigitalCampaignInput
    example = 'campaignId: 1045\nname: "Spring sale, second wave"'
    reports_creation_time = False

    account: DotdigitalAccount

    def build_request(self, copy_input: DotdigitalCampaignInput) -> ProviderRequest:
        building.name_for_rename(copy_input, MAX_NAME_LENGTH)
        source = building.require_positive(copy_input.campaign_id, "campaignId")
        return self._request("POST", f"/{source}/copy")

    def parse_response(
        self, copy_input: DotdigitalCampaignInput, response: ProviderResponse
    ) -> Outcome:
        campaign = FIELDS.parse(parsing.json_object(response))
        # Other objects have an `id` too.
        copy = campaign if campaign and campaign.name else None
        success = errors.success(response, copy, str(copy_input.campaign_id))
        return success or self._failure(response)

    def build_rename(
        self,
        copy_input: DotdigitalCampaignInput,
        copy_id: str,
        lookup_response: ProviderResponse | None,
    ) -> ProviderRequest:
        """Source: "Update campaign", whose sample has these five fields.

        The older description requires all of them. The response of the sample has the address of
        the sender, which its request does not have, so a change keeps the other fields.
        """
        path = f"/{building.id_as_number(copy_id, self.title)}"
        name = building.name_for_rename(copy_input, MAX_NAME_LENGTH)
        copy = parsing.json_object(lookup_response) if lookup_response else None
        return self._request("PUT", path, building.json_body({"name": name, **_content_of(copy)}))

    def parse_rename(self, response: ProviderResponse) -> Failure | None:
        is_renamed = response.is_success and FIELDS.parse(parsing.json_object(response))
        return None if is_renamed else self._failure(response)

    def build_search(self, copy_input: object, cursor: str | None) -> ProviderRequest:
        """Source: "Get all campaigns (with filters)". The same list without filters is deprecated.

        No filter is for names or for times of creation. `skip` begins at 1. The list has no
        documented order.
        """
        query = building.with_query("/filtered", {"select": PAGE_SIZE, "skip": cursor})
        return self._request("GET", query)

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        listed = _expect_list(response)
        # A first page that does not even have the source is not dotdigital's.
        if not listed and cursor is None:
            raise contract.UnexpectedResponse("no campaigns")
        campaigns = [campaign for item in listed if (campaign := FIELDS.parse(item))]
        is_full = len(listed) >= PAGE_SIZE
        return SearchPage(campaigns, str(int(cursor or "0") + PAGE_SIZE) if is_full else None)

    def is_name_of_copy(self, name: str, source_name: str) -> bool:
        """Source: the samples of "Get campaign" and "Copy campaign" of the first description."""
        return name == f"{DEFAULT_PREFIX}{source_name}"

    def build_lookup(self, campaign_id: str, related_input: object) -> ProviderRequest:
        return self._request("GET", f"/{building.id_as_number(campaign_id, self.title)}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        code = _code_in(parsing.json_object(response))
        if response.status == 400 and code == "ERROR_CAMPAIGN_NOT_FOUND":
            return None
        return parsing.one(response, campaign_id, FIELDS.parse)

    @property
    def api_version(self) -> str:
        return "v2"

    def build_check(self, responses: Sequence[ProviderResponse]) -> ProviderRequest | None:
        """One campaign. API users have no permissions of their own.

        Source: as of the search. The account information would prove less, because the region r1
        returns it to the users of every region.
        """
        query = building.with_query("/filtered", {"select": 1})
        return None if responses else self._request("GET", query)

    def parse_check(self, responses: Sequence[ProviderResponse]) -> contract.Access:
        return checking.access(checking.failures(responses, [_expect_list], self._failure))

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        user, password = self.account.user, self.account.password
        authorization = building.basic_auth(user.get_secret_value(), password.get_secret_value())
        url = f"{self.account.base_url}{PATH}{path}"
        return building.api_request(method, url, {"authorization": authorization}, body)

    def _failure(self, response: ProviderResponse) -> Failure:
        body = parsing.json_object(response)
        provider_code = _code_in(body)
        code = CODES.get(provider_code or "") if response.status in errors.REFUSALS else None
        if response.status == 403 and code is None:
            # "API end points": the host is that of another region.
            code = ErrorCode.AUTHENTICATION_FAILED
        return errors.failure(
            self.title,
            response,
            code,
            provider_code=provider_code,
            provider_message=parsing.text(body, "message"),
        )


def _code_in(body: object) -> str | None:
    """Return dotdigital's code in the message of an error.

    Source: "Error response types", and dotdigital's own client in
    github.com/dotmailer/dotmailer-magento2-extension, which has the key `message` (read 2026-11).
    """
    code = re.search(r"\bERROR_[A-Z_]{1,80}\b", parsing.text(body, "message") or "")
    return code[0] if code else None


def _expect_list(response: ProviderResponse) -> list[Any]:
    """Raises `UnexpectedResponse`."""
    parsing.expect_success(response)
    listed = parsing.json_array(response)
    if listed is None:
        raise contract.UnexpectedResponse("no list of campaigns")
    return listed


def _content_of(copy: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the content of a copy, unchanged, as a change can have it. Raises `Refused`."""
    content = {name: copy.get(name) for name in CONTENT} if copy else {}
    texts = {name: text for name, text in content.items() if isinstance(text, str) and text}
    # A lookup has one variant of a split test. A change takes what is inside of the body only.
    is_one_variant = copy is not None and copy.get("isSplitTest") is False
    has_body = re.search(r"<body\b", texts.get("htmlContent", ""), re.IGNORECASE)
    if not is_one_variant or len(texts) < len(CONTENT) or has_body:
        raise Refused(UserError(ErrorCode.PROVIDER_UNAVAILABLE, CONTENT_UNKNOWN))
    for name, text in texts.items():
        building.require_text(text, name)
    return texts
