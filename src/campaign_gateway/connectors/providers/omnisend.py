"""Translates the copy of a campaign to Omnisend's REST API and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, final

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
from campaign_gateway.connectors.graphql import account_field, optional_field
from campaign_gateway.model import Campaign, ErrorCode, Failure, Outcome


@strawberry.input(description="An Omnisend campaign of any status to copy into a draft.")
class OmnisendCampaignInput:
    account: str | None = account_field("Omnisend")
    campaign_id: strawberry.ID = strawberry.field(
        description="The campaign's id at Omnisend (24 letters and digits)."
    )
    name: str | None = optional_field(
        'The name of the copy, of up to 250 characters. Omnisend puts "Copy of: " '
        "before the source's name, and the gateway sets this name in a second call. If that call "
        "fails, the copy keeps Omnisend's name."
    )
    subject: str | None = optional_field(
        "The subject line of the copied email, of up to 250 characters. It is set together with "
        "the name."
    )
    included_segment_ids: list[strawberry.ID] | None = optional_field(
        "The segments that get the copy, in place of the source's. They are set together with the "
        "name."
    )
    excluded_segment_ids: list[strawberry.ID] | None = optional_field(
        "The segments that do not get the copy. Only with `includedSegmentIds`. If omitted, none "
        "is excluded."
    )
    send_at: str | None = optional_field(
        "When the copy is to be sent, as ISO 8601 with a time zone, such as "
        '"2027-03-01T09:00:00+01:00". The copy stays a draft until you send it at Omnisend.'
    )


PAGE_SIZE = 250
MAX_SEARCH_LENGTH = 200
MAX_NAME_LENGTH = 250
MAX_SUBJECT_LENGTH = 250

LATE_FIELDS = ("subject", "includedSegmentIds", "excludedSegmentIds", "sendAt")

FIELDS = parsing.CampaignFields(
    # `paused`, `onHold` and `stopped` can be resumed. `canceled`, `expired` and `error` are missing
    # on purpose: the campaign will not continue, and we do not know whether it was partly sent.
    parsing.statuses(
        draft=["draft"],
        scheduled=["scheduled"],
        active=["started"],
        paused=["paused", "onHold", "stopped"],
        completed=["sent"],
    ),
    created_at="createdAt",
    updated_at="updatedAt",
)


class OmnisendAccount(AccountSettings):
    """An API key with the scopes `campaigns.write` and `campaigns.read`.

    `version` is the date of the API's version. Omnisend allows 400 calls per minute for all keys of
    a brand together (api-docs.omnisend.com, "Rate limit, timeouts, errors", read 2026-11).
    """

    base_url: BaseUrl = "https://api.omnisend.com"
    api_key: Secret
    version: Annotated[
        str, account_settings.version_like("2026-03-15", r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
    ] = "2026-03-15"
    calls_per_minute: account_settings.CallsPerMinute | None = 400


@final
@dataclass(frozen=True)
class OmnisendConnector(
    contract.Connector[OmnisendCampaignInput],
    contract.RenamesCopies[OmnisendCampaignInput],
    contract.ChangesCopies[OmnisendCampaignInput],
    contract.ListsCampaigns[OmnisendCampaignInput],
    contract.NarrowsSearches[OmnisendCampaignInput],
    contract.NamesCopies,
    contract.ReadsCampaigns[OmnisendCampaignInput],
    contract.ShowsAccess,
):
    """Source: api-docs.omnisend.com and Omnisend's OpenAPI description of campaigns, read 2026-11.

    Both of version 2026-03-15. The older versions, /v3 and /v5, have other keys and no such call.
    """

    provider = "omnisend"
    title = "Omnisend"
    Account = OmnisendAccount
    Input = OmnisendCampaignInput
    example = 'campaignId: "65f2c1d47a9b3e0012ab34cd"\nname: "Spring sale, second wave"'

    account: OmnisendAccount

    def build_request(self, copy_input: OmnisendCampaignInput) -> ProviderRequest:
        _changes_of(copy_input)
        source = building.require_id(copy_input.campaign_id, "campaignId")
        return self._request("POST", f"/{source}/copy")

    def parse_response(
        self, copy_input: OmnisendCampaignInput, response: ProviderResponse
    ) -> Outcome:
        copy = FIELDS.parse(parsing.json_object(response))
        return errors.success(response, copy, copy_input.campaign_id) or self._failure(response)

    def build_rename(
        self, copy_input: OmnisendCampaignInput, copy_id: str, lookup_response: object
    ) -> ProviderRequest:
        path = f"/{building.require_id(copy_id, 'id')}"
        name = building.name_for_rename(copy_input, MAX_NAME_LENGTH)
        return self._request("PATCH", path, building.json_body({"name": name}))

    def parse_rename(self, response: ProviderResponse) -> Failure | None:
        is_renamed = response.is_success and FIELDS.parse(parsing.json_object(response))
        return None if is_renamed else self._failure(response)

    def late_fields(self, copy_input: OmnisendCampaignInput) -> Sequence[str]:
        return building.requested(copy_input, *LATE_FIELDS)

    def build_change(
        self,
        copy_input: OmnisendCampaignInput,
        copy_id: str,
        lookup_response: ProviderResponse | None,
    ) -> ProviderRequest:
        """Source: `PATCH /campaigns/{id}` of Omnisend's OpenAPI description; only of drafts."""
        path = f"/{building.require_id(copy_id, 'id')}"
        copy = parsing.json_object(lookup_response) if lookup_response else None
        channel = parsing.text(copy, "channel")
        return self._request("PATCH", path, building.json_body(_changes_of(copy_input, channel)))

    def parse_change(self, response: ProviderResponse) -> Failure | None:
        return self.parse_rename(response)

    def build_search(self, copy_input: object, cursor: str | None) -> ProviderRequest:
        return self._request("GET", building.with_query("", _page(cursor)))

    def build_copy_search(
        self, copy_input: object, cursor: str | None, lost: contract.LostCopy
    ) -> ProviderRequest:
        filters = {
            "nameContains": lost.name_part and lost.name_part.strip()[:MAX_SEARCH_LENGTH].strip(),
            "createdAtFrom": lost.since.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return self._request("GET", building.with_query("", {**_page(cursor), **filters}))

    def is_name_of_copy(self, name: str, source_name: str) -> bool:
        """Source: `POST /campaigns/{id}/copy` of Omnisend's OpenAPI description."""
        return name == f"Copy of: {source_name}"

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        body = parsing.expect_object(response)
        # The cursor is null on the last page.
        after = parsing.text(body, "paging.cursors.after")
        return SearchPage(parsing.campaigns(body, "campaigns", FIELDS.parse), after)

    def build_lookup(self, campaign_id: str, related_input: object) -> ProviderRequest:
        return self._request("GET", f"/{building.require_id(campaign_id, 'id')}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return parsing.one(response, campaign_id, FIELDS.parse)

    @property
    def api_version(self) -> str:
        return self.account.version

    def build_check(self, responses: Sequence[ProviderResponse]) -> ProviderRequest | None:
        """The newest campaign. No read shows the scopes of a key.

        Source: `GET /campaigns` of Omnisend's OpenAPI description, which names the scope.
        """
        query = building.with_query("", {"limit": 1})
        return None if responses else self._request("GET", query)

    def parse_check(self, responses: Sequence[ProviderResponse]) -> contract.Access:
        parsers = [lambda response: self.parse_search(response, None)]
        reads = checking.failures(responses, parsers, self._failure)
        return checking.access(
            reads,
            contract.Permission("campaigns.read", checking.grant(reads, 0)),
            contract.Permission("campaigns.write"),
        )

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        url = f"{self.account.base_url}/api/campaigns{path}"
        headers = {
            "authorization": f"Omnisend-API-Key {self.account.api_key.get_secret_value()}",
            "omnisend-version": self.account.version,
        }
        return building.api_request(method, url, headers, body)

    def _failure(self, response: ProviderResponse) -> Failure:
        """Parses a problem in JSON (RFC 9457)."""
        body = parsing.json_object(response)
        messages = "; ".join(parsing.remarks(body, "errors"))
        return errors.failure(
            self.title,
            response,
            # 410 means that the version of the API is retired, for every call and every campaign.
            ErrorCode.PROVIDER_UNAVAILABLE if response.status == 410 else None,
            provider_code=parsing.text(body, "type"),
            provider_message=messages
            or parsing.text(body, "detail")
            or parsing.text(body, "title"),
            retry_after=parsing.integer(body, "retryAfter"),
            trace_id=parsing.text(body, "instance"),
        )


def _page(cursor: str | None) -> dict[str, object | None]:
    # Omnisend rejects a cursor without the parameters of the page that returned it.
    return {"limit": PAGE_SIZE, "sort": "createdAt", "direction": "desc", "after": cursor}


def _changes_of(
    copy_input: OmnisendCampaignInput, channel: str | None = None
) -> dict[str, object | None]:
    """Return what the second call sets, checked. Raises `Refused`. Without a channel, of emails."""
    subject = building.optional_line(copy_input.subject, "subject", MAX_SUBJECT_LENGTH)
    audience = building.audience(
        copy_input,
        ("includedSegmentIds", "includedSegmentIDs"),
        ("excludedSegmentIds", "excludedSegmentIDs"),
    )
    both = set(copy_input.included_segment_ids or ()) & set(copy_input.excluded_segment_ids or ())
    if both:
        raise building.invalid_input(
            "excludedSegmentIds", "excludedSegmentIds must not have an id of includedSegmentIds."
        )
    send_at = building.optional_instant(copy_input.send_at, "sendAt")
    # Omnisend replaces all of these settings. The last one is only for email campaigns.
    settings = {
        "strategy": "scheduled",
        "scheduledAt": send_at,
        "isTZOptimizationEnabled": False if channel in (None, "email") else None,
    }
    return {
        "name": building.name_for_rename(copy_input, MAX_NAME_LENGTH),
        "content": None if subject is None else {"email": {"subject": subject}},
        "audience": audience,
        "sendingSettings": None if send_at is None else building.omit_none(settings),
    }
