"""Translates one copy of a campaign to Altcraft's API and back, in JSON or XML."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

import strawberry
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from campaign_gateway.connectors.account_settings import AccountSettings, BaseUrl, Secret
from campaign_gateway.connectors.building import invalid_input, line, number_as_id, positive
from campaign_gateway.connectors.contract import (
    ProviderRequest,
    ProviderResponse,
    SearchPage,
    UnexpectedResponse,
)
from campaign_gateway.connectors.errors import REFUSALS, failure
from campaign_gateway.connectors.graphql import account_field, described_enum
from campaign_gateway.connectors.parsing import (
    expect_success,
    read_body,
    read_instant,
    read_int,
    read_json_object,
    read_text,
)
from campaign_gateway.model import Accepted, Campaign, CampaignStatus, Created, ErrorCode, Outcome


class AltcraftCampaignKind(StrEnum):
    TRIGGER = "TRIGGER"
    CAMPAIGN = "CAMPAIGN"


described_enum(
    AltcraftCampaignKind,
    "Which of Altcraft's two methods copies the campaign.",
    {
        AltcraftCampaignKind.TRIGGER: "A trigger campaign (method campaigns/triggers/clone).",
        AltcraftCampaignKind.CAMPAIGN: "Any other campaign, such as a broadcast or a regular one, "
        "which Altcraft has called a mailing since version 74 (method campaigns/clone).",
    },
)


@strawberry.input(description="An Altcraft campaign to copy, and what the copy is to be like.")
class AltcraftCampaignInput:
    account: str | None = account_field("Altcraft")
    campaign_id: int = strawberry.field(description="The campaign's number at Altcraft.")
    kind: AltcraftCampaignKind = strawberry.field(
        default=AltcraftCampaignKind.TRIGGER, description="What kind of campaign it is."
    )
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description='The name of the copy. Without it Altcraft calls it "Clone of ...".',
    )
    is_active: bool | None = strawberry.field(
        default=strawberry.UNSET,
        description="True: the copied trigger reacts to live events at once, so it may send. Left "
        "out or false: it does not. Only for kind TRIGGER; Altcraft has no such choice for others.",
    )


TITLE = "Altcraft"
PAGE_SIZE = 1000


class AltcraftAccount(AccountSettings):
    """A host, which may be on-premises, and an API token; the token travels in the body."""

    base_url: BaseUrl
    token: Secret
    format: Literal["json", "xml"] = "json"


@dataclass(frozen=True)
class AltcraftConnector:
    """Source: guides.altcraft.com, "Clone campaign" and "Clone a trigger campaign", v72 to v75.

    Every method is a POST below /api/v1.1. A number `error` other than 0 is a failure whatever the
    HTTP status; whether the status then differs from 200 is not documented, so both are read.
    """

    provider: ClassVar[str] = "altcraft"
    title: ClassVar[str] = TITLE
    Account: ClassVar[type[AccountSettings]] = AltcraftAccount
    Input: ClassVar[type[Any]] = AltcraftCampaignInput
    example: ClassVar[str] = 'campaignId: 96\nkind: TRIGGER\nname: "Abandoned cart, new wording"'
    reports_creation_time: ClassVar[bool] = False
    reports_source: ClassVar[bool] = False
    list_has_all_fields: ClassVar[bool] = False

    account: AltcraftAccount

    def build_request(self, campaign: AltcraftCampaignInput) -> ProviderRequest:
        fields: dict[str, object] = {"id": positive(campaign.campaign_id, "campaignId")}
        if campaign.name is not None:
            fields["name"] = line(campaign.name, "name")
        if campaign.kind == AltcraftCampaignKind.TRIGGER:
            # The default of is_active is not documented, and an active copy reacts to live events.
            fields["is_active"] = campaign.is_active is True
            return self._request("/campaigns/triggers/clone", fields)
        if campaign.is_active:
            raise invalid_input(
                "isActive",
                "isActive can be true only for kind TRIGGER; activate other copies at Altcraft.",
            )
        return self._request("/campaigns/clone", fields)

    def parse_response(
        self, campaign: AltcraftCampaignInput, response: ProviderResponse
    ) -> Outcome:
        body = self._read(response)
        error = read_int(body, "error")
        if response.is_success and error == 0:
            # The parameter tables list saved_id beside error, every sample has it inside data.
            saved_id = read_int(body, "data", "saved_id") or read_int(body, "saved_id")
            if saved_id is None or saved_id < 1 or saved_id == campaign.campaign_id:
                return Accepted()
            return Created(_copy_of(campaign, saved_id))
        return failure(
            TITLE,
            response,
            _code_of(response, error),
            provider_code=None if error is None else str(error),
            provider_message=read_text(body, "error_text"),
        )

    def build_search(self, campaign: AltcraftCampaignInput, cursor: str | None) -> ProviderRequest:
        # Ids grow, so a copy stands behind its source.
        from_id = int(cursor) if cursor else campaign.campaign_id + 1
        is_trigger = campaign.kind == AltcraftCampaignKind.TRIGGER
        path = "/campaigns/triggers/list/" if is_trigger else "/campaigns/list"
        return self._request(path, {"from_id": from_id, "limit": PAGE_SIZE})

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        body = self._read_success(response)
        items = body.get("data")
        if items is None:
            items = []
        # XML repeats an element for each item, so that one item alone looks like no list.
        found = [
            campaign
            for item in (items if isinstance(items, list) else [items])
            if (campaign := _read_campaign(item))
        ]
        next_id = read_int(body, "next_from_id") if found else None
        if next_id is None and len(found) >= PAGE_SIZE:
            next_id = int(found[-1].id) + 1
        return SearchPage(found, str(next_id) if next_id else None)

    def build_lookup(
        self, campaign_id: str, related_input: AltcraftCampaignInput | None
    ) -> ProviderRequest:
        is_trigger = (
            related_input is not None and related_input.kind == AltcraftCampaignKind.TRIGGER
        )
        path = "/campaigns/triggers/get" if is_trigger else "/campaigns/get"
        return self._request(path, {"id": number_as_id(campaign_id, TITLE)})

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        if _code_of(response, read_int(self._read(response), "error")) is (
            ErrorCode.CAMPAIGN_NOT_FOUND
        ):
            return None
        campaign = _read_campaign(self._read_success(response).get("data"))
        if campaign is None or campaign.id != campaign_id:
            raise UnexpectedResponse("no campaign")
        return campaign

    def _request(self, path: str, fields: Mapping[str, object]) -> ProviderRequest:
        token, format_ = self.account.token.get_secret_value(), self.account.format
        content = {"token": token, "format": format_, **fields}
        body = json.dumps(content).encode() if format_ == "json" else _write_xml(content)
        # The documents do not say by which header the format of the answer could be chosen.
        headers = {"content-type": f"application/{format_}", "accept": f"application/{format_}"}
        return ProviderRequest("POST", f"{self.account.base_url}/api/v1.1{path}", headers, body)

    def _read(self, response: ProviderResponse) -> dict[str, Any]:
        """The body, in whichever of the two formats it came; empty when it is neither."""
        return read_json_object(response) or _read_xml(response) or {}

    def _read_success(self, response: ProviderResponse) -> dict[str, Any]:
        expect_success(response)
        body = self._read(response)
        if read_int(body, "error") != 0:
            raise UnexpectedResponse(f"error {read_int(body, 'error')}")
        return body


def _code_of(response: ProviderResponse, error: int | None) -> ErrorCode | None:
    """The code when status and `error` agree that nothing was made; None leaves it to the status.

    `error` 440 was seen in real answers and is in no table, so it counts as unknown.
    """
    if response.is_success:
        return REFUSALS.get(error or 0, ErrorCode.OUTCOME_UNKNOWN)
    if error is None or response.status not in REFUSALS:
        return None
    return REFUSALS.get(error, ErrorCode.OUTCOME_UNKNOWN)


def _copy_of(campaign: AltcraftCampaignInput, saved_id: int) -> Campaign:
    """The answer is an id and nothing more; the rest is what was asked for."""
    if campaign.kind == AltcraftCampaignKind.TRIGGER:
        status = CampaignStatus.ACTIVE if campaign.is_active else CampaignStatus.DRAFT
    else:
        status = CampaignStatus.UNKNOWN
    return Campaign(id=str(saved_id), name=campaign.name, status=status)


def _read_campaign(item: object) -> Campaign | None:
    if not isinstance(item, dict):
        return None
    # Samples of broadcast lists spell keys as Groups, Id and Name.
    item = {str(key).lower(): value for key, value in item.items()}
    campaign_id = read_int(item, "id")
    if campaign_id is None or campaign_id < 1:
        return None
    match item.get("is_active"):
        case True | "true":
            status = CampaignStatus.ACTIVE
        case False | "false":
            status = CampaignStatus.PAUSED
        case _:
            status = CampaignStatus.UNKNOWN
    return Campaign(
        id=str(campaign_id),
        name=read_text(item, "name"),
        description=read_text(item, "description"),
        status=status,
        updated_at=read_instant(item, "update_time"),
    )


def _write_xml(fields: Mapping[str, object]) -> bytes:
    root = Element("xml")
    for name, value in fields.items():
        written = str(value).lower() if isinstance(value, bool) else str(value)
        SubElement(root, name).text = written
    return bytes(tostring(root, encoding="utf-8", xml_declaration=False))


def _read_xml(response: ProviderResponse) -> dict[str, Any] | None:
    """Elements as a dictionary; repeated ones as a list, empty ones as None."""
    try:
        root = fromstring(read_body(response) or "", forbid_dtd=True)
        value = _value_of(root)
    except (ParseError, DefusedXmlException, ValueError, LookupError, RecursionError):
        return None
    return value if root.tag == "xml" and isinstance(value, dict) else None


def _value_of(element: Element) -> dict[str, Any] | str | None:
    if not len(element):
        return element.text
    fields: dict[str, Any] = {}
    for child in element:
        value = _value_of(child)
        if child.tag not in fields:
            fields[child.tag] = value
        elif isinstance(fields[child.tag], list):
            fields[child.tag].append(value)
        else:
            fields[child.tag] = [fields[child.tag], value]
    return fields
