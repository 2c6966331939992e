"""A strict stand-in for Omnisend's REST API of campaigns.

Source: Omnisend's OpenAPI description "Campaigns API" of version 2026-03-15 and api-
docs.omnisend.com (campaigns, responses, pagination, sorting; read 2026-11). The 401 is as a public
client has measured it. Invented, because no document says it: the `type` of a 403; every `type`
that is ".../problem"; all details; the codes of wrong fields but "required" and "invalid_format";
that a missing or malformed version is a 400 and another media type a 415; that a name must not be
empty, the codes of wrong settings, and that a search ignores its case; the format of a cursor; that
a draft has neither `startedAt` nor `endedAt`. A body of the copying call is ignored, and so are
undocumented fields: the documents say only about the list that it rejects unknown parameters.
"""

import base64
import re
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox import emulation

API_KEY = "65f2c1d4sandbox-k3Vb9QeXn2"
ACCOUNTS = {"omnisend": {"api_key": API_KEY}}

# An account whose secret is valid, and lacks a permission that the gateway needs.
LIMITED_KEY = "65f2c1d4limited-p9Wm2"
LIMITED_ACCOUNT = {"api_key": LIMITED_KEY}
SCOPES = {
    f"Omnisend-API-Key {API_KEY}": {"campaigns.read", "campaigns.write"},
    f"Omnisend-API-Key {LIMITED_KEY}": {"campaigns.write"},
}
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
    "rename-error-500": "copied, then the new name gets a server error",
    "rename-cut": "copied, then the connection is closed during the call for the new name",
}

OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(SOURCES, "copied"),
    **{name: f"{status}, {title.lower()}" for name, (status, _, title, _) in REFUSALS.items()},
    **RENAMES,
    **emulation.FAULTS,
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
    copies: emulation.Copies = field(default_factory=emulation.Copies)
    campaigns: dict[str, dict[str, Any]] = field(default_factory=dict)
    cursors: dict[str, tuple[Parameters, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for source, (name, status) in SOURCES.items():
            self._add(source, name, status)
        for source in emulation.FAULTS:
            self._add(source, source, "draft")

    async def copy_campaign(self, request: Request) -> Response:
        self.copies.requests += 1
        _check_caller(request, "campaigns.write")
        source = request.path_params["id"]
        if source in REFUSALS:
            raise _refusal(source)
        if source not in self.campaigns and source not in OUTCOMES:
            raise _refusal("not-found")

        async def copy() -> Response:
            name = self.campaigns.get(source, {"name": source})["name"]
            campaign = self._add(secrets.token_hex(12), f"Copy of: {name}", "draft")
            self.copies.add(source, campaign["id"], campaign["name"])
            return JSONResponse(campaign, 201)

        return await emulation.misbehave(source, request, copy)

    async def update(self, request: Request) -> Response:
        campaign = self._find(request, "campaigns.write")
        body = await emulation.read_json(
            request,
            _problem(415, "problem", "Unsupported media type", "Send application/json."),
            _invalid("body", "invalid_format", "Must be JSON"),
        )
        _check_body(body)
        if campaign["status"] != "draft":
            detail = "Campaign state does not allow modification."
            raise _problem(409, "problem", "Conflict", detail)
        source = self.copies.source_of(campaign["id"])
        if source == "rename-refused":
            raise _invalid("name", "invalid_value", "Must not be this name")
        if source == "rename-error-500":
            raise _refusal("error-500")

        async def rename() -> Response:
            campaign["name"] = body.get("name", campaign["name"])
            campaign["content"]["email"] |= body.get("content", {}).get("email", {})
            for part in ("audience", "sendingSettings"):
                campaign[part] = body.get(part, campaign[part])
            campaign["updatedAt"] = emulation.utc_now("seconds")
            self.copies.rename(campaign["id"], campaign["name"])
            return JSONResponse(campaign)

        fault = "cut-before-copy" if source == "rename-cut" else None
        return await emulation.misbehave(fault, request, rename)

    async def show(self, request: Request) -> Response:
        return JSONResponse(self._find(request, "campaigns.read"))

    async def list_campaigns(self, request: Request) -> Response:
        _check_caller(request, "campaigns.read")
        _check_query(request)
        query = request.query_params
        limit = int(query.get("limit", "100"))
        criteria = sorted(item for item in query.multi_items() if item[0] not in PAGING)
        start = 0
        if cursor := query.get("after") or query.get("before"):
            page = self.cursors.get(cursor)
            if page is None or (criteria and criteria != page[0]):
                raise _invalid("cursor", "invalid_value", "Must go with the same parameters")
            criteria, start = page
            if "before" in query:
                start, limit = max(0, start - limit), min(limit, start)
        matches = _select(list(self.campaigns.values()), criteria)
        end = start + limit
        cursors = {
            "before": self._cursor(criteria, start) if start > 0 else None,
            "after": self._cursor(criteria, end) if end < len(matches) else None,
        }
        paging = {"limit": limit, "hasMore": end < len(matches), "cursors": cursors}
        return JSONResponse({"campaigns": matches[start:end], "paging": paging})

    def _cursor(self, criteria: Parameters, start: int) -> str:
        cursor = base64.b64encode(secrets.token_bytes(16)).decode()
        self.cursors[cursor] = (criteria, start)
        return cursor

    def _find(self, request: Request, scope: str) -> dict[str, Any]:
        _check_caller(request, scope)
        return emulation.look_up(self.campaigns, request.path_params["id"], _refusal("not-found"))

    def _add(self, campaign_id: str, name: str, status: str) -> dict[str, Any]:
        now = emulation.utc_now("seconds")
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
        self.campaigns[campaign_id] = campaign
        return campaign


def _check_caller(request: Request, scope: str) -> None:
    authorization = request.headers.get("authorization", "")
    if scope not in emulation.look_up(SCOPES, authorization, _refusal("unauthorized")):
        status, kind, title, _ = REFUSALS["forbidden"]
        raise _problem(status, kind, title, f"The scope {scope} is missing.")
    version = request.headers.get("omnisend-version", "")
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", version):
        raise _invalid("Omnisend-Version", "required", "Omnisend-Version is required")
    # A date after a release means that release.
    if version < OLDEST_VERSION:
        raise _problem(410, "problem", "Gone", "API version has been retired.")


def _check_body(body: object) -> None:
    if not isinstance(body, dict):
        raise _invalid("body", "invalid_type", "Must be an object")
    name = body.get("name", "a name")
    if not isinstance(name, str):
        raise _invalid("name", "invalid_type", "Must be a string")
    if not name:
        raise _invalid("name", "required", "Name is required")
    if len(name) > LONGEST_NAME:
        raise _invalid("name", "too_long", f"Must be at most {LONGEST_NAME} characters")
    subject = _part(_part(body, "content"), "email").get("subject", "a subject")
    if not isinstance(subject, str) or not 1 <= len(subject) <= LONGEST_NAME:
        raise _invalid("content.email.subject", "invalid_length", "Must be 1 to 250 characters")
    segments: list[str] = []
    for ids in _part(body, "audience").values():
        if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
            raise _invalid("audience", "invalid_type", "Must be lists of ids")
        segments += ids
    if len(set(segments)) < len(segments):
        raise _invalid("audience", "invalid_value", "Included and excluded must not overlap")
    if "sendingSettings" in body:
        _check_settings(_part(body, "sendingSettings"))


def _part(body: dict[str, Any], name: str) -> dict[str, Any]:
    part = body.get(name, {})
    if not isinstance(part, dict):
        raise _invalid(name, "invalid_type", "Must be an object")
    return part


def _check_settings(settings: dict[str, Any]) -> None:
    """All of them must be there, because they replace the ones that the campaign has."""
    is_scheduled = settings.get("strategy") == "scheduled"
    if not is_scheduled and settings.get("strategy") != "immediate":
        raise _invalid("sendingSettings.strategy", "invalid_value", "Is not one of the values")
    if not isinstance(settings.get("isTZOptimizationEnabled"), bool):
        raise _invalid("sendingSettings.isTZOptimizationEnabled", "required", "Is required")
    if ("scheduledAt" in settings) != is_scheduled:
        raise _invalid("sendingSettings.scheduledAt", "invalid_value", "Must go with scheduled")
    try:
        at = datetime.fromisoformat(settings.get("scheduledAt", "2000-01-01T00:00:00Z"))
        is_soon = timedelta(0) < at - datetime.now(UTC) < timedelta(days=365)
    except (ValueError, TypeError):
        raise _invalid("sendingSettings.scheduledAt", "invalid_format", "RFC 3339") from None
    if is_scheduled and not is_soon:
        message = "Must be in the future and within one year"
        raise _invalid("sendingSettings.scheduledAt", "invalid_value", message)


def _check_query(request: Request) -> None:
    query = request.query_params
    if unknown := set(query) - PARAMETERS:
        raise _invalid(min(unknown), "unknown", "Is not a parameter")
    limit = query.get("limit", "100")
    if not limit.isdecimal() or not 1 <= int(limit) <= 250:
        raise _invalid("limit", "invalid_value", "Must be between 1 and 250")
    for name, words in WORDS.items():
        if not set(query.getlist(name)) <= words:
            raise _invalid(name, "invalid_value", "Is not one of the values")
    if "direction" in query and "sort" not in query:
        raise _invalid("direction", "invalid_value", "Must go with sort")
    if "after" in query and "before" in query:
        raise _invalid("before", "invalid_value", "Must not go with after")
    if len(query.get("nameContains", "")) > 200:
        raise _invalid("nameContains", "too_long", "Must be at most 200 characters")
    for name in TIMES & set(query):
        try:
            datetime.fromisoformat(query[name])
        except ValueError:
            raise _invalid(name, "invalid_format", "Must be a timestamp") from None


def _select(campaigns: list[dict[str, Any]], criteria: Parameters) -> list[dict[str, Any]]:
    """Return the matching campaigns, sorted by time and, within a second, by creation."""
    values = dict(criteria)
    sort, descending = values.get("sort", "createdAt"), values.get("direction", "desc") == "desc"
    # The sort keeps campaigns of one second in their order.
    ordered = sorted(campaigns, key=lambda campaign: campaign[sort])
    matches = [campaign for campaign in ordered if _matches(campaign, criteria)]
    return matches[::-1] if descending else matches


def _matches(campaign: dict[str, Any], criteria: Parameters) -> bool:
    values = dict(criteria)
    return (
        all(
            campaign[name] in {value for key, value in criteria if key == name}
            for name in ("status", "channel", "type")
            if name in values
        )
        and values.get("nameContains", "").lower() in campaign["name"].lower()
        and "parentCampaignID" not in values
        and all(campaign[name[:9]] >= values[name] for name in values if name.endswith("From"))
        and all(campaign[name[:9]] <= values[name] for name in values if name.endswith("To"))
    )


def _refusal(source: str) -> emulation.Refusal:
    if source == "invalid":
        return _invalid("id", "invalid_format", "Must be a 24 character hexadecimal string")
    status, kind, title, detail = REFUSALS[source]
    seconds = {"retryAfter": emulation.LIMIT_SECONDS} if status == 429 else {}
    return _problem(status, kind, title, detail, **seconds)


def _invalid(field_name: str, code: str, message: str) -> emulation.Refusal:
    status, kind, title, detail = REFUSALS["invalid"]
    error = {"field": field_name, "code": code, "message": message}
    return _problem(status, kind, title, detail, errors=[error])


def _problem(
    status: int, kind: str, title: str, detail: str | None, **more: object
) -> emulation.Refusal:
    problem: dict[str, Any] = {
        "type": f"https://problems.omnisend.com/{kind}",
        "title": title,
        "status": status,
    }
    if detail is not None:
        problem |= {"detail": detail, "instance": f"urn:omnisend:request:{uuid.uuid4()}"}
    return emulation.Refusal(JSONResponse({**problem, **more}, status))


def create_emulator() -> Starlette:
    omnisend = Omnisend()
    campaigns = "/api/campaigns"
    campaign = f"{campaigns}/{{id}}"
    return emulation.create_app(
        omnisend.copies,
        Route(campaigns, omnisend.list_campaigns, methods=["GET"]),
        Route(campaign, omnisend.show, methods=["GET"]),
        Route(campaign, omnisend.update, methods=["PATCH"]),
        Route(f"{campaign}/copy", omnisend.copy_campaign, methods=["POST"]),
    )
