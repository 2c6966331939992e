"""Translates one copy of a campaign to Braze's REST API and back."""

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args
from urllib.parse import urlencode

import strawberry
from pydantic import model_validator

from campaign_gateway.connectors.account_settings import (
    AccountSettings,
    BaseUrl,
    CallsPerMinute,
    Secret,
)
from campaign_gateway.connectors.building import (
    api_request,
    identifier,
    json_body,
    line,
    optional_text,
)
from campaign_gateway.connectors.contract import (
    ProviderRequest,
    ProviderResponse,
    SearchPage,
    UnexpectedResponse,
)
from campaign_gateway.connectors.errors import failure
from campaign_gateway.connectors.graphql import account_field
from campaign_gateway.connectors.parsing import (
    expect_success,
    read_id,
    read_instant,
    read_json_object,
    read_text,
    read_texts,
)
from campaign_gateway.model import Accepted, Campaign, CampaignStatus, ErrorCode, Outcome


@strawberry.input(description="A Braze campaign to copy, and how the copy is to be called.")
class BrazeCampaignInput:
    account: str | None = account_field("Braze")
    campaign_id: strawberry.ID = strawberry.field(
        description="The campaign's API identifier at Braze."
    )
    name: str = strawberry.field(
        description="The name of the copy. A name that no other campaign has lets the gateway find "
        "the copy: Braze answers before it exists and does not tell its id."
    )
    description: str | None = strawberry.field(
        default=strawberry.UNSET, description="The description of the copy."
    )
    tag_names: list[str] | None = strawberry.field(
        default=strawberry.UNSET,
        description="Tags of the copy, in place of the source's. They must exist at Braze.",
    )


TITLE = "Braze"
PAGE_SIZE = 100

# braze.com/docs/api/basics, read 2026-09-02. The hosts follow no pattern: US-09 does not exist and
# US-10 left the numbering of the others.
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
    """A REST API key and the instance it belongs to; a key is refused by every other instance."""

    base_url: BaseUrl | None = None
    instance: Instance | None = None
    api_key: Secret
    calls_per_minute: CallsPerMinute | None = 100

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.base_url is None) == (self.instance is None):
            raise ValueError('needs either base_url or instance (such as "EU-01"), and not both')
        return self

    @property
    def root(self) -> str:
        return self.base_url or f"https://{HOSTS[self.instance or '']}"


@dataclass(frozen=True)
class BrazeConnector:
    """Source: braze.com/docs, `POST /campaigns/duplicate`, read in several copies up to 2026-09.

    The call answers 202 before the copy exists and never tells its id, so the copy is found in the
    list of campaigns. Beside `campaigns.duplicate` the key needs the permissions `campaigns.list`
    and `campaigns.details` for that.
    """

    provider: ClassVar[str] = "braze"
    title: ClassVar[str] = TITLE
    Account: ClassVar[type[AccountSettings]] = BrazeAccount
    Input: ClassVar[type[Any]] = BrazeCampaignInput
    example: ClassVar[str] = (
        'campaignId: "0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10"\n'
        'name: "Spring sale, second wave"\n'
        'description: "Copied through the gateway"\n'
        'tagNames: ["promo"]'
    )
    reports_creation_time: ClassVar[bool] = True
    reports_source: ClassVar[bool] = False
    list_has_all_fields: ClassVar[bool] = False

    account: BrazeAccount

    def build_request(self, campaign: BrazeCampaignInput) -> ProviderRequest:
        tags = [line(tag, "tagNames") for tag in campaign.tag_names or ()]
        fields = {
            "campaign_id": identifier(campaign.campaign_id, "campaignId"),
            "name": line(campaign.name, "name"),
            "description": optional_text(campaign.description, "description"),
            # Braze's pages say "string" in some languages and "array of strings" in the newest;
            # an empty array would take the source's tags away.
            "tag_names": tags if campaign.tag_names is not None else None,
        }
        return self._request("POST", "/campaigns/duplicate", body=json_body(fields))

    def parse_response(self, campaign: BrazeCampaignInput, response: ProviderResponse) -> Outcome:
        trace_id = read_text(dict(response.headers), "x-request-id")
        # The documents define no body for the 202: whatever it holds, Braze has said yes. Any other
        # success is undocumented and might be a proxy's.
        if response.status == 202:
            return Accepted(trace_id)
        message = _message_in(response)
        return failure(
            TITLE,
            response,
            _code_of(response.status, message or ""),
            provider_message=message,
            trace_id=trace_id,
        )

    def build_search(self, campaign: BrazeCampaignInput, cursor: str | None) -> ProviderRequest:
        query = {"page": cursor or "0", "include_archived": "true", "sort_direction": "desc"}
        return self._request("GET", f"/campaigns/list?{urlencode(query)}")

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        expect_success(response)
        body = read_json_object(response)
        items = body.get("campaigns") if body else None
        if not isinstance(items, list):
            raise UnexpectedResponse("no list of campaigns")
        found = [
            Campaign(
                id=campaign_id,
                name=read_text(item, "name"),
                tags=read_texts(item, "tags"),
                updated_at=read_instant(item, "last_edited"),
            )
            for item in items
            if (campaign_id := read_id(item, "id"))
        ]
        is_full = len(items) >= PAGE_SIZE
        return SearchPage(found, str(int(cursor or "0") + 1) if is_full else None)

    def build_lookup(
        self, campaign_id: str, related_input: BrazeCampaignInput | None
    ) -> ProviderRequest:
        query = urlencode({"campaign_id": identifier(campaign_id, "id")})
        return self._request("GET", f"/campaigns/details?{query}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        # An unknown id is a 400 at Braze, as recorded at the canvas twin of this call.
        if response.status in {400, 404}:
            return None
        expect_success(response)
        body = read_json_object(response)
        if body is None or read_text(body, "name") is None:
            raise UnexpectedResponse("no campaign")
        status, word = _status_of(body)
        return Campaign(
            id=campaign_id,
            name=read_text(body, "name"),
            description=read_text(body, "description"),
            status=status,
            provider_status=word,
            tags=read_texts(body, "tags"),
            created_at=read_instant(body, "created_at"),
            updated_at=read_instant(body, "updated_at"),
        )

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        headers = {"authorization": f"Bearer {self.account.api_key.get_secret_value()}"}
        return api_request(method, self.account.root + path, headers, body)


def _message_in(response: ProviderResponse) -> str | None:
    """`message`, with `errors` where there are some: texts by the documents, objects at times."""
    body = read_json_object(response)
    errors = body.get("errors") if body else None
    texts = [
        read_text({"message": each}, "message") or read_text(each, "message")
        for each in (body, *(errors if isinstance(errors, list) else []))
    ]
    return ": ".join(filter(None, texts)) or None


def _code_of(status: int, message: str) -> ErrorCode | None:
    """Braze has no machine-readable codes. Its 400 is "Bad Request / Invalid Campaign ID"."""
    names_campaign = re.search(r"campaign[ _]?id|campaign.*not found", message, re.IGNORECASE)
    if status in {400, 404} and names_campaign:
        return ErrorCode.CAMPAIGN_NOT_FOUND
    # Braze documents 404 as an invalid URL; without early access the call may also be missing.
    return ErrorCode.PROVIDER_UNAVAILABLE if status == 404 else None


def _status_of(body: dict[str, Any]) -> tuple[CampaignStatus, str | None]:
    """Braze has flags in place of a status; `enabled` is newer than the published OpenAPI file."""
    if body.get("archived") is True:
        return CampaignStatus.ARCHIVED, "archived"
    if body.get("draft") is True:
        return CampaignStatus.DRAFT, "draft"
    match body.get("enabled"):
        case True:
            return CampaignStatus.ACTIVE, "enabled"
        case False:
            return CampaignStatus.PAUSED, "disabled"
    return CampaignStatus.UNKNOWN, None
