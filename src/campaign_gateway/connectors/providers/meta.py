"""Translates the copy of a campaign to Meta's Marketing API and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, final

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
from campaign_gateway.connectors.graphql import account_field, optional_field, register_enum
from campaign_gateway.model import Campaign, CopiedObject, ErrorCode, Failure, Outcome, Rejected


class MetaObjectKind(StrEnum):
    CAMPAIGN = "CAMPAIGN"
    AD_SET = "AD_SET"
    AD = "AD"


class MetaStatusOption(StrEnum):
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    INHERITED_FROM_SOURCE = "INHERITED_FROM_SOURCE"


class MetaRenameStrategy(StrEnum):
    DEEP_RENAME = "DEEP_RENAME"
    ONLY_TOP_LEVEL_RENAME = "ONLY_TOP_LEVEL_RENAME"
    NO_RENAME = "NO_RENAME"


register_enum(
    MetaObjectKind,
    "What to copy.",
    {
        MetaObjectKind.CAMPAIGN: "A campaign.",
        MetaObjectKind.AD_SET: "An ad set. The copy is in the same campaign, or in `toCampaignId`.",
        MetaObjectKind.AD: "An ad. The copy is in the same ad set, or in `toAdSetId`.",
    },
)
register_enum(
    MetaStatusOption,
    "The status of a new copy.",
    {
        MetaStatusOption.ACTIVE: "Active: the copy can spend money immediately.",
        MetaStatusOption.PAUSED: "Paused: the copy spends nothing until you activate it.",
        MetaStatusOption.INHERITED_FROM_SOURCE: "The source's status: the copy of an active "
        "campaign can spend money immediately.",
    },
)
register_enum(
    MetaRenameStrategy,
    "Which names get the prefix and the suffix.",
    {
        MetaRenameStrategy.DEEP_RENAME: "The names of the copy and of every copied object below "
        "it.",
        MetaRenameStrategy.ONLY_TOP_LEVEL_RENAME: "Only the name of the copy itself.",
        MetaRenameStrategy.NO_RENAME: "None: every object keeps its name from the source.",
    },
)


@strawberry.input(
    description="A campaign, ad set or ad at Meta to copy, and the options of the copy."
)
class MetaCampaignInput:
    account: str | None = account_field("Meta Ads")
    campaign_id: strawberry.ID = strawberry.field(
        description="The id at Meta of the campaign, ad set or ad. `kind` says which of them it is."
    )
    name: str | None = optional_field(
        "The exact name of the copy. Meta accepts it only in a second call, which the "
        "gateway makes when the copy exists. Without it the prefix and the suffix set the name."
    )
    status_option: MetaStatusOption = strawberry.field(
        default=MetaStatusOption.PAUSED,
        description="The status of the new copy. An active copy spends money immediately.",
    )
    deep_copy: bool = strawberry.field(
        default=False,
        description="If true, what is below the source is copied too: the ad sets and ads of a "
        "campaign, or the ads of an ad set. Meta rejects the call if that is more than three "
        "objects. If false, only the campaign or the ad set is copied. Not for kind AD.",
    )
    rename_strategy: MetaRenameStrategy | None = optional_field(
        "Which names get the prefix and the suffix. If omitted, only the name of the copy itself."
    )
    rename_prefix: str | None = optional_field("Text to put before a copied name.")
    rename_suffix: str | None = optional_field(
        'Text to put after a copied name. Without it Meta adds "- Copy" in the '
        "language of the ad account."
    )
    # Without a default, so that a request from before this option is still the same intent.
    kind: MetaObjectKind | None = optional_field(
        "Whether campaignId is a campaign, an ad set or an ad. If omitted, a campaign."
    )
    start_time: str | None = optional_field(
        "When the copied ad sets start, as ISO 8601 with a time zone, such as "
        '"2027-03-01T09:00:00+01:00". If omitted, the time of the source is kept. Not for kind AD.'
    )
    end_time: str | None = optional_field(
        "When the copied ad sets end, as ISO 8601 with a time zone. Not for kind AD."
    )
    migrate_to_advantage_plus: bool | None = optional_field(
        "If true, the copy of a legacy Advantage+ campaign gets the current structure. Only for "
        "kind CAMPAIGN."
    )
    to_campaign_id: strawberry.ID | None = optional_field(
        "The campaign that gets the copied ad set. If omitted, the campaign of the source. Only "
        "for kind AD_SET."
    )
    to_ad_set_id: strawberry.ID | None = optional_field(
        "The ad set that gets the copied ad. If omitted, the ad set of the source. Only for kind "
        "AD."
    )
    title: str | None = optional_field(
        "The title of the copied ad. If omitted, the title of the source. Only for kind AD."
    )
    body: str | None = optional_field(
        "The text of the copied ad. If omitted, the text of the source. Only for kind AD."
    )
    link_url: str | None = optional_field(
        "The address that the copied ad leads to. If omitted, that of the source. Only for kind AD."
    )
    url_tags: str | None = optional_field(
        "The parameters that Meta adds to the addresses in the copied ad, such as "
        '"utm_campaign=spring". If omitted, those of the source. Only for kind AD.'
    )


CAMPAIGN = MetaObjectKind.CAMPAIGN

PAGE_SIZE = 100

PERMISSION = "ads_management"

READ_FIELDS = "id,name,status,effective_status,created_time,updated_time"

# Without a filter Meta omits the archived campaigns, and it rejects a filter that names the deleted
# (developers.facebook.com, "Ad Account, Ad Campaigns" and "Deleted versus Archived").
LISTED = ["ACTIVE", "PAUSED", "ARCHIVED", "IN_PROCESS", "WITH_ISSUES"]
LISTED_AD_SETS = [*LISTED, "CAMPAIGN_PAUSED"]
LISTED_ADS = [
    *LISTED_AD_SETS,
    *("ADSET_PAUSED", "DISAPPROVED", "PENDING_BILLING_INFO", "PENDING_REVIEW", "PREAPPROVED"),
]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What Meta calls the id of a copy and of its source, and the statuses that it lists."""

    copy_field: str
    source_field: str
    listed: Sequence[str]


KINDS = {
    MetaObjectKind.CAMPAIGN: _Kind("copied_campaign_id", "source_campaign_id", LISTED),
    MetaObjectKind.AD_SET: _Kind("copied_adset_id", "source_adset_id", LISTED_AD_SETS),
    MetaObjectKind.AD: _Kind("copied_ad_id", "source_ad_id", LISTED_ADS),
}

# How many copied objects of one response are kept. Meta copies four at most.
MAX_OBJECTS = 20

# The subcode for more objects than Meta copies in one call.
TOO_MANY_OBJECTS = 1885194
TOO_MANY = (
    "In one call, Meta copies at most three ad sets and ads together with a campaign. This "
    "campaign has more, so nothing was copied. Set deepCopy to false, then copy each ad set with "
    "kind AD_SET and toCampaignId, and each ad with kind AD and toAdSetId."
)

FIELDS = parsing.CampaignFields(
    parsing.statuses(active=["ACTIVE"], paused=["PAUSED"], archived=["ARCHIVED", "DELETED"]),
    created_at="created_time",
    updated_at="updated_time",
    copied_from="source_campaign_id",
)

# From the pages "Handling errors", "Rate limits" and "Error codes" at developers.facebook.com, read
# 2026-09. Meta sends one code with different HTTP statuses, so the status alone is not enough.
CODES: Mapping[int, ErrorCode] = {
    # "Unknown" and "temporarily unavailable": they do not say what was done before.
    **dict.fromkeys((1, 2, 5000), ErrorCode.OUTCOME_UNKNOWN),
    **dict.fromkeys((102, 104, 190), ErrorCode.AUTHENTICATION_FAILED),
    **dict.fromkeys((3, 10, *range(200, 300), 368), ErrorCode.PERMISSION_DENIED),
    **dict.fromkeys((4, 17, 32, 341, 613, *range(80000, 80015)), ErrorCode.RATE_LIMITED),
    100: ErrorCode.INVALID_INPUT,
    # Meta no longer serves this version of the API.
    2635: ErrorCode.PROVIDER_UNAVAILABLE,
}


class MetaAccount(AccountSettings):
    """An access token with the permission `ads_management`. A system user's does not expire.

    Meta serves a version of the Marketing API for about a year: v25.0 until 2027-02-23.
    """

    base_url: BaseUrl = "https://graph.facebook.com"
    version: Annotated[str, account_settings.version_like("v26.0", r"v[0-9]{1,3}\.[0-9]{1,2}")] = (
        "v26.0"
    )
    access_token: Secret


@final
@dataclass(frozen=True)
class MetaConnector(
    contract.Connector[MetaCampaignInput],
    contract.RenamesCopies[MetaCampaignInput],
    contract.ListsCampaigns[MetaCampaignInput],
    contract.ReadsCampaigns[MetaCampaignInput],
    contract.ActivatesCopies[MetaCampaignInput],
    contract.ShowsAccess,
):
    """Source: developers.facebook.com, "Ad Campaign Group Copies", "Ad Campaign Copies" and "Ad
    Copies" (v25.0), read 2026-11, and Meta's own description of the API in facebook-business
    26.0.3. There, `parameter_overrides` is an object whose keys no document lists, so the input
    does not have it, nor `create_dco_adset`. Of the keys of `creative_parameters` it has those that
    Meta names in its announcement of 2025-05-28, as texts of an `AdCreative`.

    The response has only ids, and no parameter sets the copy's name, only a prefix and a suffix.
    So the gateway renames the copy in a second call and reads its fields in a third.
    """

    provider = "meta"
    title = "Meta Ads"
    is_well_known = True
    Account = MetaAccount
    Input = MetaCampaignInput
    example = (
        'campaignId: "120210000000000101"\n'
        'name: "Spring sale, second wave"\n'
        "statusOption: PAUSED\n"
        "deepCopy: true"
    )
    reports_source = True

    account: MetaAccount

    def build_request(self, copy_input: MetaCampaignInput) -> ProviderRequest:
        source = building.require_id(copy_input.campaign_id, "campaignId")
        building.name_for_rename(copy_input)
        rename_options = {
            "rename_strategy": copy_input.rename_strategy,
            "rename_prefix": building.optional_line(copy_input.rename_prefix, "renamePrefix"),
            "rename_suffix": building.optional_line(copy_input.rename_suffix, "renameSuffix"),
        }
        _check_kind(copy_input)
        creative = {
            "title": building.optional_line(copy_input.title, "title"),
            "body": building.optional_text(copy_input.body, "body"),
            "link_url": building.optional_line(copy_input.link_url, "linkUrl"),
            "url_tags": building.optional_line(copy_input.url_tags, "urlTags"),
        }
        fields = {
            "deep_copy": None if copy_input.kind == MetaObjectKind.AD else copy_input.deep_copy,
            # Always sent, so that Meta's default cannot decide whether a copy may spend money.
            "status_option": copy_input.status_option,
            "rename_options": building.omit_none(rename_options) or None,
            "start_time": building.optional_instant(copy_input.start_time, "startTime"),
            "end_time": building.optional_instant(copy_input.end_time, "endTime"),
            "migrate_to_advantage_plus": copy_input.migrate_to_advantage_plus,
            "campaign_id": _optional_id(copy_input.to_campaign_id, "toCampaignId"),
            "adset_id": _optional_id(copy_input.to_ad_set_id, "toAdSetId"),
            "creative_parameters": building.omit_none(creative) or None,
        }
        return self._request("POST", f"/{source}/copies", building.form_body(fields))

    def activates(self, copy_input: MetaCampaignInput) -> bool:
        # The source may be active.
        return copy_input.status_option != MetaStatusOption.PAUSED

    def parse_response(self, copy_input: MetaCampaignInput, response: ProviderResponse) -> Outcome:
        source, trace_id = copy_input.campaign_id, _trace_id(response)
        copy = _parse_copy(parsing.json_object(response) or {}, copy_input)
        # Meta documents 200, which proves nothing without an id.
        success = errors.success(response, copy, source, documented=None, trace_id=trace_id)
        return success or self._failure(response)

    def build_rename(
        self, copy_input: MetaCampaignInput, copy_id: str, lookup_response: object
    ) -> ProviderRequest:
        name = building.name_for_rename(copy_input)
        path = f"/{building.require_id(copy_id, 'id')}"
        return self._request("POST", path, building.form_body({"name": name}))

    def parse_rename(self, response: ProviderResponse) -> Failure | None:
        body = parsing.json_object(response) or {}
        # The pages show `success`. By Meta's own description of the API it returns the campaign.
        is_renamed = body.get("success") is True or parsing.safe_id(body, "id") is not None
        if response.is_success and is_renamed and _error_in(response) is None:
            return None
        return self._failure(response)

    def build_search(self, copy_input: MetaCampaignInput, cursor: str | None) -> ProviderRequest:
        source = building.require_id(copy_input.campaign_id, "campaignId")
        query = {
            "fields": _read_fields(copy_input),
            "effective_status": json.dumps(_kind_of(copy_input).listed),
            "limit": PAGE_SIZE,
            "after": cursor,
        }
        return self._request("GET", building.with_query(f"/{source}/copies", query))

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        """The copies of one campaign, with any name. Their order is undocumented."""
        if _error_in(response) is not None:
            raise contract.UnexpectedResponse("an error in place of a list")
        body = parsing.expect_object(response)
        # `next` exists if there are more pages. It is a URL with the token in it, so the gateway
        # uses the cursor.
        has_next = parsing.text(body, "paging.next") is not None
        after = parsing.text(body, "paging.cursors.after") if has_next else None
        return SearchPage(parsing.campaigns(body, "data", _parse_campaign), after)

    def build_lookup(
        self, campaign_id: str, related_input: MetaCampaignInput | None
    ) -> ProviderRequest:
        path = f"/{building.require_id(campaign_id, 'id')}"
        query = {"fields": _read_fields(related_input)}
        return self._request("GET", building.with_query(path, query))

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        if _code_of(response) is ErrorCode.CAMPAIGN_NOT_FOUND:
            return None
        return parsing.one(response, campaign_id, _parse_campaign)

    @property
    def api_version(self) -> str:
        return self.account.version

    def build_check(self, responses: Sequence[ProviderResponse]) -> ProviderRequest | None:
        """The granted and declined permissions of the token.

        Source: developers.facebook.com, Graph API, "User permissions" (v25.0), read 2026-11.
        """
        return None if responses else self._request("GET", "/me/permissions")

    def parse_check(self, responses: Sequence[ProviderResponse]) -> contract.Access:
        reads = checking.failures(responses, [_parse_permissions], self._failure)
        granted = checking.parsed(responses[0], _parse_permissions)
        grant = contract.Grant.NOT_CHECKED if granted is None else contract.Grant.MISSING
        if granted and PERMISSION in granted:
            grant = contract.Grant.GRANTED
        return checking.access(reads, contract.Permission(PERMISSION, grant))

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        headers = {"authorization": f"Bearer {self.account.access_token.get_secret_value()}"}
        url = f"{self.account.base_url}/{self.account.version}{path}"
        return building.api_request(method, url, headers, body, building.FORM)

    def _failure(self, response: ProviderResponse) -> Failure:
        error = _error_in(response)
        codes = (parsing.integer(error, "code"), parsing.integer(error, "error_subcode"))
        # The message of most errors is "Invalid parameter"; the cause is in the user's message.
        messages = (parsing.text(error, "message"), parsing.text(error, "error_user_msg"))
        failure = errors.failure(
            self.title,
            response,
            _code_of(response),
            provider_code="/".join(str(code) for code in codes if code is not None),
            provider_message=": ".join(filter(None, messages)),
            retry_after=_delay_in(response),
            trace_id=_trace_id(response),
        )
        if codes == (100, TOO_MANY_OBJECTS) and isinstance(failure, Rejected):
            field = ("input", self.provider, "deepCopy")
            return replace(failure, error=replace(failure.error, message=TOO_MANY, field=field))
        return failure


def _parse_permissions(response: ProviderResponse) -> set[str | None]:
    """Return the granted permissions. Raises `UnexpectedResponse`."""
    body = parsing.expect_object(response)
    items = parsing.items(body, "data")
    # The missing one could be on another page.
    if items is None or "error" in body or parsing.text(body, "paging.next"):
        raise contract.UnexpectedResponse("no list of permissions")
    granted = (item for item in items if parsing.text(item, "status") == "granted")
    return {parsing.text(item, "permission") for item in granted}


def _kind_of(copy_input: MetaCampaignInput | None) -> _Kind:
    return KINDS[(copy_input and copy_input.kind) or CAMPAIGN]


def _read_fields(copy_input: MetaCampaignInput | None) -> str:
    return f"{READ_FIELDS},{_kind_of(copy_input).source_field}"


def _check_kind(copy_input: MetaCampaignInput) -> None:
    """Raises `Refused` for an option that Meta has only for other kinds."""
    kind = copy_input.kind or CAMPAIGN
    with_children = (CAMPAIGN, MetaObjectKind.AD_SET)
    options: Sequence[tuple[str, object, Sequence[MetaObjectKind]]] = (
        ("deepCopy", copy_input.deep_copy or None, with_children),
        ("startTime", copy_input.start_time, with_children),
        ("endTime", copy_input.end_time, with_children),
        ("migrateToAdvantagePlus", copy_input.migrate_to_advantage_plus, (CAMPAIGN,)),
        ("toCampaignId", copy_input.to_campaign_id, (MetaObjectKind.AD_SET,)),
        ("toAdSetId", copy_input.to_ad_set_id, (MetaObjectKind.AD,)),
        ("title", copy_input.title, (MetaObjectKind.AD,)),
        ("body", copy_input.body, (MetaObjectKind.AD,)),
        ("linkUrl", copy_input.link_url, (MetaObjectKind.AD,)),
        ("urlTags", copy_input.url_tags, (MetaObjectKind.AD,)),
    )
    for field_name, value, kinds in options:
        if value is not None and kind not in kinds:
            words = " and ".join(f"kind {each}" for each in kinds)
            raise building.invalid_input(field_name, f"{field_name} is only for {words}.")


def _optional_id(value: str | None, field_name: str) -> str | None:
    """Raises `Refused`."""
    return None if value is None else building.require_id(value, field_name)


def _parse_copy(body: Mapping[str, Any], copy_input: MetaCampaignInput) -> Campaign | None:
    # The pages show a response of ids. By Meta's own description of the API it returns the copy.
    in_copy = "id" if "error" not in body else ""
    names = [kind.copy_field for kind in KINDS.values() if kind.copy_field in body]
    copy_id = parsing.safe_id(body, next(iter(names), in_copy))
    if copy_id is None:
        return None
    objects = [
        CopiedObject(kind, source_id, child_id)
        for item in (parsing.items(body, "ad_object_ids") or ())[:MAX_OBJECTS]
        if (kind := parsing.text(item, "ad_object_type"))
        and (source_id := parsing.safe_id(item, "source_id"))
        and (child_id := parsing.safe_id(item, "copied_id"))
        and child_id != copy_id
    ]
    return Campaign(copy_id, copied_from=copy_input.campaign_id, copied_objects=tuple(objects))


def _parse_campaign(data: Any) -> Campaign | None:
    # Each kind has its source in another field.
    sources = (parsing.safe_id(data, kind.source_field) for kind in KINDS.values())
    source = next(filter(None, sources), None)
    campaign = FIELDS.parse({**data, "source_campaign_id": source} if source else data)
    if campaign is None:
        return None
    # `status` is the campaign's setting. `effective_status` adds what prevents it.
    effective_status = parsing.text(data, "effective_status") or campaign.provider_status
    # The source of a campaign that is no copy is "0".
    copied_from = campaign.copied_from if campaign.copied_from != "0" else None
    return replace(campaign, provider_status=effective_status, copied_from=copied_from)


def _code_of(response: ProviderResponse) -> ErrorCode | None:
    """Return what the error's own code means for a rejection; None leaves it to the status.

    An unknown id is code 100 with subcode 33, mostly with status 400: many users of the API have
    seen it, and none of Meta's tables has it for campaigns. A campaign that the token may not see
    has the same code.
    """
    error = _error_in(response)
    code = parsing.integer(error, "code")
    if response.status not in errors.REFUSALS or code is None:
        return None
    if code == 100 and parsing.integer(error, "error_subcode") == 33:
        return ErrorCode.CAMPAIGN_NOT_FOUND
    if code in CODES:
        return CODES[code]
    # Codes below 0 are Meta's internal errors.
    is_transient = isinstance(error, dict) and error.get("is_transient") is True
    return ErrorCode.OUTCOME_UNKNOWN if code < 0 or is_transient else None


def _error_in(response: ProviderResponse) -> object:
    return (parsing.json_object(response) or {}).get("error")


def _trace_id(response: ProviderResponse) -> str | None:
    in_header = parsing.text(response.headers, "x-fb-trace-id")
    return parsing.text(_error_in(response), "fbtrace_id") or in_header


def _delay_in(response: ProviderResponse) -> int | None:
    """Return the seconds to wait. Meta sends minutes in a header of its own."""
    header = response.headers.get("x-business-use-case-usage", "").encode()
    usage = parsing.json_object(replace(response, body=header, complete=True)) or {}
    minutes = [
        parsing.integer(use, "estimated_time_to_regain_access") or 0
        for uses in usage.values()
        if isinstance(uses, list)
        for use in uses
    ]
    longest = max(minutes, default=0)
    return 60 * longest if longest > 0 and "retry-after" not in response.headers else None
