"""Translates the copy of a campaign to Mailchimp's Marketing API and back."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, final

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
from campaign_gateway.connectors.graphql import account_field, optional_field
from campaign_gateway.model import Campaign, ErrorCode, Failure, Outcome, Refused, UserError


@strawberry.input(description="A Mailchimp campaign to copy into a draft.")
class MailchimpCampaignInput:
    account: str | None = account_field("Mailchimp")
    campaign_id: strawberry.ID = strawberry.field(
        description="The campaign's id at Mailchimp (10 letters and digits, not the number in the "
        "web application's address). Only a campaign that is saved or sent can be copied."
    )
    name: str | None = optional_field(
        "The title of the copy. Mailchimp chooses a title itself, and the gateway sets "
        "this one in a second call. If that call fails, the copy keeps Mailchimp's title."
    )
    subject: str | None = optional_field(
        "The subject line of the copy. It is set together with the title."
    )
    list_id: strawberry.ID | None = optional_field(
        "The audience that gets the copy, in place of the source's. It is set together with the "
        "title."
    )
    saved_segment_id: int | None = optional_field(
        "The saved segment or tag of that audience. Only with `listId`. If omitted, the whole "
        "audience gets the copy."
    )


PAGE_SIZE = 100

# What `FIELDS` parses. A whole campaign has segments, links and figures: some kilobytes.
READ_FIELDS = ("id", "web_id", "status", "create_time", "settings.title")

# Mailchimp's description 3.0.55 requires these with every change. The newest does not.
REQUIRED_SETTINGS = ("subject_line", "from_name", "reply_to")

LATE_FIELDS = ("subject", "listId", "savedSegmentId")

DETAILS_UNKNOWN = (
    "Mailchimp accepts a change only together with the subject and the sender of the copy. The "
    "gateway could not read these, so it did not send the change."
)

FIELDS = parsing.CampaignFields(
    # `canceling` and `canceled` are missing on purpose: the campaign was sent to some people and
    # will not continue.
    parsing.statuses(
        draft=["save"],
        scheduled=["schedule"],
        active=["sending"],
        paused=["paused"],
        completed=["sent"],
        archived=["archived"],
    ),
    name="settings.title",
    created_at="create_time",
)


class MailchimpAccount(AccountSettings):
    """An API key. The part after its last dash (`...-us21`) is the data centre it belongs to.

    Mailchimp allows an account 10 connections at a time, and reads need some of them.
    """

    api_key: Secret
    calls_at_once: account_settings.CallsAtOnce = 8

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        if self.base_url is None and self._data_centre is None:
            raise ValueError(
                'needs the data centre: set the whole api_key, with an end such as "-us21", '
                "or set base_url"
            )
        return self

    @property
    def root(self) -> str:
        return self.base_url or f"https://{self._data_centre}.api.mailchimp.com"

    @property
    def web_root(self) -> str | None:
        """Where people see campaigns; None if the data centre is not known."""
        in_root = re.fullmatch(r"https://([a-z0-9]+)\.api\.mailchimp\.com", self.root)
        data_centre = in_root[1] if in_root else self._data_centre
        return f"https://{data_centre}.admin.mailchimp.com" if data_centre else None

    @property
    def _data_centre(self) -> str | None:
        data_centre = re.search(r"-([a-z]{1,8}[0-9]{1,4})\Z", self.api_key.get_secret_value())
        return data_centre[1] if data_centre else None


@final
@dataclass(frozen=True)
class MailchimpConnector(
    contract.Connector[MailchimpCampaignInput],
    contract.RenamesCopies[MailchimpCampaignInput],
    contract.ChangesCopies[MailchimpCampaignInput],
    contract.ListsCampaigns[MailchimpCampaignInput],
    contract.NarrowsSearches[MailchimpCampaignInput],
    contract.NamesCopies,
    contract.ReadsCampaigns[MailchimpCampaignInput],
    contract.ShowsAccess,
):
    """Source: mailchimp.com/developer/marketing (errors, fundamentals) and the official SDK
    mailchimp-marketing-typescript-sdk, read 2026-09.

    Mailchimp returns when a campaign was created and sent, but not when it was edited.
    """

    provider = "mailchimp"
    title = "Mailchimp"
    is_well_known = True
    Account = MailchimpAccount
    Input = MailchimpCampaignInput
    example = 'campaignId: "42694e9e57"\nname: "Spring newsletter, second wave"'

    account: MailchimpAccount

    def build_request(self, copy_input: MailchimpCampaignInput) -> ProviderRequest:
        building.name_for_rename(copy_input)
        building.optional_line(copy_input.subject, "subject")
        _recipients_of(copy_input)
        source = building.require_id(copy_input.campaign_id, "campaignId")
        return self._request("POST", f"/campaigns/{source}/actions/replicate")

    def parse_response(
        self, copy_input: MailchimpCampaignInput, response: ProviderResponse
    ) -> Outcome:
        source, copy = copy_input.campaign_id, self._parse(parsing.json_object(response))
        trace_id = _trace_id(response)
        # Mailchimp documents 200, which proves nothing without a body.
        success = errors.success(response, copy, source, documented=None, trace_id=trace_id)
        return success or self._failure(response)

    def build_rename(
        self,
        copy_input: MailchimpCampaignInput,
        copy_id: str,
        lookup_response: ProviderResponse | None,
    ) -> ProviderRequest:
        return self.build_change(copy_input, copy_id, lookup_response)

    def parse_rename(self, response: ProviderResponse) -> Failure | None:
        is_renamed = response.is_success and FIELDS.parse(parsing.json_object(response))
        return None if is_renamed else self._failure(response)

    def late_fields(self, copy_input: MailchimpCampaignInput) -> Sequence[str]:
        return building.requested(copy_input, *LATE_FIELDS)

    def build_change(
        self,
        copy_input: MailchimpCampaignInput,
        copy_id: str,
        lookup_response: ProviderResponse | None,
    ) -> ProviderRequest:
        """Source: `PATCH /campaigns/{campaign_id}` of Mailchimp's description 3.0.55.

        A schedule is a call of its own, after which Mailchimp sends by itself, so it is not here.
        """
        path = f"/campaigns/{building.require_id(copy_id, 'id')}"
        copy = parsing.json_object(lookup_response) if lookup_response else None
        current = copy.get("settings") if copy else None
        if not isinstance(current, dict):
            raise Refused(UserError(ErrorCode.PROVIDER_UNAVAILABLE, DETAILS_UNKNOWN))
        # The copy's own values change nothing. 3.0.55 requires text, so a missing one is empty.
        settings = {name: parsing.text(current, name) or "" for name in REQUIRED_SETTINGS}
        changed = {
            "title": building.name_for_rename(copy_input),
            "subject_line": building.optional_line(copy_input.subject, "subject"),
        }
        body = {
            "settings": settings | building.omit_none(changed),
            "recipients": _recipients_of(copy_input),
        }
        return self._request("PATCH", path, building.json_body(body))

    def parse_change(self, response: ProviderResponse) -> Failure | None:
        return self.parse_rename(response)

    def build_search(self, copy_input: object, cursor: str | None) -> ProviderRequest:
        return self._list({"sort_dir": "DESC"}, cursor)

    def build_copy_search(
        self, copy_input: object, cursor: str | None, lost: contract.LostCopy
    ) -> ProviderRequest:
        # Oldest first, so that campaigns that are made later do not move the copy to another page.
        since = lost.since.isoformat(timespec="seconds")
        return self._list({"sort_dir": "ASC", "since_create_time": since}, cursor)

    def is_name_of_copy(self, name: str, source_name: str) -> bool:
        """Users of Mailchimp have shown such titles. No document describes them."""
        return re.fullmatch(rf"{re.escape(source_name)} \(copy [0-9]+\)", name) is not None

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        body = parsing.expect_object(response)
        campaigns = parsing.campaigns(body, "campaigns", self._parse)
        offset, total = int(cursor or "0") + PAGE_SIZE, parsing.integer(body, "total_items") or 0
        return SearchPage(campaigns, str(offset) if offset < total else None)

    def build_lookup(self, campaign_id: str, related_input: object) -> ProviderRequest:
        path = f"/campaigns/{building.require_id(campaign_id, 'id')}"
        fields = [*READ_FIELDS, *(f"settings.{name}" for name in REQUIRED_SETTINGS)]
        query = {"fields": ",".join(fields)}
        return self._request("GET", building.with_query(path, query, safe=","))

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return parsing.one(response, campaign_id, self._parse)

    @property
    def api_version(self) -> str:
        return "3.0"

    def build_check(self, responses: Sequence[ProviderResponse]) -> ProviderRequest | None:
        """The health check. A key allows everything, so it shows all there is to know.

        Source: mailchimp.com/developer/marketing/api/ping, `GET /ping`, read 2026-11.
        """
        return None if responses else self._request("GET", "/ping")

    def parse_check(self, responses: Sequence[ProviderResponse]) -> contract.Access:
        return checking.access(checking.failures(responses, [_expect_health], self._failure))

    def _parse(self, data: object) -> Campaign | None:
        """Mailchimp's description says how `web_id` and the data centre make the address."""
        campaign, web_id = FIELDS.parse(data), parsing.number_as_id(data, "web_id")
        root = self.account.web_root
        if campaign is None or web_id is None or root is None:
            return campaign
        return replace(campaign, url=f"{root}/campaigns/show/?id={web_id}")

    def _list(self, criteria: dict[str, str], cursor: str | None) -> ProviderRequest:
        query = {
            "fields": ",".join([*(f"campaigns.{field}" for field in READ_FIELDS), "total_items"]),
            "count": PAGE_SIZE,
            "offset": cursor or "0",
            "sort_field": "create_time",
            **criteria,
        }
        return self._request("GET", building.with_query("/campaigns", query, safe=","))

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        url = f"{self.account.root}/3.0{path}"
        # Mailchimp's documents say that any user name works.
        secret = building.basic_auth("gateway", self.account.api_key.get_secret_value())
        headers = {"authorization": secret, "accept": "application/json, application/problem+json"}
        return building.api_request(method, url, headers, body)

    def _failure(self, response: ProviderResponse) -> Failure:
        body = parsing.json_object(response)
        return errors.failure(
            self.title,
            response,
            _code_of_403(body) if response.status == 403 else None,
            provider_code=parsing.text(body, "title"),
            provider_message=parsing.text(body, "detail"),
            trace_id=_trace_id(response),
        )


def _recipients_of(copy_input: MailchimpCampaignInput) -> dict[str, object] | None:
    """Raises `Refused`."""
    segment = copy_input.saved_segment_id
    if copy_input.list_id is None:
        if segment is not None:
            raise building.invalid_input("savedSegmentId", "savedSegmentId needs listId.")
        return None
    options = {"saved_segment_id": segment}
    if segment is not None:
        building.require_positive(segment, "savedSegmentId")
    return building.omit_none(
        {
            "list_id": building.require_id(copy_input.list_id, "listId"),
            "segment_opts": options if segment is not None else None,
        }
    )


def _expect_health(response: ProviderResponse) -> None:
    """Raises `UnexpectedResponse`."""
    if parsing.text(parsing.expect_object(response), "health_status") is None:
        raise contract.UnexpectedResponse("no health status")


def _code_of_403(body: object) -> ErrorCode | None:
    if body is None:
        # Mailchimp's own errors are JSON. A 403 without JSON comes from its throttling.
        return ErrorCode.RATE_LIMITED
    # The key belongs to another data centre. "WrongDatacenter" in the glossary of errors, two words
    # in responses.
    title = re.sub(r"[^a-z]", "", (parsing.text(body, "title") or "").lower())
    return ErrorCode.AUTHENTICATION_FAILED if title == "wrongdatacenter" else None


def _trace_id(response: ProviderResponse) -> str | None:
    in_header = parsing.text(response.headers, "x-request-id")
    return parsing.text(parsing.json_object(response), "instance") or in_header
