"""A strict stand-in for Marketo's REST API.

Source: experienceleague.adobe.com, Marketo developer guide ("Authentication", "Smart Campaigns",
"Programs", "Assets", "Error Codes"; read 2026-11), swagger-asset.json and swagger-identity.json of
AdobeDocs/marketo-apis, and responses recorded in public repositories. Invented, because no document
says it: which errors a clone returns and most of their texts; that unknown fields are rejected; the
bodies of rejected token requests; error 600; that smart campaigns can have equal names.
"""

import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox import emulation

CLIENT_ID = "8f1c2e3a-sandbox-marketo-client"
CLIENT_SECRET = "sandbox-marketo-secret-4Tq9"
ACCOUNTS = {"marketo": {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}}

# An account whose secret is valid, and lacks a permission that the gateway needs.
LIMITED_CLIENT = "8f1c2e3a-sandbox-limited-client"
LIMITED_ACCOUNT = {"client_id": LIMITED_CLIENT, "client_secret": CLIENT_SECRET}
LIMITED_TOKEN = "limited-5ca1-4b0c-9d3e-7f6a2b8c1d40:int"

# The lifetime of a token in seconds.
TOKEN_SECONDS = 3600

Record = dict[str, Any]

# In Marketo's description every id is an int32.
GREATEST_ID = 2**31 - 1

SMART_CAMPAIGNS = {1069: "Webinar reminder"}
PROGRAMS = {1107: "Webinar"}
TAGS = [{"tagType": "Region", "tagValue": "North"}]
FOLDERS = {640: "Webinars", 27: "Archive"}

# Each gets HTTP 200 with this error. The number is the HTTP status with the same meaning.
ERRORS = {
    502: ("Bad Gateway", 502),
    603: ("Access denied", 403),
    604: ("Request timed out", 405),
    606: ("Max rate limit '100' exceeded with in '20' secs", 429),
    607: ("Daily quota reached", 402),
    608: ("API Temporarily Unavailable", 405),
    609: ("Invalid JSON", 400),
    610: ("Requested resource not found", 405),
    611: ("System error", 405),
    613: ("Invalid Multipart Request", 400),
    614: ("Invalid Subscription", 405),
    615: ("Concurrent access limit reached", 429),
    616: ("Invalid subscription type", 403),
    701: ("name cannot be blank", 400),
    702: ("No data found", 404),
    703: ("The feature is not enabled for the subscription", 403),
    709: ("Business Rule Violation", 409),
    710: ("Parent Folder Not Found", 404),
    711: ("Incompatible Folder Type", 400),
    713: ("Transient Error", 405),
    719: ("Lock wait timeout exception", 409),
}
# Ids are numbers, so each outcome has one: 9606 returns error 606, 9602 expires the token first,
# and from 9001 on come the faults in the order of their list.
EXPIRING = 9602
FAULT_IDS = {9001 + number: fault for number, fault in enumerate(emulation.FAULTS)}
OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(SMART_CAMPAIGNS, "copied"),
    **dict.fromkeys(PROGRAMS, "copied, with kind: PROGRAM"),
    EXPIRING: "copied, after a renewed sign-in",
    **{9000 + code: f"error {code}, like a {status}" for code, (_, status) in ERRORS.items()},
    **{number: f"{fault}: {emulation.FAULTS[fault]}" for number, fault in FAULT_IDS.items()},
}


@dataclass
class Marketo:
    """`number` counts the tokens. The token before the first has expired."""

    copies: emulation.Copies = field(default_factory=emulation.Copies)
    smart_campaigns: dict[int, Record] = field(default_factory=dict)
    programs: dict[int, Record] = field(default_factory=dict)
    number: int = 1
    expires_at: float = field(default_factory=lambda: monotonic() + TOKEN_SECONDS)
    has_expired_it: bool = False

    def __post_init__(self) -> None:
        for number, name in SMART_CAMPAIGNS.items():
            self._add_smart_campaign(number, name, "", {"id": 27, "type": "Folder"})
        for number, name in PROGRAMS.items():
            self._add_program(number, name, "", {"id": 27, "type": "Folder"}, TAGS)

    async def sign_in(self, request: Request) -> Response:
        query = request.query_params
        if query.get("client_id") not in {CLIENT_ID, LIMITED_CLIENT}:
            raise _denial(401, "unauthorized", "No client with requested id")
        if query.get("client_secret") != CLIENT_SECRET:
            raise _denial(401, "invalid_client", "Bad client credentials")
        if query.get("grant_type") != "client_credentials":
            raise _denial(400, "unsupported_grant_type", "Unsupported grant type")
        if monotonic() >= self.expires_at:
            self.number += 1
            self.expires_at = monotonic() + TOKEN_SECONDS
        is_limited = query["client_id"] == LIMITED_CLIENT
        content = {
            "access_token": LIMITED_TOKEN if is_limited else _token(self.number),
            "token_type": "bearer",
            "expires_in": int(self.expires_at - monotonic()),
            "scope": "sandbox@marketo.invalid",
        }
        return JSONResponse(content, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})

    async def clone_smart_campaign(self, request: Request) -> Response:
        return await self._clone(request, self.smart_campaigns)

    async def clone_program(self, request: Request) -> Response:
        return await self._clone(request, self.programs)

    async def _clone(self, request: Request, records: dict[int, Record]) -> Response:
        self._check_token(request)
        number = _number_in(request)
        self._expire_token_for(number)
        self.copies.requests += 1
        call = await _read_form(request)
        folder = self._folder_in(call, records)
        if number - 9000 in ERRORS:
            raise _refusal(number - 9000)
        if number not in {*records, *FAULT_IDS, EXPIRING}:
            raise _refusal(702)
        self._check_texts(call, records)

        async def copy() -> Response:
            # Higher than every id with a meaning in this file.
            copy_id = 10_000 + len(self.copies.records) + 1
            name, description = call["name"], call.get("description", "")
            if records is self.programs:
                self._add_program(copy_id, name, description, folder, None)
            else:
                self._add_smart_campaign(copy_id, name, description, folder)
            self.copies.add(str(number), str(copy_id), name)
            return _response([records[copy_id]])

        return await emulation.misbehave(FAULT_IDS.get(number), request, copy)

    def _expire_token_for(self, number: int) -> None:
        """Expire the token at the first request for a copy of that campaign, not at its retry."""
        if number != EXPIRING:
            return
        self.has_expired_it = not self.has_expired_it
        if self.has_expired_it:
            self.expires_at = monotonic()
            raise _refusal(602, "Access token expired")

    def _folder_in(self, call: dict[str, str], records: dict[int, Record]) -> Record:
        folder = _parse_folder(call.get("folder", ""))
        if records is self.programs and folder["type"] != "Folder":
            raise _refusal(711)
        if folder["id"] not in (FOLDERS if folder["type"] == "Folder" else self.programs):
            raise _refusal(710)
        return folder

    def _check_texts(self, call: dict[str, str], records: dict[int, Record]) -> None:
        if not call.get("name", "").strip():
            raise _refusal(701)
        if records is self.programs:
            if len(call["name"]) > 255:
                raise _refusal(709, "Name cannot exceed 255 characters")
            if any(program["name"] == call["name"] for program in records.values()):
                raise _refusal(709, "Name already exists")
        elif len(call.get("description", "")) > 2000:
            raise _refusal(709, "Description cannot exceed 2000 characters")

    async def list_smart_campaigns(self, request: Request) -> Response:
        self._check_token(request)
        query = {"maxReturn": "20", "offset": "0", **request.query_params}
        limit, offset = _parse_number(query.pop("maxReturn")), _parse_number(query.pop("offset"))
        folder = _parse_folder(query.pop("folder")) if "folder" in query else None
        if query or not 1 <= limit <= 200:
            raise _refusal(701, f"{min(query, default='maxReturn')} is not valid")
        records = [
            record for record in self.smart_campaigns.values() if folder in (None, record["folder"])
        ]
        return _response(records[offset : offset + limit])

    async def find_program(self, request: Request) -> Response:
        self._check_token(request)
        name = request.query_params.get("name", "")
        if not name:
            raise _refusal(701)
        programs = [program for program in self.programs.values() if program["name"] == name]
        # "Assets": a search by name does not support commas.
        return _response([] if "," in name else [{**item, "tags": None} for item in programs])

    async def show_smart_campaign(self, request: Request) -> Response:
        return self._show(request, self.smart_campaigns)

    async def show_program(self, request: Request) -> Response:
        return self._show(request, self.programs)

    def _show(self, request: Request, records: dict[int, Record]) -> Response:
        self._check_token(request)
        number = _number_in(request)
        return _response([records[number]] if number in records else [])

    def _check_token(self, request: Request) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not token:
            raise _refusal(600, "Access token not specified")
        if token == LIMITED_TOKEN:
            raise _refusal(603)
        if token not in map(_token, range(self.number + 1)):
            raise _refusal(601, "Access token invalid")
        if token != _token(self.number) or monotonic() >= self.expires_at:
            raise _refusal(602, "Access token expired")

    def _add_smart_campaign(self, number: int, name: str, description: str, folder: Record) -> None:
        self.smart_campaigns[number] = {
            "id": number,
            "name": name,
            "description": description,
            **_times(),
            "folder": folder,
            "status": "Inactive",
            "type": "trigger",
            "isSystem": False,
            "isActive": False,
            "isRequestable": False,
            "isCommunicationLimitEnabled": False,
            "recurrence": {"weekdayOnly": False},
            "qualificationRuleType": "once",
            "workspace": "Default",
            "smartListId": 20_000 + number,
            "flowId": 30_000 + number,
            "computedUrl": f"https://app-sandbox.marketo.invalid/#SC{number}A1",
        }

    def _add_program(
        self, number: int, name: str, description: str, folder: Record, tags: list[Record] | None
    ) -> None:
        self.programs[number] = {
            "id": number,
            "name": name,
            "description": description,
            **_times(),
            "url": f"https://app-sandbox.marketo.invalid/#PG{number}A1",
            "type": "Default",
            "channel": "Webinar",
            "folder": {
                "type": "Folder",
                "value": folder["id"],
                "folderName": FOLDERS[folder["id"]],
            },
            "status": "",
            "workspace": "Default",
            "tags": tags,
            "costs": None,
            "headStart": False,
        }


def _token(number: int) -> str:
    return f"{number:08x}-5ca1-4b0c-9d3e-7f6a2b8c1d40:int"


def _times() -> Record:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ+0000")
    return {"createdAt": now, "updatedAt": now}


async def _read_form(request: Request) -> dict[str, str]:
    if emulation.media_type_of(request) != "application/x-www-form-urlencoded":
        raise _refusal(612, "Invalid Content Type")
    try:
        body = (await request.body()).decode()
        pairs = parse_qsl(body, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        raise _refusal(701) from None
    call = dict(pairs)
    if len(call) < len(pairs) or not call.keys() <= {"name", "folder", "description"}:
        raise _refusal(701, "A parameter is not known, or given twice")
    return call


def _parse_folder(text: str) -> Record:
    try:
        folder = json.loads(text)
    except ValueError:
        raise _refusal(609) from None
    if not isinstance(folder, dict) or folder.keys() != {"id", "type"}:
        raise _refusal(701, "folder cannot be blank")
    # The documents' own samples write "folder" for smart campaigns.
    kind = str(folder["type"]).capitalize()
    if type(folder["id"]) is not int or kind not in {"Folder", "Program"}:
        raise _refusal(711)
    if folder["id"] > GREATEST_ID:
        raise _refusal(701, "The id of the folder is no 32-bit number")
    return {"id": folder["id"], "type": kind}


def _number_in(request: Request) -> int:
    number = request.path_params["number"]
    if not number.isdecimal() or int(number) > GREATEST_ID:
        raise _refusal(610)
    return int(number)


def _parse_number(text: str) -> int:
    if not text.isdecimal():
        raise _refusal(701, "A whole number is expected")
    return int(text)


def _response(result: list[Record]) -> Response:
    content: Record = {"success": True, "errors": [], "requestId": _request_id(), "warnings": []}
    if result:
        content["result"] = result
    else:
        content["warnings"] = ["No assets found for the given search criteria."]
    return JSONResponse(content)


def _refusal(code: int, message: str = "") -> emulation.Refusal:
    error = {"code": str(code), "message": message or ERRORS[code][0]}
    content = {"requestId": _request_id(), "success": False, "errors": [error]}
    return emulation.Refusal(JSONResponse(content))


def _request_id() -> str:
    return f"{secrets.token_hex(2)}#{secrets.token_hex(6)}"


def _denial(status: int, error: str, description: str) -> emulation.Refusal:
    return emulation.Refusal(
        JSONResponse({"error": error, "error_description": description}, status)
    )


async def _no_such_call(_request: Request) -> Response:
    raise _refusal(610)


def create_emulator() -> Starlette:
    marketo = Marketo()
    root = "/rest/asset/v1"
    return emulation.create_app(
        marketo.copies,
        Route("/identity/oauth/token", marketo.sign_in, methods=["GET", "POST"]),
        Route(f"{root}/smartCampaigns.json", marketo.list_smart_campaigns, methods=["GET"]),
        Route(
            f"{root}/smartCampaign/{{number}}.json", marketo.show_smart_campaign, methods=["GET"]
        ),
        Route(
            f"{root}/smartCampaign/{{number}}/clone.json",
            marketo.clone_smart_campaign,
            methods=["POST"],
        ),
        Route(f"{root}/program/byName.json", marketo.find_program, methods=["GET"]),
        Route(f"{root}/program/{{number}}.json", marketo.show_program, methods=["GET"]),
        Route(f"{root}/program/{{number}}/clone.json", marketo.clone_program, methods=["POST"]),
        Route("/rest/{rest:path}", _no_such_call, methods=["GET", "POST"]),
    )
