"""Translates one copy of a smart campaign or program to Marketo's REST API and back."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from urllib.parse import urlencode

import strawberry

from campaign_gateway.connectors.account_settings import (
    AccountSettings,
    BaseUrl,
    CallsAtOnce,
    CallsPerMinute,
    Secret,
)
from campaign_gateway.connectors.building import (
    FORM,
    api_request,
    form_body,
    invalid_input,
    line,
    number_as_id,
    optional_text,
    positive,
)
from campaign_gateway.connectors.contract import (
    ProviderRequest,
    ProviderResponse,
    SearchPage,
    Token,
    UnexpectedResponse,
)
from campaign_gateway.connectors.errors import failure, warning
from campaign_gateway.connectors.graphql import account_field, described_enum
from campaign_gateway.connectors.parsing import (
    expect_success,
    read_instant,
    read_int,
    read_json_object,
    read_list,
    read_number_as_id,
    read_text,
    read_texts,
)
from campaign_gateway.model import (
    Accepted,
    Campaign,
    CampaignStatus,
    Created,
    ErrorCode,
    Outcome,
    Rejected,
    WarningCode,
)


class MarketoCampaignKind(StrEnum):
    SMART_CAMPAIGN = "SMART_CAMPAIGN"
    PROGRAM = "PROGRAM"


described_enum(
    MarketoCampaignKind,
    "What is to be copied. Marketo numbers the two kinds apart from each other.",
    {
        MarketoCampaignKind.SMART_CAMPAIGN: "A smart campaign: one smart list and one flow.",
        MarketoCampaignKind.PROGRAM: "A program, with the smart campaigns and assets in it. "
        "Marketo does not copy those that hold reports, push notifications, in-app messages or "
        "social assets.",
    },
)


class MarketoFolderType(StrEnum):
    FOLDER = "FOLDER"
    PROGRAM = "PROGRAM"


described_enum(
    MarketoFolderType,
    "What a copy is put into.",
    {
        MarketoFolderType.FOLDER: "A folder. Programs can be put into nothing else.",
        MarketoFolderType.PROGRAM: "A program.",
    },
)


@strawberry.input(
    description="A smart campaign or a program of Marketo to copy, and where the copy belongs."
)
class MarketoCampaignInput:
    account: str | None = account_field("Marketo")
    campaign_id: int = strawberry.field(
        description="The number of the smart campaign or of the program at Marketo."
    )
    kind: MarketoCampaignKind = strawberry.field(
        default=MarketoCampaignKind.SMART_CAMPAIGN, description="Which of the two it is."
    )
    name: str = strawberry.field(
        description="The name of the copy; that of a program has at most 255 characters, and no "
        "two programs may have the same one. A program whose name has a comma cannot be found "
        "again when an answer is lost."
    )
    folder_id: int = strawberry.field(
        description="The number of the folder, or of the program, that the copy is put into."
    )
    folder_type: MarketoFolderType = strawberry.field(
        default=MarketoFolderType.FOLDER,
        description="Which of the two folderId is of. Only FOLDER for kind PROGRAM.",
    )
    description: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The description of the copy; that of a smart campaign has at most 2,000 "
        "characters.",
    )


TITLE = "Marketo"
PAGE_SIZE = 200

SMART_CAMPAIGN, PROGRAM = "smartCampaign", "program"

# The documents explain none of these words. "Single Run", "unlocked" and others stay open.
STATUSES: Mapping[str, CampaignStatus] = {
    "Active": CampaignStatus.ACTIVE,
    "Inactive": CampaignStatus.PAUSED,
    "Never Run": CampaignStatus.DRAFT,
    "on": CampaignStatus.ACTIVE,
    "off": CampaignStatus.PAUSED,
}

# What Marketo's errors make of a call that was not executed: "Error Codes" says so of every 6xx,
# and of every 7xx that the call failed for what was asked for. 500 and 502 stay open.
CODES: Mapping[str, ErrorCode] = {
    # In no table; what a call without a token is told.
    "600": ErrorCode.AUTHENTICATION_FAILED,
    "601": ErrorCode.AUTHENTICATION_FAILED,
    "602": ErrorCode.AUTHENTICATION_FAILED,
    "603": ErrorCode.PERMISSION_DENIED,
    # It ran for too long, and waited for the database.
    "604": ErrorCode.PROVIDER_UNAVAILABLE,
    "605": ErrorCode.PROVIDER_UNAVAILABLE,
    "606": ErrorCode.RATE_LIMITED,
    "607": ErrorCode.QUOTA_EXCEEDED,
    "608": ErrorCode.PROVIDER_UNAVAILABLE,
    "609": ErrorCode.INVALID_INPUT,
    # It says that no call has this URI, and nothing of the campaign.
    "610": ErrorCode.PROVIDER_UNAVAILABLE,
    # "System error".
    "611": ErrorCode.PROVIDER_UNAVAILABLE,
    "612": ErrorCode.INVALID_INPUT,
    "613": ErrorCode.INVALID_INPUT,
    # The subscription cannot be reached, which is mostly temporary.
    "614": ErrorCode.PROVIDER_UNAVAILABLE,
    "615": ErrorCode.RATE_LIMITED,
    "616": ErrorCode.PERMISSION_DENIED,
    "701": ErrorCode.INVALID_INPUT,
    "702": ErrorCode.CAMPAIGN_NOT_FOUND,
    "703": ErrorCode.PERMISSION_DENIED,
    "709": ErrorCode.CONFLICT,
    "710": ErrorCode.CAMPAIGN_NOT_FOUND,
    "711": ErrorCode.INVALID_INPUT,
    # "Transient Error": wait, and ask again.
    "713": ErrorCode.PROVIDER_UNAVAILABLE,
    # The clone of a program waited too long for a lock.
    "719": ErrorCode.CONFLICT,
}
# The same for the numbers of the two ranges that are in no table, or are of other calls.
OTHER_CODES: Mapping[str, ErrorCode] = {
    "6": ErrorCode.PROVIDER_UNAVAILABLE,
    "7": ErrorCode.INVALID_INPUT,
}
NOT_FOUND = "702"

# "Programs" has the first for a program, "Smart Campaigns" the second for a smart campaign.
LONGEST_NAME = 255
LONGEST_DESCRIPTION = 2000
GREATEST_ID = 2**31 - 1
TOKEN_REFUSALS = {"601", "602"}


class MarketoAccount(AccountSettings):
    """Id and secret of a custom service, and the endpoint that Admin > Web Services shows.

    It is shown with /rest at its end, which may stay there. An instance takes 100 calls in 20
    seconds and 10 at once, from all who call it; half of that at most is what Marketo advises.
    """

    base_url: BaseUrl
    identity_url: BaseUrl | None = None
    client_id: Secret
    client_secret: Secret
    calls_per_minute: CallsPerMinute | None = 100
    calls_at_once: CallsAtOnce = 5

    @property
    def root(self) -> str:
        return self.base_url.removesuffix("/rest")

    @property
    def assets(self) -> str:
        return f"{self.root}/rest/asset/v1"

    @property
    def identity(self) -> str:
        return self.identity_url or f"{self.root}/identity"


@dataclass(frozen=True)
class MarketoConnector:
    """Source: experienceleague.adobe.com, Marketo developer guide ("Smart Campaigns", "Programs",
    "Error Codes", "Authentication") and swagger-asset.json of AdobeDocs/marketo-apis, read 2026-11.

    Failures come with HTTP 200. The service's user needs the permission "Read-Write Assets".
    """

    provider: ClassVar[str] = "marketo"
    title: ClassVar[str] = TITLE
    Account: ClassVar[type[AccountSettings]] = MarketoAccount
    Input: ClassVar[type[Any]] = MarketoCampaignInput
    example: ClassVar[str] = (
        "campaignId: 1069\n"
        "kind: SMART_CAMPAIGN\n"
        'name: "Webinar reminder, autumn"\n'
        "folderId: 640\n"
        'description: "Copied through the gateway"'
    )
    reports_creation_time: ClassVar[bool] = True
    reports_source: ClassVar[bool] = False
    list_has_all_fields: ClassVar[bool] = True

    account: MarketoAccount

    def build_request(self, campaign: MarketoCampaignInput) -> ProviderRequest:
        source = _id(campaign.campaign_id, "campaignId")
        kind = _kind_of(campaign)
        longest_name, longest_description = (
            (LONGEST_NAME, None) if kind == PROGRAM else (None, LONGEST_DESCRIPTION)
        )
        fields = {
            "name": line(campaign.name, "name", longest_name),
            "folder": _folder_of(campaign),
            "description": optional_text(campaign.description, "description", longest_description),
        }
        url = f"{self.account.assets}/{kind}/{source}/clone.json"
        # The two kinds are counted apart.
        return replace(self._request("POST", url, form_body(fields)), kind=kind)

    def parse_response(self, campaign: MarketoCampaignInput, response: ProviderResponse) -> Outcome:
        body = read_json_object(response) or {}
        trace_id = read_text(body, "requestId")
        remarks = read_texts(body, "warnings") or ()
        if response.is_success and _succeeds(body):
            copy = _read_campaign(next(iter(read_list(body, "result") or ()), None))
            if copy is not None and copy.id != str(campaign.campaign_id):
                warnings = [warning(TITLE, WarningCode.PROVIDER_WARNING, each) for each in remarks]
                return Created(copy, trace_id, tuple(warnings))
            # Other calls say of an unknown id that they succeeded, and warn.
            if not remarks:
                return Accepted(trace_id)
        errors = _errors_in(body)
        return failure(
            TITLE,
            response,
            _code_of(response, body),
            provider_code=errors[0][0] if errors else None,
            provider_message=errors[0][1] if errors else "; ".join(remarks),
            trace_id=trace_id,
        )

    def build_search(self, campaign: MarketoCampaignInput, cursor: str | None) -> ProviderRequest:
        kind = _kind_of(campaign)
        if kind == PROGRAM:
            query = urlencode({"name": line(campaign.name, "name")})
            return self._request("GET", f"{self.account.assets}/{kind}/byName.json?{query}")
        # The names of smart campaigns recur from program to program, and byName gives one of them.
        folder = json.dumps(_folder_of(campaign), separators=(",", ":"))
        query = urlencode({"folder": folder, "maxReturn": PAGE_SIZE, "offset": cursor or "0"})
        return self._request("GET", f"{self.account.assets}/{kind}s.json?{query}")

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        items = _read_result(response)
        found = [campaign for item in items if (campaign := _read_campaign(item))]
        is_full = len(items) >= PAGE_SIZE
        return SearchPage(found, str(int(cursor or "0") + PAGE_SIZE) if is_full else None)

    def build_lookup(
        self, campaign_id: str, related_input: MarketoCampaignInput | None
    ) -> ProviderRequest:
        number = _id(number_as_id(campaign_id, TITLE), "id")
        kind = SMART_CAMPAIGN if related_input is None else _kind_of(related_input)
        return self._request("GET", f"{self.account.assets}/{kind}/{number}.json")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        items = _read_result(response)
        if not items:
            return None
        campaign = _read_campaign(items[0])
        if campaign is None or campaign.id != campaign_id:
            raise UnexpectedResponse("no campaign")
        return campaign

    def build_token_request(self) -> ProviderRequest:
        """The only place that Marketo's documents have for the secrets is the query."""
        query = {
            "grant_type": "client_credentials",
            "client_id": self.account.client_id.get_secret_value(),
            "client_secret": self.account.client_secret.get_secret_value(),
        }
        return self._request("GET", f"{self.account.identity}/oauth/token?{urlencode(query)}")

    def parse_token(self, response: ProviderResponse) -> Token | Rejected:
        body = read_json_object(response) or {}
        error = read_text(body, "error")
        if response.status == 401 or error in {"invalid_client", "unauthorized"}:
            refusal = failure(
                TITLE,
                response,
                ErrorCode.AUTHENTICATION_FAILED,
                provider_code=error,
                provider_message=read_text(body, "error_description"),
            )
            assert isinstance(refusal, Rejected)
            return refusal
        expect_success(response)
        token, lifetime = read_text(body, "access_token"), read_int(body, "expires_in")
        if token is None or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise UnexpectedResponse("no access token")
        if lifetime is None or lifetime < 0:
            raise UnexpectedResponse("no lifetime of the access token")
        # Whoever asks again is told the same token, and 0 seconds in its last one.
        return Token(token, max(lifetime, 1))

    def authorize(self, request: ProviderRequest, token: str) -> ProviderRequest:
        return replace(request, headers={**request.headers, "authorization": f"Bearer {token}"})

    def rejects_token(self, response: ProviderResponse) -> bool:
        body = read_json_object(response) or {}
        codes = {code for code, _ in _errors_in(body)}
        is_refusal = response.is_success and body.get("success") is False
        return is_refusal and bool(codes) and codes <= TOKEN_REFUSALS

    def _request(self, method: str, url: str, body: bytes = b"") -> ProviderRequest:
        return api_request(method, url, {}, body, FORM)


def _kind_of(campaign: MarketoCampaignInput) -> str:
    return PROGRAM if campaign.kind == MarketoCampaignKind.PROGRAM else SMART_CAMPAIGN


def _id(number: int, field_name: str) -> int:
    """Marketo's description has ids as int32. Raises `Refused`."""
    if positive(number, field_name) > GREATEST_ID:
        raise invalid_input(field_name, f"{field_name} must be {GREATEST_ID} at most.")
    return number


def _folder_of(campaign: MarketoCampaignInput) -> dict[str, object]:
    folder_id = _id(campaign.folder_id, "folderId")
    if _kind_of(campaign) == PROGRAM and campaign.folder_type != MarketoFolderType.FOLDER:
        raise invalid_input("folderType", "folderType must be FOLDER for kind PROGRAM.")
    return {"id": folder_id, "type": campaign.folder_type.capitalize()}


def _succeeds(body: Mapping[str, Any]) -> bool:
    return body.get("success") is True and not body.get("errors")


def _errors_in(body: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    """Codes, which are numbers written as text, and messages."""
    return [
        (read_text(each, "code") or str(read_int(each, "code") or ""), read_text(each, "message"))
        for each in read_list(body, "errors") or ()
    ]


def _code_of(response: ProviderResponse, body: Mapping[str, Any]) -> ErrorCode | None:
    """The code that the body has for the failure; None leaves it to the status."""
    if not response.is_success:
        return ErrorCode.OUTCOME_UNKNOWN if body.get("success") is True else None
    codes = [_meaning_of(code) for code, _ in _errors_in(body)]
    is_refusal = body.get("success") is False and codes and all(codes)
    return codes[0] if is_refusal else ErrorCode.OUTCOME_UNKNOWN


def _meaning_of(code: str) -> ErrorCode | None:
    is_refusal = re.fullmatch(r"[67][0-9]{2}", code)
    return CODES.get(code, OTHER_CODES[code[0]]) if is_refusal else None


def _read_result(response: ProviderResponse) -> list[Any]:
    """What a read has found. Raises `UnexpectedResponse`."""
    expect_success(response)
    body = read_json_object(response) or {}
    if body.get("success") is False and [code for code, _ in _errors_in(body)] == [NOT_FOUND]:
        return []
    items = read_list(body, "result")
    if items is None and body.get("result") is None and read_texts(body, "warnings"):
        # "No assets found for the given search criteria.", and no `result` at all.
        items = []
    if items is None or not _succeeds(body):
        raise UnexpectedResponse("no result")
    return items


def _read_campaign(item: object) -> Campaign | None:
    campaign_id = read_number_as_id(item, "id")
    if campaign_id is None:
        return None
    word = read_text(item, "status")
    is_active = isinstance(item, dict) and item.get("isActive") is True
    status = STATUSES.get(word or "", CampaignStatus.UNKNOWN)
    return Campaign(
        id=campaign_id,
        name=read_text(item, "name"),
        description=read_text(item, "description"),
        status=CampaignStatus.ACTIVE if is_active else status,
        provider_status=word,
        created_at=_read_instant(item, "createdAt"),
        updated_at=_read_instant(item, "updatedAt"),
    )


def _read_instant(item: object, name: str) -> datetime | None:
    """The samples end in `Z+0000`, where the OpenAPI file says date-time."""
    told = read_text(item, name)
    return read_instant(told.replace("Z+0000", "Z")) if told else None
