"""Marketo's own behaviour: errors with HTTP 200, a token, two kinds, and folders."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from starlette.types import ASGIApp

from campaign_gateway.accounts.account import Account
from campaign_gateway.connectors.contract import (
    ProviderRequest,
    Token,
    UnexpectedResponse,
)
from campaign_gateway.connectors.providers.marketo import (
    CODES,
    MarketoAccount,
    MarketoCampaignInput,
    MarketoCampaignKind,
    MarketoConnector,
    MarketoFolderType,
)
from campaign_gateway.ledger import open_ledger
from campaign_gateway.model import (
    Accepted,
    CampaignStatus,
    Created,
    DuplicationStatus,
    ErrorCode,
    Outcome,
    Refused,
    Rejected,
    Unknown,
    UserError,
    WarningCode,
)
from campaign_gateway.sandbox.emulators import marketo
from support.open_duplicator import OpenDuplicator
from support.plain import NO_CAS
from support.responses import respond

Duplicate = Callable[[Account, Any], Awaitable[Outcome]]

PROGRAM = MarketoCampaignKind.PROGRAM
HOST = "https://123-abc-456.mktorest.com"
WANTED = MarketoCampaignInput(
    account=None,
    campaign_id=1069,
    kind=MarketoCampaignKind.SMART_CAMPAIGN,
    name="Reminder & more",
    folder_id=640,
    folder_type=MarketoFolderType.FOLDER,
    description=None,
)
COPY = {"id": 1077, "name": "Reminder & more", "status": "Inactive", "isActive": False}


def connector(**settings: str) -> MarketoConnector:
    table = {"base_url": HOST, "client_id": "an-id", "client_secret": "s3cr&t", **settings}
    return MarketoConnector(MarketoAccount.model_validate({"provider": "marketo", **table}))


def form_of(request: ProviderRequest) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode(), strict_parsing=True))


def succeeded(*result: object, **changes: object) -> dict[str, object]:
    whole = {"success": True, "errors": [], "requestId": "681d#19a2", "warnings": []}
    return {**whole, "result": list(result), **changes}


def failed(*codes: object) -> dict[str, object]:
    errors = [{"code": code, "message": f"no {code}"} for code in codes]
    return {"requestId": "e42b#19a2", "success": False, "errors": errors}


def read(body: object, status: int = 200) -> Outcome:
    return connector().parse_response(WANTED, respond(status, body))


@pytest.mark.parametrize(
    ("field", "address"),
    [("computedUrl", "https://app-sjqe.marketo.com/#SC1077A1"), ("url", f"{HOST}/#PG1077A1")],
)
def test_response_has_the_address_of_the_copy(field: str, address: str) -> None:
    outcome = read(succeeded({**COPY, field: address}))
    assert isinstance(outcome, Created)
    assert outcome.campaign.url == address


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)//https://app-sjqe.marketo.com",
        "http://app-sjqe.marketo.com/#SC1077A1",
        "https://app-sjqe.marketo.com@evil.example/#SC1077A1",
        "https:///#SC1077A1",
        "https://[app/#SC1077A1",
        "https://app-sjqe.marketo.com/ #SC1077A1",
        f"https://app-sjqe.marketo.com/#{'A' * 2000}",
        1077,
    ],
)
def test_address_that_no_person_should_follow_is_left_out(address: object) -> None:
    outcome = read(succeeded({**COPY, "computedUrl": address}))
    assert isinstance(outcome, Created)
    assert outcome.campaign.url is None


# Requests


def test_each_kind_has_its_call() -> None:
    root = f"{HOST}/rest/asset/v1"
    smart_campaign = connector().build_request(WANTED)
    program = connector().build_request(replace(WANTED, kind=PROGRAM))
    assert smart_campaign.url == f"{root}/smartCampaign/1069/clone.json"
    assert program.url == f"{root}/program/1069/clone.json"


def test_folder_is_sent_as_json_in_the_form() -> None:
    request = connector().build_request(replace(WANTED, description="One\ntwo"))
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert form_of(request) == {
        "name": "Reminder & more",
        "folder": '{"id":640,"type":"Folder"}',
        "description": "One\ntwo",
    }
    inside = connector().build_request(replace(WANTED, folder_type=MarketoFolderType.PROGRAM))
    assert form_of(inside) == {
        "name": "Reminder & more",
        "folder": '{"id":640,"type":"Program"}',
    }


def test_input_from_the_ledger_builds_the_same_request() -> None:
    """The ledger stores inputs as JSON, in which an enum is text."""
    wanted = replace(WANTED, folder_type=MarketoFolderType.PROGRAM)
    again = MarketoCampaignInput(**json.loads(json.dumps(asdict(wanted))))
    assert connector().build_request(again) == connector().build_request(wanted)
    assert connector().build_search(again, None) == connector().build_search(wanted, None)


def refusal_of(**changes: Any) -> UserError:
    with pytest.raises(Refused) as refusal:
        connector().build_request(replace(WANTED, **changes))
    return refusal.value.error


def test_program_limits_the_name_and_smart_campaign_the_description() -> None:
    whole: list[dict[str, Any]] = [
        {"kind": PROGRAM, "name": "n" * 255, "description": "d" * 2001},
        {"name": "n" * 256, "description": "d" * 2000},
    ]
    for changes in whole:
        form = form_of(connector().build_request(replace(WANTED, **changes)))
        assert (form["name"], form["description"]) == (changes["name"], changes["description"])
    refused = refusal_of(kind=PROGRAM, name="n" * 256)
    assert (refused.field, refused.message) == (("name",), "name must have 255 characters at most.")
    assert refusal_of(description="d" * 2001).field == ("description",)


def test_program_is_copied_only_into_a_folder() -> None:
    refused = refusal_of(kind=PROGRAM, folder_type=MarketoFolderType.PROGRAM)
    assert refused.field == ("folderType",)
    assert "FOLDER" in refused.message


@pytest.mark.parametrize(
    ("attribute", "field"), [("campaign_id", "campaignId"), ("folder_id", "folderId")]
)
def test_id_above_int32_is_refused(attribute: str, field: str) -> None:
    greatest: dict[str, Any] = {attribute: 2**31 - 1}
    connector().build_request(replace(WANTED, **greatest))
    refused = refusal_of(**{attribute: 2**31})
    assert refused.field == (field,)
    assert refused.message == f"{field} must be 2147483647 at most."


def test_lookup_of_an_id_above_int32_is_refused() -> None:
    assert connector().build_lookup("2147483647", None).url.endswith("/2147483647.json")
    with pytest.raises(Refused) as refusal:
        connector().build_lookup("2147483648", None)
    assert refusal.value.error.field == ("id",)


@pytest.mark.parametrize("shown", [HOST, f"{HOST}/", f"{HOST}/rest", f"{HOST}/rest/"])
def test_endpoint_may_end_in_rest(shown: str) -> None:
    shown_base = connector(base_url=shown)
    assert shown_base.build_request(WANTED).url.startswith(f"{HOST}/rest/asset/v1/")
    assert shown_base.build_token_request().url.startswith(f"{HOST}/identity/oauth/token?")


async def test_kinds_have_separate_ids(
    serve: Callable[[ASGIApp], str], open_at: Callable[..., Account], tmp_path: Path
) -> None:
    """The same number can be the copy of two duplications."""
    account = open_at("marketo", serve(marketo.create_emulator()), **marketo.ACCOUNTS["marketo"])
    ledger = await open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    duplicator = OpenDuplicator({"tried": account}, ledger, deadline=20)
    program = replace(WANTED, campaign_id=1107, kind=MarketoCampaignKind.PROGRAM)
    platforms = set()
    for key, wanted in {"smart": WANTED, "program": program}.items():
        result = await duplicator.ask(key, "marketo", wanted)
        assert result.duplication is not None
        assert result.duplication.status is DuplicationStatus.CREATED
        platforms.add(result.duplication.intent.id_namespace.partition("#")[2])
    assert platforms == {"smartCampaign", "program"}
    await ledger.close()


# Tokens


def test_secrets_are_in_the_query_and_in_no_repr() -> None:
    request = connector(identity_url="https://identity.example/identity").build_token_request()
    place, _, query = request.url.partition("?")
    assert (request.method, place) == ("GET", "https://identity.example/identity/oauth/token")
    assert dict(parse_qsl(query)) == {
        "grant_type": "client_credentials",
        "client_id": "an-id",
        "client_secret": "s3cr&t",
    }
    assert request.body == b""
    assert "s3cr" not in repr(request)


def test_authorize_adds_only_the_token() -> None:
    request = connector().build_request(WANTED)
    signed = connector().authorize(request, "cdf01657:int")
    assert signed.headers["authorization"] == "Bearer cdf01657:int"
    assert replace(signed, headers=request.headers) == request


TOKEN = {"access_token": "cdf01657:int", "token_type": "bearer", "expires_in": 3599, "scope": "a"}


@pytest.mark.parametrize(("expires_in", "lifetime"), [(3599, 3599), ("60", 60), (0, 1)])
def test_token_has_its_remaining_lifetime(expires_in: object, lifetime: int) -> None:
    token = connector().parse_token(respond(200, {**TOKEN, "expires_in": expires_in}))
    assert token == Token("cdf01657:int", lifetime)


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": "two words"},
        {"access_token": "tok\r\nx-other: 1"},
        {"expires_in": None},
        {"expires_in": -1},
        {"expires_in": "soon"},
    ],
)
def test_unusable_token_raises(changes: dict[str, object]) -> None:
    with pytest.raises(UnexpectedResponse):
        connector().parse_token(respond(200, {**TOKEN, **changes}))


@pytest.mark.parametrize("status", [401, 400, 200])
@pytest.mark.parametrize("error", ["invalid_client", "unauthorized"])
def test_rejected_secrets_are_an_authentication_failure(error: str, status: int) -> None:
    rejection = connector().parse_token(
        respond(status, {"error": error, "error_description": "no"})
    )
    assert isinstance(rejection, Rejected)
    assert rejection.error.code is ErrorCode.AUTHENTICATION_FAILED
    assert (rejection.error.provider_code, rejection.error.provider_message) == (error, "no")


def test_401_is_rejected_with_any_body() -> None:
    rejection = connector().parse_token(respond(401, b"<html></html>"))
    assert isinstance(rejection, Rejected)
    assert rejection.error.code is ErrorCode.AUTHENTICATION_FAILED


@pytest.mark.parametrize("status", [302, 400, 403, 429, 500, 503])
def test_other_token_failure_does_not_blame_the_secrets(status: int) -> None:
    with pytest.raises(UnexpectedResponse):
        connector().parse_token(respond(status, {"error": "server_error", **TOKEN}))


@pytest.mark.parametrize(
    ("body", "status", "refuses"),
    [
        (failed("601"), 200, True),
        (failed("602"), 200, True),
        (failed(602), 200, True),
        (failed("603"), 200, False),
        (failed(), 200, False),
        (failed("602", "611"), 200, False),
        ({**failed("602"), "success": True}, 200, False),
        ({**failed("602"), "success": None}, 200, False),
        (failed("602"), 500, False),
        (b"602", 200, False),
    ],
)
def test_only_errors_601_and_602_reject_the_token(
    body: object, status: int, *, refuses: bool
) -> None:
    assert connector().rejects_token(respond(status, body)) is refuses


async def test_expired_token_is_renewed_and_one_copy_made(
    serve: Callable[[ASGIApp], str],
    open_at: Callable[..., Account],
    duplicate: Duplicate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(marketo, "TOKEN_SECONDS", 0)
    url = serve(marketo.create_emulator())
    account = open_at("marketo", url, **marketo.ACCOUNTS["marketo"])
    # Every token has expired before it is used.
    refused = await duplicate(account, WANTED)
    assert isinstance(refused, Rejected)
    assert refused.error.provider_code == "602"
    monkeypatch.setattr(marketo, "TOKEN_SECONDS", 3600)
    assert isinstance(await duplicate(account, WANTED), Created)
    assert isinstance(await duplicate(account, replace(WANTED, campaign_id=9602)), Created)
    async with httpx.AsyncClient(base_url=url, trust_env=False, verify=NO_CAS) as client:
        made = (await client.get("/_emulator/copies")).json()
    assert [copy["source"] for copy in made["copies"]] == ["1069", "9602"]


# Responses


@pytest.mark.parametrize("code", CODES)
def test_rejection_is_decided_by_its_code_and_not_its_status(code: str) -> None:
    outcome = read(failed(code))
    assert isinstance(outcome, Rejected)
    assert outcome.error.code is CODES[code]
    assert (outcome.error.provider_code, outcome.trace_id) == (code, "e42b#19a2")
    assert outcome.error.provider_message == f"no {code}"


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("699", ErrorCode.PROVIDER_UNAVAILABLE),
        ("704", ErrorCode.INVALID_INPUT),
        ("718", ErrorCode.INVALID_INPUT),
        ("799", ErrorCode.INVALID_INPUT),
    ],
)
def test_error_in_no_table_has_the_meaning_of_its_range(code: str, meaning: ErrorCode) -> None:
    outcome = read(failed(code))
    assert isinstance(outcome, Rejected)
    assert outcome.error.code is meaning


@pytest.mark.parametrize("code", ["502", "500", "800", "1013", "6", "60", "6040", "६०४", "x604"])
def test_error_that_may_come_after_the_copy_is_unknown(code: str) -> None:
    outcome = read(failed(code))
    assert isinstance(outcome, Unknown)
    assert outcome.error.provider_code == code


@pytest.mark.parametrize("codes", [("606", "502"), ("502", "606"), ("606", ""), ("606", None)])
def test_one_unclear_error_makes_the_outcome_unknown(codes: tuple[object, ...]) -> None:
    assert isinstance(read(failed(*codes)), Unknown)


@pytest.mark.parametrize("status", [500, 503, 302])
def test_code_does_not_turn_another_status_into_a_rejection(status: int) -> None:
    assert isinstance(read(failed("606"), status), Unknown)


@pytest.mark.parametrize("success", ["true", 1, None])
def test_only_success_true_is_a_success(success: object) -> None:
    assert isinstance(read(succeeded(COPY, success=success)), Unknown)


def test_success_with_an_error_is_unknown() -> None:
    errors = [{"code": "606", "message": "no"}]
    assert isinstance(read(succeeded(COPY, errors=errors)), Unknown)
    assert isinstance(read(succeeded(COPY), 400), Unknown)


def test_success_without_a_copy_is_accepted() -> None:
    assert read(succeeded()) == Accepted("681d#19a2")
    assert read(succeeded({"id": 1069})) == Accepted("681d#19a2")


def test_success_with_a_warning_and_no_copy_is_unknown() -> None:
    """Other calls report an unknown id in this way."""
    outcome = read(succeeded(warnings=["No assets found for the given search criteria."]))
    assert isinstance(outcome, Unknown)
    assert outcome.error.provider_message == "No assets found for the given search criteria."


def test_reason_of_a_skipped_record_is_returned() -> None:
    reasons = [{"code": "1003", "message": "Action is not supported"}]
    outcome = read(succeeded({**COPY, "status": "skipped", "reasons": reasons}))
    assert isinstance(outcome, Unknown)
    assert outcome.error.provider_code == "1003"
    assert outcome.error.provider_message == "Action is not supported"


def test_warning_is_returned_with_the_copy() -> None:
    outcome = read(succeeded(COPY, warnings=["Shortened.", 5]))
    assert isinstance(outcome, Created)
    ((code, message),) = ((warning.code, warning.provider_message) for warning in outcome.warnings)
    assert (code, message) == (WarningCode.PROVIDER_WARNING, "Shortened.")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"status": "Active", "isActive": True}, CampaignStatus.ACTIVE),
        ({"status": "Requested", "isActive": True}, CampaignStatus.ACTIVE),
        ({"status": "Requested", "isActive": False}, CampaignStatus.UNKNOWN),
        ({"status": "Inactive", "isActive": False}, CampaignStatus.PAUSED),
        ({"status": "Never Run"}, CampaignStatus.DRAFT),
        ({"status": "Single Run"}, CampaignStatus.UNKNOWN),
        ({"status": "on"}, CampaignStatus.ACTIVE),
        ({"status": "off"}, CampaignStatus.PAUSED),
        ({"status": "unlocked"}, CampaignStatus.UNKNOWN),
        ({"status": ""}, CampaignStatus.UNKNOWN),
    ],
)
def test_only_clear_statuses_are_mapped(fields: dict[str, object], status: CampaignStatus) -> None:
    outcome = read(succeeded({"id": 1077, **fields}))
    assert isinstance(outcome, Created)
    assert outcome.campaign.status is status
    assert outcome.campaign.provider_status == (fields["status"] or None)


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("2026-09-14T03:01:41Z+0000", datetime(2026, 9, 14, 3, 1, 41, tzinfo=UTC)),
        ("2026-09-14T03:01:41Z", datetime(2026, 9, 14, 3, 1, 41, tzinfo=UTC)),
        ("2026-09-14T03:01:41-0500", datetime(2026, 9, 14, 8, 1, 41, tzinfo=UTC)),
        ("2026-09-14T03:01:41Z+0500", None),
        ("2026-09-14T03:01:41", None),
        (5, None),
    ],
)
def test_times_that_end_in_z_0000_are_parsed(written: object, wanted: datetime | None) -> None:
    outcome = read(succeeded({"id": 1077, "createdAt": written, "updatedAt": written}))
    assert isinstance(outcome, Created)
    assert outcome.campaign.created_at == outcome.campaign.updated_at == wanted


# Searches and lookups


def test_search_for_a_smart_campaign_uses_its_folder() -> None:
    """Names recur in different programs, and a search by name returns only one campaign."""
    request = connector().build_search(WANTED, "200")
    parts = urlsplit(request.url)
    assert parts.path == "/rest/asset/v1/smartCampaigns.json"
    assert dict(parse_qsl(parts.query)) == {
        "folder": '{"id":640,"type":"Folder"}',
        "maxReturn": "200",
        "offset": "200",
    }


def test_search_for_a_program_uses_its_name() -> None:
    request = connector().build_search(replace(WANTED, kind=PROGRAM), None)
    parts = urlsplit(request.url)
    assert parts.path == "/rest/asset/v1/program/byName.json"
    assert dict(parse_qsl(parts.query)) == {"name": "Reminder & more"}


def test_full_page_has_a_next_one() -> None:
    items = [{"id": number} for number in range(1, 201)]
    page = connector().parse_search(respond(200, succeeded(*items)), None)
    assert (len(page.campaigns), page.next_cursor) == (200, "200")
    page = connector().parse_search(respond(200, succeeded(*items)), page.next_cursor)
    assert page.next_cursor == "400"
    assert connector().parse_search(respond(200, succeeded(*items[1:])), "400").next_cursor is None


def test_lookup_uses_the_kind_of_the_related_input() -> None:
    program = connector().build_lookup("1221", replace(WANTED, kind=PROGRAM))
    assert program.url == f"{HOST}/rest/asset/v1/program/1221.json"
    for related_input in (WANTED, None):
        smart_campaign = connector().build_lookup("1077", related_input)
        assert smart_campaign.url == f"{HOST}/rest/asset/v1/smartCampaign/1077.json"


@pytest.mark.parametrize(
    "body",
    [
        {"success": True, "errors": [], "requestId": "1#2", "warnings": ["No assets found."]},
        succeeded(),
        failed("702"),
    ],
)
def test_missing_campaign_is_reported_in_several_ways(body: object) -> None:
    assert connector().parse_lookup(respond(200, body), "1077") is None
    assert not connector().parse_search(respond(200, body), None).campaigns


@pytest.mark.parametrize(
    "body",
    [
        {"success": True, "errors": [], "requestId": "1#2", "warnings": []},
        {"success": True, "errors": [], "requestId": "1#2"},
        succeeded(COPY, success=False),
        succeeded(COPY, errors=[{"code": "702", "message": "no"}]),
        succeeded(result="none", warnings=["No assets found."]),
        failed("610"),
        failed("602"),
        failed("702", "611"),
        failed(),
    ],
)
def test_unreadable_read_raises(body: object) -> None:
    with pytest.raises(UnexpectedResponse):
        connector().parse_lookup(respond(200, body), "1077")
    with pytest.raises(UnexpectedResponse):
        connector().parse_search(respond(200, body), None)


def test_lookup_with_another_campaign_raises() -> None:
    with pytest.raises(UnexpectedResponse):
        connector().parse_lookup(respond(200, succeeded(COPY)), "1078")


# The emulator


@pytest.mark.parametrize(
    ("path", "texts"),
    [
        ("smartCampaign/1069", {"name": "x", "description": "d" * 2001}),
        ("program/1107", {"name": "x" * 256}),
    ],
)
def test_emulator_rejects_texts_above_the_limit(
    serve: Callable[[ASGIApp], str], path: str, texts: dict[str, str]
) -> None:
    content, made = sent_to_emulator(serve, path, texts)
    assert content["errors"][0]["code"] == "709"
    assert made == 0


@pytest.mark.parametrize(
    ("path", "texts"),
    [
        ("smartCampaign/1069", {"name": "x" * 256, "description": "d" * 2000}),
        ("program/1107", {"name": "x" * 255, "description": "d" * 2001}),
    ],
)
def test_emulator_accepts_texts_at_the_limit(
    serve: Callable[[ASGIApp], str], path: str, texts: dict[str, str]
) -> None:
    content, made = sent_to_emulator(serve, path, texts)
    assert content["result"][0]["description"] == texts["description"]
    assert made == 1


def sent_to_emulator(
    serve: Callable[[ASGIApp], str], path: str, texts: dict[str, str]
) -> tuple[Any, int]:
    """Return the emulator's response to a clone, and the number of copies after it."""
    url = serve(marketo.create_emulator())
    secrets = {"grant_type": "client_credentials", **marketo.ACCOUNTS["marketo"]}
    with httpx.Client(base_url=url, trust_env=False, verify=NO_CAS) as client:
        # The documents request a token in this way.
        token = client.get("/identity/oauth/token", params=secrets).json()["access_token"]
        response = client.post(
            f"/rest/asset/v1/{path}/clone.json",
            headers={"authorization": f"Bearer {token}"},
            data={"folder": '{"id": 640, "type": "Folder"}', **texts},
        )
        return response.json(), client.get("/_emulator/copies").json()["count"]
