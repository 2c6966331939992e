"""Translates the copy of a campaign to Altcraft's API and back, in JSON or XML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, final
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

import strawberry
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from campaign_gateway.connectors import building, checking, contract, errors, parsing
from campaign_gateway.connectors.account_settings import AccountSettings, BaseUrl, Secret
from campaign_gateway.connectors.contract import ProviderRequest, ProviderResponse, SearchPage
from campaign_gateway.connectors.graphql import (
    account_field,
    name_field,
    optional_field,
    register_enum,
)
from campaign_gateway.model import Campaign, CampaignStatus, ErrorCode, Failure, Outcome


class AltcraftCampaignKind(StrEnum):
    TRIGGER = "TRIGGER"
    CAMPAIGN = "CAMPAIGN"


register_enum(
    AltcraftCampaignKind,
    "The kind of campaign. It decides which of Altcraft's two methods makes the copy.",
    {
        AltcraftCampaignKind.TRIGGER: "A trigger campaign (method campaigns/triggers/clone).",
        AltcraftCampaignKind.CAMPAIGN: "Any other campaign, for example a broadcast or a regular "
        "one (method campaigns/clone). Since version 74, Altcraft calls it a mailing.",
    },
)


@strawberry.input(description="An Altcraft campaign to copy, and the options of the copy.")
class AltcraftCampaignInput:
    account: str | None = account_field("Altcraft")
    campaign_id: int = strawberry.field(description="The campaign's number at Altcraft.")
    kind: AltcraftCampaignKind = strawberry.field(
        default=AltcraftCampaignKind.TRIGGER, description="The kind of campaign."
    )
    name: str | None = name_field(
        'The name of the copy. Without it Altcraft names the copy "Clone of ...".'
    )
    is_active: bool | None = optional_field(
        "If true, the copied trigger reacts to live events immediately, so it can send "
        "messages. If false or omitted, it does not. Only for kind TRIGGER."
    )


PAGE_SIZE = 1000

TRIGGER_LIST, CAMPAIGN_LIST = "/campaigns/triggers/list/", "/campaigns/list"

FIELDS = parsing.CampaignFields(
    # Altcraft returns this flag in place of a status, and XML has only text.
    flags={
        ("is_active", True): CampaignStatus.ACTIVE,
        ("is_active", "true"): CampaignStatus.ACTIVE,
        ("is_active", False): CampaignStatus.PAUSED,
        ("is_active", "false"): CampaignStatus.PAUSED,
    },
    parse_id=parsing.number_as_id,
    status=None,
    description="description",
    updated_at="update_time",
)


class AltcraftAccount(AccountSettings):
    """A host, which may be on-premises, and an API token, which Altcraft expects in the body."""

    base_url: BaseUrl
    token: Secret
    format: Literal["json", "xml"] = "json"


@final
@dataclass(frozen=True)
class AltcraftConnector(
    contract.Connector[AltcraftCampaignInput],
    contract.ListsCampaigns[AltcraftCampaignInput],
    contract.ReadsCampaigns[AltcraftCampaignInput],
    contract.ActivatesCopies[AltcraftCampaignInput],
    contract.ShowsAccess,
):
    """Source: guides.altcraft.com, "Clone campaign" and "Clone a trigger campaign", v72 to v75.

    Every method is a POST below /api/v1.1. If the number `error` is not 0, the call has failed
    with any HTTP status. Altcraft does not document the status then, so both are parsed.
    """

    provider = "altcraft"
    title = "Altcraft"
    Account = AltcraftAccount
    Input = AltcraftCampaignInput
    example = 'campaignId: 96\nkind: TRIGGER\nname: "Abandoned cart, new wording"'
    reports_creation_time = False
    list_has_all_fields = False

    account: AltcraftAccount

    def build_request(self, copy_input: AltcraftCampaignInput) -> ProviderRequest:
        fields: dict[str, object | None] = {
            "id": building.require_positive(copy_input.campaign_id, "campaignId"),
            "name": building.optional_line(copy_input.name, "name"),
        }
        if copy_input.kind == AltcraftCampaignKind.TRIGGER:
            # The default of is_active is not documented, and an active copy reacts to live events.
            fields["is_active"] = copy_input.is_active is True
            return self._request("/campaigns/triggers/clone", fields)
        if copy_input.is_active:
            raise building.invalid_input(
                "isActive",
                "isActive can be true only for kind TRIGGER. Activate other copies at Altcraft.",
            )
        return self._request("/campaigns/clone", fields)

    def activates(self, copy_input: AltcraftCampaignInput) -> bool:
        return copy_input.is_active is True

    def parse_response(
        self, copy_input: AltcraftCampaignInput, response: ProviderResponse
    ) -> Outcome:
        body = _parse_body(response)
        error = parsing.integer(body, "error")
        source, copy = str(copy_input.campaign_id), _copy_in(body, copy_input)
        # `error` 0 is Altcraft's yes, with any success status.
        success = errors.success(response, copy, source, documented=response.status)
        if success and error == 0:
            return success
        return self._failure(response)

    def build_search(
        self, copy_input: AltcraftCampaignInput, cursor: str | None
    ) -> ProviderRequest:
        # Ids grow, so the copy has a higher id than its source.
        from_id = int(cursor) if cursor else copy_input.campaign_id + 1
        is_trigger = copy_input.kind == AltcraftCampaignKind.TRIGGER
        path = TRIGGER_LIST if is_trigger else CAMPAIGN_LIST
        return self._request(path, {"from_id": from_id, "limit": PAGE_SIZE})

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        body = _parse_success(response)
        data = body.get("data")
        # XML repeats an element for each item, so a list of one item is no list.
        items = data if isinstance(data, list) else [data]
        campaigns = [campaign for item in items if (campaign := _parse_campaign(item))]
        next_id = parsing.integer(body, "next_from_id") if campaigns else None
        if next_id is None and len(campaigns) >= PAGE_SIZE:
            next_id = int(campaigns[-1].id) + 1
        return SearchPage(campaigns, str(next_id) if next_id else None)

    def build_lookup(
        self, campaign_id: str, related_input: AltcraftCampaignInput | None
    ) -> ProviderRequest:
        is_trigger = related_input and related_input.kind == AltcraftCampaignKind.TRIGGER
        path = "/campaigns/triggers/get" if is_trigger else "/campaigns/get"
        return self._request(path, {"id": building.id_as_number(campaign_id, self.title)})

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        code = _code_of(response, parsing.integer(_parse_body(response), "error"))
        if code is ErrorCode.CAMPAIGN_NOT_FOUND:
            return None
        campaign = _parse_campaign(_parse_success(response).get("data"))
        return parsing.expect_campaign(campaign, campaign_id)

    @property
    def api_version(self) -> str:
        return "v1.1"

    def build_check(self, responses: Sequence[ProviderResponse]) -> ProviderRequest | None:
        """One trigger campaign, and one of the others. Every method is a POST, these lists too.

        Source: guides.altcraft.com, the pages of the two lists, v72 to v75.
        """
        paths = (TRIGGER_LIST, CAMPAIGN_LIST)[len(responses) :]
        return self._request(paths[0], {"from_id": 1, "limit": 1}) if paths else None

    def parse_check(self, responses: Sequence[ProviderResponse]) -> contract.Access:
        reads = checking.failures(responses, [_parse_success] * 2, self._failure)
        triggers, others = "kind TRIGGER", "kind CAMPAIGN"
        return checking.access(
            reads,
            contract.Permission("list trigger campaigns", checking.grant(reads, 0), triggers),
            contract.Permission("list campaigns", checking.grant(reads, 1), others),
            contract.Permission("copy campaigns"),
        )

    def _failure(self, response: ProviderResponse) -> Failure:
        body = _parse_body(response)
        error = parsing.integer(body, "error")
        return errors.failure(
            self.title,
            response,
            _code_of(response, error),
            provider_code=None if error is None else str(error),
            provider_message=parsing.text(body, "error_text"),
        )

    def _request(self, path: str, fields: Mapping[str, object | None]) -> ProviderRequest:
        token, format_ = self.account.token.get_secret_value(), self.account.format
        content = {"token": token, "format": format_, **fields}
        body = building.json_body(content) if format_ == "json" else _xml_body(content)
        # The documents do not name a header that chooses the format of the response.
        headers = {"content-type": f"application/{format_}", "accept": f"application/{format_}"}
        return ProviderRequest("POST", f"{self.account.base_url}/api/v1.1{path}", headers, body)


def _parse_body(response: ProviderResponse) -> dict[str, Any]:
    """Return the body, from JSON or XML; empty if it is neither."""
    return parsing.json_object(response) or _parse_xml(response) or {}


def _parse_success(response: ProviderResponse) -> dict[str, Any]:
    """Raises `UnexpectedResponse`."""
    parsing.expect_success(response)
    body = _parse_body(response)
    if parsing.integer(body, "error") != 0:
        raise contract.UnexpectedResponse(f"error {parsing.integer(body, 'error')}")
    return body


def _code_of(response: ProviderResponse, error: int | None) -> ErrorCode | None:
    """Return the code if status and `error` both say that no copy was made; None leaves it to the
    status.

    `error` 440 was seen in real responses and is in no table, so it counts as unknown.
    """
    if response.is_success:
        return errors.REFUSALS.get(error or 0, ErrorCode.OUTCOME_UNKNOWN)
    if error is None or response.status not in errors.REFUSALS:
        return None
    return errors.REFUSALS.get(error, ErrorCode.OUTCOME_UNKNOWN)


def _copy_in(body: object, copy_input: AltcraftCampaignInput) -> Campaign | None:
    """Return the copy. Altcraft returns only its id; the other fields are from the input."""
    # The parameter tables list saved_id next to error, every sample has it inside data.
    copy_id = parsing.number_as_id(body, "data.saved_id") or parsing.number_as_id(body, "saved_id")
    if copy_id is None:
        return None
    status = CampaignStatus.UNKNOWN
    if copy_input.kind == AltcraftCampaignKind.TRIGGER:
        status = CampaignStatus.ACTIVE if copy_input.is_active else CampaignStatus.DRAFT
    return Campaign(copy_id, copy_input.name, status=status)


def _parse_campaign(item: object) -> Campaign | None:
    if not isinstance(item, dict):
        return None
    # Samples of broadcast lists write keys as Groups, Id and Name.
    return FIELDS.parse({str(key).lower(): value for key, value in item.items()})


def _xml_body(fields: Mapping[str, object | None]) -> bytes:
    root = Element("xml")
    for name, value in building.omit_none(fields).items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        SubElement(root, name).text = text
    return bytes(tostring(root, encoding="utf-8", xml_declaration=False))


def _parse_xml(response: ProviderResponse) -> dict[str, Any] | None:
    """Return elements as a dictionary: repeated ones as a list, empty ones as None."""
    try:
        root = fromstring(parsing.body_text(response) or "", forbid_dtd=True)
        value = _value_of(root)
    except (ParseError, DefusedXmlException, ValueError, LookupError, RecursionError):
        return None
    return value if root.tag == "xml" and isinstance(value, dict) else None


def _value_of(element: Element) -> dict[str, Any] | str | None:
    if not len(element):
        return element.text
    values: dict[str, list[Any]] = {}
    for child in element:
        values.setdefault(child.tag, []).append(_value_of(child))
    return {tag: found if len(found) > 1 else found[0] for tag, found in values.items()}
