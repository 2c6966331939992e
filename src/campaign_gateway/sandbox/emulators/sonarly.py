"""A strict stand-in for Sonarly's REST API.

Source: app.sonarly.io/docs (getting-started, campaigns-duplicate, campaigns-list, campaigns-get;
read 2026-11). Invented, because no document says it: every error code but VALIDATION_ERROR and
AUDIENCE_NOT_READY; the Retry-After of a 429; the name of an unnamed copy; that unknown fields and
an empty leadIds are rejected; the null times of a draft.
"""

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from campaign_gateway.sandbox.emulation import FAULTS, Copies, emulator, misbehave

API_KEY = "sk_live_sandbox_5b2e8d41c7"
ACCOUNTS = {"sonarly": {"api_key": API_KEY}}

GROUP = "507f1f77bcf86cd799439001"
SOURCES = {"507f1f77bcf86cd799439011": "Outreach"}
AUDIENCES = {"507f1f77bcf86cd799439021": {"507f1f77bcf86cd799439031", "507f1f77bcf86cd799439032"}}

# Each gets this response: status, code, message.
REFUSALS = {
    "not-found": (404, "NOT_FOUND", "Campaign not found"),
    "invalid": (400, "VALIDATION_ERROR", "Request validation failed"),
    "unauthorized": (401, "UNAUTHORIZED", "Invalid or missing API key"),
    "forbidden": (403, "FORBIDDEN", "Missing required permission campaigns:write"),
    "conflict": (409, "CONFLICT", "The campaign has an active workflow"),
    "audience-not-ready": (409, "AUDIENCE_NOT_READY", "The audience is still being filled"),
    "unprocessable": (422, "VALIDATION_ERROR", "The campaign cannot be duplicated"),
    "rate-limited": (429, "RATE_LIMITED", "Rate limit exceeded"),
    "error-500": (500, "INTERNAL_ERROR", "Internal server error"),
    "error-502": (502, "UPSTREAM_ERROR", "Upstream service error"),
}
OUTCOMES: dict[Any, str] = {
    **dict.fromkeys(SOURCES, "copied"),
    **{name: f"{status}, {message.lower()}" for name, (status, _, message) in REFUSALS.items()},
    **FAULTS,
}


@dataclass
class Sonarly:
    copies: Copies = field(default_factory=Copies)
    campaigns: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for source, name in SOURCES.items():
            self._add(source, name, 2)

    async def duplicate(self, request: Request) -> Response:
        self.copies.asked += 1
        if refusal := _refuse_caller(request):
            return refusal
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            return _error(400, "VALIDATION_ERROR", "Content-Type must be application/json")
        try:
            body = await request.json()
        except ValueError:
            return _error(400, "VALIDATION_ERROR", "The request body is not JSON")
        if mistake := _mistake_in(body):
            return _error(400, "VALIDATION_ERROR", mistake)
        campaign_id = request.path_params["campaign_id"]
        if campaign_id in REFUSALS:
            return _error(*REFUSALS[campaign_id])
        if campaign_id not in OUTCOMES:
            return _error(404, "NOT_FOUND", "Campaign not found")
        if body["audienceId"] not in AUDIENCES:
            return _error(404, "NOT_FOUND", "Audience not found")
        leads = set(body.get("leadIds", AUDIENCES[body["audienceId"]]))
        if not leads <= AUDIENCES[body["audienceId"]]:
            return _error(400, "VALIDATION_ERROR", "A lead does not belong to the audience")

        async def copy() -> Response:
            name = body.get("name", f"Copy of {SOURCES.get(campaign_id, campaign_id)}")
            made = self._add(secrets.token_hex(12), name, len(leads))
            self.copies.add(campaign_id, made["id"], name)
            return _success(201, made)

        return await misbehave(campaign_id, request, copy)

    async def list_campaigns(self, request: Request) -> Response:
        return _refuse_caller(request) or _success(200, {"items": self.campaigns})

    async def show_campaign(self, request: Request) -> Response:
        if refusal := _refuse_caller(request):
            return refusal
        for each in self.campaigns:
            if each["id"] == request.path_params["campaign_id"]:
                return _success(200, each)
        return _error(404, "NOT_FOUND", "Campaign not found")

    def _add(self, campaign_id: str, name: str, lead_count: int) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        campaign = {
            "id": campaign_id,
            "name": name,
            "description": "",
            "status": "draft",
            "selectedLeadCount": lead_count,
            "includeConversationHistory": True,
            "autoCancelOnMessageReceived": True,
            "outreachLanguage": "en",
            "createdAt": now,
            "updatedAt": now,
            "startedAt": None,
            "rateLimitedUntil": None,
        }
        self.campaigns.append(campaign)
        return campaign


def _refuse_caller(request: Request) -> Response | None:
    if request.headers.get("authorization") != f"Bearer {API_KEY}":
        return _error(401, "UNAUTHORIZED", "Invalid or missing API key")
    if request.path_params["group_id"] != GROUP:
        return _error(404, "NOT_FOUND", "Account group not found")
    return None


def _mistake_in(body: object) -> str | None:
    if not isinstance(body, dict):
        return "The request body must be an object"
    if unknown := set(body) - {"name", "audienceId", "leadIds"}:
        return f"{min(unknown)} is not a field"
    if not isinstance(body.get("audienceId"), str):
        return "audienceId is required"
    if not isinstance(body.get("name", ""), str):
        return "name must be a string"
    leads = body.get("leadIds", ["none given"])
    if not isinstance(leads, list) or not leads or not all(isinstance(lead, str) for lead in leads):
        return "leadIds must be an array of strings"
    return None


def _success(status: int, data: dict[str, Any]) -> Response:
    return JSONResponse(
        {"success": True, "data": data, "error": None, "traceId": secrets.token_hex(12)}, status
    )


def _error(status: int, code: str, message: str) -> Response:
    error = {"code": code, "message": message, "details": None}
    return JSONResponse(
        {"success": False, "data": None, "error": error, "traceId": secrets.token_hex(12)},
        status,
        {"Retry-After": "30"} if status == 429 else None,
    )


def create_emulator() -> Starlette:
    sonarly = Sonarly()
    campaigns = "/v1/accounts/{group_id}/campaigns"
    return emulator(
        sonarly.copies,
        Route(campaigns, sonarly.list_campaigns, methods=["GET"]),
        Route(f"{campaigns}/{{campaign_id}}", sonarly.show_campaign, methods=["GET"]),
        Route(f"{campaigns}/{{campaign_id}}/duplicate", sonarly.duplicate, methods=["POST"]),
    )
