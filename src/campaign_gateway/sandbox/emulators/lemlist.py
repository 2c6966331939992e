"""A strict stand-in for lemlist's REST API.

Source: lemlist's OpenAPI description v2 (as harvested at github.com/api-evangelist/lemlist on
2026-08-13) and developer.lemlist.com (authentication, errors, rate limits; read 2026-11). Invented,
because no document says it: the texts of the 415, the 429 and the 500, and of a body that is not
JSON; that unknown fields, an empty name and a user name are rejected; that the 401 and the 403 of
the copying call are as those of other calls; limits that are never used up; the copy's creator.
"""

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox import emulation

API_KEY = "sandbox-lemlist-6f2b9c40e1d7"
ACCOUNTS = {"lemlist": {"api_key": API_KEY}}

SOURCES = {
    "cam_A1B2C3D4E5F6G7H8I": "Founders",
    "cam_bSn8EORHQxbWPjHvu": "Product launch",
}
STATUSES = {"running", "draft", "archived", "ended", "paused", "errors"}
USER = "usr_zdTCrNFyXblc4mrYK"
LARGEST_PAGE = 100

INCORRECT = "The authentication you supplied is incorrect"

# Each gets this response: status, text.
REFUSALS = {
    "unauthorized": (401, INCORRECT),
    "forbidden": (403, "User linked to this API key is blocked"),
    "no-user": (404, "No user found for this API key"),
    "rate-limited": (429, "Too Many Requests"),
    "error-500": (500, "Internal Server Error"),
}
# The same in JSON, as the copying call has it.
REFUSALS_IN_JSON = {
    "not-found": (404, "Campaign not found"),
    "invalid": (400, "Bad team"),
}
OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(SOURCES, "copied"),
    **{
        name: f"{status}, {text.lower()}"
        for name, (status, text) in (REFUSALS_IN_JSON | REFUSALS).items()
    },
    "no-user": "404, the key has no user, like a 401",
    **emulation.FAULTS,
}


@dataclass
class Lemlist:
    copies: emulation.Copies = field(default_factory=emulation.Copies)
    campaigns: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for source, name in SOURCES.items():
            self._add(source, name)
        for source in emulation.FAULTS:
            self._add(source, source)

    async def duplicate(self, request: Request) -> Response:
        self.copies.requests += 1
        _check_caller(request)
        body = await _read(request)
        source = request.path_params["campaign_id"]
        if source in REFUSALS:
            raise _refusal(*REFUSALS[source])
        if source in REFUSALS_IN_JSON:
            raise _refusal_in_json(*REFUSALS_IN_JSON[source])
        missing = _refusal_in_json(*REFUSALS_IN_JSON["not-found"])
        name = body.get(
            "name", f"{emulation.look_up(self.campaigns, source, missing)['name']} Copy"
        )

        async def copy() -> Response:
            campaign = self._add(_new_id("cam"), name)
            self.copies.add(source, campaign["_id"], name)
            added = {"sequenceId": _new_id("seq"), "senders": []}
            return JSONResponse({**campaign, **added}, headers=_limit_headers(200))

        return await emulation.misbehave(source, request, copy)

    async def show_team(self, request: Request) -> Response:
        _check_caller(request)
        team = {
            "_id": "tea_b4rMsi2trB5q7XwEz",
            "name": "Sandbox",
            "userIds": [USER],
            "createdBy": USER,
            "createdAt": "2018-02-22T08:52:30.926Z",
        }
        return JSONResponse(team, headers=_limit_headers(200))

    async def list_campaigns(self, request: Request) -> Response:
        _check_caller(request)
        query = {"limit": "100", "offset": "0", **request.query_params}
        if _is_wrong(query):
            raise _refusal(400, "Bad params")
        status, creator = query.get("status"), query.get("createdBy")
        # In the order of creation, which is the one that the list is sorted by.
        campaigns = [
            campaign
            for campaign in self.campaigns.values()
            if status in {None, campaign["status"]} and creator in {None, campaign["createdBy"]}
        ]
        if query.get("sortOrder") == "desc":
            campaigns.reverse()
        size, start = int(query["limit"]), int(query["offset"])
        if "page" in query:
            start = (int(query["page"]) - 1) * size
        return JSONResponse(campaigns[start : start + size], headers=_limit_headers(200))

    async def show_campaign(self, request: Request) -> Response:
        _check_caller(request)
        # Unlike the copying call, this one has its error as plain text.
        missing = _refusal(404, "Campaign not found")
        campaign_id = request.path_params["campaign_id"]
        campaign = dict(emulation.look_up(self.campaigns, campaign_id, missing))
        user = campaign.pop("createdBy")
        creator = {"userId": user, "userEmail": "sandbox@example.com"}
        content = {**campaign, "creator": creator, "senders": []}
        return JSONResponse(content, headers=_limit_headers(200))

    def _add(self, campaign_id: str, name: str) -> dict[str, Any]:
        campaign = {
            "_id": campaign_id,
            "name": name,
            "labels": [],
            "createdAt": emulation.utc_now(),
            "createdBy": USER,
            "status": "draft",
        }
        self.campaigns[campaign_id] = campaign
        return campaign


def _check_caller(request: Request) -> None:
    """Check Basic authentication, whose user name is always empty."""
    authorization = request.headers.get("authorization", "")
    if not authorization:
        raise _refusal(400, "No API key provided")
    if authorization != f"Basic {base64.b64encode(f':{API_KEY}'.encode()).decode()}":
        raise _refusal(401, INCORRECT)


async def _read(request: Request) -> dict[str, Any]:
    """Return the body of a copying call, which may have none. Raises `Refusal`."""
    if not await request.body():
        return {}
    body = await emulation.read_json(
        request,
        _refusal_in_json(415, "Unsupported Media Type"),
        _refusal_in_json(400, "Bad request"),
    )
    name = body.get("name", "a name") if isinstance(body, dict) else None
    if not isinstance(name, str) or not name.strip() or set(body) - {"name"}:
        raise _refusal_in_json(400, "Bad params")
    return dict(body)


def _is_wrong(query: Mapping[str, str]) -> bool:
    numbers = [query["limit"], query["offset"], query.get("page", "1")]
    if not all(number.isascii() and number.isdecimal() for number in numbers):
        return True
    return (
        not 1 <= int(query["limit"]) <= LARGEST_PAGE
        or int(query.get("page", "1")) < 1
        or query.get("version", "v2") != "v2"
        or query.get("sortBy", "createdAt") != "createdAt"
        or query.get("status", "draft") not in STATUSES
    )


def _new_id(prefix: str) -> str:
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
    return f"{prefix}_{''.join(secrets.choice(letters) for _ in range(17))}"


def _refusal(status: int, text: str) -> emulation.Refusal:
    return emulation.Refusal(PlainTextResponse(text, status, _limit_headers(status)))


def _refusal_in_json(status: int, text: str) -> emulation.Refusal:
    return emulation.Refusal(JSONResponse({"error": text}, status, _limit_headers(status)))


def _limit_headers(status: int) -> Mapping[str, str]:
    """Return what every response says about the limit. The reset is text for people."""
    resets_at = datetime.now(UTC) + timedelta(seconds=emulation.LIMIT_SECONDS)
    return {
        "Retry-After": str(emulation.LIMIT_SECONDS),
        "X-RateLimit-Limit": "20",
        "X-RateLimit-Remaining": "0" if status == 429 else "19",
        "X-RateLimit-Reset": f"{resets_at:%a %b %d %Y %H:%M:%S} GMT+0000 (Greenwich Mean Time)",
    }


def create_emulator() -> Starlette:
    lemlist = Lemlist()
    campaigns = "/api/campaigns"
    campaign = f"{campaigns}/{{campaign_id}}"
    return emulation.create_app(
        lemlist.copies,
        Route("/api/team", lemlist.show_team, methods=["GET"]),
        Route(campaigns, lemlist.list_campaigns, methods=["GET"]),
        Route(campaign, lemlist.show_campaign, methods=["GET"]),
        Route(f"{campaign}/duplicate", lemlist.duplicate, methods=["POST"]),
    )
