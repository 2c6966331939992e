"""A strict stand-in for Omnisend's REST API of campaigns.

Source: Omnisend's OpenAPI description "Campaigns API" of version 2026-03-15 and
api-docs.omnisend.com (campaigns, responses, pagination, sorting; read 2026-11). The 401 is as a
public client has measured it. Invented, because no document says it: the `type` of a 403; every
`type` that is ".../problem"; all details; the codes of wrong fields but "required" and
"invalid_format"; that a missing or malformed version is a 400 and another media type a 415; that a
name must not be empty and that a search ignores its case; the format of a cursor; that a draft has
neither `startedAt` nor `endedAt`. A body of the copying call is ignored, and so are undocumented
fields: the documents say only about the list that it rejects unknown parameters.
"""

import base64
import re
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox.emulation import FAULTS, Copies, emulator, misbehave

API_KEY = "65f2c1d4sandbox-k3Vb9QeXn2"
ACCOUNTS = {"omnisend": {"api_key": API_KEY}}
OLDEST_VERSION = "2026-03-15"
LONGEST_NAME = 250

# Each campaign's name and status at Omnisend.
SOURCES = {
    "65f2c1d47a9b3e0012ab34cd": ("Spring sale", "draft"),
    "65e0b7a91c4d2f0013cd56ef": ("Winter sale", "sent"),
}

# Each gets this response: status, the end of the problem's type, title, detail.
REFUSALS = {
    "not-found": (404, "not-found", "Not found", "The campaign was not found."),
    "invalid": (400, "validation-failed", "Validation failed", "One or more fields are invalid."),
    "unauthorized": (401, "unauthorized", "Unauthorized", None),
    "forbidden": (403, "forbidden", "Forbidden", "The scope campaigns.write is missing."),
    "unsupported": (422, "problem", "Unprocessable entity", "Campaign type is not supported."),
    "rate-limited": (429, "rate-limit-exceeded", "Rate limit exceeded", "Too many requests."),
    "error-500": (500, "problem", "Internal server error", "An unexpected error occurred."),
}

# The result of the second call, which sets the copy's name.
RENAMES = {
    "rename-refused": "copied, then the new name is refused",
    "rename-error-500": "copied, then the new name is met with a server error",
    "rename-cut": "copied, then the new name is lost with the connection",
}

OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(SOURCES, "copied"),
    **{name: f"{status}, {title.lower()}" for name, (status, _, title, _) in REFUSALS.items()},
    **RENAMES,
    **FAULTS,
}

# The list's parameters besides times and cursors, with their allowed values.
WORDS = {
    "sort": {"createdAt", "updatedAt", "name"},
    "direction": {"asc", "desc"},
    "status": {
        *("draft", "scheduled", "started", "paused", "onHold", "stopped"),
        *("sent", "canceled", "expired", "error"),
    },
    "channel": {"email", "sms", "push"},
    "type": {"regular", "booster", "abTest"},
}
TIMES = {"createdAtFrom", "createdAtTo", "updatedAtFrom", "updatedAtTo"}
PAGING = {"limit", "after", "before"}
PARAMETERS = {*WORDS, *TIMES, *PAGING, "nameContains", "parentCampaignID"}
Parameters = list[tuple[str, str]]


@dataclass
class Omnisend:
    copies: Copies = field(default_factory=Copies)
    campaigns: list[dict[str, Any]] = field(default_factory=list)
    cursors: dict[str, tuple[Parameters, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for source, (name, status) in SOURCES.items():
            self._add(source, name, status)

    async def copy_campaign(self, request: Request) -> Response:
        self.copies.asked += 1
        if refusal := _refuse_caller(request):
            return refusal
        source = request.path_params["id"]
        if source in REFUSALS:
            return _refuse(source)
        found = self._find(source)
        if found is None and source not in OUTCOMES:
            return _refuse("not-found")
        name = found["name"] if found else source

        async def copy() -> Response:
            made = self._add(secrets.token_hex(12), f"Copy of: {name}", "draft")
            self.copies.add(source, made["id"], made["name"])
            return JSONResponse(made, 201)

        return await misbehave(source, request, copy)

    async def update(self, request: Request) -> Response:
        if refusal := _refuse_caller(request):
            return refusal
        campaign = self._find(request.path_params["id"])
        if campaign is None:
            return _refuse("not-found")
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            return _problem(415, "problem", "Unsupported media type", "Send application/json.")
        try:
            sent = await request.json()
        except ValueError:
            return _invalid("body", "invalid_format", "Must be JSON")
        if mistake := _mistake_in(sent):
            return mistake
        if campaign["status"] != "draft":
            detail = "Campaign state does not allow modification."
            return _problem(409, "problem", "Conflict", detail)
        made_from = {each["id"]: each["source"] for each in self.copies.made}
        trouble = made_from.get(campaign["id"])
        if trouble == "rename-refused":
            return _invalid("name", "invalid_value", "Must not be this name")
        if trouble == "rename-error-500":
            return _refuse("error-500")

        async def rename() -> Response:
            campaign["name"] = sent.get("name", campaign["name"])
            campaign["updatedAt"] = _now()
            self.copies.rename(campaign["id"], campaign["name"])
            return JSONResponse(campaign)

        fault = "cut-before-copy" if trouble == "rename-cut" else None
        return await misbehave(fault, request, rename)

    async def show(self, request: Request) -> Response:
        if refusal := _refuse_caller(request):
            return refusal
        campaign = self._find(request.path_params["id"])
        return _refuse("not-found") if campaign is None else JSONResponse(campaign)

    async def list_campaigns(self, request: Request) -> Response:
        if refusal := _refuse_caller(request) or _mistake_in_query(request):
            return refusal
        given = request.query_params
        limit = int(given.get("limit", "100"))
        wanted = sorted(each for each in given.multi_items() if each[0] not in PAGING)
        start = 0
        if cursor := given.get("after") or given.get("before"):
            place = self.cursors.get(cursor)
            if place is None or (wanted and wanted != place[0]):
                return _invalid("cursor", "invalid_value", "Must go with the same parameters")
            wanted, start = place
            if "before" in given:
                start, limit = max(0, start - limit), min(limit, start)
        found = _chosen(self.campaigns, wanted)
        end = start + limit
        cursors = {
            "before": self._cursor(wanted, start) if start > 0 else None,
            "after": self._cursor(wanted, end) if end < len(found) else None,
        }
        paging = {"limit": limit, "hasMore": end < len(found), "cursors": cursors}
        return JSONResponse({"campaigns": found[start:end], "paging": paging})

    def _cursor(self, wanted: Parameters, start: int) -> str:
        cursor = base64.b64encode(secrets.token_bytes(16)).decode()
        self.cursors[cursor] = (wanted, start)
        return cursor

    def _find(self, campaign_id: str) -> dict[str, Any] | None:
        return next((each for each in self.campaigns if each["id"] == campaign_id), None)

    def _add(self, campaign_id: str, name: str, status: str) -> dict[str, Any]:
        now = _now()
        campaign = {
            "id": campaign_id,
            "brandID": "5f8d0a3b6c1e4d0014ef78ab",
            "name": name,
            "status": status,
            "type": "regular",
            "channel": "email",
            "language": "en_US",
            "audience": {"includedSegmentIDs": [], "excludedSegmentIDs": []},
            "content": {
                "email": {
                    "contentID": secrets.token_hex(12),
                    "subject": "The sale has begun",
                    "preheader": "Discover what we have in store for you",
                    "senderName": "Sandbox",
                    "senderEmail": "sandbox@example.com",
                    "replyToEmail": "sandbox@example.com",
                }
            },
            "sendingSettings": {"strategy": "immediate", "isTZOptimizationEnabled": False},
            "createdAt": now,
            "updatedAt": now,
        }
        if status == "sent":
            campaign |= {"startedAt": now, "endedAt": now}
        self.campaigns.append(campaign)
        return campaign


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _refuse_caller(request: Request) -> Response | None:
    if request.headers.get("authorization") != f"Omnisend-API-Key {API_KEY}":
        return _refuse("unauthorized")
    version = request.headers.get("omnisend-version", "")
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", version):
        return _invalid("Omnisend-Version", "required", "Omnisend-Version is required")
    # A date after a release means that release.
    if version < OLDEST_VERSION:
        return _problem(410, "problem", "Gone", "API version has been retired.")
    return None


def _mistake_in(sent: object) -> Response | None:
    if not isinstance(sent, dict):
        return _invalid("body", "invalid_type", "Must be an object")
    name = sent.get("name", "a name")
    if not isinstance(name, str):
        return _invalid("name", "invalid_type", "Must be a string")
    if not name:
        return _invalid("name", "required", "Name is required")
    if len(name) > LONGEST_NAME:
        return _invalid("name", "too_long", f"Must be at most {LONGEST_NAME} characters")
    return None


def _mistake_in_query(request: Request) -> Response | None:
    given = request.query_params
    if unknown := set(given) - PARAMETERS:
        return _invalid(min(unknown), "unknown", "Is not a parameter")
    limit = given.get("limit", "100")
    if not limit.isdecimal() or not 1 <= int(limit) <= 250:
        return _invalid("limit", "invalid_value", "Must be between 1 and 250")
    for name, words in WORDS.items():
        if not set(given.getlist(name)) <= words:
            return _invalid(name, "invalid_value", "Is not one of the values")
    if "direction" in given and "sort" not in given:
        return _invalid("direction", "invalid_value", "Must go with sort")
    if "after" in given and "before" in given:
        return _invalid("before", "invalid_value", "Must not go with after")
    if len(given.get("nameContains", "")) > 200:
        return _invalid("nameContains", "too_long", "Must be at most 200 characters")
    for name in TIMES & set(given):
        try:
            datetime.fromisoformat(given[name])
        except ValueError:
            return _invalid(name, "invalid_format", "Must be a timestamp")
    return None


def _chosen(campaigns: list[dict[str, Any]], wanted: Parameters) -> list[dict[str, Any]]:
    """Return the matching campaigns, sorted by time and, within a second, by creation."""
    given = dict(wanted)
    sort, descending = given.get("sort", "createdAt"), given.get("direction", "desc") == "desc"
    ordered = sorted(enumerate(campaigns), key=lambda each: (each[1][sort], each[0]))
    fitting = [each for _, each in ordered if _fits(each, wanted)]
    return fitting[::-1] if descending else fitting


def _fits(campaign: dict[str, Any], wanted: Parameters) -> bool:
    given = dict(wanted)
    return (
        all(
            campaign[name] in {each for key, each in wanted if key == name}
            for name in ("status", "channel", "type")
            if name in given
        )
        and given.get("nameContains", "").lower() in campaign["name"].lower()
        and "parentCampaignID" not in given
        and all(campaign[name[:9]] >= given[name] for name in given if name.endswith("From"))
        and all(campaign[name[:9]] <= given[name] for name in given if name.endswith("To"))
    )


def _refuse(source: str) -> Response:
    if source == "invalid":
        return _invalid("id", "invalid_format", "Must be a 24 character hexadecimal string")
    status, kind, title, detail = REFUSALS[source]
    seconds = {"retryAfter": 30} if status == 429 else {}
    return _problem(status, kind, title, detail, **seconds)


def _invalid(about: str, code: str, message: str) -> Response:
    status, kind, title, detail = REFUSALS["invalid"]
    mistake = {"field": about, "code": code, "message": message}
    return _problem(status, kind, title, detail, errors=[mistake])


def _problem(status: int, kind: str, title: str, detail: str | None, **more: object) -> Response:
    problem: dict[str, Any] = {
        "type": f"https://problems.omnisend.com/{kind}",
        "title": title,
        "status": status,
    }
    if detail is not None:
        problem |= {"detail": detail, "instance": f"urn:omnisend:request:{uuid.uuid4()}"}
    return JSONResponse({**problem, **more}, status)


def create_emulator() -> Starlette:
    omnisend = Omnisend()
    campaigns = "/api/campaigns"
    campaign = f"{campaigns}/{{id}}"
    return emulator(
        omnisend.copies,
        Route(campaigns, omnisend.list_campaigns, methods=["GET"]),
        Route(campaign, omnisend.show, methods=["GET"]),
        Route(campaign, omnisend.update, methods=["PATCH"]),
        Route(f"{campaign}/copy", omnisend.copy_campaign, methods=["POST"]),
    )
