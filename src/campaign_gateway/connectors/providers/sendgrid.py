"""Translates the copy of a Single Send to SendGrid's REST API and back."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import strawberry

from campaign_gateway.connectors import building, checking, contract, errors, parsing
from campaign_gateway.connectors.account_settings import AccountSettings, BaseUrl, Secret
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse, SearchPage
from campaign_gateway.connectors.graphql import account_field, name_field, optional_field
from campaign_gateway.model import Campaign, ErrorCode, Failure, Outcome, Refused, UserError


@strawberry.input(description="A SendGrid Single Send to copy.")
class SendgridCampaignInput:
    account: str | None = account_field("SendGrid")
    campaign_id: strawberry.ID = strawberry.field(description="The Single Send's id at SendGrid.")
    name: str | None = name_field(
        'The name of the copy, of up to 100 characters. Without it SendGrid puts "Copy of" before '
        "the source's name."
    )
    list_ids: list[strawberry.ID] | None = optional_field(
        "The lists of contacts that get the copy, in place of the source's audience. The gateway "
        "sets them in a second call. At most 50."
    )
    segment_ids: list[strawberry.ID] | None = optional_field(
        "The segments that get the copy, in place of the source's audience. The gateway sets them "
        "in a second call. At most 10."
    )
    send_at: str | None = optional_field(
        "When the copy is to be sent, as ISO 8601 with a time zone, such as "
        '"2027-03-01T09:00:00+01:00". The gateway sets it in a second call. The copy stays a draft '
        "until you schedule it at SendGrid."
    )


PATH = "/v3/marketing/singlesends"
PAGE_SIZE = 100
MAX_NAME_LENGTH = 100
DEFAULT_PREFIX = "Copy of "

# SendGrid's own limits of an audience.
MAX_LISTS = 50
MAX_SEGMENTS = 10

LATE_FIELDS = ("listIds", "segmentIds", "sendAt")

COPY_UNKNOWN = "The gateway could not read the copy, so it did not send the change."

AUDIENCE_KEPT = (
    "The copy has lists or segments of its source that were not requested. SendGrid may keep "
    "them although a change leaves them out, so the gateway did not send the change."
)

READ_SCOPE = "marketing.read"

# Parts of other calls' paths, in the place of an id.
OTHER_CALLS = {"categories", "search"}

FIELDS = parsing.CampaignFields(
    # `triggered` is the final status of a Single Send. SendGrid has no separate status for
    # "finished".
    parsing.statuses(draft=["draft"], scheduled=["scheduled"], completed=["triggered"]),
    tags="categories",
    created_at="created_at",
    updated_at="updated_at",
)


class SendgridAccount(AccountSettings):
    """An API key with full access to Marketing.

    Subusers in the EU have the base URL https://api.eu.sendgrid.com (twilio.com/docs/sendgrid,
    "Retrieve a list of scopes", read 2026-09).
    """

    base_url: BaseUrl = "https://api.sendgrid.com"
    api_key: Secret


@final
@dataclass(frozen=True)
class SendgridConnector(
    contract.Connector[SendgridCampaignInput],
    contract.ChangesCopies[SendgridCampaignInput],
    contract.ListsCampaigns[SendgridCampaignInput],
    contract.NarrowsSearches[SendgridCampaignInput],
    contract.NamesCopies,
    contract.ReadsCampaigns[SendgridCampaignInput],
    contract.ShowsAccess,
):
    """Source: SendGrid's OpenAPI description "Single Sends" 1.0.0, with the pages made from it.

    Read at github.com/twilio/sendgrid-oai and twilio.com/docs/sendgrid, 2026-09. The older product,
    Legacy Marketing Campaigns, has ids and an API of its own.
    """

    provider = "sendgrid"
    title = "SendGrid"
    is_well_known = True
    Account = SendgridAccount
    Input = SendgridCampaignInput
    example = 'campaignId: "5f0c8a1e-3b7d-4e92-a6c4-9d1e2f7b8a30"\nname: "Spring sale, second wave"'

    account: SendgridAccount

    def build_request(self, copy_input: SendgridCampaignInput) -> ProviderRequest:
        source = _require_id(copy_input.campaign_id, "campaignId")
        # SendGrid is only known to trim a name that it has chosen itself.
        name = building.optional_line(copy_input.name, "name", MAX_NAME_LENGTH)
        _changes_of(copy_input)
        return self._request("POST", f"{PATH}/{source}", building.json_body({"name": name}))

    def parse_response(
        self, copy_input: SendgridCampaignInput, response: ProviderResponse
    ) -> Outcome:
        body = parsing.json_object(response)
        warnings = errors.provider_warnings(self.title, parsing.remarks(body, "warnings"))
        return errors.success(
            response, FIELDS.parse(body), copy_input.campaign_id, warnings=warnings
        ) or self._failure(response)

    def late_fields(self, copy_input: SendgridCampaignInput) -> Sequence[str]:
        return building.requested(copy_input, *LATE_FIELDS)

    def build_change(
        self,
        copy_input: SendgridCampaignInput,
        copy_id: str,
        lookup_response: ProviderResponse | None,
    ) -> ProviderRequest:
        """Source: `UpdateSingleSend` of SendGrid's OpenAPI description.

        It requires the name. It does not say whether a part of `email_config` keeps the rest, and
        a design has its own subject, so a subject is not set here. "Any blank or missing properties
        will remain unaltered", so it may keep lists or segments that an empty array replaces.
        """
        path = f"{PATH}/{_require_id(copy_id, 'id')}"
        copy = parsing.json_object(lookup_response) if lookup_response else None
        name = copy_input.name or parsing.text(copy, "name")
        fields = {"name": name, **_changes_of(copy_input)}
        if name is None or (copy is None and fields["send_to"] is not None):
            raise Refused(UserError(ErrorCode.PROVIDER_UNAVAILABLE, COPY_UNKNOWN))
        if _may_keep_more(copy, fields["send_to"]):
            raise Refused(UserError(ErrorCode.CONFLICT, AUDIENCE_KEPT))
        return self._request("PATCH", path, building.json_body(fields))

    def parse_change(self, response: ProviderResponse) -> Failure | None:
        is_changed = response.is_success and FIELDS.parse(parsing.json_object(response))
        return None if is_changed else self._failure(response)

    def build_search(
        self, copy_input: SendgridCampaignInput, cursor: str | None
    ) -> ProviderRequest:
        return self._search(copy_input.name, cursor)

    def build_copy_search(
        self, copy_input: object, cursor: str | None, lost: contract.LostCopy
    ) -> ProviderRequest:
        # A name that SendGrid has chosen does not have more of the source's name.
        longest = MAX_NAME_LENGTH - len(DEFAULT_PREFIX)
        return self._search(lost.name_part and lost.name_part.strip()[:longest], cursor)

    def is_name_of_copy(self, name: str, source_name: str) -> bool:
        """Source: `DuplicateSingleSend` of SendGrid's OpenAPI description."""
        return name == f"{DEFAULT_PREFIX}{source_name}"[:MAX_NAME_LENGTH].strip()

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        body = parsing.expect_object(response)
        campaigns = parsing.campaigns(body, "result", FIELDS.parse)
        return SearchPage(campaigns, parsing.link_parameter(body, "_metadata.next", "page_token"))

    def build_lookup(self, campaign_id: str, related_input: object) -> ProviderRequest:
        return self._request("GET", f"{PATH}/{_require_id(campaign_id, 'id')}")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        return parsing.one(response, campaign_id, FIELDS.parse)

    @property
    def api_version(self) -> str:
        return "v3"

    def build_check(self, responses: Sequence[ProviderResponse]) -> ProviderRequest | None:
        """The scopes of the key, and a search if the scope for it is not among them.

        Source: twilio.com/docs/sendgrid, "Retrieve a list of scopes for which this user has access"
        and "Teammate Permissions", read 2026-11. No document says which scopes a key with full
        access to Marketing has, so a missing scope proves nothing until the search is refused.
        """
        if not responses:
            return self._request("GET", "/v3/scopes")
        if len(responses) == 1 and not _may_read(responses[0]):
            path = building.with_query(f"{PATH}/search", {"page_size": 1})
            return self._request("POST", path, building.json_body({}))
        return None

    def parse_check(self, responses: Sequence[ProviderResponse]) -> contract.Access:
        parsers = (_scopes_in, lambda response: self.parse_search(response, None))
        reads = checking.failures(responses, parsers, self._failure)
        grant = contract.Grant.GRANTED if _may_read(responses[0]) else checking.grant(reads, 1)
        return checking.access(
            reads,
            contract.Permission(READ_SCOPE, grant),
            contract.Permission("full access to Marketing"),
        )

    def _search(self, name_part: str | None, cursor: str | None) -> ProviderRequest:
        # The list of all Single Sends has no documented order. The search finds every name that
        # contains the text; without blanks around it also a name that SendGrid has trimmed.
        fields = {"name": name_part.strip() if name_part else None}
        path = building.with_query(f"{PATH}/search", {"page_size": PAGE_SIZE, "page_token": cursor})
        return self._request("POST", path, building.json_body(fields))

    def _request(self, method: str, path: str, body: bytes = b"") -> ProviderRequest:
        headers = {"authorization": f"Bearer {self.account.api_key.get_secret_value()}"}
        return building.api_request(method, self.account.base_url + path, headers, body)

    def _failure(self, response: ProviderResponse) -> Failure:
        # No document says whether an `error_id` is a kind of error or the number of this error, so
        # it is not returned as either.
        message = "; ".join(parsing.remarks(parsing.json_object(response), "errors"))
        return errors.failure(
            self.title, response, _code_of(response, message), provider_message=message
        )


def _changes_of(copy_input: SendgridCampaignInput) -> dict[str, object | None]:
    """Return what the second call sets, checked. Raises `Refused`."""
    lists = building.optional_items(copy_input.list_ids, "listIds", _require_uuid)
    segments = building.optional_items(copy_input.segment_ids, "segmentIds", _require_uuid)
    for field_name, ids, most in (
        ("listIds", lists, MAX_LISTS),
        ("segmentIds", segments, MAX_SEGMENTS),
    ):
        if ids is not None and len(ids) > most:
            raise building.invalid_input(field_name, f"{field_name} must have {most} ids at most.")
    # All of it, so that nothing of the source's audience is left.
    audience = {"list_ids": lists or [], "segment_ids": segments or [], "all": False}
    return {
        "send_to": None if lists is None and segments is None else audience,
        "send_at": building.optional_instant(copy_input.send_at, "sendAt"),
    }


def _may_keep_more(copy: Mapping[str, Any] | None, requested: object) -> bool:
    """Return whether a copy has lists, or segments, in the place of which none were requested."""
    present = copy.get("send_to") if copy else None
    if not isinstance(present, dict) or not isinstance(requested, dict):
        return False
    return any(present.get(kind) and not requested[kind] for kind in ("list_ids", "segment_ids"))


def _require_uuid(value: str, field_name: str) -> str:
    """Return an id as SendGrid describes those of lists and segments. Raises `Refused`."""
    if not re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", value):
        raise building.invalid_input(field_name, f"{field_name} must have UUIDs only.")
    return value


def _scopes_in(response: ProviderResponse) -> list[object]:
    """Raises `UnexpectedResponse`."""
    scopes = parsing.items(parsing.expect_object(response), "scopes")
    if scopes is None:
        raise contract.UnexpectedResponse("no scopes")
    return scopes


def _may_read(response: ProviderResponse) -> bool:
    return READ_SCOPE in (checking.parsed(response, _scopes_in) or ())


def _code_of(response: ProviderResponse, message: str) -> ErrorCode | None:
    """Return the code for two statuses of SendGrid's page "Errors" (read 2026-11)."""
    # "Temporary block" after too many bad requests. Other responses with 403 lack a permission.
    if response.status == 403 and "temporary block" in message.lower():
        return ErrorCode.RATE_LIMITED
    # The base URL is that of the other region.
    if response.status == 451 and "data residency restrictions" in message.lower():
        return ErrorCode.AUTHENTICATION_FAILED
    return None


def _require_id(campaign_id: str, field_name: str) -> str:
    """Raises `Refused`."""
    if campaign_id in OTHER_CALLS:
        raise building.invalid_input(field_name, f"{field_name} must be the id of a Single Send.")
    return building.require_id(campaign_id, field_name)
