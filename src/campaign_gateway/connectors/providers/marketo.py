"""Translates the copy of a smart campaign or program to Marketo's REST API and back."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, final

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
from campaign_gateway.connectors.graphql import account_field, optional_field, register_enum
from campaign_gateway.model import (
    Campaign,
    CampaignStatus,
    ErrorCode,
    Failure,
    Outcome,
    Rejected,
)


class MarketoCampaignKind(StrEnum):
    SMART_CAMPAIGN = "SMART_CAMPAIGN"
    PROGRAM = "PROGRAM"


register_enum(
    MarketoCampaignKind,
    "What to copy. Marketo numbers the two kinds separately.",
    {
        MarketoCampaignKind.SMART_CAMPAIGN: "A smart campaign: one smart list and one flow.",
        MarketoCampaignKind.PROGRAM: "A program, with the smart campaigns and assets in it. "
        "Marketo does not copy programs with reports, push notifications, in-app messages or "
        "social assets.",
    },
)


class MarketoFolderType(StrEnum):
    FOLDER = "FOLDER"
    PROGRAM = "PROGRAM"


register_enum(
    MarketoFolderType,
    "The kind of place for the copy.",
    {
        MarketoFolderType.FOLDER: "A folder. Programs can only be in folders.",
        MarketoFolderType.PROGRAM: "A program.",
    },
)


@strawberry.input(
    description="A smart campaign or a program at Marketo to copy, and the place for the copy."
)
class MarketoCampaignInput:
    account: str | None = account_field("Marketo")
    campaign_id: int = strawberry.field(
        description="The number of the smart campaign or of the program at Marketo."
    )
    kind: MarketoCampaignKind = strawberry.field(
        default=MarketoCampaignKind.SMART_CAMPAIGN,
        description="Whether campaignId is a smart campaign or a program.",
    )
    name: str = strawberry.field(
        description="The name of the copy. A program's name has at most 255 characters, and no two "
        "programs can have the same name. If a response is lost, the gateway finds the copy by its "
        "name, so use one that no other campaign has. It cannot find a program whose name has a "
        "comma."
    )
    folder_id: int = strawberry.field(
        description="The number of the folder or of the program that gets the copy."
    )
    folder_type: MarketoFolderType = strawberry.field(
        default=MarketoFolderType.FOLDER,
        description="Whether folderId is a folder or a program. Kind PROGRAM requires FOLDER.",
    )
    description: str | None = optional_field(
        "The description of the copy. A smart campaign's description has at most 2,000 characters."
    )


PAGE_SIZE = 200

SMART_CAMPAIGN, PROGRAM = "smartCampaign", "program"

FIELDS = parsing.CampaignFields(
    # The documents explain none of these statuses. "Single Run", "unlocked" and others are missing
    # on purpose.
    parsing.statuses(draft=["Never Run"], active=["Active", "on"], paused=["Inactive", "off"]),
    flags={("isActive", True): CampaignStatus.ACTIVE},
    parse_id=parsing.number_as_id,
    description="description",
    created_at="createdAt",
    updated_at="updatedAt",
    url="url",
)

# The errors of calls that Marketo did not execute. "Error Codes" says that about every 6xx; every
# 7xx failed because of its input. 500 and 502 are missing on purpose.
CODES: Mapping[str, ErrorCode] = {
    # In no table; the error of a call without a token.
    "600": ErrorCode.AUTHENTICATION_FAILED,
    "601": ErrorCode.AUTHENTICATION_FAILED,
    "602": ErrorCode.AUTHENTICATION_FAILED,
    "603": ErrorCode.PERMISSION_DENIED,
    # The call ran for too long, and waited for the database.
    "604": ErrorCode.PROVIDER_UNAVAILABLE,
    "605": ErrorCode.PROVIDER_UNAVAILABLE,
    "606": ErrorCode.RATE_LIMITED,
    "607": ErrorCode.QUOTA_EXCEEDED,
    "608": ErrorCode.PROVIDER_UNAVAILABLE,
    "609": ErrorCode.INVALID_INPUT,
    # No call has this URI. It says nothing about the campaign.
    "610": ErrorCode.PROVIDER_UNAVAILABLE,
    # "System error".
    "611": ErrorCode.PROVIDER_UNAVAILABLE,
    "612": ErrorCode.INVALID_INPUT,
    "613": ErrorCode.INVALID_INPUT,
    # The subscription is unreachable, mostly for a short time.
    "614": ErrorCode.PROVIDER_UNAVAILABLE,
    "615": ErrorCode.RATE_LIMITED,
    "616": ErrorCode.PERMISSION_DENIED,
    "701": ErrorCode.INVALID_INPUT,
    "702": ErrorCode.CAMPAIGN_NOT_FOUND,
    "703": ErrorCode.PERMISSION_DENIED,
    "709": ErrorCode.CONFLICT,
    "710": ErrorCode.CAMPAIGN_NOT_FOUND,
    "711": ErrorCode.INVALID_INPUT,
    # "Transient Error": wait and retry.
    "713": ErrorCode.PROVIDER_UNAVAILABLE,
    # The clone of a program waited too long for a lock.
    "719": ErrorCode.CONFLICT,
}
# The same for numbers of the two ranges that are in no table, or belong to other calls.
OTHER_CODES: Mapping[str, ErrorCode] = {
    "6": ErrorCode.PROVIDER_UNAVAILABLE,
    "7": ErrorCode.INVALID_INPUT,
}
NOT_FOUND = "702"

# Of a program ("Programs") and of a smart campaign ("Smart Campaigns").
MAX_NAME_LENGTH = 255
MAX_DESCRIPTION_LENGTH = 2000
# Marketo's description has ids as int32.
MAX_ID = 2**31 - 1
TOKEN_REJECTIONS = {"601", "602"}


class MarketoAccount(AccountSettings):
    """Id and secret of a custom service, and the endpoint that Admin > Web Services shows.

    Marketo shows it with /rest at its end, which may stay there. An instance allows 100 calls in 20
    seconds and 10 at a time, for all its callers. Marketo recommends to use at most half of that.
    """

    base_url: BaseUrl
    identity_url: BaseUrl | None = None
    client_id: Secret
    client_secret: Secret
    calls_per_minute: account_settings.CallsPerMinute | None = 100
    calls_at_once: account_settings.CallsAtOnce = 5

    @property
    def root(self) -> str:
        return self.base_url.removesuffix("/rest")

    @property
    def assets(self) -> str:
        return f"{self.root}/rest/asset/v1"

    @property
    def identity(self) -> str:
        return self.identity_url or f"{self.root}/identity"


@final
@dataclass(frozen=True)
class MarketoConnector(
    contract.Connector[MarketoCampaignInput],
    contract.UsesAccessTokens,
    contract.ListsCampaigns[MarketoCampaignInput],
    contract.ReadsCampaigns[MarketoCampaignInput],
    contract.HasIdNamespaces[MarketoCampaignInput],
    contract.ShowsAccess,
):
    """Source: experienceleague.adobe.com, Marketo developer guide ("Smart Campaigns", "Programs",
    "Error Codes", "Authentication") and swagger-asset.json of AdobeDocs/marketo-apis, read 2026-11.

    Failures come with HTTP 200. The service's user needs the permission "Read-Write Assets".
    """

    provider = "marketo"
    title = "Marketo"
    Account = MarketoAccount
    Input = MarketoCampaignInput
    example = (
        "campaignId: 1069\n"
        "kind: SMART_CAMPAIGN\n"
        'name: "Webinar reminder, autumn"\n'
        "folderId: 640\n"
        'description: "Copied through the gateway"'
    )

    account: MarketoAccount

    def build_request(self, copy_input: MarketoCampaignInput) -> ProviderRequest:
        source = _require_id(copy_input.campaign_id, "campaignId")
        kind = _kind_of(copy_input)
        max_name, max_description = (
            (MAX_NAME_LENGTH, None) if kind == PROGRAM else (None, MAX_DESCRIPTION_LENGTH)
        )
        fields = {
            "name": building.require_line(copy_input.name, "name", max_name),
            "folder": _folder_of(copy_input),
            "description": building.optional_text(
                copy_input.description, "description", max_description
            ),
        }
        url = f"{self.account.assets}/{kind}/{source}/clone.json"
        return self._request("POST", url, building.form_body(fields))

    def id_namespace(self, copy_input: MarketoCampaignInput) -> str:
        return _kind_of(copy_input)

    def parse_response(
        self, copy_input: MarketoCampaignInput, response: ProviderResponse
    ) -> Outcome:
        body = parsing.json_object(response) or {}
        trace_id = parsing.text(body, "requestId")
        messages = parsing.texts(body, "warnings") or ()
        record = next(iter(parsing.items(body, "result") or ()), None)
        # A record of which Marketo skipped the operation has `reasons` ("Error Codes").
        reasons = _errors_in(record, "reasons")
        success = errors.success(
            response,
            _parse_campaign(record),
            str(copy_input.campaign_id),
            # `success` is Marketo's yes, with any status. But for an unknown id other calls report
            # success and a warning.
            documented=None if messages else response.status,
            trace_id=trace_id,
            warnings=errors.provider_warnings(self.title, messages),
        )
        if success and _succeeds(body) and not reasons:
            return success
        return self._failure(response)

    def build_search(self, copy_input: MarketoCampaignInput, cursor: str | None) -> ProviderRequest:
        url = f"{self.account.assets}/{_kind_of(copy_input)}"
        if _kind_of(copy_input) == PROGRAM:
            named = {"name": building.require_line(copy_input.name, "name")}
            return self._request("GET", building.with_query(f"{url}/byName.json", named))
        # Smart campaigns in different programs can have the same name, and byName returns only one.
        folder = json.dumps(_folder_of(copy_input), separators=(",", ":"))
        query = {"folder": folder, "maxReturn": PAGE_SIZE, "offset": cursor or "0"}
        return self._request("GET", building.with_query(f"{url}s.json", query))

    def parse_search(self, response: ProviderResponse, cursor: str | None) -> SearchPage:
        items = _parse_result(response)
        campaigns = [campaign for item in items if (campaign := _parse_campaign(item))]
        is_full = len(items) >= PAGE_SIZE
        return SearchPage(campaigns, str(int(cursor or "0") + PAGE_SIZE) if is_full else None)

    def build_lookup(
        self, campaign_id: str, related_input: MarketoCampaignInput | None
    ) -> ProviderRequest:
        number = _require_id(building.id_as_number(campaign_id, self.title), "id")
        kind = SMART_CAMPAIGN if related_input is None else _kind_of(related_input)
        return self._request("GET", f"{self.account.assets}/{kind}/{number}.json")

    def parse_lookup(self, response: ProviderResponse, campaign_id: str) -> Campaign | None:
        items = _parse_result(response)
        return parsing.expect_campaign(_parse_campaign(items[0]), campaign_id) if items else None

    @property
    def api_version(self) -> str:
        return "v1"

    def build_check(self, responses: Sequence[ProviderResponse]) -> ProviderRequest | None:
        """One smart campaign. A user who may only read assets may read it too.

        Source: experienceleague.adobe.com, Marketo developer guide, "Smart Campaigns" and "Custom
        Services", read 2026-11.
        """
        url = building.with_query(f"{self.account.assets}/smartCampaigns.json", {"maxReturn": 1})
        return None if responses else self._request("GET", url)

    def parse_check(self, responses: Sequence[ProviderResponse]) -> contract.Access:
        reads = checking.failures(responses, [_parse_result], self._failure)
        grant = checking.grant(reads, 0)
        if grant is contract.Grant.GRANTED:
            # To read, less is enough.
            grant = contract.Grant.NEEDS_COPY
        return checking.access(reads, contract.Permission("Read-Write Assets", grant))

    def build_token_request(self) -> ProviderRequest:
        """Marketo documents the query as the only place for the secrets."""
        query = {
            "grant_type": "client_credentials",
            "client_id": self.account.client_id.get_secret_value(),
            "client_secret": self.account.client_secret.get_secret_value(),
        }
        url = building.with_query(f"{self.account.identity}/oauth/token", query)
        return self._request("GET", url)

    def parse_token(self, response: ProviderResponse) -> contract.Token | Rejected:
        body = parsing.json_object(response) or {}
        error = parsing.text(body, "error")
        if response.status == 401 or error in {"invalid_client", "unauthorized"}:
            rejection = errors.failure(
                self.title,
                response,
                ErrorCode.AUTHENTICATION_FAILED,
                provider_code=error,
                provider_message=parsing.text(body, "error_description"),
            )
            assert isinstance(rejection, Rejected)
            return rejection
        parsing.expect_success(response)
        token, lifetime = parsing.text(body, "access_token"), parsing.integer(body, "expires_in")
        if token is None or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise contract.UnexpectedResponse("no access token")
        if lifetime is None or lifetime < 0:
            raise contract.UnexpectedResponse("no lifetime of the access token")
        # Marketo returns the same token until it expires, with 0 seconds in its last second.
        return contract.Token(token, max(lifetime, 1))

    def authorize(self, request: ProviderRequest, token: str) -> ProviderRequest:
        return replace(request, headers={**request.headers, "authorization": f"Bearer {token}"})

    def rejects_token(self, response: ProviderResponse) -> bool:
        body = parsing.json_object(response) or {}
        codes = {code for code, _ in _errors_in(body, "errors")}
        is_failure = response.is_success and body.get("success") is False
        return is_failure and bool(codes) and codes <= TOKEN_REJECTIONS

    def _request(self, method: str, url: str, body: bytes = b"") -> ProviderRequest:
        return building.api_request(method, url, {}, body, building.FORM)

    def _failure(self, response: ProviderResponse) -> Failure:
        body = parsing.json_object(response) or {}
        record = next(iter(parsing.items(body, "result") or ()), None)
        problems = [*_errors_in(body, "errors"), *_errors_in(record, "reasons")]
        messages = parsing.texts(body, "warnings") or ()
        code, message = next(iter(problems), (None, "; ".join(messages)))
        return errors.failure(
            self.title,
            response,
            _code_of(response, body),
            provider_code=code,
            provider_message=message,
            trace_id=parsing.text(body, "requestId"),
        )


def _kind_of(copy_input: MarketoCampaignInput) -> str:
    return PROGRAM if copy_input.kind == MarketoCampaignKind.PROGRAM else SMART_CAMPAIGN


def _require_id(number: int, field_name: str) -> int:
    """Raises `Refused`."""
    if building.require_positive(number, field_name) > MAX_ID:
        raise building.invalid_input(field_name, f"{field_name} must be {MAX_ID} at most.")
    return number


def _folder_of(copy_input: MarketoCampaignInput) -> dict[str, object]:
    folder_id = _require_id(copy_input.folder_id, "folderId")
    if _kind_of(copy_input) == PROGRAM and copy_input.folder_type != MarketoFolderType.FOLDER:
        raise building.invalid_input("folderType", "folderType must be FOLDER for kind PROGRAM.")
    return {"id": folder_id, "type": copy_input.folder_type.capitalize()}


def _succeeds(body: Mapping[str, Any]) -> bool:
    return body.get("success") is True and not body.get("errors")


def _errors_in(value: object, path: str) -> list[tuple[str, str | None]]:
    """Return codes, which are numbers written as text, with their messages."""
    return [
        (
            parsing.text(error, "code") or str(parsing.integer(error, "code") or ""),
            parsing.text(error, "message"),
        )
        for error in parsing.items(value, path) or ()
    ]


def _code_of(response: ProviderResponse, body: Mapping[str, Any]) -> ErrorCode | None:
    """Return the code for the failure in the body; None leaves it to the status."""
    if not response.is_success:
        return ErrorCode.OUTCOME_UNKNOWN if body.get("success") is True else None
    codes = [_meaning_of(code) for code, _ in _errors_in(body, "errors")]
    is_rejection = body.get("success") is False and codes and all(codes)
    return codes[0] if is_rejection else ErrorCode.OUTCOME_UNKNOWN


def _meaning_of(code: str) -> ErrorCode | None:
    is_rejection = re.fullmatch(r"[67][0-9]{2}", code)
    return CODES.get(code, OTHER_CODES[code[0]]) if is_rejection else None


def _parse_result(response: ProviderResponse) -> list[Any]:
    """Return the items that a read returned. Raises `UnexpectedResponse`."""
    body = parsing.expect_object(response)
    codes = [code for code, _ in _errors_in(body, "errors")]
    if body.get("success") is False and codes == [NOT_FOUND]:
        return []
    items = parsing.items(body, "result")
    if items is None and body.get("result") is None and parsing.texts(body, "warnings"):
        # "No assets found for the given search criteria." comes without a `result`.
        items = []
    if items is None or not _succeeds(body):
        raise contract.UnexpectedResponse("no result")
    return items


def _parse_campaign(item: object) -> Campaign | None:
    if not isinstance(item, dict):
        return None
    # Times end in `Z+0000` in the samples, although the OpenAPI file says date-time.
    times = {
        name: (parsing.text(item, name) or "").replace("Z+0000", "Z")
        for name in ("createdAt", "updatedAt")
    }
    # A program has `url`, and a smart campaign `computedUrl`.
    return FIELDS.parse({"url": item.get("computedUrl"), **item, **times})
