"""Translates one copy of a campaign to Mailchimp's Marketing API and back."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self
from urllib.parse import urlencode

import strawberry
from pydantic import model_validator

from campaign_gateway.connectors.account_settings import (
    AccountSettings,
    BaseUrl,
    CallsAtOnce,
    Secret,
)
from campaign_gateway.connectors.building import (
    api_request,
    basic,
    identifier,
    json_body,
    optional_line,
)
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse, SearchPage
from campaign_gateway.connectors.errors import failure
from campaign_gateway.connectors.graphql import account_field
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
    Refused,
    Rejected,
    Unknown,
    UserError,
)


@strawberry.input(description="A Mailchimp campaign to replicate; the copy is a draft.")
class MailchimpCampaignInput:
    account: str | None = account_field("Mailchimp")
    campaign_id: strawberry.ID = strawberry.field(
        description="The campaign's id at Mailchimp (10 letters and digits, not the number in the "
        "web application's address). Only a campaign that is saved or sent can be copied."
    )
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The title of the copy. Mailchimp names a copy itself and takes this in a "
        "second call; if that fails, the copy exists under Mailchimp's own title.",
    )


TITLE = "Mailchimp"
PAGE_SIZE = 100

# What `_read_campaign` reads: a whole campaign holds segments, links and figures, some kilobytes.
FIELDS = ("id", "status", "create_time", "settings.title")

# Mailchimp's description 3.0.55 requires these with every change, and the newest does not.
REQUIRED_SETTINGS = ("subject_line", "from_name", "reply_to")

DETAILS_UNKNOWN = (
    "Mailchimp wants the subject and the sender of the copy together with its title, and the "
    "gateway could not read them, so it has not sent a title that could change them."
)

# Not here: `canceling` and `canceled`, a sending that reached some people and will reach no more.
STATUSES: Mapping[str, CampaignStatus] = {
    "save": CampaignStatus.DRAFT,
    "schedule": CampaignStatus.SCHEDULED,
    "sending": CampaignStatus.ACTIVE,
    "paused": CampaignStatus.PAUSED,
    "sent": CampaignStatus.COMPLETED,
    "archived": CampaignStatus.ARCHIVED,
}


class MailchimpAccount(AccountSettings):
    """An API key; what stands behind its last dash (`...-us21`) is the data centre it belongs to.

    Mailchimp lets an account have 10 connections at a time, of which reads need some.
    """

    base_url: BaseUrl | None = None
    api_key: Secret
    calls_at_once: CallsAtOnce = 8

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        if self.base_url is None and self._data_centre is None:
            raise ValueError(
                'needs to know the data centre: give api_key whole, with its end (such as "-us21"),'
                " or base_url"
            )
        return self

    @property
    def root(self) -> str:
        return self.base_url or f"https://{self._data_centre}.api.mailchimp.com"

    @property
    def _data_centre(self) -> str | None:
        found = re.search(r"-([a-z]{1,8}[0-9]{1,4})\Z", self.api_key.get_secret_value())
        return found[1] if found else None


@dataclass(frozen=True)
class MailchimpConnector:
    """Source: mailchimp.com/developer/marketing (errors, fundamentals) and the official SDK
    mailchimp-marketing-typescript-sdk, read 2026-09.

    Mailchimp tells when a campaign was made and sent, and not when it was edited.
    """

    provider: ClassVar[str] = "mailchimp"
    title: ClassVar[str] = TITLE
    Account: ClassVar[type[AccountSettings]] = MailchimpAccount
    Input: ClassVar[type[Any]] = MailchimpCampaignInput
    example: ClassVar[str] = 'campaignId: "42694e9e57"\nname: "Spring newsletter, second wave"'
    reports_creation_time: ClassVar[bool] = True
    reports_source: ClassVar[bool] = False
    list_has_all_fields: ClassVar[bool] = True

    account: MailchimpAccount

    def build_request(self, campaign: MailchimpCampaignInput) -> ProviderRequest:
        # It is sent later, when the copy exists; refusing it only then would be too late.
        optional_line(campaign.name, "name")
        source = identifier(campaign.campaign_id, "campaignId")
        return self._request("POST", f"/{source}/actions/replicate")

    def parse_response(
        self, campaign: MailchimpCampaignInput, response: ProviderResponse
    ) -> Outcome:
        body = read_json_object(response)
        copy = _read_campaign(body) if response.is_success else None
        if copy is not None and copy.id != campaign.campaign_id:
            return Created(copy, _trace_of(body, response))
        return _failure(body, response)

    def build_rename(
        self,
        campaign: MailchimpCampaignInput,
        copy_id: str,
        lookup_response: ProviderResponse | None,
    ) -> ProviderRequest:
        path = f"/{identifier(copy_id, 'id')}"
        copy = read_json_object(lookup_response) if lookup_response else None
        current = copy.get("settings") if copy else None
        if not isinstance(current, dict):
            raise Refused(UserError(ErrorCode.PROVIDER_UNAVAILABLE, DETAILS_UNKNOWN))
        # The copy's own values change nothing. 3.0.55 requires text, so a missing one is empty.
        settings = {name: read_text(current, name) or "" for name in REQUIRED_SETTINGS}
        titled = {**settings, "title": optional_line(campaign.name, "name")}
        return self._request("PATCH", path, json_body({"settings": titled}))

    def parse_rename(self, response: ProviderResponse) -> Rejected | Unknown | None:
        body = read_json_object(response)
        if response.is_success and _read_campaign(body):
            return None
        return _failure(body, response)

    def build_search(self, campaign: MailchimpCampaignInput, cursor: str | None) -> ProviderRequest:
        query = {
            "fields": ",".join([*(f"campaigns.{each}" for each in FIELDS), "total_items"]),
            "count": PAGE_SIZE,
            "offset": cursor or "0",
            "sort_field": "create_time",
            "sort_dir": "DESC",
        }
        return self._request("GET", f"?{urlencode(query, safe=',')}")

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        found = read_listed(response, _read_campaign, "campaigns")
        total = read_int(read_json_object(response), "total_items") or 0
        offset = int(cursor or "0") + PAGE_SIZE
        return SearchPage(found, str(offset) if offset < total else None)

    def build_lookup(
        self, campaign_id: str, related_input: MailchimpCampaignInput | None
    ) -> ProviderRequest:
        fields = [*FIELDS, *(f"settings.{each}" for each in REQUIRED_SETTINGS)]
        query = urlencode({"fields": ",".join(fields)}, safe=",")
        return self._request("GET", f"/{identifier(campaign_id, 'id')}?{query}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return read_found(response, campaign_id, _read_campaign)

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        headers = {
            # Any user name will do, say Mailchimp's documents.
            "authorization": basic("gateway", self.account.api_key.get_secret_value()),
            "accept": "application/json, application/problem+json",
        }
        return api_request(method, self.account.root + "/3.0/campaigns" + path, headers, body)


def _failure(body: object, response: ProviderResponse) -> Rejected | Unknown:
    title = read_text(body, "title")
    return failure(
        TITLE,
        response,
        _code_of_403(body, title) if response.status == 403 else None,
        provider_code=title,
        provider_message=read_text(body, "detail"),
        trace_id=_trace_of(body, response),
    )


def _code_of_403(body: object, title: str | None) -> ErrorCode | None:
    if body is None:
        # Mailchimp writes its own refusals as JSON; one without any is its throttling.
        return ErrorCode.RATE_LIMITED
    # "WrongDatacenter" in the glossary of errors, two words in answers: the key is of another one.
    is_elsewhere = re.sub(r"[^a-z]", "", (title or "").lower()) == "wrongdatacenter"
    return ErrorCode.AUTHENTICATION_FAILED if is_elsewhere else None


def _trace_of(body: object, response: ProviderResponse) -> str | None:
    return read_text(body, "instance") or read_text(dict(response.headers), "x-request-id")


def _read_campaign(data: object) -> Campaign | None:
    campaign_id = read_id(data, "id")
    if campaign_id is None:
        return None
    word = read_text(data, "status")
    return Campaign(
        id=campaign_id,
        name=read_text(data, "settings", "title"),
        status=STATUSES.get(word or "", CampaignStatus.UNKNOWN),
        provider_status=word,
        created_at=read_instant(data, "create_time"),
    )
