"""Translates the copy of a campaign to Klaviyo's REST API and back."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
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
from campaign_gateway.connectors.graphql import account_field, name_field, optional_field
from campaign_gateway.model import (
    Campaign,
    CampaignStatus,
    ErrorCode,
    Failure,
    Outcome,
    Refused,
    UserError,
)


@strawberry.input(description="A Klaviyo campaign to copy into a draft.")
class KlaviyoCampaignInput:
    account: str | None = account_field("Klaviyo")
    campaign_id: strawberry.ID = strawberry.field(description="The campaign's id at Klaviyo.")
    name: str | None = name_field("The name of the copy. Without it Klaviyo chooses one.")
    included_audience_ids: list[strawberry.ID] | None = optional_field(
        "The lists and segments that get the copy, in place of the source's. The gateway sets them "
        "in a second call. If the account's configured revision is 2026-10-15 or later, this works "
        "only for a campaign with exactly one audience."
    )
    excluded_audience_ids: list[strawberry.ID] | None = optional_field(
        "The lists and segments that do not get the copy. Only with `includedAudienceIds`. If "
        "omitted, none is excluded."
    )
    send_at: str | None = optional_field(
        "When the copy is to be sent, as ISO 8601 with a time zone, such as "
        '"2027-03-01T09:00:00+01:00". The gateway sets it in a second call. The copy stays a draft '
        "until you schedule it at Klaviyo. Only for accounts whose configured revision is before "
        "2026-10-15."
    )


MEDIA_TYPE = "application/vnd.api+json"

FIELDS = parsing.CampaignFields(
    # A cancelled campaign cannot be made a draft again.
    parsing.statuses(
        draft=["Draft"],
        scheduled=["Preparing to schedule", "Scheduled", "Queued without Recipients"],
        active=[
            "Adding Recipients", "Preparing to send", "Sending", "Sending Segments",
            "Variations Sent",
        ],
        completed=[
            "Sent", "Cancelled", "Cancelled: Account Disabled", "Cancelled: Billing Limit",
            "Cancelled: Internal Error", "Cancelled: Misconfigured", "Cancelled: No Recipients",
            "Cancelled: Smart Sending",
        ],
        unknown=["Unknown"],
    ),
    flags={("archived", True): CampaignStatus.ARCHIVED},
    description="description",
    created_at="created_at",
    updated_at="updated_at",
)  # fmt: skip

LATE_FIELDS = ("includedAudienceIds", "excludedAudienceIds", "sendAt")

AUDIENCE_UNKNOWN = (
    "The copy does not have exactly one audience at Klaviyo, or the gateway could not read the "
    "copy. So the gateway did not change the audience."
)

# Every channel that Klaviyo lists. Without definitions a search reads one page of each.
FIRST_CHANNEL = "email"
NEXT_CHANNEL = {"email": "sms", "sms": "mobile_push"}

# The revisions in which campaigns have a `definition`: all from this one on, and two betas.
DEFINITIONS_SINCE = "2026-10-15"
BETAS_WITH_DEFINITIONS = frozenset({"2026-04-15.pre", "2026-07-15.pre"})


class KlaviyoAccount(AccountSettings):
    """A private API key (`pk_...`) with the scope `campaigns:write`.

    `revision` is the date of the API's version. Klaviyo allows 150 calls per minute and 10 per
    second for all keys of an account together (developers.klaviyo.com, rate limits, read 2026-11).
    """

    base_url: BaseUrl = "https://a.klaviyo.com"
    api_key: Secret
    revision: Annotated[
        str, account_settings.version_like("2026-10-15", r"[0-9]{4}-[0-9]{2}-[0-9]{2}(\.pre)?")
    ] = "2026-10-15"
    calls_per_minute: account_settings.CallsPerMinute | None = 150
    calls_per_second: account_settings.CallsPerSecond | None = 10
    calls_at_once: account_settings.CallsAtOnce = 10

    @property
    def has_definitions(self) -> bool:
        """Whether campaigns have a `definition`. Channel and status are then in their messages."""
        return self.revision >= DEFINITIONS_SINCE or self.revision in BETAS_WITH_DEFINITIONS


@final
@dataclass(frozen=True)
class KlaviyoConnector(
    contract.Connector[KlaviyoCampaignInput],
    contract.ChangesCopies[KlaviyoCampaignInput],
    contract.ListsCampaigns[KlaviyoCampaignInput],
    contract.NarrowsSearches[KlaviyoCampaignInput],
    contract.NamesCopies,
    contract.ReadsCampaigns[KlaviyoCampaignInput],
    contract.ShowsAccess,
):
    """Source: Klaviyo's OpenAPI descriptions, github.com/klaviyo/openapi, read 2026-11.

    `create_campaign_clone`, `get_campaigns` and `get_campaign` of revision 2026-07-15, and their
    successors of the beta 2026-07-15.pre, which became those of revision 2026-10-15.
    Finding and reading campaigns needs the scope `campaigns:read`.
    """

    provider = "klaviyo"
    title = "Klaviyo"
    is_well_known = True
    Account = KlaviyoAccount
    Input = KlaviyoCampaignInput
    example = 'campaignId: "01K4F7Q2ZB8N6XWJ3T5RVD9HMC"\nname: "Autumn newsletter, second send"'

    account: KlaviyoAccount

    def build_request(self, copy_input: KlaviyoCampaignInput) -> ProviderRequest:
        name_field = "name" if self.account.has_definitions else "new_name"
        source = building.require_id(copy_input.campaign_id, "campaignId")
        name = building.optional_line(copy_input.name, "name")
        self._check_changes(copy_input)
        attributes = {} if name is None else {name_field: name}
        data = {"type": "campaign", "id": source, "attributes": attributes}
        return self._request("POST", "/api/campaign-clone", building.json_body({"data": data}))

    def parse_response(
        self, copy_input: KlaviyoCampaignInput, response: ProviderResponse
    ) -> Outcome:
        body = parsing.json_object(response) or {}
        error = _error_in(body)
        copy = _parse_campaign(body.get("data"))
        success = errors.success(response, copy, copy_input.campaign_id) if error is None else None
        return success or self._failure(response)

    def late_fields(self, copy_input: KlaviyoCampaignInput) -> Sequence[str]:
        return building.requested(copy_input, *LATE_FIELDS)

    def build_change(
        self,
        copy_input: KlaviyoCampaignInput,
        copy_id: str,
        lookup_response: ProviderResponse | None,
    ) -> ProviderRequest:
        """Source: `update_campaign` of revision 2026-07-15; `update_campaign_audience` since then.

        From 2026-10-15 on, a campaign's audience and its messages are objects of their own. The
        subject always is in a message, so one call cannot set it too.
        """
        audience, send_at = self._check_changes(copy_input)
        safe_id = building.require_id(copy_id, "id")
        if self.account.has_definitions:
            audience_id = _only_audience_in(lookup_response)
            path, kind = f"/api/campaign-audiences/{audience_id}", "campaign-audience"
            data = {"type": kind, "id": audience_id, "attributes": {"definition": audience}}
            return self._request("PATCH", path, building.json_body({"data": data}))
        strategy = None if send_at is None else {"method": "static", "datetime": send_at}
        attributes = building.omit_none({"audiences": audience, "send_strategy": strategy})
        data = {"type": "campaign", "id": safe_id, "attributes": attributes}
        path = f"/api/campaigns/{safe_id}"
        return self._request("PATCH", path, building.json_body({"data": data}))

    def parse_change(self, response: ProviderResponse) -> Failure | None:
        body = parsing.json_object(response)
        is_changed = parsing.safe_id(body, "data.id") is not None and _error_in(body) is None
        return None if response.is_success and is_changed else self._failure(response)

    def _check_changes(
        self, copy_input: KlaviyoCampaignInput
    ) -> tuple[dict[str, object] | None, str | None]:
        """Return the audience and the time that a second call sets. Raises `Refused`."""
        audience = building.audience(
            copy_input, ("includedAudienceIds", "included"), ("excludedAudienceIds", "excluded")
        )
        send_at = building.optional_instant(copy_input.send_at, "sendAt")
        if send_at is not None and self.account.has_definitions:
            raise building.invalid_input(
                "sendAt", "sendAt is only for accounts with a revision before 2026-10-15."
            )
        return audience, send_at

    def build_search(self, copy_input: object, cursor: str | None) -> ProviderRequest:
        """The 100 newest campaigns: Klaviyo's largest page, and its default."""
        return self._list([], cursor)

    def build_copy_search(
        self, copy_input: object, cursor: str | None, lost: contract.LostCopy
    ) -> ProviderRequest:
        filters = [f"greater-or-equal(created_at,{lost.since.strftime('%Y-%m-%dT%H:%M:%SZ')})"]
        # No document says how to write a quote inside a text, so only a part without one is sent.
        part = max(re.split(r"[\"'\\]", lost.name_part or ""), key=len).strip()
        if part:
            filters.append(f"contains(name,'{part}')")
        return self._list(filters, cursor)

    def is_name_of_copy(self, name: str, source_name: str) -> bool:
        """Source: `create_campaign_clone` of revision 2026-10-15. Older ones document no name."""
        return self.account.has_definitions and name == f"Copy of {source_name}"

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        body = parsing.expect_object(response)
        campaigns = parsing.campaigns(body, "data", _parse_campaign)
        if not self.account.has_definitions:
            return SearchPage(campaigns, NEXT_CHANNEL.get(cursor or FIRST_CHANNEL))
        return SearchPage(campaigns, parsing.link_parameter(body, "links.next", "page[cursor]"))

    def build_lookup(self, campaign_id: str, related_input: object) -> ProviderRequest:
        return self._request("GET", f"/api/campaigns/{building.require_id(campaign_id, 'id')}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return parsing.one(response, campaign_id, _parse_campaign, "data")

    @property
    def api_version(self) -> str:
        return self.account.revision

    def build_check(self, responses: Sequence[ProviderResponse]) -> ProviderRequest | None:
        """The newest campaigns. No read shows the scopes of a private key.

        Source: `get_campaigns` of Klaviyo's OpenAPI descriptions, which names the scope.
        """
        return None if responses else self.build_search(None, None)

    def parse_check(self, responses: Sequence[ProviderResponse]) -> contract.Access:
        parsers = [lambda response: self.parse_search(response, None)]
        reads = checking.failures(responses, parsers, self._failure)
        return checking.access(
            reads,
            contract.Permission("campaigns:read", checking.grant(reads, 0)),
            contract.Permission("campaigns:write"),
        )

    def _list(self, filters: list[str], cursor: str | None) -> ProviderRequest:
        page = {"page[cursor]": cursor}
        if not self.account.has_definitions:
            # Klaviyo lists one channel at a time, and the input does not have the copy's channel.
            filters = [f"equals(messages.channel,'{cursor or FIRST_CHANNEL}')", *filters]
            page = {}
        all_of = f"and({','.join(filters)})" if len(filters) > 1 else None
        query = {"sort": "-created_at", "filter": all_of or next(iter(filters), None), **page}
        return self._request("GET", building.with_query("/api/campaigns", query))

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        url = self.account.base_url + path
        headers = {
            "authorization": f"Klaviyo-API-Key {self.account.api_key.get_secret_value()}",
            "revision": self.account.revision,
            "accept": MEDIA_TYPE,
        }
        return building.api_request(method, url, headers, body, MEDIA_TYPE)

    def _failure(self, response: ProviderResponse) -> Failure:
        error = _error_in(parsing.json_object(response))
        return errors.failure(
            self.title,
            response,
            # Klaviyo documents 410 for calls that were removed from the API, not for campaigns.
            ErrorCode.PROVIDER_UNAVAILABLE if response.status == 410 and error else None,
            provider_code=parsing.text(error, "code"),
            provider_message=parsing.text(error, "detail") or parsing.text(error, "title"),
            trace_id=parsing.text(error, "id"),
        )


def _only_audience_in(lookup_response: ProviderResponse | None) -> str:
    """Raises `Refused`."""
    body = parsing.json_object(lookup_response) if lookup_response else None
    audiences = parsing.items(body, "data.relationships.campaign-audiences.data") or []
    ids = [parsing.safe_id(audience, "id") for audience in audiences]
    if len(ids) != 1 or ids[0] is None:
        raise Refused(UserError(ErrorCode.CONFLICT, AUDIENCE_UNKNOWN))
    return ids[0]


def _error_in(body: object) -> Any:
    return next(iter(parsing.items(body, "errors") or ()), None)


def _parse_campaign(data: Any) -> Campaign | None:
    # In JSON:API an id has a meaning only together with the type.
    if parsing.text(data, "type") != "campaign":
        return None
    attributes = data.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    # A `definition` has the name, and whether the campaign is archived.
    definition = attributes.get("definition")
    definition = definition if isinstance(definition, dict) else {}
    return FIELDS.parse({**attributes, **definition, "id": data.get("id")})
