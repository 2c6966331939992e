"""Translates the copy of a campaign to Braze's REST API and back."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal, Self, final, get_args

import strawberry
from pydantic import model_validator

from campaign_gateway.connectors import (
    account_settings,
    building,
    checking,
    contract,
    errors,
    parsing,
)
from campaign_gateway.connectors.account_settings import AccountSettings, Secret
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse, SearchPage
from campaign_gateway.connectors.graphql import account_field, optional_field, register_enum
from campaign_gateway.model import Campaign, ErrorCode, Failure, Outcome


class BrazeCampaignKind(StrEnum):
    CAMPAIGN = "CAMPAIGN"
    CANVAS = "CANVAS"


register_enum(
    BrazeCampaignKind,
    "What to copy.",
    {
        BrazeCampaignKind.CAMPAIGN: "A campaign.",
        BrazeCampaignKind.CANVAS: "A Canvas, with its steps. The account's key needs the "
        "permissions for Canvases.",
    },
)


@strawberry.input(description="A Braze campaign or Canvas to copy, and the copy's name.")
class BrazeCampaignInput:
    account: str | None = account_field("Braze")
    campaign_id: strawberry.ID = strawberry.field(
        description="The API identifier of the campaign or of the Canvas at Braze."
    )
    name: str = strawberry.field(
        description="The name of the copy. Use a name that no other campaign has, so that the "
        "gateway can find the copy: Braze responds before the copy exists and returns no id."
    )
    description: str | None = optional_field("The description of the copy.")
    tag_names: list[str] | None = optional_field(
        "Tags of the copy. They replace the source's tags and must exist at Braze."
    )
    # Without a default, so that a request from before this option is still the same intent.
    kind: BrazeCampaignKind | None = optional_field(
        "Whether campaignId is a campaign or a Canvas. If omitted, it is a campaign."
    )


@dataclass(frozen=True, slots=True)
class _Calls:
    """Where Braze has the calls for one kind, and what they call its id and its list."""

    path: str
    id_field: str
    items: str


CAMPAIGNS = _Calls("/campaigns", "campaign_id", "campaigns")
CANVASES = _Calls("/canvas", "canvas_id", "canvases")


PAGE_SIZE = 100

# The documents do not say in which zone the filter's time is, so it is early enough for any.
ANY_ZONE = timedelta(days=1)

LISTED = parsing.CampaignFields(tags="tags", updated_at="last_edited")
DETAILED = parsing.CampaignFields(
    # Braze returns flags in place of a status.
    parsing.statuses(
        archived=["archived"], draft=["draft"], active=["enabled"], paused=["disabled"]
    ),
    description="description",
    tags="tags",
    created_at="created_at",
    updated_at="updated_at",
)

# braze.com/docs/api/basics, read 2026-09-02. The hosts have no pattern: US-09 does not exist, and
# US-10 is not numbered like the others.
Instance = Literal[
    "US-01", "US-02", "US-03", "US-04", "US-05", "US-06", "US-07", "US-08", "US-10",
    "EU-01", "EU-02", "AU-01", "ID-01", "JP-01", "KR-01",
]  # fmt: skip
HOSTS: dict[str, str] = {
    **{f"US-0{number}": f"rest.iad-0{number}.braze.com" for number in range(1, 9)},
    "US-10": "rest.us-10.braze.com",
    "EU-01": "rest.fra-01.braze.eu",
    "EU-02": "rest.fra-02.braze.eu",
    "AU-01": "rest.au-01.braze.com",
    "ID-01": "rest.id-01.braze.com",
    "JP-01": "rest.jp-01.braze.com",
    "KR-01": "rest.kr-01.braze.com",
}
assert set(HOSTS) == set(get_args(Instance))


class BrazeAccount(AccountSettings):
    """A REST API key and its instance. Every other instance rejects the key."""

    instance: Instance | None = None
    api_key: Secret
    calls_per_minute: account_settings.CallsPerMinute | None = 100

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.base_url is None) == (self.instance is None):
            raise ValueError('needs either base_url or instance (such as "EU-01"), not both')
        return self

    @property
    def root(self) -> str:
        return self.base_url or f"https://{HOSTS[self.instance or '']}"


@final
@dataclass(frozen=True)
class BrazeConnector(
    contract.Connector[BrazeCampaignInput],
    contract.ListsCampaigns[BrazeCampaignInput],
    contract.NarrowsSearches[BrazeCampaignInput],
    contract.ReadsCampaigns[BrazeCampaignInput],
    contract.ShowsAccess,
):
    """Source: braze.com/docs, `POST /campaigns/duplicate` and `POST /canvas/duplicate`, read in
    several copies up to 2026-11. Both take the same fields.

    Braze responds with 202 before the copy exists and never returns its id, so the gateway looks
    for the copy in the list. For that the key needs the permissions `campaigns.list` and
    `campaigns.details` besides `campaigns.duplicate`, and for Canvases their twins.
    """

    provider = "braze"
    title = "Braze"
    is_well_known = True
    Account = BrazeAccount
    Input = BrazeCampaignInput
    example = (
        'campaignId: "0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10"\n'
        'name: "Spring sale, second wave"\n'
        'description: "Copied through the gateway"\n'
        'tagNames: ["promo"]'
    )
    list_has_all_fields = False

    account: BrazeAccount

    def build_request(self, copy_input: BrazeCampaignInput) -> ProviderRequest:
        calls = _calls_of(copy_input)
        fields = {
            calls.id_field: building.require_id(copy_input.campaign_id, "campaignId"),
            "name": building.require_line(copy_input.name, "name"),
            "description": building.optional_text(copy_input.description, "description"),
            # Braze's pages say "string" in some languages and "array of strings" in the newest.
            # An empty array would remove the source's tags.
            "tag_names": building.optional_items(
                copy_input.tag_names, "tagNames", building.require_line
            ),
        }
        return self._request("POST", f"{calls.path}/duplicate", building.json_body(fields))

    def parse_response(self, copy_input: BrazeCampaignInput, response: ProviderResponse) -> Outcome:
        # The documents define no body for the 202.
        return errors.success(
            response,
            None,
            copy_input.campaign_id,
            documented=202,
            trace_id=_trace_id(response),
        ) or self._failure(response)

    def build_search(
        self, copy_input: BrazeCampaignInput | None, cursor: str | None
    ) -> ProviderRequest:
        return self._request("GET", building.with_query(*_list_of(copy_input, cursor)))

    def build_copy_search(
        self, copy_input: BrazeCampaignInput, cursor: str | None, lost: contract.LostCopy
    ) -> ProviderRequest:
        path, query = _list_of(copy_input, cursor)
        edited_after = (lost.since - ANY_ZONE).strftime("%Y-%m-%dT%H:%M:%S")
        fields = {**query, "last_edit.time[gt]": edited_after}
        return self._request("GET", building.with_query(path, fields))

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        body = parsing.expect_object(response)
        listed = CANVASES.items if CANVASES.items in body else CAMPAIGNS.items
        is_full = len(parsing.items(body, listed) or ()) >= PAGE_SIZE
        campaigns = parsing.campaigns(body, listed, LISTED.parse)
        return SearchPage(campaigns, str(int(cursor or "0") + 1) if is_full else None)

    def build_lookup(
        self, campaign_id: str, related_input: BrazeCampaignInput | None
    ) -> ProviderRequest:
        calls = _calls_of(related_input)
        query = {calls.id_field: building.require_id(campaign_id, "id")}
        return self._request("GET", building.with_query(f"{calls.path}/details", query))

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        # An unknown id is a 400 at Braze, as recorded at the call for Canvases.
        if response.status in {400, 404}:
            return None
        body = parsing.expect_object(response)
        # The details do not repeat the id.
        campaign = DETAILED.parse({**body, "id": campaign_id, "status": _status_of(body)})
        if campaign is None or campaign.name is None:
            raise contract.UnexpectedResponse("no campaign")
        return campaign

    @property
    def api_version(self) -> None:
        return None

    def build_check(self, responses: Sequence[ProviderResponse]) -> ProviderRequest | None:
        """The list of campaigns, and the details of the first one.

        Source: braze.com/docs, `GET /campaigns/list` and `GET /campaigns/details`, with the
        permission that each of them needs, read 2026-09.
        """
        if not responses:
            return self.build_search(None, None)
        if len(responses) == 1 and (campaign_id := checking.parsed(responses[0], self._first_id)):
            return self.build_lookup(campaign_id, None)
        return None

    def parse_check(self, responses: Sequence[ProviderResponse]) -> contract.Access:
        parsers = (self._first_id, parsing.expect_object)
        reads = checking.failures(responses, parsers, self._failure)
        # Most keys are made for campaigns alone, so nothing is read about Canvases.
        not_checked = contract.Grant.NOT_CHECKED
        return checking.access(
            reads,
            contract.Permission("campaigns.list", checking.grant(reads, 0)),
            contract.Permission("campaigns.details", checking.grant(reads, 1)),
            contract.Permission("campaigns.duplicate"),
            contract.Permission("canvas.list", not_checked, "kind CANVAS"),
            contract.Permission("canvas.details", not_checked, "kind CANVAS"),
            contract.Permission("canvas.duplicate", only_for="kind CANVAS"),
        )

    def _first_id(self, response: ProviderResponse) -> str | None:
        return next((campaign.id for campaign in self.parse_search(response, None).campaigns), None)

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        headers = {"authorization": f"Bearer {self.account.api_key.get_secret_value()}"}
        return building.api_request(method, self.account.root + path, headers, body)

    def _failure(self, response: ProviderResponse) -> Failure:
        message = _message_in(response)
        return errors.failure(
            self.title,
            response,
            _code_of(response.status, message or ""),
            provider_message=message,
            trace_id=_trace_id(response),
        )


def _calls_of(copy_input: BrazeCampaignInput | None) -> _Calls:
    is_canvas = copy_input is not None and copy_input.kind == BrazeCampaignKind.CANVAS
    return CANVASES if is_canvas else CAMPAIGNS


def _list_of(
    copy_input: BrazeCampaignInput | None, cursor: str | None
) -> tuple[str, dict[str, str]]:
    """Return the path of a list, and its query."""
    query = {"page": cursor or "0", "include_archived": "true", "sort_direction": "desc"}
    return f"{_calls_of(copy_input).path}/list", query


def _trace_id(response: ProviderResponse) -> str | None:
    return parsing.text(response.headers, "x-request-id")


def _message_in(response: ProviderResponse) -> str | None:
    """Return `message` with `errors`, which are texts in the documents and sometimes objects."""
    body = parsing.json_object(response)
    messages = [
        parsing.text(error) or parsing.text(error, "message")
        for error in (body, *(parsing.items(body, "errors") or ()))
    ]
    return ": ".join(filter(None, messages)) or None


def _code_of(status: int, message: str) -> ErrorCode | None:
    """Braze has no machine-readable codes. Its 400 is "Bad Request / Invalid Campaign ID"."""
    words = r"(campaign|canvas)([ _]?id|.*not found)"
    names_campaign = re.search(words, message, re.IGNORECASE)
    if status in {400, 404} and names_campaign:
        return ErrorCode.CAMPAIGN_NOT_FOUND
    # Braze documents 404 as an invalid URL. Without early access the call may be missing too.
    return ErrorCode.PROVIDER_UNAVAILABLE if status == 404 else None


def _status_of(body: dict[str, Any]) -> str | None:
    """`enabled` is newer than the published OpenAPI file."""
    for flag in ("archived", "draft", "enabled"):
        if body.get(flag) is True:
            return flag
    return "disabled" if body.get("enabled") is False else None
