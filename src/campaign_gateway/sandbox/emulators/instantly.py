"""A strict stand-in for Instantly's REST API, version 2.

Source: Instantly's OpenAPI description of API v2 (as harvested at
github.com/api-evangelist/instantly-ai on 2026-08-13) and Instantly's page on conventions, read
2026-11. Invented, because no document says it: that a copy is a draft; the order of the list, how
many campaigns it has without a `limit`, and that a search finds parts of names and ignores the
case; the texts of the 400s but "New campaign name is required", of a 401 to a wrong key, of the 403
and of the 500; the 415; that unknown fields and parameters are rejected; that ids may be words.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox import emulation

API_KEY = "c2FuZGJveC1pbnN0YW50bHk6N2QwMWJm"
ACCOUNTS = {"instantly": {"api_key": API_KEY}}

# An account whose secret is valid, and lacks a permission that the gateway needs.
LIMITED_KEY = "c2FuZGJveC1saW1pdGVkOjQ0YzlhMg"
LIMITED_ACCOUNT = {"api_key": LIMITED_KEY}
SCOPES = {
    f"Bearer {API_KEY}": {"campaigns:create", "campaigns:read"},
    f"Bearer {LIMITED_KEY}": {"campaigns:create"},
}

SOURCES = {
    "019ffad2-5c4b-761a-9bc4-0599e8a95bea": "Agencies",
    "019ffad2-9b9d-70ff-a76b-0e093eb63e6c": "Agencies, reminder",
}
STATUSES = {"-99", "-2", "-1", "0", "1", "2", "3", "4"}
PARAMETERS = {"limit", "starting_after", "search", "status", "exclude_status"}
LARGEST_PAGE = 100

TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    500: "Internal Server Error",
}

# Each gets this response: status, message.
REFUSALS = {
    "not-found": (404, "Resource not found"),
    "unauthorized": (401, "Missing Authorization header"),
    "no-plan": (402, "Workspace does not have an active paid plan"),
    "forbidden": (403, "The scope of the API key does not allow this action"),
    "rate-limited": (429, "Rate limit exceeded"),
    "error-500": (500, "Something went wrong"),
}
OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(SOURCES, "copied"),
    "invalid": "400, the duplication has failed",
    **{name: f"{status}, {message.lower()}" for name, (status, message) in REFUSALS.items()},
    **emulation.FAULTS,
}


@dataclass
class Instantly:
    copies: emulation.Copies = field(default_factory=emulation.Copies)
    campaigns: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for source, name in SOURCES.items():
            self._add(source, name)
        for source in emulation.FAULTS:
            self._add(source, source)

    async def duplicate(self, request: Request) -> Response:
        self.copies.requests += 1
        _check_caller(request, "campaigns:create")
        body = await _read(request)
        source = request.path_params["id"]
        if source in REFUSALS:
            raise _refusal(*REFUSALS[source])
        if source == "invalid":
            raise _failed("The campaign could not be duplicated")
        missing = _refusal(*REFUSALS["not-found"])
        source_name = emulation.look_up(self.campaigns, source, missing)["name"]

        async def copy() -> Response:
            campaign = self._add(str(uuid.uuid4()), body.get("name", f"{source_name} (copy)"))
            self.copies.add(source, campaign["id"], campaign["name"])
            return JSONResponse(campaign)

        return await emulation.misbehave(source, request, copy)

    async def list_campaigns(self, request: Request) -> Response:
        _check_caller(request, "campaigns:read")
        query = dict(request.query_params)
        if mistake := _mistake_in(query):
            raise _refusal(400, mistake)
        campaigns = [one for one in reversed(self.campaigns.values()) if _matches(one, query)]
        after = query.get("starting_after")
        ids = [campaign["id"] for campaign in campaigns]
        if after is not None and after not in ids:
            raise _refusal(400, "querystring/starting_after must be the id of a campaign")
        start = 0 if after is None else ids.index(after) + 1
        page = campaigns[start : start + int(query.get("limit", "10"))]
        # A page that is full has a cursor, even if there is nothing after it.
        is_full = len(page) == int(query.get("limit", "10"))
        cursor = {"next_starting_after": page[-1]["id"]} if is_full else {}
        return JSONResponse({"items": page, **cursor})

    async def show_campaign(self, request: Request) -> Response:
        _check_caller(request, "campaigns:read")
        missing = _refusal(*REFUSALS["not-found"])
        return JSONResponse(emulation.look_up(self.campaigns, request.path_params["id"], missing))

    def _add(self, campaign_id: str, name: str) -> dict[str, Any]:
        now = emulation.utc_now()
        hours = {"from": "09:00", "to": "17:00"}
        days = {str(day): 1 <= day <= 5 for day in range(7)}
        schedule = {
            "name": "My Schedule",
            "timing": hours,
            "days": days,
            "timezone": "Etc/GMT+12",
        }
        campaign = {
            "id": campaign_id,
            "name": name,
            "status": 0,
            "campaign_schedule": {"schedules": [schedule]},
            "sequences": [],
            "timestamp_created": now,
            "timestamp_updated": now,
            "email_list": ["john@doe.com"],
            "daily_limit": 100,
            "stop_on_reply": True,
            "organization": "019ffad2-5c4b-761a-9bc4-059bb9fa11bf",
        }
        self.campaigns[campaign_id] = campaign
        return campaign


def _check_caller(request: Request, scope: str) -> None:
    authorization = request.headers.get("authorization", "")
    if not authorization:
        raise _refusal(*REFUSALS["unauthorized"])
    if scope not in emulation.look_up(SCOPES, authorization, _refusal(401, "Invalid API key")):
        raise _refusal(*REFUSALS["forbidden"])


async def _read(request: Request) -> dict[str, Any]:
    """Return the body of a copying call, which may have none. Raises `Refusal`."""
    if not await request.body():
        return {}
    body = await emulation.read_json(
        request,
        _refusal(415, "The media type must be application/json"),
        _failed("The body is not JSON"),
    )
    if not isinstance(body, dict) or set(body) - {"name"}:
        raise _failed("body must be an object with a name")
    if not isinstance(body.get("name", ""), str):
        raise _failed("body/name must be string")
    if not body.get("name", "a name").strip():
        raise _failed("New campaign name is required")
    return dict(body)


def _mistake_in(query: Mapping[str, str]) -> str | None:
    if unknown := set(query) - PARAMETERS:
        return f"querystring/{min(unknown)} is not a parameter"
    limit = query.get("limit", "10")
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit) <= LARGEST_PAGE):
        return f"querystring/limit must be from 1 to {LARGEST_PAGE}"
    for name in ("status", "exclude_status"):
        if query.get(name, "0") not in STATUSES:
            return f"querystring/{name} must be equal to one of the allowed values"
    return None


def _matches(campaign: dict[str, Any], query: Mapping[str, str]) -> bool:
    status = str(campaign["status"])
    return (
        query.get("search", "").lower() in campaign["name"].lower()
        and query.get("status", status) == status
        and query.get("exclude_status") != status
    )


def _refusal(status: int, message: str) -> emulation.Refusal:
    content = {"statusCode": status, "error": TITLES[status], "message": message}
    return emulation.Refusal(JSONResponse(content, status))


def _failed(message: str) -> emulation.Refusal:
    """Return the 400 of the copying call, which has a message and nothing else."""
    return emulation.Refusal(JSONResponse({"message": message}, 400))


def create_emulator() -> Starlette:
    instantly = Instantly()
    campaigns = "/api/v2/campaigns"
    campaign = f"{campaigns}/{{id}}"
    return emulation.create_app(
        instantly.copies,
        Route(campaigns, instantly.list_campaigns, methods=["GET"]),
        Route(campaign, instantly.show_campaign, methods=["GET"]),
        Route(f"{campaign}/duplicate", instantly.duplicate, methods=["POST"]),
    )
