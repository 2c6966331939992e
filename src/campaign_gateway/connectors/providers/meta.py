"""Translates one copy of a campaign to Meta's Marketing API and back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from urllib.parse import urlencode

import strawberry

from campaign_gateway.connectors.account_settings import (
    AccountSettings,
    BaseUrl,
    Secret,
    version_like,
)
from campaign_gateway.connectors.building import (
    FORM,
    api_request,
    form_body,
    identifier,
    optional_line,
)
from campaign_gateway.connectors.contract import (
    ProviderRequest,
    ProviderResponse,
    SearchPage,
    UnexpectedResponse,
)
from campaign_gateway.connectors.errors import REFUSALS, failure
from campaign_gateway.connectors.graphql import account_field, described_enum
from campaign_gateway.connectors.parsing import (
    read_found,
    read_id,
    read_instant,
    read_int,
    read_json_object,
    read_listed,
    read_text,
)
from campaign_gateway.model import (
    Campaign,
    CampaignStatus,
    Created,
    ErrorCode,
    Outcome,
    Rejected,
    Unknown,
)


class MetaStatusOption(StrEnum):
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    INHERITED_FROM_SOURCE = "INHERITED_FROM_SOURCE"


class MetaRenameStrategy(StrEnum):
    DEEP_RENAME = "DEEP_RENAME"
    ONLY_TOP_LEVEL_RENAME = "ONLY_TOP_LEVEL_RENAME"
    NO_RENAME = "NO_RENAME"


described_enum(
    MetaStatusOption,
    "The status that a copy begins with.",
    {
        MetaStatusOption.ACTIVE: "Active: the copy may spend money as soon as it exists.",
        MetaStatusOption.PAUSED: "Paused: the copy spends nothing until somebody activates it.",
        MetaStatusOption.INHERITED_FROM_SOURCE: "The source's: the copy of an active campaign may "
        "spend money as soon as it exists.",
    },
)
described_enum(
    MetaRenameStrategy,
    "Whose names get the prefix and the suffix.",
    {
        MetaRenameStrategy.DEEP_RENAME: "The campaign's and those of everything copied below it.",
        MetaRenameStrategy.ONLY_TOP_LEVEL_RENAME: "The campaign's only.",
        MetaRenameStrategy.NO_RENAME: "Nobody's: everything is called as in the source.",
    },
)


@strawberry.input(description="A Meta campaign to copy, and what the copy is to be like.")
class MetaCampaignInput:
    account: str | None = account_field("Meta Ads")
    campaign_id: strawberry.ID = strawberry.field(description="The campaign's id at Meta.")
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The exact name of the copy. Meta takes it only in a second call, which the "
        "gateway makes when the copy exists. Without it the other fields say what it is called.",
    )
    status_option: MetaStatusOption = strawberry.field(
        default=MetaStatusOption.PAUSED,
        description="The status that the copy begins with. An active copy spends money at once.",
    )
    deep_copy: bool = strawberry.field(
        default=False,
        description="True: the campaign's ad sets and ads are copied with it; Meta does that for "
        "three at most and refuses more. Left out or false: the campaign alone.",
    )
    rename_strategy: MetaRenameStrategy | None = strawberry.field(
        default=strawberry.UNSET,
        description="Whose names get the prefix and the suffix. Without it the campaign's only.",
    )
    rename_prefix: str | None = strawberry.field(
        default=strawberry.UNSET, description="What is put before a copied name."
    )
    rename_suffix: str | None = strawberry.field(
        default=strawberry.UNSET,
        description='What is put after a copied name. Without it Meta adds "- Copy" in the '
        "language of the ad account.",
    )


TITLE = "Meta Ads"
PAGE_SIZE = 100

FIELDS = "id,name,status,effective_status,created_time,updated_time,source_campaign_id"

# Without a filter the archived are left out, and one that names the deleted is refused
# (developers.facebook.com, "Ad Account, Ad Campaigns" and "Deleted versus Archived").
LISTED = ["ACTIVE", "PAUSED", "ARCHIVED", "IN_PROCESS", "WITH_ISSUES"]

STATUSES: Mapping[str, CampaignStatus] = {
    "ACTIVE": CampaignStatus.ACTIVE,
    "PAUSED": CampaignStatus.PAUSED,
    "ARCHIVED": CampaignStatus.ARCHIVED,
    "DELETED": CampaignStatus.ARCHIVED,
}

# Of the pages "Handling errors", "Rate limits" and "Error codes" at developers.facebook.com, read
# 2026-09. One code comes with different HTTP statuses, so that the status alone says too little.
CODES: Mapping[int, ErrorCode] = {
    # "Unknown" and "temporarily unavailable", which say nothing of what was done before.
    **dict.fromkeys((1, 2, 5000), ErrorCode.OUTCOME_UNKNOWN),
    **dict.fromkeys((102, 104, 190), ErrorCode.AUTHENTICATION_FAILED),
    **dict.fromkeys((3, 10, *range(200, 300), 368), ErrorCode.PERMISSION_DENIED),
    **dict.fromkeys((4, 17, 32, 341, 613, *range(80000, 80015)), ErrorCode.RATE_LIMITED),
    100: ErrorCode.INVALID_INPUT,
    # The version of the API is no longer served.
    2635: ErrorCode.PROVIDER_UNAVAILABLE,
}


class MetaAccount(AccountSettings):
    """An access token with the permission `ads_management`; a system user's does not expire.

    Meta serves a version of the Marketing API for a year or so: v25.0 until 2027-02-23.
    """

    base_url: BaseUrl = "https://graph.facebook.com"
    version: Annotated[str, version_like("v26.0", r"v[0-9]{1,3}\.[0-9]{1,2}")] = "v26.0"
    access_token: Secret


@dataclass(frozen=True)
class MetaConnector:
    """Source: developers.facebook.com, "Ad Campaign Group Copies" (v25.0), read 2026-09, and
    Meta's own description of the API in facebook-business 26.0.3, where these calls are the same.

    The answer holds ids and nothing else, and no parameter holds the copy's name: a prefix and a
    suffix are all. So the name takes a call of its own, and what the copy is like has to be read.
    """

    provider: ClassVar[str] = "meta"
    title: ClassVar[str] = TITLE
    Account: ClassVar[type[AccountSettings]] = MetaAccount
    Input: ClassVar[type[Any]] = MetaCampaignInput
    example: ClassVar[str] = (
        'campaignId: "120210000000000101"\n'
        'name: "Spring sale, second wave"\n'
        "statusOption: PAUSED\n"
        "deepCopy: true"
    )
    reports_creation_time: ClassVar[bool] = True
    reports_source: ClassVar[bool] = True
    list_has_all_fields: ClassVar[bool] = True

    account: MetaAccount

    def build_request(self, campaign: MetaCampaignInput) -> ProviderRequest:
        source = identifier(campaign.campaign_id, "campaignId")
        # It is sent later, when the copy exists; refusing it only then would be too late.
        optional_line(campaign.name, "name")
        rename_options = {
            "rename_strategy": campaign.rename_strategy,
            "rename_prefix": optional_line(campaign.rename_prefix, "renamePrefix"),
            "rename_suffix": optional_line(campaign.rename_suffix, "renameSuffix"),
        }
        given = {name: value for name, value in rename_options.items() if value is not None}
        fields = {
            "deep_copy": campaign.deep_copy,
            # Always sent: whether a copy may spend money must not hang on Meta's default.
            "status_option": campaign.status_option,
            "rename_options": given or None,
        }
        return self._request("POST", f"/{source}/copies", form_body(fields))

    def parse_response(self, campaign: MetaCampaignInput, response: ProviderResponse) -> Outcome:
        copy_id = _copy_id_in(read_json_object(response) or {})
        if response.is_success and copy_id and copy_id != campaign.campaign_id:
            return Created(Campaign(copy_id, copied_from=campaign.campaign_id), _trace_of(response))
        return _failure(response)

    def build_rename(
        self, campaign: MetaCampaignInput, copy_id: str, lookup_response: ProviderResponse | None
    ) -> ProviderRequest:
        path = f"/{identifier(copy_id, 'id')}"
        return self._request("POST", path, form_body({"name": campaign.name}))

    def parse_rename(self, response: ProviderResponse) -> Rejected | Unknown | None:
        body = read_json_object(response) or {}
        # The pages show `success`; Meta's own description of the API has the campaign answered.
        says_yes = body.get("success") is True or read_id(body, "id") is not None
        if response.is_success and says_yes and _error_in(response) is None:
            return None
        return _failure(response)

    def build_search(self, campaign: MetaCampaignInput, cursor: str | None) -> ProviderRequest:
        query = {"fields": FIELDS, "effective_status": json.dumps(LISTED), "limit": str(PAGE_SIZE)}
        if cursor is not None:
            query["after"] = cursor
        source = identifier(campaign.campaign_id, "campaignId")
        return self._request("GET", f"/{source}/copies?{urlencode(query)}")

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        """The copies of one campaign, by whatever name, in an order that no document tells."""
        if _error_in(response) is not None:
            raise UnexpectedResponse("an error in place of a list")
        found = read_listed(response, _read_campaign, "data")
        body = read_json_object(response)
        # There is more where `next` stands. It is a URL with the token in it, hence the cursor.
        if read_text(body, "paging", "next") is None:
            return SearchPage(found)
        return SearchPage(found, read_text(body, "paging", "cursors", "after"))

    def build_lookup(
        self, campaign_id: str, related_input: MetaCampaignInput | None
    ) -> ProviderRequest:
        query = urlencode({"fields": FIELDS})
        return self._request("GET", f"/{identifier(campaign_id, 'id')}?{query}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        if _code_of(response) is ErrorCode.CAMPAIGN_NOT_FOUND:
            return None
        return read_found(response, campaign_id, _read_campaign)

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        headers = {"authorization": f"Bearer {self.account.access_token.get_secret_value()}"}
        url = f"{self.account.base_url}/{self.account.version}{path}"
        return api_request(method, url, headers, body, FORM)


def _copy_id_in(body: Mapping[str, Any]) -> str | None:
    # The pages show an answer of ids; Meta's own description of the API has the copy answered.
    if "copied_campaign_id" in body:
        return read_id(body, "copied_campaign_id")
    return read_id(body, "id") if "error" not in body else None


def _read_campaign(data: object) -> Campaign | None:
    campaign_id = read_id(data, "id")
    if campaign_id is None:
        return None
    # `status` is what the campaign is set to; `effective_status` adds what keeps it from that.
    word = read_text(data, "status")
    source = read_id(data, "source_campaign_id")
    return Campaign(
        id=campaign_id,
        name=read_text(data, "name"),
        status=STATUSES.get(word or "", CampaignStatus.UNKNOWN),
        provider_status=read_text(data, "effective_status") or word,
        created_at=read_instant(data, "created_time"),
        updated_at=read_instant(data, "updated_time"),
        # "0" in a campaign that is no copy.
        copied_from=source if source != "0" else None,
    )


def _failure(response: ProviderResponse) -> Rejected | Unknown:
    error = _error_in(response)
    code, subcode = read_int(error, "code"), read_int(error, "error_subcode")
    # The message of most errors is "Invalid parameter"; what is wrong stands in the user's.
    said = (read_text(error, "message"), read_text(error, "error_user_msg"))
    return failure(
        TITLE,
        response,
        _code_of(response),
        provider_code="/".join(str(each) for each in (code, subcode) if each is not None),
        provider_message=": ".join(filter(None, said)),
        retry_after=_delay_of(response),
        trace_id=_trace_of(response),
    )


def _code_of(response: ProviderResponse) -> ErrorCode | None:
    """What the error's own code makes of a refusal; None leaves it to the status.

    An unknown id is code 100 with subcode 33, mostly with status 400: seen by many users of the
    API, and in no table of Meta's for campaigns. A campaign that the token may not see is the same.
    """
    error = _error_in(response)
    code = read_int(error, "code")
    if response.status not in REFUSALS or code is None:
        return None
    if code == 100 and read_int(error, "error_subcode") == 33:
        return ErrorCode.CAMPAIGN_NOT_FOUND
    if code in CODES:
        return CODES[code]
    # Below 0 are Meta's internal errors.
    is_transient = isinstance(error, dict) and error.get("is_transient") is True
    return ErrorCode.OUTCOME_UNKNOWN if code < 0 or is_transient else None


def _error_in(response: ProviderResponse) -> object:
    body = read_json_object(response)
    return body.get("error") if body else None


def _trace_of(response: ProviderResponse) -> str | None:
    in_header = read_text(dict(response.headers), "x-fb-trace-id")
    return read_text(_error_in(response), "fbtrace_id") or in_header


def _delay_of(response: ProviderResponse) -> int | None:
    """Seconds to wait, which Meta tells in minutes in a header of its own."""
    usage = response.headers.get("x-business-use-case-usage", "").encode()
    found = read_json_object(replace(response, body=usage, complete=True)) or {}
    minutes = [
        read_int(each, "estimated_time_to_regain_access") or 0
        for uses in found.values()
        if isinstance(uses, list)
        for each in uses
    ]
    longest = max(minutes, default=0)
    return 60 * longest if longest > 0 and "retry-after" not in response.headers else None
