"""A strict stand-in for dotdigital's REST API of email campaigns, version 2.

Source: dotdigital's descriptions "Email campaigns" 2.1.1 and "apiconnector.com" v2, its error
codes, conventions and rate limits, as harvested at github.com/api-evangelist/dotdigital on
2026-08-13, and developer.dotdigital.com (all read 2026-11). From there are the paths, Basic
authentication, the 201 of a copy (the first description has 200), the keys and statuses of a
campaign, the name "Copy of ...", the fields that a change requires, the parameters of the list and
its pages, the codes in messages, the 403 of another region, the 400 of the older limit, and the
headers of a limit. The message of the 401 is that of dotdigital's own client. Invented, because no
document that was read says it: which status a code has; the messages around the codes; that a list
rejects unknown parameters; the order of the list; what `fromName` is. A body of the copying call is
ignored.
"""

import base64
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox import emulation

USER, PASSWORD = "apiuser-5c1d90e2@apiconnector.com", "sandbox-dotdigital-81f3c7"
ACCOUNTS = {"dotdigital": {"user": USER, "password": PASSWORD}}
AUTHORIZATION = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"

LONGEST_NAME = 255
LONGEST_PAGE = 1000

# Each campaign's name and status.
SOURCES = {1045: ("Spring sale", "Unsent"), 1046: ("Winter sale", "Sent")}
SPLIT_TEST = 1047

# Each gets this response: status, message.
INVALID, UNKNOWN, UNAUTHORIZED, INTERNAL_ERROR = 9400, 9404, 9401, 9500
REFUSALS = {
    INVALID: (400, "Error: ERROR_CAMPAIGN_INVALID"),
    9430: (400, "Your account has generated excess API activity. ERROR_APIUSAGE_EXCEEDED"),
    UNKNOWN: (404, "Error: ERROR_CAMPAIGN_NOT_FOUND"),
    UNAUTHORIZED: (401, "Authorization has been denied for this request."),
    9403: (403, "Forbidden: Access is denied"),
    9429: (429, "Too Many Requests"),
    INTERNAL_ERROR: (500, "Error: ERROR_UNKNOWN"),
}

# The result of the second call, which sets the copy's name.
RENAMES = {
    9101: "copied, then the new name is refused",
    9102: "copied, then the new name gets a server error",
    9103: "copied, then the connection is closed during the call for the new name",
}

# Ids are numbers here, so each fault has one.
FAULT_IDS = {9001 + number: fault for number, fault in enumerate(emulation.FAULTS)}

OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(SOURCES, "copied"),
    SPLIT_TEST: "copied, then the new name is not sent, because it is a split test",
    **{number: f"{status}, {message.lower()}" for number, (status, message) in REFUSALS.items()},
    9430: "400, too many calls: the older limit, in place of a 429",
    UNKNOWN: "404, the campaign is not found",
    **RENAMES,
    **{number: f"{fault}: {emulation.FAULTS[fault]}" for number, fault in FAULT_IDS.items()},
}

# The fields of a change, and whether it requires them.
CONTENT = ("name", "subject", "fromName", "htmlContent", "plainTextContent")
OTHERS = ("id", "fromAddress", "replyAction", "replyToAddress", "isSplitTest", "status")

PARAMETERS = {
    *("select", "skip", "~type", "~tags", "~sentDate", "~statuses"),
    *("~scheduledDateFrom", "~scheduledDateTo"),
}

Campaign = dict[str, Any]


@dataclass
class Dotdigital:
    copies: emulation.Copies = field(default_factory=emulation.Copies)
    campaigns: dict[int, Campaign] = field(default_factory=dict)
    last_id: int = 20_000

    def __post_init__(self) -> None:
        for number, (name, status) in SOURCES.items():
            self._add(number, name, status=status)
        self._add(SPLIT_TEST, "Two subjects", isSplitTest=True)
        for number, name in {**dict.fromkeys(RENAMES, "Summer sale"), **FAULT_IDS}.items():
            self._add(number, name)

    async def copy_campaign(self, request: Request) -> Response:
        self.copies.requests += 1
        _check_caller(request)
        if request.path_params["id"] in REFUSALS:
            raise _refusal(request.path_params["id"])
        source = self._find(request)

        async def copy() -> Response:
            self.last_id += 1
            name, is_split_test = f"Copy of {source['name']}", source["isSplitTest"]
            campaign = self._add(self.last_id, name, isSplitTest=is_split_test)
            self.copies.add(str(source["id"]), str(self.last_id), name)
            return JSONResponse(campaign, 201)

        return await emulation.misbehave(FAULT_IDS.get(source["id"]), request, copy)

    async def update(self, request: Request) -> Response:
        _check_caller(request)
        campaign = self._find(request)
        wrong = _error(400, "Error: ERROR_CONTENT_TYPE_IS_NOT_SUPPORTED")
        malformed = _error(400, "Error: ERROR_BODY_DOES_NOT_MATCH_CONTENT_TYPE")
        body = await emulation.read_json(request, wrong, malformed)
        _check_body(body)
        if campaign["status"] != "Unsent":
            raise _error(400, "Error: ERROR_CAMPAIGN_READONLY")
        source = int(self.copies.source_of(str(campaign["id"])) or 0)
        if source == 9101:
            raise _error(400, "Error: ERROR_CAMPAIGN_INVALID")
        if source == 9102:
            raise _refusal(INTERNAL_ERROR)

        async def change() -> Response:
            campaign.update({name: body[name] for name in CONTENT})
            self.copies.rename(str(campaign["id"]), campaign["name"])
            return JSONResponse(campaign)

        fault = "cut-before-copy" if source == 9103 else None
        return await emulation.misbehave(fault, request, change)

    async def show(self, request: Request) -> Response:
        _check_caller(request)
        return JSONResponse(self._find(request))

    async def list_campaigns(self, request: Request) -> Response:
        _check_caller(request)
        query = request.query_params
        select, skip = query.get("select", str(LONGEST_PAGE)), query.get("skip", "1")
        is_page = select.isdecimal() and 1 <= int(select) <= LONGEST_PAGE
        if not is_page or not skip.isdecimal() or int(skip) < 1 or not set(query) <= PARAMETERS:
            raise _error(400, "Error: ERROR_PARAMETER_INVALID")
        start = int(query.get("skip", "0"))
        statuses = query.getlist("~statuses")
        listed = [
            _list_item(campaign)
            for _, campaign in sorted(self.campaigns.items())
            if not statuses or campaign["status"] in statuses
        ]
        return JSONResponse(listed[start : start + int(select)])

    def _find(self, request: Request) -> Campaign:
        return emulation.look_up(self.campaigns, request.path_params["id"], _refusal(UNKNOWN))

    def _add(self, number: int, name: str, **more: object) -> Campaign:
        self.campaigns[number] = {
            "id": number,
            "name": name,
            "subject": "The sale has begun",
            "fromName": "Sandbox",
            "fromAddress": {"id": 133618, "email": "sandbox@example.com"},
            "htmlContent": '<p>It has begun.</p>\r\n<a href="http://$UNSUB$">Unsubscribe</a>',
            "plainTextContent": "It has begun.\r\n---\r\nWant to unsubscribe? $UNSUB$",
            "replyAction": "Unset",
            "replyToAddress": "",
            "isSplitTest": False,
            "status": "Unsent",
            **more,
        }
        return self.campaigns[number]


def _list_item(campaign: Campaign) -> Campaign:
    """Return it as a list does: without its content, and with its type and dates."""
    content = {"htmlContent": None, "plainTextContent": None}
    more: Campaign = {"type": "Standard", "tags": [], "sentDate": None, "scheduledDate": None}
    return {**campaign, **content, **more}


def _check_caller(request: Request) -> None:
    if request.headers.get("authorization") != AUTHORIZATION:
        raise _refusal(UNAUTHORIZED)


def _check_body(body: object) -> None:
    is_known = isinstance(body, dict) and set(body) <= {*CONTENT, *OTHERS}
    if not isinstance(body, dict) or not is_known:
        raise _error(400, "Error: ERROR_MALFORMED_REQUEST")
    values = [body.get(name) for name in CONTENT]
    if not all(isinstance(value, str) and value for value in values):
        raise _error(400, "Error: ERROR_CAMPAIGN_INVALID")
    if len(body["name"]) > LONGEST_NAME or "<body" in body["htmlContent"]:
        raise _error(400, "Error: ERROR_CAMPAIGN_INVALID")


def _refusal(number: int) -> emulation.Refusal:
    status, message = REFUSALS[number]
    limit = {
        "X-RateLimit-Limit": "2000",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(round(time.time()) + emulation.LIMIT_SECONDS),
        "X-RateLimit-Scope": "medium",
    }
    return _error(status, message, limit if status == 429 else None)


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> emulation.Refusal:
    return emulation.Refusal(JSONResponse({"message": message}, status, headers))


def create_emulator() -> Starlette:
    dotdigital = Dotdigital()
    campaign = "/v2/campaigns/{id:int}"
    return emulation.create_app(
        dotdigital.copies,
        Route("/v2/campaigns/filtered", dotdigital.list_campaigns, methods=["GET"]),
        Route(campaign, dotdigital.show, methods=["GET"]),
        Route(campaign, dotdigital.update, methods=["PUT"]),
        Route(f"{campaign}/copy", dotdigital.copy_campaign, methods=["POST"]),
    )
